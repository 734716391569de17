"""Read a WDL file: what its workflow takes and gives, or one clear message with file and line."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.backends.healthomics.value_types import Type
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
    default: str | None = None
    """The default as the WDL writes it, None where there is none."""


@dataclass(frozen=True)
class Output:
    """One output of a workflow."""

    name: str
    type: Type
    description: str = ""


@dataclass(frozen=True)
class Workflow:
    """The signature of the workflow in one WDL file, and the parsed file itself."""

    path: Path
    name: str
    inputs: Mapping[str, Input]
    """Its own, in the order of the file, and those of calls that it requires, as `call.input`."""
    outputs: Mapping[str, Output]
    document: Any = field(repr=False, compare=False)
    """The `WDL.Tree.Document`, its imports loaded and type-checked."""
    nested: Mapping[str, Input] = field(default_factory=dict)
    """Optional inputs of its calls, as `call.input` or `call.call.input`, where it lets them be set."""

    @property
    def version(self) -> str:
        """Of the language: `1.0`, `1.1`, `1.2`, `development` or `draft-2`."""
        return str(self.document.effective_wdl_version)

    @property
    def description(self) -> str:
        """What the workflow's `meta` says of it, on one line."""
        return _description(str(self.document.workflow.meta.get("description") or ""))

    def find_output(self, name: str) -> Output | None:
        """The output that a rule means by a name, in which a word of Python ends with `_`."""
        return self.outputs.get(name) or self.outputs.get(name.removesuffix("_"))

    def find(self, name: str) -> Input | None:
        """The input that a rule means by a name.

        A dot is no part of a keyword: `align__threads` is `align.threads`. Nor is a word of Python or
        Snakemake: `count_` is `count`.
        """
        every = {**self.nested, **self.inputs}
        dotted = name.replace("__", ".")
        spellings = (name, dotted, name.removesuffix("_"), dotted.removesuffix("_"))
        return next((every[one] for one in spellings if one in every), None)


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
        found = _findings(error)
        listing = "\n".join(f"  {one}" for one in found)
        said = f": {found[0]}" if len(found) == 1 else f"\n{listing}"
        raise TakedaError(f"{path.name} is not valid WDL{said}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise TakedaError(f"{path} cannot be read: {error}") from error
    workflow = document.workflow
    if workflow is None:
        advice = (
            "only tasks; add `workflow … { call … }` around the task"
            if document.tasks
            else "no task either; hand off the file that imports it"
        )
        raise TakedaError(f"{path} holds no workflow, {advice}")
    required = {binding.name for binding in workflow.required_inputs}
    _refuse_open_calls(workflow, sorted(name for name in required if "." in name))
    inputs: dict[str, Input] = {}
    nested: dict[str, Input] = {}
    for binding in workflow.available_inputs:
        name = binding.name
        # `_runtime` and the like are miniwdl's own: no part of a signature.
        if name.rpartition(".")[2].startswith("_"):
            continue
        declared = Input(
            name,
            binding.value.type,
            name in required,
            _description(workflow.parameter_meta.get(name)),
            None if binding.value.expr is None else str(binding.value.expr),
        )
        if "." not in name or declared.required:
            inputs[name] = declared
        elif _shut_at(workflow, name) is None:
            nested[name] = declared
    outputs = {
        binding.name: Output(
            binding.name,
            value_type(binding.value),
            _description(workflow.parameter_meta.get(binding.name)),
        )
        for binding in workflow.effective_outputs
        if "." not in binding.name
    }
    return Workflow(path, workflow.name, inputs, outputs, document, nested)


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


def value_type(wanted: Any) -> Type:
    """A `WDL.Type.Base` in terms that every language has."""
    import WDL

    kinds = WDL.Type
    kind = next(
        (word for word, one in _KINDS.items() if isinstance(wanted, getattr(kinds, one))), "any"
    )
    members = {}
    if kind == "record":
        members = {name: value_type(one) for name, one in (wanted.members or {}).items()}
    items = () if kind == "record" else tuple(value_type(one) for one in wanted.parameters)
    return Type(kind, str(wanted), wanted.optional, items, members)


_KINDS = {
    "file": "File",
    "directory": "Directory",
    "array": "Array",
    "map": "Map",
    "pair": "Pair",
    "record": "StructInstance",
    "boolean": "Boolean",
    "int": "Int",
    "float": "Float",
    "string": "String",
}
"""Kind of a type → the name of its class in `WDL.Type`."""


def _refuse_open_calls(workflow: Any, names: list[str]) -> None:
    shut = {name: _shut_at(workflow, name) for name in names}
    found = [name for name, where in shut.items() if where is not None]
    if found:
        raise TakedaError(
            f"{_position(workflow.pos)}: workflow {workflow.name} leaves the call input "
            f"{', '.join(found)} open; declare it as an input of the workflow and pass it on, "
            "or write `meta { allowNestedInputs: true }` in it"
        )


def _shut_at(workflow: Any, name: str) -> Any:
    """The first workflow on the way to `call.….input` that does not let inputs of its calls be set
    from outside. WDL 1.0 has no such rule; since 1.1 it is said in `meta`, since 1.2 in `hints`."""
    import WDL

    at = workflow
    for call in name.split(".")[:-1]:
        said = [at.meta, getattr(at, "hints", None) or {}]
        words = ("allowNestedInputs", "allow_nested_inputs")
        allowed = any(str(one.get(word)).lower() == "true" for one in said for word in words)
        if at.effective_wdl_version not in ("draft-2", "1.0") and not allowed:
            return at
        callee = next((one.callee for one in _calls(at) if one.name == call), None)
        if not isinstance(callee, WDL.Tree.Workflow):
            return None
        at = callee
    return None


def _calls(section: Any) -> Iterator[Any]:
    import WDL

    for one in section.body:
        if isinstance(one, WDL.Tree.Call):
            yield one
        elif isinstance(one, WDL.Tree.WorkflowSection):
            yield from _calls(one)


async def _read_local_source(uri: str, path: list[str], importer: Any) -> Any:
    import WDL

    if "://" in uri:
        raise TakedaError(
            f"{uri} is on the network; save a copy beside the workflow and import that"
        )
    return await WDL.read_source_default(uri, path, importer)


def _findings(error: Any) -> list[str]:
    """One line for each mistake, with its file and line."""
    nested = getattr(error, "exceptions", None)
    if nested:
        return [line for one in nested for line in _findings(one)]
    message = " ".join(str(error).split())
    cause = error.__cause__
    if cause is not None and (hasattr(cause, "pos") or getattr(cause, "exceptions", None)):
        return _findings(cause)
    if isinstance(cause, TakedaError):
        message = str(cause)
    elif isinstance(cause, OSError):
        message += f": {cause.strerror or cause}"
    return [f"{_position(error.pos)}: {message}"]


def _position(pos: Any) -> str:
    path = os.path.relpath(pos.abspath) if pos.abspath.startswith("/") else pos.abspath
    if path.startswith("../.."):
        path = pos.abspath
    return f"{path}:{pos.line}" if pos.line else path


def _description(meta: Any) -> str:
    """The text of a `parameter_meta` entry: a string, or an object with a description."""
    if isinstance(meta, dict):
        meta = meta.get("description") or meta.get("help")
    return " ".join(meta.split()) if isinstance(meta, str) else ""
