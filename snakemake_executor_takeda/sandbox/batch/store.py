"""The emulator's tables in the sandbox's SQLite database."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.sandbox.batch.jobs import (
    Job,
    new_job,
    restore_state,
    spec_from_json,
    spec_to_json,
    state_of,
)
from snakemake_executor_takeda.sandbox.database import connect

_SCHEMA = """
create table if not exists batch_resources (
    kind text not null, arn text not null, record text not null, primary key (kind, arn));
create table if not exists batch_jobs (
    job_id text primary key, created_at integer not null, spec text not null, state text not null);
create table if not exists batch_children (
    job_id text not null, child_index integer not null, state text not null,
    primary key (job_id, child_index)) without rowid;
create table if not exists batch_executions (
    number integer primary key, job_id text not null, attempt integer not null, pid integer not null,
    start_ticks integer, started_at integer not null, ended_at integer, exit_code integer,
    status_reason text);
create index if not exists batch_executions_open on batch_executions (ended_at) where ended_at is null;
"""


@dataclass(frozen=True)
class Execution:
    """One attempt's process: the sandbox's own record of what really ran."""

    job_id: str
    attempt: int
    pid: int
    start_ticks: int | None
    started_at: int


class Store:
    """Safe from any thread. What was written survives the daemon's death, if not a power cut."""

    def __init__(self, database: Path) -> None:
        self._lock = threading.Lock()
        self._connection = connect(database, _SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def save_resource(self, kind: str, arn: str, record: dict[str, Any]) -> None:
        with self._lock:
            self._connection.execute(
                "insert into batch_resources values (?, ?, ?)"
                " on conflict (kind, arn) do update set record = excluded.record",
                (kind, arn, json.dumps(record)),
            )

    def delete_resource(self, kind: str, arn: str) -> None:
        with self._lock:
            self._connection.execute(
                "delete from batch_resources where kind = ? and arn = ?", (kind, arn)
            )

    def resources(self, kind: str) -> Iterator[dict[str, Any]]:
        """In the order of their creation."""
        with self._lock:
            rows = self._connection.execute(
                "select record from batch_resources where kind = ? order by rowid", (kind,)
            ).fetchall()
        for (record,) in rows:
            yield json.loads(record)

    def insert_job(self, job: Job) -> None:
        """A new job. An array's children take no rows until they change."""
        with self._lock:
            self._connection.execute(
                "insert into batch_jobs values (?, ?, ?, ?)",
                (
                    job.job_id,
                    job.created_at,
                    json.dumps(spec_to_json(job.spec)),
                    json.dumps(state_of(job)),
                ),
            )

    def save_spec(self, job: Job) -> None:
        """A job's tags have changed."""
        top = job.parent or job
        with self._lock:
            self._connection.execute(
                "update batch_jobs set spec = ? where job_id = ?",
                (json.dumps(spec_to_json(top.spec)), top.job_id),
            )

    def save(
        self,
        jobs: Iterable[Job],
        started: Iterable[Execution] = (),
        ended: Iterable[tuple[str, int, int, int | None, str]] = (),
    ) -> None:
        """New states of jobs, processes that began, and those that ended
        (job id, attempt, time, exit code, reason), all or nothing."""
        parents, children = [], []
        for job in jobs:
            state = json.dumps(state_of(job))
            if job.parent is None:
                parents.append((state, job.job_id))
            else:
                children.append((job.parent.job_id, job.index, state))
        with self._lock:
            self._connection.execute("begin")
            try:
                self._connection.executemany(
                    "update batch_jobs set state = ? where job_id = ?", parents
                )
                self._connection.executemany(
                    "insert or replace into batch_children values (?, ?, ?)", children
                )
                self._connection.executemany(
                    "insert into batch_executions (job_id, attempt, pid, start_ticks, started_at)"
                    " values (?, ?, ?, ?, ?)",
                    [(e.job_id, e.attempt, e.pid, e.start_ticks, e.started_at) for e in started],
                )
                self._connection.executemany(
                    "update batch_executions set ended_at = ?, exit_code = ?, status_reason = ?"
                    " where job_id = ? and attempt = ? and ended_at is null",
                    [
                        (when, code, reason, job_id, number)
                        for job_id, number, when, code, reason in ended
                    ],
                )
            except BaseException:
                self._connection.execute("rollback")
                raise
            self._connection.execute("commit")

    def jobs(self) -> list[Job]:
        """All jobs in the order of their submission, children included."""
        with self._lock:
            rows = self._connection.execute(
                "select job_id, created_at, spec, state from batch_jobs order by rowid"
            ).fetchall()
            states = self._connection.execute(
                "select job_id, child_index, state from batch_children"
            ).fetchall()
        jobs: dict[str, Job] = {}
        for job_id, created_at, spec, state in rows:
            job = new_job(job_id, spec_from_json(json.loads(spec)), created_at)
            restore_state(job, json.loads(state))
            jobs[job_id] = job
        for job_id, index, state in states:
            if job_id in jobs:
                restore_state(jobs[job_id].children[index], json.loads(state))
        return list(jobs.values())

    def forget_jobs(self, job_ids: Iterable[str]) -> None:
        """Delete jobs, children included; what really ran stays on record."""
        keys = [(job_id,) for job_id in job_ids]
        with self._lock:
            self._connection.executemany("delete from batch_jobs where job_id = ?", keys)
            self._connection.executemany("delete from batch_children where job_id = ?", keys)

    def open_executions(self) -> list[Execution]:
        """Processes that began and were not seen to end."""
        with self._lock:
            rows = self._connection.execute(
                "select job_id, attempt, pid, start_ticks, started_at from batch_executions"
                " where ended_at is null"
            ).fetchall()
        return [Execution(*row) for row in rows]
