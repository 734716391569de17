"""Ctrl-C in mid-run: nothing is left in Batch, in Slurm or on HealthOmics."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest

SNAKEFILE = """
rule all:
    input: "batch.0", "batch.1", "batch.2", "slurm", "omics"
rule on_batch:
    output: "batch.{n}"
    shell: "sleep 600; touch {output}"
rule on_slurm:
    output: "slurm"
    resources: mpi="srun", nodes=2, tasks=2
    shell: "{resources.mpi} -n {resources.tasks} sleep 600; touch {output}"
rule on_omics:
    output: result="omics"
    resources: handoff="wait.wdl"
    shell: "takeda handoff run-local {resources.handoff} --output result {output.result}"
"""
WDL = """version 1.0
workflow wait {
    call nap
    output { File result = nap.result }
}
task nap {
    command <<< sleep 600; touch result >>>
    output { File result = "result" }
    runtime { container: "123456789012.dkr.ecr.us-east-1.amazonaws.com/base:1" }
}
"""


def events(folder, name):
    log = folder / ".snakemake/takeda/events.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    return [event for event in map(json.loads, lines) if event["event"] == name]


def wait_until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


@pytest.mark.sandbox
@pytest.mark.slurm
@pytest.mark.parametrize("interrupts", [1, 3])
def test_nothing_is_left_in_any_service(tmp_path, sandbox_env, slurm_env, interrupts):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "wait.wdl").write_text(WDL)
    boto3.client("s3").create_bucket(Bucket=tmp_path.name.replace("_", "-"))
    bucket = f"s3://{tmp_path.name.replace('_', '-')}"
    command = [
        *(sys.executable, "-m", "snakemake", "--executor", "takeda", "--jobs", "50"),
        *("--takeda-batch-queue", "takeda-sandbox", "--takeda-slurm-partition", "hpc"),
        *("--takeda-omics-role-arn", "arn:aws:iam::123456789012:role/takeda-sandbox-omics"),
        *("--takeda-omics-output-uri", f"{bucket}/omics", "--takeda-poll-seconds", "1"),
        *("--default-storage-provider", "s3", "--default-storage-prefix", f"{bucket}/run"),
        *("--shared-fs-usage", "none"),
    ]
    environment = os.environ | slurm_env | {"PATH": path_with_takeda()}
    with (tmp_path / "log").open("w") as log:
        run = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            wait_until(
                lambda: len(events(tmp_path, "started")) == 5 or run.poll() is not None,
                seconds=90,
                what="not all five jobs have started",
            )
            assert run.poll() is None, (tmp_path / "log").read_text()
            for _ in range(interrupts):
                os.killpg(run.pid, signal.SIGINT)
                time.sleep(0.3)
            run.wait(60)
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
                run.wait()

    assert len(events(tmp_path, "cancelled")) == 5
    said = (tmp_path / "log").read_text()
    assert "takeda: cancelled 3 jobs on batch (batch)" in said
    assert "takeda: cancelled 1 job on slurm (slurm); none is left" in said
    assert "takeda: cancelled 1 job on" in said.replace("on slurm (slurm)", "")
    wait_until(lambda: left_over(slurm_env) == [], 10, "jobs are left 10 seconds after the end")


def left_over(slurm_env):
    batch, omics = boto3.client("batch"), boto3.client("omics")
    found = [
        job["jobId"]
        for status in ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING")
        for job in batch.list_jobs(jobQueue="takeda-sandbox", jobStatus=status)["jobSummaryList"]
    ]
    open_states = {"PENDING", "STARTING", "RUNNING", "STOPPING"}
    found += [run["id"] for run in omics.list_runs()["items"] if run["status"] in open_states]
    squeue = subprocess.run(
        ["squeue", "--noheader", "--me", "--format=%i %T"],
        env=os.environ | slurm_env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert squeue.returncode == 0, squeue.stderr
    return found + squeue.stdout.split("\n")[:-1]


def path_with_takeda():
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
