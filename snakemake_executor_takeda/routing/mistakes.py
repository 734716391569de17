"""A model's complaint → a message a person can act on: line, word, nearest valid word, what to do."""

from __future__ import annotations

import types
import typing
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from snakemake_executor_takeda.nearest import nearest
from snakemake_executor_takeda.routing.source import Document, Location, Problems, shown

_SHOWN_WORDS = 16


def did_you_mean(word: str, words: Collection[str], what: str) -> str:
    """`Did you mean …?`, or the words to choose from."""
    near = nearest(word, words)
    if near:
        return f"Did you mean {near}?"
    listed = sorted(words)
    more = f" and {len(listed) - _SHOWN_WORDS} more" if len(listed) > _SHOWN_WORDS else ""
    return f"{what}: {', '.join(listed[:_SHOWN_WORDS])}{more}." if listed else f"{what}: none."


def report(
    error: ValidationError,
    model: type[BaseModel],
    document: Document,
    problems: Problems,
    base: Location = (),
    *,
    words: Collection[str] = (),
    foreign: Mapping[str, str] = types.MappingProxyType({}),
) -> None:
    """Add what `model` found wrong at `base` of the document to the problems.

    `words` are valid beside the model's own, `foreign` maps words of other backends to them. A
    validator's message may hold several mistakes, one a line. A field with `repr=False` is not shown.
    """
    details = error.errors(include_url=False)
    explained = {
        (*inner[:-1], near)
        for inner in (detail["loc"] for detail in details if detail["type"] == "extra_forbidden")
        if (near := nearest(str(inner[-1]), _known(model, inner, words)))
    }
    for detail in details:
        inner: Location = detail["loc"]
        if inner[-1:] == ("[key]",):  # pydantic's mark for a mapping's word that is wrong itself
            inner = inner[:-1]
        if not inner:  # about the whole, not about one word
            texts = [f"{document.owner(base)}: {said}" for said in _said(detail)]
        elif detail["type"] == "missing" and inner in explained:
            continue  # its misspelling is complained about
        elif detail["type"] == "extra_forbidden":
            texts = [_unknown(document, base + inner, _known(model, inner, words), foreign)]
        else:
            texts = _about_a_word(detail, model, document, base, inner)
        for text in texts:
            problems.add(document.place(base + inner), text)


def _unknown(
    document: Document, location: Location, known: Collection[str], foreign: Mapping[str, str]
) -> str:
    word, where = shown(location[-1]), document.owner(location[:-1])
    if word in foreign:
        return f"{where}: `{word}` is a word of {foreign[word]} targets only: remove it."
    return f"{where}: unknown word `{word}`. {did_you_mean(word, known, 'Words')}"


def _about_a_word(
    detail: Any, model: type[BaseModel], document: Document, base: Location, inner: Location
) -> list[str]:
    location = base + inner
    word, where = shown(location[-1]), document.owner(location[:-1])
    field = _fields(model_at(model, inner[:-1])).get(str(inner[-1]))
    about = f" ({field.description.rstrip('.')})" if field and field.description else ""
    outermost = _fields(model).get(str(inner[0]))
    written = document.written(location) if outermost is None or outermost.repr else "…"
    given = f"`{word}: {written}`"
    if isinstance(location[-1], int):
        where, given = document.owner(location), f"`{written}`"
    match detail["type"]:
        case "missing":
            near = nearest(word, document.keys(location[:-1]))
            hint = f"is `{near}` meant to be it?" if near else f"add `{word}: …`."
            return [f"{where} lacks `{word}`{about}: {hint}"]
        case "literal_error":
            choices = [c.strip().strip("'") for c in _expected(detail)]
            near = nearest(written, choices)
            hint = f" Did you mean {near}?" if near else ""
            return [f"{where}: {given} must be {' or '.join(choices)}.{hint}"]
        case "value_error" | "assertion_error":
            return [f"{where}: {given}: {said}" for said in _said(detail)]
        case kind if kind in _WANTED:
            return [f"{where}: {given} {_WANTED[kind]}."]
        case kind if kind in _WANTED_NUMBER:
            wanted = _WANTED_NUMBER[kind].format_map(detail.get("ctx", {}))
            return [f"{where}: {given} must be {wanted}{about}."]
    message = str(detail["msg"]).rstrip(".")
    return [f"{where}: {given} is not valid: {message[:1].lower()}{message[1:]}{about}."]


def _known(model: type[BaseModel], inner: Location, words: Collection[str]) -> set[str]:
    """The words that could stand in the place of the last one of a location below `model`."""
    return set(_fields(model_at(model, inner[:-1]))) | (set(words) if len(inner) == 1 else set())


def model_at(model: type[BaseModel], location: Location) -> type[BaseModel] | None:
    """The model of the values at a location below `model`, None where there is no one model."""
    here: Any = model
    for step in location:
        here = _stripped(here)
        if isinstance(here, type) and issubclass(here, BaseModel):
            field = _fields(here).get(str(step))
            here = field.annotation if field is not None else None
        else:
            inner = [a for a in typing.get_args(here) if a is not Ellipsis]
            here = inner[-1] if inner else None
    here = _stripped(here)
    return here if isinstance(here, type) and issubclass(here, BaseModel) else None


def _stripped(annotation: Any) -> Any:
    """Without `| None` and Annotated."""
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif origin in (typing.Union, types.UnionType):
            rest = [a for a in typing.get_args(annotation) if a is not type(None)]
            if len(rest) != 1:
                return None
            annotation = rest[0]
        else:
            return annotation


def _fields(model: type[BaseModel] | None) -> dict[str, Any]:
    if model is None:
        return {}
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _said(detail: Any) -> Iterator[str]:
    """A validator's own words, each mistake a sentence."""
    message = str(detail["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    for line in message.splitlines():
        yield line if line.endswith(("?", "…")) else f"{line.rstrip('.')}."


def _expected(detail: Any) -> list[str]:
    return str(detail["ctx"]["expected"]).replace(" or ", ",").split(",")


_WANTED = {
    "string_type": "must be one text; put a number or true/false in quotes",
    "string_too_short": "must not be empty",
    "bool_type": "must be true or false, without quotes",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list: [one, two]",
    "tuple_type": "must be a list: [one, two]",
    "dict_type": "must hold words with values: {word: value}",
    "model_type": "must hold words with values: {word: value}",
    "too_short": "must not be empty",
}

_NUMBER, _WHOLE = "a number", "a whole number"
_WANTED_NUMBER = {
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), _NUMBER),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), _WHOLE),
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
}
"""Beside what the word means, which names the unit."""
