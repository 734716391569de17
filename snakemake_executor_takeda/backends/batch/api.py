"""The calls that this backend makes, cut to the services' page sizes; clients are made on first use."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from snakemake_executor_takeda.backends import aws
from snakemake_executor_takeda.backends.batch.console import Console, console_of

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from mypy_boto3_batch import BatchClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client

DESCRIBE_PAGE = 100
TERMINATE_PAGE = 50
"""Of CancelJobs, too."""
_AT_ONCE = 8
"""Pages that are terminated at a time: a Ctrl-C has to end thousands of single jobs within a minute."""
LOG_LINES = 30
_LINE_LENGTH = 1000
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_NO_SUCH_CALL = frozenset({"UnknownOperationException", "UnknownOperation", "NotImplemented"})


class Clients:
    """One client per service and purpose, for one run."""

    def __init__(self, region: str | None = None) -> None:
        """`region` is that of the queues, None for AWS's own setting; S3 keeps to that anyway."""
        self._region = region

    @cached_property
    def batch(self) -> BatchClient:
        return aws.client("batch", region=self._region)

    @cached_property
    def batch_once(self) -> BatchClient:
        """For SubmitJob, which has no token that would make a second call harmless."""
        return aws.client("batch", max_attempts=1, region=self._region)

    @cached_property
    def batch_at_once(self) -> BatchClient:
        """For the check at start, where a person waits."""
        return aws.client("batch", max_attempts=2, region=self._region)

    @cached_property
    def batch_ending(self) -> BatchClient:
        """For Ctrl-C, which repeats its calls itself and has only so much time."""
        return aws.client("batch", region=self._region, hasty=True)

    @cached_property
    def sqs(self) -> Any:
        return aws.client("sqs", max_attempts=3, region=self._region)

    @cached_property
    def console(self) -> Console | None:
        """For links in messages; None where the endpoint is not AWS's own."""
        return console_of(self.batch.meta.region_name, self.batch.meta.endpoint_url)

    @cached_property
    def s3(self) -> S3Client:
        return aws.client("s3")

    @cached_property
    def logs(self) -> CloudWatchLogsClient:
        return aws.client("logs", max_attempts=3, region=self._region)


def describe_jobs(batch: BatchClient, job_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """JobDetail by id, 100 a call. The service leaves out what it does not know, and keeps no order."""
    return {job["jobId"]: job for job in describe_each(batch, job_ids)}


def describe_each(batch: BatchClient, job_ids: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The same, one call after the other as they are wanted."""
    for page in _pages(list(dict.fromkeys(job_ids)), DESCRIBE_PAGE):
        for job in batch.describe_jobs(jobs=page)["jobs"]:
            yield dict(job)


def list_children(batch: BatchClient, parent_id: str, status: Any) -> Iterator[dict[str, Any]]:
    """JobSummary of every child of an array that is in this state, one call after the other."""
    pages = batch.get_paginator("list_jobs").paginate(arrayJobId=parent_id, jobStatus=status)
    for page in pages:
        for summary in page["jobSummaryList"]:
            yield dict(summary)


def jobs_named(batch: BatchClient, queue: str, name: str) -> list[dict[str, Any]]:
    """JobSummary of the jobs of exactly this name in the queue, whatever their state."""
    pages = batch.get_paginator("list_jobs").paginate(
        jobQueue=queue, filters=[{"name": "JOB_NAME", "values": [name]}]
    )
    return [dict(j) for page in pages for j in page["jobSummaryList"] if j["jobName"] == name]


def find_job(batch: BatchClient, queue: str, name: str) -> str | None:
    """Id of the newest of them."""
    found = jobs_named(batch, queue, name)
    return max(found, key=lambda job: job.get("createdAt", 0))["jobId"] if found else None


def is_passing(error: ClientError) -> bool:
    """True for a refusal that says nothing about the call: too many of them, or trouble in the service."""
    return aws.is_throttling(error) or aws.http_status(error) >= 500


def terminate_jobs(
    batch: BatchClient,
    job_ids: Sequence[str],
    reason: str,
    *,
    is_late: Callable[[], bool] = lambda: False,
) -> dict[str, str]:
    """End jobs, 50 a call; → id: why not, for those that the service did not take.

    A call that is throttled, or gets no answer, or was not made because it `is_late`, is one such why;
    any other refusal is raised, after the other calls were made.
    """
    return _end_jobs(batch, "terminate", job_ids, reason, is_late)


def cancel_jobs(batch: BatchClient, job_ids: Sequence[str], reason: str) -> dict[str, str]:
    """The same for those that have not started: what is STARTING or RUNNING goes on."""
    return _end_jobs(batch, "cancel", job_ids, reason, lambda: False)


def _end_jobs(
    batch: BatchClient,
    how: Literal["terminate", "cancel"],
    job_ids: Sequence[str],
    reason: str,
    is_late: Callable[[], bool],
) -> dict[str, str]:
    from botocore.exceptions import BotoCoreError, ClientError

    errors: list[ClientError] = []

    def end(page: list[str]) -> dict[str, str]:
        if is_late():
            return dict.fromkeys(page, "there was no time left to say it")
        try:
            return _end_page(batch, how, page, reason)
        except ClientError as error:
            if not is_passing(error):
                errors.append(error)
            return dict.fromkeys(page, aws.error_message(error))
        except BotoCoreError as error:
            return dict.fromkeys(page, str(error))

    refused: dict[str, str] = {}
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix=f"takeda-{how}") as pool:
        for found in pool.map(end, _pages(job_ids, TERMINATE_PAGE)):
            refused |= found
    if errors:
        raise errors[0]
    return refused


def _end_page(batch: BatchClient, how: str, page: list[str], reason: str) -> dict[str, str]:
    from botocore.exceptions import ClientError

    terminates = how == "terminate"
    try:
        many = batch.terminate_jobs if terminates else batch.cancel_jobs
        errors = many(jobs=page, reason=reason)["errors"]
    except ClientError as error:
        if aws.error_code(error) not in _NO_SUCH_CALL and aws.http_status(error) != 404:
            raise
    else:
        return {error["job"]: error.get("message", "") for error in errors}
    # A service without the bulk call.
    refused = {}
    for job_id in page:
        try:
            one = batch.terminate_job if terminates else batch.cancel_job
            one(jobId=job_id, reason=reason)
        except ClientError as error:
            refused[job_id] = aws.error_message(error)
    return refused


def log_tail(logs: CloudWatchLogsClient, group: str, stream: str) -> tuple[str, ...] | None:
    """The last lines of a stream; none where it may not be read, None where there is nothing (yet)."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        events = logs.get_log_events(
            logGroupName=group, logStreamName=stream, limit=LOG_LINES, startFromHead=False
        )["events"]
    except ClientError as error:
        return None if aws.error_code(error) == "ResourceNotFoundException" else ()
    except BotoCoreError:
        return ()
    lines = "\n".join(event.get("message", "") for event in events).splitlines()
    return tuple(_CONTROLS.sub("", line)[:_LINE_LENGTH] for line in lines[-LOG_LINES:]) or None


def _pages(items: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])
