"""Jobs as the emulator keeps them: what was asked (frozen) and how far it got."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    SUBMITTED = "SUBMITTED"
    PENDING = "PENDING"
    RUNNABLE = "RUNNABLE"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"

    @property
    def is_final(self) -> bool:
        return self in (Status.SUCCEEDED, Status.FAILED)


WAITING = frozenset({Status.SUBMITTED, Status.PENDING, Status.RUNNABLE})
"""What CancelJob ends; only TerminateJob ends more."""


@dataclass(frozen=True)
class Spec:
    """A job as SubmitJob made it of definition and overrides; the children of an array share it."""

    job_name: str
    queue_arn: str
    definition_arn: str
    container: dict[str, Any]
    """The definition's containerProperties with command, environment and resources overridden."""
    vcpus: float
    memory_mib: int
    gpus: int = 0
    parameters: dict[str, str] = field(default_factory=dict)
    attempts: int = 1
    evaluate_on_exit: list[dict[str, str]] = field(default_factory=list)
    timeout_seconds: int | None = None
    depends_on: list[dict[str, str]] = field(default_factory=list)
    array_size: int | None = None
    tags: dict[str, str] = field(default_factory=dict)
    propagate_tags: bool | None = None
    platforms: list[str] = field(default_factory=list)
    share_identifier: str | None = None
    scheduling_priority: int | None = None
    consumables: list[dict[str, Any]] = field(default_factory=list)
    """Members of consumableResourceList, by ARN."""
    node_properties: dict[str, Any] | None = None
    """nodeProperties with overrides in force, for a job of several nodes; then `container` is the main
    node's, and vCPUs, memory and GPUs are those of all nodes together."""
    node_specs: list[dict[str, Any]] = field(default_factory=list)
    """Of each node what differs from the job's: `container`, `vcpus`, `memory_mib`, `gpus`."""


@dataclass(frozen=True)
class Ending:
    """How one attempt ended, in the service's words."""

    status_reason: str
    exit_code: int | None = None
    reason: str | None = None
    """The container's reason, such as OutOfMemoryError; absent for a program's own exit."""
    can_retry: bool = True
    """False for what Batch never retries: timeouts, cancelled and terminated jobs."""

    @property
    def succeeded(self) -> bool:
        return self.exit_code == 0 and self.reason is None and self.can_retry


@dataclass(slots=True, eq=False)
class Job:
    """A job, an array's parent or child, a job of several nodes or one of its nodes. Times are epoch
    milliseconds."""

    job_id: str
    spec: Spec
    created_at: int
    parent: Job | None = None
    index: int | None = None
    status: Status = Status.SUBMITTED
    status_reason: str | None = None
    runnable_at: int | None = None
    started_at: int | None = None
    stopped_at: int | None = None
    attempts: list[dict[str, Any]] = field(default_factory=list)
    """AttemptDetail of each attempt that has ended."""
    exit_code: int | None = None
    reason: str | None = None
    log_stream: str | None = None
    task_arn: str | None = None
    instance_arn: str | None = None
    is_cancelled: bool = False
    is_terminated: bool = False
    environment_name: str | None = None
    """The compute environment of the current or last attempt."""
    waits_for: set[str] = field(default_factory=set)
    """Ids of jobs that must succeed first."""
    children: list[Job] = field(default_factory=list)
    """An array's children, or the nodes of a job of several."""
    ending: Ending | None = None
    """How a node's current attempt ended."""
    summary: Counter[Status] = field(default_factory=Counter)
    """Children by status, for a parent."""
    summary_at: int | None = None

    @property
    def is_parent(self) -> bool:
        return self.parent is None and self.spec.array_size is not None

    @property
    def is_multinode(self) -> bool:
        return self.parent is None and self.spec.node_properties is not None

    @property
    def is_node(self) -> bool:
        return self.parent is not None and self.parent.is_multinode

    @property
    def attempt(self) -> int:
        """Number of the current or next attempt, from 1."""
        return len(self.attempts) + 1


_STATE = (
    *(
        "status",
        "status_reason",
        "runnable_at",
        "started_at",
        "stopped_at",
        "attempts",
        "exit_code",
    ),
    *("reason", "log_stream", "task_arn", "instance_arn", "is_cancelled", "is_terminated"),
    *("environment_name", "summary_at"),
)


def new_job(job_id: str, spec: Spec, now: int) -> Job:
    """A job just submitted; for an array with all its children, for several nodes with the nodes."""
    job = Job(job_id, spec, now)
    if spec.node_properties is not None:
        job.children = [
            Job(f"{job_id}#{index}", _node_spec(spec, index), now, parent=job, index=index)
            for index in range(len(spec.node_specs))
        ]
    if spec.array_size is not None:
        job.children = [
            Job(f"{job_id}:{index}", spec, now, parent=job, index=index)
            for index in range(spec.array_size)
        ]
        job.summary = Counter({Status.SUBMITTED: spec.array_size})
        job.summary_at = now
    return job


def _node_spec(spec: Spec, index: int) -> Spec:
    is_main = spec.node_properties is not None and index == spec.node_properties["mainNode"]
    return replace(
        spec,
        **spec.node_specs[index],
        node_properties=None,
        node_specs=[],
        # the job's time, and so its end, is the main node's
        timeout_seconds=spec.timeout_seconds if is_main else None,
    )


def with_children(job: Job) -> Iterator[Job]:
    """The job itself and, of an array, its children, of several nodes, the nodes."""
    yield job
    yield from job.children


def state_of(job: Job) -> dict[str, Any]:
    """What changes in a job's life, as JSON values."""
    return {name: value for name in _STATE if (value := getattr(job, name)) is not None}


def restore_state(job: Job, state: dict[str, Any]) -> None:
    """Undo `state_of`."""
    for name in _STATE:
        if name in state:
            setattr(job, name, state[name])
    job.status = Status(job.status)


def spec_to_json(spec: Spec) -> dict[str, Any]:
    return asdict(spec)


def spec_from_json(value: dict[str, Any]) -> Spec:
    return Spec(**value)
