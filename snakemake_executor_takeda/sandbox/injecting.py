"""The faults of a running sandbox: which of them falls on a call, a job or an event, and how often
they did.

What happens depends on the seed and on which job it is: the n-th that carries a rule's tag (or, without
one, a name) since the fault was set, its index in its array, the attempt; of calls, the n-th of an
operation. It does not depend on threads or time.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.sandbox import faults
from snakemake_executor_takeda.sandbox.faults import Fault, Target

_SCHEMA = (
    "create table if not exists sandbox_faults"
    " (number integer primary key, fault text not null, injected integer not null)"
)


@dataclass(frozen=True)
class Subject:
    """A job that a fault may fall on."""

    job_id: str
    """Of an array's child: its parent's."""
    target: Target
    index: int | None = None
    attempt: int = 1
    status: str = ""
    """Which of its events."""


@dataclass(frozen=True)
class CallFault:
    """What befalls one call."""

    seconds: float = 0.0
    """Wait so long first."""
    refused: Fault | None = None
    """throttling or server-error."""
    lost: Fault | None = None


@dataclass(frozen=True)
class Hit:
    """A fault that falls on a job."""

    fault: Fault
    part: float
    """A number from 0 to below 1, for what the fault leaves to chance, such as when."""


class _Entry:
    """A fault that is set, and what it has done."""

    def __init__(self, fault: Fault, injected: int = 0) -> None:
        self.fault = fault
        self.injected = injected
        self.numbers: Counter[str] = Counter()
        self.ordinals: dict[str, tuple[str, int]] = {}
        self.known: dict[Hashable, Hit] = {}

    @property
    def is_spent(self) -> bool:
        return self.fault.times is not None and self.injected >= self.fault.times

    def number(self, name: str) -> int:
        self.numbers[name] += 1
        return self.numbers[name]

    def ordinal(self, subject: Subject) -> tuple[str, int]:
        """Which job this is, in words that a later run has again."""
        found = self.ordinals.get(subject.job_id)
        if found is None:
            word = subject.target.rule or subject.target.name or ""
            found = self.ordinals[subject.job_id] = word, self.number(word)
        return found


class Faults:
    """The faults that are set. Safe from any thread; costs nothing while there are none."""

    def __init__(self, database: Path | None = None) -> None:
        """`database` keeps them over the daemon's death."""
        self._lock = threading.Lock()
        self._entries: tuple[_Entry, ...] = ()
        self._database = database
        self._listeners: list[Callable[[], None]] = []
        if database is not None:
            self._entries = tuple(_Entry(fault, count) for fault, count in _load(database))

    def on_change(self, listener: Callable[[], None]) -> None:
        """Have `listener` called after each change, by the thread that made it."""
        self._listeners.append(listener)

    def set(self, wanted: Iterable[Fault]) -> None:
        """Add faults; one with the same word, variant and selectors is replaced, its count anew."""
        new = {fault.key: _Entry(fault) for fault in wanted}
        with self._lock:
            kept = [entry for entry in self._entries if entry.fault.key not in new]
            self._entries = (*kept, *new.values())
        self._changed()

    def clear(self, names: Sequence[str] = ()) -> None:
        """Take away all faults, or those with these words."""
        with self._lock:
            self._entries = tuple(e for e in self._entries if names and e.fault.kind not in names)
        self._changed()

    def forget(self) -> None:
        """Nothing is set when the sandbox is up again."""
        with self._lock:
            self._entries = ()
        self.save()

    def facts(self) -> dict[str, Any]:
        """What is set, how often each was injected, and the sums by word."""
        with self._lock:
            rows = [
                {"fault": entry.fault.kind, **entry.fault.to_json(), "injected": entry.injected}
                for entry in self._entries
            ]
        counts: Counter[str] = Counter()
        for row in rows:
            row.pop("kind")
            counts[row["fault"]] += row["injected"]
        return {"faults": rows, "injected": dict(counts)}

    def save(self) -> None:
        """Bring what is set and the counts to the database."""
        if self._database is not None:
            with self._lock:
                rows = [(json.dumps(e.fault.to_json()), e.injected) for e in self._entries]
            _save(self._database, rows)

    # what the emulators ask

    def on_call(self, operation: str, target: Callable[[], Target]) -> CallFault | None:
        """What befalls a call; `target` gives what it names, where a selector has to know."""
        if not any(faults.KINDS[e.fault.kind].scope == "call" for e in self._entries):
            return None
        named = target()
        with self._lock:
            found = [
                entry
                for entry in self._entries
                if faults.KINDS[entry.fault.kind].scope == "call" and entry.fault.selects(named)
            ]
            seconds = 0.0
            hit: dict[str, Fault] = {}
            for entry in found:
                kind = entry.fault.kind
                if entry.is_spent or entry.fault.amount == 0:
                    continue
                number = entry.number(operation)
                if kind == "latency":
                    seconds = max(seconds, entry.fault.amount)
                elif hit or entry.fault.draw(operation, number) >= entry.fault.amount:
                    continue
                else:
                    hit[kind] = entry.fault
                entry.injected += 1
        lost = hit.pop("lost-answer", None)
        return CallFault(seconds, next(iter(hit.values()), None), lost)

    def note(self, subject: Subject) -> None:
        """A job was submitted: it gets its number among its like."""
        for entry in self._entries:
            if faults.KINDS[entry.fault.kind].scope != "call" and entry.fault.selects(
                subject.target
            ):
                with self._lock:
                    entry.ordinal(subject)

    def of(self, kind: str, target: Target) -> Fault | None:
        """The fault of this kind that was set last for this target, None for none or one turned off."""
        for entry in reversed(self._entries):
            fault = entry.fault
            if fault.kind == kind and fault.amount and not entry.is_spent and fault.selects(target):
                return fault
        return None

    def count(self, fault: Fault) -> None:
        """A fault that `of` gave was injected."""
        with self._lock:
            for entry in self._entries:
                if entry.fault is fault:
                    entry.injected += 1

    def has(self, kind: str) -> bool:
        return bool(self._entries) and any(entry.fault.kind == kind for entry in self._entries)

    def seconds(self, kind: str, subject: Subject, variant: str | None = None) -> float:
        """The longest that is set for this job (of one variant), 0 for none; counted once a job."""
        longest = 0.0
        for entry in self._entries:
            fault = entry.fault
            if variant is not None and fault.variant != variant:
                continue
            if fault.kind == kind and fault.amount and fault.selects(subject.target):
                with self._lock:
                    if subject.job_id not in entry.known:
                        if entry.is_spent:
                            continue
                        entry.injected += 1
                        entry.known[subject.job_id] = Hit(fault, 0.0)
                longest = max(longest, fault.amount)
        return longest

    def hit(
        self,
        kind: str,
        subject: Subject,
        *,
        key: Hashable = None,
        where: Callable[[Fault], bool] = lambda fault: True,
    ) -> Hit | None:
        """The fault of this kind that falls on this attempt, counted as injected; `withdraw` it if
        it could not be done. With a `key` the same answer is counted once only."""
        for entry in self._entries:
            fault = entry.fault
            if fault.kind != kind or not fault.selects(subject.target) or not where(fault):
                continue
            with self._lock:
                if key is not None and key in entry.known:
                    return entry.known[key]
                if entry.is_spent:
                    continue
                what = (*entry.ordinal(subject), subject.index, subject.attempt, subject.status)
                if fault.draw(*what) < fault.amount:
                    entry.injected += 1
                    hit = Hit(fault, fault.draw("part", *what))
                    if key is not None:
                        entry.known[key] = hit
                    return hit
        return None

    def withdraw(self, hit: Hit) -> None:
        """What was hit came to its end otherwise."""
        with self._lock:
            for entry in self._entries:
                if entry.fault is hit.fault:
                    entry.injected -= 1

    def _changed(self) -> None:
        self.save()
        for listener in self._listeners:
            listener()


def _load(database: Path) -> list[tuple[Fault, int]]:
    with sqlite3.connect(database, timeout=10) as connection:
        connection.execute(_SCHEMA)
        rows = connection.execute(
            "select fault, injected from sandbox_faults order by number"
        ).fetchall()
    connection.close()
    return [(faults.from_json(json.loads(fault)), count) for fault, count in rows]


def _save(database: Path, rows: Sequence[tuple[str, int]]) -> None:
    with sqlite3.connect(database, timeout=10) as connection:
        connection.execute("delete from sandbox_faults")
        connection.executemany(
            "insert into sandbox_faults (fault, injected) values (?, ?)", list(rows)
        )
    connection.close()
