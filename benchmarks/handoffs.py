"""Hand-offs of one rule under HealthOmics' quotas: calls, and the time until all runs are started.

    .venv/bin/python benchmarks/handoffs.py --handoffs 200 --per-second 1

Starts a sandbox of its own whose HealthOmics takes as many calls a second as AWS's does, StartRun as many as
asked for. Twice, once with a StartRun for each hand-off and once with `batch: true`, Snakemake hands all of them
over at the same moment; when HealthOmics has a run of each, it is ended with Ctrl-C. Time is from the first
hand-off placed to the last run created; requests are those sent in that time, repeated ones too. A run group
lets one run go on at a time, so that this machine's cores are left to what is measured. Prints a table for
`benchmarks/handoffs.md`, or with `--json` all facts.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3

from snakemake_executor_takeda.sandbox import control

BIN = Path(sys.executable).parent
HERE = Path(__file__).parent
ROLE = "arn:aws:iam::123456789012:role/takeda-sandbox"
BUCKET = "takeda-sandbox"
LOOK_SECONDS = 0.5
SNAKEFILE = """
rule all:
    input: expand("{{n}}.txt", n=range({handoffs}))
rule hand_over_{mode}:
    output: text="{{n}}.txt"
    params: number="{{n}}"
    resources: handoff="wait.wdl"
    shell: "exit 1"
"""
WDL = """version 1.0
workflow wait {
  input { String number }
  call doze { input: number = number }
  output { File text = doze.text }
}
task doze {
  input { String number }
  command <<< sleep 3600; echo ~{number} >>>
  output { File text = stdout() }
  runtime { cpu: 1  memory: "1 GiB"  container: "ubuntu:22.04" }
}
"""
POLICY = """
version: 1
targets:
  omics: {{backend: healthomics, role_arn: "{role}", output_uri: "s3://{bucket}/{mode}/runs",
           run_group_id: "{group}", batch: {batch}, start_runs_per_second: {rate}}}
default: omics
"""


@dataclass(frozen=True)
class Request:
    """One HTTP request of Snakemake's process."""

    sent: float
    service: str
    operation: str
    status: int | None


@dataclass(frozen=True)
class Measured:
    """One way of starting all of them."""

    path: str
    runs: int
    seconds_until_all_started: float
    calls: dict[str, int]
    """Of HealthOmics, by operation."""
    calls_of_s3: int
    most_calls_in_a_second: int
    """Of HealthOmics, in any second of the time."""
    refused: int
    """With HTTP 429."""


def number_of_runs(sandbox: Path) -> int:
    """As the sandbox itself says: none of its HealthOmics' calls."""
    return sum(control.status(sandbox)["services"]["omics"]["runs"].values())


def created_runs(path: str) -> list[float]:
    """When HealthOmics created each run of this path."""
    pages = boto3.client("omics").get_paginator("list_runs").paginate()
    items = [item for page in pages for item in page["items"]]
    return [
        one["creationTime"].timestamp()
        for one in items
        if one["name"].startswith(f"takeda-hand_over_{path}-")
    ]


def measure(path: str, handoffs: int, rate: float, folder: Path, sandbox: Path) -> Measured:
    folder.mkdir()
    group = boto3.client("omics").create_run_group(name=path, maxRuns=1, requestId=path)["id"]
    (folder / "Snakefile").write_text(SNAKEFILE.format(handoffs=handoffs, mode=path))
    (folder / "wait.wdl").write_text(WDL)
    batch = str(path == "batch").lower()
    (folder / "routing.yaml").write_text(
        POLICY.format(role=ROLE, bucket=BUCKET, mode=path, batch=batch, rate=rate, group=group)
    )
    already = number_of_runs(sandbox)
    control.set_faults(sandbox, f"omics-quotas={rate}")
    command = [
        *(sys.executable, str(HERE / "noted_snakemake.py"), "calls.jsonl"),
        *("--executor", "takeda", "--takeda-routing", "routing.yaml"),
        *("--default-storage-provider", "s3", "--shared-fs-usage", "none"),
        *("--default-storage-prefix", f"s3://{BUCKET}/{path}/work"),
        *("--jobs", str(2 * handoffs), "--max-jobs-per-timespan", "100000/1s"),
    ]
    with (folder / "snakemake.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
        try:
            while number_of_runs(sandbox) - already < handoffs:
                if process.poll() is not None:
                    sys.exit((folder / "snakemake.log").read_text())
                time.sleep(LOOK_SECONDS)
            created = created_runs(path)
        finally:
            control.clear_faults(sandbox)
            process.send_signal(signal.SIGINT)
            process.wait()
    placed = first_placed(folder / ".snakemake/takeda/events.jsonl")
    lines = (folder / "calls.jsonl").read_text().splitlines()
    requests = [Request(*json.loads(line)) for line in lines]
    requests = [one for one in requests if placed <= one.sent <= max(created)]
    omics = [one for one in requests if one.service == "omics"]
    return Measured(
        path=path,
        runs=len(created),
        seconds_until_all_started=round(max(created) - placed, 1),
        calls=dict(sorted(Counter(one.operation for one in omics).items())),
        calls_of_s3=sum(one.service == "s3" for one in requests),
        most_calls_in_a_second=most_in_a_second([one.sent for one in omics]),
        refused=sum(one.status == 429 for one in omics),
    )


def first_placed(events: Path) -> float:
    first = next(
        event
        for line in events.read_text().splitlines()
        if (event := json.loads(line))["event"] == "placed"
    )
    return datetime.fromisoformat(first["time"]).timestamp()


def most_in_a_second(moments: Sequence[float]) -> int:
    moments = sorted(moments)
    return max(
        (sum(start <= one < start + 1 for one in moments) for start in moments),
        default=0,
    )


def table(measured: Sequence[Measured]) -> str:
    rows = [
        "| path | runs | from ready to all started, s | calls of HealthOmics | of which "
        "| calls of S3 | most calls in a second | HTTP 429 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in measured:
        of_which = ", ".join(f"{name} {count}" for name, count in one.calls.items())
        cells: list[Any] = [
            *(one.path, one.runs, one.seconds_until_all_started, sum(one.calls.values()), of_which),
            *(one.calls_of_s3, one.most_calls_in_a_second, one.refused),
        ]
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--handoffs", type=int, default=200)
    parser.add_argument("--per-second", type=float, default=1.0, help="StartRun's quota")
    parser.add_argument("--json", action="store_true", help="all facts in place of the table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="takeda-handoffs-") as scratch:
        sandbox = Path(scratch, "sandbox")
        control.up(sandbox, control.Options(services_port=0, moto_port=0))
        try:
            os.environ |= control.environment(sandbox)
            os.environ["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
            found = [
                measure(
                    path, arguments.handoffs, arguments.per_second, Path(scratch, path), sandbox
                )
                for path in ("single", "batch")
            ]
        finally:
            control.down(sandbox)
    if arguments.json:
        print(json.dumps([asdict(one) for one in found], indent=2))
    else:
        print(table(found))


if __name__ == "__main__":
    main()
