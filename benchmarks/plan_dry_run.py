"""`takeda plan` beside Snakemake's own dry run: CPU seconds of each, in turn, and their ratios.

python benchmarks/plan_dry_run.py [--jobs 10000] [--repetitions 3]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

SNAKEFILE = """\
SAMPLES = range({samples})
rule all:
    input: expand("out/{{s}}.called", s=SAMPLES)
rule align:
    output: "out/{{s}}.aligned"
    threads: 4
    resources: mem_mb=8000, runtime=60
    shell: "touch {{output}}"
rule call:
    input: "out/{{s}}.aligned"
    output: "out/{{s}}.called"
    resources: mem_mb=16000, runtime=120
    shell: "touch {{output}}"
"""
POLICY = """\
version: 1
targets:
  spot: {backend: batch, queue: spot, capacity: spot, instances: [c7i, m7i, r7i], fallback: od}
  od: {backend: batch, queue: od, capacity: on-demand, instances: [c7i, m7i, r7i]}
routes:
  - {when: {runtime: ">720"}, to: od}
default: spot
"""
SNAKEMAKE = ["-m", "snakemake", "--dry-run", "--cores", "1"]
TAKEDA = ["-c", "from snakemake_executor_takeda.cli import main; raise SystemExit(main())"]
COMMANDS = {
    "dry run": SNAKEMAKE,
    "quiet dry run": [*SNAKEMAKE, "--quiet"],
    "plan": [*TAKEDA, "plan", "--takeda-routing", "routing.yaml"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--repetitions", type=int, default=3)
    args = parser.parse_args()
    cpu: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory(prefix="takeda-plan-") as folder:
        (Path(folder) / "Snakefile").write_text(SNAKEFILE.format(samples=args.jobs // 2))
        (Path(folder) / "routing.yaml").write_text(POLICY)
        for number in range(args.repetitions):
            for name, words in COMMANDS.items():
                seconds = _cpu_seconds(words, folder)
                cpu[name].append(seconds)
                print(f"{number + 1}  {name:13} {seconds:6.1f} s", flush=True)
    plan = median(cpu.pop("plan"))
    for name, seconds in cpu.items():
        print(
            f"{args.jobs:,} jobs, CPU seconds, medians: plan {plan:.1f}, {name} {median(seconds):.1f}: "
            f"{plan / median(seconds):.2f} of it"
        )


def _cpu_seconds(words: list[str], folder: str) -> float:
    """Of a Python process and its children."""
    before = os.times()
    subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "AWS_DEFAULT_REGION": "eu-central-1"},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    after = os.times()
    return (
        after.children_user + after.children_system - before.children_user - before.children_system
    )


if __name__ == "__main__":
    main()
