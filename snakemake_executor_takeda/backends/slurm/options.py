"""The words a Slurm target may say in the routing policy, and the resources of a rule that override them."""

from __future__ import annotations

import sys
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from snakemake_executor_takeda.backends.slurm.extra import checked_extra

RESOURCES = frozenset(
    {
        "slurm_partition",
        "slurm_account",
        "slurm_extra",
        "qos",
        "constraint",
        "reservation",
        "gres",
        "mem_mb_per_cpu",
        "nodes",
    }
)
"""What a rule may set beside its shape. `nodes` is of the shape, but it also matters whether a rule
sets it at all: Slurm chooses the number of nodes where it does not."""

_Word = Annotated[
    str, StringConstraints(min_length=1, pattern=r"^[^\x00-\x1f\x7f]+$", strip_whitespace=True)
]
_Directory = Annotated[str, StringConstraints(pattern=r"^/[^\x00-\x1f\x7f]*$")]


class SlurmOptions(BaseModel):
    """One partition of a Slurm cluster, or a way of using it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    partition: _Word | None = Field(
        default=None, description="Partition; the cluster's default where it is left out."
    )
    account: _Word | None = Field(default=None, description="Account that pays for the jobs.")
    qos: _Word | None = Field(default=None, description="Quality of service.")
    constraint: _Word | None = Field(
        default=None, description="Node features, as `sbatch --constraint` takes them."
    )
    reservation: _Word | None = Field(default=None, description="Reservation to run in.")
    extra: tuple[str, ...] = Field(
        default=(), description="More options of sbatch, one a word, such as --exclusive."
    )
    array_throttle: int | None = Field(
        default=None, ge=1, description="Most tasks of one array that run at once."
    )
    scratch: _Directory | None = Field(
        default=None,
        description="Directory on a shared file system for tasks' work directories, seen by all "
        "nodes; by default in the run's own directory.",
    )
    python: _Word = Field(
        default_factory=lambda: sys.executable,
        description="Python on the nodes that has this package; by default the controller's own path.",
    )

    @field_validator("extra")
    @classmethod
    def _extra_is_harmless(cls, extra: tuple[str, ...]) -> tuple[str, ...]:
        return checked_extra(extra)
