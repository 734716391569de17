"""Checks members against a botocore shape: types by botocore, then what botocore leaves to AWS."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape
from botocore.validate import ParamValidator

_LENGTH_TYPES = {"string", "blob", "list", "map"}
_RANGE_TYPES = {"integer", "long", "float", "double"}
_CASELESS_ENUMS = {"RetryAction"}
"""Enums whose documentation says that case does not matter."""

_MAY_BE_EMPTY = {"TagrisTagsMap"}
"""The model says at least one, but snakemake-executor-plugin-aws-batch sends `tags={}` with every job
definition where the user gives none, and Batch takes it."""


def problems(params: dict[str, Any], shape: Shape) -> list[str]:
    """Everything wrong with these members, in words; empty when the service would take them."""
    report = ParamValidator().validate(params, shape)
    if report.has_errors():
        return list(report.generate_report().splitlines())
    return list(_violations(params, shape, ""))


def _violations(value: Any, shape: Shape, where: str) -> Iterator[str]:
    yield from _own_violations(value, shape, where)
    if isinstance(shape, StructureShape) and not shape.is_document_type:
        for name, member in shape.members.items():
            if name in value:
                yield from _violations(value[name], member, f"{where}.{name}" if where else name)
    elif isinstance(shape, ListShape):
        for number, item in enumerate(value, 1):
            yield from _violations(item, shape.member, f"{where}.{number}.member")
    elif isinstance(shape, MapShape):
        for key, item in value.items():
            yield from _violations(key, shape.key, f"{where} key")
            yield from _violations(item, shape.value, f"{where}.{key}")


def _own_violations(value: Any, shape: Shape, where: str) -> Iterator[str]:
    rules = shape.metadata
    low, high = rules.get("min"), rules.get("max")
    if shape.type_name in _LENGTH_TYPES:
        size = len(value)
        if low is not None and size < low and (size or shape.name not in _MAY_BE_EMPTY):
            yield _message(value, where, f"Member must have length greater than or equal to {low}")
        if high is not None and size > high:
            yield _message(value, where, f"Member must have length less than or equal to {high}")
    elif shape.type_name in _RANGE_TYPES:
        if low is not None and value < low:
            yield _message(value, where, f"Member must have value greater than or equal to {low}")
        if high is not None and value > high:
            yield _message(value, where, f"Member must have value less than or equal to {high}")
    if shape.type_name != "string":
        return
    words = rules.get("enum")
    if (
        words
        and value not in words
        and not (shape.name in _CASELESS_ENUMS and value.upper() in words)
    ):
        yield _message(value, where, f"Member must satisfy enum value set: [{', '.join(words)}]")
    pattern = rules.get("pattern")
    if pattern and not _compiled(pattern).fullmatch(value):
        yield _message(value, where, f"Member must satisfy regular expression pattern: {pattern}")


def _message(value: Any, where: str, rule: str) -> str:
    shown = repr(value)
    if len(shown) > 200:
        shown = shown[:200] + "…"
    return f"Value {shown} at '{where}' failed to satisfy constraint: {rule}"


@cache
def _compiled(pattern: str) -> Any:
    """The models' patterns use `\\p{L}`, which `re` does not know; AWS matches the whole value."""
    import regex

    return regex.compile(pattern)
