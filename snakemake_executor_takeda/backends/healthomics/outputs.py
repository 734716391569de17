"""What a run produced, keyed `Workflow.output` → the rule's own output files, by name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from snakemake_executor_takeda.backends.healthomics.definition import EMPTY_MARK, Delivery
from snakemake_executor_takeda.backends.healthomics.mistakes import Mistake, did_you_mean, refuse
from snakemake_executor_takeda.backends.healthomics.wdl import (
    Output,
    Workflow,
    holds_files,
)
from snakemake_executor_takeda.values import File, NamedFiles, TakedaError


def check_outputs(workflow: Workflow, outputs: Sequence[NamedFiles], where: str = "") -> None:
    """Compare names and types before anything runs. Raises Mistakes for what cannot match."""
    refuse(output_mistakes(workflow, outputs, where))


def output_mistakes(
    workflow: Workflow, outputs: Sequence[NamedFiles], where: str = ""
) -> list[Mistake]:
    """All that cannot match, whatever the run produces."""
    found = []
    for named in outputs:
        try:
            output = _output(workflow, named, len(outputs))
        except TakedaError as error:
            found.append(Mistake(str(error), named.name or "", "", where))
            continue
        if trouble := _misfit(output, named):
            found.append(
                Mistake(f"output `{output.name}` {trouble}", output.name, str(output.type), where)
            )
    return found


def match_outputs(
    workflow: Workflow,
    outputs: Sequence[NamedFiles],
    produced: Mapping[str, Any],
    where: str = "",
) -> tuple[Delivery, ...]:
    """Which produced file goes where. Raises TakedaError that lists what was produced."""
    check_outputs(workflow, outputs, where)
    prefix = f"{workflow.name}."
    values = {key.removeprefix(prefix): value for key, value in produced.items()}
    deliveries: list[Delivery] = []
    for named in outputs:
        output = _output(workflow, named, len(outputs))
        try:
            deliveries += _deliver(output, values.get(output.name), named.files)
        except _Unmatched as trouble:
            message = f"{trouble}.{_listing(values)}"
            raise TakedaError(f"{where}: {message}" if where else message) from None
    return tuple(deliveries)


class _Unmatched(Exception):
    """What the run left is not what the rule wants."""


def _misfit(output: Output, named: NamedFiles) -> str:
    """Why these targets can never take this output; empty where they can."""
    import WDL

    wanted, targets = output.type, named.files
    alone = len(targets) == 1
    into_directory = alone and targets[0].is_directory
    first = targets[0].path if targets else output.name
    if not holds_files(wanted):
        return _misfit_of_value(output, targets)
    if any(target.is_directory for target in targets) and not alone:
        return f"is {wanted}: list files only, or one directory()"
    trouble = ""
    if isinstance(wanted, WDL.Type.Directory):
        if not into_directory:
            trouble = f"is a directory: mark {first} with directory() in the rule"
    elif isinstance(wanted, WDL.Type.File):
        if not alone:
            trouble = f"is one {wanted}, but the rule lists {len(targets)} files"
        elif into_directory and not wanted.optional:
            trouble = f"is no directory: do not mark {first} with directory() in the rule"
    elif alone and not into_directory and _is_json(targets[0]) and not _only_files(wanted):
        trouble = (
            f"is {wanted}, which holds files: mark {first} with directory(), "
            "or list as many files as it holds"
        )
    return trouble


def _misfit_of_value(output: Output, targets: Sequence[File]) -> str:
    wanted = output.type
    if len(targets) != 1 or targets[0].is_directory:
        return f"is {wanted}, a value: give it one file, such as {output.name}.json"
    if not _is_json(targets[0]) and not _has_text(wanted):
        return f"is {wanted}, which has no text form: name its file {output.name}.json"
    return ""


def _deliver(output: Output, value: Any, targets: Sequence[File]) -> list[Delivery]:
    import WDL

    wanted = output.type
    if not holds_files(wanted):
        if value is None and not wanted.optional:
            raise _Unmatched(f"the run left output `{output.name}` empty")
        return [Delivery("", targets[0], content=_written(value, targets[0]))]
    into_directory = len(targets) == 1 and targets[0].is_directory
    if value is None and not (into_directory and wanted.optional):
        hint = f"; where it may be, mark {targets[0].path} with directory()"
        raise _Unmatched(
            f"the run left output `{output.name}` empty{hint if wanted.optional else ''}"
        )
    if isinstance(wanted, WDL.Type.Directory) and value is not None:
        return [Delivery(str(value), targets[0], is_directory=True)]
    leaves = list(_leaves(wanted, value, PurePosixPath(), flat=True))
    if len({leaf.path for leaf in leaves}) < len(leaves):
        # A scatter's files often have one name.
        leaves = list(_leaves(wanted, value, PurePosixPath(), flat=False))
    if into_directory:
        return _gathered(output, value, leaves, targets[0])
    if len(leaves) != len(targets):
        raise _Unmatched(
            f"the rule wants {len(targets)} file(s) of output `{output.name}`, "
            f"the run made {len(leaves)}"
        )
    return [
        Delivery(leaf.source, target, is_directory=leaf.is_directory)
        for leaf, target in zip(leaves, targets, strict=True)
    ]


@dataclass(frozen=True)
class _Leaf:
    """A file or directory in a value."""

    path: PurePosixPath
    """Where it lies in the value: indices, keys and members, then its own name."""
    source: str
    is_directory: bool


def _leaves(wanted: Any, value: Any, path: PurePosixPath, *, flat: bool) -> Iterator[_Leaf]:
    """All files of a value, in its order. `flat`: those of a plain list lie side by side."""
    import WDL

    kinds = WDL.Type
    if value is None:
        return
    if isinstance(wanted, (kinds.File, kinds.Directory)):
        source = str(value)
        name = PurePosixPath(source.rstrip("/")).name
        yield _Leaf(path / name, source, isinstance(wanted, kinds.Directory))
    elif isinstance(wanted, kinds.Array):
        beside = flat and isinstance(wanted.item_type, (kinds.File, kinds.Directory))
        for number, item in enumerate(value):
            place = path if beside else path / str(number)
            yield from _leaves(wanted.item_type, item, place, flat=flat)
    else:
        for name, member in _member_types(wanted, value):
            if "/" in name or name in ("", ".", ".."):
                raise _Unmatched(f"its key {name!r} is no file name")
            yield from _leaves(member, value.get(name), path / name, flat=flat)


def _member_types(wanted: Any, value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    import WDL

    if isinstance(wanted, WDL.Type.Pair):
        yield from (("left", wanted.left_type), ("right", wanted.right_type))
    elif isinstance(wanted, WDL.Type.Map):
        yield from ((name, wanted.item_type[1]) for name in value)
    elif isinstance(wanted, WDL.Type.StructInstance):
        yield from (wanted.members or {}).items()


def _gathered(output: Output, value: Any, leaves: Sequence[_Leaf], target: File) -> list[Delivery]:
    """All files of a value in one directory; beside them, where they are not the whole of it, the
    value with their paths in the directory."""
    members = [leaf.path.as_posix() for leaf in leaves]
    found = [
        Delivery(leaf.source, target, member, leaf.is_directory)
        for leaf, member in zip(leaves, members, strict=True)
    ]
    if not _only_files(output.type):
        paths = iter(members)
        listing = json.dumps(_with_paths(output.type, value, paths), indent=2) + "\n"
        found.append(Delivery("", target, f"{output.name}.json", content=listing.encode()))
    return found or [Delivery("", target, EMPTY_MARK, content=b"")]


def _with_paths(wanted: Any, value: Any, paths: Iterator[str]) -> Any:
    """The value with each of its files replaced by the next path, in the order of `_leaves`."""
    import WDL

    if value is None or not holds_files(wanted):
        return value
    if isinstance(wanted, (WDL.Type.File, WDL.Type.Directory)):
        return next(paths)
    if isinstance(wanted, WDL.Type.Array):
        return [_with_paths(wanted.item_type, item, paths) for item in value]
    return {
        name: _with_paths(member, value.get(name), paths)
        for name, member in _member_types(wanted, value)
    }


def _only_files(wanted: Any) -> bool:
    """Whether the files say it all: one, or lists of them."""
    import WDL

    if isinstance(wanted, WDL.Type.Array):
        return _only_files(wanted.item_type)
    return isinstance(wanted, (WDL.Type.File, WDL.Type.Directory))


def _is_json(target: File) -> bool:
    return target.path.endswith(".json")


def _has_text(wanted: Any) -> bool:
    """A word; a line each; a row of two columns each for a map; rows for lists of lists."""
    import WDL

    if isinstance(wanted, WDL.Type.Array):
        inner = wanted.item_type
        return _is_word(inner) or (isinstance(inner, WDL.Type.Array) and _is_word(inner.item_type))
    if isinstance(wanted, WDL.Type.Map):
        return all(_is_word(one) for one in wanted.item_type)
    return _is_word(wanted)


def _is_word(wanted: Any) -> bool:
    import WDL

    kinds = WDL.Type
    return isinstance(wanted, (kinds.Boolean, kinds.Int, kinds.Float, kinds.String))


def _written(value: Any, target: File) -> bytes:
    if _is_json(target):
        return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
    if value is None:
        return b""
    if isinstance(value, dict):
        rows = [[name, item] for name, item in value.items()]
    elif isinstance(value, list):
        rows = [item if isinstance(item, list) else [item] for item in value]
    else:
        rows = [[value]]
    return "".join("\t".join(map(_word, row)) + "\n" for row in rows).encode()


def _word(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _output(workflow: Workflow, named: NamedFiles, count: int) -> Output:
    """The output that a rule means. Raises TakedaError."""
    if named.name is not None:
        output = workflow.outputs.get(named.name) or workflow.outputs.get(
            named.name.removesuffix("_")
        )
        if output is None:
            hint = did_you_mean(named.name, workflow.outputs)
            raise TakedaError(f"workflow {workflow.name} has no output `{named.name}`.{hint}")
        return output
    if not workflow.outputs:
        raise TakedaError(
            f"workflow {workflow.name} has no outputs; add `output {{ … }}` to it, with what the "
            "rule needs"
        )
    files = [one for one in workflow.outputs.values() if holds_files(one.type)]
    if count == 1 and len(named.files) == 1 and len(files) == 1:
        return files[0]
    raise TakedaError(
        "name the rule's outputs as the workflow does, such as "
        f"`{next(iter(workflow.outputs))}=…`; workflow {workflow.name} has: "
        + ", ".join(f"{one.name} ({one.type})" for one in workflow.outputs.values())
    )


def _listing(values: Mapping[str, Any]) -> str:
    lines = [f"\n  {name}: {json.dumps(value)[:300]}" for name, value in sorted(values.items())]
    return " It produced:" + "".join(lines) if lines else " It produced nothing."
