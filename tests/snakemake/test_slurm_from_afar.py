"""A run whose machine shares nothing with the cluster: slurmrestd on one side, S3 on the other."""

import os
import shlex
import subprocess
import sys

import boto3
import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.sandbox]

SNAKEFILE = """
rule all:
    input: "sum"

rule part:
    output: "part.{n}"
    resources: mem_mb=100
    shell: "echo {wildcards.n} > {output}; pwd; echo $HOME"

rule sum:
    input: expand("part.{n}", n=range(1, 4))
    output: "sum"
    threads: 2
    shell: "cat {input} | paste -sd+ | bc > {output} || cat {input} > {output}"

rule bad:
    output: "never"
    shell: "echo the genome is not there >&2; exit 3"
"""


@pytest.fixture
def afar(project, slurmrestd, sandbox_env, tmp_path):
    """A project, its policy, and the words that make S3 its storage."""
    there = tmp_path / "on the cluster"
    there.mkdir()
    # Nodes have a role of their own in a cloud; here their Python brings the variables.
    python = there / "python"
    variables = "".join(
        f"export {name}={shlex.quote(value)}\n" for name, value in sandbox_env.items()
    )
    python.write_text(f'#!/bin/sh\n{variables}exec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o700)
    token = tmp_path / "token"
    token.write_text(f"SLURM_JWT={slurmrestd.token}\n")
    bucket = f"afar-{os.urandom(4).hex()}"
    boto3.client("s3").create_bucket(
        Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    home = tmp_path / "laptop"
    home.mkdir()
    project.path = home
    project.write("Snakefile", SNAKEFILE)
    project.write(
        "routing.yaml",
        f"""
        version: 1
        targets:
          hpc:
            backend: slurm
            partition: hpc
            rest_url: {slurmrestd.url}
            jwt_file: {token}
            python: {str(python)!r}
            workdir: {str(there)!r}
            scratch: {str(there / "scratch")!r}
        default: hpc
        """,
    )
    storage = [
        *("--default-storage-provider", "s3", "--default-storage-prefix", f"s3://{bucket}/run"),
        *("--shared-fs-usage", "none"),
    ]
    return project, storage, bucket


def run(project, *words):
    return subprocess.run(
        project.command(*words),
        cwd=project.path,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )


def objects(bucket):
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return [one["Key"] for page in pages for one in page.get("Contents", ())]


def test_a_run_through_slurmrestd_and_s3(afar, slurmrestd, tmp_path):
    project, storage, bucket = afar
    done = run(project, "all", *storage)
    assert done.returncode == 0, done.stderr
    assert "takeda: Slurm is spoken to through slurmrestd: the targets name http://" in done.stderr
    keys = objects(bucket)
    assert "run/sum" in keys
    assert len([key for key in keys if "/exits/" in key]) == 4
    succeeded = project.events("succeeded")
    assert len(succeeded) == 4
    assert all(event["detail"]["log"].startswith("node-") for event in succeeded)
    # one array of three, and one job
    assert len({event["detail"]["submission"] for event in project.events("submitted")}) == 2
    # The laptop's side holds nothing that a job would need, and nobody wrote the token down.
    state = next((project.path / ".snakemake/takeda/runs").iterdir())
    assert not [name for name in ("exits", "manifests", "logs") if (state / name).exists()]
    told = done.stderr + (project.path / ".snakemake/takeda/events.jsonl").read_text()
    ledger = (project.path / ".snakemake/takeda/ledger.sqlite").read_bytes()
    assert slurmrestd.token not in told
    assert slurmrestd.token.encode() not in ledger


def test_a_failure_tells_the_end_of_its_log(afar):
    project, storage, _ = afar
    done = run(project, "never", *storage)
    assert done.returncode == 1
    assert "the genome is not there" in done.stderr
    assert "takeda-" in done.stderr and "node-" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_token_that_is_over_stops_the_run_at_its_start(afar, tmp_path):
    project, storage, _ = afar
    (tmp_path / "token").write_text("nonsense")
    done = run(project, "all", *storage)
    assert done.returncode == 1
    assert "scontrol token" in done.stderr and "nonsense" not in done.stderr
    assert "Traceback" not in done.stderr
