"""The models of a routing policy's YAML, as it is written."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from snakemake_executor_takeda.routing.conditions import When
from snakemake_executor_takeda.values import RetryRules

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"


class MemoryEntry(BaseModel):
    """More memory for a job that ran out of it, before its `retries` are touched."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    factor: float = Field(2.0, gt=1, le=10, description="By what the memory grows each time.")
    times: int = Field(2, ge=1, le=10, description="How often it may grow.")
    up_to_mb: int | None = Field(None, ge=1, description="Most memory to ask for, in MB.")


class RetryEntry(BaseModel):
    """How often a target's failures are repeated quietly, before the user's `retries`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    interruptions: int | None = Field(
        None, ge=0, le=100, description="Losses of the node on this target before its fallback."
    )
    image: int = Field(4, ge=0, le=20, description="Failed pulls of the image.")
    out_of_memory: MemoryEntry | None = Field(
        None, description="More memory after a job ran out of it; without, `retries` decide."
    )

    def rules(self) -> RetryRules:
        memory = self.out_of_memory
        return RetryRules(
            interruptions=self.interruptions,
            image=self.image,
            memory_factor=memory.factor if memory else 1.0,
            memory_times=memory.times if memory else 0,
            memory_up_to_mb=memory.up_to_mb if memory else None,
        )


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
        description="How often its failures are repeated; instead of the policy's own `retry`.",
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
    retry: RetryEntry = Field(
        default_factory=lambda: RetryEntry.model_validate({}),
        description="How often failures are repeated, for targets that do not say it.",
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
