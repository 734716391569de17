"""What really ran in a sandbox: the emulators' own logs and Slurm's job completion log, read only.

None of it is written by who submits, and nothing is ever taken out: jobs and runs that were deleted or
forgotten stay here.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.sandbox.batch.endings import EXITED

_SLURM_LINE = re.compile(r"(\w+)=(.*?)(?= \w+=|\s*$)")
_BATCH = """
select e.job_id, e.attempt, coalesce(json_extract(j.spec, '$.job_name'), ''), e.started_at / 1000.0,
       e.ended_at / 1000.0, e.exit_code, e.status_reason
from batch_executions e
left join batch_jobs j on j.job_id = substr(e.job_id || ':', 1, instr(e.job_id || ':', ':') - 1)
order by e.number
"""
_OMICS = "select run_id, name, started_at, ended_at, status from omics_executions order by number"


@dataclass(frozen=True)
class Execution:
    """One attempt of a Batch job (an array's child, a node), one HealthOmics run, one Slurm job that ended."""

    backend: str
    external_id: str
    """`<job id>:<index>` of Batch, the run's id of HealthOmics, `<job id>_<task>` of Slurm."""
    attempt: int
    """Of Batch's own attempts; else 1."""
    name: str
    started_at: float
    """Seconds since the epoch; Slurm's are whole."""
    ended_at: float | None
    """None while it goes on."""
    succeeded: bool | None
    """As its service has it; None while it goes on."""
    said: str
    """Exit code and reason, or the state it ended in."""


def executions(state_dir: Path) -> list[Execution]:
    """All of them, by service in the order of their start (Slurm: of their end). The sandbox may be up
    or down; a running Slurm job is not among them."""
    found = []
    database = state_dir / "state.sqlite"
    if database.is_file():
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as db:
            found += [_of_batch(row) for row in _rows(db, "batch_executions", _BATCH)]
            found += [_of_omics(row) for row in _rows(db, "omics_executions", _OMICS)]
    return found + slurm_executions(state_dir)


def slurm_executions(state_dir: Path) -> list[Execution]:
    """Those of `slurm/jobcomp.txt`, which slurmctld writes."""
    return [one for one, _ in slurm_lines(state_dir)]


def slurm_lines(state_dir: Path) -> list[tuple[Execution, int]]:
    """The same, each with the number of its nodes."""
    try:
        lines = (state_dir / "slurm" / "jobcomp.txt").read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    words = [dict(_SLURM_LINE.findall(line)) for line in lines]
    return [(found, int(one.get("NodeCnt", 1))) for one in words if (found := _of_slurm(one))]


def _rows(db: sqlite3.Connection, table: str, query: str) -> list[tuple[Any, ...]]:
    known = db.execute("select 1 from sqlite_master where name = ?", (table,)).fetchone()
    return db.execute(query).fetchall() if known else []


def _of_batch(row: tuple[Any, ...]) -> Execution:
    job_id, attempt, name, started_at, ended_at, exit_code, reason = row
    ended_well = exit_code == 0 and reason == EXITED
    return Execution(
        "batch",
        job_id,
        attempt,
        name,
        started_at,
        ended_at,
        None if ended_at is None else ended_well,
        "" if ended_at is None else f"exit code {exit_code}: {reason}",
    )


def _of_omics(row: tuple[Any, ...]) -> Execution:
    run_id, name, started_at, ended_at, status = row
    succeeded = None if status is None else status == "COMPLETED"
    return Execution("healthomics", run_id, 1, name, started_at, ended_at, succeeded, status or "")


def _of_slurm(words: Mapping[str, str]) -> Execution | None:
    """None for half a line, and for a job that ended before it began."""
    if not words.keys() >= {"JobId", "Name", "JobState", "StartTime", "EndTime", "NodeList"}:
        return None
    if words["NodeList"] in ("", "(null)"):
        return None
    job_id = words["JobId"]
    if "ArrayTaskId" in words:
        job_id = f"{words['ArrayJobId']}_{words['ArrayTaskId']}"
    state = words["JobState"]
    began, ended = (_seconds(words[name]) for name in ("StartTime", "EndTime"))
    if began is None:
        return None
    return Execution("slurm", job_id, 1, words["Name"], began, ended, state == "COMPLETED", state)


def _seconds(local_time: str) -> float | None:
    try:
        return datetime.fromisoformat(local_time).astimezone().timestamp()
    except ValueError:  # Unknown, or None
        return None
