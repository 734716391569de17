"""A rule's named inputs and params → the parameters of a run, by the workflow's own types."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from snakemake_executor_takeda.backends.healthomics import fitting
from snakemake_executor_takeda.backends.healthomics.files import Files, NoSuchFile
from snakemake_executor_takeda.backends.healthomics.fitting import Unfit
from snakemake_executor_takeda.backends.healthomics.mistakes import Mistake, refuse
from snakemake_executor_takeda.backends.healthomics.wdl import Input, Workflow
from snakemake_executor_takeda.values import NamedFiles


def build_parameters(
    workflow: Workflow,
    inputs: Sequence[NamedFiles],
    params: Mapping[str, Any],
    *,
    files: Files,
    where: str = "",
    defaults: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """JSON values by input name. Unnamed inputs are dependencies only and not passed on.

    `defaults` are those of `input_json`: what the rule names itself comes before them. Snakemake
    turns little into strings and users quote numbers, so `"8"` is an Int where the workflow wants
    one. A param that is None stays unset. Raises Mistakes, all there are, with `where` the rule's
    line.
    """
    given, found = collect_parameters(
        workflow, inputs, params, files=files, where=where, defaults=defaults
    )
    refuse(found)
    return given


def collect_parameters(
    workflow: Workflow,
    inputs: Sequence[NamedFiles],
    params: Mapping[str, Any],
    *,
    files: Files,
    where: str = "",
    defaults: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], list[Mistake]]:
    """What `build_parameters` gives, and the mistakes instead of an error."""
    return fitting.collect(
        workflow,
        inputs,
        params,
        defaults or {},
        where,
        of_files=partial(_files, files=files),
        of_value=partial(_fit, files=files),
    )


def from_words(workflow: Workflow, name: str, words: Sequence[str]) -> Any:
    """The value of an input that a shell command gives as words."""
    return fitting.from_words(workflow, name, words, _is_array)


def _files(named: NamedFiles, declared: Input, files: Files) -> Any:
    """What a rule's files under one name are to the workflow."""
    import WDL

    wanted, kinds = declared.type, WDL.Type
    paths = (kinds.File, kinds.Directory)
    count = len(named.files)
    if isinstance(wanted, kinds.Array) and isinstance(wanted.item_type, paths):
        if not count and wanted.optional:
            return None
        if wanted.nonempty and not count:
            raise Unfit(f"is {wanted} but names no file")
        inner = wanted.item_type
        return [_address(file, inner, files) for file in named.files]
    if isinstance(wanted, kinds.Pair) and all(isinstance(one, paths) for one in wanted.parameters):
        if count != 2:
            raise Unfit(f"is {wanted}, which takes 2 files, left and right; {count} are given")
        left, right = named.files
        return {
            "left": _address(left, wanted.left_type, files),
            "right": _address(right, wanted.right_type, files),
        }
    if not isinstance(wanted, paths):
        raise Unfit(
            f"names files but the workflow wants {wanted}; give it under `params:`, "
            "with any files in it by the paths under `input:`"
        )
    if not count and not declared.required:
        return None
    if count != 1:
        raise Unfit(f"is one {wanted}, but {count} are given")
    return _address(named.files[0], wanted, files)


def _address(file: Any, wanted: Any, files: Files) -> str:
    import WDL

    try:
        return files.address(file, directory=isinstance(wanted, WDL.Type.Directory))
    except NoSuchFile as trouble:
        raise Unfit(f"wants {wanted}: {trouble}") from None


def _fit(value: Any, declared: Input, files: Files) -> Any:
    wanted = declared.type
    is_list = _is_array(wanted)
    return fitting.fit(value, wanted, partial(_convert, files=files), is_list=is_list)


def _is_array(wanted: Any) -> bool:
    import WDL

    return isinstance(wanted, WDL.Type.Array)


def _convert(value: Any, wanted: Any, files: Files) -> Any:
    import WDL

    kinds = WDL.Type
    if value is None:
        if wanted.optional or isinstance(wanted, kinds.Any):
            return None
        raise Unfit
    simple: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
        (kinds.String, fitting.text_of),
        (kinds.Boolean, fitting.boolean),
        (kinds.Int, fitting.whole),
        (kinds.Float, fitting.number),
    )
    for kind, convert in simple:
        if isinstance(wanted, kind):
            return convert(value)
    if isinstance(wanted, (kinds.File, kinds.Directory)):
        return _path(value, isinstance(wanted, kinds.Directory), files)
    if isinstance(value, str):
        value = fitting.parsed(value)
    compound: tuple[tuple[Any, Callable[[Any, Any, Files], Any]], ...] = (
        (kinds.Array, _array),
        (kinds.Map, _map),
        (kinds.Pair, _pair),
        (kinds.StructInstance, _struct),
    )
    for kind, convert_parts in compound:
        if isinstance(wanted, kind):
            return convert_parts(value, wanted, files)
    return fitting.plain(value)  # An Object.


def _path(value: Any, directory: bool, files: Files) -> str:
    text = "" if isinstance(value, (list, tuple, dict, set, bool)) else str(value)
    if not text:
        raise Unfit
    try:
        return files.locate(text, directory=directory)
    except NoSuchFile as trouble:
        raise Unfit(f": {trouble}") from None


def _array(value: Any, wanted: Any, files: Files) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise Unfit
    if wanted.nonempty and not value:
        raise Unfit(": it may not be empty")
    return [
        _part(item, wanted.item_type, files, f"[{number}]") for number, item in enumerate(value)
    ]


def _map(value: Any, wanted: Any, files: Files) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Unfit
    key_type, item_type = wanted.item_type
    converted = {}
    for key, item in value.items():
        place = f"[{json.dumps(str(key))}]"
        name = _part(key, key_type, files, f"{place}, the key")
        converted[name if isinstance(name, str) else json.dumps(name)] = _part(
            item, item_type, files, place
        )
    return converted


def _pair(value: Any, wanted: Any, files: Files) -> dict[str, Any]:
    if isinstance(value, dict):
        sides = {str(key).lower(): item for key, item in value.items()}
    elif isinstance(value, (list, tuple)) and len(value) == 2:
        sides = dict(zip(("left", "right"), value, strict=True))
    else:
        sides = {}
    if sides.keys() != {"left", "right"}:
        raise Unfit(': write two values, or {"left": …, "right": …}')
    return {
        "left": _part(sides["left"], wanted.left_type, files, ".left"),
        "right": _part(sides["right"], wanted.right_type, files, ".right"),
    }


def _struct(value: Any, wanted: Any, files: Files) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Unfit(f": write it as a dict of {fitting.members_of(wanted)}")
    return fitting.record(value, wanted, partial(_convert, files=files), "member")


def _part(value: Any, wanted: Any, files: Files, place: str) -> Any:
    return fitting.part(value, wanted, partial(_convert, files=files), place)
