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

from snakemake_executor_takeda.sandbox.omics import nextflow
from snakemake_executor_takeda.sandbox.omics.store import Record
from snakemake_executor_takeda.sandbox.wdl_run import TASK_RECORD

CACHED = "cached"
"""Where a run's engine puts what it found in the run cache: a folder an entry, with `ENTRY` in it."""
ENTRY = "entry.json"

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
_GPU_SIZES = (
    ("xlarge", 4, 1),
    ("2xlarge", 8, 1),
    ("4xlarge", 16, 1),
    ("8xlarge", 32, 1),
    ("12xlarge", 48, 4),
    ("16xlarge", 64, 1),
    ("24xlarge", 96, 4),
)
_GPU_FAMILIES = {"t4": "g4dn", "a10g": "g5", "l4": "g6", "l40s": "g6e"}
_GIB_PER_GPU_CPU = 4


def found_tasks(directory: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The place (relative to the run's own directory) and record of each task that has begun."""
    yield from nextflow.found_tasks(directory)
    run = directory / "run"
    for place, below, files in os.walk(run):
        if TASK_RECORD not in files:
            # Only calls hold calls; a task's own files are none of ours, and may be many.
            below[:] = sorted(name for name in below if name.startswith("call-"))
            if "task.log" in files and "outputs.json" in files:
                below.clear()
                cached = _from_cache(directory, Path(place))
                if cached is not None:
                    yield Path(place).relative_to(run).as_posix(), cached
            continue
        below.clear()
        path = Path(place)
        with contextlib.suppress(OSError, ValueError):
            yield path.relative_to(run).as_posix(), json.loads((path / TASK_RECORD).read_text())


def _from_cache(directory: Path, place: Path) -> dict[str, Any] | None:
    """A task without a record may have its outputs from an entry of the run cache."""
    outputs = json.loads((place / "outputs.json").read_text())
    ended = (place / "outputs.json").stat().st_mtime
    for path in sorted((directory / CACHED).glob(f"*/{ENTRY}")):
        entry = json.loads(path.read_text())
        if entry["shown"] == outputs:
            return {
                "name": place.name,
                "started": ended,
                "ended": ended,
                "exit_code": 0,
                "cpus": entry["cpus"],
                "memory_bytes": entry["memory"] * 2**30,
                "cache_hit": True,
                "cache_uri": entry["uri"],
            }
    return None


def describe(record: Mapping[str, Any], *, run_is_over: bool) -> Record:
    """The members of GetRunTask that a record gives."""
    memory_gib = max(1, math.ceil(record.get("memory_bytes", 0) / 2**30))
    cpus, gpus = max(1, int(record.get("cpus", 1))), int(record.get("gpus", 0))
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
        "gpus": gpus,
        "cacheHit": bool(record.get("cache_hit")),
        "creationTime": record.get("created", record["started"]),
        "startTime": record["started"],
        "stopTime": ended,
        "_image": record.get("image"),
        "_used": {name: record.get(name, 0) for name in ("cpu_seconds", "peak_bytes")},
        "_workdir": record.get("workdir"),
    }
    if record.get("cache_hit"):
        task["cacheS3Uri"] = record.get("cache_uri")
    else:
        task["instanceType"] = instance_type(cpus, memory_gib, gpus, record.get("accelerator"))
    if status == "FAILED":
        reason = "OUT_OF_MEMORY_ERROR" if code == 137 else "RUN_TASK_FAILED"
        task["failureReason"] = record.get("failure_reason", reason)
        said = f"the command ended with exit status {code}"
        task["statusMessage"] = record.get("failure_message", said)
    return {name: value for name, value in task.items() if value is not None}


def instance_type(cpus: int, memory_gib: int, gpus: int = 0, accelerator: str | None = None) -> str:
    """The smallest that holds it; the largest where none does."""
    if gpus:
        family = _GPU_FAMILIES.get((accelerator or "").rpartition("-")[2], "g4dn")
        fits = [
            (size_cpus, f"omics.{family}.{size}")
            for size, size_cpus, size_gpus in _GPU_SIZES
            if size_cpus >= cpus
            and size_cpus * _GIB_PER_GPU_CPU >= memory_gib
            and size_gpus >= gpus
            and not (family == "g4dn" and size == "24xlarge")
        ]
        return min(fits)[1] if fits else f"omics.{family}.12xlarge"
    sizes = [
        (size_cpus, gib, f"omics.{family}.{size}")
        for family, gib in _GIB_PER_CPU.items()
        for size, size_cpus in _SIZES
        if size_cpus >= cpus and size_cpus * gib >= memory_gib
    ]
    return min(sizes)[2] if sizes else "omics.r.24xlarge"


def write_task_log(directory: Path, task: Mapping[str, Any], target: Path) -> None:
    """The last attempt's standard output, then its standard error."""
    sources: list[Path] = []
    if workdir := task.get("_workdir"):
        sources = [Path(workdir, ".command.log")]
    else:
        place = directory / "run" / task["_place"]
        for stream in ("stdout", "stderr"):
            attempts = sorted(place.glob(f"{stream}*.txt"), key=lambda path: len(path.name))
            sources += attempts[-1:]
    with target.open("wb") as log:
        for source in sources:
            if source.exists():
                with source.open("rb") as stream_of:
                    shutil.copyfileobj(stream_of, log)
