"""Slurm: arrays and MPI allocations on the partitions of a cluster.

`arguments` (giving a `request`) and `script` say what is submitted, `clients` talk to Slurm (`answers` and
`facts` read what its commands say), `records` reads what tasks leave behind, `states` decides how a task ended, `watching` asks; `slurm_backend`
puts them together.

`submitting` sends each submission once, `watching` asks how tasks do, by way of `capacity` (what waits, nodes
that fail) and `accounting` (the database, where there is one).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from snakemake_executor_takeda.backends.slurm.options import RESOURCES, SlurmOptions

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.base import Backend, RunContext
    from snakemake_executor_takeda.doctor.asked import Asked
    from snakemake_executor_takeda.doctor.findings import Checkup
    from snakemake_executor_takeda.values import Target

__all__ = ["SlurmOptions", "backend", "shape_key_resources"]

shape_key_resources: frozenset[str] = RESOURCES
"""Resources that become options of a whole submission: tasks that differ in one share no array."""


class _Factory:
    """Speaks `backends.base.BackendFactory`."""

    options_model = SlurmOptions
    shape_key_resources = shape_key_resources

    def __call__(self, targets: Sequence[Target], context: RunContext) -> Backend:
        from snakemake_executor_takeda.backends.slurm.slurm_backend import SlurmBackend

        return SlurmBackend(targets, context)

    def checkups(self, targets: Sequence[Target], asked: Asked) -> Iterable[Checkup]:
        """For `takeda doctor`."""
        from snakemake_executor_takeda.doctor.slurm import checkups

        return checkups(targets, asked)


backend = _Factory()
