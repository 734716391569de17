"""What a run produced, keyed `Workflow.output` → the rule's own output files, by name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from snakemake_executor_takeda.backends.healthomics.wdl import Output, Workflow, did_you_mean
from snakemake_executor_takeda.values import File, NamedFiles, TakedaError


@dataclass(frozen=True)
class Delivery:
    """One file or directory to bring from where the run left it to where the rule wants it."""

    source: str
    """As outputs.json has it: an S3 URI or a local path."""
    target: File
    member: str | None = None
    """Name inside `target`, where that is a directory that gathers an array of files."""
    is_directory: bool = False
    """True where `source` itself is a directory."""


def check_outputs(workflow: Workflow, outputs: Sequence[NamedFiles], where: str = "") -> None:
    """Compare names and types before anything runs. Raises TakedaError for what cannot match."""
    for named in outputs:
        output = _output(workflow, named, len(outputs), where)
        if _kind(output.type) is None:
            raise TakedaError(
                _at(
                    where,
                    f"output `{output.name}` is {output.type}, no file; "
                    "let a task of the workflow write it to a file",
                )
            )


def match_outputs(
    workflow: Workflow,
    outputs: Sequence[NamedFiles],
    produced: Mapping[str, Any],
    where: str = "",
) -> tuple[Delivery, ...]:
    """Which produced file goes where. Raises TakedaError that lists what was produced."""
    check_outputs(workflow, outputs, where)
    prefix = f"{workflow.name}."
    values = {
        key[len(prefix) :] if key.startswith(prefix) else key: value
        for key, value in produced.items()
    }
    deliveries: list[Delivery] = []
    for named in outputs:
        output = _output(workflow, named, len(outputs), where)
        value = values.get(output.name)
        if value is None:
            raise TakedaError(
                _at(where, f"the run left output `{output.name}` empty.{_listing(values)}")
            )
        deliveries += _deliver(output, value, named, values, where)
    return tuple(deliveries)


def _deliver(
    output: Output, value: Any, named: NamedFiles, values: Mapping[str, Any], where: str
) -> list[Delivery]:
    kind = _kind(output.type)
    sources = [str(one) for one in value] if kind == "array" else [str(value)]
    targets = named.files
    if kind == "array" and len(targets) == 1 and targets[0].is_directory:
        members = [PurePosixPath(source).name for source in sources]
        if twice := sorted({name for name in members if members.count(name) > 1}):
            raise TakedaError(
                _at(
                    where,
                    f"output `{output.name}` holds several files named {', '.join(twice)}, "
                    "which cannot share one directory",
                )
            )
        return [Delivery(s, targets[0], m) for s, m in zip(sources, members, strict=True)]
    if len(sources) != len(targets):
        raise TakedaError(
            _at(
                where,
                f"the rule wants {len(targets)} file(s) of output `{output.name}`, "
                f"the run made {len(sources)}.{_listing(values)}",
            )
        )
    directory = kind == "directory"
    if wrong := [target.path for target in targets if target.is_directory != directory]:
        word = "a directory: mark" if directory else "no directory: do not mark"
        raise TakedaError(
            _at(where, f"output `{output.name}` is {word} {wrong[0]} with directory() in the rule")
        )
    return [Delivery(s, t, is_directory=directory) for s, t in zip(sources, targets, strict=True)]


def _output(workflow: Workflow, named: NamedFiles, count: int, where: str) -> Output:
    if named.name is not None:
        output = workflow.outputs.get(named.name)
        if output is None:
            hint = did_you_mean(named.name, workflow.outputs)
            raise TakedaError(
                _at(where, f"workflow {workflow.name} has no output `{named.name}`.{hint}")
            )
        return output
    files = [one for one in workflow.outputs.values() if _kind(one.type) is not None]
    if count == 1 and len(named.files) == 1 and len(files) == 1:
        return files[0]
    raise TakedaError(
        _at(
            where,
            "name the rule's outputs as the workflow does, such as "
            f"`{next(iter(workflow.outputs), 'vcf')}=…`; workflow {workflow.name} has: "
            + (
                ", ".join(f"{one.name} ({one.type})" for one in workflow.outputs.values()) or "none"
            ),
        )
    )


def _kind(wanted: Any) -> str | None:
    """`file`, `directory`, `array` (of files), or None for what is no file."""
    import WDL

    if isinstance(wanted, WDL.Type.File):
        return "file"
    if isinstance(wanted, WDL.Type.Directory):
        return "directory"
    if isinstance(wanted, WDL.Type.Array) and isinstance(wanted.item_type, WDL.Type.File):
        return "array"
    return None


def _listing(values: Mapping[str, Any]) -> str:
    lines = [f"\n  {name}: {json.dumps(value)[:300]}" for name, value in sorted(values.items())]
    return " It produced:" + "".join(lines) if lines else " It produced nothing."


def _at(where: str, message: str) -> str:
    return f"{where}: {message}" if where else message
