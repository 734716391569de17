"""What a run produced, keyed `Workflow.output` → the rule's own output files, by name."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Protocol

from snakemake_executor_takeda.backends.healthomics.definition import EMPTY_MARK, Delivery
from snakemake_executor_takeda.backends.healthomics.mistakes import Mistake, did_you_mean, refuse
from snakemake_executor_takeda.backends.healthomics.value_types import WORDS, Type
from snakemake_executor_takeda.values import File, NamedFiles, TakedaError


class Output(Protocol):
    """One output, as a workflow declares it."""

    @property
    def name(self) -> str: ...

    @property
    def type(self) -> Type: ...


class Gives(Protocol):
    """A workflow, as far as its outputs go."""

    @property
    def name(self) -> str: ...

    @property
    def outputs(self) -> Mapping[str, Output]: ...

    def find_output(self, name: str) -> Output | None:
        """The output that a rule means by a name."""
        ...


@dataclass(frozen=True)
class Placed:
    """A file or directory of a run, where more is known of it than its place."""

    source: str
    is_directory: bool = False
    beside: tuple[Placed, ...] = ()
    """What CWL calls its secondary files."""

    def __str__(self) -> str:
        return self.source


def check_outputs(workflow: Gives, outputs: Sequence[NamedFiles], where: str = "") -> None:
    """Compare names and types before anything runs. Raises Mistakes for what cannot match."""
    refuse(output_mistakes(workflow, outputs, where))


def output_mistakes(
    workflow: Gives, outputs: Sequence[NamedFiles], where: str = ""
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
    workflow: Gives,
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
    choices = _choices(output.type)
    troubles = [_misfit_of(output.name, one, named.files) for one in choices]
    return "" if "" in troubles else troubles[0]


def _choices(wanted: Type) -> Sequence[Type]:
    return wanted.items if wanted.kind == "union" else (wanted,)


def _misfit_of(name: str, wanted: Type, targets: Sequence[File]) -> str:
    alone = len(targets) == 1
    into_directory = alone and targets[0].is_directory
    first = targets[0].path if targets else name
    if not wanted.holds_files:
        return _misfit_of_value(name, wanted, targets)
    if any(target.is_directory for target in targets) and not alone:
        return f"is {wanted}: list files only, or one directory()"
    trouble = ""
    if wanted.kind == "directory":
        if not into_directory:
            trouble = f"is a directory: mark {first} with directory() in the rule"
    elif wanted.kind == "file":
        if not alone and not wanted.secondary:
            trouble = f"is one {wanted}, but the rule lists {len(targets)} files"
        elif into_directory and not (wanted.optional or wanted.secondary):
            trouble = f"is no directory: do not mark {first} with directory() in the rule"
    elif alone and not into_directory and _is_json(targets[0]) and not _only_files(wanted):
        trouble = (
            f"is {wanted}, which holds files: mark {first} with directory(), "
            "or list as many files as it holds"
        )
    return trouble


def _misfit_of_value(name: str, wanted: Type, targets: Sequence[File]) -> str:
    if len(targets) != 1 or targets[0].is_directory:
        return f"is {wanted}, a value: give it one file, such as {name}.json"
    if not _is_json(targets[0]) and not _has_text(wanted):
        return f"is {wanted}, which has no text form: name its file {name}.json"
    return ""


def _deliver(output: Output, value: Any, targets: Sequence[File]) -> list[Delivery]:
    wanted = _chosen(output.type, value)
    optional = output.type.optional
    if not wanted.holds_files:
        if value is None and not optional:
            raise _Unmatched(f"the run left output `{output.name}` empty")
        if trouble := _misfit_of_value(output.name, wanted, targets):
            raise _Unmatched(f"output `{output.name}` {trouble}")
        return [Delivery("", targets[0], content=_written(value, targets[0]))]
    into_directory = len(targets) == 1 and targets[0].is_directory
    if value is None and not (into_directory and optional):
        hint = f"; where it may be, mark {targets[0].path} with directory()"
        raise _Unmatched(f"the run left output `{output.name}` empty{hint if optional else ''}")
    if wanted.kind == "directory" and value is not None:
        return [Delivery(str(value), targets[0], is_directory=True)]
    leaves = list(_leaves(wanted, value, PurePosixPath(), flat=True))
    if len({leaf.path for leaf in leaves}) < len(leaves):
        # A scatter's files often have one name.
        leaves = list(_leaves(wanted, value, PurePosixPath(), flat=False))
    if into_directory:
        return _gathered(output.name, wanted, value, leaves, targets[0])
    return [
        Delivery(leaf.source, target, is_directory=leaf.is_directory)
        for leaf, target in zip(_as_many(output.name, leaves, targets), targets, strict=True)
    ]


def _as_many(name: str, leaves: Sequence[_Leaf], targets: Sequence[File]) -> Sequence[_Leaf]:
    """The files without those beside them, or with: as the rule lists them."""
    alone = [leaf for leaf in leaves if not leaf.is_beside]
    for found in (alone, leaves):
        if len(found) == len(targets):
            return found
    more = f", or {len(leaves)} with those beside them" if len(leaves) > len(alone) else ""
    raise _Unmatched(
        f"the rule wants {len(targets)} file(s) of output `{name}`, the run made {len(alone)}{more}"
    )


def _chosen(wanted: Type, value: Any) -> Type:
    """Of a union, the type that the value has."""
    if wanted.kind != "union":
        return wanted
    if isinstance(value, Placed):
        kinds: Collection[str] = ("directory" if value.is_directory else "file",)
    elif isinstance(value, list):
        kinds = ("array",)
    else:
        kinds = ("record",) if isinstance(value, dict) else WORDS
    fits = [one for one in wanted.items if one.kind in (*kinds, "any")]
    return fits[0] if fits and value is not None else wanted.items[0]


@dataclass(frozen=True)
class _Leaf:
    """A file or directory in a value."""

    path: PurePosixPath
    """Where it lies in the value: indices, keys and members, then its own name."""
    source: str
    is_directory: bool
    is_beside: bool = False
    """True for a file that comes with the one before it."""


def _leaves(wanted: Type, value: Any, path: PurePosixPath, *, flat: bool) -> Iterator[_Leaf]:
    """All files of a value, in its order. `flat`: those of a plain list lie side by side."""
    wanted = _chosen(wanted, value)
    if value is None or not wanted.holds_files:
        return
    if wanted.is_path:
        if not isinstance(value, (str, Placed)):
            raise _Unmatched(f"{value!r} is no file, which {wanted} wants")
        placed = value if isinstance(value, Placed) else Placed(str(value), wanted.kind != "file")
        for number, one in enumerate((placed, *placed.beside)):
            name = PurePosixPath(one.source.rstrip("/")).name
            yield _Leaf(path / name, one.source, one.is_directory, number > 0)
    elif wanted.kind == "array":
        if not isinstance(value, list):
            raise _Unmatched(f"{value!r} is no {wanted}")
        beside = flat and wanted.items[0].is_path
        for number, item in enumerate(value):
            place = path if beside else path / str(number)
            yield from _leaves(wanted.items[0], item, place, flat=flat)
    else:
        if not isinstance(value, Mapping):
            raise _Unmatched(f"{value!r} is no {wanted}")
        for name, member in _member_types(wanted, value):
            if "/" in name or name in ("", ".", ".."):
                raise _Unmatched(f"its key {name!r} is no file name")
            yield from _leaves(member, value.get(name), path / name, flat=flat)


def _member_types(wanted: Type, value: Mapping[str, Any]) -> Iterator[tuple[str, Type]]:
    if wanted.kind == "pair":
        yield from zip(("left", "right"), wanted.items, strict=True)
    elif wanted.kind == "map":
        yield from ((name, wanted.items[1]) for name in value)
    else:
        yield from wanted.members.items()


def _gathered(
    name: str, wanted: Type, value: Any, leaves: Sequence[_Leaf], target: File
) -> list[Delivery]:
    """All files of a value in one directory; beside them, where they are not the whole of it, the
    value with their paths in the directory."""
    members = [leaf.path.as_posix() for leaf in leaves]
    found = [
        Delivery(leaf.source, target, member, leaf.is_directory)
        for leaf, member in zip(leaves, members, strict=True)
    ]
    if not _only_files(wanted):
        alone = (member for leaf, member in zip(leaves, members, strict=True) if not leaf.is_beside)
        listing = json.dumps(_with_paths(wanted, value, alone), indent=2, default=str) + "\n"
        found.append(Delivery("", target, f"{name}.json", content=listing.encode()))
    return found or [Delivery("", target, EMPTY_MARK, content=b"")]


def _with_paths(wanted: Type, value: Any, paths: Iterator[str]) -> Any:
    """The value with each of its files replaced by the next path, in the order of `_leaves`."""
    wanted = _chosen(wanted, value)
    if value is None or not wanted.holds_files:
        return value
    if wanted.is_path:
        return next(paths)
    if wanted.kind == "array":
        return [_with_paths(wanted.items[0], item, paths) for item in value]
    return {
        name: _with_paths(member, value.get(name), paths)
        for name, member in _member_types(wanted, value)
    }


def _only_files(wanted: Type) -> bool:
    """Whether the files say it all: one, or lists of them."""
    if wanted.kind == "array":
        return _only_files(wanted.items[0])
    return wanted.is_path


def _is_json(target: File) -> bool:
    return target.path.endswith(".json")


def _has_text(wanted: Type) -> bool:
    """A word; a line each; a row of two columns each for a map; rows for lists of lists."""
    if wanted.kind == "array":
        inner = wanted.items[0]
        return _is_word(inner) or (inner.kind == "array" and _is_word(inner.items[0]))
    if wanted.kind == "map":
        return all(_is_word(one) for one in wanted.items)
    return _is_word(wanted)


def _is_word(wanted: Type) -> bool:
    return all(one.kind in WORDS for one in _choices(wanted))


def _written(value: Any, target: File) -> bytes:
    if _is_json(target):
        return (json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n").encode()
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
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _output(workflow: Gives, named: NamedFiles, count: int) -> Output:
    """The output that a rule means. Raises TakedaError."""
    if named.name is not None:
        output = workflow.find_output(named.name)
        if output is None:
            hint = did_you_mean(named.name, workflow.outputs)
            raise TakedaError(f"workflow {workflow.name} has no output `{named.name}`.{hint}")
        return output
    if not workflow.outputs:
        raise TakedaError(
            f"workflow {workflow.name} has no outputs; declare in it what the rule needs"
        )
    files = [one for one in workflow.outputs.values() if one.type.holds_files]
    if count == 1 and len(named.files) == 1 and len(files) == 1:
        return files[0]
    raise TakedaError(
        "name the rule's outputs as the workflow does, such as "
        f"`{next(iter(workflow.outputs))}=…`; workflow {workflow.name} has: "
        + ", ".join(f"{one.name} ({one.type})" for one in workflow.outputs.values())
    )


def _listing(values: Mapping[str, Any]) -> str:
    lines = [
        f"\n  {name}: {json.dumps(_shown(value), default=str, ensure_ascii=False)[:300]}"
        for name, value in sorted(values.items())
    ]
    return " It produced:" + "".join(lines) if lines else " It produced nothing."


def _shown(value: Any) -> Any:
    """Paths of this machine by their names: their directories go with the run."""
    if isinstance(value, str) and value.startswith("/"):
        return PurePosixPath(value).name
    if isinstance(value, Mapping):
        return {name: _shown(one) for name, one in value.items()}
    return [_shown(one) for one in value] if isinstance(value, list) else value
