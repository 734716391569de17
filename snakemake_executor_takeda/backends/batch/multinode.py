"""Jobs of several nodes: their definition, their SubmitJob, and which node's words explain their end. Pure.

Batch starts the same container on every node, all or none. The worker in it finds the other nodes, and
only the main node runs the task: see `worker.nodes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends import aws
from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.batch.outcomes import exit_code, failure_kind
from snakemake_executor_takeda.backends.batch.shapes import ranks_per_node
from snakemake_executor_takeda.commands.rewording import with_text
from snakemake_executor_takeda.values import ANY_LAUNCHER, FailureKind, Outcome
from snakemake_executor_takeda.worker.exits import NODE_LOST, NODES_MISSING, NODES_UNFIT
from snakemake_executor_takeda.worker.mpi import FOR_EFA

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.base import RunContext
    from snakemake_executor_takeda.backends.batch.options import BatchOptions
    from snakemake_executor_takeda.values import Submission, Target

LAUNCHER = "mpirun"
ALL_NODES = "0:"
"""A range with an open end: one definition does for any number of nodes."""
MAIN_NODE = 0
_PLACEHOLDER_NODES = 2
_EFA_DEVICE = "/dev/infiniband/uverbs{}"

_OURS: Mapping[int, tuple[FailureKind, str, str]] = {
    NODE_LOST: (
        FailureKind.NODE_FAILURE,
        "a node of the job went away",
        "the log names it; see its own log in Batch (JOB#INDEX)",
    ),
    NODES_MISSING: (
        FailureKind.NODE_FAILURE,
        "not all nodes of the job started in time",
        "see their logs in Batch (JOB#INDEX), or raise `node_wait` of the target",
    ),
    NODES_UNFIT: (
        FailureKind.CONFIGURATION,
        "a node of the job is not what the target says, or cannot be reached",
        "the log says what to change",
    ),
}
"""Exit codes of the worker → kind, reason, advice."""
_TELLING = frozenset(
    {
        *(FailureKind.INTERRUPTED, FailureKind.NODE_FAILURE, FailureKind.IMAGE),
        *(FailureKind.CONFIGURATION, FailureKind.OUT_OF_MEMORY),
    }
)


def is_multinode(submission: Submission) -> bool:
    return submission.tasks[0].job.shape.nodes > 1


def check(target: Target, nodes: int) -> None:
    """Raises SubmissionError(configuration) for a target that Batch runs no such jobs on."""
    options: BatchOptions = target.options
    what = f"nodes={nodes} on target {target.name!r}"
    if options.platform == "FARGATE":
        raise SubmissionError(
            FailureKind.CONFIGURATION,
            f"{what}: Fargate has no jobs of several nodes",
            "route rules with `nodes` to a target with `platform: EC2`",
        )
    if target.capacity == "spot":
        raise SubmissionError(
            FailureKind.CONFIGURATION,
            f"{what}, whose capacity is spot: Batch runs jobs of several nodes On-Demand only",
            "route rules with `nodes` to a target with `capacity: on-demand`",
        )


def check_launcher(mpi: str | None) -> None:
    """Raises SubmissionError(configuration) for a launcher that only Slurm has."""
    words = (mpi or "").split()
    if words and PurePosixPath(words[0]).name == "srun":
        raise SubmissionError(
            FailureKind.CONFIGURATION,
            f"mpi={mpi!r}: srun is Slurm's, and Batch has none",
            'set `mpi="mpirun"`, or route rules with `mpi` to a Slurm target',
        )


def with_launcher(submission: Submission) -> Submission:
    """The same tasks, where rules say `mpi=True` with the launcher that containers have."""
    if submission.tasks[0].job.shape.mpi != ANY_LAUNCHER:
        return submission
    tasks = tuple(
        replace(
            task, argv=with_text(task.argv, task.job.rules or (task.job.rule,), "mpi", LAUNCHER)
        )
        for task in submission.tasks
    )
    return replace(submission, tasks=tasks)


def node_content(target: Target, container: dict[str, Any]) -> dict[str, Any]:
    """The content of a job definition for any number of nodes, each with this container."""
    group: dict[str, Any] = {"targetNodes": ALL_NODES, "container": _with_efa(target, container)}
    exact = [one for one in target.instances if "." in one]
    if exact:
        group["instanceTypes"] = exact[:1]
    return {
        "type": "multinode",
        "propagateTags": True,
        "nodeProperties": {
            "numNodes": _PLACEHOLDER_NODES,
            "mainNode": MAIN_NODE,
            "nodeRangeProperties": [group],
        },
    }


def node_overrides(
    submission: Submission, context: RunContext, overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """`nodeOverrides` of SubmitJob, where `overrides` are those of one node's container.

    Raises SubmissionError(configuration).
    """
    target, job = submission.target, submission.tasks[0].job
    check(target, job.shape.nodes)
    container = {
        **overrides,
        "command": [*overrides["command"], *_worker_words(submission, context)],
    }
    if target.efa:
        container["environment"] = [
            *overrides.get("environment", ()),
            *({"name": name, "value": value} for name, value in FOR_EFA.items()),
        ]
    override: dict[str, Any] = {"targetNodes": ALL_NODES, "containerOverrides": container}
    if job.resources.get("instance_type"):
        override["instanceTypes"] = [str(job.resources["instance_type"])]
    return {"numNodes": job.shape.nodes, "nodePropertyOverrides": [override]}


def node_ids(job_id: str, nodes: int) -> list[str]:
    """What DescribeJobs knows the nodes by."""
    return [f"{job_id}#{index}" for index in range(nodes)]


def explained_by_nodes(
    detail: Mapping[str, Any], nodes: Mapping[str, Mapping[str, Any]], capacity: str | None
) -> dict[str, Any]:
    """The description of a job with what those of its nodes add: the main node's exit code and log, and
    the reason of another node's end where that is why the job failed."""
    main = nodes.get(f"{detail['jobId']}#{MAIN_NODE}", {})
    container = {**(detail.get("container") or {}), **(main.get("container") or {})}
    found = {**detail, "container": container}
    lost = exit_code(found) in _OURS
    for job_id, node in sorted(nodes.items()):
        if node is main or node.get("status") != "FAILED":
            continue
        kind = failure_kind(node, capacity)
        if kind == FailureKind.OUT_OF_MEMORY or (lost and kind in _TELLING):
            reason = (node.get("container") or {}).get("reason")
            found["statusReason"] = f"node {job_id.rpartition('#')[2]}: {node.get('statusReason')}"
            found["container"] = {**container, **({"reason": reason} if reason else {})}
            break
    return found


def refined(outcome: Outcome) -> Outcome:
    """The outcome where the worker itself ended the job: not the user's doing."""
    ours = _OURS.get(outcome.exit_code or 0)
    if ours is None or outcome.kind != FailureKind.USER:
        return outcome
    kind, reason, advice = ours
    return replace(outcome, kind=kind, reason=reason, advice=advice)


def _worker_words(submission: Submission, context: RunContext) -> list[str]:
    target, shape = submission.target, submission.tasks[0].job.shape
    options: BatchOptions = target.options
    meeting = aws.join_s3_uri(context.remote_prefix or "", "nodes", submission.submission_id)
    words = ["--nodes", meeting, "--node-wait", str(60 * options.node_wait)]
    words += ["--ranks", str(shape.tasks), "--ranks-per-node", str(ranks_per_node(shape))]
    words += ["--cpus-per-rank", str(shape.cpus)]
    if target.efa:
        words += ["--efa-devices", str(options.efa_interfaces)]
    return words


def _with_efa(target: Target, container: dict[str, Any]) -> dict[str, Any]:
    if not target.efa:
        return container
    linux = dict(container.get("linuxParameters", {}))
    devices = [_EFA_DEVICE.format(number) for number in range(target.options.efa_interfaces)]
    linux["devices"] = [
        *linux.get("devices", ()),
        *(
            {"hostPath": one, "containerPath": one, "permissions": ["READ", "WRITE", "MKNOD"]}
            for one in devices
        ),
    ]
    limits = list(container.get("ulimits", ()))
    if not any(limit["name"] == "memlock" for limit in limits):
        # EFA pins memory, of which a container may have 64 KiB
        limits.append({"name": "memlock", "softLimit": -1, "hardLimit": -1})
    return {**container, "linuxParameters": linux, "ulimits": limits}
