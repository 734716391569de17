"""Multi-node parallel jobs: node ranges, what each node runs, and how a node knows the others. Pure.

A job of several nodes is a parent that is placed, timed and retried as one job; its children are the
nodes, `job#0`, `job#1` …, each a container of its own. The main node's end is the job's end.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from snakemake_executor_takeda.sandbox.batch.container import (
    Resources,
    check_container,
    check_resources,
    overridden,
    resources_of,
)
from snakemake_executor_takeda.sandbox.batch.jobs import Ending, Job
from snakemake_executor_takeda.sandbox.batch.paging import client_error

MAIN_NODE_ENDED = Ending("The main node of the job has exited", can_retry=False)
"""How the other nodes end when the main node has. (Batch's own words for it are not documented.)"""

ONE_MACHINE: Mapping[str, str] = {
    # TCP over the loopback device, as all nodes are this machine and share its CPUs
    "OMPI_MCA_pml": "ob1",
    "OMPI_MCA_btl": "tcp,self",
    "OMPI_MCA_btl_tcp_if_include": "lo",
    "OMPI_MCA_oob_tcp_if_include": "lo",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "PRTE_MCA_prte_if_include": "lo",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
}
"""Settings of Open MPI that only the sandbox needs; a job's own win."""


def check_node_properties(properties: Mapping[str, Any]) -> None:
    """Raises ServiceError for what RegisterJobDefinition refuses."""
    number, main = properties["numNodes"], properties["mainNode"]
    if number < 1:
        raise client_error(f"nodeProperties.numNodes must be at least 1, not {number}")
    _check_main(main, number)
    for one in properties["nodeRangeProperties"]:
        if "ecsProperties" in one or "eksProperties" in one:
            raise client_error("the sandbox does not have ecsProperties or eksProperties of nodes")
        if "container" not in one:
            raise client_error(f"the node range {one['targetNodes']!r} needs a container")
        if len(one.get("instanceTypes", [])) > 1:
            raise client_error("instanceTypes of a node range takes one element")
        check_container(one["container"], ["EC2"])
    _check_covered(properties["nodeRangeProperties"], number)


def resolved(properties: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A definition's nodeProperties with SubmitJob's nodeOverrides in force: what DescribeJobs shows.

    Raises ServiceError for what SubmitJob refuses.
    """
    ranges = properties["nodeRangeProperties"]
    number = overrides.get("numNodes", properties["numNodes"])
    if number < 1:
        raise client_error(f"nodeOverrides.numNodes must be at least 1, not {number}")
    if "numNodes" in overrides:
        if not any(one["targetNodes"].endswith(":") for one in ranges):
            raise client_error(
                "nodeOverrides.numNodes needs a node range with an open upper boundary, such as 0:"
            )
        if any(_bounds(one["targetNodes"], None)[0] >= number for one in ranges):
            raise client_error(
                f"a node range of the job definition begins beyond the {number} nodes"
            )
    _check_main(properties["mainNode"], number)
    changed = [_with_overrides(one, overrides, number) for one in ranges]
    for one in changed:
        check_resources(resources_of(one["container"]), ["EC2"])
    _check_covered(changed, number)
    return {
        "numNodes": number,
        "mainNode": properties["mainNode"],
        "nodeRangeProperties": changed,
    }


def node_containers(properties: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The containerProperties of each node, by index; of nested ranges the narrowest counts."""
    number = properties["numNodes"]
    found = []
    for index in range(number):
        holding = [
            (last - first, one)
            for one in properties["nodeRangeProperties"]
            for first, last in [_bounds(one["targetNodes"], number)]
            if first <= index <= last
        ]
        found.append(min(holding, key=lambda pair: pair[0])[1]["container"])
    return found


def total_resources(containers: Sequence[Mapping[str, Any]]) -> Resources:
    """What all nodes take together: they start together or not at all."""
    each = [resources_of(container) for container in containers]
    return Resources(
        sum(one.vcpus for one in each),
        sum(one.memory_mib for one in each),
        sum(one.gpus for one in each),
    )


def node_environment(node: Job) -> dict[str, str]:
    """What Batch says to a node about the job: the main node's address only to the others.

    `TAKEDA_NODE_ADDRESS` is the sandbox's: on AWS a container has a network of its own to look at.
    """
    parent = node.parent
    properties = parent.spec.node_properties if parent else None
    if parent is None or properties is None:
        return {}
    main, index = properties["mainNode"], node.index or 0
    variables = {
        "AWS_BATCH_JOB_NODE_INDEX": str(index),
        "AWS_BATCH_JOB_MAIN_NODE_INDEX": str(main),
        "AWS_BATCH_JOB_NUM_NODES": str(properties["numNodes"]),
        "TAKEDA_NODE_ADDRESS": address(parent.job_id, index, main),
    }
    if index != main:
        variables["AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS"] = address(
            parent.job_id, main, main
        )
    return variables


def address(job_id: str, index: int, main: int) -> str:
    """Each node has a loopback address of its own: Linux answers on all of 127.0.0.0/8.

    The main node has 127.0.0.1, so that launchers there find that it is the machine they run on.
    """
    if index == main:
        return "127.0.0.1"
    block = zlib.crc32(job_id.encode()) % (250 * 250)
    return f"127.{1 + block // 250}.{block % 250}.{index % 250 + 1}"


def node_details(node: Job) -> dict[str, Any] | None:
    """`nodeDetails` in DescribeJobs."""
    if not node.is_node:
        return None
    return {"nodeIndex": node.index, "isMainNode": is_main(node)}


def node_summary(job: Job) -> dict[str, Any] | None:
    """`nodeProperties` in ListJobs, of a job of several nodes or of one of them."""
    if job.is_node:
        properties = job.parent.spec.node_properties if job.parent else None
        number = properties["numNodes"] if properties else None
        return {"isMainNode": is_main(job), "numNodes": number, "nodeIndex": job.index}
    if job.spec.node_properties is not None:
        return {"numNodes": job.spec.node_properties["numNodes"]}
    return None


def is_main(node: Job) -> bool:
    """Whether this node decides how its job ends."""
    properties = node.parent.spec.node_properties if node.parent else None
    return properties is not None and node.index == properties["mainNode"]


def _with_overrides(
    one: Mapping[str, Any], overrides: Mapping[str, Any], number: int
) -> dict[str, Any]:
    first, last = _bounds(one["targetNodes"], number)
    changed = dict(one)
    for override in overrides.get("nodePropertyOverrides", []):
        if "ecsPropertiesOverride" in override or "eksPropertiesOverride" in override:
            raise client_error("the sandbox does not have ecs or eks overrides of nodes")
        start, end = _bounds(override["targetNodes"], number)
        if end < first or start > last:
            continue
        if start > first or end < last:
            raise client_error(
                f"the override of nodes {override['targetNodes']!r} must cover the definition's node "
                f"range {one['targetNodes']!r}"
            )
        if "containerOverrides" in override:
            changed["container"] = overridden(changed["container"], override["containerOverrides"])
        if "instanceTypes" in override:
            changed["instanceTypes"] = override["instanceTypes"]
    return changed


def _bounds(text: str, number: int | None) -> tuple[int, int]:
    """First and last index of `0:3`, `:3`, `0:` or `2`. Raises ServiceError for other text."""
    first, colon, last = text.partition(":")
    if not colon:
        last = first
    try:
        low = int(first) if first else 0
        high = int(last) if last else (number or low + 1) - 1
    except ValueError:
        raise client_error(f"targetNodes {text!r} is no range of nodes such as 0:3") from None
    return low, high


def _check_main(main: int, number: int) -> None:
    if not 0 <= main < number:
        raise client_error(f"mainNode {main} must be less than the number of nodes, {number}")


def _check_covered(ranges: Sequence[Mapping[str, Any]], number: int) -> None:
    bounds = [_bounds(one["targetNodes"], number) for one in ranges]
    for index in range(number):
        if not any(first <= index <= last for first, last in bounds):
            raise client_error(f"no node range holds node {index} of {number}")
