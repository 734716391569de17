"""Rules' containers on a target with `container_runtime: pyxis`. Pure.

Without it nothing is to be done here: the inner Snakemake runs Apptainer, where the user says so.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.slurm import mpi
from snakemake_executor_takeda.commands.pyxis import container_words, image_name, mount_of
from snakemake_executor_takeda.values import FailureKind, TakedaError

if TYPE_CHECKING:
    from pathlib import Path

    from snakemake_executor_takeda.backends.slurm.options import SlurmOptions
    from snakemake_executor_takeda.values import JobSpec, Target

_OPTION = "--container-image"
_HERE = "\0here"
"""Stands for the directory that the rule's shell will be in."""


def uses_pyxis(job: JobSpec, target: Target) -> bool:
    """For a group job it is not known which of its rules have a container."""
    options: SlurmOptions = target.options
    return options.container_runtime == "pyxis" and bool(job.container or job.is_group)


def is_for_ranks(job: JobSpec, target: Target) -> bool:
    """Whether srun puts each rank into the image, and the rule's own shell stays outside of it."""
    return bool(job.container) and mpi.is_srun(mpi.launcher_of(job, target))


def launcher_in_image(launcher: str, job: JobSpec, target: Target) -> str:
    """A launcher of srun, as text for the rule's shell, with the options that put ranks into the image."""
    options: SlurmOptions = target.options
    words = container_words(
        image_name(job.container or ""),
        _HERE,
        [f"{_HERE}:{_HERE}", *map(mount_of, options.container_mounts)],
    )
    # The shell itself says where it is: with S3 that is known on the node only.
    quoted = [shlex.quote(word).replace(_HERE, "'\"$PWD\"'") for word in words]
    return " ".join([launcher, *quoted])


def check(job: JobSpec, target: Target, workdir: Path) -> None:
    """Raises SubmissionError(configuration) for a container that Pyxis can't run."""
    if not uses_pyxis(job, target):
        return
    try:
        if job.container:
            image_name(job.container)
        mount_of(str(workdir))
    except ValueError as error:
        raise SubmissionError(
            FailureKind.CONFIGURATION,
            f"container {error}, and target {target.name} has `container_runtime: pyxis`",
            "Change it, or route the rule to a target with Apptainer.",
        ) from None
    launcher = mpi.launcher_of(job, target)
    if job.container and launcher and not mpi.is_srun(launcher) and job.shape.nodes > 1:
        raise SubmissionError(
            FailureKind.CONFIGURATION,
            f"mpi={launcher!r} in a container on {job.shape.nodes} nodes: inside of an image of Pyxis "
            "it cannot reach the others",
            'Set `mpi="srun --mpi=pmix"`: srun starts every rank in the image.',
        )


def check_srun(target: Target, srun_help: str) -> None:
    """Raises TakedaError where srun does not know Pyxis's options."""
    if _OPTION not in srun_help:
        raise TakedaError(
            f"target {target.name} says `container_runtime: pyxis`, but srun here does not know "
            f"{_OPTION}: the Pyxis plug-in is not installed on this cluster (plugstack.conf). "
            "Set `container_runtime: apptainer` and run with --software-deployment-method apptainer."
        )
