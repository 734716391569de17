"""The end of what runs: terminate in bulk, then look until nothing runs any more."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from snakemake_executor_takeda.backends.batch import api
from snakemake_executor_takeda.backends.batch.watched import ENDED

if TYPE_CHECKING:
    from mypy_boto3_batch import BatchClient

    from snakemake_executor_takeda.values import Active

REASON = "Cancelled: the Snakemake run that submitted it has ended"
WAIT_S = 40.0
"""A container has 30 s between SIGTERM and SIGKILL, and Batch some more to notice."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 3.0
SAID_AFTER_S, SAID_EVERY_S = 2.0, 10.0
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
    batch = clients.batch_ending
    arrays = {one.accepted.external_id for one in active if len(one.submission.tasks) > 1}
    tasks = {one.accepted.external_id: len(one.open_task_ids) for one in active}
    left = {job_id for job_id, count in tasks.items() if count}
    begun = clock()

    def is_late() -> bool:
        return clock() - begun >= WAIT_S

    refused = api.terminate_jobs(batch, sorted(left), REASON, is_late=is_late)
    pause_s = FIRST_PAUSE_S
    impatient_at, said_at = begun + PATIENCE_S, begun + SAID_AFTER_S
    while left:
        jobs = _states(batch, left, is_late)
        now = clock()
        if jobs is not None:
            # A job submitted a moment ago may not be known yet, and then was not terminated either.
            unknown = left - jobs.keys() if now < begun + PATIENCE_S else set()
            left = {job_id for job_id, status in jobs.items() if status not in ENDED} | unknown
        else:
            unknown = set()
        if not left or is_late():
            break
        if now >= said_at:
            said_at = now + SAID_EVERY_S
            is_busy = jobs is None or not left.isdisjoint(refused)
            busy = ": AWS Batch is slow to take the calls" if is_busy else ""
            _log.warning("still ending %s%s", _jobs(tasks, left), busy)
        again = sorted(left & refused.keys() | unknown)
        if now >= impatient_at:
            impatient_at = now + PATIENCE_S
            again = [*sorted(left), *_stragglers(batch, sorted(left & arrays), is_late)]
        if again:
            refused = api.terminate_jobs(batch, again, REASON, is_late=is_late)
        sleep(min(pause_s, max(0.0, begun + WAIT_S - clock())))
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


def _jobs(tasks: Mapping[str, int], job_ids: Collection[str]) -> str:
    """How many; the children of an array are jobs, too."""
    count = sum(tasks[job_id] for job_id in job_ids)
    return "1 job" if count == 1 else f"{count} jobs"


def _states(
    batch: BatchClient, job_ids: set[str], is_late: Callable[[], bool]
) -> dict[str, str] | None:
    """Status by id; None where the service is too busy to say, or says it too late."""
    from botocore.exceptions import BotoCoreError, ClientError

    found: dict[str, str] = {}
    try:
        for job in api.describe_each(batch, sorted(job_ids)):
            found[job["jobId"]] = job["status"]
            if is_late() and len(found) < len(job_ids):
                return None
    except ClientError as error:
        if not api.is_passing(error):
            raise
        return None
    except BotoCoreError:
        return None
    return found


def _stragglers(
    batch: BatchClient, parents: Sequence[str], is_late: Callable[[], bool]
) -> list[str]:
    """Children that go on; those of an array whose list cannot be had are found the next time."""
    from botocore.exceptions import BotoCoreError, ClientError

    found: list[str] = []
    try:
        for parent in parents:
            for status in _UNENDED:
                if is_late():
                    return found
                children = api.list_children(batch, parent, status)
                found += [child["jobId"] for child in children]
    except ClientError as error:
        if not api.is_passing(error):
            raise
    except BotoCoreError as error:
        _log.debug("the children of %s could not be listed: %s", parents, error)
    return found
