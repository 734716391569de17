"""MPI over several nodes through Snakemake: real ranks by a real mpirun, and nothing left of them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import boto3
import pytest

from snakemake_executor_takeda.sandbox import processes

pytestmark = pytest.mark.sandbox

ALLREDUCE = Path(__file__).parent.parent / "slurm" / "allreduce.py"
SNAKEFILE = """
rule sums:
    output: "sums.txt"
    resources: mpi="mpirun", nodes=3, tasks=3, mem_mb=100
    shell:
        "{resources.mpi} -n {resources.tasks} sh -c "
        "'SLURMD_NODENAME=node$AWS_BATCH_JOB_NODE_INDEX exec python scripts/allreduce.py' > {output}"

rule fails:
    output: "never"
    resources: mpi="mpirun", nodes=3, tasks=3, mem_mb=100
    shell:
        "{resources.mpi} -n {resources.tasks} sh -c "
        "'test $OMPI_COMM_WORLD_RANK = 2 && echo rank 2 gives up >&2 && exit 7; exec sleep 600'"

rule long:
    output: "long"
    resources: mpi="mpirun", nodes=3, tasks=3, mem_mb=100
    shell: "{resources.mpi} -n {resources.tasks} sleep 600; touch {output}"
"""
POLICY = """version: 1
targets:
  hpc: {{backend: batch, queue: takeda-sandbox, capacity: on-demand, python: "{python}"}}
default: hpc
"""


@pytest.fixture(autouse=True)
def _mpirun():
    if shutil.which("mpirun") is None:
        pytest.skip("there is no mpirun on this machine: apt-get install openmpi-bin")


@pytest.fixture
def command(tmp_path, sandbox_env):
    bucket = f"nodes-{uuid.uuid4().hex[:12]}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "routing.yaml").write_text(POLICY.format(python=sys.executable))
    (tmp_path / "scripts").mkdir()
    shutil.copy(ALLREDUCE, tmp_path / "scripts")
    for words in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    return [
        *(sys.executable, "-m", "snakemake", "--executor", "takeda", "--jobs", "5"),
        *("--takeda-routing", "routing.yaml", "--takeda-poll-seconds", "0.5"),
        *("--default-storage-provider", "s3", "--shared-fs-usage", "none"),
        *("--default-storage-prefix", f"s3://{bucket}/run", "--takeda-interruptions", "0"),
    ]


def start(command, rule, folder):
    log = (folder / "out").open("w")
    return subprocess.Popen(
        [*command, rule], cwd=folder, env=dict(os.environ), stdout=log, stderr=subprocess.STDOUT
    )


def run(command, rule, folder):
    process = start(command, rule, folder)
    return process.wait(timeout=180), (folder / "out").read_text()


def events(folder, name):
    lines = (folder / ".snakemake/takeda/events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == name]


def of_nodes(index=None):
    more = {} if index is None else {"AWS_BATCH_JOB_NODE_INDEX": str(index)}
    return processes.marked(AWS_BATCH_JOB_NUM_NODES="3", **more)


def wait_for(condition, what):
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def ranks_run():
    def has(index):
        words = (Path(f"/proc/{pid}/cmdline") for pid in of_nodes(index))
        return any(w.exists() and w.read_bytes() == b"sleep\x00600\x00" for w in words)

    return all(has(index) for index in range(3))


def nothing_left():
    wait_for(lambda: not of_nodes(), "processes of the job's nodes are left")


def test_ranks_on_three_nodes_add_up(command, tmp_path):
    code, said = run(command, "sums", tmp_path)
    assert code == 0, said
    bucket, prefix = command[command.index("--default-storage-prefix") + 1][5:].split("/", 1)
    body = boto3.client("s3").get_object(Bucket=bucket, Key=f"{prefix}/sums.txt")["Body"]
    lines = body.read().decode().splitlines()
    assert sorted(lines) == [f"rank {n} of 3 on node{n}: sum 6, 1 threads" for n in range(3)]
    nothing_left()


def test_a_rank_that_fails_is_the_jobs_failure(command, tmp_path):
    code, said = run(command, "fails", tmp_path)
    assert code == 1
    assert "rank 2 gives up" in said
    (failed,) = events(tmp_path, "failed")
    assert failed["detail"]["kind"] == "user"
    nothing_left()


def test_a_node_that_dies_ends_the_job_with_its_name(command, tmp_path):
    process = start(command, "long", tmp_path)
    wait_for(ranks_run, "the ranks do not run")
    leader = min(of_nodes(2), key=lambda pid: processes.start_ticks(pid) or 0)
    os.killpg(leader, signal.SIGKILL)
    assert process.wait(timeout=120) == 1
    said = (tmp_path / "out").read_text()
    assert "node 2 went away" in said
    assert "a node of the job went away" in said
    assert events(tmp_path, "failed")[-1]["detail"]["kind"] == "node_failure"
    nothing_left()


def test_ctrl_c_leaves_nothing_on_any_node(command, tmp_path):
    process = start(command, "long", tmp_path)
    wait_for(ranks_run, "the ranks do not run")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) != 0
    nothing_left()
