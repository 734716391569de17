"""The models of a routing policy's YAML, as it is written."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from snakemake_executor_takeda.routing.conditions import When

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"


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
    efa: bool = Field(False, description="Whether its nodes have an Elastic Fabric Adapter.")


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


def common_words() -> frozenset[str]:
    """The words of a target that mean the same for every backend."""
    return frozenset(TargetEntry.model_fields)
