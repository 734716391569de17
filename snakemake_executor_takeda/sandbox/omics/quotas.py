"""HealthOmics' calls a second: a bucket of tokens for each operation, while a fault asks for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from snakemake_executor_takeda.sandbox.faults import Fault, Target
from snakemake_executor_takeda.sandbox.injecting import Faults
from snakemake_executor_takeda.sandbox.omics.limits import CALLS_PER_SECOND, SAME_QUOTA
from snakemake_executor_takeda.sandbox.services import ServiceError

FAULT = "omics-quotas"


class Quotas:
    """Safe from any thread. Without the fault `omics-quotas` every call is taken."""

    def __init__(self, faults: Faults, clock: Callable[[], float] = time.monotonic) -> None:
        self._faults = faults
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}

    def check(self, operation: str) -> None:
        """Take a call. Raises ServiceError (ThrottlingException, HTTP 429) beyond the quota."""
        fault = self._faults.of(FAULT, Target(operation=operation))
        if fault is not None and self._wait(operation, fault) > 0:
            self._faults.count(fault)
            raise ServiceError("ThrottlingException", "Rate exceeded", status=429)

    def seconds_until(self, operation: str) -> float:
        """How long a batch has to wait before its next call of this kind; 0 takes that call."""
        fault = self._faults.of(FAULT, Target(operation=operation))
        return 0.0 if fault is None else self._wait(operation, fault)

    def _wait(self, operation: str, fault: Fault) -> float:
        """0, and a token is taken, or the seconds until there is one."""
        name = SAME_QUOTA.get(operation, operation)
        rate = fault.amount if name == "StartRun" else CALLS_PER_SECOND.get(name, 0.0)
        if rate <= 0:
            return 0.0
        size = max(1.0, rate)
        with self._lock:
            now = self._clock()
            left, then = self._buckets.get(name, (size, now))
            left = min(size, left + (now - then) * rate)
            taken = left >= 1
            self._buckets[name] = (left - 1 if taken else left, now)
        return 0.0 if taken else (1 - left) / rate
