"""A Nextflow pipeline's tree as one package, with the settings that bring its results to the export."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from snakemake_executor_takeda.backends.healthomics import nextflow_parameters
from snakemake_executor_takeda.backends.healthomics.nextflow_pipeline import CONFIG, Pipeline
from snakemake_executor_takeda.backends.healthomics.packaging import (
    MAX_ZIP_BYTES,
    Package,
    content_version,
    zipped,
)
from snakemake_executor_takeda.values import TakedaError

_SHOWN_FILES = 3
_MARK = "// What follows is added by takeda: it brings what is published to where HealthOmics exports it.\n"


def build_package(pipeline: Pipeline, given: Iterable[str] = ()) -> Package:
    """Zip a pipeline, byte for byte the same each time and on each machine.

    `given` are names of the run's params: those that the pipeline does not declare are declared, too.
    Raises TakedaError for one past the service's limit.
    """
    _check_size(pipeline)
    sources, executable = _sources(pipeline)
    template = nextflow_parameters.template(pipeline, sorted(given))
    packed = zipped(sources, executable)
    version_of = {**sources, "\0executable": "\n".join(sorted(executable)).encode()}
    return Package(
        name=f"takeda-{pipeline.name}"[:128],
        version=content_version(
            version_of, engine="NEXTFLOW", main=pipeline.main, parameter_template=template
        ),
        engine="NEXTFLOW",
        main=pipeline.main,
        definition_zip=packed,
        parameter_template=template,
    )


def _sources(pipeline: Pipeline) -> tuple[dict[str, bytes], frozenset[str]]:
    """Bytes by path, and which of them may be run: scripts below `bin/` are called by name."""
    found: dict[str, bytes] = {}
    executable = set()
    for name in pipeline.files:
        path = pipeline.root / name
        try:
            found[name] = path.read_bytes()
        except OSError as error:
            raise TakedaError(f"{path} cannot be read: {error}") from error
        if os.access(path, os.X_OK):
            executable.add(name)
    if added := pipeline.publishing.config():
        own = found.get(CONFIG, b"")
        found[CONFIG] = own + (b"\n\n" if own else b"") + (_MARK + added).encode()
    return found, frozenset(executable)


def _check_size(pipeline: Pipeline) -> None:
    sizes: Mapping[str, int] = {
        name: (pipeline.root / name).stat().st_size for name in pipeline.files
    }
    total = sum(sizes.values())
    if total <= MAX_ZIP_BYTES:
        return
    largest = sorted(sizes, key=lambda name: -sizes[name])[:_SHOWN_FILES]
    shown = ", ".join(f"{name} {sizes[name]:,}" for name in largest)
    raise TakedaError(
        f"{pipeline.root} has {total:,} bytes; HealthOmics takes {MAX_ZIP_BYTES:,} (largest: {shown}). "
        "Keep data out of the pipeline's folder and hand it over as inputs"
    )
