"""What is looked at, and what is found: values only."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

FIX = re.compile(
    r"(?:[;:]\s+|[.?]\s+)(?=(?:did you mean|there (?:are|is)\b|[Dd]id you mean|[Ww]rite|[Ee]nable|"
    r"[Nn]ame|[Cc]orrect|[Ll]eave|[Ss]et|[Aa]dd|[Ww]ait|[Cc]heck|[Rr]enew|[Mm]end|[Rr]aise|[Rr]un|"
    r"[Ss]tart|[Ii]s |[Tt]he role needs|[Uu]nset|[Ll]ook|[Ii]nstall|[Gg]et|Its? |Partitions|There|`))"
)
"""Where a message of this package goes over from what is wrong to what mends it."""


class Severity(StrEnum):
    """How much a finding matters."""

    FAULT = "fault"
    """A run stops, or jobs fail or wait for ever."""
    WARNING = "warning"
    """A run goes on, not as it is meant."""
    NOTE = "note"
    """It could not be looked at: nothing is known to be wrong."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or could not be looked at."""

    what: str
    """What was seen, with the file and line or the thing that it is about."""
    why: str
    """What comes of it in a run; empty for a note."""
    fix: str
    """The command, or the line of a file, that mends it."""
    severity: Severity = Severity.FAULT


@dataclass(frozen=True, eq=False)
class Checkup:
    """One thing to look at. `look` is called in a thread of its own, and raises NotTold for what cannot be
    told, or TakedaError for what is wrong."""

    topic: str
    """What is looked at: `queue`, `log group`."""
    about: str
    """Whose: a target's name, a bucket, or `this machine`."""
    look: Callable[[], Iterable[Finding]]
    after: tuple[Checkup, ...] = ()
    """Looked at before. Where one of them has a fault, or could not be looked at, this is left out."""
    why: str = "a run stops at its start"
    """What comes of a TakedaError, or of no answer where it is `vital`."""
    vital: bool = False
    """Whether a run asks the same at its start: no answer in time is a fault then, and no note."""


@dataclass(frozen=True)
class Result:
    """What came of one checkup."""

    checkup: Checkup
    findings: tuple[Finding, ...] = ()
    left_out: Checkup | None = None
    """The checkup without which this could not be looked at."""

    @property
    def is_well(self) -> bool:
        return self.left_out is None and not self.findings

    @property
    def blocks(self) -> bool:
        """Whether what comes after it is left out."""
        bad = (Severity.FAULT, Severity.NOTE)
        return self.left_out is not None or any(one.severity in bad for one in self.findings)


class NotTold(Exception):
    """Something could not be looked at: nothing is known to be wrong."""

    def __init__(self, reason: str, fix: str = "") -> None:
        super().__init__(reason)
        self.fix = fix


@dataclass(frozen=True)
class Visit:
    """All results of one `takeda doctor`."""

    results: tuple[Result, ...] = field(default_factory=tuple)

    def findings(self) -> list[tuple[Checkup, Finding]]:
        """What is wrong: faults first, notes not among them."""
        found = [
            (one.checkup, finding)
            for one in self.results
            for finding in one.findings
            if finding.severity is not Severity.NOTE
        ]
        return sorted(found, key=lambda pair: pair[1].severity is Severity.WARNING)

    def notes(self) -> list[tuple[Checkup, Finding]]:
        return [
            (one.checkup, finding)
            for one in self.results
            for finding in one.findings
            if finding.severity is Severity.NOTE
        ]

    def left_out(self) -> list[tuple[Checkup, Checkup]]:
        """Each that was not looked at, with the one that must be well first."""
        return [(one.checkup, one.left_out) for one in self.results if one.left_out]


def halves(text: str, fix: str = "") -> tuple[str, str]:
    """A message of this package as what is wrong and what mends it; `fix` where it says no more than the
    first."""
    text = text.strip()
    found = FIX.search(text)
    if found is None:
        return text.rstrip("."), fix or "mend what the message names"
    return text[: found.start()].rstrip(" .;:"), text[found.end() :]
