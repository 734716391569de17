"""A model's complaint → a message a person can act on: line, word, nearest valid word, what to do."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from snakemake_executor_takeda.routing.source import Document, Location, Problems, shown

_SHOWN_WORDS = 16


def nearest(word: str, words: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The word most like this one, whatever the case of its letters."""
    by_lower = {w.lower(): w for w in sorted(words)}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[found[0]] if found else None


def did_you_mean(word: str, words: Collection[str], what: str) -> str:
    """`Did you mean …?`, or the words to choose from."""
    near = nearest(word, words)
    if near:
        return f"Did you mean {near}?"
    listed = sorted(words)
    more = f" and {len(listed) - _SHOWN_WORDS} more" if len(listed) > _SHOWN_WORDS else ""
    return f"{what}: {', '.join(listed[:_SHOWN_WORDS])}{more}." if listed else f"{what}: none."


def owner(location: Location) -> str:
    """What a person calls this part of the policy."""
    match location:
        case ("targets", str(name), *rest):
            text = f"target {shown(name)}"
        case ("routes", int(number), *rest):
            text = f"route {number + 1}"
            rest = rest[1:] if rest[:1] == ["when"] else rest
        case _:
            text, rest = "the policy", list(location)
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{shown(step)}" for step in rest)
    return f"{text}, {path.lstrip('.')}" if path else text


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

    `words` are valid beside the model's own, `foreign` maps words of other backends to them.
    """
    for detail in error.errors(include_url=False):
        inner: Location = detail["loc"]
        location = base + inner
        word = shown(location[-1]) if location else ""
        where = owner(location[:-1])
        given = f"`{word}: {document.written(location)}`"
        if not inner:  # about the whole, not about one word
            problems.add(document.line(base), f"{owner(base)}: {_said(detail)}.")
            continue
        if isinstance(location[-1], int):
            where, given = owner(location), f"`{document.written(location)}`"
        line = document.line(location)
        match detail["type"]:
            case "missing":
                field = _fields(model_at(model, inner[:-1])).get(str(inner[-1]))
                about = field.description if field is not None else None
                text = f"{where} lacks `{word}`" + (f" ({about.rstrip('.')})." if about else ".")
                near = nearest(word, document.keys(location[:-1]))
                text += f" Is `{near}` meant to be it?" if near else ""
            case "extra_forbidden" if word in foreign:
                text = f"{where}: `{word}` is a word of {foreign[word]} targets only: remove it."
            case "extra_forbidden":
                known = set(_fields(model_at(model, inner[:-1]))) | (
                    set(words) if len(inner) == 1 else set()
                )
                text = f"{where}: unknown word `{word}`. {did_you_mean(word, known, 'Words')}"
            case "literal_error":
                choices = [c.strip().strip("'") for c in _expected(detail)]
                text = f"{where}: {given} must be {' or '.join(choices)}."
                near = nearest(document.written(location), choices)
                text += f" Did you mean {near}?" if near else ""
            case "value_error" | "assertion_error":
                text = f"{where}: {given}: {_said(detail)}."
            case kind:
                text = f"{where}: {given} {_wanted(kind, detail['msg'])}."
        problems.add(line, text)


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


def _said(detail: Any) -> str:
    """A validator's own words."""
    return (
        str(detail["msg"])
        .removeprefix("Value error, ")
        .removeprefix("Assertion failed, ")
        .rstrip(".")
    )


def _expected(detail: Any) -> list[str]:
    return str(detail["ctx"]["expected"]).replace(" or ", ",").split(",")


_WANTED = {
    "string_type": "must be one text; put a number or true/false in quotes",
    "string_too_short": "must not be empty",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list: [one, two]",
    "tuple_type": "must be a list: [one, two]",
    "dict_type": "must hold words with values: {word: value}",
    "model_type": "must hold words with values: {word: value}",
    "too_short": "must not be empty",
}


def _wanted(kind: str, message: str) -> str:
    return _WANTED.get(kind) or f"is not valid: {message[:1].lower()}{message[1:].rstrip('.')}"
