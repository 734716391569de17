"""Is an event log as it was written? Finds changed, removed and inserted lines, and a cut end."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from snakemake_executor_takeda.audit.chain import RESUMED, START, Head, digest, event_of


@dataclass(frozen=True)
class Problem:
    """What is wrong with a log, where."""

    kind: str
    """`changed`, `removed`, `inserted`, `cut` or `unchained`."""
    first_line: int
    """Counted from 1. Of what is missing: the line it would follow, 0 for the start of the file."""
    last_line: int
    text: str


@dataclass(frozen=True)
class Report:
    """What a look at a log found."""

    lines: int
    head: Head | None
    """Where the chain ends; None where no line is of a chain."""
    problems: tuple[Problem, ...]
    """In the order of the lines."""
    notes: tuple[str, ...]
    """What is unusual, and in order."""


@dataclass(frozen=True)
class _Line:
    number: int
    sha256: str
    event: Mapping[str, Any] | None
    before_sha256: str
    """Of all lines before; empty where nothing asks for it."""
    is_whole: bool

    @property
    def seq(self) -> int:
        return int(self.event["seq"]) if self.event else 0

    @property
    def resumed(self) -> Mapping[str, Any]:
        """What a line that takes the chain up says of what is before it; empty for other lines."""
        if self.event is None or self.event.get("event") != RESUMED:
            return {}
        detail = self.event.get("detail")
        return detail if isinstance(detail, dict) else {}


def verify(lines: Iterable[bytes], known: Sequence[Head] = ()) -> Report:
    """Look at a log, given as lines with their ends. `known` are chain's heads that are kept elsewhere:
    each was the end of the file once, so its line must still be there."""
    found = list(_read(lines))
    chained = [line for line in found if line.event]
    if not chained:
        return _without_chain(found, known)
    look = _Look(found, {head.sha256 for head in known})
    look.backwards(chained[-1])
    told = {one.last_line for one in look.problems}
    problems = [*look.problems, *(one for one in _cut(found, known) if one.last_line not in told)]
    head = Head(chained[-1].seq, chained[-1].sha256)
    ordered = sorted(problems, key=lambda one: (one.first_line, one.last_line))
    return Report(len(found), head, tuple(ordered), tuple(reversed(look.notes)))


def _read(lines: Iterable[bytes]) -> Iterator[_Line]:
    everything = hashlib.sha256()
    for number, line in enumerate(lines, 1):
        event = event_of(line)
        asked = event is not None and event.get("event") == RESUMED
        before = everything.hexdigest() if asked else ""
        everything.update(line)
        yield _Line(number, digest(line), event, before, line.endswith(b"\n"))


def _without_chain(found: Sequence[_Line], known: Sequence[Head]) -> Report:
    problems = list(_cut(found, known))
    if found and not problems:
        text = "no line has a number and the hash of the line before: none of this can be verified"
        problems.append(Problem("unchained", 1, len(found), text))
    return Report(len(found), None, tuple(problems), ())


def _cut(found: Sequence[_Line], known: Sequence[Head]) -> Iterator[Problem]:
    """The latest end of the log that is known, if it is no longer in it."""
    hashes = {line.sha256 for line in found} | {START.sha256}
    missing = [head for head in known if head.sha256 not in hashes]
    if not missing:
        return
    head = max(missing, key=lambda one: one.seq)
    last = max((line.seq for line in found), default=0)
    if last < head.seq:
        text = (
            f"the end is cut off: the log once ended with a line {head.seq} that is not here, "
            f"{head.seq - last} more than there are"
        )
        yield Problem("cut", len(found), len(found), text)
    else:
        number = next((line.number for line in found if line.seq == head.seq), len(found))
        text = (
            f"line {number} is not the line {head.seq} with which the log once ended: it was changed, or "
            "the log was cut off before it and gone on with"
        )
        yield Problem("changed", number, number, text)


class _Look:
    """Goes along the chain from its end to its start: what it does not come through is not of it."""

    def __init__(self, lines: Sequence[_Line], known: Set[str]) -> None:
        self._lines = lines
        self._known = known
        self._doubted: set[int] = set()
        """Lines that were changed: perhaps also in what they hold of the line before."""
        self._by_hash = {line.sha256: line for line in lines}
        self.problems: list[Problem] = []
        self.notes: list[str] = []

    def backwards(self, last: _Line) -> None:
        self._after(last)
        at: _Line | None = last
        while at is not None:
            at = self._before(at)

    def _after(self, last: _Line) -> None:
        """Lines behind the last one of the chain: half a line, of which nothing is known."""
        rest = self._lines[last.number :]
        if len(rest) == 1 and not rest[0].is_whole:
            self.notes.append(
                f"line {rest[0].number}, the last, is torn: its writer is in the middle of it, "
                "or was ended there"
            )
        elif rest:
            self._inserted(rest[0].number, rest[-1].number)

    def _before(self, line: _Line) -> _Line | None:
        """The line from which the look goes on, None at the start."""
        assert line.event is not None
        previous = line.event["previous"]
        if lost := line.resumed.get("lost"):
            self.notes.append(
                f"before line {line.number} {lost} events could not be written: "
                f"{line.resumed.get('reason')}"
            )
        if previous == START.sha256:
            self._start(line)
            return None
        parent = self._by_hash.get(previous)
        if parent is None or parent.number >= line.number:
            return self._without_parent(line)
        if parent.number < line.number - 1:
            self._inserted(parent.number + 1, line.number - 1)
        if line.event.get("event") == RESUMED:
            return self._resumed(line, parent)
        if line.seq != parent.seq + 1 and parent.event:
            self._changed(line.number, f"its number is {line.seq} after {parent.seq}")
        return parent if parent.event else self._unchained(parent)

    def _start(self, line: _Line) -> None:
        if line.number > 1:
            self._inserted(1, line.number - 1)
        if line.seq != 1:
            self._changed(line.number, f"its number is {line.seq}, as the first line's is 1")

    def _without_parent(self, line: _Line) -> _Line | None:
        """The line before was changed, or lines are missing there: the numbers tell."""
        for candidate in reversed(self._lines[: line.number - 1]):
            is_before = candidate.event is None or candidate.seq == line.seq - 1
            if not is_before and candidate.seq >= line.seq:
                continue
            if candidate.number < line.number - 1:
                self._inserted(candidate.number + 1, line.number - 1)
            if not is_before:
                self._removed(candidate.number, candidate.seq + 1, line.seq - 1)
            elif candidate.sha256 in self._known:
                self._changed(
                    line.number,
                    "it holds another hash of the line before, with which the log once ended",
                )
            else:
                self._doubt(candidate, line)
            return candidate if candidate.event else self._chained_before(candidate)
        if line.number > 1:
            self._inserted(1, line.number - 1)
        if line.seq > 1:
            self._removed(0, 1, line.seq - 1)
        else:
            self._changed(line.number, "it is the first, and does not begin the chain")
        return None

    def _resumed(self, line: _Line, parent: _Line) -> _Line | None:
        """The line that took the chain up holds the hash of all that was before it."""
        if line.resumed.get("torn_bytes"):
            self.notes.append(
                f"line {parent.number} is torn: its writer was ended in the middle of it; "
                f"line {line.number} takes the chain up"
            )
        going_on = parent if parent.event else self._chained_before(parent)
        if line.resumed.get("sha256") != line.before_sha256:
            before = len(self.problems)
            self._go_on(going_on)
            if len(self.problems) == before:
                text = f"lines 1 to {parent.number} are not as line {line.number} found them"
                self.problems.append(Problem("changed", 1, parent.number, text))
            return None
        if going_on is None and parent.number > 1:
            self.notes.append(f"lines 1 to {parent.number} were written without a chain")
        return going_on

    def _go_on(self, line: _Line | None) -> None:
        while line is not None:
            line = self._before(line)

    def _unchained(self, line: _Line) -> _Line | None:
        self._changed(line.number, "it is not of the chain, yet the next line follows it")
        return self._chained_before(line)

    def _chained_before(self, line: _Line) -> _Line | None:
        before = reversed(self._lines[: line.number - 1])
        return next((one for one in before if one.event), None)

    def _doubt(self, line: _Line, after: _Line) -> None:
        why = f"line {after.number} holds another hash of it"
        if after.number in self._doubted:
            why += f", unless that is what was changed in line {after.number}"
        self._doubted.add(line.number)
        self._changed(line.number, why)

    def _changed(self, number: int, why: str) -> None:
        self.problems.append(
            Problem("changed", number, number, f"line {number} was changed: {why}")
        )

    def _inserted(self, first: int, last: int) -> None:
        what = f"line {first} was" if first == last else f"lines {first} to {last} were"
        text = f"{what} inserted: the chain does not go through {'it' if first == last else 'them'}"
        self.problems.append(Problem("inserted", first, last, text))

    def _removed(self, after: int, first_seq: int, last_seq: int) -> None:
        what = (
            f"line {first_seq} was"
            if first_seq == last_seq
            else f"lines {first_seq} to {last_seq} were"
        )
        where = f"after line {after}" if after else "at the start"
        text = f"{what} removed, {where} of this file"
        self.problems.append(Problem("removed", after, after, text))
