"""The check at start: does every target's queue exist, and would it take a job?"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends import aws
from snakemake_executor_takeda.backends.batch.environments import (
    environment_problem,
    environment_types,
    environment_warning,
    must_be_seen,
)
from snakemake_executor_takeda.backends.batch.instances import architecture_problem
from snakemake_executor_takeda.backends.batch.patience import patiently, role_needs
from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from mypy_boto3_batch import BatchClient

    from snakemake_executor_takeda.values import Target

_log = logging.getLogger(__name__)

_QUEUES_A_CALL = 100
_PLATFORM_TYPES = {
    "EC2": {"ECS", "ECS_MANAGED_INSTANCES"},
    "FARGATE": {"ECS_FARGATE"},
}


def check_queues(batch: BatchClient, targets: Sequence[Target]) -> None:
    """Raises TakedaError naming every target whose queue is missing or takes no jobs."""
    from botocore.exceptions import ClientError

    names = list(dict.fromkeys(target.options.queue for target in targets))
    try:
        known = [
            queue
            for start in range(0, len(names), _QUEUES_A_CALL)
            for queue in _describe(batch, jobQueues=names[start : start + _QUEUES_A_CALL])
        ]
        by_name = {q[key]: q for q in known for key in ("jobQueueName", "jobQueueArn")}
        others = [] if all(name in by_name for name in names) else _all_names(batch)
        types = environment_types(
            batch,
            [
                by_name[name]
                for target in targets
                if (name := target.options.queue) in by_name and must_be_seen(target, by_name[name])
            ],
        )
    except ClientError as error:
        raise TakedaError(
            f"AWS Batch refused to describe the queues {', '.join(names)} "
            f"({error.operation_name}: {aws.error_code(error)}): {aws.error_message(error)}"
            f"{role_needs(error, 'batch:DescribeJobQueues')}"
        ) from error
    problems = [
        problem
        for target in targets
        if (problem := queue_problem(target, by_name.get(target.options.queue), others, types))
    ]
    if problems:
        raise TakedaError("\n".join(problems))
    for target in targets:
        queue = by_name[target.options.queue]
        if warning := environment_warning(target, queue, types, _where(target)):
            _log.warning("%s", warning)


def queue_problem(
    target: Target, queue: Any | None, others: Sequence[str], types: Mapping[str, str]
) -> str | None:
    """What keeps this target from taking jobs, in one sentence with the fix; None if nothing.

    `types` is of compute environments, as `environment_types` finds them.
    """
    name, where = target.options.queue, _where(target)
    if queue is None:
        near = difflib.get_close_matches(name, others, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are: {_some(others)}."
        return f"{where} does not exist in this account and region{hint} Correct `queue` in the policy, or --takeda-batch-queue"
    if queue["state"] != "ENABLED":
        return (
            f"{where} is {queue['state']}: enable it with "
            f"`aws batch update-job-queue --job-queue {name} --state ENABLED`"
        )
    if queue.get("status", "VALID") != "VALID":
        said = f" ({queue['statusReason']})" if queue.get("statusReason") else ""
        return (
            f"{where} is {queue['status']}{said}: wait until it is VALID, or mend it and "
            "its compute environments"
        )
    kind = queue.get("jobQueueType")
    if kind and kind not in _PLATFORM_TYPES[target.options.platform]:
        fitting = next((p for p, kinds in _PLATFORM_TYPES.items() if kind in kinds), None)
        fix = f"write `platform: {fitting}`" if fitting else "name another queue"
        return f"{where} is of type {kind}, the target's platform {target.options.platform}: {fix}"
    return (
        environment_problem(target, queue, types, where)
        or _share_problem(target, queue, where)
        or architecture_problem(target)
    )


def _where(target: Target) -> str:
    return f"{target.where}: the job queue {target.options.queue!r}"


def _share_problem(target: Target, queue: Any, where: str) -> str | None:
    share, is_fair = target.options.share_identifier, bool(queue.get("schedulingPolicyArn"))
    if is_fair and share is None:
        return (
            f"{where} has a fair-share policy, so every job needs a share: "
            "write `share_identifier: NAME`"
        )
    if share is not None and not is_fair:
        return f"{where} has no fair-share policy: leave out `share_identifier: {share}`"
    return None


def _describe(batch: BatchClient, **which: Any) -> list[Any]:
    pages = batch.get_paginator("describe_job_queues")
    return patiently(
        "AWS Batch", lambda: [one for page in pages.paginate(**which) for one in page["jobQueues"]]
    )


def _all_names(batch: BatchClient) -> list[str]:
    return sorted(queue["jobQueueName"] for queue in _describe(batch))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "") if names else "no queues"
