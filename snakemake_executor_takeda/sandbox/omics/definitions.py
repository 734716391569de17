"""Workflow definitions: a zip becomes files, files become ACTIVE or FAILED by a real parse."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from snakemake_executor_takeda.sandbox.services import ServiceError
from snakemake_executor_takeda.values import TakedaError

MAX_ZIP_BYTES = 4_613_734
"""4.4 MiB, what CreateWorkflow takes inline."""

_MAX_UNPACKED_BYTES = 100 << 20
_ENGINES = ("WDL", "WDL_LENIENT")


def invalid(message: str) -> ServiceError:
    return ServiceError("ValidationException", message)


def check_request(params: Mapping[str, Any]) -> None:
    """What CreateWorkflow and CreateWorkflowVersion refuse at once."""
    sources = [
        name
        for name in ("definitionZip", "definitionUri", "definitionRepository")
        if params.get(name) is not None
    ]
    if len(sources) != 1:
        raise invalid(
            "give exactly one of definitionZip, definitionUri and definitionRepository, "
            f"not {', '.join(sources) or 'none'}"
        )
    if sources == ["definitionRepository"]:
        raise invalid("the sandbox reads no repositories: send definitionZip or definitionUri")
    if len(params.get("definitionZip", b"")) > MAX_ZIP_BYTES:
        raise invalid(f"definitionZip is larger than {MAX_ZIP_BYTES} bytes; use definitionUri")
    engine = params.get("engine", "WDL")
    if engine not in _ENGINES:
        raise invalid(
            f"the sandbox runs WDL by miniwdl; it has no engine {engine}: "
            "test that workflow on HealthOmics itself"
        )


def unpack(packed: bytes, directory: Path) -> None:
    """Raises TakedaError for what is no zip, or would leave the directory."""
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MAX_UNPACKED_BYTES:
                raise TakedaError("the definition is larger than 100 MiB when unpacked")
            for entry in archive.infolist():
                path = PurePosixPath(entry.filename)
                if path.is_absolute() or ".." in path.parts or "\\" in entry.filename:
                    raise TakedaError(f"the definition holds the unsafe path {entry.filename!r}")
                target = directory / path
                if entry.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                else:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(archive.read(entry))
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, OSError) as error:
        raise TakedaError(f"the definition is no readable zip: {error}") from error


def inspect(directory: Path, main: str | None) -> tuple[str, dict[str, dict[str, Any]]]:
    """The main file's path inside the definition, and the parameter template that it implies.

    Raises TakedaError with what is wrong.
    """
    from snakemake_executor_takeda.backends.healthomics import wdl

    path = _main_file(directory, main)
    workflow = wdl.load(path)
    template: dict[str, dict[str, Any]] = {
        one.name: {"description": one.description[:256], "optional": not one.required}
        for one in workflow.inputs.values()
    }
    return path.relative_to(directory).as_posix(), template


def _main_file(directory: Path, main: str | None) -> Path:
    if main is not None:
        path = (directory / main).resolve()
        if not path.is_relative_to(directory.resolve()) or not path.is_file():
            raise TakedaError(f"the definition holds no file {main}")
        return directory / main
    at_top = sorted(directory.glob("*.wdl"))
    chosen = [path for path in at_top if path.name == "main.wdl"] or at_top
    if len(chosen) != 1:
        raise TakedaError("name the main file in `main`: the definition holds none, or several")
    return chosen[0]
