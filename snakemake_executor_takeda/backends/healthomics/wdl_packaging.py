"""A WDL workflow and all it imports as one package."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from snakemake_executor_takeda.backends.healthomics.packaging import (
    MAX_ZIP_BYTES,
    Package,
    content_version,
    zipped,
)
from snakemake_executor_takeda.backends.healthomics.wdl import Workflow, documents
from snakemake_executor_takeda.values import TakedaError

WDL_VERSIONS = ("1.0", "1.1", "development")
"""What HealthOmics runs, by AWS's guide; each file has to say it in its first line."""


def check_version(workflow: Workflow) -> None:
    """Raises TakedaError for a version of WDL that HealthOmics does not run."""
    for document in documents(workflow.document):
        version = str(document.effective_wdl_version)
        if version in WDL_VERSIONS:
            continue
        said = "says no version, which makes it draft-2" if version == "draft-2" else version
        if said == version:
            said = f"is WDL {version}"
        newer = "development" if version == "1.2" else "1.0"
        raise TakedaError(
            f"{document.pos.abspath} {said}; HealthOmics runs {', '.join(WDL_VERSIONS)}: "
            f"write `version {newer}` in its first line, and what that takes"
        )


def build_package(workflow: Workflow, given: Iterable[str] = ()) -> Package:
    """Zip a workflow, byte for byte the same each time and on each machine.

    Files from outside the main file's directory go below `__outside_wdl/` and the imports are
    rewritten to match. `given` are names of the run's parameters: inputs of calls among them are
    declared, too. Raises TakedaError for a definition past the service's limit, or of a version of
    WDL that it does not run.
    """
    check_version(workflow)
    sources = _sources(workflow)
    main = workflow.path.name
    template: dict[str, dict[str, str | bool]] = {
        one.name: {
            "description": f"{one.type}: {one.description}"[:256].rstrip(": "),
            "optional": not one.required,
        }
        for one in (
            *workflow.inputs.values(),
            *(workflow.nested[name] for name in sorted(given) if name in workflow.nested),
        )
    }
    packed = zipped(sources)
    if len(packed) > MAX_ZIP_BYTES:
        raise TakedaError(
            f"{workflow.path} and its imports make {len(packed):,} bytes; HealthOmics takes "
            f"{MAX_ZIP_BYTES:,}. Import only what the workflow calls"
        )
    return Package(
        name=f"takeda-{workflow.name}"[:128],
        version=content_version(sources, engine="WDL", main=main, parameter_template=template),
        engine="WDL",
        main=main,
        definition_zip=packed,
        parameter_template=template,
    )


def _sources(workflow: Workflow) -> dict[str, bytes]:
    """Path inside the package → bytes, imports rewritten where a file had to move."""
    from WDL import Zip

    with contextlib.ExitStack() as cleanup:
        root = Path(Zip.build_source_dir(cleanup, workflow.document, _quiet_logger()))
        found = {
            path.relative_to(root).as_posix(): path.read_bytes()
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }
    for path in found:
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise TakedaError(f"{workflow.path} imports {path}, which cannot be packaged")
    return found


def _quiet_logger() -> logging.Logger:
    """miniwdl warns of imports that move, which is no one's mistake."""
    logger = logging.getLogger(__name__)
    logger.setLevel(logging.ERROR)
    return logger
