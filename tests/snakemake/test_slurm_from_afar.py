"""A run whose machine shares nothing with the cluster: slurmrestd on one side, S3 on the other."""

import os
import re
import subprocess
import sys
from pathlib import Path

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
    # As docs/slurm.md has it: a file on the nodes, and where it lies and what is no secret by name.
    keys = there / "aws-credentials"
    keys.write_text(
        f"[default]\naws_access_key_id = {sandbox_env['AWS_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key = {sandbox_env['AWS_SECRET_ACCESS_KEY']}\n"
    )
    keys.chmod(0o600)
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
            python: {sys.executable!r}
            environment:
              AWS_SHARED_CREDENTIALS_FILE: {str(keys)!r}
              AWS_ENDPOINT_URL: {sandbox_env["AWS_ENDPOINT_URL"]}
              AWS_ENDPOINT_URL_S3: {sandbox_env["AWS_ENDPOINT_URL_S3"]}
              AWS_REGION: {sandbox_env["AWS_REGION"]}
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
    assert done.stderr.count("asks mem_mb=100, of which Snakemake itself") == 1
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


def test_nodes_without_credentials_are_told_in_one_line_each_with_their_log(afar):
    project, storage, bucket = afar
    policy = project.path / "routing.yaml"
    text = policy.read_text()
    there = re.search("AWS_SHARED_CREDENTIALS_FILE: '(.*)'", text)[1]
    policy.write_text(text.replace(there, f"{there}.none"))
    # Nothing answers there, rather than a cloud that this machine may be in.
    metadata = "AWS_METADATA_ENDPOINT: http://127.0.0.1:9\n      AWS_EC2_METADATA_DISABLED: 'true'"
    policy.write_text(policy.read_text().replace("AWS_REGION:", f"{metadata}\n      AWS_REGION:"))
    done = run(project, "never", *storage)
    assert done.returncode == 1
    assert f"can they read s3://{bucket}/run/.takeda/" in done.stderr
    (log,) = re.findall(r"whole log: (\S+?):(.*)", done.stderr)
    assert log[0].startswith("node-")
    (line,) = Path(log[1]).read_text().splitlines()
    assert re.match(r"takeda-worker: cannot read s3://\S+/manifests/\S+: no AWS credentials", line)
