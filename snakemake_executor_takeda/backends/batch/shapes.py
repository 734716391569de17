"""Shape → what SubmitJob overrides: resource requirements and timeout. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.routing.instances import DEFAULT_MEM_MIB, fitted_memory
from snakemake_executor_takeda.routing.instances_serverless import fargate_size
from snakemake_executor_takeda.values import FailureKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from snakemake_executor_takeda.backends.batch.options import BatchOptions
    from snakemake_executor_takeda.values import Shape, Target

MIN_MEM_MIB = 4
MIN_TIMEOUT_S = 60
FARGATE_DISK_GIB = 20
"""What a Fargate task has without asking."""
FARGATE_MAX_DISK_GIB = 200
_DISK_STEP_GIB = 10
"""The disk is part of the job definition: steps keep those few."""


def resource_requirements(
    shape: Shape, platform: str, instances: Sequence[str] = ()
) -> list[dict[str, str]]:
    """`resourceRequirements` of a container, of each node's where there are several: as asked on EC2,
    rounded up on Fargate.

    On EC2 a job that asks for all that its target's `instances` have gets what they can give. Raises
    SubmissionError(configuration) for what the platform cannot give.
    """
    cpus, mem_mib = asked(shape)
    if platform == "FARGATE":
        if shape.gpus:
            raise _impossible(
                f"{shape.gpus} GPU: Fargate has none", "route rules with `gpu` to an EC2 target"
            )
        fargate_disk_gib(shape.disk_mb)
        cpus, mem_mib = fargate_pair(cpus, mem_mib)
    else:
        mem_mib = fitted_memory(cpus, mem_mib, instances)
    requirements = [
        {"type": "VCPU", "value": str(cpus)},
        {"type": "MEMORY", "value": str(max(mem_mib, MIN_MEM_MIB))},
    ]
    if shape.gpus:
        requirements.append({"type": "GPU", "value": str(-(-shape.gpus // shape.nodes))})
    return requirements


def asked(shape: Shape) -> tuple[int, int]:
    """vCPUs and MiB that a job asks of one node, before any platform has its say."""
    cpus = shape.cpus * ranks_per_node(shape) if shape.mpi or shape.nodes > 1 else shape.cpus
    return cpus, DEFAULT_MEM_MIB if shape.mem_mb is None else mebibytes(shape.mem_mb)


def ranks_per_node(shape: Shape) -> int:
    """All on one node; on several `tasks_per_node`, or their share rounded up.

    Raises SubmissionError(configuration) where the ranks do not fit.
    """
    if shape.nodes == 1:
        return shape.tasks
    each = shape.tasks_per_node or -(-shape.tasks // shape.nodes)
    if each * shape.nodes < shape.tasks:
        raise _impossible(
            f"tasks={shape.tasks} do not fit on nodes={shape.nodes} with tasks_per_node={each}",
            "raise one of the others, or leave out `tasks_per_node`",
        )
    return each


def lowered_memory(shape: Shape, target: Target) -> str | None:
    """What to say where a job gets less memory than it asks for; None where it gets all of it."""
    if target.options.platform == "FARGATE":
        return None
    cpus, mem_mib = asked(shape)
    given = fitted_memory(cpus, mem_mib, target.instances)
    if given == mem_mib:
        return None
    return (
        f"target {target.name!r}: a job asks for {mem_mib} MiB, all that its largest instance has; "
        f"it gets {given} MiB, as the instance keeps the rest for itself. mem_mb up to "
        f"{given * 2**20 // 10**6} is given as asked"
    )


def fargate_disk_gib(disk_mb: int | None) -> int | None:
    """GiB of ephemeral storage in steps of ten, None where the 20 GiB of every task are enough.

    Raises SubmissionError above 200 GiB.
    """
    gib = -(-(disk_mb or 0) * 10**6 // 2**30)
    if gib <= FARGATE_DISK_GIB:
        return None
    if gib > FARGATE_MAX_DISK_GIB:
        raise _impossible(
            f"disk_mb={disk_mb}: a Fargate task has at most {FARGATE_MAX_DISK_GIB} GiB",
            "route the rule to an EC2 target, or lower disk_mb if it is Snakemake's own guess",
        )
    return -(-gib // _DISK_STEP_GIB) * _DISK_STEP_GIB


def timeout(shape: Shape, options: BatchOptions) -> dict[str, Any] | None:
    """`timeout` of SubmitJob (per child, per attempt), from `runtime` or the target; None for none."""
    minutes = shape.runtime_min or options.timeout
    return {"attemptDurationSeconds": max(60 * minutes, MIN_TIMEOUT_S)} if minutes else None


def mebibytes(mem_mb: int) -> int:
    """Snakemake's mem_mb (10^6 bytes) in Batch's MiB (2^20 bytes), rounded up."""
    return -(-mem_mb * 10**6 // 2**20)


def fargate_pair(cpus: int, mem_mib: int) -> tuple[int, int]:
    """The least legal pair of vCPU and MiB with at least this much of both."""
    size = fargate_size(cpus, mem_mib)
    if size is not None:
        return size
    raise _impossible(
        f"{cpus} CPUs with {mem_mib} MiB: Fargate's largest task has 32 vCPU and 244 GiB",
        "route the rule to an EC2 target",
    )


def _impossible(reason: str, advice: str) -> SubmissionError:
    return SubmissionError(FailureKind.CONFIGURATION, reason, advice)
