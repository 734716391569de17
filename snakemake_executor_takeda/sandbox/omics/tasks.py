"""Reads the records that running tasks leave, and turns them into HealthOmics tasks."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.sandbox.omics.store import Record
from snakemake_executor_takeda.sandbox.wdl_run import TASK_RECORD

_SIZES = (
    ("large", 2),
    ("xlarge", 4),
    ("2xlarge", 8),
    ("4xlarge", 16),
    ("8xlarge", 32),
    ("12xlarge", 48),
    ("16xlarge", 64),
    ("24xlarge", 96),
)
_GIB_PER_CPU = {"c": 2, "m": 4, "r": 8}


def found_tasks(run: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The directory (relative to the run's) and record of each task that has begun."""
    for directory, below, files in os.walk(run):
        if TASK_RECORD not in files:
            # Only calls hold calls; a task's own files are none of ours, and may be many.
            below[:] = sorted(name for name in below if name.startswith("call-"))
            continue
        below.clear()
        path = Path(directory)
        with contextlib.suppress(OSError, ValueError):
            yield path.relative_to(run).as_posix(), json.loads((path / TASK_RECORD).read_text())


def describe(record: Mapping[str, Any], *, run_is_over: bool) -> Record:
    """The members of GetRunTask that a record gives."""
    memory_gib = max(1, math.ceil(record.get("memory_bytes", 0) / 2**30))
    cpus = max(1, int(record.get("cpus", 1)))
    ended, code = record.get("ended"), record.get("exit_code")
    if record.get("cancelled") or (ended is None and run_is_over):
        status = "CANCELLED"
    elif ended is None:
        status = "RUNNING"
    else:
        status = "COMPLETED" if code == 0 else "FAILED"
    task: Record = {
        "name": str(record["name"]).removeprefix("call-")[:128],
        "status": status,
        "cpus": cpus,
        "memory": memory_gib,
        "gpus": 0,
        "cacheHit": False,
        "instanceType": instance_type(cpus, memory_gib),
        "creationTime": record["started"],
        "startTime": record["started"],
        "stopTime": ended,
    }
    if status == "FAILED":
        task["failureReason"] = "OUT_OF_MEMORY_ERROR" if code == 137 else "RUN_TASK_FAILED"
        task["statusMessage"] = f"the command ended with exit status {code}"
    return task


def instance_type(cpus: int, memory_gib: int) -> str:
    """The smallest that holds it; the largest where none does."""
    fits = [
        (size_cpus * gib, f"omics.{family}.{size}")
        for family, gib in _GIB_PER_CPU.items()
        for size, size_cpus in _SIZES
        if size_cpus >= cpus and size_cpus * gib >= memory_gib
    ]
    return min(fits)[1] if fits else "omics.r.24xlarge"


def write_task_log(directory: Path, target: Path) -> None:
    """The last attempt's standard output, then its standard error."""
    with target.open("wb") as log:
        for stream in ("stdout", "stderr"):
            attempts = sorted(directory.glob(f"{stream}*.txt"), key=lambda path: len(path.name))
            if attempts:
                with attempts[-1].open("rb") as source:
                    shutil.copyfileobj(source, log)
