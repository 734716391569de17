"""A CWL document as a definition that can be handed off."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.backends.healthomics import (
    cwl,
    cwl_packaging,
    cwl_parameters,
    nextflow_engine,
    outputs,
    produced_files,
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
from snakemake_executor_takeda.backends.healthomics.outputs import Placed
from snakemake_executor_takeda.backends.healthomics.packaging import Package
from snakemake_executor_takeda.backends.healthomics.value_types import Type
from snakemake_executor_takeda.values import NamedFiles


class CwlDefinition:
    """A CWL document and all it refers to."""

    lists_outputs = True

    def __init__(self, workflow: cwl.Workflow) -> None:
        self.workflow = workflow
        self.name = workflow.name
        self.path = workflow.path
        self._package: Package | None = None

    def signature(self) -> Signature:
        workflow = self.workflow
        return Signature(
            workflow.name,
            "CWL",
            workflow.version,
            tuple(
                _entry(one, one.required, self._default(one)) for one in workflow.inputs.values()
            ),
            tuple(_entry(one, not one.type.optional) for one in workflow.outputs.values()),
            description=workflow.description,
        )

    def _default(self, one: cwl.Input) -> str | None:
        """As JSON; a file by its path from the document's folder."""
        if one.default is None:
            return None
        if one.type.is_path and isinstance(one.default, Mapping):
            place = cwl.local_path(str(one.default.get("location", "")))
            if place is not None:
                return json.dumps(os.path.relpath(place, self.path.resolve().parent))
        return json.dumps(one.default)

    def parameters(
        self,
        inputs: Sequence[NamedFiles],
        params: Mapping[str, Any],
        *,
        files: Files,
        where: str,
        defaults: Mapping[str, Any],
    ) -> tuple[dict[str, Any], list[Mistake]]:
        return cwl_parameters.collect_parameters(
            self.workflow, inputs, params, files=files, where=where, defaults=defaults
        )

    def from_words(self, name: str, words: Sequence[str]) -> Any:
        return cwl_parameters.from_words(self.workflow, name, words)

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
        values = {name: _placed(value) for name, value in produced.items()}
        return outputs.match_outputs(self.workflow, outputs_, values, where)

    def engine_settings(self, resources: Mapping[str, Any], where: str) -> dict[str, Any]:
        nextflow_engine.refuse_profile(resources, "CWL", where)
        return {}

    def notes(self) -> list[str]:
        return []

    def paths_in(self, name: str, value: Any) -> list[str]:
        files = AsWritten()
        cwl_parameters.collect_parameters(self.workflow, (), {name: value}, files=files)
        return files.paths

    def sources(self) -> Collection[Path]:
        return cwl_packaging.sources_of(self.workflow)

    def package(self, given: Mapping[str, Any]) -> Package:
        if self._package is None:
            self._package = cwl_packaging.build_package(self.workflow)
        return self._package


def open_definition(path: Path, fragment: str = "") -> Definition:
    """Raises TakedaError for what is no workflow."""
    return CwlDefinition(cwl.load(path, fragment))


def _entry(one: cwl.Input | cwl.Output, required: bool, default: str | None = None) -> Entry:
    return Entry(
        one.name,
        _shown(one.type),
        one.type.entry_kind,
        required,
        default,
        one.description,
        beside=tuple(_suffixes(one.type)),
        skeleton=one.type.entry_skeleton(one.name),
    )


def _shown(wanted: Type) -> str:
    if wanted.kind != "enum":
        return str(wanted)
    return "|".join(wanted.symbols) + (", optional" if wanted.optional else "")


def _suffixes(wanted: Type) -> Sequence[str]:
    return [one.pattern for one in wanted.secondary if one.required and not one.is_expression]


def _placed(value: Any) -> Any:
    """A value of CWL's list of outputs with its files as places."""
    if isinstance(value, Mapping):
        if value.get("class") in ("File", "Directory"):
            beside = tuple(_placed(one) for one in value.get("secondaryFiles") or ())
            source = str(value.get("location") or value.get("path") or "")
            return Placed(source, value["class"] == "Directory", beside)
        return {str(name): _placed(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_placed(one) for one in value]
    return value
