"""Runs a small pipeline once per fault, with the fault injected, and checks what came of it.

    .venv/bin/python benchmarks/faults.py              # every fault: the table in faults.md
    .venv/bin/python benchmarks/faults.py spot --jobs 200

Each run has a sandbox of its own. Afterwards four things are asked, none of them from this project's own
bookkeeping but the last: do the outputs hold what they must (boto3), has each job succeeded exactly once
and is none left (boto3, ListJobs), and does `events.jsonl` explain every attempt of every job.
Exit status 1 where one does not hold.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
BUCKET = "takeda-sandbox"
LOSSES = ("interrupted", "node_failure")
SPOT, ON_DEMAND = "takeda-sandbox-spot", "takeda-sandbox"
SNAKEFILE = """
rule all:
    input: expand("{{n}}.txt", n=range({jobs}))
rule work:
    output: "{{n}}.txt"
    resources: mem_mb=100, runtime=10
    shell: "printf %s {{wildcards.n}} | sha256sum > {{output}}"
"""


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    name: str
    faults: tuple[str, ...]
    selectors: tuple[str, ...] = ()
    target: Mapping[str, Any] = field(default_factory=dict)
    """Words of the Spot target."""
    policy: Mapping[str, Any] = field(default_factory=dict)
    events: bool = False
    """Whether the run hears of ends through EventBridge and SQS."""
    retries: int = 0


def cases(rate: float) -> list[Case]:
    on_spot = ("--queue", SPOT)
    memory = {"retry": {"out_of_memory": {"factor": 2, "times": 6}}}
    return [
        Case("throttling", (f"throttling={rate}",)),
        Case("5xx", (f"server-error={rate}",)),
        Case("lost answers", (f"lost-answer={rate}",)),
        Case("late sight", ("describe-lag=3",)),
        Case("spot", (f"spot-reclaim={rate}",), on_spot),
        Case("spot, exit code 143", (f"spot-reclaim:143={rate}",), on_spot),
        Case("memory, exit code 137", (f"out-of-memory={rate}",), on_spot, policy=memory),
        Case("memory, exit code 1", (f"out-of-memory:1={rate}",), on_spot, policy=memory),
        Case("image", (f"image-pull={rate}",), on_spot),
        Case("timeout", (f"timeout={rate}",), on_spot, retries=8),
        Case("no reason", (f"missing-exit-code={rate}",), on_spot),
        Case(
            "blocked queue",
            (f"blocked-queue={rate}",),
            on_spot,
            target={"runnable_notice": 0.1, "runnable_limit": 0.2},
        ),
        Case("events twice", (f"duplicate-events={rate}",), events=True),
        Case("events in disorder", (f"disordered-events={rate}",), events=True),
        Case("events lost", (f"lost-events={rate}",), events=True),
        Case(
            "all at once",
            (f"throttling={rate}", "server-error=0.1", "lost-answer=0.05", "describe-lag=1"),
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("only", nargs="*", help="rows that begin so; all of them if none is given")
    parser.add_argument("--jobs", type=int, default=40)
    parser.add_argument("--rate", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = []
    for case in cases(given.rate):
        if not given.only or case.name.startswith(tuple(given.only)):
            row = {"fault": case.name, **run(case, given.jobs, given.seed)}
            rows.append(row)
            print(json.dumps(row) if given.json else as_line(row), flush=True)
    sys.exit(0 if rows and all(row["holds"] for row in rows) else 1)


def run(case: Case, jobs: int, seed: int) -> dict[str, Any]:
    """Facts of one run; `problems` lists what does not hold."""
    with tempfile.TemporaryDirectory(prefix="takeda-faults-") as name:
        folder = Path(name)
        os.environ["TAKEDA_SANDBOX_DIR"] = str(folder / "sandbox")
        takeda("sandbox", "up", "--port", "0", "--s3-port", "0")
        try:
            environment = json.loads(takeda("sandbox", "env", "--json"))
            os.environ.update(environment)
            client.cache_clear()
            target = dict(case.target)
            if case.events:
                target["event_queue"] = event_queue()
            write_pipeline(folder, jobs, target, case.policy)
            set_faults = ("sandbox", "faults", "set", *case.faults, *case.selectors)
            takeda(*set_faults, "--seed", str(seed))
            began = time.monotonic()
            status = snakemake(folder, case.retries)
            seconds = time.monotonic() - began
            injected = json.loads(takeda("sandbox", "faults", "--json"))["injected"]
            takeda("sandbox", "faults", "clear")
            problems = list(find_problems(folder, jobs, status))
            if not sum(injected.values()):
                problems.append("no fault was injected")
            facts = {
                "injected": injected,
                **told(folder),
                "seconds": round(seconds),
                "holds": not problems,
            }
            if problems:
                facts["problems"] = problems
                kept = Path(tempfile.mkdtemp(prefix="takeda-faults-kept-"))
                for path in (folder / "snakemake.log", events_of(folder)):
                    (kept / path.name).write_bytes(path.read_bytes())
                facts["kept"] = str(kept)
            return facts
        finally:
            takeda("sandbox", "down")


def write_pipeline(
    folder: Path, jobs: int, target: Mapping[str, Any], policy: Mapping[str, Any]
) -> None:
    (folder / "Snakefile").write_text(SNAKEFILE.format(jobs=jobs))
    spot = {"backend": "batch", "queue": SPOT, "capacity": "spot", "fallback": "on-demand"}
    routing = {
        "version": 1,
        "targets": {
            "spot": {**spot, **target},
            "on-demand": {
                "backend": "batch",
                "queue": ON_DEMAND,
                "capacity": "on-demand",
                **({"event_queue": target["event_queue"]} if "event_queue" in target else {}),
            },
        },
        "default": "spot",
        **policy,
    }
    # YAML takes JSON.
    (folder / "routing.yaml").write_text(json.dumps(routing))


def snakemake(folder: Path, retries: int) -> int:
    command = [
        *(BIN / "snakemake", "--executor", "takeda", "--takeda-routing", "routing.yaml"),
        *("--default-storage-provider", "s3", "--shared-fs-usage", "none"),
        *("--default-storage-prefix", f"s3://{BUCKET}/faults"),
        *("--jobs", "1000", "--max-jobs-per-timespan", "100000/1s"),
        *("--retries", str(retries), "--takeda-poll-seconds", "2"),
    ]
    with (folder / "snakemake.log").open("w") as log:
        return subprocess.run(command, cwd=folder, stdout=log, stderr=log, check=False).returncode


def find_problems(folder: Path, jobs: int, status: int) -> Iterator[str]:
    if status:
        yield f"snakemake ended with {status}"
    wrong = [n for n in range(jobs) if output(n) != expected(n)]
    if wrong:
        yield f"wrong or missing outputs: {wrong[:5]}"
    states = Counter(leaf["status"] for leaf in leaves())
    if states["SUCCEEDED"] != jobs:
        yield f"{states['SUCCEEDED']} jobs succeeded in Batch, not {jobs}"
    left = {state: n for state, n in states.items() if state not in ("SUCCEEDED", "FAILED")}
    if left:
        yield f"jobs left: {left}"
    yield from unexplained(folder)


def unexplained(folder: Path) -> Iterator[str]:
    """What `events.jsonl` does not account for."""
    histories: dict[int, list[dict[str, Any]]] = {}
    for event in read_events(folder):
        if event["job_id"] is not None:
            histories.setdefault(event["job_id"], []).append(event)
    for job_id, history in histories.items():
        counts = Counter(event["event"] for event in history)
        ends = counts["resubmitted"] + counts["failed"] + counts["succeeded"]
        if counts["succeeded"] != 1 or history[-1]["event"] != "succeeded":
            yield f"job {job_id}: its history does not end in one success"
        elif counts["submitted"] != ends:
            yield f"job {job_id}: {counts['submitted']} submissions, {ends} ends"
        yield from misplaced(job_id, history)
        for event in history:
            if event["event"] in ("interrupted", "failed") and not event["detail"].get("reason"):
                yield f"job {job_id}: {event['event']} without a reason"


def misplaced(job_id: int, history: list[dict[str, Any]]) -> Iterator[str]:
    """The first two losses of a node stay on Spot, the third goes On-Demand."""
    losses = 0
    for event in history:
        if event["event"] == "interrupted" and event["detail"]["kind"] in LOSSES:
            losses += 1
        elif event["event"] == "resubmitted" and 0 < losses <= 3:
            wanted = "spot" if losses <= 2 else "on-demand"
            if event["target"] != wanted:
                yield f"job {job_id}: loss {losses} goes to {event['target']}"


def told(folder: Path) -> dict[str, Any]:
    """What the run says it did."""
    events = list(read_events(folder))
    again = Counter(e["detail"]["kind"] for e in events if e["event"] == "interrupted")
    submissions = [e for e in events if e["event"] == "submitted"]
    return {
        "sent_again": dict(again),
        "snakemake_retries": sum(e["event"] == "failed" for e in events),
        "on_demand": sum(e["event"] == "succeeded" and e["target"] == "on-demand" for e in events),
        "submissions": len({e["detail"]["submission"] for e in submissions}),
    }


def as_line(row: Mapping[str, Any]) -> str:
    def listed(counts: Mapping[str, int]) -> str:
        return ", ".join(f"{n} {word}" for word, n in counts.items()) or "–"

    holds = "yes" if row["holds"] else f"NO: {'; '.join(row['problems'])} ({row['kept']})"
    cells = (
        row["fault"],
        listed(row["injected"]),
        listed(row["sent_again"]),
        row["on_demand"] or "–",
        row["snakemake_retries"] or "–",
        row["submissions"],
        holds,
    )
    return f"| {' | '.join(map(str, cells))} |"


def takeda(*words: str) -> str:
    command = [BIN / "takeda", *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


@cache
def client(service: str) -> Any:
    """Of a session of its own: the default session would remember an earlier sandbox's key."""
    import boto3

    return boto3.Session().client(service)


def event_queue() -> str:
    """A queue that gets every change of a job's state; its URL."""
    queues, events = client("sqs"), client("events")
    url: str = queues.create_queue(QueueName="takeda-events")["QueueUrl"]
    attributes = queues.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    pattern = {"source": ["aws.batch"], "detail-type": ["Batch Job State Change"]}
    events.put_rule(Name="takeda", EventPattern=json.dumps(pattern))
    events.put_targets(
        Rule="takeda", Targets=[{"Id": "1", "Arn": attributes["Attributes"]["QueueArn"]}]
    )
    return url


def leaves() -> Iterator[dict[str, Any]]:
    """Every job of both queues, an array's children each."""
    batch = client("batch")
    states = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED")
    pages = batch.get_paginator("list_jobs")
    for queue in (SPOT, ON_DEMAND):
        for state in states:
            for page in pages.paginate(jobQueue=queue, jobStatus=state):
                for job in page["jobSummaryList"]:
                    if "arrayProperties" not in job:
                        yield job
                        continue
                    for of_child in states:
                        children = pages.paginate(arrayJobId=job["jobId"], jobStatus=of_child)
                        for found in children:
                            yield from found["jobSummaryList"]


def expected(n: int) -> bytes:
    return f"{hashlib.sha256(str(n).encode()).hexdigest()}  -\n".encode()


def output(n: int) -> bytes | None:
    from botocore.exceptions import ClientError

    try:
        body: bytes = client("s3").get_object(Bucket=BUCKET, Key=f"faults/{n}.txt")["Body"].read()
    except ClientError:
        return None
    return body


def events_of(folder: Path) -> Path:
    return folder / ".snakemake/takeda/events.jsonl"


def read_events(folder: Path) -> Iterator[dict[str, Any]]:
    for line in events_of(folder).read_text().splitlines():
        yield json.loads(line)


if __name__ == "__main__":
    main()
