"""What was asked of HealthOmics, durably: each run's request, before the call and after it."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from snakemake_executor_takeda.transactions import transaction

_SCHEMA = """
create table if not exists handoff (
    request text not null,
    generation integer not null,
    run_name text not null,
    batch_name text,
    run_id text,
    uuid text,
    status text,
    intent_at real not null,
    answered_at real,
    primary key (request, generation)
);
"""
_MAX_ASKED = 500


@dataclass(frozen=True)
class Entry:
    """One generation of a request: a run that was asked for once, whether or not it is known to exist."""

    request: str
    """The request's key; equal requests have equal ones."""
    generation: int
    """0 for the first run; the next one only after this one's end is written down."""
    run_name: str
    batch_name: str | None = None
    """The batch that it was asked for with."""
    run_id: str | None = None
    """None as long as the service's answer is not written down."""
    uuid: str | None = None
    status: str | None = None
    """How it ended, if it ended so that another run has to do its work."""


_COLUMNS = ", ".join(one.name for one in fields(Entry))


class Journal:
    """The table `handoff` of the working directory's ledger. Each method is one transaction, on disk when it
    returns; safe across threads and processes."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
        self._db.execute("pragma journal_mode = wal")
        # An intent must be on disk before the call that it announces.
        self._db.execute("pragma synchronous = full")
        self._db.executescript(_SCHEMA)

    def latest(self, requests: Sequence[str]) -> dict[str, Entry]:
        """The newest generation of each request that has one."""
        found: dict[str, Entry] = {}
        with self._lock:
            for start in range(0, len(requests), _MAX_ASKED):
                asked = list(requests[start : start + _MAX_ASKED])
                marks = ", ".join("?" * len(asked))
                rows = self._db.execute(
                    f"select {_COLUMNS} from handoff where request in ({marks}) "  # noqa: S608 - marks only
                    "order by generation",
                    asked,
                )
                found |= {row[0]: Entry(*row) for row in rows}
        return found

    def open_entries(self) -> list[Entry]:
        """All whose end is not written down: they may go on, or have completed."""
        with self._lock:
            rows = self._db.execute(
                f"select {_COLUMNS} from handoff where status is null"  # noqa: S608 - names only
            ).fetchall()
        return [Entry(*row) for row in rows]

    def intend(self, entries: Iterable[Entry]) -> None:
        """Write down what is about to be asked for."""
        now = time.time()
        with transaction(self._db, self._lock) as db:
            db.executemany(
                "insert into handoff (request, generation, run_name, batch_name, intent_at) "
                "values (?, ?, ?, ?, ?) on conflict do update set "
                "run_name = excluded.run_name, batch_name = excluded.batch_name",
                [(e.request, e.generation, e.run_name, e.batch_name, now) for e in entries],
            )

    def started(self, *entries: Entry) -> None:
        """Write down the runs that entries name; they need not have been intended here."""
        now = time.time()
        with transaction(self._db, self._lock) as db:
            db.executemany(
                f"insert into handoff ({_COLUMNS}, intent_at, answered_at) "  # noqa: S608 - names only
                "values (?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict do update set "
                "run_id = excluded.run_id, uuid = excluded.uuid, answered_at = excluded.answered_at",
                [
                    (*(getattr(entry, one.name) for one in fields(Entry)), now, now)
                    for entry in entries
                ],
            )

    def ended(self, runs: Iterable[tuple[str, int]], status: str | None) -> None:
        """Write down that runs, by request and generation, will not do their work: only now may there be a
        next generation. None takes that back."""
        with transaction(self._db, self._lock) as db:
            db.executemany(
                "update handoff set status = ? where request = ? and generation = ?",
                [(status, request, generation) for request, generation in runs],
            )

    def close(self) -> None:
        with self._lock:
            self._db.close()
