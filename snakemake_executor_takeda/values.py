"""The values that travel from the adapter to a backend and back: frozen, no I/O, no AWS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any


class TakedaError(Exception):
    """A mistake or a lack that the user can mend; the message says how. Shown without traceback."""


class Unknown(Enum):
    """What a param is as long as it depends on a file that is not on this machine."""

    VALUE = "unknown"


UNKNOWN = Unknown.VALUE


class FailureKind(StrEnum):
    """Why a task did not succeed. The kind, not the exit code, decides what happens next."""

    USER = "user"
    OUT_OF_MEMORY = "out_of_memory"
    INTERRUPTED = "interrupted"
    NODE_FAILURE = "node_failure"
    NO_CAPACITY = "no_capacity"
    TIMEOUT = "timeout"
    IMAGE = "image"
    CONFIGURATION = "configuration"
    LOST = "lost"


ANY_LAUNCHER = "true"
"""A rule that says only that it is of MPI: which launcher starts its ranks is the target's choice."""


@dataclass(frozen=True)
class Shape:
    """What one job asks of a node. Tasks of one shape on one target can share an array."""

    cpus: int = 1
    """CPUs of each MPI rank, or of the whole job where `mpi` is not set (Snakemake's threads)."""
    mem_mb: int | None = None
    """Memory of the whole job in MB (10^6 bytes as Snakemake has it), per node if nodes > 1."""
    disk_mb: int | None = None
    gpus: int = 0
    gpu_model: str | None = None
    runtime_min: int | None = None
    nodes: int = 1
    tasks: int = 1
    """MPI ranks over all nodes."""
    tasks_per_node: int | None = None
    mpi: str | None = None
    """The launcher as the rule gives it, such as `srun --mpi=pmix` or `mpirun`, or ANY_LAUNCHER."""


@dataclass(frozen=True)
class File:
    """An input or output of a job."""

    path: str
    """The path the job's command sees, relative to the working directory."""
    uri: str | None
    """`s3://…` where the file lives in storage, None on a shared file system."""
    is_directory: bool = False


@dataclass(frozen=True)
class NamedFiles:
    """The files of one keyword of `input:` or `output:`; name is None for positional ones."""

    name: str | None
    files: tuple[File, ...]
    is_list: bool
    """True where the rule gave a list under the name, so that one file is still an array."""


@dataclass(frozen=True)
class JobSpec:
    """One Snakemake job (or group job) at one attempt, free of Snakemake's own objects."""

    job_id: int | str
    """Snakemake's number of the job; for a group job its id."""
    rule: str
    """Rule name; for a group job the group's name."""
    wildcards: Mapping[str, str]
    attempt: int
    shape: Shape
    resources: Mapping[str, int | float | str]
    """Every resource of the job by name, as Snakemake evaluated it."""
    container: str | None = None
    inputs: tuple[NamedFiles, ...] = ()
    outputs: tuple[NamedFiles, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    """Named params as Snakemake evaluated them."""
    benchmark: File | None = None
    logs: tuple[File, ...] = ()
    """The rule's `log:`, where the job is a hand-off."""
    input_bytes: int | None = None
    """Size of the inputs where it is known without a remote call."""
    source_line: str = ""
    """`path/to/Snakefile:12`, for messages."""
    is_group: bool = False
    rules: tuple[str, ...] = ()
    """Names of the rules in it: one, or several for a group job."""
    identity: str = ""
    """Equal for jobs that make the same files by the same rules; empty where nobody asks."""
    fingerprint: str = ""
    """Equal for jobs that do the same with the same: code, params, inputs, container."""
    members: tuple[tuple[str, str], ...] = ()
    """Identity and fingerprint of each job of a group job that makes files."""

    @property
    def parts(self) -> frozenset[tuple[str, str]]:
        """Identity and fingerprint of all that is one Snakemake job in it."""
        return frozenset(self.members or ((self.identity, self.fingerprint),))


@dataclass(frozen=True)
class RetryRules:
    """How often a target's failures that are not the job's doing are repeated quietly, before the
    user's `retries` hears of them. Counts are per job and target, but for `total`."""

    interruptions: int | None = None
    """Losses of the node before the fallback takes over; None for the run's `--takeda-interruptions`."""
    node_failure: int | None = None
    """Nodes that fail by themselves, rather than being taken; None: `interruptions` counts them too."""
    no_capacity: int = 20
    """Where there is no fallback, which is used at once otherwise. After growing pauses."""
    image: int = 4
    """Failed pulls of the image, repeated after growing pauses."""
    lost: int = 2
    """Jobs that the service has forgotten, or would not take for want of an answer."""
    timeout: int = 0
    memory_factor: float = 1.0
    """By what the memory grows after a job ran out of it; 1 leaves that to the user's `retries`."""
    memory_times: int = 0
    memory_up_to_mb: int | None = None
    total: int = 30
    """Most submissions of a job, over all targets and kinds, the first one included."""


@dataclass(frozen=True)
class Limits:
    """The largest job that a target holds. None where that is not known: nothing is refused then."""

    threads: int | None = None
    """CPUs of a node."""
    mem_mb: int | None = None
    """Memory of a node in MB (10^6 bytes)."""
    disk_mb: int | None = None
    runtime: int | None = None
    """Minutes that a job may run."""
    gpu: int | None = None
    """GPUs of a node."""
    gpu_model: tuple[str, ...] = ()
    """All models that it has; empty where they are not known."""
    nodes: int | None = None
    """Nodes of one job."""


UNLIMITED = Limits()


@dataclass(frozen=True)
class Target:
    """A named place a job can run, as the routing policy gives it."""

    name: str
    backend: str
    capacity: str | None = None
    """`spot` or `on-demand`."""
    instances: tuple[str, ...] = ()
    fallback: str | None = None
    """The target's own; in a placement that of the job, None where it may not go there."""
    efa: bool = False
    options: Any = None
    """An instance of the backend's own options model."""
    retry: RetryRules = RetryRules()
    limits: Limits = UNLIMITED
    usd_per_cpu_hour: float | None = None
    """As the policy states it; comes before any price list."""
    usd_per_gpu_hour: float | None = None
    speed: float | None = None
    """Of a CPU, as the policy states it: 2 does the work of an hour in half of one."""
    source: str = ""
    """File and line where the policy gives it, `routing.yaml:4`; empty for one made from flags."""

    @property
    def where(self) -> str:
        """The target in a message about what the policy says of it."""
        return f"{self.source}: target {self.name!r}" if self.source else f"target {self.name!r}"


@dataclass(frozen=True)
class Placement:
    """What routing decided for one job."""

    target: Target
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """One job at one attempt on one target: the unit a backend runs."""

    task_id: str
    """Unique within the ledger; letters, digits, `-` and `_` only: safe as a file name."""
    job: JobSpec
    target: Target
    argv: tuple[str, ...] = ()
    """What the worker on the node runs, without a shell. Empty for a backend that runs no command."""


@dataclass(frozen=True)
class Submission:
    """Tasks of one shape that go out in one call: an array from two on."""

    submission_id: str
    """Unique within the ledger; letters, digits, `-` and `_` only."""
    name: str
    """A job name fit for every service: at most 100 of letters, digits, `-` and `_`."""
    target: Target
    tasks: tuple[Task, ...]


def submission_to_check(job: JobSpec, target: Target) -> Submission:
    """A submission of one job that is never sent: a backend sees whether it could be."""
    return Submission("check", "check", target, (Task("check", job, target),))


@dataclass(frozen=True)
class Accepted:
    """A service's answer to a submission."""

    external_id: str
    """Batch job id, Slurm job id or HealthOmics run id of the whole submission."""
    task_external_ids: Mapping[str, str]
    """task_id → what a person would look up: `parent:3`, `4711_3`, a run id."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """What the backend decided beyond the placement, and why: goes to the event log."""


@dataclass(frozen=True)
class Remembered:
    """A submission of a controller that is gone, as the ledger has it, with tasks that have not ended.

    Of its jobs only what it takes to watch and to end them is known: no argv, no inputs, no outputs."""

    submission: Submission
    accepted: Accepted | None
    """None where the service's answer was not written down: it may have come through or not."""
    open_task_ids: frozenset[str]
    intent_at: float
    """Unix time at which it was written down, before the call."""


@dataclass(frozen=True)
class Outcome:
    """How a task ended; `kind` is None for success."""

    kind: FailureKind | None = None
    reason: str = ""
    """The service's own words."""
    exit_code: int | None = None
    log_tail: tuple[str, ...] = ()
    log_location: str = ""
    """Where the whole log is: a path, or group and stream."""
    advice: str = ""
    """What to change, in one sentence."""
    permanent: bool = False
    """Not to be sent again by itself: the same thing would end as before, or may have been done."""
    wall_seconds: float | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    """Facts for the event log: nodes, instance type, memory peak. `log_url` and `job_url` are pages of
    the service's console, which a failure's message names."""

    @property
    def succeeded(self) -> bool:
        return self.kind is None


SUCCEEDED = Outcome()


@dataclass(frozen=True)
class Update:
    """What a poll found out about one task: it has started, or (outcome given) it has ended, or (note
    given) why it waits."""

    task_id: str
    outcome: Outcome | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    """A line for the user and the event log about a task that goes on waiting: nothing started,
    nothing ended. Say it once for a submission, with the id of any open task."""


@dataclass(frozen=True)
class Active:
    """A submission a backend still has to watch."""

    submission: Submission
    accepted: Accepted
    open_task_ids: frozenset[str]
