"""A whole Snakemake run whose Slurm controller is away for minutes. Prints what happened; exit 1 for a bad end.

example: python tests/slurm/outage_run.py --seconds 180 --how stop
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from slurm_outages import Controller

from snakemake_executor_takeda.sandbox import slurm

SNAKEFILE = """
N = {jobs}
rule all:
    input: expand("second.{{n}}", n=range(N))
rule first:
    output: "first.{{n}}"
    shell: "echo run >> ran.first.{{wildcards.n}}; sleep $(({{wildcards.n}} % 5)); touch {{output}}"
rule second:
    input: "first.{{n}}"
    output: "second.{{n}}"
    shell: "echo run >> ran.second.{{wildcards.n}}; touch {{output}}"
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0, help="that the controller is away")
    parser.add_argument("--how", choices=["stop", "freeze"], default="stop")
    parser.add_argument("--jobs", type=int, default=30, help="of each of two rules")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="takeda-away-"))
    try:
        slurm.up(folder, nodes=3)
        os.environ |= slurm.environment(folder)
        return _run(folder, args)
    finally:
        slurm.down(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _run(folder: Path, args: argparse.Namespace) -> int:
    project = folder / "project"
    project.mkdir()
    (project / "Snakefile").write_text(SNAKEFILE.format(jobs=args.jobs))
    controller = Controller(folder)
    command = [
        *(sys.executable, "-m", "snakemake", "--executor", "takeda", "--jobs", "8"),
        *("--takeda-slurm-partition", "hpc", "--takeda-poll-seconds", "2"),
    ]
    with (folder / "log").open("w") as log:
        run = subprocess.Popen(command, cwd=project, stdout=log, stderr=log)
        while len(list(project.glob("ran.*"))) < 6 and run.poll() is None:
            time.sleep(0.1)
        print(f"{len(list(project.glob('ran.*')))} jobs have begun; {args.how} of slurmctld")
        (controller.stop if args.how == "stop" else controller.freeze)()
        # not shorter for a run that failed: the controller has to come back for the clean-up
        time.sleep(args.seconds)
        alive = run.poll() is None
        (controller.start if args.how == "stop" else controller.thaw)()
        print(
            f"slurmctld is back after {args.seconds:.0f} s; the run {'goes on' if alive else 'ENDED'}"
        )
        code = run.wait(600)
    events = [
        json.loads(line)
        for line in (project / ".snakemake/takeda/events.jsonl").read_text().splitlines()
    ]
    counts = Counter(event["event"] for event in events)
    runs = Counter(len(path.read_text().split()) for path in project.glob("ran.*"))
    print(f"exit status {code}; events {dict(counts)}; runs of a job: {dict(runs)}")
    for event in events:
        if event["event"] == "waiting":
            print(f"told: {event['detail']['reason']}")
    good = code == 0 and runs == {1: 2 * args.jobs} and not counts["failed"]
    if not good:
        print((folder / "log").read_text())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
