"""What AWS would have billed for what ran in a sandbox, by the sandbox's own record, at the table's prices.

Each service is metered as it bills: Batch the time of each attempt on its part of an instance of the compute
environment, or its Fargate task (a minute at least); HealthOmics each task by its instance type (a minute at
least) and each run's storage; Slurm the nodes. Whoever submitted is not asked.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.routing.instances_packing import Need, fits
from snakemake_executor_takeda.routing.instances_serverless import (
    FARGATE_MIN_SECONDS,
    OMICS_MIN_SECONDS,
    STATIC_STORAGE_GIB,
    fargate_fit,
    omics_storage_usd,
    omics_task_usd,
)
from snakemake_executor_takeda.routing.prices import PriceBook
from snakemake_executor_takeda.sandbox.executions import slurm_lines

SLURM_NODE = "c6i.large"
"""What a node of the sandbox's Slurm counts as."""
_BATCH = """
select e.job_id, e.started_at / 1000.0, e.ended_at / 1000.0, j.spec
from batch_executions e
join batch_jobs j on j.job_id = substr(e.job_id || ':', 1, instr(e.job_id || ':', ':') - 1)
where e.ended_at is not null order by e.number
"""


@dataclass(frozen=True)
class Charge:
    """What one thing that ended would have cost."""

    backend: str
    external_id: str
    name: str
    what: str
    """`0.50 of a c6i.large (spot)`."""
    seconds: float
    """As it is billed."""
    usd: float | None
    """None where the price is not known."""


def charges(state_dir: Path, book: PriceBook) -> list[Charge]:
    """Of all that ended, by service. The sandbox may be up or down."""
    found: list[Charge] = []
    database = state_dir / "state.sqlite"
    if database.is_file():
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as db:
            tables = {name for (name,) in db.execute("select name from sqlite_master")}
            if "batch_executions" in tables:
                found += _of_batch(db, book)
            if "omics_records" in tables:
                found += _of_omics(db, book)
    found += _of_slurm(state_dir, book)
    return found


def _of_batch(db: sqlite3.Connection, book: PriceBook) -> Iterator[Charge]:
    resources = {
        arn: json.loads(record)
        for arn, record in db.execute("select arn, record from batch_resources")
    }
    for job_id, started_at, ended_at, text in db.execute(_BATCH).fetchall():
        spec, seconds = json.loads(text), ended_at - started_at
        place = _place(resources, spec["queue_arn"])
        is_spot = "SPOT" in place.get("type", "")
        capacity = "spot" if is_spot else "on-demand"
        nodes, index = spec["node_specs"], job_id.rpartition(":")[2]
        asked = nodes[int(index)] if nodes and index.isdecimal() else spec
        need = Need(
            math.ceil(asked["vcpus"]),
            asked["memory_mib"],
            asked["gpus"],
            whole_nodes=bool(nodes),
        )
        if place.get("type", "").startswith("FARGATE"):
            seconds = max(seconds, FARGATE_MIN_SECONDS)
            task = fargate_fit(need, book)
            usd = task.usd_per_hour(capacity) if task else None
            what = f"Fargate ({capacity})"
        else:
            types = tuple(place.get("instanceTypes", ()))
            priced = [
                (usd, fit)
                for fit in fits(need, types, book)
                if (usd := fit.usd_per_hour(capacity)) is not None
            ]
            usd, fit = min(priced, key=lambda one: one[0], default=(None, None))
            what = f"{fit.share:.2f} of a {fit.instance.name} ({capacity})" if fit else "?"
        yield Charge("batch", job_id, spec["job_name"], what, seconds, _times(usd, seconds))


def _place(resources: Mapping[str, Any], queue_arn: str) -> Mapping[str, Any]:
    """The computeResources of a queue's first compute environment; empty where they are gone."""
    order = resources.get(queue_arn, {}).get("computeEnvironmentOrder", [])
    names = [one["computeEnvironment"] for one in order]
    found: Mapping[str, Any] = next((resources[name] for name in names if name in resources), {})
    place: Mapping[str, Any] = found.get("computeResources", {})
    return place


def _of_omics(db: sqlite3.Connection, book: PriceBook) -> Iterator[Charge]:
    prices = book.healthomics
    kinds: dict[str, list[dict[str, Any]]] = {"run": [], "task": []}
    for kind, parent, body in db.execute(
        "select kind, parent, body from omics_records where kind in ('run', 'task') order by number"
    ):
        kinds[kind].append({**json.loads(body), "_parent": parent})
    for task in kinds["task"]:
        if task.get("stopTime") is None or task.get("instanceType") is None:
            continue
        seconds = max(task["stopTime"] - task["startTime"], OMICS_MIN_SECONDS)
        kind = task["instanceType"]
        hourly = prices.usd_per_hour.get(kind) if prices else None
        usd = None if hourly is None else omics_task_usd(hourly, seconds)
        yield Charge("healthomics", task["_parent"], task["name"], kind, seconds, usd)
    for run in kinds["run"]:
        if run.get("stopTime") is None or run.get("startTime") is None:
            continue
        seconds = run["stopTime"] - run["startTime"]
        kind = run.get("storageType", "STATIC")
        gib = run.get("storageCapacity", STATIC_STORAGE_GIB) if kind == "STATIC" else 0
        usd = omics_storage_usd(prices, kind, gib, seconds / 3600) if prices else None
        what = f"{kind.lower()} storage"
        yield Charge("healthomics", run["id"], run.get("name", ""), what, seconds, usd)


def _of_slurm(state_dir: Path, book: PriceBook) -> Iterator[Charge]:
    hourly = book.on_demand_usd(SLURM_NODE)
    for one, nodes in slurm_lines(state_dir):
        if one.ended_at is None:
            continue
        seconds = one.ended_at - one.started_at
        usd = None if hourly is None else hourly * nodes
        what = f"{nodes} × {SLURM_NODE}"
        yield Charge("slurm", one.external_id, one.name, what, seconds, _times(usd, seconds))


def _times(usd_per_hour: float | None, seconds: float) -> float | None:
    return None if usd_per_hour is None else usd_per_hour * seconds / 3600
