"""A YAML file as plain values, with the place of every word: safe, bounded, variables filled in."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from snakemake_executor_takeda.values import TakedaError

Location = tuple[str | int, ...]
"""Keys and list positions from the top of the file to a value."""

MAX_BYTES = 1_000_000
MAX_VALUES = 50_000
MAX_DEPTH = 20

_TOO_DEEP = "lists or mappings are nested too deep, or contain themselves."
_YAML = "tag:yaml.org,2002:"
_VARIABLE = re.compile(r"\$\$\{|\$\{(?P<inside>[^{}]*)\}|\$\{")
_INSIDE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.DOTALL)


@dataclass(frozen=True, order=True)
class Place:
    """A line of a file; `str` of it is `routing.yaml:4`."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong, and what to do about it."""

    place: Place
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


class PolicyMistakes(TakedaError):
    """All that is wrong with a policy."""

    def __init__(self, file: str, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        lines = [str(mistake) for mistake in mistakes]
        if len(lines) > 1:
            others = any(mistake.place.file != file for mistake in mistakes)
            what = f"{file} and what it includes have" if others else f"{file} has"
            lines = ["\n  ".join([f"{what} {len(lines)} mistakes:", *lines])]
        super().__init__(lines[0])


class Problems:
    """What is wrong with a policy and what it includes, gathered so that the user sees all at once."""

    def __init__(self, file: str) -> None:
        self._files = {file: 0}
        self._found: dict[Mistake, None] = {}

    def add(self, place: Place, text: str) -> None:
        self._files.setdefault(place.file, len(self._files))
        self._found[Mistake(place, text)] = None

    def raise_any(self) -> None:
        """Raises PolicyMistakes with one line a problem: first the file itself, in its order."""
        found = sorted(
            self._found, key=lambda one: (self._files[one.place.file], one.place.line, one.text)
        )
        if found:
            raise PolicyMistakes(next(iter(self._files)), found)


@dataclass(frozen=True)
class Mark:
    """Where a value is, and how it is written there."""

    place: Place
    text: str | None = None
    """A scalar as it stands in the file, before variables are filled in; None for a collection."""


@dataclass(frozen=True)
class Document:
    """A file's values: mappings with text keys, lists, text, numbers, booleans and None."""

    file: str
    value: Any
    marks: Mapping[Location, Mark] = field(repr=False)
    problems: Problems = field(repr=False)
    """What is wrong already, to be raised with what is wrong beside."""
    numbers: Mapping[int, int] = field(default_factory=dict, repr=False)
    """Position of a route → its number in its own file, where several files are joined."""

    def mark(self, location: Location) -> Mark:
        """Of this value, or of what encloses it where it is not in the file itself."""
        while location and location not in self.marks:
            location = location[:-1]
        return self.marks.get(location, Mark(Place(self.file, 1)))

    def place(self, location: Location) -> Place:
        return self.mark(location).place

    def owner(self, location: Location) -> str:
        """What a person calls this part of the policy."""
        match location:
            case ("targets", str(name), *rest):
                text = f"target {shown(name)}"
            case ("routes", int(position), *rest):
                text = f"route {self.number(position)}"
                rest = rest[1:] if rest[:1] == ["when"] else rest
            case _:
                text, rest = "the policy", list(location)
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{shown(step)}" for step in rest)
        return f"{text}, {path.lstrip('.')}" if path else text

    def number(self, position: int) -> int:
        """What a person counts a route as, in the file that it stands in."""
        return self.numbers.get(position, position + 1)

    def written(self, location: Location) -> str:
        """A value as it is written, fit for a message; never the value of a variable."""
        return shown(self._written(location))

    def _written(self, location: Location) -> str:
        mark = self.marks.get(location)
        if mark is None:
            return "…"
        if mark.text is not None:
            return mark.text
        here = self._at(location)
        if isinstance(here, list):
            return f"[{', '.join(self._written((*location, i)) for i in range(len(here)))}]"
        inside = (f"{word}: {self._written((*location, word))}" for word in here)
        return f"{{{', '.join(inside)}}}"

    def keys(self, location: Location) -> list[str]:
        """The words of the mapping there, none where there is something else."""
        here = self._at(location)
        return list(here) if isinstance(here, dict) else []

    def _at(self, location: Location) -> Any:
        here = self.value
        for step in location:
            here = here[step]
        return here


def shown(text: object) -> str:
    """Foreign text in a message: on one line, nothing unprintable, not too long."""
    clean = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))
    return clean if len(clean) <= 80 else f"{clean[:77]}…"


def read_yaml(path: Path, environ: Mapping[str, str], problems: Problems | None = None) -> Document:
    """The one document of a YAML file. Raises TakedaError naming file and line.

    Words mean what YAML 1.2 says: `no` and `1:30` are text, only `true` and `false` are booleans.
    A key given twice, a tag, an unset `${VARIABLE}` are left as problems of the document (added to
    those given, if any); what is no YAML, or grows out of bounds, is raised at once.
    """
    file = str(path)
    text = _text_of(path)
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise TakedaError(
            f"{file}:{line}: this is not YAML: {_syntax(error, text, line)}"
        ) from None
    except yaml.YAMLError as error:
        raise TakedaError(f"{file}: this is not YAML: {shown(error)}") from None
    except RecursionError:
        raise TakedaError(f"{file}: {_TOO_DEEP}") from None
    if root is None:
        raise TakedaError(f"{file}: the file is empty; a policy begins with `version: 1`.")
    problems = problems or Problems(file)
    builder = _Builder(file, environ, problems)
    try:
        value = builder.build(root, ())
    except RecursionError:  # a mapping that merges itself
        raise TakedaError(f"{file}: {_TOO_DEEP}") from None
    return Document(file, value, builder.marks, problems)


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise TakedaError(f"{path}: cannot be read: {error.strerror}.") from None
    if len(raw) > MAX_BYTES:
        raise TakedaError(f"{path}: larger than {MAX_BYTES:,} bytes; is this the right file?")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise TakedaError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8.") from None


def _syntax(error: yaml.MarkedYAMLError, text: str, line: int) -> str:
    words = ", ".join(w for w in (error.context, error.problem) if w)
    lines = text.splitlines()
    written = lines[line - 1] if line <= len(lines) else ""
    if "${" in written:
        words += ' (inside { } put variables in quotes: "${NAME}")'
    elif "alias" in words:
        words += ' (text that begins with * must be in quotes: "*_sorted")'
    elif "'>'" in words or "indicator" in words:
        words += ' (put comparisons in quotes: ">=64000")'
    elif "\\t" in words:
        words += " (indent with spaces, not tabs)"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in words)


class _Loader(yaml.SafeLoader):
    """PyYAML's reader with YAML 1.2's idea of numbers and booleans."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


def _resolve(tag: str, pattern: str, first: list[str]) -> None:
    _Loader.add_implicit_resolver(f"{_YAML}{tag}", re.compile(pattern), first)


_resolve("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF"))
_resolve("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""])
# Digits are bounded and leading zeros stay text: a number here always means what it looks like.
_resolve("int", r"^-?(?:0|[1-9][0-9]{0,17})$", list("-0123456789"))
_resolve("float", r"^-?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,17}$", list("-0123456789"))
_resolve("merge", r"^<<$", ["<"])


class _Builder:
    """Turns nodes into values, noting lines on the way."""

    def __init__(self, file: str, environ: Mapping[str, str], problems: Problems) -> None:
        self.marks: dict[Location, Mark] = {}
        self._file = file
        self._environ = environ
        self._problems = problems
        self._values = 0
        self._resolver = _Loader("")

    def build(self, node: yaml.Node, location: Location) -> Any:
        line = node.start_mark.line + 1
        self._count(line)
        if len(location) > MAX_DEPTH:
            raise TakedaError(f"{self._file}:{line}: nested deeper than {MAX_DEPTH} levels.")
        if isinstance(node, yaml.ScalarNode):
            self.marks.setdefault(location, Mark(self._place(line), node.value))
            return self._scalar(node, line)
        self.marks.setdefault(location, Mark(self._place(line)))
        if isinstance(node, yaml.SequenceNode):
            self._check_tag(node, "seq", line)
            return [self.build(item, (*location, i)) for i, item in enumerate(node.value)]
        assert isinstance(node, yaml.MappingNode)
        self._check_tag(node, "map", line)
        return self._mapping(node, location)

    def _place(self, line: int) -> Place:
        return Place(self._file, line)

    def _mapping(
        self, node: yaml.MappingNode, location: Location, taken: Collection[str] = ()
    ) -> dict[str, Any]:
        """The mapping without the keys already taken by the one that merges it."""
        mapping: dict[str, Any] = {}
        first_lines: dict[str, int] = {}
        merged: list[yaml.MappingNode] = []
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == f"{_YAML}merge":
                merged.extend(self._merged(value_node, line))
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._problems.add(self._place(line), "a word before `:` must be plain text.")
                continue
            key = key_node.value
            if "${" in key:
                self._problems.add(
                    self._place(line),
                    f"`{shown(key)}`: variables stand in values, not in the words before `:`. Write "
                    "the name itself.",
                )
            if key in first_lines:
                self._problems.add(
                    self._place(line),
                    f"`{shown(key)}` is given twice (first in line {first_lines[key]}): "
                    "keep one of them.",
                )
                continue
            first_lines[key] = line
            if key in taken:
                continue
            here = (*location, key)
            text = value_node.value if isinstance(value_node, yaml.ScalarNode) else None
            self.marks[here] = Mark(self._place(line), text)
            mapping[key] = self.build(value_node, here)
        for other in merged:
            mapping.update(self._mapping(other, location, {*taken, *mapping}))
        return mapping

    def _merged(self, node: yaml.Node, line: int) -> Iterator[yaml.MappingNode]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for item in nodes:
            self._count(line)
            if isinstance(item, yaml.MappingNode):
                yield item
            else:
                self._problems.add(
                    self._place(line),
                    "`<<:` takes an alias of a mapping (*name), or a list of them.",
                )

    def _count(self, line: int) -> None:
        self._values += 1
        if self._values > MAX_VALUES:
            raise TakedaError(
                f"{self._file}:{line}: more than {MAX_VALUES:,} values once its aliases (*name) are "
                "followed; write out what is meant."
            )

    def _check_tag(self, node: yaml.Node, kind: str, line: int) -> None:
        if node.tag != _YAML + kind:
            self._problems.add(
                self._place(line),
                f"the tag {shown(node.tag.replace(_YAML, '!!'))} is not allowed: remove it, "
                "or put text that begins with ! in quotes.",
            )

    def _scalar(self, node: yaml.ScalarNode, line: int) -> Any:
        text, tag = self._filled_in(node.value, line), node.tag
        if text != node.value and node.style is None:
            tag = self._resolver.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        match tag.removeprefix(_YAML):
            case "str" | "merge":
                return text
            case "null":
                return None
            case "bool" if text.lower() in ("true", "false"):
                return text.lower() == "true"
            case "int" | "float" as kind:
                try:
                    return int(text) if kind == "int" else float(text)
                except ValueError:
                    pass
        self._check_tag(node, "str", line)
        return text

    def _filled_in(self, text: str, line: int) -> str:
        def value(match: re.Match[str]) -> str:
            if match[0] == "$${":
                return "${"
            inside = _INSIDE.fullmatch(match["inside"] or "")
            if inside is None:
                self._problems.add(
                    self._place(line),
                    f"`{shown(match[0])}` is no variable: write ${{NAME}} or ${{NAME:-default}} "
                    "($${ for a literal ${).",
                )
                return match[0]
            name, default = inside["name"], inside["default"]
            if default is not None:
                return self._environ.get(name) or default
            if name not in self._environ:
                self._problems.add(
                    self._place(line),
                    f"the environment variable {name} is not set: export {name}=…, or give a "
                    f"default: ${{{name}:-…}}.",
                )
            return self._environ.get(name, match[0])

        return _VARIABLE.sub(value, text)
