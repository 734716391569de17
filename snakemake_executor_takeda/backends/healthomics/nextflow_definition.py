"""A Nextflow pipeline as a definition that can be handed off."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.backends.healthomics import (
    nextflow_engine,
    nextflow_packaging,
    nextflow_parameters,
    nextflow_pipeline,
    produced_files,
)
from snakemake_executor_takeda.backends.healthomics.definition import (
    Definition,
    Delivery,
    Entry,
    Patterns,
    Signature,
)
from snakemake_executor_takeda.backends.healthomics.files import Files
from snakemake_executor_takeda.backends.healthomics.mistakes import Mistake
from snakemake_executor_takeda.backends.healthomics.nextflow_pipeline import Param, Pipeline
from snakemake_executor_takeda.backends.healthomics.nextflow_publishing import EXPORT_DIRECTORY
from snakemake_executor_takeda.backends.healthomics.packaging import Package
from snakemake_executor_takeda.values import NamedFiles

_EXPORTS = ("pubdir", "output")
"""Folders of a run's output: what tasks publish, and what the workflow itself writes."""


class NextflowDefinition:
    """A pipeline: its tree, of which nothing is run here."""

    lists_outputs = False

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.name = pipeline.name
        self.path = pipeline.root / pipeline.main
        self._packages: dict[tuple[str, ...], Package] = {}

    def signature(self) -> Signature:
        pipeline = self.pipeline
        publishing = pipeline.publishing_params
        return Signature(
            pipeline.name,
            "Nextflow",
            pipeline.version,
            tuple(_entry(one, one.name in publishing) for one in pipeline.params.values()),
            (),
            description=" ".join(pipeline.description.split()),
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
        return nextflow_parameters.collect(
            self.pipeline,
            inputs,
            params,
            files=files,
            where=where,
            defaults=defaults,
        )

    def from_words(self, name: str, words: Sequence[str]) -> Any:
        return nextflow_parameters.from_words(self.pipeline, name, words)

    def output_mistakes(
        self, outputs: Sequence[NamedFiles], where: str, patterns: Patterns
    ) -> list[Mistake]:
        return produced_files.mistakes(outputs, where, patterns)

    def match_outputs(
        self,
        outputs: Sequence[NamedFiles],
        produced: Mapping[str, Any],
        where: str,
        patterns: Patterns,
    ) -> tuple[Delivery, ...]:
        """`produced` has URIs by paths below the run's output; globs are below the export directory."""
        exported: dict[str, str] = {}
        for path, uri in sorted(produced.items()):
            top, slash, below = path.partition("/")
            short = below if slash and top in _EXPORTS else path
            exported[path if short in exported else short] = str(uri)
        return produced_files.match(outputs, exported, where, patterns)

    def engine_settings(self, resources: Mapping[str, Any], where: str) -> dict[str, Any]:
        return nextflow_engine.settings(
            self.pipeline.nextflow_version,
            self.pipeline.config.profiles,
            resources.get(nextflow_engine.PROFILE),
            where,
            is_strict=self.pipeline.is_strict,
        )

    def notes(self) -> list[str]:
        pipeline = self.pipeline
        found = pipeline.publishing.notes()
        found += [
            f"what is published below params.{name} is exported where the rule sets it below "
            f"{EXPORT_DIRECTORY}"
            for name in pipeline.publishing.params
            if name not in pipeline.publishing_params
        ]
        version = pipeline.nextflow_version
        if version and nextflow_engine.chosen_version(version.lstrip("! "), "") is None:
            found.append(
                f"manifest.nextflowVersion = {version!r} takes none of the versions that HealthOmics has "
                f"({', '.join(nextflow_engine.VERSIONS)}); it runs {nextflow_engine.DEFAULT}"
            )
        for plugin in pipeline.config.plugins:
            if plugin.partition("@")[0] not in nextflow_engine.PLUGINS:
                found.append(
                    f"plugin {plugin} is not among those that HealthOmics has: "
                    f"{', '.join(sorted(nextflow_engine.PLUGINS))}"
                )
        return found

    def paths_in(self, name: str, value: Any) -> list[str]:
        return nextflow_parameters.paths_in(self.pipeline, name, value)

    def sources(self) -> Collection[Path]:
        return [self.pipeline.root / name for name in self.pipeline.files]

    def package(self, given: Mapping[str, Any]) -> Package:
        undeclared = tuple(sorted(given.keys() - self.pipeline.params.keys()))
        if undeclared not in self._packages:
            self._packages[undeclared] = nextflow_packaging.build_package(self.pipeline, undeclared)
        return self._packages[undeclared]


def open_definition(path: Path) -> Definition:
    """Of a main script, or of a pipeline's directory. Raises TakedaError for what is no pipeline."""
    return NextflowDefinition(nextflow_pipeline.load(path))


def _entry(param: Param, publishes: bool) -> Entry:
    return Entry(
        param.name,
        param.type,
        "value" if publishes else nextflow_parameters.file_kind(param),
        param.required and not publishes,
        None if publishes else param.shown_default,
        "set to the export directory by itself" if publishes else param.description,
        hidden=param.hidden,
    )
