"""The models of a routing policy's YAML, as it is written."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator

from snakemake_executor_takeda.routing.conditions import When
from snakemake_executor_takeda.values import RetryRules

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
    retry: RetryEntry | None = Field(
        None,
        description="How often its failures are repeated; before the words of the policy's own `retry`.",
    )


class RouteEntry(BaseModel):
    """Jobs for which all of `when` holds go `to` a target."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    when: When
    to: str = Field(description="Name of a target.")


class PolicyFile(BaseModel):
    """Which job of a Snakemake run goes where. The first matching route wins."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = Field(description="Version of this format.")
    targets: dict[str, TargetEntry] = Field(min_length=1, description="Places jobs can run.")
    routes: tuple[RouteEntry, ...] = Field((), description="Tried from the top; first match wins.")
    default: str = Field(description="Name of the target for jobs that no route takes.")
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
