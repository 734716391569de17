"""A rule's named inputs and params → the parameters of a run, by the workflow's own types."""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from snakemake_executor_takeda.backends.healthomics.wdl import Input, Workflow, did_you_mean
from snakemake_executor_takeda.values import File, NamedFiles, TakedaError


class _Unfit(Exception):
    """A value that its declared type does not take."""


def build_parameters(
    workflow: Workflow,
    inputs: Sequence[NamedFiles],
    params: Mapping[str, Any],
    *,
    address: Callable[[File], str],
    where: str = "",
) -> dict[str, Any]:
    """JSON values by input name. Unnamed inputs are dependencies only and not passed on.

    `address` gives what the run sees of a file: its S3 URI, or its local path. Snakemake turns
    little into strings and users quote numbers, so `"8"` is an Int where the workflow wants one.
    A param that is None stays unset. Raises TakedaError that begins with `where`, the rule's line.
    """
    given: dict[str, Any] = {}
    for named in inputs:
        if named.name is not None:
            declared = _declared(workflow, named.name, "input", where)
            given[named.name] = _files(declared, [address(file) for file in named.files], where)
    for name, value in params.items():
        declared = _declared(workflow, name, "param", where)
        if name in given:
            raise TakedaError(_at(where, f"`{name}` is given both as an input and as a param"))
        if value is not None:
            given[name] = _fit(declared, value, where)
    missing = [
        one for one in workflow.inputs.values() if one.required and given.get(one.name) is None
    ]
    if missing:
        wanted = ", ".join(f"`{one.name}` ({one.type})" for one in missing)
        raise TakedaError(
            _at(
                where,
                f"workflow {workflow.name} needs {wanted}; "
                "name files under `input:` and values under `params:`",
            )
        )
    return {name: value for name, value in sorted(given.items()) if value is not None}


def _declared(workflow: Workflow, name: str, kind: str, where: str) -> Input:
    declared = workflow.inputs.get(name)
    if declared is None:
        hint = did_you_mean(name, workflow.inputs)
        raise TakedaError(
            _at(where, f"workflow {workflow.name} has no input for the {kind} `{name}`.{hint}")
        )
    return declared


def _files(declared: Input, addresses: list[str], where: str) -> Any:
    import WDL

    wanted = declared.type
    paths = (WDL.Type.File, WDL.Type.Directory)
    if isinstance(wanted, WDL.Type.Array) and isinstance(wanted.item_type, paths):
        if wanted.nonempty and not addresses:
            raise TakedaError(_at(where, f"input `{declared.name}` is {wanted} but names no file"))
        return addresses
    if not isinstance(wanted, paths):
        raise TakedaError(
            _at(
                where,
                f"input `{declared.name}` names files but the workflow wants {wanted}; "
                "give it under `params:`",
            )
        )
    if not addresses and not declared.required:
        return None
    if len(addresses) != 1:
        raise TakedaError(
            _at(where, f"input `{declared.name}` is one {wanted}, but {len(addresses)} are given")
        )
    return addresses[0]


def _fit(declared: Input, value: Any, where: str) -> Any:
    import WDL

    wanted = declared.type
    try:
        if isinstance(wanted, WDL.Type.Array) and not isinstance(value, (list, tuple, dict)):
            value = [value]  # One word of a list looks like a single value in a shell command.
        return _convert(value, wanted)
    except _Unfit as unfit:
        raise TakedaError(
            _at(where, f"param `{declared.name}` wants {wanted}, not {value!r}{unfit}")
        ) from None


def _convert(value: Any, wanted: Any) -> Any:
    import WDL

    kinds = WDL.Type
    if value is None and wanted.optional:
        return None
    if isinstance(wanted, kinds.Array):
        return _array(value, wanted)
    if isinstance(wanted, (kinds.String, kinds.File, kinds.Directory)):
        return _text(value, may_be_empty=isinstance(wanted, kinds.String))
    for kind, convert in ((kinds.Boolean, _boolean), (kinds.Int, _int), (kinds.Float, _float)):
        if isinstance(wanted, kind):
            return convert(value)
    return _compound(value, wanted)


def _text(value: Any, *, may_be_empty: bool) -> str:
    if value is None or isinstance(value, (list, tuple, dict, set)):
        raise _Unfit
    text = str(value)
    if not text and not may_be_empty:
        raise _Unfit
    return text


def _array(value: Any, wanted: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise _Unfit
    if wanted.nonempty and not value:
        raise _Unfit(": it may not be empty")
    return [_convert(item, wanted.item_type) for item in value]


def _boolean(value: Any) -> bool:
    word = str(value).lower()
    if word not in ("true", "false"):
        raise _Unfit(": write true or false")
    return word == "true"


def _int(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]+\s*", value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool):
        raise _Unfit
    try:
        return operator.index(value)
    except TypeError:
        raise _Unfit from None


def _float(value: Any) -> float:
    if isinstance(value, bool):
        raise _Unfit
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise _Unfit from None
    if not math.isfinite(number):
        raise _Unfit(": it must be finite")
    return number


def _compound(value: Any, wanted: Any) -> Any:
    """A map, pair or struct: given as such, or as JSON text."""
    import WDL

    try:
        if isinstance(value, str):
            value = json.loads(value)
        WDL.Value.from_json(wanted, value)
        json.dumps(value)
    except (ValueError, TypeError, WDL.Error.InputError) as error:
        raise _Unfit(f": {error}") from None
    return value


def _at(where: str, message: str) -> str:
    return f"{where}: {message}" if where else message
