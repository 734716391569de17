"""Runs of many small jobs on a Slurm: what was sent, in how many calls, and what ran."""

import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

UNIFORM = "1000"
MIXED = "1000 if int(wildcards.n) % 2 else 4000"

SNAKEFILE = """
rule all:
    input: expand("made/{{n}}", n=range({ready}))
rule make:
    output: "made/{{n}}"
    resources:
        mem_mb=lambda wildcards: {mem_mb},
        runtime=10,
    shell: "exit 1"
"""
POLICY = """
version: 1
targets:
  here: {{backend: slurm, partition: {partition}, array_limit: {chunk}, python: {python}}}
default: here
"""


@dataclass(frozen=True)
class Result:
    """One run that has ended."""

    status: int
    output: str
    seconds: float
    calls: list
    """The words of each call of sbatch."""
    events: Counter
    ran: Counter
    """How often each job ran, by number."""
    memory: dict
    """What each job got, by number."""

    @property
    def sizes(self):
        """Tasks of each call."""
        arrays = [
            int(word.removeprefix("--array=0-").partition("%")[0]) + 1
            for call in self.calls
            for word in call
            if word.startswith("--array=")
        ]
        return arrays + [1] * (len(self.calls) - len(arrays))


def run(folder, environ, *, jobs, ready, chunk=1000, mem_mb=UNIFORM, partition="hpc"):
    """Snakemake with `--jobs`, on `ready` jobs that can all start at once, on nodes that are quick."""
    (folder / "made").mkdir()
    python = _executable(
        folder / "quick-python",
        [sys.executable, str(Path(__file__).with_name("quick_node.py"))],
    )
    (folder / "Snakefile").write_text(SNAKEFILE.format(ready=ready, mem_mb=mem_mb))
    (folder / "routing.yaml").write_text(
        POLICY.format(partition=partition, chunk=chunk, python=json.dumps(str(python)))
    )
    (folder / "bin").mkdir()
    calls = folder / "calls"
    _executable(folder / "bin" / "sbatch", [str(shutil.which("sbatch"))], note=calls)
    command = [sys.executable, "-m", "snakemake", "--executor", "takeda", "--jobs", str(jobs)]
    command += ["--takeda-routing", "routing.yaml", "--takeda-poll-seconds", "0.5", "--quiet"]
    # Snakemake itself hands over 100 jobs a second, unless it is told otherwise.
    command += ["--max-jobs-per-timespan", "100000/1s"]
    # So long that what becomes ready together goes out together on a busy machine, too.
    command += ["--takeda-coalesce-seconds", "0.2" if jobs < ready else "3"]
    command += ["--takeda-coalesce-max-seconds", "60", "--latency-wait", "20"]
    began = time.monotonic()
    done = subprocess.run(
        command,
        cwd=folder,
        env={**environ, "PATH": f"{folder / 'bin'}{os.pathsep}{environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - began
    log = folder / ".snakemake/takeda/events.jsonl"
    events = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    ran = folder / "ran"
    return Result(
        status=done.returncode,
        output=done.stdout,
        seconds=seconds,
        calls=[shlex.split(line) for line in calls.read_text().splitlines()],
        events=Counter(event["event"] for event in events),
        ran=Counter(ran.read_text().split() if ran.exists() else []),
        memory={path.name: path.read_text().strip() for path in (folder / "made").iterdir()},
    )


def _executable(path, words, note=None):
    """A script that runs these words with its own, and writes its own down where it should."""
    lines = ["#!/bin/bash"]
    if note:
        lines.append(f'echo "${{@@Q}}" >> {shlex.quote(str(note))}')
    lines.append(f'exec {shlex.join(words)} "$@"')
    path.write_text("\n".join(lines) + "\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path
