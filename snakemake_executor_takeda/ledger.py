"""The ledger `.snakemake/takeda/ledger.sqlite`: every submission, written before the call and after it,
and what of it a later controller goes on with."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from snakemake_executor_takeda.audit.chain import Head
from snakemake_executor_takeda.processes import process_began
from snakemake_executor_takeda.retrying import History
from snakemake_executor_takeda.transactions import transaction
from snakemake_executor_takeda.values import (
    Accepted,
    JobSpec,
    Outcome,
    Remembered,
    Shape,
    Submission,
    TakedaError,
    Target,
    Task,
)

SCHEMA_VERSION = 5
_RUN_TABLE = """create table if not exists run (
    run_id text primary key,
    state text not null check (
        state in ('running', 'cancelling', 'detached', 'ended', 'cancelled')
    ),
    workdir text not null,
    state_dir text not null,
    remote_prefix text,
    host text not null,
    pid integer not null,
    process_began real,
    began_at real not null,
    ended_at real,
    policy text
)"""
_SCHEMA = f"""
{_RUN_TABLE};
create table if not exists submission (
    submission_id text primary key,
    run_id text not null,
    target text not null,
    backend text not null,
    name text not null,
    external_id text,
    state text not null check (state in ('intent', 'accepted', 'refused')),
    intent_at real not null,
    answered_at real,
    asked text
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
    detail text,
    position integer,
    identity text,
    fingerprint text,
    members text
);
create index if not exists task_of_submission on task (submission_id);
create table if not exists event_log_head (
    run_id text primary key,
    seq integer not null,
    sha256 text not null,
    written_at real not null
);
"""
_ADDED_LATER = {
    "submission": {"asked": "text"},
    "task": {
        "detail": "text",
        "position": "integer",
        "identity": "text",
        "fingerprint": "text",
        "members": "text",
    },
}
"""Columns that a table of an older version lacks."""
UNFINISHED = ("running", "cancelling", "detached")
"""States of a run that the next controller goes on with, or ends."""
OPEN_STATES = ("intent", "accepted")
RESUMED = "resumed"
"""In a run's facts: a later controller has gone on with it."""


@dataclass(frozen=True)
class KnownRun:
    """A run as the ledger has it."""

    run_id: str
    state: str
    """`running`, as long as nobody wrote down its end, `cancelling`, from the moment on at which its user
    ended it, `detached`, `ended` or `cancelled`."""
    workdir: str
    state_dir: str
    remote_prefix: str | None
    host: str
    pid: int
    process_began: float | None
    """When the controller's process began, in clock ticks since its machine started."""
    began_at: float
    ended_at: float | None
    policy: Mapping[str, str] = field(default_factory=dict)
    """What it takes to read its routing policy again, as `assembly.policy_facts` gives it."""

    @property
    def is_unfinished(self) -> bool:
        return self.state in UNFINISHED

    @property
    def is_controlled(self) -> bool:
        """Whether its controller is a process of this machine that still runs."""
        return (
            self.state in ("running", "cancelling")
            and self.host == socket.gethostname()
            and self.process_began is not None
            and process_began(self.pid) == self.process_began
        )


class Follower(Protocol):
    """Whom a ledger tells what was just written, after it is on disk."""

    def intended(self, submission_id: str) -> None:
        """Raises SubmissionError where the submission must not be sent."""

    def accepted(self, submission_id: str) -> None: ...
    def changed(self) -> None: ...


@dataclass(frozen=True)
class Ended:
    """A task that ended well."""

    task_id: str
    target: str
    external_id: str | None
    fingerprint: str
    intent_at: float
    """Unix time at which its submission was written down."""
    detail: Mapping[str, Any]


class Ledger:
    """Durable record of one working directory. Every method is one transaction; safe across threads.

    Raises TakedaError where the file is none, is damaged, or is of a later version."""

    def __init__(self, path: Path, run_id: str) -> None:
        self._run_id = run_id
        self.follower: Follower | None = None
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            with readable_damage(path):
                check_version(self._db, path)
                self._db.execute("pragma journal_mode = wal")
                # An intent must be on disk before the call that it announces.
                self._db.execute("pragma synchronous = full")
                self._add_what_older_versions_lack()
                self._db.executescript(_SCHEMA)
                self._db.execute(f"pragma user_version = {SCHEMA_VERSION}")
        except BaseException:
            self._db.close()
            raise

    def _add_what_older_versions_lack(self) -> None:
        for table, added in _ADDED_LATER.items():
            columns = {row[1] for row in self._db.execute(f"pragma table_info({table})")}
            for name, kind in added.items():
                if columns and name not in columns:
                    self._db.execute(f"alter table {table} add column {name} {kind}")
        self._let_runs_be_cancelled()

    def _let_runs_be_cancelled(self) -> None:
        """Versions before 5 do not allow the state `cancelling`."""
        (version,) = self._db.execute("pragma user_version").fetchone()
        with transaction(self._db, self._lock) as db:
            if version < 5 and db.execute("pragma table_info(run)").fetchone():
                db.execute("alter table run rename to run_before")
                db.execute(_RUN_TABLE)
                db.execute("insert into run select * from run_before")
                db.execute("drop table run_before")

    def begin(
        self,
        workdir: Path,
        state_dir: Path,
        remote_prefix: str | None,
        policy: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """This process controls the run from now on."""
        now, pid = time.time(), os.getpid()
        with transaction(self._db, self._lock) as db:
            db.execute(
                "insert into run values (?, 'running', ?, ?, ?, ?, ?, ?, ?, null, ?) "
                "on conflict do update set state = 'running', workdir = excluded.workdir, "
                "host = excluded.host, pid = excluded.pid, process_began = excluded.process_began, "
                "ended_at = null, policy = excluded.policy",
                (
                    *(self._run_id, str(workdir), str(state_dir), remote_prefix),
                    *(socket.gethostname(), pid, process_began(pid), now),
                    json.dumps(dict(policy)),
                ),
            )

    def begin_cancelling(self) -> None:
        """The user wants this run ended: what ends from now on has not failed. On disk when this returns."""
        with transaction(self._db, self._lock) as db:
            db.execute("update run set state = 'cancelling' where run_id = ?", (self._run_id,))
        if self.follower:
            self.follower.changed()

    def finish(self, state: str) -> None:
        """How this controller left the run: `ended`, `cancelled` or `detached`."""
        with transaction(self._db, self._lock) as db:
            db.execute(
                "update run set state = ?, ended_at = ? where run_id = ?",
                (state, time.time(), self._run_id),
            )
        if self.follower:
            self.follower.changed()

    def remembered(self, targets: Mapping[str, Target]) -> list[Remembered]:
        """The submissions of this run with tasks that have not ended, in the order they were made.

        Raises TakedaError where one went to a target that is not among these."""
        with self._lock:
            rows = self._db.execute(
                "select s.submission_id, s.target, s.backend, s.name, s.external_id, s.state, "
                "s.intent_at, s.asked, t.task_id, t.job_id, t.rule, t.wildcards, t.attempt, "
                "t.external_id, t.state, t.identity, t.fingerprint, t.members "
                "from submission s join task t using (submission_id) where s.submission_id in ("
                "select submission_id from submission join task using (submission_id) "
                "where run_id = ? and task.state in ('intent', 'accepted')) "
                "order by s.rowid, t.position",
                (self._run_id,),
            ).fetchall()
        return [
            _remembered(list(group), targets) for _, group in groupby(rows, key=lambda row: row[0])
        ]

    def ended_well(self) -> dict[str, Ended]:
        """The last task of this run that ended well, by the identity of its job."""
        with self._lock:
            rows = self._db.execute(
                "select t.identity, t.task_id, s.target, t.external_id, t.fingerprint, s.intent_at, "
                "t.detail from submission s join task t using (submission_id) "
                "where s.run_id = ? and t.state = 'succeeded' and t.identity is not null "
                "order by t.ended_at",
                (self._run_id,),
            ).fetchall()
        return {
            identity: Ended(
                task_id, target, external_id, print_, intent_at, json.loads(detail or "{}")
            )
            for identity, task_id, target, external_id, print_, intent_at, detail in rows
        }

    def histories(self) -> dict[str, History]:
        """How jobs of this run have failed, by identity."""
        with self._lock:
            rows = self._db.execute(
                "select t.identity, t.attempt, s.target, t.kind, t.reason, t.external_id, "
                "json_extract(s.asked, '$.shape.mem_mb') "
                "from submission s join task t using (submission_id) "
                "where s.run_id = ? and t.state = 'failed' and t.identity is not null "
                "order by t.identity, t.ended_at, t.rowid",
                (self._run_id,),
            ).fetchall()
        return {
            identity: History.of(row[1:] for row in group)
            for identity, group in groupby(rows, key=lambda row: row[0])
        }

    def open_task_ids(self) -> set[str]:
        """Tasks of this run that have not ended."""
        with self._lock:
            rows = self._db.execute(
                "select task_id from task join submission using (submission_id) "
                "where run_id = ? and task.state in ('intent', 'accepted')",
                (self._run_id,),
            ).fetchall()
        return {row[0] for row in rows}

    def numbers(self) -> tuple[int, int]:
        """The highest numbers of a task and of a submission that this run has given out."""
        after = len(self._run_id) + 3  # `<run_id>-t1`
        with self._lock:
            task, submission = (
                self._db.execute(
                    f"select max(cast(substr({column}, ?) as integer)) "  # noqa: S608 - names only
                    "from submission join task using (submission_id) where run_id = ?",
                    (after, self._run_id),
                ).fetchone()[0]
                for column in ("task_id", "submission_id")
            )
        return task or 0, submission or 0

    def intend(self, submission: Submission) -> None:
        """Write what is about to be sent; on disk when this returns."""
        target = submission.target
        with transaction(self._db, self._lock) as db:
            db.execute(
                "insert into submission (submission_id, run_id, target, backend, name, state, "
                "intent_at, asked) values (?, ?, ?, ?, ?, 'intent', ?, ?)",
                (
                    submission.submission_id,
                    self._run_id,
                    target.name,
                    target.backend,
                    submission.name,
                    time.time(),
                    _asked(submission.tasks[0].job),
                ),
            )
            db.executemany(
                "insert into task (task_id, submission_id, job_id, rule, wildcards, attempt, state, "
                "position, identity, fingerprint, members) "
                "values (?, ?, ?, ?, ?, ?, 'intent', ?, ?, ?, ?)",
                [
                    (
                        task.task_id,
                        submission.submission_id,
                        str(task.job.job_id),
                        _text(task.job.rule),
                        json.dumps(dict(task.job.wildcards)),
                        task.job.attempt,
                        position,
                        task.job.identity or None,
                        task.job.fingerprint or None,
                        json.dumps(task.job.members) if task.job.members else None,
                    )
                    for position, task in enumerate(submission.tasks)
                ],
            )
        if self.follower:
            self.follower.intended(submission.submission_id)

    def accept(self, submission: Submission, accepted: Accepted) -> None:
        with transaction(self._db, self._lock) as db:
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
        if self.follower:
            self.follower.accepted(submission.submission_id)

    def refuse(self, submission: Submission, outcome: Outcome) -> None:
        with transaction(self._db, self._lock) as db:
            db.execute(
                "update submission set state = 'refused', answered_at = ? where submission_id = ?",
                (time.time(), submission.submission_id),
            )
            db.execute(
                "update task set state = 'failed', kind = ?, reason = ?, ended_at = ? "
                "where submission_id = ?",
                (outcome.kind, _text(outcome.reason), time.time(), submission.submission_id),
            )
        if self.follower:
            self.follower.accepted(submission.submission_id)

    def end(self, outcomes: Mapping[str, Outcome]) -> None:
        """Task ids and how these tasks ended."""
        self._end(
            (task_id, "succeeded" if outcome.succeeded else "failed", outcome)
            for task_id, outcome in outcomes.items()
        )

    def never_sent(self, remembered: Remembered) -> None:
        """An intent turned out to be no more than that: no failure of its tasks."""
        with transaction(self._db, self._lock) as db:
            db.execute(
                "update submission set state = 'refused', answered_at = ? where submission_id = ?",
                (time.time(), remembered.submission.submission_id),
            )
        self.cancel(
            remembered.open_task_ids, "it had not reached the service when its controller ended"
        )

    def cancel(self, task_ids: Iterable[str], reason: str = "cancelled by the user") -> None:
        outcome = Outcome(reason=reason)
        self._end((task_id, "cancelled", outcome) for task_id in task_ids)

    def note_end_of_event_log(self, head: Head) -> None:
        """Where the event log ends when this run does: what is cut off later is missed by it."""
        with transaction(self._db, self._lock) as db:
            db.execute(
                "insert or replace into event_log_head values (?, ?, ?, ?)",
                (self._run_id, head.seq, head.sha256, time.time()),
            )

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _end(self, ends: Iterable[tuple[str, str, Outcome]]) -> None:
        now = time.time()
        with transaction(self._db, self._lock) as db:
            db.executemany(
                "update task set state = ?, kind = ?, reason = ?, ended_at = ?, detail = ? "
                "where task_id = ?",
                [
                    (state, one.kind, _text(one.reason), now, _detail(one), task_id)
                    for task_id, state, one in ends
                ],
            )
        if self.follower:
            self.follower.changed()


@contextmanager
def readable_damage(path: Path) -> Iterator[None]:
    """TakedaError in place of what SQLite says of a file that is none, or is torn."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError | sqlite3.IntegrityError):
            raise
        raise TakedaError(
            f"the ledger {path} is damaged ({error}). What it knew of running jobs is lost with it: "
            "look in the services for jobs whose names begin with `takeda-`, and end them; move the "
            f"file and those named {path.name}-wal and {path.name}-shm away; then start again"
        ) from error


def check_version(db: sqlite3.Connection, path: Path) -> None:
    """Raises TakedaError where a later version has written the file."""
    (version,) = db.execute("pragma user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise TakedaError(
            f"the ledger {path} is of a later version of this plugin (schema {version}, this one "
            f"knows {SCHEMA_VERSION}): update snakemake-executor-plugin-takeda"
        )


def read_only(path: Path) -> sqlite3.Connection:
    """A ledger that is there, to be looked at, also on a file system that cannot be written. Raises
    sqlite3.Error where there is none."""
    uri = path.absolute().as_uri()
    db = sqlite3.connect(f"{uri}?mode=ro", uri=True)
    try:
        db.execute("pragma schema_version")
    except sqlite3.OperationalError:
        db.close()
        wal = path.with_name(f"{path.name}-wal")
        # SQLite wants to make files beside it, unless it is told that nobody writes.
        if (
            not path.is_file()
            or os.access(path.parent, os.W_OK)
            or (wal.is_file() and wal.stat().st_size)
        ):
            raise
        db = sqlite3.connect(f"{uri}?immutable=1", uri=True)
    except sqlite3.DatabaseError:
        db.close()
        raise
    return db


def last_run(path: Path) -> KnownRun | None:
    """The newest run of a ledger; None where there is no ledger, or one of before runs were kept.
    Raises TakedaError where the file is damaged or of a later version."""
    if not path.exists():
        return None
    with readable_damage(path), closing(read_only(path)) as db:
        check_version(db, path)
        if not db.execute("select 1 from sqlite_master where name = 'run'").fetchone():
            return None
        row = db.execute("select * from run order by began_at desc, rowid desc limit 1").fetchone()
    return KnownRun(*(*row[:-1], json.loads(row[-1] or "{}"))) if row else None


def knows_run(path: Path, run_id: object) -> bool:
    """Whether a ledger, which is there, has this run; read only."""
    with readable_damage(path), closing(read_only(path)) as db:
        return bool(db.execute("select 1 from run where run_id = ?", (run_id,)).fetchone())


def knows_submission(path: Path, run_id: str, external_id: str) -> bool:
    """Whether a run has this submission, or one whose answer is not written down; read only."""
    with readable_damage(path), closing(read_only(path)) as db:
        found = db.execute(
            "select 1 from submission where run_id = ? and (external_id = ? or state = 'intent')",
            (run_id, external_id),
        )
        return bool(found.fetchone())


@dataclass(frozen=True)
class LastSent:
    """The last task that was sent for a job."""

    fingerprint: str
    is_open: bool
    """Whether its end is not written down."""


def sent_unseen(path: Path) -> dict[str, LastSent]:
    """What was sent last for each job, also in a group, by its identity, where a run of which a controller
    did not end by itself has sent it, too: Snakemake may not have heard of its end. Read only. Raises
    TakedaError where the file is damaged or of a later version."""
    if not path.exists():
        return {}
    with readable_damage(path), closing(read_only(path)) as db:
        check_version(db, path)
        # Of an older version of the ledger nothing is known here.
        if not db.execute(
            "select 1 from pragma_table_info('task') where name = 'members'"
        ).fetchone():
            return {}
        runs = db.execute(
            "select run_id from run where state <> 'ended' or json_extract(policy, ?) is not null",
            (f"$.{RESUMED}",),
        )
        torn = {run_id for (run_id,) in runs}
        if not torn:
            return {}
        rows = db.execute(
            "select s.run_id, t.identity, t.fingerprint, t.members, t.state from submission s join "
            "task t using (submission_id) where t.identity is not null and t.fingerprint is not null "
            "order by s.rowid"
        )
        found, is_torn = {}, set()
        for run_id, one, fingerprint, members, state in rows:
            for part, of_part in json.loads(members) if members else [(one, fingerprint)]:
                found[part] = LastSent(of_part, state in OPEN_STATES)
                if run_id in torn:
                    is_torn.add(part)
    return {part: last for part, last in found.items() if part in is_torn}


def _asked(job: JobSpec) -> str:
    """What a submission asks for, as JSON: the same for all of its tasks."""
    asked = {
        "shape": vars(job.shape),
        "resources": dict(job.resources),
        "container": job.container,
        "rules": job.rules,
        "is_group": job.is_group,
    }
    return json.dumps(asked, default=str)


def _remembered(rows: list[tuple[Any, ...]], targets: Mapping[str, Target]) -> Remembered:
    """Of the rows of one submission's tasks."""
    submission_id, target_name, backend, name, external_id, state, intent_at, asked = rows[0][:8]
    target = targets.get(target_name)
    if target is None or target.backend != backend:
        raise TakedaError(
            f"jobs of the run before this one still run on target {target_name!r} ({backend}), which "
            f"the routing policy {'no longer has' if target is None else 'has as ' + target.backend}. "
            "Put it back to go on with them, or end them with `takeda cancel`"
        )
    facts = json.loads(asked)
    shape = Shape(**facts["shape"])
    rules, is_group = tuple(facts["rules"]), bool(facts["is_group"])
    tasks, external_ids, still_open = [], {}, set()
    for row in rows:
        task_id, job_id, rule, wildcards, attempt, task_external_id, task_state = row[8:15]
        job = JobSpec(
            job_id if is_group else int(job_id),
            rule,
            json.loads(wildcards),
            attempt,
            shape,
            facts["resources"],
            container=facts["container"],
            is_group=is_group,
            rules=rules,
            identity=row[15] or "",
            fingerprint=row[16] or "",
            members=tuple(map(tuple, json.loads(row[17] or "[]"))),
        )
        tasks.append(Task(task_id, job, target))
        external_ids[task_id] = task_external_id
        if task_state in OPEN_STATES:
            still_open.add(task_id)
    submission = Submission(submission_id, name, target, tuple(tasks))
    accepted = Accepted(external_id, external_ids) if state == "accepted" else None
    return Remembered(submission, accepted, frozenset(still_open), intent_at)


def ends_of_event_log(path: Path) -> list[Head]:
    """Where the event log ended at the end of each run, as a ledger has it; read only. Raises
    sqlite3.Error where the file is none."""
    with closing(read_only(path)) as db:
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


@dataclass(frozen=True)
class SentTask:
    """One task as a ledger has it."""

    task_id: str
    rule: str
    wildcards: Mapping[str, str]
    attempt: int
    target: str
    backend: str
    external_id: str | None
    state: str
    """`intent`: the service's answer is not written down, `accepted`, `succeeded`, `failed`, `cancelled`."""
    kind: str | None
    reason: str | None
    intent_at: float
    ended_at: float | None
    identity: str
    """Of its job: the same for all tasks that were sent for it."""

    @property
    def is_open(self) -> bool:
        return self.state in OPEN_STATES


def tasks_of(path: Path, run_id: str) -> list[SentTask]:
    """All tasks of a run, in the order in which they were sent; read only. Raises TakedaError where the
    file is damaged or of a later version."""
    with readable_damage(path), closing(read_only(path)) as db:
        check_version(db, path)
        rows = db.execute(
            "select t.task_id, t.rule, t.wildcards, t.attempt, s.target, s.backend, t.external_id, "
            "t.state, t.kind, t.reason, s.intent_at, t.ended_at, coalesce(t.identity, t.task_id) "
            "from submission s join task t using (submission_id) where s.run_id = ? "
            "order by s.rowid, t.position",
            (run_id,),
        ).fetchall()
    return [SentTask(*(*row[:2], json.loads(row[2]), *row[3:])) for row in rows]
