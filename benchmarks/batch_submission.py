"""Counts the Batch API calls until all ready jobs of one rule are submitted.

    .venv/bin/python benchmarks/batch_submission.py --jobs 1000

Starts a sandbox of its own, lets Snakemake hand over all jobs, waits until each has its `submitted`
event, then ends the run with Ctrl-C. Prints one JSON object; the sandbox does the counting.
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
from pathlib import Path

SNAKEFILE = """
rule all:
    input: expand("{{n}}.txt", n=range({jobs}))
rule one:
    output: "{{n}}.txt"
    shell: "sleep 3600; touch {{output}}"
"""
BIN = Path(sys.executable).parent


def takeda(*words: str) -> str:
    return subprocess.run(
        [BIN / "takeda", *words], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def batch_calls() -> dict[str, int]:
    calls: dict[str, int] = json.loads(takeda("sandbox", "status", "--json"))["api_calls"].get(
        "batch", {}
    )
    return calls


def submitted_events(log: Path) -> list[dict[str, object]]:
    if not log.exists():
        return []
    events = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
    return [event for event in events if event["event"] == "submitted"]


def measure(jobs: int, folder: Path, environment: dict[str, str]) -> dict[str, object]:
    (folder / "Snakefile").write_text(SNAKEFILE.format(jobs=jobs))
    command = [
        *(BIN / "snakemake", "--executor", "takeda", "--takeda-batch-queue", "takeda-sandbox"),
        *("--default-storage-provider", "s3", "--shared-fs-usage", "none"),
        *("--default-storage-prefix", "s3://takeda-sandbox/benchmark"),
        *("--jobs", str(10 * jobs), "--max-jobs-per-timespan", "100000/1s"),
    ]
    with (folder / "snakemake.log").open("w") as log:
        started = time.monotonic()
        run = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        events: list[dict[str, object]] = []
        while len(events) < jobs and run.poll() is None:
            time.sleep(0.05)
            events = submitted_events(folder / ".snakemake/takeda/events.jsonl")
        seconds = time.monotonic() - started
        calls = batch_calls()
        run.send_signal(signal.SIGINT)
        run.wait(120)
    if len(events) < jobs:
        sys.exit(f"only {len(events)} of {jobs} were submitted: see {folder / 'snakemake.log'}")
    return {
        "jobs": jobs,
        "submissions": len({event["detail"]["submission"] for event in events}),  # type: ignore[index]
        "batch_api_calls_until_all_submitted": sum(calls.values()),
        "calls": calls,
        "seconds_from_start_to_all_submitted": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1000)
    jobs = parser.parse_args().jobs
    with tempfile.TemporaryDirectory(prefix="takeda-benchmark-") as name:
        folder = Path(name)
        os.environ["TAKEDA_SANDBOX_DIR"] = str(folder / "sandbox")
        takeda("sandbox", "up", "--port", "0", "--s3-port", "0")
        try:
            environment = os.environ | json.loads(takeda("sandbox", "env", "--json"))
            print(json.dumps(measure(jobs, folder, environment), indent=2))
        finally:
            takeda("sandbox", "down")


if __name__ == "__main__":
    main()
