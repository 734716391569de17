"""Read a WDL file: what its workflow takes and gives, or one clear message with file and line."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.values import TakedaError


@dataclass(frozen=True)
class Input:
    """One input of a workflow."""

    name: str
    type: Any
    """A `WDL.Type.Base`; its `str()` is the type as WDL writes it."""
    required: bool
    """False where the type is optional or a default is declared."""
    description: str = ""


@dataclass(frozen=True)
class Output:
    """One output of a workflow."""

    name: str
    type: Any


@dataclass(frozen=True)
class Workflow:
    """The signature of the workflow in one WDL file, and the parsed file itself."""

    path: Path
    name: str
    inputs: Mapping[str, Input]
    outputs: Mapping[str, Output]
    document: Any = field(repr=False, compare=False)
    """The `WDL.Tree.Document`, its imports loaded and type-checked."""


def load(path: Path) -> Workflow:
    """Parse and type-check a WDL file and all it imports.

    Raises TakedaError for a file that is missing or wrong, that has no workflow, that imports from
    the network, or whose workflow leaves a required input of a call open.
    """
    import WDL

    if not path.is_file():
        raise TakedaError(f"there is no WDL file {path}")
    try:
        document = WDL.load(str(path), read_source=_read_local_source)
    except (
        WDL.Error.SyntaxError,
        WDL.Error.ImportError,
        WDL.Error.ValidationError,
        WDL.Error.MultipleValidationErrors,
    ) as error:
        raise TakedaError(f"{path.name} is not valid WDL\n" + _findings(error)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise TakedaError(f"{path} cannot be read: {error}") from error
    workflow = document.workflow
    if workflow is None:
        raise TakedaError(
            f"{path} holds no workflow, only tasks; add `workflow … {{ call … }}` around the task"
        )
    required = {binding.name for binding in workflow.required_inputs}
    # Names with a dot are inputs of calls, and `_runtime` is miniwdl's own: no part of a signature.
    unbound = sorted(name for name in required if "." in name)
    if unbound:
        raise TakedaError(
            f"{_position(workflow.pos)}: workflow {workflow.name} leaves the call input "
            f"{', '.join(unbound)} open; declare it as an input of the workflow and pass it on"
        )
    inputs = {
        binding.name: Input(
            binding.name,
            binding.value.type,
            binding.name in required,
            _description(workflow.parameter_meta.get(binding.name)),
        )
        for binding in workflow.available_inputs
        if "." not in binding.name and not binding.name.startswith("_")
    }
    outputs = {
        binding.name: Output(binding.name, binding.value)
        for binding in workflow.effective_outputs
        if "." not in binding.name
    }
    return Workflow(
        path,
        workflow.name,
        dict(sorted(inputs.items())),
        dict(sorted(outputs.items())),
        document,
    )


def documents(document: Any) -> Iterator[Any]:
    """The document and everything it imports, each once."""
    seen: set[str] = set()
    queue = [document]
    while queue:
        one = queue.pop()
        if one.pos.abspath not in seen:
            seen.add(one.pos.abspath)
            yield one
            queue.extend(imported.doc for imported in one.imports)


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """` Did you mean …?` for the nearest word, or the list of the words there are."""
    known = sorted(words)
    if close := difflib.get_close_matches(word, known, n=1, cutoff=0.5):
        return f" Did you mean `{close[0]}`?"
    return f" There are: {', '.join(known)}." if known else " There are none."


async def _read_local_source(uri: str, path: list[str], importer: Any) -> Any:
    import WDL

    if "://" in uri:
        raise TakedaError(
            f"{uri} is on the network; save a copy beside the workflow and import that"
        )
    return await WDL.read_source_default(uri, path, importer)


def _findings(error: Any) -> str:
    nested = getattr(error, "exceptions", None)
    if nested:
        return "\n".join(_findings(one) for one in nested)
    message = " ".join(str(error).split())
    cause = error.__cause__
    if cause is not None and hasattr(cause, "pos"):
        return _findings(cause)
    if isinstance(cause, TakedaError):
        return f"  {cause}"
    if isinstance(cause, OSError):
        message += f": {cause.strerror or cause}"
    return f"  {_position(error.pos)}: {message}"


def _position(pos: Any) -> str:
    path = os.path.relpath(pos.abspath) if pos.abspath.startswith("/") else pos.abspath
    if path.startswith("../.."):
        path = pos.abspath
    return f"{path}:{pos.line}"


def _description(meta: Any) -> str:
    """The text of a `parameter_meta` entry: a string, or an object with a description."""
    if isinstance(meta, dict):
        meta = meta.get("description") or meta.get("help")
    return " ".join(meta.split()) if isinstance(meta, str) else ""
