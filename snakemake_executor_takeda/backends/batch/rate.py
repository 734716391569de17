"""A call rate that all threads share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class TokenBucket:
    """Lets `burst` calls pass at once and `per_second` from then on."""

    def __init__(
        self,
        per_second: float,
        burst: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._interval = 1 / per_second
        self._slack = (burst - 1) * self._interval
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._next = float("-inf")

    def take(self) -> None:
        """Return when the next call may be made."""
        with self._lock:
            now = self._clock()
            due = max(self._next, now - self._slack)
            self._next = due + self._interval
        if due > now:
            self._sleep(due - now)
