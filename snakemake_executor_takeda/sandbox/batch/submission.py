"""SubmitJob's checks, and the job that comes of its members."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from snakemake_executor_takeda.sandbox.batch import limits
from snakemake_executor_takeda.sandbox.batch.consumables import Consumables
from snakemake_executor_takeda.sandbox.batch.container import (
    check_resources,
    overridden,
    resources_of,
)
from snakemake_executor_takeda.sandbox.batch.definitions import (
    check_priority,
    check_retry_strategy,
    check_timeout,
)
from snakemake_executor_takeda.sandbox.batch.jobs import Job, Spec
from snakemake_executor_takeda.sandbox.batch.multinode import (
    node_containers,
    resolved,
    total_resources,
)
from snakemake_executor_takeda.sandbox.batch.paging import client_error

_OF_NODES = {"consumableResourceProperties", "consumableResourcePropertiesOverride"}
_NOT_HERE = ("eksPropertiesOverride", "ecsPropertiesOverride")


def make_spec(
    params: Mapping[str, Any],
    definition: Mapping[str, Any],
    queue: Mapping[str, Any],
    payload_bytes: int,
    queue_takes_fargate: bool,
    *,
    consumables: Consumables,
) -> Spec:
    """What will run. Raises ServiceError for what Batch refuses."""
    if payload_bytes > limits.SUBMIT_PAYLOAD_BYTES:
        raise client_error(
            f"the request has {payload_bytes} bytes; at most {limits.SUBMIT_PAYLOAD_BYTES} are allowed"
        )
    name = params["jobName"]
    if not limits.JOB_NAME.fullmatch(name):
        raise client_error(
            f"jobName {name!r} must begin with a letter or digit and hold up to 128 letters, digits, "
            "hyphens and underscores"
        )
    for word in _NOT_HERE:
        if word in params:
            raise client_error(f"the sandbox does not have {word} in SubmitJob")
    if queue["state"] != "ENABLED":
        raise client_error(f"the job queue {queue['jobQueueName']} is disabled")
    platforms = definition["platformCapabilities"]
    if ("FARGATE" in platforms) != queue_takes_fargate:
        raise client_error(
            f"a job definition for {' and '.join(platforms)} cannot run in the job queue "
            f"{queue['jobQueueName']}"
        )
    _check_share(params, queue)
    priority = params.get("schedulingPriorityOverride", definition.get("schedulingPriority"))
    check_priority(priority)
    nodes = _nodes(params, definition)
    needs = params.get("consumableResourcePropertiesOverride") or definition.get(
        "consumableResourceProperties", {}
    )
    groups = [
        *params.get("nodeOverrides", {}).get("nodePropertyOverrides", []),
        *(nodes or {}).get("nodeRangeProperties", []),
    ]
    if nodes is not None and (needs or any(_OF_NODES & set(group) for group in groups)):
        raise client_error(
            "the sandbox does not have consumable resources of jobs of several nodes"
        )
    if nodes is not None:
        containers = node_containers(nodes)
        container, resources = containers[nodes["mainNode"]], total_resources(containers)
    else:
        containers = []
        container = overridden(
            definition["containerProperties"], params.get("containerOverrides", {})
        )
        resources = resources_of(container)
        check_resources(resources, platforms)
    retry = params.get("retryStrategy") or definition.get("retryStrategy", {})
    check_retry_strategy(retry)
    timeout = params.get("timeout") or definition.get("timeout", {})
    check_timeout(timeout)
    return Spec(
        job_name=name,
        queue_arn=queue["jobQueueArn"],
        definition_arn=definition["jobDefinitionArn"],
        container=container,
        vcpus=resources.vcpus,
        memory_mib=resources.memory_mib,
        gpus=resources.gpus,
        parameters={**definition.get("parameters", {}), **params.get("parameters", {})},
        attempts=retry.get("attempts", 1),
        evaluate_on_exit=retry.get("evaluateOnExit", []),
        timeout_seconds=timeout.get("attemptDurationSeconds"),
        depends_on=params.get("dependsOn", []),
        array_size=_array_size(params),
        tags=params.get("tags", {}),
        propagate_tags=params.get("propagateTags", definition.get("propagateTags")),
        platforms=list(platforms),
        share_identifier=params.get("shareIdentifier"),
        scheduling_priority=priority,
        consumables=consumables.needed(needs),
        node_properties=nodes,
        node_specs=[{"container": one, **asdict(resources_of(one))} for one in containers],
    )


def _check_share(params: Mapping[str, Any], queue: Mapping[str, Any]) -> None:
    share = params.get("shareIdentifier")
    if share is not None and not limits.SHARE_IDENTIFIER.fullmatch(share):
        raise client_error(f"shareIdentifier {share!r} must be 1 to 255 letters and digits")
    if (share is not None) != bool(queue.get("schedulingPolicyArn")):
        raise client_error(
            f"the job queue {queue['jobQueueName']} has "
            + ("no scheduling policy: leave out" if share else "a scheduling policy: give a")
            + " shareIdentifier"
        )


def set_dependencies(job: Job, find: Callable[[str], Job | None]) -> None:
    """Note in the job and its children what each waits for. Raises ServiceError for what is not there."""
    dependencies = job.spec.depends_on
    if len(dependencies) > limits.DEPENDENCIES:
        raise client_error(f"at most {limits.DEPENDENCIES} dependsOn, not {len(dependencies)}")
    for dependency in dependencies:
        kind, job_id = dependency.get("type"), dependency.get("jobId")
        if kind == "SEQUENTIAL":
            if job_id is not None or not job.is_parent:
                raise client_error("a SEQUENTIAL dependency is for array jobs and has no jobId")
            for child in job.children[1:]:
                child.waits_for.add(f"{job.job_id}:{(child.index or 0) - 1}")
            continue
        other = None if job_id is None else find(job_id)
        if other is None:
            raise client_error(f"dependsOn names a job that does not exist: {job_id!r}")
        if kind == "N_TO_N":
            if len(other.children) != len(job.children) or not job.is_parent:
                raise client_error("an N_TO_N dependency is between array jobs of one size")
            for child in job.children:
                child.waits_for.add(f"{other.job_id}:{child.index}")
        else:
            job.waits_for.add(other.job_id)


def _nodes(params: Mapping[str, Any], definition: Mapping[str, Any]) -> dict[str, Any] | None:
    """The nodes of a job of several; None for one container."""
    if definition["type"] != "multinode":
        if "nodeOverrides" in params:
            raise client_error("nodeOverrides are for job definitions of type multinode")
        return None
    for word in ("containerOverrides", "arrayProperties"):
        if word in params:
            raise client_error(f"a job of several nodes takes no {word}")
    return resolved(definition["nodeProperties"], params.get("nodeOverrides", {}))


def _array_size(params: Mapping[str, Any]) -> int | None:
    if "arrayProperties" not in params:
        return None
    size = params["arrayProperties"].get("size")
    if size not in limits.ARRAY_SIZE:
        raise client_error(f"arrayProperties.size must be between 2 and 10000, not {size}")
    return int(size)
