"""Reads Nextflow's scripts and configs as far as they are literal; nothing in them is run.

A text is cut into statements: blocks (`params { … }`, `process X { … }`), assignments, and the rest.
Values are read where they are literals; all others are COMPUTED, with the text that computes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

_OPEN, _SHUT = "([{", ")]}"
_BLOCK = re.compile(
    r"(?P<name>[A-Za-z_][\w.]*(?:\s+[A-Za-z_]\w*)?|with(?:Name|Label)\s*:\s*\S+|['\"][^'\"\n]*['\"])\s*\{"
)
_ASSIGNMENT = re.compile(r"(?P<path>[A-Za-z_$][\w.$]*(?:\[[^\]]*\])?)\s*=(?![=~])\s*")
_NUMBER = re.compile(r"-?\d[\d_]*(\.\d+)?([eE][-+]?\d+)?[LlGgFfDd]?")
# A statement goes on in the next line after one of these, or before one.
_GOES_ON_AFTER = re.compile(r"(?:[=,:+*/&|.<>-]|\b(?:in|as|instanceof))\s*\Z")
_GOES_ON_BEFORE = re.compile(r"\s*(?:\?|:|\.[A-Za-z_]|\+|&&|\|\||\|\s)")
_BEFORE_SLASHY = "=(,[:~!&|{"
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b"}


@dataclass(frozen=True)
class Computed:
    """A value that only Nextflow could tell."""

    text: str


@dataclass(frozen=True)
class Text:
    """A part of a file, with what is in its comments and strings told from code."""

    clean: str
    """Comments are blanks."""
    code: str
    """Of the same length; what is inside strings is `_`, too, so that every bracket counts."""
    first_line: int = 1

    def part(self, start: int, end: int) -> Text:
        line = self.first_line + self.clean.count("\n", 0, start)
        return Text(self.clean[start:end], self.code[start:end], line)

    def stripped(self) -> Text:
        start = len(self.code) - len(self.code.lstrip())
        return self.part(start, len(self.code.rstrip()))


@dataclass(frozen=True)
class Statement:
    """One statement, brackets and all."""

    text: Text

    @cached_property
    def block(self) -> tuple[str, Text] | None:
        """Name and inside of `name { … }`; `process X` and `withName: 'X'` are names, too."""
        found = _BLOCK.match(self.text.code)
        if found is None or not self.text.code.endswith("}"):
            return None
        end = found.end() - 1
        if _close(self.text.code, end) != len(self.text.code) - 1:
            return None
        name = self.text.clean[found.start("name") : found.end("name")]
        inside = self.text.part(end + 1, len(self.text.code) - 1)
        return " ".join(name.replace('"', "").replace("'", "").split()), inside

    @cached_property
    def assignment(self) -> tuple[str, Text] | None:
        """Left side and right side of `a.b = …`."""
        found = _ASSIGNMENT.match(self.text.code)
        if found is None:
            return None
        right = self.text.part(found.end(), len(self.text.code))
        return self.text.clean[found.start("path") : found.end("path")], right

    def directive(self, name: str) -> Text | None:
        """What follows the word, in `publishDir 'x', mode: 'copy'`."""
        found = re.match(rf"{name}\b(?!\s*=)\s*", self.text.code)
        return self.text.part(found.end(), len(self.text.code)) if found else None


def read(text: str) -> Text:
    """Tell comments, strings and code apart. Never fails: what is not closed goes on to the end."""
    clean, code = list(text), list(text)

    def blank(start: int, end: int, *, comment: bool) -> None:
        for at in range(start, min(end, len(text))):
            if text[at] != "\n":
                code[at] = " " if comment else "_"
                if comment:
                    clean[at] = " "
            elif not comment:
                code[at] = "_"

    at = text.find("\n") if text.startswith("#!") else 0
    at = len(text) if at < 0 else at
    blank(0, at, comment=True)
    last = "\n"
    while at < len(text):
        letter = text[at]
        if text.startswith("//", at):
            end = text.find("\n", at)
            end = len(text) if end < 0 else end
            blank(at, end, comment=True)
        elif text.startswith("/*", at):
            end = text.find("*/", at + 2)
            end = len(text) if end < 0 else end + 2
            blank(at, end, comment=True)
        elif text.startswith("\\\n", at):
            # A line that goes on: no statement ends here, and lines are counted in `clean`.
            clean[at], code[at], code[at + 1] = " ", " ", " "
            end = at + 2
        elif letter in "'\"" or (letter == "/" and _is_slashy(text, at, last)):
            size, end = _string(text, at)
            # The slash of a pattern at the end of a line is no division that goes on.
            kept = 0 if letter == "/" else size
            blank(at + kept, end - kept, comment=False)
            last = letter
        else:
            last = letter if not letter.isspace() else last
            end = at + 1
        at = end
    return Text("".join(clean), "".join(code))


def statements(text: Text) -> Iterator[Statement]:
    """The statements of a text, those inside blocks not among them."""
    start, depth, at = 0, 0, 0
    while at <= len(text.code):
        letter = text.code[at] if at < len(text.code) else "\n"
        if letter in _OPEN:
            depth += 1
        elif letter in _SHUT:
            depth = max(0, depth - 1)
        last = at >= len(text.code)
        if last or (depth == 0 and letter in "\n;"):
            so_far = text.code[start:at]
            goes_on = letter == "\n" and (
                _GOES_ON_AFTER.search(so_far) or _GOES_ON_BEFORE.match(text.code, at)
            )
            if last or not (so_far.strip() and goes_on):
                if so_far.strip():
                    yield Statement(text.part(start, at).stripped())
                start = at + 1
        at += 1


def literal(text: Text) -> Any:
    """The value of a literal, lists and maps of literals too; Computed for any other."""
    text = text.stripped()
    words: dict[str, Any] = {"true": True, "false": False, "null": None, "[:]": {}, "[]": []}
    if text.clean in words:
        return words[text.clean]
    if _NUMBER.fullmatch(text.clean):
        digits = text.clean.rstrip("LlGgFfDd").replace("_", "")
        return float(digits) if re.search(r"[.eE]", digits) else int(digits)
    if text.clean[:1] in ("'", '"'):
        size, end = _string(text.clean, 0)
        inside = text.clean[size : end - size]
        if end == len(text.clean) and not (text.clean[0] == '"' and _has_dollar(inside)):
            return re.sub(
                r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), inside, flags=re.DOTALL
            )
    elif text.code[:1] == "[" and _close(text.code, 0) == len(text.code) - 1:
        return _collection(text)
    return Computed(" ".join(text.clean.split()))


def members(text: Text) -> list[tuple[str | None, Text]]:
    """The parts between commas, each with its name where it is `name: value`."""
    found: list[tuple[str | None, Text]] = []
    for part in _split(text, ","):
        one = part.stripped()
        if not one.code:
            continue
        named = re.match(r"([A-Za-z_]\w*|'[^']*'|\"[^\"]*\")\s*:(?!:)", one.code)
        if named:
            name = one.clean[: named.end(1)].strip("'\"")
            found.append((name, one.part(named.end(), len(one.code)).stripped()))
        else:
            found.append((None, one))
    return found


def _collection(text: Text) -> Any:
    parts = members(text.part(1, len(text.code) - 1))
    values = [(name, literal(part)) for name, part in parts]
    if any(_has_computed(value) for _, value in values):
        return Computed(" ".join(text.clean.split()))
    if all(name is not None for name, _ in values):
        return dict(values)
    return (
        [value for _, value in values]
        if all(name is None for name, _ in values)
        else Computed(" ".join(text.clean.split()))
    )


def _has_computed(value: Any) -> bool:
    return isinstance(value, Computed)


def _split(text: Text, mark: str) -> Iterator[Text]:
    start = depth = 0
    for at, letter in enumerate(text.code):
        depth += (letter in _OPEN) - (letter in _SHUT)
        if letter == mark and depth == 0:
            yield text.part(start, at)
            start = at + 1
    yield text.part(start, len(text.code))


def _close(code: str, at: int) -> int:
    """Where the bracket that opens here is closed; -1 where it is not."""
    depth = 0
    for place in range(at, len(code)):
        depth += (code[place] in _OPEN) - (code[place] in _SHUT)
        if depth == 0:
            return place
    return -1


def _string(text: str, at: int) -> tuple[int, int]:
    """Length of the quotes of the string that begins here, and where it ends."""
    quote = text[at]
    size = 3 if text.startswith(quote * 3, at) and quote != "/" else 1
    place = at + size
    while place < len(text):
        if text[place] == "\\":
            place += 2
        elif text.startswith(quote * size, place):
            return size, place + size
        elif quote == '"' and text.startswith("${", place):
            place = _after_interpolation(text, place + 2)
        elif size == 1 and text[place] == "\n":
            return size, place
        else:
            place += 1
    return size, len(text)


def _after_interpolation(text: str, at: int) -> int:
    """Past the `}` of a `${…}`, which may have strings of its own."""
    depth = 1
    while at < len(text):
        if text[at] in "'\"":
            at = _string(text, at)[1]
            continue
        depth += (text[at] == "{") - (text[at] == "}")
        at += 1
        if depth == 0:
            break
    return at


def _is_slashy(text: str, at: int, last: str) -> bool:
    line = text[at + 1 : text.find("\n", at) if "\n" in text[at:] else len(text)]
    return last in _BEFORE_SLASHY and "/" in line


def _has_dollar(inside: str) -> bool:
    return re.search(r"(?<!\\)\$[{A-Za-z_]", inside) is not None
