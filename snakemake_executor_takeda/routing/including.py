"""A policy and what it includes → one document, in which every word remembers its own file and line.

Words of the file itself come before those of the files that it includes, and those of a later one before
those of an earlier one. What an included file locks stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.nearest import nearest
from snakemake_executor_takeda.routing.conditions import CLOCK_WORDS
from snakemake_executor_takeda.routing.mistakes import did_you_mean
from snakemake_executor_takeda.routing.policy_file import LOCKABLE
from snakemake_executor_takeda.routing.source import (
    Document,
    Location,
    Mark,
    Problems,
    read_yaml,
    shown,
)

MAX_FILES = 50
_CHOOSE, _ZONE = "first", "UTC"
"""What holds where a file does not say it."""
_OF_ONE_FILE = ("version", "include", "locked")
"""Words that are not joined."""


@dataclass(frozen=True)
class Joined:
    """A policy, as one document, and the files that it is made of, the file itself first."""

    document: Document
    files: tuple[Path, ...]


def read_policy(path: Path, environ: Mapping[str, str]) -> Joined:
    """Raises TakedaError for a file that cannot be read; other mistakes are left as problems."""
    reader = _Reader(environ, Problems(str(path)))
    documents = reader.read(path)
    joined = _Joining(reader.problems)
    for document in documents:
        joined.add(document)
    return Joined(joined.document(documents[-1]), tuple(reader.files))


@dataclass
class _Reader:
    """Reads each file once, the included ones before those that include them."""

    environ: Mapping[str, str]
    problems: Problems
    files: list[Path] = field(default_factory=list)
    _seen: set[Path] = field(default_factory=set)

    def read(self, path: Path, trail: tuple[Path, ...] = ()) -> list[Document]:
        real = path.resolve()
        self._seen.add(real)
        self.files.append(path)
        document = read_yaml(path, self.environ, self.problems)
        included: list[Document] = []
        for location, name in _included(document):
            found = self._found(document, location, name, (*trail, real))
            if found is not None:
                included += self.read(found, (*trail, real))
        if trail:
            _check_included(document)
        _check_locked(document)
        return [*included, document]

    def _found(
        self, document: Document, location: Location, name: str, trail: tuple[Path, ...]
    ) -> Path | None:
        """The file to read, None where there is none, or it has been read."""
        written = f"`include: {document.written(location)}`"
        wrong = None
        try:
            path = _joined_path(Path(document.file).parent, name)
            real, is_file = path.resolve(), path.is_file()
        except (OSError, ValueError, RuntimeError):  # too long, a NUL, links in a circle
            wrong = "this is no path of a file: name a policy, relative to this file."
            self.problems.add(document.place(location), f"{written}: {wrong}")
            return None
        if real in trail:
            circle = " → ".join(shown(one.name) for one in (*trail[trail.index(real) :], real))
            wrong = f"files include each other in a circle ({circle}): remove one of them."
        elif not is_file:
            near = nearest(path.name, _neighbours(path))
            hint = f" Did you mean {near}?" if near else " Paths are relative to this file."
            wrong = f"there is no such file beside {shown(Path(document.file).name)}.{hint}"
        elif real not in self._seen and len(self._seen) >= MAX_FILES:
            wrong = f"more than {MAX_FILES} files in all; join some of them."
        if wrong:
            self.problems.add(document.place(location), f"{written}: {wrong}")
            return None
        return None if real in self._seen else path


@dataclass(frozen=True)
class _Route:
    """A route where it stands, with what its own file says about all of its routes: a file means the same
    wherever it is included."""

    document: Document
    position: int
    choose: Any
    timezone: Any

    @property
    def is_locked(self) -> bool:
        value = self._value
        return isinstance(value, dict) and value.get("locked") is True

    def value(self, said: Mapping[str, Any]) -> Any:
        """As part of a policy that says this."""
        value = self._value
        if not isinstance(value, dict):
            return value
        value = dict(value)
        if self.choose != said.get("choose", _CHOOSE) and isinstance(value.get("to"), list):
            value.setdefault("choose", self.choose)
        when = value.get("when")
        in_another_zone = self.timezone != said.get("timezone", _ZONE)
        if in_another_zone and isinstance(when, dict) and CLOCK_WORDS & when.keys():
            value["when"] = {"timezone": self.timezone, **when}
        return value

    @property
    def _value(self) -> Any:
        return self.document.value["routes"][self.position]


@dataclass
class _Joining:
    """The document that grows as files of greater force are added."""

    problems: Problems
    value: dict[str, Any] = field(default_factory=dict)
    marks: dict[Location, Mark] = field(default_factory=dict)
    _routes: list[_Route] = field(default_factory=list)
    """Those of a later file before those of an earlier one."""
    _locked: dict[str, str] = field(default_factory=dict)
    """Word → where it is locked."""

    def add(self, document: Document) -> None:
        if not isinstance(document.value, dict):
            self._take((), document)
            return
        new_routes = 0
        for word, value in document.value.items():
            if word in self._locked:
                self.problems.add(
                    document.place((word,)),
                    f"`{word}` is locked by {self._locked[word]}: remove it here.",
                )
            elif word == "routes" and value is None:
                continue  # a heading without routes
            elif word == "routes" and isinstance(value, list):
                new_routes = len(value)
                self.marks[word,] = document.mark((word,))
            elif word == "targets" and isinstance(value, dict):
                self._add_targets(document, value)
            elif word == "retry" and isinstance(value, dict):
                self._merge((word,), document)
            elif word not in _OF_ONE_FILE:
                self._take((word,), document)
        choose = self.value.get("choose", _CHOOSE)
        timezone = self.value.get("timezone", _ZONE)
        self._routes[:0] = [
            _Route(document, position, choose, timezone) for position in range(new_routes)
        ]
        for word in _words_locked(document):
            self._locked.setdefault(word, str(document.place(("locked",))))

    def document(self, top: Document) -> Document:
        """Of all that was added; `top` is the file itself."""
        if not isinstance(top.value, dict):
            return top
        if "version" in top.value:
            self._take(("version",), top)
        numbers = {}
        if "routes" not in self.value and self._routes:
            ordered = [
                *(one for one in _outermost_first(self._routes) if one.is_locked),
                *(one for one in self._routes if not one.is_locked),
            ]
            self.value["routes"] = [one.value(self.value) for one in ordered]
            for position, one in enumerate(ordered):
                self._copy_marks(("routes", one.position), one.document, ("routes", position))
                here: Location = ("routes", position, "when", "timezone")
                mark = one.document.mark(("timezone",))
                self.marks.setdefault(here, Mark(mark.place, str(one.timezone)))
                numbers[position] = one.position + 1
        marks = {(): top.mark(()), **self.marks}
        return Document(top.file, self.value, marks, self.problems, numbers)

    def _add_targets(self, document: Document, targets: Mapping[str, Any]) -> None:
        before = self.value.setdefault("targets", {})
        if not isinstance(before, dict):
            return  # complained about
        self.marks["targets",] = document.mark(("targets",))
        for name in targets:
            here: Location = ("targets", name)
            known = before.get(name)
            if isinstance(known, dict) and known.get("locked") is True:
                self.problems.add(
                    document.place(here),
                    f"target {shown(name)} is locked by {self.marks[here].place}: remove it here, or "
                    "give yours another name.",
                )
                continue
            self._merge(here, document)

    def _merge(self, location: Location, document: Document) -> None:
        """Word by word, where both are mappings."""
        *above, last = location
        here: Any = self.value
        there: Any = document.value
        for step in above:
            here, there = here[step], there[step]
        if isinstance(here.get(last), dict) and isinstance(there[last], dict):
            for word in there[last]:
                self._take((*location, word), document)
            self.marks[location] = document.mark(location)
        else:
            self._take(location, document)

    def _take(self, location: Location, document: Document) -> None:
        """This value of the document, whatever was there."""
        there: Any = document.value
        for step in location:
            there = there[step]
        if not location:
            return
        here: Any = self.value
        for step in location[:-1]:
            here = here[step]
        here[location[-1]] = dict(there) if isinstance(there, dict) else there
        for mark in [one for one in self.marks if one[: len(location)] == location]:
            del self.marks[mark]
        self._copy_marks(location, document, location)

    def _copy_marks(self, of: Location, document: Document, to: Location) -> None:
        for location, mark in document.marks.items():
            if location[: len(of)] == of:
                self.marks[(*to, *location[len(of) :])] = mark


def _included(document: Document) -> Iterator[tuple[Location, str]]:
    """The files that a document names, and where; a wrong word is complained about."""
    value = document.value.get("include") if isinstance(document.value, dict) else None
    if value is None:
        return
    names = value if isinstance(value, list) else [value]
    for position, name in enumerate(names):
        location: Location = ("include", position) if isinstance(value, list) else ("include",)
        if isinstance(name, str) and name:
            yield location, name
        else:
            document.problems.add(
                document.place(location),
                f"the policy: `include: {document.written(location)}` must be the path of a policy, "
                "or a list of them: [site.yaml].",
            )


def _check_included(document: Document) -> None:
    """What every file says for itself; the rest is looked at when all are joined."""
    value = document.value
    if not isinstance(value, dict):
        document.problems.add(
            document.place(()), "an included policy begins with `version: 1`, then its words."
        )
    elif value.get("version") != 1:
        said = f"`version: {document.written(('version',))}`" if "version" in value else "it"
        document.problems.add(
            document.place(("version",)), f"the policy: {said} must say `version: 1`."
        )


def _check_locked(document: Document) -> None:
    value = document.value.get("locked") if isinstance(document.value, dict) else None
    if value is None:
        return
    if not isinstance(value, list):
        document.problems.add(
            document.place(("locked",)),
            f"the policy: `locked: {document.written(('locked',))}` must be a list of words: "
            "[default, retry]. (`locked: true` stands in a target or a route.)",
        )
        return
    for position, word in enumerate(value):
        if word not in LOCKABLE:
            location: Location = ("locked", position)
            document.problems.add(
                document.place(location),
                f"the policy, locked: {document.written(location)} is no word that can be locked. "
                f"{did_you_mean(document.written(location), LOCKABLE, 'Words')}",
            )


def _words_locked(document: Document) -> list[str]:
    words = document.value.get("locked")
    return [word for word in words if word in LOCKABLE] if isinstance(words, list) else []


def _outermost_first(routes: list[_Route]) -> Iterator[_Route]:
    """Files in the order in which they are included, each one's routes in their own order."""
    files = list(dict.fromkeys(one.document.file for one in routes))
    for file in reversed(files):
        yield from (one for one in routes if one.document.file == file)


def _joined_path(folder: Path, name: str) -> Path:
    try:
        path = Path(name).expanduser()
    except RuntimeError:  # of a user who is not there
        path = Path(name)
    return path if path.is_absolute() else folder / path


def _neighbours(path: Path) -> list[str]:
    try:
        return [one.name for one in path.parent.iterdir() if one.suffix in (".yaml", ".yml")]
    except OSError:
        return []
