"""A cluster of a test's own whose controller can be stopped, and a lane that runs tasks on it."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

from slurm_builders import context, submission

from snakemake_executor_takeda.backends.slurm import backend as factory
from snakemake_executor_takeda.sandbox import slurm, slurm_services
from snakemake_executor_takeda.sandbox.slurm_processes import members, wait_until
from snakemake_executor_takeda.watching import Lane

PATIENCE_SECONDS = 120.0
_numbers = itertools.count(1)
"""Of submissions: jobs are found again by their name, which no two may have."""


class Controller:
    """slurmctld of a sandboxed Slurm: its process and its configuration."""

    def __init__(self, state_dir):
        self.home = state_dir.resolve() / "slurm"
        self._programs = slurm._programs(self.home)

    def freeze(self):
        self._signal(signal.SIGSTOP)

    def thaw(self):
        self._signal(signal.SIGCONT)

    def stop(self):
        """It saves its state, as in a planned restart."""
        self._signal(signal.SIGTERM)
        assert wait_until(lambda: not self._pids(), 30), "slurmctld does not end"

    def crash(self):
        """It saves nothing: what it did in its last seconds is forgotten."""
        self._signal(signal.SIGKILL)
        assert wait_until(lambda: not self._pids(), 30), "slurmctld does not end"

    def start(self):
        self._programs.run("slurmctld")
        assert wait_until(self.answers, 30), "slurmctld does not start"

    def answers(self):
        return subprocess.run(["squeue", "-h"], check=False, capture_output=True).returncode == 0

    def configure(self, **settings):
        """Other settings, from the next start on."""
        conf = self.home / "slurm.conf"
        text = conf.read_text()
        for name, value in settings.items():
            text = re.sub(rf"^{name}=.*\n", "", text, flags=re.MULTILINE)
            text = f"{name}={value}\n{text}"
        conf.write_text(text)

    def kill_database(self):
        self._signal(signal.SIGKILL, "slurmdbd")
        assert wait_until(lambda: not self._pids("slurmdbd"), 30), "slurmdbd does not end"

    def start_database(self):
        run_dir = json.loads((self.home / "record.json").read_text())["run_dir"]
        slurm_services.start_slurmdbd(self._programs, self.home, Path(run_dir) / "mariadb.sock")

        def answers():
            words = ["sacctmgr", "--noheader", "show", "cluster"]
            return subprocess.run(words, check=False, capture_output=True).returncode == 0

        assert wait_until(answers, 30, every=0.5), "slurmdbd does not start"

    def _signal(self, number, name="slurmctld"):
        for pid in self._pids(name):
            os.kill(pid, number)

    def _pids(self, name="slurmctld"):
        return [process.pid for process in members(self.home) if process.name == name]


class Listener:
    """Whom the lane tells: outcomes and notes, and how many jobs were accepted."""

    def __init__(self):
        self.outcomes, self.notes, self.accepted_ids = {}, [], []
        self.ends = Counter()
        self._changed = threading.Condition()

    def intended(self, one):
        pass

    def accepted(self, one, accepted):
        self.accepted_ids.append(accepted.external_id)

    def refused(self, one, outcome):
        self._end({task.task_id: outcome for task in one.tasks})

    def started(self, update):
        pass

    def waits(self, update):
        self.notes.append(update.note)

    def ended(self, updates):
        self._end({update.task_id: update.outcome for update in updates})

    def trouble(self, message):
        self.notes.append(f"trouble: {message}")

    def _end(self, outcomes):
        with self._changed:
            self.outcomes |= outcomes
            self.ends.update(outcomes.keys())
            self._changed.notify_all()

    def wait_for(self, count):
        with self._changed:
            done = self._changed.wait_for(lambda: len(self.ends) >= count, PATIENCE_SECONDS)
            assert done, f"{len(self.ends)} of {count} ended; notes: {self.notes}"


class Bench:
    """Tasks that write down each of their runs, through a lane of the Slurm backend."""

    def __init__(self, folder, *targets):
        self.folder, self.targets = folder, targets
        self.backend = factory(targets, context(folder))
        self.backend.check()
        self.listener = Listener()
        self.lane = Lane("slurm", self.backend, self.listener, longest_pause_seconds=1.0)
        self.lane.start()

    def send(self, tasks, seconds=0.1, then=":"):
        """An array of so many tasks."""
        number = next(_numbers)
        argvs = [
            (
                "sh",
                "-c",
                f"echo run >> '{self.folder}/ran.{number}.{index}'; sleep {seconds}; {then}",
            )
            for index in range(tasks)
        ]
        self.lane.submit(submission(argvs, number=number, on=self.targets[0]))

    def runs(self):
        """How often each task ran, by file name."""
        return {path.name: len(path.read_text().split()) for path in self.folder.glob("ran.*")}

    def close(self):
        self.lane.stop(cancelling=True)
        self.lane.join(60)
        self.backend.cancel([])
        self.backend.close()


def queued_names():
    words = ["squeue", "--noheader", "--me", "--states=all", "--format=%j"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return Counter(done.stdout.split())


def outage(bench, controller, down, up, seconds):
    """Send, take the controller away, send more, let time pass, give it back, and send again.

    Returns when all tasks have ended.
    """
    bench.send(4, seconds=2)
    assert wait_until(lambda: len(bench.runs()) == 4, PATIENCE_SECONDS), "the first tasks"
    down()
    for _ in range(5):
        bench.send(2)
    until = time.monotonic() + seconds
    assert wait_until(lambda: time.monotonic() >= until, seconds + 1, every=0.2)
    failed = [one for one in bench.listener.outcomes.values() if not one.succeeded]
    assert failed == [], failed
    up()
    bench.send(3)
    bench.listener.wait_for(4 + 10 + 3)
