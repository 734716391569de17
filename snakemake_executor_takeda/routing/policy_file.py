"""The models of a routing policy's YAML, as it is written."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    WithJsonSchema,
    model_validator,
)

from snakemake_executor_takeda.routing.conditions import When, Zone
from snakemake_executor_takeda.values import Limits, RetryRules

Choose = Literal["first", "cheapest", "fastest"]
LOCKABLE = ("targets", "routes", "default", "choose", "retry", "shape_tolerance", "timezone")
"""Words of a policy that a file may keep to itself, by `locked`."""


def _names(value: Any) -> Any:
    """One name is a list of one."""
    names = list(value) if isinstance(value, list | tuple) else [value]
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError("must be the name of a target, or a list of names: [one, two]")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} is given twice: keep one of them")
    return tuple(names)


def _texts(value: Any) -> Any:
    texts = list(value) if isinstance(value, list | tuple) else [value]
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise ValueError("must be one text, or a list of texts: [one, two]")
    return tuple(texts)


_ONE_OR_MORE = {
    "oneOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
    ]
}
Names = Annotated[tuple[str, ...], BeforeValidator(_names), WithJsonSchema(_ONE_OR_MORE)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_texts), WithJsonSchema(_ONE_OR_MORE)]

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"


class MemoryEntry(BaseModel):
    """More memory for a job that ran out of it, before its `retries` are touched."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    factor: float = Field(2.0, gt=1, le=10, description="By what the memory grows each time.")
    times: int = Field(2, ge=0, le=10, description="How often it may grow.")
    up_to_mb: int | None = Field(None, ge=1, description="Most memory to ask for, in MB.")


class RetryEntry(BaseModel):
    """How often failures on a target are repeated quietly, before the user's `retries`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    interruptions: int | None = Field(
        None, ge=0, le=100, description="Losses of the node on this target before its fallback."
    )
    node_failure: int | None = Field(
        None,
        ge=0,
        le=100,
        description="Nodes that fail by themselves; without, `interruptions` counts them, too.",
    )
    no_capacity: int = Field(
        20, ge=0, le=1000, description="No machine to be had, on a target without fallback."
    )
    image: int = Field(4, ge=0, le=20, description="Failed pulls of the image.")
    lost: int = Field(
        2, ge=0, le=20, description="Jobs that the service forgot, or did not answer about."
    )
    timeout: int = Field(0, ge=0, le=20, description="Jobs that ran into their time limit.")
    out_of_memory: MemoryEntry | None = Field(
        None, description="More memory after a job ran out of it; without, `retries` decide."
    )

    @model_validator(mode="before")
    @classmethod
    def _total_is_the_policys(cls, value: Any) -> Any:
        if isinstance(value, dict) and "total" in value and "total" not in cls.model_fields:
            raise ValueError("`total` counts over all targets: move it to the policy's own `retry`")
        return value


class PolicyRetryEntry(RetryEntry):
    """How often failures are repeated quietly, before the user's `retries`."""

    total: int = Field(
        30,
        ge=1,
        le=1000,
        description="Most submissions of a job, over all targets and kinds of failure.",
    )

    def rules(self, own: RetryEntry | None) -> RetryRules:
        """Of a target with a `retry` of its own, whose words come before these."""
        words = {name: getattr(self, name) for name in type(self).model_fields}
        if own:
            words |= {name: getattr(own, name) for name in own.model_fields_set}
        memory: MemoryEntry | None = words.pop("out_of_memory")
        if memory:
            words |= {
                "memory_factor": memory.factor,
                "memory_times": memory.times,
                "memory_up_to_mb": memory.up_to_mb,
            }
        return RetryRules(**words)


class LimitsEntry(BaseModel):
    """The largest job that a target holds; what is left out is not checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threads: int | None = Field(None, ge=1, description="CPUs of its largest node.")
    mem_mb: int | None = Field(None, ge=1, description="Memory of its largest node in MB.")
    disk_mb: int | None = Field(None, ge=0, description="Disk that one job can have, in MB.")
    runtime: int | None = Field(None, ge=1, description="Minutes that a job may run.")
    gpu: int | None = Field(None, ge=0, description="GPUs of a node; 0 for none.")
    gpu_model: Texts = Field((), description="The models of GPU that it has.")
    nodes: int | None = Field(None, ge=1, description="Nodes that one job can have.")

    def limits(self, of_backend: Limits) -> Limits:
        """With what the backend itself knows of the target: the lower of both."""
        stated: dict[str, Any] = {}
        for name in type(self).model_fields:
            value, known = getattr(self, name), getattr(of_backend, name)
            if name == "gpu_model":
                stated[name] = value or known
            elif value is not None:
                stated[name] = value if known is None else min(value, known)
        return replace(of_backend, **stated)


class TargetEntry(BaseModel):
    """A place jobs can run. Beside these words a target takes those of its backend."""

    model_config = ConfigDict(extra="allow", frozen=True)

    backend: str = Field(description="What runs the jobs, such as batch, slurm or healthomics.")
    capacity: Literal["spot", "on-demand"] | None = Field(
        None, description="How the target's machines are bought: spot or on-demand."
    )
    instances: tuple[str, ...] = Field(
        (), description="Instance types (hpc7a.96xlarge) or families (c7i) that the target has."
    )
    fallback: str | None = Field(
        None, description="Target that takes over when this one loses its machines or has none."
    )
    efa: StrictBool = Field(False, description="Whether its nodes have an Elastic Fabric Adapter.")
    limits: LimitsEntry | None = Field(
        None, description="The largest job that it holds: larger ones are not sent there."
    )
    usd_per_cpu_hour: float | None = Field(
        None, ge=0, description="What an hour of a CPU costs, in USD; before any price list."
    )
    usd_per_gpu_hour: float | None = Field(
        None, ge=0, description="What an hour of a GPU costs beside its CPUs, in USD."
    )
    speed: float | None = Field(
        None, gt=0, description="Speed of its CPUs: 2 does the work of an hour in half of one."
    )
    locked: StrictBool = Field(
        False, description="Files that include this one may not change the target."
    )
    retry: RetryEntry | None = Field(
        None,
        description="How often its failures are repeated; before the words of the policy's own `retry`.",
    )


class RouteEntry(BaseModel):
    """Jobs for which all of `when` holds go `to` a target."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    when: When
    to: Names = Field(description="Name of a target, or a list of names to choose from.")
    choose: Choose | None = Field(
        None,
        description="Which of several targets that hold the job: the first, the cheapest or the "
        "fastest; without, as the policy's own `choose` says.",
    )
    locked: StrictBool = Field(
        False,
        description="Tried before all routes that are not locked; a rule's own words do not lead "
        "elsewhere.",
    )


class PolicyFile(BaseModel):
    """Which job of a Snakemake run goes where. The first matching route wins."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = Field(description="Version of this format.")
    include: Texts = Field(
        (),
        description="Policies that this one builds on, by their paths relative to this file; this "
        "file's words come before theirs.",
    )
    targets: dict[str, TargetEntry] = Field(min_length=1, description="Places jobs can run.")
    routes: tuple[RouteEntry, ...] = Field((), description="Tried from the top; first match wins.")
    default: Names = Field(
        description="Name of the target for jobs that no route takes, or a list to choose from."
    )
    choose: Choose = Field(
        "first",
        description="Which of several targets takes a job, where its route does not say it.",
    )
    timezone: Zone = Field("UTC", description="Time zone of `time` and `weekday` in conditions.")
    locked: tuple[Literal[LOCKABLE], ...] = Field(  # type: ignore[valid-type]
        (), description="Words that files which include this one may not say."
    )
    retry: PolicyRetryEntry = Field(
        default_factory=lambda: PolicyRetryEntry.model_validate({}),
        description="How often failures are repeated, where a target does not say it.",
    )
    shape_tolerance: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Jobs of one rule share an array, at the largest one's memory and run time, if "
        "the smallest asks for no less than this part below it: 0.1 is 10 percent, 0 is never.",
    )


def common_words() -> frozenset[str]:
    """The words of a target that mean the same for every backend."""
    return frozenset(TargetEntry.model_fields)
