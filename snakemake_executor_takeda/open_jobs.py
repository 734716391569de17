"""The jobs that Snakemake handed over and that have not been reported yet, and the tasks that do their work."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from snakemake_executor_takeda.dispatching import Ready
from snakemake_executor_takeda.retrying import History
from snakemake_executor_takeda.values import Placement


@dataclass
class OpenJob:
    """A job that Snakemake handed over and that has not been reported yet."""

    job: Any
    ready: Ready
    about: str
    """What the event log calls it."""
    placement: Placement | None = None
    external_id: str | None = None
    announced: bool = False
    started: bool = False
    has_ended: bool = False
    """Its end is written down; Snakemake may not have heard of it yet."""
    reported: bool = False
    history: History = field(default_factory=History)
    """How it failed quietly."""
    given_up: str = ""
    """Which budget was spent when it failed for good."""

    def info(self) -> SubmittedJobInfo:
        return SubmittedJobInfo(self.job, self.external_id)


class OpenJobs:
    """By the number that the run gave each. Safe across threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[int, OpenJob] = {}
        self._key_of_task: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, open_job: OpenJob) -> None:
        with self._lock:
            self._jobs[open_job.ready.key] = open_job

    def get(self, key: int | None) -> OpenJob | None:
        with self._lock:
            return None if key is None else self._jobs.get(key)

    def of_task(self, task_id: str) -> OpenJob | None:
        """The job whose work a task does."""
        return self.get(self._key_of_task.get(task_id))

    def link(self, keys: dict[str, int]) -> None:
        """Tasks do the work of these jobs from now on."""
        with self._lock:
            self._key_of_task.update(keys)

    def unlink(self, task_ids: Iterable[str]) -> None:
        """Tasks do nobody's work any more."""
        with self._lock:
            for task_id in task_ids:
                self._key_of_task.pop(task_id, None)

    def forget(self, open_job: OpenJob) -> bool:
        """Whether it was there."""
        with self._lock:
            return self._jobs.pop(open_job.ready.key, None) is not None

    def clear(self) -> list[OpenJob]:
        """Forget all of them; → what they were."""
        with self._lock:
            remaining, self._jobs = list(self._jobs.values()), {}
        return remaining
