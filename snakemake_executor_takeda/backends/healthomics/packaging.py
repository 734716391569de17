"""What is registered of a workflow: one zip, whose content names the version it is registered as."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from snakemake_executor_takeda.values import TakedaError

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


def keep_inside(link: Path, folder: Path) -> None:
    """Raises TakedaError for a link that leads out of the folder that is packaged: what is there may be
    anything that this user can read."""
    if not link.resolve().is_relative_to(folder.resolve()):
        raise TakedaError(
            f"{link} is a link that leads out of {folder}: put the file there, or hand it over as an input"
        )


def zipped(sources: Mapping[str, bytes], executable: Collection[str] = ()) -> bytes:
    """Stored, not deflated: what zlib makes of the same bytes differs between its versions."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path, data in sorted(sources.items()):
            entry = zipfile.ZipInfo(path, _EPOCH)
            entry.external_attr = (0o755 if path in executable else 0o644) << 16
            archive.writestr(entry, data)
    return buffer.getvalue()
