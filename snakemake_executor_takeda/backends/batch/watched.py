"""What is remembered of a submission between polls, only to save calls: losing it costs a listing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snakemake_executor_takeda.values import Active, Target

ENDED = ("FAILED", "SUCCEEDED")
OCCUPYING = ("STARTING", "RUNNING")
_LONG_AGO = float("-inf")


class Watched:
    """One submission. Nothing here grows with its tasks at each poll."""

    def __init__(self, active: Active, now: float) -> None:
        self.active = active
        self.seen: Counter[str] = Counter()
        """State → how many of its children are known to have come to that end."""
        self.started: set[str] = set()
        """Tasks that were told to have started and were not told to have ended."""
        self.said: dict[str, str] = {}
        """Tasks said to have ended in the poll under way → their state. The caller takes them out of
        `open_task_ids`; one that is still there the next time was not heard."""
        self.was_not_heard = False
        self.missing_since: float | None = None
        self.looked_at = self.starts_looked_at = self.left_looked_at = _LONG_AGO
        self.looked_after_the_end = False
        self.descriptions_lag = False
        """Whether the last look by DescribeJobs found fewer ends than the parent counts."""
        self.waiting = 0
        """How many of its jobs are RUNNABLE, as of the last answer."""
        self.occupies = False
        """Whether one of its jobs starts or runs, as of the last answer."""
        self.moved_at = now
        """When the service accepted it, or when a job of it started or ended for the last time."""
        self.ran_at = _LONG_AGO
        """When the service last gave a job of it a machine, as far as is known."""

    @property
    def job_id(self) -> str:
        return self.active.accepted.external_id

    @property
    def target(self) -> Target:
        return self.active.submission.target

    @property
    def is_array(self) -> bool:
        return len(self.active.submission.tasks) > 1

    @property
    def size(self) -> int:
        return len(self.active.submission.tasks)

    @property
    def open_count(self) -> int:
        return len(self.active.open_task_ids) - len(self.said)

    @cached_property
    def task_ids(self) -> Mapping[str, str]:
        """task_id by the id of its job or child."""
        return {job_id: task for task, job_id in self.active.accepted.task_external_ids.items()}

    def is_open(self, task_id: str | None) -> bool:
        """Whether the end of this task was not said yet."""
        return task_id in self.active.open_task_ids and task_id not in self.said

    def open_tasks(self) -> list[str]:
        return [task_id for task_id in self.active.open_task_ids if task_id not in self.said]

    def take_in(self, active: Active) -> None:
        """What the caller says is open now."""
        self.was_not_heard = False
        for task_id in self.said.keys() & active.open_task_ids:
            self.was_not_heard = True
            self.seen[self.said[task_id]] -= 1
        self.said.clear()
        self.active = active

    def says_end(self, task_id: str, state: str, now: float, *, had_machine: bool = True) -> None:
        self.said[task_id] = state
        self.seen[state] += 1
        self.started.discard(task_id)
        self.moved_at = now
        if had_machine:
            self.ran_at = now

    def says_start(self, task_id: str, now: float) -> bool:
        """False where it was said before."""
        if task_id in self.started:
            return False
        self.started.add(task_id)
        self.occupies = True
        self.moved_at = self.ran_at = now
        return True

    def counts(self, detail: Mapping[str, Any], now: float) -> Mapping[str, int]:
        """Children by state; of a single job its own state."""
        if self.is_array:
            counts = (detail.get("arrayProperties") or {}).get("statusSummary") or {}
        else:
            counts = {detail["status"]: 1}
        waiting = counts.get("RUNNABLE", 0)
        if waiting != self.waiting:
            self.waiting = waiting
            self.moved_at = now
        self.occupies = any(counts.get(state) for state in OCCUPYING)
        return counts

    def unseen(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Ended children that are not known yet, by state."""
        return {state: counts.get(state, 0) - self.seen[state] for state in ENDED}
