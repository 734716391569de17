"""A message of an SQS queue → the job it tells of. Pure.

EventBridge wraps what DescribeJobs would say in an event `Batch Job State Change`. Such a queue may hold
anything else besides: what is not such an event is None, never an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

DETAIL_TYPE = "Batch Job State Change"
TOLD = frozenset({"RUNNING", "SUCCEEDED", "FAILED"})
"""The states that are news; the others are taken from the queue and forgotten."""


class _Part(BaseModel):
    # Batch may add to its events at any time, and leaves out or nulls what a job does not have.
    model_config = ConfigDict(extra="ignore", strict=True)


class _Requirement(_Part):
    type: str
    value: str


class _Container(_Part):
    exitCode: int | None = None
    reason: str | None = None
    logStreamName: str | None = None
    containerInstanceArn: str | None = None
    taskArn: str | None = None
    resourceRequirements: list[_Requirement] | None = None


class _Attempt(_Part):
    container: _Container | None = None
    statusReason: str | None = None


class _Nodes(_Part):
    mainNode: int = 0


class _Detail(_Part):
    jobId: str = Field(min_length=1)
    jobName: str = ""
    jobQueue: str = ""
    status: str
    statusReason: str | None = None
    startedAt: int | None = None
    stoppedAt: int | None = None
    isCancelled: bool | None = None
    isTerminated: bool | None = None
    attempts: list[_Attempt] | None = None
    container: _Container | None = None
    nodeProperties: _Nodes | None = None
    tags: dict[str, Any] | None = None


class _Event(_Part):
    detail_type: str = Field(alias="detail-type", pattern=f"^{DETAIL_TYPE}$")
    source: str = Field(pattern=r"^aws\.batch$")
    detail: _Detail


def job_of(body: str) -> Mapping[str, Any] | None:
    """The JobDetail in a message's body, cut to what an outcome is made of; None for any other message."""
    try:
        event = _Event.model_validate(json.loads(body))
    except (ValueError, RecursionError, ValidationError):
        return None
    job = event.detail.model_dump(exclude_none=True)
    if job.get("attempts"):
        job["attempts"] = job["attempts"][-1:]
    return job


def newer(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> Mapping[str, Any]:
    """Which of two events of one job stands, in whatever order they came: the one of its end."""
    return old if old is not None and old["status"] != "RUNNING" else new
