"""Reads the records that are compared: the ledger's tables, and what the services say of themselves."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.sandbox.executions import Execution, executions, slurm_executions
from tests.chaos.comparing import JobId, Ledger, LedgerTask, Services

QUEUES = ("takeda-sandbox", "takeda-sandbox-spot")
OVER = ("SUCCEEDED", "FAILED")
STATES = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", *OVER)
RUNS_OVER = ("COMPLETED", "FAILED", "CANCELLED", "DELETED")
LEDGER = Path(".snakemake/takeda/ledger.sqlite")


def read_ledger(folder: Path) -> Ledger:
    """Of a working directory; nothing where no controller got so far."""
    if not (folder / LEDGER).is_file():
        return Ledger()
    with closing(open_ledger(folder)) as db:
        tables = {row[0] for row in db.execute("select name from sqlite_master")}
        if "task" not in tables:
            return Ledger()
        tasks = tuple(
            LedgerTask(*row)
            for row in db.execute(
                "select task_id, backend, rule, wildcards, task.state, task.external_id"
                " from task join submission using (submission_id) order by task.rowid"
            )
        )
        ids = {(task.backend, task.external_id) for task in tasks if task.external_id}
        ids |= set(
            db.execute(
                "select backend, external_id from submission where external_id is not null"
            ).fetchall()
        )
        if "handoff" in tables:
            found = db.execute("select run_id from handoff where run_id is not null")
            ids |= {("healthomics", row[0]) for row in found}
    return Ledger(tasks, frozenset(ids))


def open_ledger(folder: Path) -> sqlite3.Connection:
    """Read only."""
    return sqlite3.connect(f"{(folder / LEDGER).absolute().as_uri()}?mode=ro", uri=True, timeout=10)


class Recorder:
    """What the services of one sandbox have from now on. The caller's environment leads to them.

    Its Slurm may lie in a folder of its own."""

    def __init__(self, sandbox: Path, slurm: Path) -> None:
        import boto3
        from botocore.config import Config

        session = boto3.Session()
        # Whatever faults are set, the truth must be heard.
        config = Config(retries={"max_attempts": 20, "mode": "standard"})
        self._batch = session.client("batch", config=config)
        self._omics = session.client("omics", config=config)
        self._sandbox, self._slurm = sandbox, slurm
        self._before = set(self._executions())
        self._jobs_before = {job for job, _ in self._jobs()}

    def services(self) -> Services:
        jobs = dict(self._new_jobs())
        return Services(
            executions=tuple(one for one in self._executions() if one not in self._before),
            jobs=frozenset(jobs),
            left=frozenset(job for job, is_over in jobs.items() if not is_over),
        )

    def left(self) -> frozenset[JobId]:
        """What runs, or waits to."""
        return frozenset(job for job, is_over in self._new_jobs() if not is_over)

    def end(self, jobs: Iterable[JobId]) -> None:
        """End them, whosever they are."""
        for backend, job_id in jobs:
            if backend == "batch":
                self._batch.terminate_job(jobId=job_id, reason="the round is over")
            elif backend == "healthomics":
                self._omics.cancel_run(id=job_id)
            else:
                _lines("scancel", job_id)

    def _executions(self) -> list[Execution]:
        found = executions(self._sandbox)
        elsewhere = slurm_executions(self._slurm) if self._slurm != self._sandbox else []
        return found + elsewhere

    def _new_jobs(self) -> Iterator[tuple[JobId, bool]]:
        return (one for one in self._jobs() if one[0] not in self._jobs_before)

    def _jobs(self) -> Iterator[tuple[JobId, bool]]:
        """Each with whether it is over."""
        yield from self._batch_jobs()
        for page in self._omics.get_paginator("list_runs").paginate():
            for run in page["items"]:
                yield ("healthomics", run["id"]), run["status"] in RUNS_OVER
        ask = ("squeue", "--noheader", "--array", "--format=%i")
        going = set(_lines(*ask))
        for job_id in going | set(_lines(*ask, "--states=all")):
            yield ("slurm", job_id), job_id not in going

    def _batch_jobs(self) -> Iterator[tuple[JobId, bool]]:
        pages = self._batch.get_paginator("list_jobs")
        for queue in QUEUES:
            for state in STATES:
                for page in pages.paginate(jobQueue=queue, jobStatus=state):
                    for job in page["jobSummaryList"]:
                        yield from self._leaves(job, pages)

    def _leaves(self, job: dict[str, Any], pages: Any) -> Iterator[tuple[JobId, bool]]:
        if "arrayProperties" not in job:
            yield ("batch", job["jobId"]), job["status"] in OVER
            return
        for state in STATES:
            for page in pages.paginate(arrayJobId=job["jobId"], jobStatus=state):
                for child in page["jobSummaryList"]:
                    yield ("batch", child["jobId"]), child["status"] in OVER


def _lines(*command: str) -> list[str]:
    """Raises RuntimeError where Slurm does not answer."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stderr.strip()}")
    return done.stdout.split()
