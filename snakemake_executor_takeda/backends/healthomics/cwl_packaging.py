"""A CWL document and all that it refers to, as the package that HealthOmics registers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.backends.healthomics.cwl import Workflow, local_path, raw
from snakemake_executor_takeda.backends.healthomics.packaging import (
    MAX_ZIP_BYTES,
    Package,
    content_version,
    keep_inside,
    zipped,
)
from snakemake_executor_takeda.values import TakedaError

_REFERENCES = ("run", "$import", "$include", "$mixin")


def build_package(workflow: Workflow) -> Package:
    """Zip a workflow, byte for byte the same each time and on each machine.

    Files keep their places to each other: the package begins at the nearest folder that holds them
    all. Raises TakedaError for a reference that would not hold there, and for a definition past the
    service's limit.
    """
    paths = sources_of(workflow)
    top = Path(os.path.commonpath([path.parent for path in paths]))
    sources = {path.relative_to(top).as_posix(): _bytes(path, workflow) for path in sorted(paths)}
    main = workflow.path.resolve().relative_to(top).as_posix()
    if workflow.fragment:
        main += f"#{workflow.fragment}"
    template: dict[str, dict[str, str | bool]] = {
        one.name: {
            "description": f"{one.type}: {one.description}"[:256].rstrip(": "),
            "optional": not one.required,
        }
        for one in workflow.inputs.values()
    }
    packed = zipped(sources)
    if len(packed) > MAX_ZIP_BYTES:
        raise TakedaError(
            f"{workflow.path} and what it refers to make {len(packed):,} bytes; HealthOmics takes "
            f"{MAX_ZIP_BYTES:,}. Hand large files over as inputs"
        )
    return Package(
        name=f"takeda-{workflow.name}"[:128],
        version=content_version(sources, engine="CWL", main=main, parameter_template=template),
        engine="CWL",
        main=main,
        definition_zip=packed,
        parameter_template=template,
    )


def sources_of(workflow: Workflow) -> set[Path]:
    """Documents, what they include, and the files that they name as defaults. Raises TakedaError for one
    that is not there, and for a link that leads out of a directory that is named."""
    found = set(workflow.texts)
    for path, text in workflow.texts.items():
        for reference in _references(raw(text)):
            if reference.startswith(("/", "file:")):
                raise TakedaError(
                    f"{path} refers to {reference}, a place of this machine; write the path from the "
                    "document's own folder"
                )
        for named, required in _named_files(raw(text)):
            place = _place(path, named)
            if place is None:
                continue
            if not place.exists():
                if required:
                    raise TakedaError(f"{path} names {named}, which does not exist")
                continue
            found |= {place} if place.is_file() else set(_files_below(place))
    return {Path(os.path.normpath(path)) for path in found}


def _files_below(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file():
            if path.is_symlink():
                keep_inside(path, folder)
            yield path


def _place(document: Path, named: str) -> Path | None:
    """Where a path in a document leads; None for one that is not on this machine."""
    if "://" in named:
        return local_path(named)
    relative = local_path(f"file:///{named}")
    return None if relative is None else document.parent / relative.relative_to("/")


def _references(found: Any) -> Iterator[str]:
    for name, value in _pairs(found):
        if name in _REFERENCES and isinstance(value, str):
            yield value
    for named, _ in _named_files(found):
        yield named


def _named_files(found: Any) -> Iterator[tuple[str, bool]]:
    """Files and directories that a document holds as values, and its schemas: path, and whether it
    has to be there."""
    for name, value in _pairs(found):
        if name == "$schemas":
            yield from (
                (one, False) for one in value or () if isinstance(one, str) and "://" not in one
            )
    for one in _maps(found):
        if one.get("class") in ("File", "Directory"):
            place = one.get("location") or one.get("path")
            if isinstance(place, str) and "$(" not in place:
                yield place, True


def _pairs(found: Any) -> Iterator[tuple[str, Any]]:
    for one in _maps(found):
        yield from ((str(name), value) for name, value in one.items())


def _maps(found: Any) -> Iterator[Mapping[Any, Any]]:
    if isinstance(found, Mapping):
        yield found
        for value in found.values():
            yield from _maps(value)
    elif isinstance(found, list):
        for value in found:
            yield from _maps(value)


def _bytes(path: Path, workflow: Workflow) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TakedaError(f"{workflow.path} refers to {path}: {error.strerror or error}") from error
