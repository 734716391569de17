"""A Slurm run with S3: what is staged is shared by all ranks, and no scratch is left."""

import os
import subprocess
import sys
import uuid

import boto3
import pytest

from snakemake_executor_takeda.sandbox.slurm_processes import wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.sandbox]

SNAKEFILE = """
rule ranks:
    input: "data"
    output: "ranks"
    resources: mpi=True, nodes=2, tasks=4, tasks_per_node=2, mem_mb=100
    shell: "{resources.mpi} sh -c 'echo $(cat {input}) on $SLURMD_NODENAME in $PWD' > {output}"

rule killed:
    input: "data"
    output: "killed"
    resources: mpi=True, nodes=2, tasks=2, mem_mb=100
    shell: "{resources.mpi} sh -c 'test -s {input}; sleep 600'; touch {output}"
"""


@pytest.fixture
def command(tmp_path, sandbox_env):
    bucket = f"staging-{uuid.uuid4().hex[:12]}"
    client = boto3.client("s3")
    client.create_bucket(Bucket=bucket)
    client.put_object(Bucket=bucket, Key="run/data", Body=b"staged")
    policy = f"""version: 1
targets: {{hpc: {{backend: slurm, partition: hpc, scratch: "{tmp_path}/shared scratch"}}}}
default: hpc
"""
    (tmp_path / "routing.yaml").write_text(policy)
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    return [
        *(sys.executable, "-m", "snakemake", "--executor", "takeda", "--jobs", "5"),
        *("--takeda-routing", "routing.yaml", "--takeda-poll-seconds", "0.5"),
        *("--default-storage-provider", "s3", "--shared-fs-usage", "none"),
        *("--default-storage-prefix", f"s3://{bucket}/run", "--retries", "0"),
    ]


def start(command, folder, environment, rule):
    return subprocess.Popen(
        [*command, rule],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=(folder / "out").open("w"),
        stderr=subprocess.STDOUT,
    )


def test_ranks_share_what_is_staged(command, tmp_path, slurm_env):
    code = start(command, tmp_path, slurm_env, "ranks").wait(timeout=120)
    assert code == 0, (tmp_path / "out").read_text()
    bucket = command[command.index("--default-storage-prefix") + 1].split("/")[2]
    body = boto3.client("s3").get_object(Bucket=bucket, Key="run/ranks")["Body"].read().decode()
    lines = [line.split(" in ") for line in body.splitlines()]
    assert len(lines) == 4
    assert len({said for said, _ in lines}) == 2, "ranks of two nodes"
    assert all(said.startswith("staged on node-") for said, _ in lines)
    (directory,) = {where for _, where in lines}
    assert directory.startswith(f"{tmp_path}/shared scratch/")
    assert list((tmp_path / "shared scratch").iterdir()) == []


def test_a_job_that_is_killed_leaves_nothing_in_scratch(command, tmp_path, slurm_env):
    process = start(command, tmp_path, slurm_env, "killed")
    scratch = tmp_path / "shared scratch"
    try:
        staged = "*/.snakemake/storage/s3/*/run/data"
        assert wait_until(lambda: list(scratch.glob(staged)), 60), (tmp_path / "out").read_text()
        kill = ["scancel", "--me", "--signal=KILL", "--full"]
        subprocess.run(kill, env={**os.environ, **slurm_env}, check=True)
        assert process.wait(timeout=120) == 1
    finally:
        process.kill()
    assert list(scratch.iterdir()) == []
