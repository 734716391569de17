"""A run's tasks as a table, and the log that a rule gets of its run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.routing.instances_serverless import (
    OMICS_MIN_SECONDS,
    STATIC,
    STATIC_STORAGE_GIB,
)

if TYPE_CHECKING:
    from mypy_boto3_omics import OmicsClient

COLUMNS = (
    "task",
    "status",
    "cpus",
    "memory_gib",
    "gpus",
    "instance_type",
    "seconds",
    "cache_hit",
)


def tasks_of(omics: OmicsClient, run_id: str) -> list[Mapping[str, Any]]:
    """ListRunTasks' items, in the order in which the tasks were created."""
    pages = omics.get_paginator("list_run_tasks").paginate(id=run_id)
    items: list[Mapping[str, Any]] = [item for page in pages for item in page["items"]]
    return sorted(items, key=lambda item: (_stamp(item.get("creationTime")), int(item["taskId"])))


def usage(run: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Billed seconds by `omics.*` type, a minute for each task at least; and GiB hours by kind of storage,
    as far as they are known: of `DYNAMIC`, which is billed by what is used, nothing is."""
    found: dict[str, float] = {}
    for task in tasks:
        kind = task.get("instanceType")
        if kind and task.get("startTime") and task.get("stopTime"):
            seconds = (task["stopTime"] - task["startTime"]).total_seconds()
            found[kind] = found.get(kind, 0.0) + max(seconds, OMICS_MIN_SECONDS)
    if run.get("storageType", STATIC) == STATIC and run.get("startTime") and run.get("stopTime"):
        hours = (run["stopTime"] - run["startTime"]).total_seconds() / 3600
        gib = max(run.get("storageCapacity") or 0, STATIC_STORAGE_GIB)
        found[STATIC] = gib * hours
    return {kind: round(amount, 3) for kind, amount in found.items()}


def table(tasks: Sequence[Mapping[str, Any]]) -> str:
    """Tab-separated, a heading first; `-` for what HealthOmics does not say. Ends with a line feed."""
    rows = [COLUMNS, *(_row(task) for task in tasks)]
    return "".join("\t".join(row) + "\n" for row in rows)


def log_of(
    run: Mapping[str, Any],
    tasks: Sequence[Mapping[str, Any]],
    lines: Mapping[str, Sequence[str]],
    reason: str = "",
) -> str:
    """What a rule's `log:` says of its run. `lines` are those of log streams, by the streams' names."""
    head = {
        "run": run["id"],
        "uuid": run.get("uuid"),
        "status": run.get("status"),
        "workflow": " ".join(
            str(one)
            for one in (
                run.get("workflowName") or run.get("workflowId"),
                run.get("workflowVersionName"),
            )
            if one
        ),
        "reason": reason or None,
        "outputs": run.get("runOutputUri"),
        "cache": run.get("cacheId"),
        "storage": run.get("storageType"),
        "created": _iso(run.get("creationTime")),
        "started": _iso(run.get("startTime")),
        "stopped": _iso(run.get("stopTime")),
    }
    parts = ["".join(f"{name}: {value}\n" for name, value in head.items() if value)]
    parts.append(f"== tasks\n{table(tasks)}" if tasks else "== tasks\nnone was begun\n")
    for stream, said in lines.items():
        parts.append(f"== {stream}\n" + "".join(f"{line}\n" for line in said))
    return "\n".join(parts)


def _row(task: Mapping[str, Any]) -> tuple[str, ...]:
    seconds = None
    if task.get("startTime") and task.get("stopTime"):
        seconds = f"{(task['stopTime'] - task['startTime']).total_seconds():.0f}"
    hit = task.get("cacheHit")
    values = (
        task.get("name"),
        task.get("status"),
        task.get("cpus"),
        task.get("memory"),
        task.get("gpus"),
        task.get("instanceType"),
        seconds,
        None if hit is None else ("yes" if hit else "no"),
    )
    return tuple("-" if value is None else " ".join(str(value).split()) for value in values)


def _iso(moment: Any) -> str | None:
    return moment.isoformat(timespec="seconds") if isinstance(moment, datetime) else None


def _stamp(moment: Any) -> float:
    return moment.timestamp() if isinstance(moment, datetime) else 0.0
