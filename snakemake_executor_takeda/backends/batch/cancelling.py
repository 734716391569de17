"""The end of what runs: terminate in bulk, then look until nothing runs any more."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from snakemake_executor_takeda.backends.batch import api
from snakemake_executor_takeda.backends.batch.watched import ENDED

if TYPE_CHECKING:
    from snakemake_executor_takeda.values import Active

REASON = "Cancelled: the Snakemake run that submitted it has ended"
WAIT_S = 45.0
"""A container has 30 s between SIGTERM and SIGKILL, and Batch some more to notice."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 3.0
PATIENCE_S = 5.0
"""After this long the children of an array that goes on are terminated by name."""
NAMED = 10
"""How many jobs that go on a message names."""
_UNENDED = ("RUNNING", "STARTING", "RUNNABLE", "PENDING", "SUBMITTED")

_log = logging.getLogger(__name__)


def cancel(
    clients: api.Clients,
    active: Sequence[Active],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> set[str]:
    """End these jobs, an array through its parent, a multi-node job through its own id; → the ids that
    had not ended after WAIT_S. Raises botocore's errors where the service refuses for good."""
    arrays = {one.accepted.external_id for one in active if len(one.submission.tasks) > 1}
    left = {one.accepted.external_id for one in active if one.open_task_ids}
    refused = api.terminate_jobs(clients.batch, sorted(left), REASON)
    begun = clock()
    pause_s = FIRST_PAUSE_S
    impatient_at = begun + PATIENCE_S
    while left:
        jobs = _states(clients, left)
        now = clock()
        if jobs is not None:
            # A job submitted a moment ago may not be known yet, and then was not terminated either.
            unknown = left - jobs.keys() if now < begun + PATIENCE_S else set()
            left = {job_id for job_id, status in jobs.items() if status not in ENDED} | unknown
        else:
            unknown = set()
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
        why = "; ".join(sorted({refused[job_id] for job_id in left & refused.keys()}))
        some = ", ".join(sorted(left)[:NAMED])
        _log.warning(
            "AWS Batch was told to terminate these %d jobs, but they had not ended after %d s: %s%s%s",
            len(left),
            WAIT_S,
            some,
            ", …" if len(left) > NAMED else "",
            f" ({why})" if why else "",
        )
    return left


def _states(clients: api.Clients, job_ids: set[str]) -> dict[str, str] | None:
    """Status by id; None where the service is too busy to say."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        jobs = api.describe_jobs(clients.batch, sorted(job_ids))
    except ClientError as error:
        if not api.is_passing(error):
            raise
        return None
    except BotoCoreError:
        return None
    return {job_id: job["status"] for job_id, job in jobs.items()}


def _stragglers(clients: api.Clients, parents: Sequence[str]) -> list[str]:
    """Children that go on; those of an array whose list cannot be had are found the next time."""
    from botocore.exceptions import BotoCoreError, ClientError

    found: list[str] = []
    try:
        for parent in parents:
            for status in _UNENDED:
                children = api.list_children(clients.batch, parent, status)
                found += [child["jobId"] for child in children]
    except ClientError as error:
        if not api.is_passing(error):
            raise
    except BotoCoreError as error:
        _log.debug("the children of %s could not be listed: %s", parents, error)
    return found
