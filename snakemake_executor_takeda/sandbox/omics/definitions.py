"""Workflow definitions: a zip becomes files, files become ACTIVE or FAILED by a real parse."""

from __future__ import annotations

import importlib.util
import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from snakemake_executor_takeda.backends.healthomics import cwl
from snakemake_executor_takeda.sandbox.omics import limits, nextflow
from snakemake_executor_takeda.sandbox.omics.answers import invalid
from snakemake_executor_takeda.values import TakedaError

_SUFFIXES: Final = {"WDL": ".wdl", "WDL_LENIENT": ".wdl", "NEXTFLOW": ".nf", "CWL": ".cwl"}
"""Engine → how its definition's files end."""
# A file with a password is a RuntimeError; so is, as its subclass, a way of packing that is not known.
_UNREADABLE: Final = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, RuntimeError)


@dataclass(frozen=True)
class Inspected:
    """What a definition turned out to hold."""

    engine: str
    main: str
    """The main file's path inside the definition."""
    template: dict[str, dict[str, Any]] | None
    """The parameter template that the definition implies, None where it cannot be told."""


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
        raise invalid(
            "the sandbox has no connection to a code host, and reads no definitionRepository: "
            "send the files as definitionZip or definitionUri"
        )
    if len(params.get("definitionZip", b"")) > limits.DEFINITION_ZIP_BYTES:
        raise invalid(
            f"definitionZip is larger than {limits.DEFINITION_ZIP_BYTES} bytes; use definitionUri"
        )
    if len(params.get("tags", {})) > limits.TAGS:
        raise invalid(f"a workflow has at most {limits.TAGS} tags")
    if len(params.get("readmeMarkdown", "").encode()) > limits.README_BYTES:
        raise invalid(f"readmeMarkdown is larger than {limits.README_BYTES} bytes")


def unpack(packed: bytes, directory: Path) -> None:
    """Raises TakedaError for what is no zip, or would leave the directory."""
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > limits.DEFINITION_BYTES:
                raise TakedaError("the definition is larger than 100 MiB when unpacked")
            if len(archive.infolist()) > limits.DEFINITION_FILES:
                raise TakedaError(f"the definition has more than {limits.DEFINITION_FILES} files")
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
                    if entry.external_attr >> 16 & 0o111:
                        target.chmod(0o755)  # A Nextflow pipeline's bin/ has programs.
    except (*_UNREADABLE, OSError) as error:
        raise TakedaError(f"the definition is no readable zip: {error}") from error


def inspect(directory: Path, engine: str | None, main: str | None) -> Inspected:
    """Raises TakedaError with what is wrong."""
    file, fragment = cwl.split(main or "")
    path = _main_file(directory, engine, file or None)
    inside = path.relative_to(directory).as_posix() + (f"#{fragment}" if fragment else "")
    if engine is None:
        engine = next((word for word, end in _SUFFIXES.items() if end == path.suffix), "WDL")
    if engine == "NEXTFLOW":
        nextflow.check()
        return Inspected(engine, inside, None)

    from snakemake_executor_takeda.backends.healthomics import wdl

    if engine == "CWL" and importlib.util.find_spec("cwltool") is None:
        raise TakedaError(
            "the sandbox found no cwltool in the environment of `takeda sandbox up`: "
            "pip install 'snakemake-executor-plugin-takeda[cwl]' there, then `takeda sandbox down` "
            "and `up`"
        )
    workflow = cwl.load(path, fragment) if engine == "CWL" else wdl.load(path)
    template: dict[str, dict[str, Any]] = {
        one.name: {"description": one.description[:256], "optional": not one.required}
        for one in workflow.inputs.values()
    }
    return Inspected(engine, inside, template)


def _main_file(directory: Path, engine: str | None, main: str | None) -> Path:
    if main is not None:
        path = (directory / main).resolve()
        if not path.is_relative_to(directory.resolve()) or not path.is_file():
            raise TakedaError(f"the definition holds no file {main}")
        return directory / main
    suffixes = set(_SUFFIXES.values()) if engine is None else {_SUFFIXES[engine]}
    at_top = sorted(path for path in directory.iterdir() if path.suffix in suffixes)
    chosen = [path for path in at_top if path.stem == "main"] or at_top
    if len(chosen) != 1:
        raise TakedaError("name the main file in `main`: the definition holds none, or several")
    return chosen[0]
