"""Runs a workflow on this machine, by what runs its language."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.healthomics.definition import Definition


@dataclass(frozen=True)
class Wish:
    """What a user may say about a run on this machine."""

    runner: str = "process"
    """`process`: tasks are processes of this machine; `docker`: containers."""
    cores: int | None = None
    """For all tasks together; None for all of the machine."""
    verbose: bool = False
    profile: str | None = None
    """Of a Nextflow pipeline; several with commas."""


def run(
    definition: Definition, given: Mapping[str, Any], run_dir: Path, wish: Wish
) -> Mapping[str, Any]:
    """Run it to its end; gives what `match_outputs` takes.

    `run_dir` is made, or must be empty. Raises WorkflowFailed, TakedaError where this machine cannot
    run it, KeyboardInterrupt when a signal ended it; its tasks are ended by then.
    """
    language = definition.signature().language
    if wish.profile and language != "Nextflow":
        raise TakedaError(f"--profile is for Nextflow pipelines; {definition.path} is {language}")
    return _RUNNERS[language](definition, given, run_dir, wish)


def _run_wdl(
    definition: Definition, given: Mapping[str, Any], run_dir: Path, wish: Wish
) -> Mapping[str, Any]:
    from snakemake_executor_takeda.backends.healthomics.wdl_definition import WdlDefinition
    from snakemake_executor_takeda.sandbox.wdl_run import run_workflow

    assert isinstance(definition, WdlDefinition)
    return run_workflow(
        definition.workflow,
        given,
        run_dir,
        runner=wish.runner,
        cores=wish.cores,
        verbose=wish.verbose,
    )


def _run_cwl(
    definition: Definition, given: Mapping[str, Any], run_dir: Path, wish: Wish
) -> Mapping[str, Any]:
    from snakemake_executor_takeda.backends.healthomics.cwl_definition import CwlDefinition
    from snakemake_executor_takeda.sandbox.cwl_run import run_workflow

    assert isinstance(definition, CwlDefinition)
    return run_workflow(
        definition.workflow,
        given,
        run_dir,
        runner=wish.runner,
        cores=wish.cores,
        verbose=wish.verbose,
    )


def _run_nextflow(
    definition: Definition, given: Mapping[str, Any], run_dir: Path, wish: Wish
) -> Mapping[str, Any]:
    from snakemake_executor_takeda.backends.healthomics.nextflow_definition import (
        NextflowDefinition,
    )
    from snakemake_executor_takeda.backends.healthomics.nextflow_engine import PROFILE
    from snakemake_executor_takeda.sandbox.nextflow_run import run_pipeline

    assert isinstance(definition, NextflowDefinition)
    # A profile that is not there is told as a hand-off would tell it.
    definition.engine_settings({PROFILE: wish.profile}, str(definition.path))
    return run_pipeline(
        definition.pipeline,
        given,
        run_dir,
        runner=wish.runner,
        cores=wish.cores,
        verbose=wish.verbose,
        profile=wish.profile,
    )


_RUNNERS: Mapping[str, Callable[[Definition, Mapping[str, Any], Path, Wish], Mapping[str, Any]]] = {
    "WDL": _run_wdl,
    "CWL": _run_cwl,
    "Nextflow": _run_nextflow,
}
"""By the language that a definition's signature says."""
