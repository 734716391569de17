"""A real controller is asked whether it would take what fitting takes, and refuse what it refuses.

`sbatch --test-only` decides and submits nothing. The controller's nodes are a cloud's: none is started.
"""

import os
import random
import re
import socket
import subprocess
import time
from pathlib import Path

import pytest

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.slurm.arguments import sbatch_words
from snakemake_executor_takeda.backends.slurm.clients.command_line import CommandLine
from snakemake_executor_takeda.backends.slurm.cluster import cluster_of
from snakemake_executor_takeda.backends.slurm.fitting import Wish, fit
from snakemake_executor_takeda.backends.slurm.request import JobRequest

pytestmark = pytest.mark.slurm
CONF = Path(__file__).parent / "data" / "cloud.conf"
PATIENCE_SECONDS = 60
PARTITIONS = ("cpu", "short", "spot", "efa", "gpu", "capped", "percpu", "pairs", "stopped")
RANDOM_REQUESTS = 150


@pytest.fixture(scope="module")
def controller(slurm_env, tmp_path_factory):
    """A slurmctld of its own, with the munge of the session's cluster."""
    home = tmp_path_factory.mktemp("cloud")
    (home / "state").mkdir()
    theirs = Path(slurm_env["SLURM_CONF"]).read_text()

    def word(name):
        found = re.search(rf"^{name}=(.*)$", theirs, re.MULTILINE)
        return found[1] if found else ""

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    conf = home / "slurm.conf"
    communication = word("CommunicationParameters")
    conf.write_text(
        CONF.read_text().format(
            host=word("SlurmctldHost").partition("(")[0],
            port=port,
            user=word("SlurmUser"),
            auth=word("AuthInfo"),
            communication=f"CommunicationParameters={communication}" if communication else "",
            home=home,
        )
    )
    (home / "gres.conf").write_text(
        "NodeName=gpu-dy-g5-[1-4] Name=gpu Type=a10g Count=4\n"
        "NodeName=gpu-st-t4-[1-2] Name=gpu Type=t4 Count=1\n"
    )
    theirs_cgroup = Path(slurm_env["SLURM_CONF"]).with_name("cgroup.conf")
    (home / "cgroup.conf").write_text(theirs_cgroup.read_text())
    environment = {**os.environ, **slurm_env, "SLURM_CONF": str(conf)}
    with (home / "out").open("w") as out:
        process = subprocess.Popen(
            ["slurmctld", "-D", "-c", "-f", str(conf)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while subprocess.run(
            ["scontrol", "ping"], check=False, env=environment, capture_output=True
        ).returncode:
            assert process.poll() is None, (home / "out").read_text()
            assert time.monotonic() < deadline, (home / "out").read_text()
        yield environment
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(autouse=True)
def _controller_in_the_environment(controller, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", controller["SLURM_CONF"])
    monkeypatch.setenv("PATH", controller["PATH"])


@pytest.fixture(scope="module")
def cluster(controller):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", controller["SLURM_CONF"])
        client = CommandLine()
        return cluster_of(client.nodes(), client.partition_details(), client.settings())


def request(nodes=1, **words):
    return JobRequest("takeda-align-1", "/tmp", "/dev/null", nodes=nodes, **words)


def sbatch_takes(asked):
    """Whether Slurm would run it, and its words."""
    words = [word for word in sbatch_words(asked) if word != "--parsable"]
    done = subprocess.run(
        ["sbatch", "--test-only", *words],
        input="#!/bin/sh\ntrue\n",
        capture_output=True,
        check=False,
        text=True,
    )
    return done.returncode == 0, done.stderr


def fitting_takes(asked, cluster):
    try:
        return True, fit(asked, Wish("align"), cluster)
    except SubmissionError as error:
        return False, error.reason


def agree(asked, cluster):
    ours, why = fitting_takes(asked, cluster)
    theirs, words = sbatch_takes(why.request if ours else asked)
    assert ours == theirs, f"{asked}\nfitting: {why}\nsbatch: {words}"
    return ours


def test_the_cluster_is_read(cluster):
    assert len(cluster.groups) == 7
    assert cluster.default_partition.name == "cpu"
    assert cluster.array_limit == 500
    assert cluster.is_parallelcluster
    assert cluster.gpu_models == {"a10g", "t4"}
    assert not any(map(cluster.hides_nodes, cluster.partitions.values()))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"partition": "cpu", "constraint": "(c7i.xlarge|r7i.16xlarge)&dynamic"}, True),
        ({"partition": "cpu", "constraint": "small&big"}, False),
        ({"partition": "cpu", "constraint": "nope"}, False),
        ({"partition": "cpu", "mem_mb": 498_074}, True),
        ({"partition": "cpu", "mem_mb": 498_075}, False),
        ({"partition": "gpu", "gpus": 4, "gpu_model": "a10g"}, True),
        ({"partition": "gpu", "gpus": 1, "gpu_model": "A10G"}, True),
        ({"partition": "gpu", "gpus": 2, "gpu_model": "t4"}, False),
        ({"partition": "gpu", "nodes": None, "ntasks": 2, "gpus": 2, "gpu_model": "t4"}, True),
        ({"partition": "cpu", "gres": "gpu:1"}, False),
        ({"partition": "efa", "nodes": 4, "ntasks": 384}, True),
        ({"partition": "efa", "nodes": 4, "ntasks": 385}, False),
        ({"partition": "efa", "nodes": None, "ntasks": 385}, False),
        ({"partition": "short", "runtime_min": 30}, True),
        ({"partition": "short", "runtime_min": 31}, False),
        ({"partition": "short", "nodes": 9, "ntasks": 9}, False),
        ({"partition": "short", "nodes": 2, "ntasks": 8, "tasks_per_node": 5}, False),
        ({"partition": "short", "mem_mb_per_cpu": 2000, "cpus_per_task": 4}, False),
        ({"partition": "short", "mem_mb_per_cpu": 1900, "cpus_per_task": 4}, True),
        ({"partition": "capped", "mem_mb": 100_001}, False),
        ({"partition": "capped", "cpus_per_task": 33}, False),
        ({"partition": "percpu", "mem_mb": 256_001}, True),
        ({"partition": "percpu", "mem_mb_per_cpu": 4001, "cpus_per_task": 33}, True),
        ({"partition": "percpu", "mem_mb_per_cpu": 4001, "cpus_per_task": 32}, True),
        ({"partition": "pairs"}, False),
        ({"partition": "pairs", "nodes": 2, "ntasks": 2}, True),
        ({"partition": "stopped"}, False),
        ({"partition": "short,spot", "cpus_per_task": 16, "runtime_min": 60}, True),
    ],
)
def test_both_say(cluster, words, expected):
    assert agree(request(**words), cluster) is expected


def anything(chance):
    """Some request, often near a limit."""
    words = {"partition": chance.choice(PARTITIONS)}
    many = chance.random() < 0.4
    if many:
        nodes = chance.choice([None, 2, 4, 5, 9])
        words["ntasks"] = max(nodes or 1, chance.choice([2, 8, 16, 64, 128, 400]))
        words["nodes"] = nodes
    words["cpus_per_task"] = chance.choice([1, 1, 2, 4, 5, 16, 17, 33, 64, 65, 96])
    memory = chance.random()
    if memory < 0.5:
        words["mem_mb"] = chance.choice([1000, 7782, 7783, 62_259, 100_001, 256_001, 400_000])
    elif memory < 0.7:
        words["mem_mb_per_cpu"] = chance.choice([500, 1945, 1946, 3891, 4000, 4001, 9000])
    if chance.random() < 0.4:
        words["runtime_min"] = chance.choice([10, 30, 31, 1440, 1441, 2880, 2881])
    if chance.random() < 0.25:
        words["gpus"] = words.get("nodes") or chance.choice([1, 2, 4, 5])
        words["gpu_model"] = chance.choice([None, "t4", "a10g"])
    if chance.random() < 0.3:
        words["constraint"] = chance.choice(["small", "dynamic", "static|big", "dynamic&hpc", "t4"])
    return request(**words)


def test_both_agree_on_anything(cluster):
    chance = random.Random(22)
    verdicts = [agree(anything(chance), cluster) for _ in range(RANDOM_REQUESTS)]
    assert 20 < sum(verdicts) < RANDOM_REQUESTS - 20, "the requests try too little"
