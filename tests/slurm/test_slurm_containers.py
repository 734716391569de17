"""The multi-node cluster of containers/slurm on a Docker engine: names, MPI, accounting, REST, a killed node."""

import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

pytestmark = [pytest.mark.docker, pytest.mark.slurm]
FOLDER = Path(__file__).parents[2] / "containers" / "slurm"
NODES = {"hpc-st-hpc7a-1", "hpc-dy-hpc7a-1", "spot-dy-c7i-1", "spot-dy-c7i-2"}


def said(*words, **more):
    done = subprocess.run(words, capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def awaited(look, what, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.3)
    raise AssertionError(f"waited in vain: {what}")


def compose_command():
    """`docker compose`, or the older program of its own; None where there is neither."""
    plugin = subprocess.run(["docker", "compose", "version"], check=False, capture_output=True)
    if plugin.returncode == 0:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


class Cluster:
    def __init__(self, compose, environment, shared):
        self._compose = [
            *compose,
            "-p",
            f"takeda-test-{os.getpid()}",
            "-f",
            str(FOLDER / "compose.yaml"),
        ]
        self._environment = environment
        self.shared = shared

    def compose(self, *words):
        return said(*self._compose, *words, env=self._environment)

    def run(self, *words):
        """A command on the controller; it prints what is returned."""
        return self.compose("exec", "-T", "controller", *words)

    def states(self):
        words = [*self._compose, "exec", "-T", "controller", "sinfo", "-h", "-N", "-o", "%N %T"]
        done = subprocess.run(
            words, env=self._environment, check=False, capture_output=True, text=True
        )
        return dict(line.split() for line in done.stdout.splitlines())

    def idle(self):
        states = self.states()
        return states.keys() == NODES and set(states.values()) == {"idle"}

    def job(self, job_id):
        words = (
            word.partition("=")
            for word in self.run("scontrol", "-o", "show", "job", job_id).split()
        )
        return {name: value for name, _, value in words}


@pytest.fixture(scope="module")
def cluster():
    if not shutil.which("docker"):
        pytest.skip("no Docker here: there is no command docker")
    engine = subprocess.run(["docker", "version"], check=False, capture_output=True, text=True)
    if engine.returncode:
        pytest.skip(f"no Docker engine answers here: {engine.stderr.strip()}")
    if (compose := compose_command()) is None:
        pytest.skip("Docker here has neither `docker compose` nor docker-compose")
    shared = Path(tempfile.mkdtemp(prefix="takeda-slurm-shared-"))
    image = said(FOLDER / "build").strip().splitlines()[-1]
    made = Cluster(
        compose, {**os.environ, "SLURM_IMAGE": image, "SLURM_SHARED": str(shared)}, shared
    )
    try:
        made.compose("up", "-d")
        awaited(made.idle, "all nodes")
        yield made
    finally:
        made.compose("down", "-v", "-t", "1")
        shutil.rmtree(shared)


def test_nodes_are_named_as_parallelclusters_are(cluster):
    features = cluster.run("sinfo", "-h", "-N", "-p", "all", "-o", "%N %f").splitlines()
    assert dict(line.split() for line in features) == {
        "hpc-st-hpc7a-1": "static,hpc7a.96xlarge,hpc7a,efa",
        "hpc-dy-hpc7a-1": "dynamic,hpc7a.96xlarge,hpc7a,efa",
        "spot-dy-c7i-1": "dynamic,c7i.2xlarge,c7i",
        "spot-dy-c7i-2": "dynamic,c7i.2xlarge,c7i",
    }
    assert "slurm-wlm 24.11" in cluster.run("sinfo", "--version")


@pytest.mark.parametrize("launcher", ["srun --mpi=pmix", "mpirun"])
def test_mpi_over_four_hosts(cluster, launcher):
    shutil.copy(Path(__file__).with_name("allreduce.py"), cluster.shared)
    script = cluster.shared / "job.sh"
    script.write_text(f"#!/bin/sh\n{launcher} python3 /shared/allreduce.py\n")
    cluster.run(
        *("sbatch", "--wait", "--partition=all", "--nodes=4", "--ntasks-per-node=2"),
        *("--output=/shared/mpi.out", "/shared/job.sh"),
    )
    lines = (cluster.shared / "mpi.out").read_text().splitlines()
    assert sorted(line.split(",")[0].split(" on ")[0] for line in lines) == [
        f"rank {rank} of 8" for rank in range(8)
    ]
    assert all("sum 36" in line for line in lines)
    assert {line.split(" on ")[1].split(":")[0] for line in lines} == NODES


def test_accounting_knows_what_a_job_used(cluster):
    job_id = cluster.run(
        *("sbatch", "--parsable", "--wait", "--account=lab", "--qos=high", "--output=/dev/null"),
        "--wrap=python3 -c 'x = bytearray(10**8); import time; time.sleep(5)'",
    ).strip()

    def accounted():
        words = ("-n", "-P", "-j", job_id, "-o", "JobID,Account,State,NodeList,MaxRSS")
        rows = [line.split("|") for line in cluster.run("sacct", *words).splitlines()]
        return rows if len(rows) == 2 and {row[2] for row in rows} == {"COMPLETED"} else None

    whole, batch = awaited(accounted, "the job in accounting")
    assert (whole[1], whole[3] in NODES) == ("lab", True)
    assert int(batch[4].removesuffix("K")) > 90_000


def test_slurmrestd_takes_a_token_and_nothing_else(cluster):
    port = cluster.compose("port", "controller", "8080").strip().rpartition(":")[2]
    token = cluster.run("scontrol", "token").strip().removeprefix("SLURM_JWT=")
    request = urllib.request.Request(f"http://127.0.0.1:{port}/slurm/v0.0.42/nodes/")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=20)
    assert refused.value.code in (401, 511)
    request.add_header("X-SLURM-USER-TOKEN", token)
    with urllib.request.urlopen(request, timeout=20) as answer:
        nodes = json.load(answer)["nodes"]
    assert {node["name"] for node in nodes} == NODES
    assert next(n for n in nodes if n["name"] == "spot-dy-c7i-1")["features"] == [
        "dynamic",
        "c7i.2xlarge",
        "c7i",
    ]


def test_a_killed_node_ends_its_job_and_comes_back(cluster):
    awaited(cluster.idle, "idle nodes")
    job_id = cluster.run(
        *("sbatch", "--parsable", "--no-requeue", "--nodelist=spot-dy-c7i-2", "--partition=spot"),
        *("--output=/dev/null", "--wrap=sleep 600"),
    ).strip()
    awaited(lambda: cluster.job(job_id)["JobState"] == "RUNNING", "the start")
    cluster.compose("kill", "spot-dy-c7i-2")
    awaited(lambda: cluster.job(job_id)["JobState"] == "NODE_FAIL", "the loss", 240)
    assert cluster.states()["spot-dy-c7i-2"].startswith("down")
    cluster.compose("up", "-d")
    awaited(cluster.idle, "the node's return", 240)
