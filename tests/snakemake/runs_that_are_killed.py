"""A run of `snakemake --executor takeda` that a test kills, and what its ledger and its jobs tell."""

import os
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import ClassVar

ONCE = "echo {wildcards.n} >> begun; while [ ! -e go ]; do sleep 0.05; done; "
"""The beginning of a rule's command: writes down that it runs, and waits until it may go on."""
SNAKEFILE = f"""
rule all:
    input: expand("{{n}}.out", n=range(3))
rule work:
    output: "{{n}}.out"
    shell: "{ONCE}echo {{wildcards.n}} > {{output}}"
"""


def wait_until(condition, what):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.05)


def lines(file):
    return sorted(file.read_text().split()) if file.exists() else []


class KilledRun:
    """A controller in a process group of its own."""

    started: ClassVar[list] = []

    def __init__(self, project, *flags, log="log"):
        self.project = project
        self.log = project.path / log
        with self.log.open("w") as file:
            self.process = subprocess.Popen(
                project.command(*flags),
                cwd=project.path,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self.started.append(self.process)

    def kill_when(self, condition, what):
        """`kill -9` at that moment."""
        try:
            wait_until(lambda: condition() or self.process.poll() is not None, what)
            assert self.process.poll() is None, self.log.read_text()
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def ends_well(self):
        code = self.process.wait(120)
        assert code == 0, self.log.read_text()
        return self.log.read_text()


def end_controllers():
    """Those that a failed test has left."""
    while KilledRun.started:
        process = KilledRun.started.pop()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def again(project, *flags):
    """The same command, once more."""
    subprocess.run(project.command("--unlock"), cwd=project.path, check=True, capture_output=True)
    return KilledRun(project, "--rerun-incomplete", *flags, log="log2")


def tasks(project, columns="task.state"):
    """Rows of the ledger, one a task, as they are while a controller may be writing."""
    path: Path = project.path / ".snakemake/takeda/ledger.sqlite"
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as db:
        try:
            return db.execute(
                f"select {columns} from task join submission using (submission_id) order by task.rowid"
            ).fetchall()
        except sqlite3.OperationalError:  # not there yet
            return []
