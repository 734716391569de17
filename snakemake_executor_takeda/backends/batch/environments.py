"""What a queue's compute environments are made of, against what its target says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends import aws
from snakemake_executor_takeda.backends.batch.patience import patiently

if TYPE_CHECKING:
    from mypy_boto3_batch import BatchClient

    from snakemake_executor_takeda.values import Target

_A_CALL = 100
_ON_DEMAND, _SPOT = frozenset({"EC2", "FARGATE"}), frozenset({"SPOT", "FARGATE_SPOT"})
_FARGATE = frozenset({"FARGATE", "FARGATE_SPOT"})


def must_be_seen(target: Target, queue: Mapping[str, Any]) -> bool:
    """Whether the queue itself leaves open what the target says of it."""
    return target.capacity is not None or not queue.get("jobQueueType")


def environment_types(batch: BatchClient, queues: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Type of each compute environment of these queues by its ARN and its name: `EC2`, `SPOT`,
    `FARGATE`, `FARGATE_SPOT`. Empty where the role may not ask; an unmanaged one has no type."""
    from botocore.exceptions import ClientError

    names = list(dict.fromkeys(name for queue in queues for name in _names(queue)))
    found: dict[str, str] = {}
    try:
        for start in range(0, len(names), _A_CALL):
            for one in _described(batch, names[start : start + _A_CALL]):
                if kind := (one.get("computeResources") or {}).get("type"):
                    found[one["computeEnvironmentName"]] = kind
                    found[one.get("computeEnvironmentArn", "")] = kind
    except ClientError as error:
        if not aws.is_denied(error):
            raise
        return {}
    return found


def _described(batch: BatchClient, names: list[str]) -> Sequence[Mapping[str, Any]]:
    return patiently(
        "AWS Batch",
        lambda: batch.describe_compute_environments(computeEnvironments=names)[
            "computeEnvironments"
        ],
    )


def environment_problem(
    target: Target, queue: Mapping[str, Any], types: Mapping[str, str], where: str
) -> str | None:
    """What the target says wrongly, in one sentence with the fix; None if nothing, or nothing is known."""
    kinds, shown = _kinds(queue, types)
    if not kinds:
        return None
    platform = target.options.platform
    if (platform == "FARGATE") != (not kinds.isdisjoint(_FARGATE)):
        right = "EC2" if platform == "FARGATE" else "FARGATE"
        return (
            f"{where} has {shown}, the target's platform is {platform}: write `platform: {right}`, or "
            f"name a queue of {platform}"
        )
    if target.capacity == "on-demand" and kinds <= _SPOT:
        return (
            f"{where} has {shown}, the target says `capacity: on-demand`, so that interruptions would "
            "be taken for broken machines: write `capacity: spot`, or name an on-demand queue"
        )
    return None


def environment_warning(
    target: Target, queue: Mapping[str, Any], types: Mapping[str, str], where: str
) -> str | None:
    """What runs all the same, though not as the target says."""
    kinds, shown = _kinds(queue, types)
    if target.capacity == "spot" and kinds and kinds <= _ON_DEMAND:
        return (
            f"{where} has {shown}, the target says `capacity: spot`: its jobs cost the on-demand price. "
            "Write `capacity: on-demand`, or name a Spot queue"
        )
    return None


def _names(queue: Mapping[str, Any]) -> list[str]:
    return [one["computeEnvironment"] for one in queue.get("computeEnvironmentOrder", [])]


def _kinds(queue: Mapping[str, Any], types: Mapping[str, str]) -> tuple[set[str], str]:
    """The types, and the environments with theirs in words; no types where one is not known."""
    names = _names(queue)
    if not all(name in types for name in names):
        return set(), ""
    each = ", ".join(f"{name.rpartition('/')[2]} ({types[name]})" for name in names)
    return {types[name] for name in names}, f"the compute environments {each}"
