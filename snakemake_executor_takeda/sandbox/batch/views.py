"""Jobs as DescribeJobs and ListJobs show them."""

from __future__ import annotations

from typing import Any

from snakemake_executor_takeda.sandbox.batch.jobs import Job, Status
from snakemake_executor_takeda.sandbox.batch.multinode import node_details, node_summary

_DETAIL_OF_CONTAINER = frozenset(
    {
        *("image", "vcpus", "memory", "command", "jobRoleArn", "executionRoleArn", "volumes"),
        *("environment", "mountPoints", "readonlyRootFilesystem", "ulimits", "privileged", "user"),
        *("instanceType", "resourceRequirements", "linuxParameters", "logConfiguration"),
        *("networkConfiguration", "fargatePlatformConfiguration", "ephemeralStorage"),
        *("runtimePlatform", "enableExecuteCommand", "secrets", "repositoryCredentials"),
    }
)


def job_detail(job: Job, arn_prefix: str) -> dict[str, Any]:
    """A JobDetail."""
    spec = job.spec
    retry = {"attempts": spec.attempts, "evaluateOnExit": spec.evaluate_on_exit}
    return {
        "jobArn": job_arn(job, arn_prefix),
        "jobName": spec.job_name,
        "jobId": job.job_id,
        "jobQueue": spec.queue_arn,
        "status": job.status.value,
        "shareIdentifier": spec.share_identifier,
        "schedulingPriority": spec.scheduling_priority,
        "attempts": job.attempts,
        "statusReason": job.status_reason,
        "createdAt": job.created_at,
        "startedAt": job.started_at,
        "stoppedAt": job.stopped_at,
        "retryStrategy": retry,
        "dependsOn": spec.depends_on,
        "jobDefinition": spec.definition_arn,
        "parameters": spec.parameters,
        # of several nodes each has its own: ask for `job#index`
        "container": None if job.is_multinode else _container(job),
        "nodeProperties": spec.node_properties,
        "nodeDetails": node_details(job),
        "arrayProperties": array_properties(job),
        "timeout": {"attemptDurationSeconds": spec.timeout_seconds}
        if spec.timeout_seconds
        else None,
        "consumableResourceProperties": {"consumableResourceList": spec.consumables}
        if spec.consumables
        else None,
        "tags": spec.tags,
        "propagateTags": spec.propagate_tags,
        "platformCapabilities": spec.platforms,
        "isCancelled": job.is_cancelled,
        "isTerminated": job.is_terminated,
    }


def job_summary(job: Job, arn_prefix: str) -> dict[str, Any]:
    """A JobSummary."""
    ended = {"exitCode": job.exit_code, "reason": job.reason}
    has_ended = any(value is not None for value in ended.values())
    return {
        "jobArn": job_arn(job, arn_prefix),
        "jobId": job.job_id,
        "jobName": job.spec.job_name,
        "createdAt": job.created_at,
        "status": job.status.value,
        "statusReason": job.status_reason,
        "startedAt": job.started_at,
        "stoppedAt": job.stopped_at,
        "container": ended if has_ended and not job.is_multinode else None,
        "arrayProperties": array_properties(job),
        "nodeProperties": node_summary(job),
        "jobDefinition": job.spec.definition_arn,
        # unlike in a JobDetail, only where it is true
        "isCancelled": job.is_cancelled or None,
        "isTerminated": job.is_terminated or None,
        "shareIdentifier": job.spec.share_identifier,
    }


def attempt_detail(job: Job, status_reason: str, stopped_at: int) -> dict[str, Any]:
    """An AttemptDetail of the attempt that the job's fields describe."""
    container = {
        "containerInstanceArn": job.instance_arn,
        "taskArn": job.task_arn,
        "exitCode": job.exit_code,
        "reason": job.reason,
        "logStreamName": job.log_stream,
    }
    return {
        "container": {name: value for name, value in container.items() if value is not None},
        "startedAt": job.started_at,
        "stoppedAt": stopped_at,
        "statusReason": status_reason,
    }


def job_arn(job: Job, arn_prefix: str) -> str:
    return f"{arn_prefix}job/{job.job_id}"


def array_properties(job: Job) -> dict[str, Any] | None:
    if job.index is not None and not job.is_node:
        return {"index": job.index}
    if job.is_parent:
        return {
            "size": job.spec.array_size,
            "statusSummary": {status.value: job.summary[status] for status in Status},
            "statusSummaryLastUpdatedAt": job.summary_at,
        }
    return None


def _container(job: Job) -> dict[str, Any]:
    shown = {
        name: value for name, value in job.spec.container.items() if name in _DETAIL_OF_CONTAINER
    }
    return {
        **shown,
        "exitCode": job.exit_code,
        "reason": job.reason,
        "containerInstanceArn": job.instance_arn,
        "taskArn": job.task_arn,
        "logStreamName": job.log_stream,
    }
