"""The batch script of a submission, from the template beside this file. Pure but for reading it."""

from __future__ import annotations

import shlex
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template


def batch_script(
    *, name: str, python: str, manifest: Path, exit_records: Path, scratch: Path
) -> str:
    """What sbatch reads. Every value but the name is quoted; the name is safe by its own rule."""
    return _template().render(
        name=name, python=python, manifest=manifest, exit_records=exit_records, scratch=scratch
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
