"""The ledger `.snakemake/takeda/ledger.sqlite`: every submission, written before the call and after it."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from snakemake_executor_takeda.audit.chain import Head
from snakemake_executor_takeda.values import Accepted, Outcome, Submission

SCHEMA_VERSION = 3
_SCHEMA = """
create table if not exists submission (
    submission_id text primary key,
    run_id text not null,
    target text not null,
    backend text not null,
    name text not null,
    external_id text,
    state text not null check (state in ('intent', 'accepted', 'refused')),
    intent_at real not null,
    answered_at real
);
create table if not exists task (
    task_id text primary key,
    submission_id text not null references submission,
    job_id text not null,
    rule text not null,
    wildcards text not null,
    attempt integer not null,
    external_id text,
    state text not null check (state in ('intent', 'accepted', 'succeeded', 'failed', 'cancelled')),
    kind text,
    reason text,
    ended_at real,
    detail text
);
create index if not exists task_of_submission on task (submission_id);
create table if not exists event_log_head (
    run_id text primary key,
    seq integer not null,
    sha256 text not null,
    written_at real not null
);
"""


class Ledger:
    """Durable record of one working directory. Every method is one transaction; safe across threads."""

    def __init__(self, path: Path, run_id: str) -> None:
        self._run_id = run_id
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("pragma journal_mode = wal")
        # An intent must be on disk before the call that it announces.
        self._db.execute("pragma synchronous = full")
        self._db.executescript(_SCHEMA)
        self._add_what_older_versions_lack()
        self._db.execute(f"pragma user_version = {SCHEMA_VERSION}")

    def _add_what_older_versions_lack(self) -> None:
        columns = {row[1] for row in self._db.execute("pragma table_info(task)")}
        if "detail" not in columns:
            self._db.execute("alter table task add column detail text")

    def intend(self, submission: Submission) -> None:
        """Write what is about to be sent; on disk when this returns."""
        target = submission.target
        with self._transaction() as db:
            db.execute(
                "insert into submission values (?, ?, ?, ?, ?, null, 'intent', ?, null)",
                (
                    submission.submission_id,
                    self._run_id,
                    target.name,
                    target.backend,
                    submission.name,
                    time.time(),
                ),
            )
            db.executemany(
                "insert into task values (?, ?, ?, ?, ?, ?, null, 'intent', null, null, null, null)",
                [
                    (
                        task.task_id,
                        submission.submission_id,
                        str(task.job.job_id),
                        _text(task.job.rule),
                        json.dumps(dict(task.job.wildcards)),
                        task.job.attempt,
                    )
                    for task in submission.tasks
                ],
            )

    def accept(self, submission: Submission, accepted: Accepted) -> None:
        with self._transaction() as db:
            db.execute(
                "update submission set state = 'accepted', external_id = ?, answered_at = ? "
                "where submission_id = ?",
                (accepted.external_id, time.time(), submission.submission_id),
            )
            db.executemany(
                "update task set state = 'accepted', external_id = ? where task_id = ?",
                [
                    (external_id, task_id)
                    for task_id, external_id in accepted.task_external_ids.items()
                ],
            )

    def refuse(self, submission: Submission, outcome: Outcome) -> None:
        with self._transaction() as db:
            db.execute(
                "update submission set state = 'refused', answered_at = ? where submission_id = ?",
                (time.time(), submission.submission_id),
            )
            db.execute(
                "update task set state = 'failed', kind = ?, reason = ?, ended_at = ? "
                "where submission_id = ?",
                (outcome.kind, _text(outcome.reason), time.time(), submission.submission_id),
            )

    def end(self, outcomes: Mapping[str, Outcome]) -> None:
        """Task ids and how these tasks ended."""
        self._end(
            (task_id, "succeeded" if outcome.succeeded else "failed", outcome)
            for task_id, outcome in outcomes.items()
        )

    def cancel(self, task_ids: Iterable[str]) -> None:
        outcome = Outcome(reason="cancelled by the user")
        self._end((task_id, "cancelled", outcome) for task_id in task_ids)

    def note_end_of_event_log(self, head: Head) -> None:
        """Where the event log ends when this run does: what is cut off later is missed by it."""
        with self._transaction() as db:
            db.execute(
                "insert or replace into event_log_head values (?, ?, ?, ?)",
                (self._run_id, head.seq, head.sha256, time.time()),
            )

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _end(self, ends: Iterable[tuple[str, str, Outcome]]) -> None:
        now = time.time()
        with self._transaction() as db:
            db.executemany(
                "update task set state = ?, kind = ?, reason = ?, ended_at = ?, detail = ? "
                "where task_id = ?",
                [
                    (state, one.kind, _text(one.reason), now, _detail(one), task_id)
                    for task_id, state, one in ends
                ],
            )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("begin immediate")
            try:
                yield self._db
                self._db.execute("commit")
            except BaseException:
                # A full disk may have ended the transaction already.
                if self._db.in_transaction:
                    self._db.execute("rollback")
                raise


def ends_of_event_log(path: Path) -> list[Head]:
    """Where the event log ended at the end of each run, as a ledger has it; read only. Raises
    sqlite3.Error where the file is none."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
        tables = db.execute("select 1 from sqlite_master where name = 'event_log_head'")
        if not tables.fetchone():
            return []  # of an earlier version
        rows = db.execute("select seq, sha256 from event_log_head order by seq").fetchall()
    return [Head(seq, sha256) for seq, sha256 in rows]


def _detail(outcome: Outcome) -> str:
    """What the task used and where, as JSON: `wall_seconds`, and what its backend knows."""
    facts = {"wall_seconds": outcome.wall_seconds, **outcome.detail}
    return json.dumps(
        {name: value for name, value in facts.items() if value is not None}, default=str
    )


def _text(text: str) -> str:
    """SQLite takes Unicode only; a file name in a reason need not be."""
    return text.encode(errors="backslashreplace").decode()
