"""What the table on the terminal costs: CPU time of a run in a pseudo-terminal with it and without it.

`python benchmarks/progress.py [--jobs 2000] [--rounds 1]`. Jobs end at once, so that there is something new
all the time: the worst case."""

from __future__ import annotations

import argparse
import os
import pty
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SNAKEFILE = """
rule all:
    input: expand("out.{{n}}", n=range({jobs}))
rule one:
    output: "out.{{n}}"
    shell: "touch {{output}}"
"""
POLICY = """
version: 1
targets:
  a: {backend: instant, usd_per_cpu_hour: 1}
  b: {backend: instant, usd_per_cpu_hour: 1}
routes:
  - {when: {wildcards: {n: "*7"}}, to: b}
default: a
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=1)
    said = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plugin = Path(folder) / "plugin" / "instant-1.0.dist-info"
        plugin.mkdir(parents=True)
        (plugin / "METADATA").write_text("Metadata-Version: 2.1\nName: instant\nVersion: 1.0\n")
        (plugin / "entry_points.txt").write_text(
            "[snakemake_executor_takeda.backends]\ninstant = instant_backend:backend\n"
        )
        paths = [
            str(plugin.parent),
            str(ROOT / "tests/snakemake"),
            os.environ.get("PYTHONPATH", ""),
        ]
        for number in range(said.rounds):
            seconds = {}
            for progress in ("none", "live"):
                work = Path(folder) / f"{progress}{number}"
                work.mkdir()
                (work / "Snakefile").write_text(SNAKEFILE.format(jobs=said.jobs))
                (work / "routing.yaml").write_text(POLICY)
                seconds[progress], written = run(
                    work, progress, os.pathsep.join(filter(None, paths))
                )
                print(f"{progress}: {seconds[progress]:.1f} s of CPU, {written:,} bytes written")
            print(f"ratio: {seconds['live'] / seconds['none']:.3f}", flush=True)


def run(work: Path, progress: str, python_path: str) -> tuple[float, int]:
    """→ CPU seconds of the process, bytes that it wrote to its terminal."""
    command = [
        *(sys.executable, "-m", "snakemake", "--executor", "takeda", "--jobs", "500"),
        *("--takeda-routing", "routing.yaml", "--takeda-progress", progress),
    ]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(work)
        environment = {**os.environ, "PYTHONPATH": python_path, "TERM": "xterm"}
        os.execve(command[0], command, environment)  # noqa: S606 - no shell is wanted
    written, last = 0, b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # nobody has the terminal any more
            break
        if not piece:
            break
        written, last = written + len(piece), (last + piece)[-2000:]
    _, status, used = os.wait4(pid, 0)
    if status:
        sys.exit(last.decode())
    return used.ru_utime + used.ru_stime, written


main()
