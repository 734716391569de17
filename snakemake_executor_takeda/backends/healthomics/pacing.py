"""The rate at which runs may be started, and may be looked at. Pure."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

LOWEST_PER_SECOND = 0.05
_SLOWER = 0.7
_FASTER = 1.2
_CALLS_OF_A_SMALL_LOOK = 10
_LOOKING_CALLS_PER_SECOND = 5.0
"""Half of what HealthOmics takes of each of Get…, List… in a second."""

T = TypeVar("T")


@dataclass(frozen=True)
class Slot:
    """The moment from which on a call may be made."""

    at: float
    """By the bucket's clock."""
    generation: int
    """Slots given out before the service's last refusal are worth nothing."""


class StartBucket:
    """A bucket of one token for a quota of calls a second; safe from any thread.

    The service's quota belongs to the account, so others may use it up: each refusal (HTTP 429) takes
    three tenths of the rate, each call that is taken brings back a fifth of it, up to what the target says.
    """

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._allowed = per_second
        self._per_second = per_second
        self._clock = clock
        self._lock = threading.Lock()
        self._next_free = 0.0
        self._last_sent = float("-inf")
        self._generation = 0

    @property
    def per_second(self) -> float:
        return self._per_second

    def reserve(self) -> Slot:
        """The next free slot; those that ask earlier come earlier."""
        with self._lock:
            at = max(self._clock(), self._next_free)
            self._next_free = at + 1 / self._per_second
            return Slot(at, self._generation)

    def seconds_until(self, slot: Slot) -> float | None:
        """0 where the call may be made now; None where the slot has to be reserved again."""
        with self._lock:
            if slot.generation != self._generation:
                return None
            # Who came late to his slot must not be followed too soon.
            at = max(slot.at, self._last_sent + 1 / self._per_second)
            return max(0.0, at - self._clock())

    def sent(self) -> None:
        """A call goes out now."""
        with self._lock:
            self._last_sent = self._clock()

    def refused(self) -> None:
        """The service took no call: all slots lapse."""
        with self._lock:
            self._per_second = max(
                min(LOWEST_PER_SECOND, self._allowed), self._per_second * _SLOWER
            )
            self._next_free = self._clock() + 1 / self._per_second
            self._generation += 1

    def taken(self) -> None:
        """The service took a call, at the latest now: how long it was on its way is not known."""
        with self._lock:
            self._last_sent = self._clock()
            self._per_second = min(self._allowed, self._per_second * _FASTER)


class Looks:
    """Spaces looks of many calls, as of thousands of runs, so that the quota is not all theirs."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._calls = 0
        self._not_before = float("-inf")

    @property
    def is_due(self) -> bool:
        return self._clock() >= self._not_before

    def counted(self, answers: Iterable[T]) -> Iterator[T]:
        """Answers as they come, one call each."""
        for answer in answers:
            self._calls += 1
            yield answer

    def done(self) -> None:
        """A look is over; a small one may be followed by the next at once."""
        calls, self._calls = self._calls, 0
        if calls > _CALLS_OF_A_SMALL_LOOK:
            self._not_before = self._clock() + calls / _LOOKING_CALLS_PER_SECOND
