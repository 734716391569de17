"""The end of what runs: terminate in bulk, then look until nothing runs any more."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from snakemake_executor_takeda.backends.batch import api
from snakemake_executor_takeda.backends.batch.polling import ENDED

if TYPE_CHECKING:
    from snakemake_executor_takeda.values import Active

REASON = "Cancelled: the Snakemake run that submitted it has ended"
WAIT_S = 45.0
"""A container has 30 s between SIGTERM and SIGKILL, and Batch some more to notice."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 3.0
PATIENCE_S = 5.0
"""After this long the children of an array that goes on are terminated by name."""
_UNENDED = ("RUNNING", "STARTING", "RUNNABLE", "PENDING", "SUBMITTED")

_log = logging.getLogger(__name__)


def cancel(
    clients: api.Clients,
    active: Sequence[Active],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> set[str]:
    """End these jobs, for an array through its parent; → the ids that had not ended after WAIT_S."""
    arrays = {one.accepted.external_id for one in active if len(one.submission.tasks) > 1}
    left = {one.accepted.external_id for one in active if one.open_task_ids}
    refused = api.terminate_jobs(clients.batch, sorted(left), REASON)
    begun = clock()
    pause_s = FIRST_PAUSE_S
    impatient_at = begun + PATIENCE_S
    while left:
        jobs = api.describe_jobs(clients.batch, sorted(left))
        now = clock()
        # A job submitted a moment ago may not be known yet, and then was not terminated either.
        unknown = left - jobs.keys() if now < begun + PATIENCE_S else set()
        left = {job_id for job_id, job in jobs.items() if job["status"] not in ENDED} | unknown
        if not left or now - begun >= WAIT_S:
            break
        again = sorted(left & refused.keys() | unknown)
        if now >= impatient_at:
            impatient_at = now + PATIENCE_S
            again = [*sorted(left), *_stragglers(clients, sorted(left & arrays))]
        if again:
            refused = api.terminate_jobs(clients.batch, again, REASON)
        sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
    if left:
        why = "; ".join(f"{job_id}: {refused[job_id]}" for job_id in sorted(left & refused.keys()))
        _log.warning(
            "AWS Batch was told to terminate these jobs, but they had not ended after %d s: %s%s",
            WAIT_S,
            ", ".join(sorted(left)),
            f" ({why})" if why else "",
        )
    return left


def _stragglers(clients: api.Clients, parents: Sequence[str]) -> list[str]:
    return [
        child["jobId"]
        for parent in parents
        for status in _UNENDED
        for child in api.list_children(clients.batch, parent, status)
    ]
