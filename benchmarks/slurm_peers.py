"""What a run of N ready jobs on Slurm costs the machine that controls it: this plugin beside its peer.

    .venv/bin/python benchmarks/slurm_peers.py --jobs 2000 --repetitions 5

The same Snakefile is run in turn (A B C A B C …) by an executor that does nothing (`null_executor/`),
by this plugin and by snakemake-executor-plugin-slurm, on a real Slurm on this machine with four nodes.
The jobs' outputs are there beforehand (`--forceall` has Snakemake run the jobs all the same), and the
jobs themselves do nothing: of this plugin they leave the record of a success (`quick_node.sh`), of the
peer they are `true`. The Snakemake of each job would take this machine an hour, and what runs beside the
controller makes its CPU seconds dearer: the cluster stays on one processor, the controller on another,
where there are two. CPU seconds and peak memory are the operating system's, of the controller with the
processes that it starts; Slurm's daemons are not among them. Prints one JSON object, and a line for each
run to standard error.

Makes a virtual environment with the peer from PyPI below `--venv` (a temporary one by default).
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from side_by_side import (
    HERE,
    folder_of_runs,
    in_turn,
    make_environment,
    medians,
    on_processor,
    parser_of,
    put_empty,
)

from snakemake_executor_takeda.sandbox import control, slurm
from snakemake_executor_takeda.sandbox.record import BUCKET

PEER = "snakemake-executor-plugin-slurm==2.8.0"
SNAKEFILE = """
rule one:
    output: "made/{n}"
    resources: mem_mb=100, runtime=10
    shell: "touch {output}"
"""
POLICY = """
version: 1
targets:
  here: {{backend: slurm, partition: hpc, python: {python}}}
default: here
"""
FLAGS = {
    "null": (),
    "takeda": ("--takeda-routing", "routing.yaml"),
    # Its other way of asking needs an accounting database.
    "slurm": (
        *("--slurm-status-command", "squeue"),
        *("--default-resources", "slurm_partition=hpc", "slurm_account=root"),
        # By default it waits for 40 s before it looks for the first time.
        *("--slurm-init-seconds-before-status-checks", "1"),
    ),
}
STORAGE: dict[str, tuple[str, ...]] = {
    "shared": (),
    "s3": (
        *("--default-storage-provider", "s3", "--shared-fs-usage", "none"),
        *("--default-storage-prefix", f"s3://{BUCKET}/benchmark"),
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
    """From Snakemake's "Execute … jobs" to the last sbatch; None where there is none."""
    processes: dict[str, int]
    """Started by the controller, by program."""


class Bench:
    """A running Slurm, and an environment with the executors."""

    def __init__(
        self, folder: Path, python: Path, jobs: int, storage: str, variables: Mapping[str, str]
    ) -> None:
        self._folder = folder
        self._storage = storage
        self._python = python
        self._jobs = jobs
        self._variables = variables
        self._runs = 0

    def run(self, executor: str) -> Measured:
        """Raises SystemExit naming the log where the run fails."""
        self._runs += 1
        folder = self._folder / f"run-{self._runs}-{executor}"
        folder.mkdir()
        self._write(folder, executor)
        log, note = folder / "snakemake.log", folder / "processes.json"
        with log.open("w") as stream:
            began = time.monotonic()
            process = subprocess.Popen(
                self._command(executor, note),
                cwd=folder,
                env=self._environment(folder),
                stdout=stream,
                stderr=stream,
            )
            ready_at = None
            while True:
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if ready_at is None and "\nExecute " in log.read_text():
                    ready_at = time.time()
                if pid:
                    break
                time.sleep(0.05 if ready_at is None else 0.5)
            wall_seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{executor} failed: see {log}")
        noted = json.loads(note.read_text())
        last = noted["last"].get("sbatch")
        return Measured(
            cpu_seconds=round(usage.ru_utime + usage.ru_stime, 2),
            wall_seconds=round(wall_seconds, 2),
            peak_rss_mb=round(usage.ru_maxrss * 1024 / 1e6, 1),
            seconds_until_submitted=round(last - ready_at, 2) if last and ready_at else None,
            processes=noted["processes"],
        )

    def _write(self, folder: Path, executor: str) -> None:
        (folder / "Snakefile").write_text(SNAKEFILE)
        (folder / "made").mkdir()
        for n in range(self._jobs):
            (folder / "made" / str(n)).touch()
        node = json.dumps(str(HERE / "quick_node.sh"))
        (folder / "routing.yaml").write_text(POLICY.format(python=node))
        (folder / "bin").mkdir()
        if executor == "slurm":
            # What it has a node run is an argument of sbatch.
            real = shutil.which("sbatch", path=self._environment(folder)["PATH"])
            _script(folder / "bin" / "sbatch", [str(real)], '"${@/#--wrap=*/--wrap=true}"')

    def _command(self, executor: str, note: Path) -> list[str]:
        return [
            *(str(self._python), str(HERE / "counted_snakemake.py"), str(note)),
            *("--executor", executor, *FLAGS[executor], "--forceall", *STORAGE[self._storage]),
            *("--jobs", str(10 * self._jobs), "--max-jobs-per-timespan", "1000000/1s"),
            *("--max-status-checks-per-second", "1000"),
            # The default scheduler solves a linear program in a process of its own, which would
            # make everybody's figures larger and noisier.
            *("--scheduler", "greedy", "--"),
            *(f"made/{n}" for n in range(self._jobs)),
        ]

    def _environment(self, folder: Path) -> dict[str, str]:
        variables = {**os.environ, **self._variables}
        return variables | {"PATH": f"{folder / 'bin'}{os.pathsep}{variables['PATH']}"}


def _script(path: Path, words: list[str], arguments: str) -> Path:
    path.write_text(f"#!/bin/bash\nexec {shlex.join(words)} {arguments}\n")
    path.chmod(0o755)
    return path


def summary(executor: str, runs: list[Measured], null: list[Measured]) -> dict[str, object]:
    return {
        **medians(executor, runs, null),
        "most_processes": max(sum(run.processes.values()) for run in runs),
        "processes": runs[-1].processes,
    }


def main() -> None:
    words = "where the outputs are: a file system that all share, or the sandbox's S3"
    arguments = parser_of(__doc__, STORAGE, "shared", words).parse_args()
    with contextlib.ExitStack() as stack:
        folder = folder_of_runs(stack, keep=arguments.keep)
        python = make_environment(
            (arguments.venv or folder / "venv").absolute(),
            PEER,
            "snakemake-executor-plugin-slurm-jobstep",
        )
        with on_processor(-1):
            variables = slurm.up(folder / "slurm")
            stack.callback(slurm.down, folder / "slurm")
            if arguments.storage == "s3":
                control.up(folder / "sandbox", control.Options(services_port=0, moto_port=0))
                stack.callback(control.down, folder / "sandbox")
        if arguments.storage == "s3":
            variables |= control.environment(folder / "sandbox")
            put_empty((f"benchmark/made/{n}" for n in range(arguments.jobs)), variables)
        bench = Bench(folder, python, arguments.jobs, arguments.storage, variables)
        with on_processor(0):
            runs = in_turn(bench.run, "slurm", arguments.repetitions, arguments.peer_repetitions)
    rows = [summary(executor, found, runs["null"]) for executor, found in runs.items()]
    print(
        json.dumps({"jobs": arguments.jobs, "storage": arguments.storage, "rows": rows}, indent=2)
    )


if __name__ == "__main__":
    main()
