"""One controller: a whole `snakemake --executor takeda`, started, watched and ended from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.moments import LOOK_SECONDS, Moment, Watch
from tests.chaos.pipelines import BINARIES, BUCKET, Pipeline

UNLOCK_SECONDS = 120.0


class Controller:
    """In a session of its own, so that its process group is all that a reboot would take with it."""

    def __init__(self, pipeline: Pipeline, folder: Path, prefix: str, log: Path) -> None:
        self._command = [
            *(sys.executable, "-m", "snakemake", "--profile", pipeline.profile),
            *("--snakefile", pipeline.snakefile),
            *("--default-storage-prefix", f"s3://{BUCKET}/{prefix}"),
        ]
        self._folder = folder
        self._environment = {
            **os.environ,
            "PATH": f"{BINARIES}:{os.environ['PATH']}",
            # The working directory is no place for a module of the same name.
            "PYTHONSAFEPATH": "1",
        }
        self.log = log
        self.watch = Watch(folder)
        if any((folder / ".snakemake/locks").glob("*")):
            self._unlock()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*self._command, "--rerun-incomplete"],
                cwd=folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._began = time.monotonic()

    def _unlock(self) -> None:
        """What Snakemake tells a user to do after a kill. Raises CalledProcessError."""
        with self.log.open("ab") as output:
            subprocess.run(
                [*self._command, "--unlock"],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=UNLOCK_SECONDS,
                check=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def status(self) -> int | None:
        """Its exit status, None while it runs."""
        return self._process.poll()

    def wait_for(
        self, moment: Moment, patience_seconds: float, meanwhile: Callable[[], None] = lambda: None
    ) -> bool:
        """Return at the moment; False where the controller had ended before. Where the moment does not
        come, returns after the patience. `meanwhile` is called again and again."""
        deadline = self._began + patience_seconds
        while moment.what != "began" and self.watch.count(moment.what) < moment.nth:
            if self.status() is not None:
                return False
            if time.monotonic() > deadline:
                return True
            meanwhile()
            time.sleep(LOOK_SECONDS)
        at = (self._began if moment.what == "began" else time.monotonic()) + moment.delay_seconds
        while (left := at - time.monotonic()) > 0:
            if self.status() is not None:
                return False
            meanwhile()
            time.sleep(min(left, LOOK_SECONDS))
        return self.status() is None

    def kill(self, *, whole_group: bool) -> None:
        """SIGKILL, to it alone or to all that it started."""
        if whole_group:
            for pid in [*_descendants(self.pid), self.pid]:
                _signal(pid, signal.SIGKILL)
            os.killpg(self.pid, signal.SIGKILL)
        else:
            self._process.kill()
        self._process.wait()
        self.watch.close()

    def interrupt(self) -> None:
        """Ctrl-C: a terminal sends it to the whole group."""
        os.killpg(self.pid, signal.SIGINT)

    def wait(self, seconds: float) -> int | None:
        """The exit status, None where it still runs then."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> None:
        """Leave nothing behind."""
        if self.status() is None:
            self.kill(whole_group=True)
        self.watch.close()

    def last_words(self, lines: int = 25) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def _descendants(pid: int) -> list[int]:
    """Children and theirs, also such as have a session of their own."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):  # ended meanwhile
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, pending = [], [pid]
    while pending:
        pending += children.get(pending.pop(), [])
        found = [*found, *(child for child in pending if child not in found)]
    return found


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
