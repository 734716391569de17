"""What an MPI job on Slurm is told: its launcher, its variables, and what cannot be. Pure.

`srun` starts ranks by Slurm itself; any other launcher, such as `mpirun`, finds the allocation by
Slurm's variables and starts its own daemons, one a node.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.nearest import nearest
from snakemake_executor_takeda.values import ANY_LAUNCHER, FailureKind
from snakemake_executor_takeda.worker.mpi import FOR_EFA, UNBOUND

if TYPE_CHECKING:
    from snakemake_executor_takeda.values import JobSpec, Shape, Target

DEFAULT_LAUNCHER = "srun --mpi=pmix"
"""Always with its PMI: ParallelCluster sets MpiDefault=none."""
FENCE = "ring"
"""How Slurm's PMIx makes ranks wait for each other. Its own choice for a fence without data is a tree,
which waits for nobody in a job with fewer nodes than TreeWidth (16, or 50 before 23.11). Open MPI 5 relies
on that fence in MPI_Init, and crashes there now and then (open-mpi/ompi 12495)."""
_DEFAULT_PMI = "pmix"


def is_parallel(shape: Shape) -> bool:
    """Whether the job is an allocation for ranks, of one or of several nodes."""
    return bool(shape.mpi) or shape.nodes > 1 or shape.tasks > 1


def launcher_of(job: JobSpec, target: Target) -> str | None:
    """What starts the ranks; None for a rule without `mpi`."""
    return str(target.options.mpi) if job.shape.mpi == ANY_LAUNCHER else job.shape.mpi


def is_srun(launcher: str | None) -> bool:
    words = _words(launcher)
    return bool(words) and PurePosixPath(words[0]).name == "srun"


def steps_get_cpus(job: JobSpec, target: Target) -> bool:
    """Whether srun in the job shall give each task the job's CPUs of a task.

    Not where mpirun starts its daemons by srun: `--cpus-per-task` implies `--exact`, so that a daemon
    would get, for all ranks of its node, the CPUs of one.
    """
    launcher = launcher_of(job, target)
    return launcher is None or is_srun(launcher)


def variables(job: JobSpec, target: Target) -> dict[str, str]:
    """For the job's environment, each unless it is set there already."""
    if not is_parallel(job.shape):
        return {}
    launcher = launcher_of(job, target)
    result = {"OMP_NUM_THREADS": str(job.shape.cpus)}
    if launcher is None or is_srun(launcher):
        result["SLURM_MPI_TYPE"] = _pmi(launcher, target)
        # A rank that fails would leave the others waiting for it until the time limit.
        result["SLURM_KILL_BAD_EXIT"] = "1"
        result["SLURM_PMIX_FENCE"] = FENCE
    elif job.shape.cpus > 1:
        result |= UNBOUND
    if target.efa:
        result |= FOR_EFA
    return result


def check(job: JobSpec, target: Target, pmi_types: Sequence[str]) -> None:
    """Raises SubmissionError(configuration) for ranks that have no place, or a PMI that is not there.

    `pmi_types` is what `srun --mpi=list` says, empty where that is not known.
    """
    shape, launcher = job.shape, launcher_of(job, target)
    if shape.mpi and shape.tasks < shape.nodes:
        raise _unusable(
            f"nodes={shape.nodes}, tasks={shape.tasks}: {shape.nodes - shape.tasks} of the nodes "
            "would have no rank",
            f"Set tasks to {shape.nodes} or more, or fewer nodes.",
        )
    most = shape.nodes * (shape.tasks_per_node or shape.tasks)
    if "nodes" in job.resources and shape.tasks > most:
        raise _unusable(
            f"nodes={shape.nodes}, tasks_per_node={shape.tasks_per_node} have room for {most} ranks, "
            f"and tasks={shape.tasks}",
            "Raise nodes or tasks_per_node, or leave one of them to Slurm.",
        )
    try:
        words = shlex.split(launcher or "")
    except ValueError as error:
        raise _unusable(f"mpi={launcher!r}: {error}", "Write it as in a shell.") from None
    pmi = _pmi(launcher, target)
    if words and is_srun(launcher) and pmi_types and not _is_known(pmi, pmi_types):
        close = nearest(pmi, pmi_types) or next((one for one in pmi_types if one != "none"), "none")
        raise _unusable(
            f"mpi={launcher!r}: srun here has no PMI {pmi!r}; it has {', '.join(pmi_types)}",
            f"Set `mpi: srun --mpi={close}` for target {target.name} or in the rule, or `mpirun`.",
        )


def check_scratch(job: JobSpec, target: Target) -> None:
    """For a run from afar, whose jobs stage into the nodes' own /tmp where the target says nothing.

    Raises SubmissionError(configuration) for ranks on several nodes, which would not see the files.
    """
    one_node = job.shape.tasks == 1 or str(job.resources.get("nodes")) == "1"
    if is_parallel(job.shape) and not one_node and not target.options.scratch:
        raise _unusable(
            f"target {target.name} names no `scratch`, and ranks on several nodes share staged files",
            "Set `scratch` to a folder on a file system that the nodes share (FSx, EFS), or nodes=1.",
        )


def read_pmi_types(text: str) -> list[str]:
    """The names of `srun --mpi=list`: one a line, indented or not, versions of a plug-in in one line."""
    found: list[str] = []
    for line in text.splitlines():
        _, colon, versions = line.partition("versions available:")
        words = re.findall(r"[A-Za-z0-9_.]+", versions if colon else line.removeprefix("srun: "))
        if colon or len(words) == 1:
            found += words
    return list(dict.fromkeys(found))


def _is_known(pmi: str, known: Iterable[str]) -> bool:
    """srun takes `pmix/v4` for pmix_v4, too."""
    return pmi.replace("/", "_") in known


def _pmi(launcher: str | None, target: Target) -> str:
    """The PMI that srun uses: the launcher's own, else that of the target's launcher."""
    return _named_pmi(launcher) or _named_pmi(target.options.mpi) or _DEFAULT_PMI


def _named_pmi(launcher: str | None) -> str | None:
    words = _words(launcher) if is_srun(launcher) else []
    for word, following in pairwise([*words, ""]):
        if word.startswith("--mpi="):
            return word.removeprefix("--mpi=")
        if word == "--mpi":
            return following or None
    return None


def _words(launcher: str | None) -> list[str]:
    try:
        return shlex.split(launcher or "")
    except ValueError:
        return (launcher or "").split()


def _unusable(reason: str, advice: str) -> SubmissionError:
    return SubmissionError(FailureKind.CONFIGURATION, reason, advice)
