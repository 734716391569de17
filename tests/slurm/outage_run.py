"""A whole Snakemake run whose Slurm has trouble. Prints what happened; exit 1 for a bad end.

What ran is told by three that know nothing of each other: a line that each job appends to a file when it
begins and when it ends, Slurm's jobcomp log, and the run's own events.

examples: python tests/slurm/outage_run.py stop --seconds 180
          python tests/slurm/outage_run.py database --root ~/.cache/takeda/slurm-root-trixie
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from slurm_outages import Controller

from snakemake_executor_takeda.sandbox import slurm

sys.path.append(str(Path(__file__).parents[1]))
from slurm_nodes import kill_node

NODES = 3
TROUBLES = {
    "none": "nothing",
    "stop": "slurmctld is stopped, and started again",
    "crash": "slurmctld is killed (SIGKILL), and started again",
    "freeze": "slurmctld hangs (SIGSTOP), and goes on",
    "database": "slurmdbd is killed, and started again",
    "full": "MaxJobCount is 9",
    "node": "a node is killed with all that runs there; Slurm is told at the end of the trouble",
}
SNAKEFILE = """
N, SECONDS = {jobs}, {seconds}
MARK = "echo $SLURM_JOB_ID $SLURMD_NODENAME {{rule}}.{{wildcards.n}}"
LENGTHS = (1, SECONDS / 2, SECONDS + 10)
rule all:
    input: expand("second.{{n}}", n=range(N))
rule first:
    output: "first.{{n}}"
    params: length=lambda wildcards: LENGTHS[int(wildcards.n) % 3]
    shell: f"{{MARK}} begins >> ran; sleep {{{{params.length}}}}; {{MARK}} ends >> ran; touch {{{{output}}}}"
rule second:
    input: "first.{{n}}"
    output: "second.{{n}}"
    shell: f"{{MARK}} begins >> ran; {{MARK}} ends >> ran; touch {{{{output}}}}"
"""


@dataclass(frozen=True)
class Mark:
    """A line that a job has written."""

    slurm_id: str
    node: str
    job: str
    word: str


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trouble", choices=TROUBLES)
    parser.add_argument("--seconds", type=float, default=180.0, help="that the trouble lasts")
    parser.add_argument("--jobs", type=int, default=30, help="of each of two rules")
    parser.add_argument("--root", type=Path, help="root file system whose Slurm is used")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="takeda-away-"))
    try:
        slurm.up(folder, nodes=NODES, root=args.root, accounting=args.trouble == "database")
        os.environ |= slurm.environment(folder)
        return _run(folder, args)
    finally:
        slurm.down(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _run(folder: Path, args: argparse.Namespace) -> int:
    project = folder / "project"
    project.mkdir()
    (project / "Snakefile").write_text(SNAKEFILE.format(jobs=args.jobs, seconds=args.seconds))
    controller = Controller(folder)
    if args.trouble == "full":
        controller.configure(MaxJobCount=9, MinJobAge=2)
        controller.stop()
        controller.start()
    command = [
        *(sys.executable, "-m", "snakemake", "--executor", "takeda", "--jobs", str(2 * args.jobs)),
        *("--takeda-slurm-partition", "hpc", "--takeda-poll-seconds", "2", "--retries", "0"),
    ]
    began = time.monotonic()
    with (folder / "log").open("w") as log:
        run = subprocess.Popen(command, cwd=project, stdout=log, stderr=log)
        while len(_marks(project)) < 6 and run.poll() is None:
            time.sleep(0.1)
        repair = _make_trouble(args.trouble, controller, project)
        # not shorter for a run that has failed: the controller has to come back for the clean-up
        time.sleep(args.seconds)
        alive = run.poll() is None
        repair()
        code = run.wait(1200)
    version = slurm.status(folder)["version"]
    print(f"Slurm {version}: {TROUBLES[args.trouble]}, for {args.seconds:.0f} s")
    print(f"the run {'went on' if alive else 'WAS OVER'} at the end of the trouble")
    print(f"exit status {code} after {time.monotonic() - began:.0f} s")
    good = _judge(project, controller.home / "jobcomp.txt", args) and code == 0
    if not good:
        print((folder / "log").read_text())
    print("good" if good else "BAD")
    return 0 if good else 1


def _make_trouble(trouble: str, controller: Controller, project: Path):
    """Returns what ends it."""
    match trouble:
        case "stop":
            controller.stop()
            return controller.start
        case "crash":
            controller.crash()
            return controller.start
        case "freeze":
            controller.freeze()
            return controller.thaw
        case "database":
            controller.kill_database()
            return controller.start_database
        case "node":
            (node, _), *_ = Counter(_open_jobs(project).values()).most_common()
            kill_node(node, slurm.environment(controller.home.parent))
            words = ["scontrol", "update", f"nodename={node}", "state=down", "reason=died"]
            return lambda: subprocess.run(words, check=True)
    return lambda: None


def _marks(project: Path) -> list[Mark]:
    ran = project / "ran"
    return [Mark(*line.split()) for line in ran.read_text().splitlines()] if ran.exists() else []


def _open_jobs(project: Path) -> dict[str, str]:
    """Job → node, of those that have begun and not ended."""
    marks = _marks(project)
    ended = {mark.job for mark in marks if mark.word == "ends"}
    return {mark.job: mark.node for mark in marks if mark.job not in ended}


def _judge(project: Path, jobcomp: Path, args: argparse.Namespace) -> bool:
    """Whether each job has ended once, and again only where Slurm lost its node."""
    marks = _marks(project)
    begun = Counter(mark.job for mark in marks if mark.word == "begins")
    ended = Counter(mark.job for mark in marks if mark.word == "ends")
    again = Counter({job: count - 1 for job, count in begun.items() if count > 1})
    lines = jobcomp.read_text().splitlines()
    states = Counter(found[1] for line in lines if (found := re.search(r"JobState=(\w+)", line)))
    events = [
        json.loads(line)
        for line in (project / ".snakemake/takeda/events.jsonl").read_text().splitlines()
    ]
    counts = Counter(event["event"] for event in events)
    jobs = 2 * args.jobs
    print(f"jobs' own lines: {len(begun)} of {jobs} began, {len(ended)} ended, each")
    print(f"  began {dict(Counter(begun.values()))}, ended {dict(Counter(ended.values()))} times")
    print(f"jobcomp: {dict(states)}")
    print(f"events: {dict(counts)}")
    for event in events:
        if event["event"] == "waiting":
            print(f"told: {event['detail']['reason']}")
    lost = sum(count for state, count in states.items() if state == "NODE_FAIL")
    return (
        begun.keys() == ended.keys()
        and len(begun) == jobs
        # a command may have ended on a node that is killed before its job has
        and sum(ended.values()) - jobs <= lost
        and sum(again.values()) <= lost
        and states == Counter({"COMPLETED": jobs, "NODE_FAIL": lost}) - Counter()
        and counts["failed"] == 0
        and counts["succeeded"] == jobs
        and counts["interrupted"] == lost
        and (lost > 0) == (args.trouble == "node")
    )


if __name__ == "__main__":
    sys.exit(main())
