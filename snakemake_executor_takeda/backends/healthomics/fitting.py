"""What a rule gives, name by name, against what a workflow takes: in every language alike."""

from __future__ import annotations

import ast
import json
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from snakemake_executor_takeda.backends.healthomics.mistakes import Mistake, did_you_mean
from snakemake_executor_takeda.values import UNKNOWN, NamedFiles

_MAX_SHOWN = 200


class Declared(Protocol):
    """An input as a workflow declares it; the `str()` of its type is as the language writes it."""

    @property
    def name(self) -> str: ...

    @property
    def type(self) -> Any: ...

    @property
    def required(self) -> bool: ...


One = TypeVar("One", bound=Declared)
Of_co = TypeVar("Of_co", bound=Declared, covariant=True)


class Takes(Protocol[Of_co]):
    """A workflow, as far as its inputs go."""

    @property
    def name(self) -> str: ...

    @property
    def inputs(self) -> Mapping[str, Of_co]: ...

    @property
    def nested(self) -> Mapping[str, Of_co]: ...

    def find(self, name: str) -> Of_co | None:
        """The input that a rule means by a name."""
        ...


class Unfit(Exception):
    """A value that its declared type does not take."""


class Reading(Generic[One]):
    """Collects values and mistakes; each input is given once, by what names it first."""

    def __init__(self, workflow: Takes[One], where: str) -> None:
        self.given: dict[str, Any] = {}
        self.mistakes: list[Mistake] = []
        self._workflow = workflow
        self._where = where
        self._kinds: dict[str, str] = {}

    def take(self, name: str, kind: str, value: Callable[[One], Any]) -> None:
        workflow = self._workflow
        declared = workflow.find(name)
        if declared is None:
            self._refuse(
                f"workflow {workflow.name} has no input for the {kind} `{name}`."
                + _nearest(name, workflow),
                name,
            )
            return
        before = self._kinds.get(declared.name)
        if before is not None:
            if kind != "input_json entry":
                twice = f"both as an {before} and as a {kind}" if before != kind else "twice"
                self._refuse(f"`{declared.name}` is given {twice}", name, declared)
            return
        self._kinds[declared.name] = kind
        try:
            self.given[declared.name] = value(declared)
        except Unfit as unfit:
            self._refuse(f"{kind} `{name}` {unfit}", name, declared)

    def look_for_missing(self) -> None:
        wrong = {mistake.name for mistake in self.mistakes}
        missing = [
            one
            for one in self._workflow.inputs.values()
            if one.required and self.given.get(one.name) is None and one.name not in wrong
        ]
        if not missing:
            return
        wanted = ", ".join(f"`{one.name}` ({one.type})" for one in missing)
        self.mistakes.append(
            Mistake(
                f"workflow {self._workflow.name} needs {wanted}; "
                "name files under `input:` and values under `params:`",
                missing[0].name,
                str(missing[0].type),
                self._where,
            )
        )

    def _refuse(self, message: str, name: str, declared: One | None = None) -> None:
        expected = str(declared.type) if declared else ""
        self.mistakes.append(
            Mistake(message, declared.name if declared else name, expected, self._where)
        )


def collect(
    workflow: Takes[One],
    inputs: Sequence[NamedFiles],
    params: Mapping[str, Any],
    defaults: Mapping[str, Any],
    where: str,
    *,
    of_files: Callable[[NamedFiles, One], Any],
    of_value: Callable[[Any, One], Any],
) -> tuple[dict[str, Any], list[Mistake]]:
    """JSON values by input name, and all that is wrong. Unnamed inputs are dependencies only.

    `defaults` are those of `input_json`: what the rule names itself comes before them.
    """
    reading = Reading(workflow, where)
    for named in inputs:
        if named.name is not None:
            reading.take(named.name, "input", partial(of_files, named))
    for kind, values in (("param", params), ("input_json entry", defaults)):
        for name, value in values.items():
            reading.take(name, kind, partial(of_value, value))
    reading.look_for_missing()
    given = {name: value for name, value in sorted(reading.given.items()) if value is not None}
    return given, reading.mistakes


def from_words(
    workflow: Takes[One], name: str, words: Sequence[str], is_list: Callable[[Any], bool]
) -> Any:
    """The value of an input that a shell command gives as words, as `{params.name:q}` writes it.

    Snakemake writes None and Ellipsis as words, and an empty list or text as none. `is_list` says of
    a type whether its values may be lists.
    """
    declared = workflow.find(name)
    if declared is None:
        return list(words)
    if list(words) == ["None"] and not declared.required:
        return None
    if list(words) == ["Ellipsis"]:
        return Ellipsis
    if list(words) in ([], [""]):
        return [] if is_list(declared.type) else ""
    return words[0] if len(words) == 1 else list(words)


Convert = Callable[[Any, Any], Any]
"""A value and the type that it has to fit → the value in JSON's terms. Raises Unfit."""


def fit(value: Any, wanted: Any, convert: Convert, *, is_list: bool) -> Any:
    """A value in JSON's terms. UNKNOWN fits anything as long as it is unknown. `is_list`: whether the
    type is a list's. Raises Unfit."""
    if value is UNKNOWN:
        return UNKNOWN
    if value is Ellipsis:
        raise Unfit(f"wants {wanted}, and is not filled in yet")
    if value is None:
        return None
    try:
        return _outermost(value, wanted, convert) if is_list else convert(value, wanted)
    except Unfit as unfit:
        raise Unfit(f"wants {wanted}, not {shown(value)}{unfit}") from None


def _outermost(value: Any, wanted: Any, convert: Convert) -> Any:
    """In a shell command a list of one looks like its one member, and so it may in a rule."""
    if isinstance(value, (list, tuple)):
        return convert(value, wanted)
    whole = parsed(value) if isinstance(value, str) else None
    try:
        if isinstance(whole, (list, tuple)):
            return convert(whole, wanted)
    except Unfit as unfit:
        try:
            return convert([value], wanted)
        except Unfit:
            raise unfit from None
    return convert([value], wanted)


def part(value: Any, wanted: Any, convert: Convert, place: str) -> Any:
    """A member of a compound value; a misfit tells where in it."""
    try:
        return convert(value, wanted)
    except Unfit as unfit:
        said = str(unfit)
        if said.startswith("; at "):
            raise Unfit(f"; at {place}{said.removeprefix('; at ')}") from None
        raise Unfit(f"; at {place} it wants {wanted}, not {value!r}{said}") from None


def record(value: Mapping[Any, Any], wanted: Any, convert: Convert, word: str) -> dict[str, Any]:
    """A struct's or a record's members; `word` is what its language calls one."""
    members = wanted.members or {}
    if unknown := sorted(str(name) for name in value if name not in members):
        raise Unfit(f": {wanted} has no {word} `{unknown[0]}`.{did_you_mean(unknown[0], members)}")
    missing = [name for name, one in members.items() if not one.optional and name not in value]
    if missing:
        raise Unfit(f": it lacks {', '.join(f'`{one}` ({members[one]})' for one in missing)}")
    return {name: part(one, members[name], convert, f".{name}") for name, one in value.items()}


def members_of(wanted: Any) -> str:
    """A struct's or a record's members, in a message."""
    return ", ".join(f"{name} ({one})" for name, one in (wanted.members or {}).items())


def _nearest(name: str, workflow: Takes[One]) -> str:
    hint = did_you_mean(name, workflow.inputs)
    if hint.startswith(" Did"):
        return hint
    nested = did_you_mean(name.replace("__", "."), workflow.nested)
    return nested if nested.startswith(" Did") else hint


def shown(value: Any) -> str:
    """A value in a message."""
    text = repr(value)
    return f"{text[:_MAX_SHOWN]}…" if len(text) > _MAX_SHOWN else text


def parsed(text: str) -> Any:
    """The value that a text of JSON or Python stands for; the text itself where it is neither.

    In a shell command `{params.weights:q}` writes a dict as Python does.
    """
    if not text.lstrip().startswith(("[", "{", "(")):
        return text
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text


def text_of(value: Any) -> str:
    if isinstance(value, (list, tuple, dict, set)):
        raise Unfit
    return str(value)


def boolean(value: Any) -> bool:
    word = str(value).lower()
    if word not in ("true", "false"):
        raise Unfit(": write true or false")
    return word == "true"


def whole(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]+\s*", value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool):
        raise Unfit
    try:
        return operator.index(value)
    except TypeError:
        raise Unfit from None


def number(value: Any) -> float:
    if isinstance(value, bool):
        raise Unfit
    try:
        found = float(value)
    except (TypeError, ValueError):
        raise Unfit from None
    if not math.isfinite(found):
        raise Unfit(": it must be finite")
    return found


def plain(value: Any) -> Any:
    """A value whose parts have no declared types."""
    try:
        json.dumps(value)
    except (TypeError, ValueError) as error:
        raise Unfit(f": {error}") from None
    return value
