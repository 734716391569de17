"""A rule's named inputs and params → the parameters of a CWL run, by the document's own types.

Files become CWL's own objects, `{"class": "File", "location": …}`, with the files beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from snakemake_executor_takeda.backends.healthomics import fitting
from snakemake_executor_takeda.backends.healthomics.cwl import Input, Workflow
from snakemake_executor_takeda.backends.healthomics.files import (
    REMOTE,
    AsWritten,
    Files,
    NoSuchFile,
)
from snakemake_executor_takeda.backends.healthomics.fitting import Unfit
from snakemake_executor_takeda.backends.healthomics.mistakes import Mistake, did_you_mean
from snakemake_executor_takeda.backends.healthomics.value_types import Secondary, Type
from snakemake_executor_takeda.values import File, NamedFiles

_CLASSES = {"file": "File", "directory": "Directory"}
_ANY = Type("any", "Any")
_LIMITS = {"int": 1 << 31, "long": 1 << 63}
# What a text or number may stand for in a union, first to last.
_ORDER = ("boolean", "int", "long", "float", "double", "enum", "string", "file", "directory")


def collect_parameters(
    workflow: Workflow,
    inputs: Sequence[NamedFiles],
    params: Mapping[str, Any],
    *,
    files: Files,
    where: str = "",
    defaults: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], list[Mistake]]:
    """JSON values by input name, and all that is wrong. Unnamed inputs are dependencies only.

    `defaults` are those of `input_json`, CWL's own job object: what the rule names comes before them.
    """
    # A job object may carry words of cwltool's own.
    known = {
        name: value
        for name, value in (defaults or {}).items()
        if not name.startswith(("cwl:", "cwltool:"))
    }
    return fitting.collect(
        workflow,
        inputs,
        params,
        known,
        where,
        of_files=partial(_files, files=files),
        of_value=partial(_fit, files=files),
    )


def from_words(workflow: Workflow, name: str, words: Sequence[str]) -> Any:
    """The value of an input that a shell command gives as words."""
    return fitting.from_words(
        workflow, name, words, lambda wanted: _choice(wanted, "array") is not None
    )


def _choice(wanted: Type, *kinds: str) -> Type | None:
    """The type itself, or the first of a union, that is of one of these kinds."""
    among = wanted.items if wanted.kind == "union" else (wanted,)
    return next((one for one in among if one.kind in kinds), None)


def _files(named: NamedFiles, declared: Input, files: Files) -> Any:
    """What a rule's files under one name are to the workflow."""
    wanted, given = declared.type, named.files
    if not given and not declared.required:
        return None
    listed = _choice(wanted, "array")
    if listed is not None and not listed.items[0].holds_files and listed.items[0].kind != "any":
        listed = None
    single = _choice(wanted, *_CLASSES, "any")
    if single is not None and single.kind == "directory" and not _all_directories(given):
        # A union of both: what the rule marks as a directory is one.
        single = _choice(wanted, "file") or single
    grouped = None if single is None else _groups(given, single.secondary)
    if single is not None and grouped is not None and (len(grouped) == 1 or listed is None):
        if single.kind == "any" and named.is_list:
            return [_object(file, "file", files) for file in given]
        if len(grouped) != 1:
            raise Unfit(_not_one(single, grouped, len(given)))
        return _whole(*grouped[0], single, files)
    if listed is None:
        raise Unfit(
            f"names files but the workflow wants {wanted}; give it under `params:`, "
            "with any files in it by the paths under `input:`"
        )
    item = listed.items[0]
    if item.kind == "array":
        raise Unfit(
            f"is {wanted}, a list of lists: give it under `params:` by the paths, "
            "with the files under `input:` without a name"
        )
    kinds = [_choice(item, "directory" if one.is_directory else "file") or item for one in given]
    if kinds and kinds[0].kind == "directory":
        return [_object(file, "directory", files) for file in given]
    return [_whole(first, beside, item, files) for first, beside in _groups(given, item.secondary)]


def _all_directories(given: Sequence[File]) -> bool:
    return bool(given) and all(file.is_directory for file in given)


def _not_one(single: Type, grouped: Sequence[tuple[File, Sequence[File]]], count: int) -> str:
    if not single.secondary or not count:
        return f"is one {single}, but {count} are given"
    patterns = ", ".join(one.pattern for one in single.secondary)
    apart = ", ".join(first.path for first, _ in grouped)
    return (
        f"is one {single} with the files beside it ({patterns}), but {apart} do not belong together"
    )


def _groups(given: Sequence[File], patterns: Sequence[Secondary]) -> list[tuple[File, list[File]]]:
    """Each file with those of the list that lie beside it by the patterns."""
    if any(one.is_expression for one in patterns):
        # Only a run can tell which they are: the first is the file, as in CWL's own lists.
        return [(given[0], list(given[1:]))] if given else []
    beside: dict[int, list[int]] = {}
    taken: set[int] = set()
    for by_folder in (True, False):
        paths = [
            _clean(file.path) if by_folder else PurePosixPath(file.path).name for file in given
        ]
        for number, path in enumerate(paths):
            for pattern in patterns:
                for other, name in enumerate(paths):
                    if other != number and other not in taken and name == pattern.beside(path):
                        beside.setdefault(number, []).append(other)
                        taken.add(other)
                        break
    return [
        (file, [given[other] for other in beside.get(number, ())])
        for number, file in enumerate(given)
        if number not in taken
    ]


def _clean(path: str) -> str:
    return PurePosixPath(path).as_posix()


def _whole(first: File, beside: Sequence[File], wanted: Type, files: Files) -> dict[str, Any]:
    """A file and those beside it. A secondary file that is required has to be among them."""
    kind = "directory" if wanted.kind == "directory" else "file"
    names = {PurePosixPath(file.path).name for file in beside}
    first_name = PurePosixPath(first.path).name
    for one in wanted.secondary:
        name = one.beside(first_name)
        if one.required and not one.is_expression and name not in names:
            raise Unfit(
                f"is {wanted} with secondaryFiles {one.pattern}: {name} is missing; list it with "
                f"{first.path}"
            )
    found = _object(first, kind, files)
    if wanted.format:
        found["format"] = wanted.format
    if beside:
        found["secondaryFiles"] = [
            _object(file, "directory" if file.is_directory else "file", files) for file in beside
        ]
    return found


def _object(file: File, kind: str, files: Files) -> dict[str, Any]:
    try:
        location = files.address(file, directory=kind == "directory")
    except NoSuchFile as trouble:
        raise Unfit(f"wants {_CLASSES[kind]}: {trouble}") from None
    return {"class": _CLASSES[kind], "location": location}


def _fit(value: Any, declared: Input, files: Files) -> Any:
    wanted = declared.type
    is_list = wanted.kind == "array"
    return fitting.fit(value, wanted, partial(_convert, files=files), is_list=is_list)


def _convert(value: Any, wanted: Type, files: Files) -> Any:
    if value is None:
        if wanted.optional or wanted.kind == "any":
            return None
        raise Unfit
    simple = _SIMPLE.get(wanted.kind)
    if simple is not None:
        return simple(value, wanted)
    if isinstance(value, str) and (not wanted.is_path or value.lstrip().startswith("{")):
        value = fitting.parsed(value)
    return _COMPOUND[wanted.kind](value, wanted, files)


def _array(value: Any, wanted: Type, files: Files) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise Unfit
    item = wanted.items[0]
    return [_part(one, item, files, f"[{place}]") for place, one in enumerate(value)]


def _string(value: Any, _: Type) -> str:
    return fitting.text_of(value)


def _integer(value: Any, wanted: Type) -> int:
    found, limit = fitting.whole(value), _LIMITS[wanted.kind]
    if not -limit <= found < limit:
        more = "; the workflow may take long" if wanted.kind == "int" else ""
        raise Unfit(f": {wanted.kind} has {limit.bit_length()} bits{more}")
    return found


def _symbol(value: Any, wanted: Type) -> str:
    found = fitting.text_of(value)
    if found not in wanted.symbols:
        raise Unfit(f".{did_you_mean(found, wanted.symbols)}")
    return found


_SIMPLE: Mapping[str, Callable[[Any, Type], Any]] = {
    "string": _string,
    "boolean": lambda value, _: fitting.boolean(value),
    "int": _integer,
    "long": _integer,
    "float": lambda value, _: fitting.number(value),
    "double": lambda value, _: fitting.number(value),
    "enum": _symbol,
}


def _one_of(value: Any, wanted: Type, files: Files) -> Any:
    """A text that reads as a number is one where the union takes numbers, in a rule and in a shell."""
    if isinstance(value, Mapping):
        kinds: Sequence[str] = ("file", "directory", "record", "any")
        if value.get("class") not in _CLASSES.values():
            kinds = ("record", "any")
    elif isinstance(value, (list, tuple)):
        kinds = ("array", "any")
    else:
        kinds = (*_ORDER, "any")
    if isinstance(value, bool):
        kinds = ("boolean", "any", "string")
    for kind in kinds:
        for one in wanted.items:
            if one.kind == kind:
                try:
                    return _convert(value, one, files)
                except Unfit:
                    continue
    raise Unfit


def _anything(value: Any, _: Type, files: Files) -> Any:
    """A value without a declared type: the files in it are told by their class."""
    if isinstance(value, Mapping):
        if value.get("class") in _CLASSES.values():
            kind = str(value["class"])
            return _path(value, Type(kind.lower(), kind), files)
        return {str(name): _anything(one, _ANY, files) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_anything(one, _ANY, files) for one in value]
    return fitting.plain(value)


def _record(value: Any, wanted: Type, files: Files) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise Unfit(f": write it as a dict of {fitting.members_of(wanted)}")
    return fitting.record(value, wanted, partial(_convert, files=files), "field")


def _part(value: Any, wanted: Type, files: Files, place: str) -> Any:
    return fitting.part(value, wanted, partial(_convert, files=files), place)


def _path(value: Any, wanted: Type, files: Files) -> dict[str, Any]:
    """A path or URI, or an object as CWL's own files of inputs have it."""
    kind = wanted.kind
    if not isinstance(value, Mapping):
        text = "" if isinstance(value, (list, tuple, set, bool)) else str(value)
        if not text:
            raise Unfit
        given: Mapping[str, Any] = {}
    else:
        given = value
        if given.get("class") != _CLASSES[kind]:
            raise Unfit(f': write {{"class": "{_CLASSES[kind]}", "location": …}}, or the path')
        text = str(given.get("location") or given.get("path") or "")
        if "location" in given and not text.startswith(REMOTE):
            text = unquote(text.removeprefix("file://"))  # A location is a URI, a path is not.
    if not text:
        return _literal(given, files)
    found: dict[str, Any] = {"class": _CLASSES[kind], "location": _locate(text, kind, files)}
    if "basename" in given:
        found["basename"] = str(given["basename"])
    # What the input declares comes first: a job object may write it by a prefix of its own.
    if said := wanted.format or given.get("format"):
        found["format"] = str(said)
    if "secondaryFiles" in given:
        beside = [_anything(one, _ANY, files) for one in given["secondaryFiles"]]
    else:
        beside = _beside(text, wanted.secondary, files)
    return {**found, "secondaryFiles": beside} if beside else found


def _literal(given: Mapping[str, Any], files: Files) -> dict[str, Any]:
    """A file that is given by its contents, or a directory by its members."""
    if isinstance(given.get("contents"), str):
        return {name: given[name] for name in ("class", "basename", "contents") if name in given}
    if isinstance(given.get("listing"), list):
        kept = {name: given[name] for name in ("class", "basename") if name in given}
        return {**kept, "listing": [_anything(one, _ANY, files) for one in given["listing"]]}
    raise Unfit(": it has no location")


def _locate(text: str, kind: str, files: Files) -> str:
    try:
        return files.locate(text, directory=kind == "directory")
    except NoSuchFile as trouble:
        raise Unfit(f": {trouble}") from None


def _beside(text: str, patterns: Sequence[Secondary], files: Files) -> list[dict[str, Any]]:
    """The files beside one that is given by its path. What may be missing counts where it can be
    told; nobody can tell of an object in S3."""
    found = []
    blind = text.startswith(REMOTE) or isinstance(files, AsWritten)
    for one in patterns:
        if one.is_expression or (blind and not one.required):
            continue
        try:
            location = files.locate(one.beside(text))
        except NoSuchFile as trouble:
            if one.required:
                raise Unfit(f": its secondaryFiles {one.pattern}: {trouble}") from None
            continue
        found.append({"class": "File", "location": location})
    return found


_COMPOUND: Mapping[str, Callable[[Any, Type, Files], Any]] = {
    "file": _path,
    "directory": _path,
    "array": _array,
    "record": _record,
    "union": _one_of,
    "any": _anything,
}
