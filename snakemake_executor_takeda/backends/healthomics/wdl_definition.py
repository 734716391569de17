"""A WDL file and all it imports, as a definition that can be handed off."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.backends.healthomics import (
    nextflow_engine,
    outputs,
    parameters,
    produced_files,
    wdl,
    wdl_packaging,
)
from snakemake_executor_takeda.backends.healthomics.definition import (
    Definition,
    Delivery,
    Entry,
    Patterns,
    Signature,
)
from snakemake_executor_takeda.backends.healthomics.files import AsWritten, Files
from snakemake_executor_takeda.backends.healthomics.mistakes import Mistake
from snakemake_executor_takeda.backends.healthomics.packaging import Package
from snakemake_executor_takeda.values import NamedFiles


class WdlDefinition:
    """A WDL file and all it imports."""

    lists_outputs = True

    def __init__(self, workflow: wdl.Workflow) -> None:
        self.workflow = workflow
        self.name = workflow.name
        self.path = workflow.path
        self._packages: dict[tuple[str, ...], Package] = {}

    def signature(self) -> Signature:
        workflow = self.workflow
        return Signature(
            workflow.name,
            "WDL",
            workflow.version,
            tuple(_entry(one) for one in workflow.inputs.values()),
            tuple(
                Entry(
                    one.name,
                    str(one.type),
                    one.type.entry_kind,
                    not one.type.optional,
                    None,
                    one.description,
                )
                for one in workflow.outputs.values()
            ),
            tuple(_entry(one) for one in workflow.nested.values()),
            workflow.description,
        )

    def parameters(
        self,
        inputs: Sequence[NamedFiles],
        params: Mapping[str, Any],
        *,
        files: Files,
        where: str,
        defaults: Mapping[str, Any],
    ) -> tuple[dict[str, Any], list[Mistake]]:
        return parameters.collect_parameters(
            self.workflow, inputs, params, files=files, where=where, defaults=defaults
        )

    def from_words(self, name: str, words: Sequence[str]) -> Any:
        return parameters.from_words(self.workflow, name, words)

    def output_mistakes(
        self, outputs_: Sequence[NamedFiles], where: str, patterns: Patterns
    ) -> list[Mistake]:
        unused = produced_files.unused(patterns, self.name, where)
        return unused + outputs.output_mistakes(self.workflow, outputs_, where)

    def match_outputs(
        self,
        outputs_: Sequence[NamedFiles],
        produced: Mapping[str, Any],
        where: str,
        patterns: Patterns,
    ) -> tuple[Delivery, ...]:
        return outputs.match_outputs(self.workflow, outputs_, produced, where)

    def engine_settings(self, resources: Mapping[str, Any], where: str) -> dict[str, Any]:
        nextflow_engine.refuse_profile(resources, "WDL", where)
        return {}

    def notes(self) -> list[str]:
        return []

    def paths_in(self, name: str, value: Any) -> list[str]:
        files = AsWritten()
        parameters.collect_parameters(self.workflow, (), {name: value}, files=files)
        return files.paths

    def sources(self) -> Collection[Path]:
        return {Path(one.pos.abspath) for one in wdl.documents(self.workflow.document)}

    def package(self, given: Mapping[str, Any]) -> Package:
        nested = tuple(sorted(name for name in given if name in self.workflow.nested))
        if nested not in self._packages:
            self._packages[nested] = wdl_packaging.build_package(self.workflow, nested)
        return self._packages[nested]


def open_definition(path: Path) -> Definition:
    """Raises TakedaError for what is no workflow."""
    return WdlDefinition(wdl.load(path))


def _entry(one: wdl.Input) -> Entry:
    wanted = wdl.value_type(one.type)
    return Entry(
        one.name,
        str(one.type),
        wanted.entry_kind,
        one.required,
        one.default,
        one.description,
        skeleton=wanted.entry_skeleton(one.name),
    )
