"""One run of a pipeline on Batch and HealthOmics, every call of which goes through a recorder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iam_recorder import Recorder

from snakemake_executor_takeda.sandbox import control, record
from snakemake_executor_takeda.sandbox.variables import FOREIGN, client_variables

PREFIX = "project-x/"
VALUES = {
    "Partition": "aws",
    "Account": "123456789012",
    "Region": "us-east-1",
    "Bucket": "takeda-sandbox",
    "Prefix": PREFIX,
    "JobQueues": "takeda-*",
    "JobDefinition": "given",
    "JobLogGroup": "/aws/batch/job",
    "JobRole": "takeda-job",
    "ExecutionRole": "takeda-execution",
    "OmicsRole": "takeda-healthomics",
    "EventQueue": "takeda-jobs",
    "Repositories": "takeda/*",
    "Secrets": "takeda/",
}
PLANTED = "planted-7f3a9c"
"""Part of every secret of the run: whoever finds it anywhere has found a leak."""
TOKEN = f"{PLANTED}-of-envvars\nb=c $(touch pwned)"
"""The variable of `envvars:`; the rules know its hash."""
FEATURES = ("s3", "batch", "event_queue", "healthomics")
"""Of actions.yaml, that the recorded run uses."""

SNAKEFILE = """
envvars: "LAB_TOKEN"
LONG = "".join(map(str, range(80)))
ODD = ["-rf $(touch pwned);`touch pwned`|a>b&c", f"..ünï 日本{LONG}"]

rule all:
    input: "sum.txt", "words.txt", "folder", "twice.txt", expand("odd/{name}.txt", name=ODD)

rule part:
    output: temp("part.{n}.txt")
    shell: 'printf %s "$LAB_TOKEN" | sha256sum | grep -q ^080383457518 && echo {wildcards.n} > {output}'

rule sum:
    input: expand("part.{n}.txt", n=[1, 2])
    output: "sum.txt"
    localrule: True
    shell: "cat {input} > {output}"

rule folder:
    output: directory("folder")
    shell: "mkdir -p {output} && echo 1 > {output}/one && echo 2 > {output}/two"

rule twice:
    output: "twice.txt"
    retries: 1
    resources: mem_mb=lambda wildcards, attempt: 100 * attempt
    shell: "echo {resources.mem_mb} | tee {output}; test {resources.mem_mb} -gt 100"

rule odd:
    output: "odd/{name}.txt"
    shell: "touch {output:q}"

rule words:
    input: text="given.txt"
    output: words="words.txt"
    log: "words.log"
    resources: handoff="words.wdl"
    shell: "takeda handoff run-local {resources.handoff} --input text {input} --output words {output}"
"""
WDL = """version 1.0
workflow count { input { File text } call lines { input: text = text } output { File words = lines.out } }
task lines {
  input { File text }
  command <<< wc -l < ~{text} >>>
  output { File out = stdout() }
  runtime { container: "123456789012.dkr.ecr.us-east-1.amazonaws.com/takeda/base:1" }
}
"""
POLICY = """
version: 1
targets:
  heard:
    backend: batch
    queue: takeda-sandbox
    capacity: on-demand
    job_role_arn: arn:aws:iam::123456789012:role/takeda-job
    event_queue: takeda-jobs
  polled:
    backend: batch
    queue: takeda-sandbox-spot
    capacity: spot
    job_role_arn: arn:aws:iam::123456789012:role/takeda-job
  omics:
    backend: healthomics
    role_arn: arn:aws:iam::123456789012:role/takeda-healthomics
    output_uri: s3://takeda-sandbox/project-x/omics
    registration_poll_seconds: 0.1
routes:
  - {when: {handoff: true}, to: omics}
  - {when: {rule: part}, to: polled}
default: heard
"""


@dataclass(frozen=True)
class Recorded:
    """A run that has ended."""

    project: Path
    state_dir: Path
    """The sandbox's own folder."""
    recorder: Recorder
    done: subprocess.CompletedProcess[str]
    objects: dict[str, bytes]
    """What is in the bucket afterwards, by key."""
    s3: Any
    """A client that is not recorded."""


@contextmanager
def recorded_run(project: Path) -> Iterator[Recorded]:
    """`project` is an empty directory. The sandbox is up until the end."""
    recorder = Recorder()
    recorder.start()
    state_dir = Path(tempfile.mkdtemp(prefix="takeda-security-"))
    process = subprocess.Popen(
        [
            *(sys.executable, str(Path(__file__).with_name("iam_sandbox.py"))),
            *(recorder.url, "JOB", "OMICS", "--dir", str(state_dir), "--port", "0", "--s3-port"),
            *("0", "--vcpus", "4", "--memory", "16384", "--runner", "process"),
        ],
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"ready": True}
        found = record.read(state_dir)
        assert found is not None
        recorder.real_key = found.access_key
        recorder.ports = (found.services_port, found.moto_port)
        _make_event_queue(found.variables())
        s3 = _client("s3", found.variables())
        for name in ("twice.txt", "given.txt"):
            s3.put_object(Bucket="takeda-sandbox", Key=f"{PREFIX}run/{name}", Body=b"old\n")
        (project / "Snakefile").write_text(SNAKEFILE)
        (project / "words.wdl").write_text(WDL)
        (project / "routing.yaml").write_text(POLICY)
        environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
        environment |= client_variables(recorder.url, recorder.url, "CONTROLLER")
        environment["AWS_SECRET_ACCESS_KEY"] = f"{PLANTED}-of-aws"
        environment["SLURM_JWT"] = f"{PLANTED}-of-slurm"
        environment["LAB_TOKEN"] = TOKEN
        done = subprocess.run(
            [
                *(sys.executable, "-m", "snakemake", "--executor", "takeda", "--jobs", "50"),
                *("--takeda-routing", "routing.yaml", "--takeda-poll-seconds", "0.5"),
                *("--default-storage-provider", "s3", "--shared-fs-usage", "none"),
                *("--default-storage-prefix", f"s3://takeda-sandbox/{PREFIX}run"),
                # its output is there already
                *("--forcerun", "twice"),
            ],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        yield Recorded(project, state_dir, recorder, done, _objects(s3), s3)
    finally:
        process.terminate()
        process.wait()
        control.down(state_dir)
        recorder.shutdown()
        recorder.server_close()
        shutil.rmtree(state_dir, ignore_errors=True)


def _client(service: str, variables: dict[str, str]) -> Any:
    import boto3

    return boto3.client(
        service,
        endpoint_url=variables["AWS_ENDPOINT_URL_S3"],
        region_name=variables["AWS_REGION"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
    )


def _make_event_queue(variables: dict[str, str]) -> None:
    """What a site makes for `event_queue`."""
    sqs = _client("sqs", variables)
    url = sqs.create_queue(QueueName="takeda-jobs")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    events = _client("events", variables)
    events.put_rule(Name="jobs", EventPattern=json.dumps({"source": ["aws.batch"]}))
    events.put_targets(Rule="jobs", Targets=[{"Id": "1", "Arn": arn["QueueArn"]}])


def _objects(s3: Any) -> dict[str, bytes]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="takeda-sandbox")
    keys = [one["Key"] for page in pages for one in page.get("Contents", ())]
    return {
        key: s3.get_object(Bucket="takeda-sandbox", Key=key)["Body"].read()
        for key in keys
        if key.startswith(PREFIX)
    }
