"""How long after a child's end its success is reported to Snakemake: event mode beside polling.

    .venv/bin/python benchmarks/event_latency.py --jobs 24

Starts a sandbox of its own and runs one array twice, once polled (`--takeda-poll-seconds` as it is by
default) and once with `event_queue`, an SQS queue that an EventBridge rule fills. The children sleep, so that
they end one after the other at random, six seconds apart on average. Latency is the time at which Snakemake
says "Finished jobid", less the job's `stoppedAt`. Prints a JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3

BIN = Path(sys.executable).parent
MEAN_GAP_S = 6.0
FIRST_END_S = 20.0
QUEUE = "takeda-sandbox"
EVENTS = "takeda-events"
SNAKEFILE = """
SECONDS = {seconds}
rule all:
    input: expand("{{n}}.txt", n=range(len(SECONDS)))
rule one:
    output: "{{n}}.txt"
    params: seconds=lambda wildcards: SECONDS[int(wildcards.n)]
    resources: mem_mb=50
    shell: "sleep {{params.seconds}}; touch {{output}}"
"""
POLICY = """
version: 1
targets:
  batch: {{backend: batch, queue: {queue}{more}}}
default: batch
"""


def takeda(*words: str) -> str:
    return subprocess.run(
        [BIN / "takeda", *words], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def batch_calls() -> dict[str, int]:
    calls = json.loads(takeda("sandbox", "status", "--json"))["api_calls"]
    return dict(calls.get("batch", {}))


def set_up_events() -> None:
    """The rule and the queue that docs/batch.md recommends."""
    sqs, events = boto3.client("sqs"), boto3.client("events")
    url = sqs.create_queue(QueueName=EVENTS)["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    (queue,) = boto3.client("batch").describe_job_queues(jobQueues=[QUEUE])["jobQueues"]
    states = ["RUNNING", "SUCCEEDED", "FAILED"]
    pattern = {
        "source": ["aws.batch"],
        "detail-type": ["Batch Job State Change"],
        "detail": {"jobQueue": [queue["jobQueueArn"]], "status": states},
    }
    events.put_rule(Name=EVENTS, EventPattern=json.dumps(pattern))
    arn = attributes["Attributes"]["QueueArn"]
    events.put_targets(Rule=EVENTS, Targets=[{"Id": "1", "Arn": arn}])


def measure(mode: str, seconds: list[float], folder: Path) -> dict[str, object]:
    folder.mkdir()
    (folder / "Snakefile").write_text(SNAKEFILE.format(seconds=seconds))
    more = f", event_queue: {EVENTS}" if mode == "events" else ""
    (folder / "routing.yaml").write_text(POLICY.format(queue=QUEUE, more=more))
    command = [
        *(BIN / "snakemake", "--executor", "takeda", "--takeda-routing", "routing.yaml"),
        *("--default-storage-provider", "s3", "--shared-fs-usage", "none"),
        *("--default-storage-prefix", f"s3://takeda-sandbox/{mode}"),
        *("--jobs", str(len(seconds)), "--max-jobs-per-timespan", "100000/1s"),
    ]
    before = batch_calls()
    said, finished_at = [], {}
    begun = time.monotonic()
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            said.append(line)
            if match := re.match(r"Finished jobid: (\d+) ", line):
                finished_at[int(match[1])] = time.time()
    elapsed = time.monotonic() - begun
    if process.returncode:
        sys.exit("".join(said))
    calls = {name: count - before.get(name, 0) for name, count in batch_calls().items()}
    lines = (folder / ".snakemake/takeda/events.jsonl").read_text().splitlines()
    reported = {
        event["external_id"]: finished_at[event["job_id"]]
        for event in map(json.loads, lines)
        if event["event"] == "succeeded"
    }
    ids = list(reported)
    jobs = [
        job
        for start in range(0, len(ids), 100)
        for job in boto3.client("batch").describe_jobs(jobs=ids[start : start + 100])["jobs"]
    ]
    latencies = sorted(reported[job["jobId"]] - job["stoppedAt"] / 1000 for job in jobs)
    return {
        "children": len(latencies),
        "median_s": round(statistics.median(latencies), 2),
        "p90_s": round(latencies[int(0.9 * len(latencies))], 2),
        "longest_s": round(latencies[-1], 2),
        "run_s": round(elapsed, 1),
        "DescribeJobs": calls.get("DescribeJobs", 0),
        "ListJobs": calls.get("ListJobs", 0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    chance = random.Random(asked.seed)  # noqa: S311
    seconds, end = [], FIRST_END_S
    for _ in range(asked.jobs):
        end += chance.expovariate(1 / MEAN_GAP_S)
        seconds.append(round(end, 2))
    with tempfile.TemporaryDirectory(prefix="takeda-benchmark-") as name:
        folder = Path(name)
        os.environ["TAKEDA_SANDBOX_DIR"] = str(folder / "sandbox")
        size = ("--vcpus", str(2 * asked.jobs), "--memory", "65536")
        takeda("sandbox", "up", "--port", "0", "--s3-port", "0", *size)
        try:
            os.environ.update(json.loads(takeda("sandbox", "env", "--json")))
            set_up_events()
            found = {mode: measure(mode, seconds, folder / mode) for mode in ("polling", "events")}
            print(json.dumps(found, indent=2))
        finally:
            takeda("sandbox", "down")


if __name__ == "__main__":
    main()
