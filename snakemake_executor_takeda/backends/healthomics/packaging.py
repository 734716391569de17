"""A workflow and all it imports as one zip, whose content names the version it is registered as."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from snakemake_executor_takeda.backends.healthomics.wdl import Workflow, documents
from snakemake_executor_takeda.values import TakedaError

WDL_VERSIONS = ("1.0", "1.1", "development")
"""What HealthOmics runs, by AWS's guide; each file has to say it in its first line."""

MAX_ZIP_BYTES = 100 << 20
"""The largest definition that HealthOmics takes, from S3; inline it is less."""

_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Package:
    """All that CreateWorkflow and CreateWorkflowVersion need."""

    name: str
    """The registered workflow's name, `takeda-<workflow>`."""
    version: str
    """`c-` and 24 hex digits over all that decides what runs: equal content, equal version."""
    engine: str
    main: str
    """The main file's name inside the zip."""
    definition_zip: bytes
    parameter_template: Mapping[str, Mapping[str, str | bool]]


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
    packed = _zip(sources)
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


def content_version(
    sources: Mapping[str, bytes],
    *,
    engine: str,
    main: str,
    parameter_template: Mapping[str, object],
    registry_map: Mapping[str, object] | None = None,
) -> str:
    """The version name that this content always gets, whatever packs it."""
    digest = hashlib.sha256()
    facts = json.dumps([engine, main, parameter_template, registry_map], sort_keys=True)
    for part in (facts.encode(), *(x for item in sorted(sources.items()) for x in item)):
        data = part.encode() if isinstance(part, str) else part
        digest.update(b"%d:" % len(data) + data)
    return f"c-{digest.hexdigest()[:24]}"


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


def _zip(sources: Mapping[str, bytes]) -> bytes:
    """Stored, not deflated: what zlib makes of the same bytes differs between its versions."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path, data in sorted(sources.items()):
            entry = zipfile.ZipInfo(path, _EPOCH)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
    return buffer.getvalue()
