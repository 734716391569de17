"""Backend `local`: tasks as processes beside the controller, as many at once as there are CPUs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict, Field

from snakemake_executor_takeda.backends.base import RunContext
from snakemake_executor_takeda.full_disks import is_full, no_space
from snakemake_executor_takeda.processes import Start, claim, start_of
from snakemake_executor_takeda.values import (
    Accepted,
    Active,
    FailureKind,
    JobSpec,
    Outcome,
    Remembered,
    Shape,
    Submission,
    TakedaError,
    Target,
    Task,
    Update,
)
from snakemake_executor_takeda.worker.exits import ALREADY_STARTED, DISK_FULL
from snakemake_executor_takeda.worker.manifest import encode_manifest
from snakemake_executor_takeda.worker.objects import write

LOG_TAIL_LINES = 30
GRACE_SECONDS = 5.0
LOOK_SECONDS = 0.05


class LocalOptions(BaseModel):
    """The words of a `local` target."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpus: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    """CPUs that its tasks may use at once."""


@dataclass
class _Running:
    task: Task
    child: subprocess.Popen[bytes] | None
    """None where an earlier controller has started it."""
    started: float
    """By the monotonic clock."""
    announced: bool = True


class LocalBackend:
    """Starts waiting tasks when polled; a task wider than the target runs alone.

    In the run's state folder each task's process says that it has begun, and how it ended: processes
    go on without their controller, and the next one must not start them again."""

    finds_its_runs = False
    outlives_controller = True

    def __init__(self, targets: Sequence[Target], context: RunContext) -> None:
        self._context = context
        self._starts = context.state_dir / "starts"
        self._exits = context.state_dir / "exits"
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Submission, int]] = deque()
        self._running: dict[str, _Running] = {}
        self._cancelled = False
        self._told: set[str] = set()

    def check(self) -> None:
        for name in ("manifests", "logs", "starts", "exits"):
            (self._context.state_dir / name).mkdir(exist_ok=True)

    def check_job(self, job: JobSpec, target: Target) -> None:
        """Any job will do."""

    def array_limit(self, target: Target, shape: Shape) -> int:
        return 10_000

    def listen(self, wake: Callable[[], None]) -> None:
        """Processes are looked at."""

    def submit(self, submission: Submission) -> Accepted:
        write(str(self._manifest(submission)), encode_manifest(submission, self._context))
        with self._lock:
            self._waiting.extend((submission, index) for index in range(len(submission.tasks)))
        return _accepted(submission)

    def reattach(self, remembered: Remembered) -> Accepted | None:
        """None where its manifest was never written: nothing is started without."""
        submission = remembered.submission
        if not self._manifest(submission).exists():
            return None
        with self._lock:
            for index, task in enumerate(submission.tasks):
                if task.task_id not in remembered.open_task_ids:
                    continue
                if start_of(self._starts, task.task_id):
                    self._running[task.task_id] = _Running(
                        task, None, time.monotonic(), announced=False
                    )
                else:
                    self._waiting.append((submission, index))
        return _accepted(submission)

    def poll(self, active: Sequence[Active]) -> Iterable[Update]:
        with self._lock:
            updates = [self._look_at(running) for running in list(self._running.values())]
            if not self._cancelled:
                updates += self._start_what_fits()
        yield from (update for update in updates if update)

    def end(self, active: Active) -> None:
        """Raises TakedaError where processes are another machine's."""
        with self._lock:
            self._waiting = deque(item for item in self._waiting if item[0] != active.submission)
            self._end_all([active])
            for task_id in active.open_task_ids:
                self._running.pop(task_id, None)

    def cancel(self, active: Sequence[Active]) -> None:
        """Raises TakedaError where processes are another machine's."""
        with self._lock:
            self._cancelled = True
            self._waiting.clear()
            self._end_all(active)

    def close(self) -> None:
        """Nothing is held open."""

    def _manifest(self, submission: Submission) -> Path:
        return self._context.state_dir / "manifests" / submission.submission_id

    def _start_what_fits(self) -> Iterable[Update]:
        while self._waiting:
            submission, index = self._waiting[0]
            task = submission.tasks[index]
            target = task.target
            busy = sum(
                _cpus(one.task)
                for one in self._running.values()
                if one.task.target.name == target.name
            )
            if busy and busy + _cpus(task) > target.options.cpus:
                return
            self._waiting.popleft()
            try:
                self._start(submission, index)
            except OSError as error:
                reason = f"its process could not be started: {error}"
                kind = FailureKind.LOST if is_full(error) else FailureKind.NODE_FAILURE
                yield Update(task.task_id, Outcome(kind, reason=reason))
            else:
                yield Update(task.task_id)

    def _start(self, submission: Submission, index: int) -> None:
        task = submission.tasks[index]
        worker = ["-P", "-m", "snakemake_executor_takeda.worker"]
        place = ["--manifest", str(self._manifest(submission)), "--index", str(index)]
        place += ["--starts", str(self._starts), "--exit-records", str(self._exits)]
        # A worker that comes second, of a controller that was killed, must not empty the first one's log.
        with self._log(task).open("ab") as output:
            process = _start_group([sys.executable, *worker, *place], output)
        self._running[task.task_id] = _Running(task, process, time.monotonic())

    def _look_at(self, one: _Running) -> Update | None:
        task_id = one.task.task_id
        if one.child is None:
            outcome = self._outcome_of_record(one)
        else:
            code = one.child.poll()
            if code == ALREADY_STARTED:
                one.child = None
                return None
            if code is not None and code < 0:
                # What the worker has started may have outlived it.
                _signal(one.child.pid, signal.SIGKILL)
            outcome = None if code is None else self._outcome(one, code, _since(one.started))
        if outcome is not None:
            del self._running[task_id]
            return Update(task_id, outcome)
        if one.announced:
            return None
        one.announced = True
        return Update(task_id)

    def _outcome_of_record(self, one: _Running) -> Outcome | None:
        """Of a task that an earlier controller has started."""
        task_id = one.task.task_id
        start = start_of(self._starts, task_id)
        is_over = start is None or (start.is_here and not start.is_running)
        # It is there before its process is gone.
        try:
            record = json.loads((self._exits / f"{task_id}.json").read_bytes())
        except FileNotFoundError:
            if is_over:
                reason = (
                    "its process is gone without a word on its end: it was killed, or the machine "
                    "was restarted"
                )
                return Outcome(
                    FailureKind.NODE_FAILURE, reason, log_location=str(self._log(one.task))
                )
            if start and not start.is_here:
                self._tell_of_elsewhere(start.host)
            return None
        return self._outcome(one, record["exit_code"], record["ended"] - record["started"])

    def _outcome(self, one: _Running, code: int, wall_seconds: float) -> Outcome:
        if code == 0:
            return Outcome(exit_code=0, wall_seconds=wall_seconds)
        log = self._log(one.task)
        try:
            lines = log.read_text(errors="replace").splitlines()
        except OSError as error:
            lines = [f"(its log cannot be read: {error})"]
        is_full = code == DISK_FULL
        return Outcome(
            FailureKind.LOST if is_full else FailureKind.USER,
            reason=no_space(
                str(self._context.state_dir), "it could not be written down how it ended"
            )
            if is_full
            else "the command failed",
            exit_code=code if code > 0 else 128 - code,
            log_tail=tuple(lines[-LOG_TAIL_LINES:]),
            log_location=str(log),
            wall_seconds=wall_seconds,
        )

    def _log(self, task: Task) -> Path:
        return self._context.state_dir / "logs" / f"{task.task_id}.log"

    def _tell_of_elsewhere(self, host: str) -> None:
        if host not in self._told:
            self._told.add(host)
            self._context.say(
                f"processes of this run were started on {host}, which cannot be looked into from here: "
                "they are waited for until they say that they ended. If that machine is gone, end them "
                "with Ctrl-C here, and start again"
            )

    def _end_all(self, active: Sequence[Active]) -> None:
        """End the processes of open tasks, whoever has started them; what has not begun never will."""
        task_ids = [task_id for one in active for task_id in one.open_task_ids]
        running = (self._running.get(task_id) for task_id in task_ids)
        _end_children([one.child for one in running if one and one.child])
        others: list[Start] = []
        elsewhere: list[str] = []
        for task_id in task_ids:
            start = None
            if not claim(self._starts, task_id, for_nobody=True):
                start = start_of(self._starts, task_id)
            if start and start.is_running:
                others.append(start)
            elif start and not start.is_here and not (self._exits / f"{task_id}.json").exists():
                elsewhere.append(f"{start.pid} on {start.host}")
        _end_others(others)
        if elsewhere:
            raise TakedaError(
                "these processes of local jobs cannot be ended from here, and may still run: "
                f"{', '.join(elsewhere)}"
            )


def _end_children(children: Sequence[subprocess.Popen[bytes]]) -> None:
    for child in children:
        _signal(child.pid, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    for child in children:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(max(0.0, deadline - time.monotonic()))
        _signal(child.pid, signal.SIGKILL)
        child.wait()


def _end_others(starts: Sequence[Start]) -> None:
    """Processes that this one has not started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for start in starts:
            if start.is_running:
                _signal(start.pid, number)
        deadline = time.monotonic() + GRACE_SECONDS
        while any(one.is_running for one in starts) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)


def _accepted(submission: Submission) -> Accepted:
    ids = {
        task.task_id: f"{submission.submission_id}:{index}"
        for index, task in enumerate(submission.tasks)
    }
    return Accepted(submission.submission_id, ids)


def _since(moment: float) -> float:
    return time.monotonic() - moment


def _cpus(task: Task) -> int:
    return task.job.shape.cpus * task.job.shape.tasks


def _start_group(command: list[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


class LocalFactory:
    """What the entry point names."""

    options_model = LocalOptions
    shape_key_resources: frozenset[str] = frozenset()

    def __call__(self, targets: Sequence[Target], context: RunContext) -> LocalBackend:
        return LocalBackend(targets, context)


backend = LocalFactory()
