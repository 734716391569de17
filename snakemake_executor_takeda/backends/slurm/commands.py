"""A task's command as its target wants it: launcher, threads, container. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from snakemake_executor_takeda.backends.slurm import containers, mpi
from snakemake_executor_takeda.commands import rewording
from snakemake_executor_takeda.values import ANY_LAUNCHER

if TYPE_CHECKING:
    from snakemake_executor_takeda.values import Submission, Task

_MODULES = "env-modules"


def on_target(submission: Submission) -> Submission:
    """The same tasks with commands for their target."""
    return replace(submission, tasks=tuple(map(_on_target, submission.tasks)))


def needs_modules(submission: Submission) -> bool:
    """Whether the rules' own shells call `module`."""
    return _MODULES in rewording.deployment_methods(submission.tasks[0].argv)


def _on_target(task: Task) -> Task:
    job, target, argv = task.job, task.target, task.argv
    if not rewording.is_inner(argv):
        return task
    rules = job.rules or (job.rule,)
    if "cpus_per_task" in job.resources and not job.is_group:
        # Snakemake makes OMP_NUM_THREADS of a rule's threads: 1 where the rule says cpus_per_task.
        argv = rewording.with_threads(argv, rules, job.shape.cpus)
    launcher = mpi.launcher_of(job, target)
    in_image = containers.uses_pyxis(job, target)
    for_ranks = in_image and containers.is_for_ranks(job, target)
    if launcher and for_ranks:
        launcher = containers.launcher_in_image(launcher, job, target)
    if launcher and (for_ranks or job.shape.mpi == ANY_LAUNCHER):
        argv = rewording.with_text(argv, rules, "mpi", launcher)
    if for_ranks:
        argv = rewording.without_apptainer(argv)
    elif in_image:
        argv = rewording.with_pyxis(argv, target.options.container_mounts)
    return replace(task, argv=argv)
