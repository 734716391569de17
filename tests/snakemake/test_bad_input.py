"""Mistakes against real services: one message that says what to do, exit status 1, nothing left."""

import os
import subprocess
import sys
import uuid

import boto3
import pytest

from snakemake_executor_takeda.cli import main

SNAKEFILE = """
rule plain:
    output: "a"
    shell: "touch {output}"
rule forgetful:
    output: "b"
    shell: "true"
rule ranks:
    output: "c"
    resources: mpi="srun", tasks=2
    shell: "touch {output}"
rule handed:
    input: reads="in.txt"
    output: result="d"
    resources: handoff=config.get("wdl", "")
    shell: "takeda handoff run-local {resources.handoff} --input reads {input.reads}"
rule prepare:
    output: "in.txt"
    shell: "touch {output}"
"""
BROKEN_WDL = "version 1.0\nworkflow w {\n input { File reads\n call t\n}\n"
OTHER_WDL = """version 1.0
workflow w {
    input { File reeds }
    call t { input: x = reeds }
    output { File result = t.result }
}
task t {
    input { File x }
    command <<< cp ~{x} result >>>
    output { File result = "result" }
    runtime { container: "a:1" }
}
"""
BATCH = ("--takeda-batch-queue", "takeda-sandbox")
ROLE = "arn:aws:iam::123456789012:role/takeda-sandbox-omics"


@pytest.fixture
def snakemake(tmp_path, sandbox_env):
    """Runs Snakemake with S3 as its storage; gives exit status and what it said."""
    bucket = f"test-{uuid.uuid4().hex}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    storage = [
        *("--default-storage-provider", "s3", "--shared-fs-usage", "none"),
        *("--default-storage-prefix", f"s3://{bucket}/run"),
    ]

    def run(*arguments, storage=storage, **environment):
        result = subprocess.run(
            [
                sys.executable,
                "-m",
                "snakemake",
                "--executor",
                "takeda",
                "--jobs",
                "9",
                *storage,
                "--takeda-poll-seconds",
                "0.5",
                *arguments,
            ],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert "Traceback" not in result.stderr
        return result.returncode, result.stderr

    run.bucket = bucket
    return run


def said(outcome, *words):
    status, text = outcome
    assert status == 1, text
    message = text[text.index("takeda: ") :]
    for word in words:
        assert word in message
    return message


def jobs_in_batch():
    batch = boto3.client("batch")
    states = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED")
    pages = [batch.list_jobs(jobQueue="takeda-sandbox", jobStatus=state) for state in states]
    return {job["jobId"] for page in pages for job in page["jobSummaryList"]}


pytestmark = pytest.mark.sandbox


def test_a_queue_that_does_not_exist(snakemake):
    outcome = snakemake("--takeda-batch-queue", "takeda-sandbx", "a")
    said(outcome, "'takeda-sandbx' does not exist", "'takeda-sandbox'", "--takeda-batch-queue")


def test_batch_without_s3(snakemake):
    said(snakemake(*BATCH, "a", storage=[]), "--default-storage-provider s3")


def test_a_bucket_that_does_not_exist(snakemake):
    storage = [
        *("--default-storage-provider", "s3", "--shared-fs-usage", "none"),
        *("--default-storage-prefix", "s3://no-such-bucket/run"),
    ]
    outcome = snakemake(*BATCH, "a", storage=storage)
    said(outcome, "s3://no-such-bucket/run", "does not exist", "default-storage-prefix")


def test_a_service_that_does_not_answer(snakemake):
    outcome = snakemake(*BATCH, "a", AWS_ENDPOINT_URL_BATCH="http://127.0.0.1:1")
    said(outcome, "does not answer", "http://127.0.0.1:1")


def test_mpi_without_a_slurm_target(snakemake):
    said(snakemake(*BATCH, "c"), "rule ranks", "srun is Slurm's", "mpirun")


def test_a_slurm_that_is_not_there(snakemake, tmp_path):
    conf = str(tmp_path / "slurm.conf")
    outcome = snakemake(*BATCH, "--takeda-slurm-partition", "hpc", "c", SLURM_CONF=conf)
    said(outcome, conf, "takeda sandbox slurm up")


@pytest.mark.slurm
def test_a_partition_that_does_not_exist(snakemake, slurm_env):
    outcome = snakemake(*BATCH, "--takeda-slurm-partition", "hpcc", "c", **slurm_env)
    said(outcome, "no partition 'hpcc'", "Did you mean 'hpc'?")


@pytest.mark.parametrize(
    ("wdl", "words"),
    [
        (BROKEN_WDL, ["rule handed", "main.wdl is not valid WDL", "main.wdl:4"]),
        (OTHER_WDL, ["Snakefile:12", "no input for the input `reads`", "`reeds`"]),
        (None, ["Snakefile:12", "main.wdl' does not exist"]),
    ],
    ids=["does not parse", "lacks an input", "not there"],
)
def test_a_wdl_that_does_not_fit_is_found_before_anything_runs(snakemake, tmp_path, wdl, words):
    if wdl:
        (tmp_path / "main.wdl").write_text(wdl)
    before = jobs_in_batch()
    outcome = snakemake(
        *(*BATCH, "--takeda-omics-role-arn", ROLE),
        *("--takeda-omics-output-uri", f"s3://{snakemake.bucket}/omics"),
        *("d", "--config", "wdl=main.wdl"),
    )
    said(outcome, *words)
    assert jobs_in_batch() == before


def test_an_output_that_is_not_written_fails_its_job(snakemake):
    said(snakemake(*BATCH, "b", "--latency-wait", "1"), "user on batch", "last lines of its log")


def test_an_occupied_port(sandbox_dir, tmp_path, capsys):
    from snakemake_executor_takeda.sandbox import control

    port = str(control.status(sandbox_dir)["services_port"])
    folder = str(tmp_path / "other")
    assert main(["sandbox", "up", "--dir", folder, "--port", port, "--s3-port", "0"]) == 1
    message = capsys.readouterr().err
    assert port in message and "--port" in message
    assert main(["sandbox", "status", "--dir", folder]) == 0
    assert "No sandbox runs" in capsys.readouterr().out
