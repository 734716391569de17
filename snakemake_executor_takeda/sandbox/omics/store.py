"""The emulator's records in the sandbox's SQLite database: JSON documents in order of creation."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.sandbox.database import connect

Record = dict[str, Any]

_SCHEMA = """
create table if not exists omics_records (
    number integer primary key autoincrement, kind text not null, key text not null,
    parent text not null, body text not null, unique (kind, key));
create index if not exists omics_by_parent on omics_records (kind, parent, number);
create table if not exists omics_requests (
    operation text not null, token text not null, digest text not null, key text not null,
    primary key (operation, token));
create table if not exists omics_free_ids (kind text not null, id text not null);
create table if not exists omics_executions (
    number integer primary key, run_id text not null, uuid text not null unique, name text not null,
    started_at real not null, ended_at real, status text);
"""


class Store:
    """Safe from any thread. What was written survives the daemon's death.

    Members whose names begin with `_` are the emulator's own and no part of an answer.
    """

    def __init__(self, database: Path) -> None:
        self._lock = threading.RLock()
        self._connection = connect(database, _SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def new_id(self, kind: str) -> str:
        """Seven digits, as HealthOmics has them, that no record of this kind bears.

        An id that `free_id` gave back is used again before any new one.
        """
        with self._lock:
            freed = self._connection.execute(
                "delete from omics_free_ids where rowid in (select rowid from omics_free_ids"
                " where kind = ? order by rowid limit 1) returning id",
                (kind,),
            ).fetchone()
        if freed is not None:
            return str(freed[0])
        while True:
            number = str(1_000_000 + secrets.randbelow(9_000_000))
            if self.get(kind, number) is None:
                return number

    def free_id(self, kind: str, number: str) -> None:
        with self._lock:
            self._connection.execute("insert into omics_free_ids values (?, ?)", (kind, number))

    def insert(self, kind: str, key: str, body: Mapping[str, Any], parent: str = "") -> bool:
        """False where there is one of this key."""
        with self._lock:
            cursor = self._connection.execute(
                "insert or ignore into omics_records (kind, key, parent, body) values (?, ?, ?, ?)",
                (kind, key, parent, json.dumps(body)),
            )
            return cursor.rowcount == 1

    def get(self, kind: str, key: str) -> Record | None:
        with self._lock:
            row = self._connection.execute(
                "select body from omics_records where kind = ? and key = ?", (kind, key)
            ).fetchone()
        return None if row is None else json.loads(row[0])

    def change(self, kind: str, key: str, change: Callable[[Record], bool | None]) -> Record | None:
        """Read, change, write as one step; `change` returns False to leave the record as it is."""
        with self._lock:
            body = self.get(kind, key)
            if body is None or change(body) is False:
                return body
            self._connection.execute(
                "update omics_records set body = ? where kind = ? and key = ?",
                (json.dumps(body), kind, key),
            )
            return body

    def update(self, kind: str, key: str, **members: Any) -> None:
        self.change(kind, key, lambda body: body.update(members))

    def delete(self, kind: str, key: str) -> None:
        with self._lock:
            self._connection.execute(
                "delete from omics_records where kind = ? and key = ?", (kind, key)
            )

    def numbered(
        self, kind: str, parent: str | None = None, *, newest_first: bool = False
    ) -> list[tuple[int, Record]]:
        """All records of a kind (below a parent) with the numbers that order them."""
        with self._lock:
            rows = self._connection.execute(
                "select number, body from omics_records where kind = ?1"
                " and (?2 is null or parent = ?2) order by number * ?3",
                (kind, parent, -1 if newest_first else 1),
            ).fetchall()
        return [(number, json.loads(body)) for number, body in rows]

    def records(self, kind: str, parent: str | None = None) -> list[Record]:
        return [body for _, body in self.numbered(kind, parent)]

    def count(self, kind: str, parent: str | None = None) -> int:
        with self._lock:
            row = self._connection.execute(
                "select count(*) from omics_records where kind = ?1"
                " and (?2 is null or parent = ?2)",
                (kind, parent),
            ).fetchone()
        return int(row[0])

    def note_start(self, run: Record) -> None:
        """The engine of a run was really started. This record outlives the run's own."""
        with self._lock:
            self._connection.execute(
                "insert into omics_executions (run_id, uuid, name, started_at) values (?, ?, ?, ?)",
                (run["id"], run["uuid"], run.get("name", ""), time.time()),
            )

    def note_end(self, run: Record) -> None:
        """A run has ended, as its `status` says; one whose engine never started has no record."""
        with self._lock:
            self._connection.execute(
                "update omics_executions set ended_at = ?, status = ? where uuid = ?",
                (run["stopTime"], run["status"], run["uuid"]),
            )

    def remember(self, operation: str, token: str, digest: str, key: str) -> tuple[str, str]:
        """Digest and key of the first request with this token, which is this one if there was none."""
        with self._lock:
            self._connection.execute(
                "insert or ignore into omics_requests values (?, ?, ?, ?)",
                (operation, token, digest, key),
            )
            found = self._connection.execute(
                "select digest, key from omics_requests where operation = ? and token = ?",
                (operation, token),
            ).fetchone()
        return str(found[0]), str(found[1])

    def fulfil(self, operation: str, token: str, key: str) -> None:
        """What the request with this token made."""
        with self._lock:
            self._connection.execute(
                "update omics_requests set key = ? where operation = ? and token = ?",
                (key, operation, token),
            )

    def forget(self, operation: str, token: str) -> None:
        with self._lock:
            self._connection.execute(
                "delete from omics_requests where operation = ? and token = ?", (operation, token)
            )
