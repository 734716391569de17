"""Jobs that a SubmitJob without answer may have left behind: looked for by name, and ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from snakemake_executor_takeda.backends.batch import api
from snakemake_executor_takeda.backends.batch.watched import ENDED

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.batch.api import Clients

LOOKS_AFTER_S = (10.0, 30.0, 60.0, 120.0)
"""After the last SubmitJob: lists may lag behind longer than a submission can wait for them."""
REASON = "Ended by takeda: a second job of one submission, whose answer had been lost"

_log = logging.getLogger(__name__)


@dataclass
class _Doubt:
    queue: str
    name: str
    since: float
    known: str | None = None
    looks: list[float] = field(default_factory=lambda: list(LOOKS_AFTER_S))


class Doubles:
    """Of one run. Called from one thread at a time."""

    def __init__(self, clients: Clients, clock: Callable[[], float] = time.monotonic) -> None:
        self._clients = clients
        self._clock = clock
        self._doubts: list[_Doubt] = []

    def may_exist(self, queue: str, name: str) -> None:
        """A SubmitJob of this name had no answer, and was sent again or given up."""
        self._doubts.append(_Doubt(queue, name, self._clock()))

    def goes_on(self, name: str, job_id: str) -> None:
        """The one job of this name that the run knows. Without it, all of them are ended."""
        for doubt in self._doubts:
            if doubt.name == name:
                doubt.known = job_id

    def end(self, *, at_last: bool = False) -> None:
        """Look for those that are due, for all of them `at_last`, and end what is found. Silent where
        the service does not answer: there is another look."""
        from botocore.exceptions import BotoCoreError, ClientError

        now = self._clock()
        for doubt in self._doubts:
            if not at_last and now - doubt.since < doubt.looks[0]:
                continue
            doubt.looks.pop(0)
            try:
                self._end(doubt)
            except (BotoCoreError, ClientError) as error:
                _log.debug("no look for other jobs named %s: %s", doubt.name, error)
        self._doubts = [doubt for doubt in self._doubts if doubt.looks and not at_last]

    def _end(self, doubt: _Doubt) -> None:
        batch = self._clients.batch_at_once
        found = [
            job["jobId"]
            for job in api.jobs_named(batch, doubt.queue, doubt.name)
            if job["jobId"] != doubt.known and job["status"] not in ENDED
        ]
        if found:
            _log.warning(
                "AWS Batch had taken a SubmitJob whose answer was lost: %s is ended",
                ", ".join(found),
            )
            api.terminate_jobs(batch, found, REASON)
