"""The workflow that a command names: a file, a repository's, or one that AWS has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.healthomics.definition import Definition


def is_elsewhere(given: str) -> bool:
    """Whether it is no path on this machine."""
    return given.startswith(("git+", "ready2run:"))


def open_workflow(given: str, command: str) -> Definition:
    """Open what a rule's `handoff` would name, for a command; HealthOmics is asked about its own.

    Repositories are cloned below the working directory, where a run has them, too. Raises TakedaError.
    """
    from snakemake_executor_takeda.backends import aws
    from snakemake_executor_takeda.backends.healthomics import ready2run
    from snakemake_executor_takeda.backends.healthomics.definitions import (
        Definitions,
        open_definition,
    )

    if not is_elsewhere(given):
        return open_definition(Path(given))
    known = ready2run.Known(lambda: aws.client("omics"))
    with aws.readable_errors("HealthOmics"):
        return Definitions((Path.cwd(),), known.of).named(given, f"handoff {command}")


def open_local(given: str, command: str) -> Definition:
    """The same for a run on this machine, which has no workflows of AWS."""
    if given.startswith("ready2run:"):
        raise TakedaError(
            f"{given} runs on HealthOmics only: AWS and its partners do not give its files out. Run the "
            "rule with `--executor takeda` and a target of backend healthomics"
        )
    return open_workflow(given, command)
