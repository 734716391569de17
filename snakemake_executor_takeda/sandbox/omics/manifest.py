"""The manifest log of a run: a JSON object a line, the run first, then each task with its metrics."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_RUN = (
    *("arn", "uuid", "name", "status", "failureReason", "statusMessage", "workflowVersionName"),
    *("workflowType", "roleArn", "outputUri", "runOutputUri", "digest", "parameters", "priority"),
    *("runGroupId", "batchId", "cacheId", "cacheBehavior", "logLevel", "startedBy", "accelerators"),
    *("storageType", "storageCapacity", "engineVersion", "resourceDigests", "tags"),
)
_TASK = (
    *("uuid", "name", "status", "failureReason", "statusMessage", "cpus", "gpus", "memory"),
    *("instanceType", "cacheHit", "cacheS3Uri", "imageDetails"),
)
_TIMES = ("creationTime", "startTime", "stopTime")


def write(
    path: Path,
    run: Mapping[str, Any],
    tasks: Iterable[Mapping[str, Any]],
    storage_bytes: int,
) -> None:
    """`run` and `tasks` are records; times become ISO 8601 in UTC."""
    used = storage_bytes / 2**30
    reserved = run.get("storageCapacity") if run.get("storageType") == "STATIC" else used
    of_run = {
        **_members(run, _RUN),
        "workflow": run["arn"].partition(":run/")[0] + f":workflow/{run['workflowId']}",
        "metrics": {
            "runningSeconds": _seconds(run),
            "storageReservedGiB": reserved,
            "storageMaximumGiB": used,
            "storageAverageGiB": used,
        },
    }
    lines = [of_run]
    for task in tasks:
        arn = run["arn"].partition(":run/")[0] + f":task/{task['taskId']}"
        lines.append(
            {**_members(task, _TASK), "arn": arn, "run": run["arn"], "metrics": _metrics(task)}
        )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _members(body: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    found = {name: body[name] for name in names if body.get(name) is not None}
    return {**found, **{name: _iso(body[name]) for name in _TIMES if body.get(name)}}


def _metrics(task: Mapping[str, Any]) -> dict[str, Any]:
    seconds, used = _seconds(task), task.get("_used", {})
    cpu_seconds = used.get("cpu_seconds", 0.0)
    average = cpu_seconds / seconds if seconds else 0.0
    peak = used.get("peak_bytes", 0) / 2**30
    return {
        "runningSeconds": seconds,
        "cpusReserved": task["cpus"],
        "cpusAverage": round(average, 3),
        # measured over the whole task: what it took at its busiest is not known
        "cpusMaximum": round(average, 3),
        "gpusReserved": task["gpus"],
        "memoryReservedGiB": task["memory"],
        "memoryAverageGiB": round(peak, 3),
        "memoryMaximumGiB": round(peak, 3),
    }


def _seconds(body: Mapping[str, Any]) -> float:
    start, stop = body.get("startTime"), body.get("stopTime")
    return round(stop - start, 3) if start and stop else 0.0


def _iso(when: float) -> str:
    moment = datetime.fromtimestamp(when, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def size_of(directory: Path) -> int:
    """Bytes of all files below, links not followed."""
    total = 0
    for place, _, files in os.walk(directory):
        for name in files:
            path = Path(place, name)
            if not path.is_symlink():
                total += path.lstat().st_size
    return total
