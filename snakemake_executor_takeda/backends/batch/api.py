"""The calls that this backend makes, cut to the services' page sizes; clients are made on first use."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends import aws

if TYPE_CHECKING:
    from mypy_boto3_batch import BatchClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client

DESCRIBE_PAGE = 100
TERMINATE_PAGE = 50
LOG_LINES = 30
_LINE_LENGTH = 1000
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_NO_SUCH_CALL = frozenset({"UnknownOperationException", "UnknownOperation", "NotImplemented"})


class Clients:
    """One client per service and purpose, for one run."""

    @cached_property
    def batch(self) -> BatchClient:
        return aws.client("batch")

    @cached_property
    def batch_once(self) -> BatchClient:
        """For SubmitJob, which has no token that would make a second call harmless."""
        return aws.client("batch", max_attempts=1)

    @cached_property
    def batch_at_once(self) -> BatchClient:
        """For the check at start, where a person waits."""
        return aws.client("batch", max_attempts=2)

    @cached_property
    def s3(self) -> S3Client:
        return aws.client("s3")

    @cached_property
    def logs(self) -> CloudWatchLogsClient:
        return aws.client("logs", max_attempts=3)


def describe_jobs(batch: BatchClient, job_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """JobDetail by id, 100 a call. The service leaves out what it does not know, and keeps no order."""
    found: dict[str, dict[str, Any]] = {}
    for page in _pages(list(dict.fromkeys(job_ids)), DESCRIBE_PAGE):
        for job in batch.describe_jobs(jobs=page)["jobs"]:
            found[job["jobId"]] = dict(job)
    return found


def list_children(batch: BatchClient, parent_id: str, status: Any) -> list[dict[str, Any]]:
    """JobSummary of every child of an array that is in this state."""
    pages = batch.get_paginator("list_jobs").paginate(arrayJobId=parent_id, jobStatus=status)
    return [dict(summary) for page in pages for summary in page["jobSummaryList"]]


def find_job(batch: BatchClient, queue: str, name: str) -> str | None:
    """Id of the newest job of exactly this name in the queue, whatever its state."""
    pages = batch.get_paginator("list_jobs").paginate(
        jobQueue=queue, filters=[{"name": "JOB_NAME", "values": [name]}]
    )
    found = [job for page in pages for job in page["jobSummaryList"] if job["jobName"] == name]
    return max(found, key=lambda job: job.get("createdAt", 0))["jobId"] if found else None


def terminate_jobs(batch: BatchClient, job_ids: Sequence[str], reason: str) -> dict[str, str]:
    """End jobs, 50 a call; → id: why not, for those that the service refused to end."""
    from botocore.exceptions import ClientError

    refused: dict[str, str] = {}
    for page in _pages(job_ids, TERMINATE_PAGE):
        try:
            errors = batch.terminate_jobs(jobs=page, reason=reason)["errors"]
            refused |= {error["job"]: error.get("message", "") for error in errors}
        except ClientError as error:
            if aws.error_code(error) not in _NO_SUCH_CALL and aws.http_status(error) != 404:
                raise
            # A service without the bulk call.
            for job_id in page:
                try:
                    batch.terminate_job(jobId=job_id, reason=reason)
                except ClientError as single:
                    refused[job_id] = aws.error_message(single)
    return refused


def log_tail(logs: CloudWatchLogsClient, group: str, stream: str) -> tuple[str, ...]:
    """The last lines of a stream; none where it does not exist or may not be read."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        events = logs.get_log_events(
            logGroupName=group, logStreamName=stream, limit=LOG_LINES, startFromHead=False
        )["events"]
    except (BotoCoreError, ClientError):
        return ()
    lines = "\n".join(event.get("message", "") for event in events).splitlines()
    return tuple(_CONTROLS.sub("", line)[:_LINE_LENGTH] for line in lines[-LOG_LINES:])


def _pages(items: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])
