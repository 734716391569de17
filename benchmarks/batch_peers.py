"""What a run of N ready jobs costs the machine that controls it: this plugin beside its peers.

    .venv/bin/python benchmarks/batch_peers.py --jobs 2000 --latency 0.05 --repetitions 5

The same Snakefile is run in turn (A B C A B C …) by an executor that does nothing (`null_executor/`),
by this plugin and by snakemake-executor-plugin-aws-batch, against one sandbox whose Batch answers every
call after `--latency` seconds and ends every job at once with exit code 0. The jobs' outputs lie in S3
beforehand (`--forceall` has Snakemake run the jobs all the same). CPU seconds and peak memory are the
operating system's, of the whole controller with its children. Prints one JSON object, and a table to
standard error.

Makes a virtual environment with the peers from PyPI below `--venv` (a temporary one by default).
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from side_by_side import folder_of_runs, in_turn, make_environment, medians, parser_of, put_empty

from snakemake_executor_takeda.sandbox import control
from snakemake_executor_takeda.sandbox.record import BUCKET, ON_DEMAND_QUEUE

PEER = "snakemake-executor-plugin-aws-batch==0.2.1"
SNAKEFILE = """
rule one:
    output: "made/{n}.txt"
    resources: mem_mb=2048
    shell: "touch {output}"
"""
FLAGS = {
    "null": (),
    "takeda": (
        *("--takeda-batch-queue", ON_DEMAND_QUEUE),
        *("--takeda-staging", f"s3://{BUCKET}/benchmark/.takeda"),
    ),
    "aws-batch": (
        *("--aws-batch-region", "us-east-1", "--aws-batch-job-queue", ON_DEMAND_QUEUE),
        *("--aws-batch-job-role", "arn:aws:iam::123456789012:role/takeda-sandbox"),
        # Ten a second by default: 200 s of waiting for 2,000 jobs.
        *("--max-status-checks-per-second", "1000"),
    ),
}


@dataclass(frozen=True)
class Measured:
    """One run of one executor."""

    cpu_seconds: float
    """User and system, of the controller and the children that it waited for."""
    wall_seconds: float
    peak_rss_mb: float
    seconds_until_submitted: float | None
    """From Snakemake's "Execute … jobs" until Batch knows all jobs; None where Batch is not used."""
    calls_until_submitted: int
    calls: dict[str, int]
    """Batch calls by operation, from start to end."""


class Bench:
    """A running sandbox with the outputs in place, and an environment with the executors."""

    def __init__(self, folder: Path, python: Path, jobs: int, storage: str) -> None:
        self._folder = folder
        self._storage = storage
        self._prefix = f"s3://{BUCKET}/benchmark" if storage == "s3" else str(folder / "storage")
        self._python = python
        self._jobs = jobs
        self._state_dir = folder / "sandbox"
        self._runs = 0

    def run(self, executor: str) -> Measured:
        """Raises SystemExit naming the log where the run fails."""
        self._runs += 1
        folder = self._folder / f"run-{self._runs}-{executor}"
        folder.mkdir()
        (folder / "Snakefile").write_text(SNAKEFILE)
        log = folder / "snakemake.log"
        calls_before, jobs_before = self._batch()
        with log.open("w") as stream:
            began = time.monotonic()
            process = subprocess.Popen(
                self._command(executor),
                cwd=folder,
                env=self._environment(),
                stdout=stream,
                stderr=stream,
            )
            ready_at = submitted_at = None
            calls_until_submitted = 0
            while True:
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if ready_at is None and "\nExecute " in log.read_text():
                    ready_at = time.monotonic()
                if ready_at and submitted_at is None and executor != "null":
                    calls, jobs = self._batch()
                    if jobs - jobs_before >= self._jobs:
                        submitted_at = time.monotonic()
                        calls_until_submitted = (calls - calls_before).total()
                if pid:
                    break
                time.sleep(0.05 if submitted_at is None else 0.2)
            wall_seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{executor} failed: see {log}")
        calls, _ = self._batch()
        return Measured(
            cpu_seconds=round(usage.ru_utime + usage.ru_stime, 2),
            wall_seconds=round(wall_seconds, 2),
            peak_rss_mb=round(usage.ru_maxrss * 1024 / 1e6, 1),
            seconds_until_submitted=(
                round(submitted_at - ready_at, 2) if submitted_at and ready_at else None
            ),
            calls_until_submitted=calls_until_submitted,
            calls=dict(calls - calls_before),
        )

    def put_outputs(self) -> None:
        """Every output of the Snakefile, empty."""
        if self._storage == "fs":
            made = Path(self._prefix) / "made"
            made.mkdir(parents=True)
            for n in range(self._jobs):
                (made / f"{n}.txt").touch()
            return
        keys = (f"benchmark/made/{n}.txt" for n in range(self._jobs))
        put_empty(keys, control.environment(self._state_dir))

    def _command(self, executor: str) -> list[str]:
        return [
            *(str(self._python), "-m", "snakemake", "--executor", executor, *FLAGS[executor]),
            *("--default-storage-provider", self._storage, "--shared-fs-usage", "none"),
            *("--default-storage-prefix", self._prefix, "--forceall"),
            *("--jobs", str(10 * self._jobs), "--max-jobs-per-timespan", "1000000/1s"),
            # The default scheduler solves a linear program in a process of its own, which would
            # make everybody's figures larger and noisier.
            *("--scheduler", "greedy", "--"),
            # The files themselves: Snakemake would fetch what a `rule all` gathers, one by one, which
            # makes everybody's figures larger.
            *(f"made/{n}.txt" for n in range(self._jobs)),
        ]

    def _environment(self) -> Mapping[str, str]:
        return os.environ | control.environment(self._state_dir)

    def _batch(self) -> tuple[Counter[str], int]:
        """Calls by operation, and how many jobs there are, children counted one by one."""
        facts = control.status(self._state_dir)
        return Counter(facts["api_calls"].get("batch", {})), sum(facts["jobs"].values())


def summary(executor: str, runs: list[Measured], null: list[Measured]) -> dict[str, object]:
    return {
        **medians(executor, runs, null),
        "calls_until_submitted": max(run.calls_until_submitted for run in runs),
        "calls": runs[-1].calls,
    }


def show(rows: list[dict[str, object]]) -> None:
    columns = (
        *("executor", "runs", "cpu_seconds", "cpu_ratio", "wall_seconds", "peak_rss_mb"),
        *("seconds_until_submitted", "calls_until_submitted", "calls"),
    )
    for row in rows:
        cells = [str(row[column]) for column in columns[:-1]]
        calls: dict[str, int] = row["calls"]  # type: ignore[assignment]
        cells.append(
            f"{sum(calls.values())} ({', '.join(f'{n} {name}' for name, n in calls.items())})"
        )
        print("; ".join(f"{c}: {v}" for c, v in zip(columns, cells, strict=True)), file=sys.stderr)


def main() -> None:
    words = "where the outputs are: the sandbox's S3, or a folder, with which Snakemake is ten times faster"
    parser = parser_of(__doc__, ("s3", "fs"), "s3", words)
    parser.add_argument(
        "--latency", type=float, default=0.05, metavar="SECONDS", help="of each Batch call"
    )
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = folder_of_runs(stack, keep=arguments.keep)
        python = make_environment(
            (arguments.venv or folder / "venv").absolute(), "snakemake-storage-plugin-fs", PEER
        )
        os.environ["TAKEDA_SANDBOX_DIR"] = str(folder / "sandbox")
        control.up(
            folder / "sandbox",
            control.Options(
                services_port=0, moto_port=0, vcpus=100_000, memory_mib=1_000_000_000, runner="stub"
            ),
        )
        try:
            bench = Bench(folder, python, arguments.jobs, arguments.storage)
            bench.put_outputs()
            latency = ["sandbox", "faults", "set", f"latency={arguments.latency}"]
            takeda = Path(sys.executable).parent / "takeda"
            subprocess.run([takeda, *latency], check=True, stdout=sys.stderr)
            runs = in_turn(
                bench.run, "aws-batch", arguments.repetitions, arguments.peer_repetitions
            )
        finally:
            control.down(folder / "sandbox")
    rows = [summary(executor, found, runs["null"]) for executor, found in runs.items()]
    show(rows)
    print(
        json.dumps(
            {"jobs": arguments.jobs, "latency_seconds": arguments.latency, "rows": rows}, indent=2
        )
    )


if __name__ == "__main__":
    main()
