"""The batch script of a submission, from the template beside this file. Pure but for reading it."""

from __future__ import annotations

import shlex
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_executor_takeda.backends.slurm import commands, mpi
from snakemake_executor_takeda.worker.exits import NO_MODULES

if TYPE_CHECKING:
    from jinja2 import Template

    from snakemake_executor_takeda.backends.slurm.options import SlurmOptions
    from snakemake_executor_takeda.values import Submission


def batch_script(
    submission: Submission, *, manifest: Path | str, exit_records: Path | str, scratch: Path
) -> str:
    """What sbatch reads. Every value is quoted, but for the name, which is safe by its own rule, and
    names of variables, which the options' model has checked."""
    job, target = submission.tasks[0].job, submission.target
    options: SlurmOptions = target.options
    is_parallel = mpi.is_parallel(job.shape)
    return _template().render(
        name=submission.name,
        environment=options.environment,
        modules=options.modules,
        needs_modules=bool(options.modules) or commands.needs_modules(submission),
        defaults=mpi.variables(job, target),
        steps_get_cpus=mpi.steps_get_cpus(job, target),
        python=options.python,
        manifest=manifest,
        exit_records=exit_records,
        scratch=scratch,
        is_parallel=is_parallel,
        efa=is_parallel and target.efa,
        no_modules=NO_MODULES,
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("snakemake_executor_takeda", "backends/slurm"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - a shell script, not HTML; `quoted` escapes for the shell
    )
    environment.filters["quoted"] = lambda value: shlex.quote(str(value))
    return environment.get_template("job.sh.jinja")
