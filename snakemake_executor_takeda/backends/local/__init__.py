"""Backend `local`: tasks as processes beside the controller, as many at once as there are CPUs."""

from __future__ import annotations

import contextlib
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
from snakemake_executor_takeda.values import (
    Accepted,
    Active,
    FailureKind,
    JobSpec,
    Outcome,
    Remembered,
    Shape,
    Submission,
    Target,
    Task,
    Update,
)
from snakemake_executor_takeda.worker.manifest import encode_manifest

LOG_TAIL_LINES = 30
GRACE_SECONDS = 5.0


class LocalOptions(BaseModel):
    """The words of a `local` target."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpus: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    """CPUs that its tasks may use at once."""


@dataclass
class _Running:
    task: Task
    process: subprocess.Popen[bytes]
    log: Path
    started: float


class LocalBackend:
    """Starts waiting tasks when polled; a task wider than the target runs alone."""

    finds_its_runs = False
    outlives_controller = False

    def __init__(self, targets: Sequence[Target], context: RunContext) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Submission, int]] = deque()
        self._running: dict[str, _Running] = {}
        self._cancelled = False

    def check(self) -> None:
        for name in ("manifests", "logs"):
            (self._context.state_dir / name).mkdir(exist_ok=True)

    def check_job(self, job: JobSpec, target: Target) -> None:
        """Any job will do."""

    def array_limit(self, target: Target, shape: Shape) -> int:
        return 10_000

    def listen(self, wake: Callable[[], None]) -> None:
        """Processes are looked at."""

    def submit(self, submission: Submission) -> Accepted:
        manifest = self._manifest(submission)
        manifest.write_bytes(encode_manifest(submission, self._context))
        with self._lock:
            self._waiting.extend((submission, index) for index in range(len(submission.tasks)))
        ids = {
            task.task_id: f"{submission.submission_id}:{index}"
            for index, task in enumerate(submission.tasks)
        }
        return Accepted(submission.submission_id, ids)

    def reattach(self, remembered: Remembered) -> Accepted | None:
        """Processes end with the controller that started them."""
        return None

    def poll(self, active: Sequence[Active]) -> Iterable[Update]:
        with self._lock:
            updates = [self._end(running) for running in list(self._running.values())]
            if not self._cancelled:
                updates += self._start_what_fits()
        yield from (update for update in updates if update)

    def end(self, active: Active) -> None:
        with self._lock:
            self._waiting = deque(item for item in self._waiting if item[0] != active.submission)
            running = [
                self._running.pop(one) for one in active.open_task_ids & self._running.keys()
            ]
        _end_all(running)

    def cancel(self, active: Sequence[Active]) -> None:
        with self._lock:
            self._cancelled = True
            self._waiting.clear()
            running = list(self._running.values())
        _end_all(running)

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
                yield Update(task.task_id, Outcome(FailureKind.NODE_FAILURE, reason=reason))
            else:
                yield Update(task.task_id)

    def _start(self, submission: Submission, index: int) -> None:
        task = submission.tasks[index]
        log = self._context.state_dir / "logs" / f"{task.task_id}.log"
        worker = ["-P", "-m", "snakemake_executor_takeda.worker"]
        place = ["--manifest", str(self._manifest(submission)), "--index", str(index)]
        with log.open("wb") as output:
            process = _start_group([sys.executable, *worker, *place], output)
        self._running[task.task_id] = _Running(task, process, log, time.monotonic())

    def _end(self, one: _Running) -> Update | None:
        code = one.process.poll()
        if code is None:
            return None
        del self._running[one.task.task_id]
        wall = time.monotonic() - one.started
        if code == 0:
            return Update(one.task.task_id, Outcome(exit_code=0, wall_seconds=wall))
        try:
            lines = one.log.read_text(errors="replace").splitlines()
        except OSError as error:
            lines = [f"(its log cannot be read: {error})"]
        outcome = Outcome(
            FailureKind.USER,
            reason="the command failed",
            exit_code=code if code > 0 else 128 - code,
            log_tail=tuple(lines[-LOG_TAIL_LINES:]),
            log_location=str(one.log),
            wall_seconds=wall,
        )
        return Update(one.task.task_id, outcome)


def _end_all(running: Sequence[_Running]) -> None:
    for one in running:
        _signal(one.process, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    for one in running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            one.process.wait(max(0.0, deadline - time.monotonic()))
        _signal(one.process, signal.SIGKILL)
        one.process.wait()


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


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


class LocalFactory:
    """What the entry point names."""

    options_model = LocalOptions
    shape_key_resources: frozenset[str] = frozenset()

    def __call__(self, targets: Sequence[Target], context: RunContext) -> LocalBackend:
        return LocalBackend(targets, context)


backend = LocalFactory()
