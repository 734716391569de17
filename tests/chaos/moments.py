"""When a controller is ended: drawn from a seed, and found by watching its ledger and its event log."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.recording import LEDGER, open_ledger

EVENTS = Path(".snakemake/takeda/events.jsonl")
LOOK_SECONDS = 0.003
"""An sbatch takes ten times as long, an AWS call about as long."""
LATENCY_SECONDS = 0.5
CALLS = ("SubmitJob", "StartRun")


@dataclass(frozen=True)
class Moment:
    """So long after something was done so often in the life of one controller."""

    what: str
    """`began`; `intent` of a submission, `request` of a HealthOmics run, both before their calls;
    `accepted`; or an event of the event log."""
    nth: int
    delay_seconds: float
    whole_group: bool
    """With all that it started, as a reboot would."""
    call: str = ""
    """What happens to AWS calls that submit, meanwhile: `slow` or `lost`; nothing else."""

    def __str__(self) -> str:
        number = f"{self.nth}. " if self.what != "began" else ""
        call = f", {self.call} call" if self.call else ""
        group = ", whole group" if self.whole_group else ""
        return f"{number}{self.what} + {self.delay_seconds:.3f} s{call}{group}"

    @property
    def fault(self) -> str | None:
        """In the sandbox's words."""
        if self.call == "slow":
            return f"latency={LATENCY_SECONDS}"
        return "lost-answer:closed=1" if self.call == "lost" else None


def draw(numbers: random.Random, length_seconds: float) -> Moment:
    """`length_seconds` is how long the pipeline takes, about, when it is left alone."""
    what = numbers.choices(list(_DRAWN), [weight for weight, _ in _DRAWN.values()])[0]
    nth, delay, call = _DRAWN[what][1](numbers, length_seconds)
    name = what.partition(" ")[0]
    return Moment(name, nth, round(delay, 3), numbers.random() < 0.5, call)


_Drawn = Callable[[random.Random, float], tuple[int, float, str]]


def _intent(numbers: random.Random, length: float) -> tuple[int, float, str]:
    call = numbers.choice(("", "slow", "lost"))
    longest = {"": 0.06, "slow": 3 * LATENCY_SECONDS, "lost": 1.5}[call]
    return numbers.randint(1, 3), numbers.uniform(0, longest), call


def _request(numbers: random.Random, length: float) -> tuple[int, float, str]:
    _, delay, call = _intent(numbers, length)
    return numbers.randint(1, 2), delay, call


_DRAWN: dict[str, tuple[float, _Drawn]] = {
    "began (start)": (15, lambda numbers, length: (1, numbers.uniform(0.5, 4.0), "")),
    "began (any)": (15, lambda numbers, length: (1, numbers.uniform(0, 0.7 * length), "")),
    "intent": (25, _intent),
    "request": (8, _request),
    "accepted": (8, lambda numbers, length: (numbers.randint(1, 3), numbers.uniform(0, 0.05), "")),
    "started": (7, lambda numbers, length: (numbers.randint(1, 6), numbers.uniform(0, 1), "")),
    "succeeded": (
        15,
        lambda numbers, length: (numbers.randint(1, 7), numbers.uniform(0, 0.15), ""),
    ),
    "reattached": (
        4,
        lambda numbers, length: (numbers.randint(1, 4), numbers.uniform(0, 0.3), ""),
    ),
    "run_end": (2, lambda numbers, length: (1, numbers.uniform(0, 0.2), "")),
}
"""Word → weight, and what is drawn."""


class Watch:
    """Counts what a controller does in a working directory, from now on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._since = time.time()
        self._read_to = self._size()
        self._rest = b""
        self._events: Counter[str] = Counter()
        self._db: sqlite3.Connection | None = None

    def close(self) -> None:
        if self._db is not None:
            self._db.close()

    def count(self, what: str) -> int:
        """How often it has happened."""
        if what == "intent":
            return self._rows("select count(*) from submission where intent_at >= ?")
        if what == "accepted":
            return self._rows("select count(*) from submission where answered_at >= ?")
        if what == "request":
            return self._rows("select count(*) from handoff where intent_at >= ?")
        self._read_events()
        return self._events[what]

    def _rows(self, query: str) -> int:
        if self._db is None and (self._folder / LEDGER).is_file():
            with suppress(sqlite3.Error):
                self._db = open_ledger(self._folder)
        if self._db is None:
            return 0
        try:
            return int(self._db.execute(query, (self._since,)).fetchone()[0])
        except sqlite3.OperationalError:  # no such table yet
            return 0

    def _read_events(self) -> None:
        path = self._folder / EVENTS
        if self._size() <= self._read_to:
            return
        with path.open("rb") as log:
            log.seek(self._read_to)
            new = log.read()
        self._read_to += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        for line in lines:
            with suppress(ValueError):  # an earlier controller's half line
                event: dict[str, Any] = json.loads(line)
                self._events[event["event"]] += 1

    def _size(self) -> int:
        try:
            return (self._folder / EVENTS).stat().st_size
        except FileNotFoundError:
            return 0
