"""One submission as values, before any client puts it into its own words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_OF_SLURM = re.compile(r"(SLURM|SBATCH|SRUN|SALLOC|SQUEUE|SCANCEL|SCONTROL|SINFO)_")


@dataclass(frozen=True)
class JobRequest:
    """What is asked of Slurm for one submission, whichever client sends it."""

    name: str
    workdir: str
    """Directory that the job starts in, on the node."""
    log: str
    """File of standard output and error, with Slurm's patterns: `%a` is the array's index."""
    array_size: int | None = None
    """Tasks 0 to n - 1; None for a job that is no array."""
    array_throttle: int | None = None
    """Most tasks of the array that run at once."""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    reservation: str | None = None
    exclude: tuple[str, ...] = ()
    """Names of nodes that the job may not use."""
    ntasks: int = 1
    """Ranks over all nodes."""
    nodes: int | None = None
    """None leaves their number to Slurm."""
    cpus_per_task: int | None = 1
    """None leaves it to the cluster, which may not like to be told."""
    tasks_per_node: int | None = None
    mem_mb: int | None = None
    """Per node, in Slurm's M, which is 2^20 bytes. Never set together with `mem_mb_per_cpu`."""
    mem_mb_per_cpu: int | None = None
    runtime_min: int | None = None
    gres: str | None = None
    """As the rule gives it: what each node must have."""
    gpus: int = 0
    """Over all nodes."""
    gpu_model: str | None = None
    requeue: bool = False
    """Whether Slurm itself may start the job again."""
    extra: tuple[str, ...] = ()
    """More options in sbatch's words, each joined with its value; the later of two wins."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """All variables that the job starts with, beside Slurm's own."""


def submission_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The caller's variables, which a job starts with, as Slurm's users expect.

    Those of an allocation that the caller may run in, and those that change options or hold a
    token, are left out.
    """
    return {
        name: value
        for name, value in environ.items()
        if name == "SLURM_CONF" or not _OF_SLURM.match(name)
    }


def variables_of_sbatch(cpus_per_task: int | None, tasks_per_node: int | None) -> dict[str, str]:
    """What sbatch itself tells a job of its options, and nobody else does."""
    said = {"SLURM_CPUS_PER_TASK": cpus_per_task, "SLURM_NTASKS_PER_NODE": tasks_per_node}
    return {name: str(value) for name, value in said.items() if value is not None}
