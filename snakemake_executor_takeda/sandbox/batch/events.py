"""EventBridge's `Batch Job State Change`: an event for each change of a job's status, off the
engine's thread."""

from __future__ import annotations

import heapq
import itertools
import queue
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any

from snakemake_executor_takeda.sandbox.batch import views
from snakemake_executor_takeda.sandbox.batch.jobs import Job
from snakemake_executor_takeda.sandbox.batch.mishaps import Mishaps, subject
from snakemake_executor_takeda.sandbox.injecting import Subject
from snakemake_executor_takeda.sandbox.rest_json import service_model, to_json
from snakemake_executor_takeda.sandbox.services import Context

_BATCH = 200
"""Events that go over at a time."""


@dataclass(frozen=True)
class _Change:
    """A job's new status, and the job as DescribeJobs has it at that moment."""

    subject: Subject
    detail: dict[str, Any]
    moment: float


class Events:
    """Publishes changes of status while some rule of EventBridge could want them."""

    def __init__(self, context: Context, mishaps: Mishaps, arn_prefix: str) -> None:
        self._context = context
        self._bus = context.events
        self._mishaps = mishaps
        self._arn_prefix = arn_prefix
        self._changes: queue.SimpleQueue[_Change | None] = queue.SimpleQueue()
        self._late: list[tuple[float, int, dict[str, Any]]] = []
        self._numbers = itertools.count()
        self._shape = service_model("batch").shape_for("JobDetail")
        self._thread = threading.Thread(target=self._loop, name="batch events", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Publish what is left, then end."""
        self._changes.put(None)
        self._thread.join()

    def note(self, job: Job) -> None:
        """A job has a new status. Called under the table's lock."""
        if self._bus is not None and self._bus.has_rules:
            detail = views.job_detail(job, self._arn_prefix)
            self._changes.put(_Change(subject(job, job.status.value), detail, time.time()))

    def _loop(self) -> None:
        is_open = True
        while is_open:
            changes, is_open = self._take()
            ready: list[dict[str, Any]] = []
            for change in changes:
                event = self._event(change)
                for seconds in self._mishaps.delays_of_event(change.subject):
                    if seconds:
                        due = time.monotonic() + seconds
                        heapq.heappush(self._late, (due, next(self._numbers), event))
                    else:
                        ready.append(event)
            while self._late and (not is_open or self._late[0][0] <= time.monotonic()):
                ready.append(heapq.heappop(self._late)[2])
            if ready and self._bus is not None:
                self._bus.put(ready)

    def _take(self) -> tuple[list[_Change], bool]:
        """The changes that came since, at most `_BATCH`; waits for one, or for a late event's time."""
        wait = max(0.0, self._late[0][0] - time.monotonic()) if self._late else None
        found: list[_Change] = []
        try:
            change = self._changes.get(timeout=wait)
            while change is not None:
                found.append(change)
                if len(found) >= _BATCH:
                    return found, True
                change = self._changes.get_nowait()
        except queue.Empty:
            return found, True
        return found, False

    def _event(self, change: _Change) -> dict[str, Any]:
        return {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": "Batch Job State Change",
            "source": "aws.batch",
            "account": self._context.account_id,
            "time": change.moment,
            "region": self._context.region,
            "resources": [change.detail["jobArn"]],
            "detail": to_json(self._shape, change.detail),
        }
