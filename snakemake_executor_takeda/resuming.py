"""What an earlier controller of a run has left: which jobs are on their way, and how far. It
reads files of the working directory, and asks no service.

One directory has one controller at a time. A run that did not end is gone on with under its own id."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from snakemake_executor_takeda.ledger import Ended, KnownRun, last_run
from snakemake_executor_takeda.retrying import History
from snakemake_executor_takeda.values import Accepted, Outcome, Remembered, TakedaError, Task

CLOCKS_APART_SECONDS = 5.0
"""A file that is younger than the submission that reads it, by more than this, has changed since."""


@dataclass
class Adopted:
    """One task of an earlier controller that had not ended when that one did."""

    task: Task
    remembered: Remembered
    accepted: Accepted | None = None
    """Known from the moment on at which its backend watches it again."""
    outcome: Outcome | None = None
    """How it ended before its job was handed over."""
    is_absent: bool = False
    """It never reached the service."""
    key: int | None = None
    """The job that it was found to be."""

    @property
    def submission_id(self) -> str:
        return self.remembered.submission.submission_id


@dataclass
class Memory:
    """By the identity of a job. The caller sees to it that one thread at a time is in here."""

    remembered: Sequence[Remembered] = ()
    ended_well: Mapping[str, Ended] = field(default_factory=dict)
    histories: dict[str, History] = field(default_factory=dict)
    _by_identity: dict[str, Adopted] = field(default_factory=dict)
    _by_task: dict[str, Adopted] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for one in self.remembered:
            for task in one.submission.tasks:
                if task.task_id in one.open_task_ids:
                    adopted = Adopted(task, one)
                    self._by_task[task.task_id] = adopted
                    self._by_identity[task.job.identity] = adopted

    def find(self, identity: str) -> Adopted | None:
        """The task that does the work of this job, if no job has it yet."""
        return self._by_identity.get(identity)

    def claim(self, adopted: Adopted, key: int) -> None:
        """It is this job's own from now on."""
        self._by_identity.pop(adopted.task.job.identity, None)
        adopted.key = key

    def tasks(self, task_ids: Iterable[str]) -> list[Adopted]:
        """Those of them that are remembered."""
        return [self._by_task[one] for one in task_ids if one in self._by_task]

    def unclaimed(self) -> list[Adopted]:
        """Tasks that no job was found for, and that have not ended."""
        return [
            one for one in self._by_identity.values() if one.outcome is None and not one.is_absent
        ]

    def decided_unclaimed(self) -> list[Adopted]:
        """Tasks that no job was found for, and of which it is known how they ended."""
        return [
            one for one in self._by_identity.values() if one.outcome is not None or one.is_absent
        ]

    def set_aside(self, adopted: Adopted) -> None:
        """It does nobody's work any more."""
        self._by_identity.pop(adopted.task.job.identity, None)
        adopted.is_absent = True


class ControllerLock:
    """Held by the one controller of a directory as long as it lives, however it ends.

    Raises TakedaError where another one holds it."""

    def __init__(self, path: Path, run_id: str) -> None:
        self._file: IO[str] = path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            said = self._file.read()
            self._file.close()
            raise TakedaError(_taken(path, said)) from None
        except OSError:
            # A file system without locks: Snakemake's own lock is what there is.
            return
        facts = {"host": socket.gethostname(), "pid": os.getpid(), "run_id": run_id}
        self._file.truncate(0)
        self._file.write(json.dumps({**facts, "since": time.time()}))
        self._file.flush()

    def release(self) -> None:
        self._file.close()


def unfinished_run(ledger: Path, workdir: Path) -> KnownRun | None:
    """The run that the next controller of this directory goes on with, if there is one. Raises TakedaError
    where it may not."""
    known = last_run(ledger)
    if known is None:
        check_nothing_is_lost(ledger)
    if known is None or not known.is_unfinished:
        return None
    check_is_free(known, workdir)
    return known


def check_nothing_is_lost(ledger: Path) -> None:
    """Raises TakedaError where there is no ledger, but the event log tells of a run without an end."""
    events = ledger.with_name("events.jsonl")
    if ledger.exists() or not events.is_file():
        return
    run_id, last = None, ""
    with events.open("rb") as lines:
        for line in lines:
            # Two of a run; the others need not be read as JSON.
            if b'"event": "run' not in line:
                continue
            with suppress(ValueError, KeyError, TypeError):
                event = json.loads(line)
                run_id = event["run_id"]
                last = "began" if event["event"] == "run" else str(event["detail"]["status"])
    if run_id is None or last in ("ended", "cancelled", ""):
        return
    raise TakedaError(
        f"the ledger {ledger} is gone, and run {run_id}, of which {events} tells, did not end: its jobs may "
        "still run, and would run twice. Put the ledger back (with the files whose names begin with "
        f"{ledger.name}-); or look in the services for jobs whose names begin with `takeda-`, end them, and "
        f"move {ledger.parent} away to start anew"
    )


def check_is_free(known: KnownRun, workdir: Path) -> None:
    """Raises TakedaError where a copy of the run's directory, or another directory, may not go on with
    it."""
    if Path(known.workdir) == workdir:
        return  # the lock tells whether somebody is at it
    if known.is_controlled:
        raise TakedaError(
            f"run {known.run_id}, of which {workdir} has a copy, is still controlled by process "
            f"{known.pid} on {known.host} in {known.workdir}: end that one first"
        )
    if known.remote_prefix is None and not Path(known.workdir).is_dir():
        raise TakedaError(
            f"jobs of run {known.run_id} write into {known.workdir}, which is not there, and nothing of the "
            f"run is in S3: if {workdir} is that directory, move it back; or end the jobs with `takeda "
            "cancel`"
        )
    if known.remote_prefix is None:
        raise TakedaError(
            f"jobs of run {known.run_id} write into {known.workdir}, of which {workdir} is a copy, and "
            f"nothing of the run is in S3: go on in {known.workdir}, or end the jobs there with "
            "`takeda cancel`, and start anew here without .snakemake/takeda"
        )


def is_before(seconds: float, newest_input: float | None) -> bool:
    """Whether all inputs are as old as a submission of that moment; both in Unix time. None: unknown."""
    return newest_input is None or newest_input <= seconds + CLOCKS_APART_SECONDS


def ago(since: float) -> str:
    """A time span up to now, from Unix time, for a message."""
    minutes = max(0.0, time.time() - since) / 60
    if minutes < 2:
        return f"{minutes * 60:.0f} s"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"


def _taken(path: Path, said: str) -> str:
    who = "another process"
    with suppress(ValueError, KeyError, TypeError):
        facts = json.loads(said)
        who = f"process {facts['pid']} on {facts['host']} (run {facts['run_id']}, since {ago(facts['since'])})"
    return (
        f"{who} runs a pipeline in this directory, and one ledger has one controller "
        f"({path}): wait for it, end it with Ctrl-C, or use another directory"
    )
