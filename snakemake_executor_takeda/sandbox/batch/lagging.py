"""Jobs as they were a while ago: what DescribeJobs and ListJobs show while they lag."""

from __future__ import annotations

import copy
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator

from snakemake_executor_takeda.sandbox.batch.jobs import Job
from snakemake_executor_takeda.sandbox.batch.mishaps import Mishaps


class Lag:
    """Keeps what jobs were, as long as somebody may still see it. Called under the table's lock."""

    def __init__(self, mishaps: Mishaps, clock_ms: Callable[[], int]) -> None:
        self._mishaps = mishaps
        self._clock_ms = clock_ms
        self._past: dict[str, deque[tuple[int, Job]]] = {}
        """By job id: until when (epoch ms) a job was so, the oldest first."""
        self._since = 0
        self.faults_changed()

    def faults_changed(self) -> None:
        """Faults were set or cleared: what was seen before the lag began is not unseen."""
        if not self._mishaps.has_lag():
            self._since = 0
        elif not self._since:
            self._since = self._clock_ms()

    def remember(self, job: Job) -> None:
        """A job is about to change."""
        if not self._mishaps.has_lag():
            if self._past:
                self._past.clear()
            return
        now = self._clock_ms()
        lag_ms = self._mishaps.lag_ms(job)
        past = self._past.setdefault(job.job_id, deque())
        while past and past[0][0] <= now - lag_ms:
            past.popleft()
        if not past or past[-1][0] < now:
            old = copy.copy(job)
            old.summary = Counter(job.summary)
            past.append((now, old))

    def shown(self, job: Job) -> Job | None:
        """The job as it is seen now; None where it is not seen yet."""
        lag_ms = self._mishaps.lag_ms(job) if self._mishaps.has_lag() else 0
        if not lag_ms:
            return job
        moment = self._clock_ms() - lag_ms
        if job.created_at > moment and job.created_at >= self._since:
            return None
        moment = max(moment, self._since)
        for until, old in self._past.get(job.job_id, ()):
            if until > moment:
                return old
        return job

    def all_shown(self, jobs: Iterable[Job]) -> Iterator[Job]:
        if not self._mishaps.has_lag():
            yield from jobs
            return
        for job in jobs:
            seen = self.shown(job)
            if seen is not None:
                yield seen
