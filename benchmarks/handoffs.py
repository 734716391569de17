"""Hand-offs of one rule under HealthOmics' quotas: calls, and the time until all runs are started.

    .venv/bin/python benchmarks/handoffs.py --handoffs 200 --per-second 1

Starts a sandbox of its own whose HealthOmics takes as many calls a second as AWS's does, StartRun as many as
asked for. Twice, once with a StartRun for each hand-off and once with `batch: true`, Snakemake hands all of them
over at the same moment; when HealthOmics has a run of each, it is ended with Ctrl-C. Time is from the first
hand-off placed to the last run created. Prints a JSON object; the sandbox counts the calls.
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
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3

from snakemake_executor_takeda.sandbox import control

BIN = Path(sys.executable).parent
ROLE = "arn:aws:iam::123456789012:role/takeda-sandbox"
BUCKET = "takeda-sandbox"
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
           batch: {batch}, start_runs_per_second: {rate}}}
default: omics
"""


def takeda(*words: str) -> str:
    return subprocess.run(
        [BIN / "takeda", *words], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def status() -> tuple[int, dict[str, int]]:
    """How many runs there are, and the calls so far; asks the sandbox itself, not its HealthOmics."""
    found: dict[str, Any] = json.loads(takeda("sandbox", "status", "--json"))
    runs = sum(found["services"]["omics"]["runs"].values())
    return runs, dict(found["api_calls"].get("omics", {}))


def created_runs(mode: str) -> list[float]:
    """When HealthOmics created each run of this mode."""
    pages = boto3.client("omics").get_paginator("list_runs").paginate()
    items = [item for page in pages for item in page["items"]]
    return [
        one["creationTime"].timestamp()
        for one in items
        if one["name"].startswith(f"takeda-hand_over_{mode}-")
    ]


def measure(mode: str, handoffs: int, rate: float, folder: Path) -> dict[str, Any]:
    folder.mkdir()
    (folder / "Snakefile").write_text(SNAKEFILE.format(handoffs=handoffs, mode=mode))
    (folder / "wait.wdl").write_text(WDL)
    batch = str(mode == "batch").lower()
    (folder / "routing.yaml").write_text(
        POLICY.format(role=ROLE, bucket=BUCKET, mode=mode, batch=batch, rate=rate)
    )
    already, before = status()
    takeda("sandbox", "faults", "set", f"omics-quotas={rate}")
    command = [
        *(str(BIN / "snakemake"), "--executor", "takeda", "--takeda-routing", "routing.yaml"),
        *("--default-storage-provider", "s3", "--shared-fs-usage", "none"),
        *("--default-storage-prefix", f"s3://{BUCKET}/{mode}/work"),
        *("--jobs", str(2 * handoffs), "--max-jobs-per-timespan", "100000/1s"),
    ]
    with (folder / "snakemake.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
        try:
            while (now := status())[0] - already < handoffs:
                if process.poll() is not None:
                    sys.exit((folder / "snakemake.log").read_text())
                time.sleep(0.2)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()
    takeda("sandbox", "faults", "clear")
    created = created_runs(mode)
    placed = _first_placed(folder / ".snakemake/takeda/events.jsonl")
    counted = {name: count - before.get(name, 0) for name, count in sorted(now[1].items())}
    return {
        "mode": mode,
        "runs": len(created),
        "seconds_until_all_started": round(max(created) - placed, 1),
        "calls": {name: number for name, number in counted.items() if number},
    }


def _first_placed(events: Path) -> float:
    first = next(
        event
        for line in events.read_text().splitlines()
        if (event := json.loads(line))["event"] == "placed"
    )
    return datetime.fromisoformat(first["time"]).timestamp()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--handoffs", type=int, default=200)
    parser.add_argument("--per-second", type=float, default=1.0, help="StartRun's quota")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="takeda-handoffs-") as scratch:
        os.environ["TAKEDA_SANDBOX_DIR"] = f"{scratch}/sandbox"
        folder = Path(scratch, "sandbox")
        control.up(folder, control.Options(services_port=0, moto_port=0))
        try:
            os.environ |= control.environment(folder)
            found = [
                measure(mode, arguments.handoffs, arguments.per_second, Path(scratch, mode))
                for mode in ("single", "batch")
            ]
        finally:
            control.down(folder)
    print(json.dumps({**vars(arguments), "measured": found}, indent=2))


if __name__ == "__main__":
    main()
