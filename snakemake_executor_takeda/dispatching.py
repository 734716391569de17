"""The plugin's own submission thread: ready jobs in, routed and coalesced submissions out."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace

from snakemake_executor_takeda.coalescing import Coalescer, common_shapes, without_sizes
from snakemake_executor_takeda.jobs import job_name
from snakemake_executor_takeda.values import JobSpec, Placement, Shape, Submission, Target, Task


@dataclass(frozen=True)
class Ready:
    """A job to be placed, or, with a placement, a task to be sent again."""

    key: int
    """The executor's number of the job."""
    job: JobSpec
    argv: tuple[str, ...]
    placement: Placement | None = None


class Dispatcher(threading.Thread):
    """Routes what it is handed, waits a short while for equals, and passes submissions on.

    `place` decides the target, `placed` hears of it, `failed` of a job that could not be sent; `fits`
    tells whether its target takes it, and is asked where a job may get more than it asks for;
    `send` hands a submission to its backend's lane. None of them may block for long. Tasks and
    submissions are numbered on from the last ones that the run has given out.
    """

    def __init__(
        self,
        run_id: str,
        coalescer: Coalescer[tuple[Ready, Task]],
        *,
        place: Callable[[JobSpec], Placement],
        placed: Callable[[Ready, Placement], None],
        failed: Callable[[Ready, Exception], None],
        limit: Callable[[Target, Shape], int],
        shape_tolerance: float,
        fits: Callable[[JobSpec, Target], bool],
        key_resources: Callable[[Target], frozenset[str]],
        send: Callable[[Submission, dict[str, int]], None],
        last_task: int = 0,
        last_submission: int = 0,
    ) -> None:
        super().__init__(name="takeda-dispatcher", daemon=True)
        self._run_id = run_id
        self._coalescer = coalescer
        self._place = place
        self._placed = placed
        self._failed = failed
        self._limit = limit
        self._shape_tolerance = shape_tolerance
        self._fits = fits
        self._key_resources = key_resources
        self._send = send
        self._inbox: queue.SimpleQueue[tuple[float, list[Ready]]] = queue.SimpleQueue()
        self._waiting: list[tuple[float, list[Ready]]] = []
        """What was taken in, each with the moment from which on it may be sent."""
        self._stopping = False
        self._tasks = last_task
        self._submissions = last_submission

    def hand_over(self, ready: list[Ready], delay_seconds: float = 0.0) -> None:
        """Take jobs, to be sent after the delay; returns at once."""
        self._inbox.put((time.monotonic() + delay_seconds, ready))

    def stop(self) -> None:
        """Send nothing more."""
        self._stopping = True
        self.hand_over([])

    def run(self) -> None:
        while not self._stopping:
            with contextlib.suppress(queue.Empty):
                self._waiting.append(self._inbox.get(timeout=self._pause()))
            for ready in self._waited_long_enough():
                self._take(ready)
            if not self._stopping:
                for equals in self._coalescer.due(time.monotonic()):
                    for members in self._by_shape(equals):
                        self._send_off(members)

    def _pause(self) -> float | None:
        """Seconds until there is something to do of itself, None where nothing waits."""
        moments = [moment for moment, _ in self._waiting]
        due_at = self._coalescer.next_due()
        if due_at is not None:
            moments.append(due_at)
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _waited_long_enough(self) -> list[Ready]:
        now = time.monotonic()
        due = [batch for moment, batch in self._waiting if moment <= now]
        self._waiting = [item for item in self._waiting if item[0] > now]
        return [ready for batch in due for ready in batch]

    def _take(self, ready: Ready) -> None:
        try:
            placement = ready.placement or self._place(ready.job)
            self._placed(ready, placement)
            target = placement.target
            limit = self._limit(target, ready.job.shape)
            self._tasks += 1
            task = Task(f"{self._run_id}-t{self._tasks}", ready.job, target, ready.argv)
            key = submission_key(task, self._key_resources(target))
        except Exception as error:  # noqa: BLE001 - whatever is thrown, this job gets its report
            self._failed(ready, error)
            return
        self._coalescer.add(key, (ready, task), limit, time.monotonic())

    def _by_shape(self, equals: list[tuple[Ready, Task]]) -> list[list[tuple[Ready, Task]]]:
        """What differs only in memory, disk and run time, cut into submissions of one shape each."""
        common = common_shapes(
            (task.job.shape for _, task in equals), tolerance=self._shape_tolerance
        )
        cut: dict[Shape, list[tuple[Ready, Task]]] = {}
        # To be rounded up must not make a job too large for its target.
        one = equals[0][1]
        too_large = {
            larger
            for larger in {larger for shape, larger in common.items() if larger != shape}
            if not self._fits(replace(one.job, shape=larger), one.target)
        }
        for ready, task in equals:
            shape = common[task.job.shape]
            if shape in too_large:
                shape = task.job.shape
            if shape != task.job.shape:
                task = replace(task, job=replace(task.job, shape=shape))  # noqa: PLW2901
            cut.setdefault(shape, []).append((ready, task))
        return list(cut.values())

    def _send_off(self, members: list[tuple[Ready, Task]]) -> None:
        self._submissions += 1
        tasks = tuple(task for _, task in members)
        submission = Submission(
            submission_id=f"{self._run_id}-s{self._submissions}",
            name=job_name(self._run_id, tasks[0].job.rule, self._submissions),
            target=tasks[0].target,
            tasks=tasks,
        )
        try:
            self._send(submission, {task.task_id: ready.key for ready, task in members})
        except Exception as error:  # noqa: BLE001 - whatever is thrown, these jobs get their report
            for ready, _ in members:
                self._failed(ready, error)


def submission_key(task: Task, key_resources: frozenset[str]) -> Hashable:
    """Tasks with equal keys may share an array if their sizes are near: same target and fallback, rule,
    CPUs, nodes, container, and the same values of the resources that the backend turns into options of the whole
    submission."""
    overrides = tuple(
        sorted(
            (name, task.job.resources[name]) for name in key_resources & task.job.resources.keys()
        )
    )
    job, target = task.job, task.target
    return (
        target.name,
        target.fallback,
        job.rule,
        without_sizes(job.shape),
        job.container,
        overrides,
    )
