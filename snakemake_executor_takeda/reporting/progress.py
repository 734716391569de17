"""Where the jobs of a run are at the moment, by target, and what they have cost so far. Pure."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from snakemake_executor_takeda.reporting.money import NOTHING, Spend

NO_TARGET = "(no target)"
"""Where jobs are counted that no target could be found for."""
SECONDS_AN_HOUR = 3600


@dataclass(frozen=True, slots=True)
class Row:
    """Of one target, at one moment."""

    target: str
    waiting: int = 0
    """Placed, and not taken by the service yet."""
    starting: int = 0
    """Taken by the service, and not running yet."""
    running: int = 0
    done: int = 0
    failed: int = 0
    """Reported to Snakemake as failed."""
    interrupted: int = 0
    """Attempts that were lost and sent again, to this target or another."""
    spend: Spend = NOTHING
    """Of all attempts that ran, those that run still included, up to now."""

    @property
    def is_busy(self) -> bool:
        return bool(self.waiting or self.starting or self.running)


@dataclass
class _Job:
    target: str
    state: str
    """`waiting`, `starting` or `running`."""
    usd_per_hour: float | None = None
    began: float | None = None
    """When it was heard that it runs."""


@dataclass
class _Counts:
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("waiting", "starting", "running", "done", "failed", "interrupted"), 0
        )
    )
    ended: Spend = NOTHING
    priced: int = 0
    """Running jobs whose price is known; the next two are sums over these."""
    usd_per_hour: float = 0.0
    usd_per_hour_times_began: float = 0.0

    def at(self, target: str, now: float) -> Row:
        running = self.counts["running"]
        usd = (self.usd_per_hour * now - self.usd_per_hour_times_began) / SECONDS_AN_HOUR
        spend = Spend(max(usd, 0.0), self.priced, running - self.priced)
        return Row(target, **self.counts, spend=self.ended + spend)

    def runs(self, job: _Job, sign: int) -> None:
        if job.usd_per_hour is None or job.began is None:
            return
        self.priced += sign
        self.usd_per_hour += sign * job.usd_per_hour
        self.usd_per_hour_times_began += sign * job.usd_per_hour * job.began
        if not self.priced:
            # What sums of fractions leave behind must not be told.
            self.usd_per_hour = self.usd_per_hour_times_began = 0.0


class Progress:
    """Hears of each change of a job's state, each in constant time. Safe across threads.

    Jobs are told apart by the numbers that the run gives them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds that only grow."""
        self._clock = clock
        self._lock = threading.Lock()
        self._jobs: dict[int, _Job] = {}
        self._targets: dict[str, _Counts] = {}
        self.changed = threading.Event()
        """Set by each change; who looks clears it."""

    def waits(self, key: int, target: str) -> None:
        """It is placed, or to be sent again."""
        self._move(key, _Job(target, "waiting"))

    def starts(self, key: int, target: str) -> None:
        """The service has taken it."""
        self._move(key, _Job(target, "starting"))

    def runs(self, key: int, target: str, usd_per_hour: float | None = None) -> None:
        """It has started, at this price if there is one."""
        self._move(key, _Job(target, "running", usd_per_hour, self._clock()))

    def ends(self, key: int, target: str, how: str, spend: Spend) -> None:
        """An attempt is over: `done`, `failed`, `interrupted` (it is sent again) or `cancelled`."""
        self._move(key, None)
        with self._lock:
            counts = self._counts(target)
            counts.ended += spend
            if how in counts.counts:
                counts.counts[how] += 1

    def seconds(self, key: int) -> float | None:
        """How long a job has been running; None where it is not."""
        with self._lock:
            job = self._jobs.get(key)
        return None if job is None or job.began is None else self._clock() - job.began

    def rows(self) -> list[Row]:
        """Of each target that got a job, in the order in which they did."""
        now = self._clock()
        with self._lock:
            return [counts.at(target, now) for target, counts in self._targets.items()]

    def ended(self) -> dict[str, Spend]:
        """What the attempts that are over have cost, by target."""
        with self._lock:
            return {target: counts.ended for target, counts in self._targets.items()}

    def _move(self, key: int, job: _Job | None) -> None:
        with self._lock:
            before = self._jobs.pop(key, None)
            if before:
                counts = self._counts(before.target)
                counts.counts[before.state] -= 1
                counts.runs(before, -1)
            if job:
                self._jobs[key] = job
                counts = self._counts(job.target)
                counts.counts[job.state] += 1
                counts.runs(job, +1)
        self.changed.set()

    def _counts(self, target: str) -> _Counts:
        if target not in self._targets:
            self._targets[target] = _Counts()
        return self._targets[target]
