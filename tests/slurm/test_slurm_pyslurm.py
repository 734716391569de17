"""The pyslurm client against a stand-in with pyslurm's own names: it was never run against a real one."""

import os
from dataclasses import replace

import pytest
from fake_pyslurm import Controller, job

from snakemake_executor_takeda.backends.slurm.clients.base import (
    SlurmFull,
    SlurmRefused,
    SlurmSilent,
)
from snakemake_executor_takeda.backends.slurm.clients.pyslurm import PySlurm, job_attributes
from snakemake_executor_takeda.backends.slurm.facts import NodeFacts, PartitionFacts
from snakemake_executor_takeda.backends.slurm.request import JobRequest

REQUEST = JobRequest("takeda-x-1", "/data", "/data/0.log", environment={"PATH": "/bin"})
ME = os.getuid()


@pytest.fixture
def controller():
    return Controller()


@pytest.fixture
def client(controller):
    return PySlurm(controller.module())


def test_submit(client, controller, monkeypatch):
    monkeypatch.setenv("SLURM_JWT", "secret")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "9")
    request = replace(
        REQUEST,
        **{"array_size": 9, "array_throttle": 3, "partition": "gpu", "exclude": ("n1", "n2")},
        **{"gpus": 2, "gpu_model": "a10g", "mem_mb": 500, "runtime_min": 9, "nodes": 1},
        extra=("--comment=a b", "--nice"),
    )
    assert client.submit(request, "#!/bin/sh\n") == "42"
    (sent,) = controller.submitted
    assert sent["script"] == "#!/bin/sh\n"
    assert (sent["array"], sent["partitions"], sent["nodes"]) == ("0-8%3", "gpu", "1")
    assert (sent["gpus"], sent["memory_per_node"], sent["time_limit"]) == ("a10g:2", "500M", "9")
    assert (sent["comment"], sent["nice"], sent["is_requeueable"]) == ("a b", 100, False)
    # pyslurm would add every SLURM_* of this process: none of them comes through
    assert sent["environment"]["SLURM_JWT"] == sent["environment"]["SLURM_ARRAY_TASK_ID"] == ""
    assert sent["environment"]["SLURM_CPUS_PER_TASK"] == "1"


def test_without_nodes_their_number_is_slurms():
    assert job_attributes(replace(REQUEST, ntasks=64))["nodes"] == "1-100000"


def test_what_pyslurm_has_no_word_for_is_refused(client):
    with pytest.raises(ValueError, match="'--begin=now' can't be said through pyslurm"):
        client.check_request(replace(REQUEST, extra=("--begin=now",)))
    with pytest.raises(ValueError, match="-H"):
        client.check_request(replace(REQUEST, extra=("-H",)))


def test_queue(client, controller):
    rows = [
        job(7, "PENDING", ME, array_id=7, array_tasks_waiting="2-3,9", state_reason="Resources"),
        job(8, "RUNNING", ME, array_id=7, array_task_id=0, allocated_nodes="n1"),
        job(9, "FAILED", ME, array_id=7, array_task_id=1, exit_code=0, exit_code_signal=9),
        job(12, "COMPLETED", ME, exit_code=0),
        job(13, "RUNNING", ME + 1),
    ]
    controller.jobs = {row.id: row for row in rows}
    seen = client.queue(["7", "12", "13"])
    assert {name: one.state for name, one in seen.items()} == {
        **dict.fromkeys(("7_2", "7_3", "7_9"), "PENDING"),
        **{"7_0": "RUNNING", "7_1": "FAILED", "12": "COMPLETED"},
    }
    assert (seen["7_2"].reason, seen["7_0"].nodes, seen["7_1"].exit_code) == (
        "Resources",
        "n1",
        137,
    )
    assert {one.external_id for one in client.unfinished(["7"])} == {"7_2", "7_3", "7_9", "7_0"}
    assert client.jobs("12").keys() == {"12"}
    assert client.jobs("99") == {}


def test_find(client, controller):
    controller.jobs = {8: job(8, user_id=ME, name="a", array_id=7, array_task_id=0)}
    assert (client.find("a"), client.find("b")) == ("7", None)


def test_cancel(client, controller):
    rows = [job(1, "PENDING", ME), job(2, "RUNNING", ME)]
    controller.jobs = {row.id: row for row in rows}
    client.cancel(["1", "2"], pending_only=True)
    client.cancel(["2"], kill=True)
    assert controller.signalled == [(1, 9, "children"), (2, "SIGKILL", "all")]
    controller.error = "Invalid job id specified"
    client.cancel(["1"])


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("Unable to contact slurm controller (connect failure)", SlurmSilent),
        ("Unable to create job record, try again", SlurmFull),
        ("Invalid partition name specified", SlurmRefused),
    ],
)
def test_errors(client, controller, words, error):
    controller.error = words
    with pytest.raises(error):
        client.submit(REQUEST, "")


def test_the_cluster(client):
    assert client.settings() == {
        **{"MaxArraySize": "501", "MaxJobCount": "10000", "SLURM_VERSION": "25.11.6"},
        "SchedulerParameters": "max_array_tasks=100,defer=True",
    }
    assert client.nodes() == [
        NodeFacts(
            "gpu-dy-g5-1",
            ("IDLE", "CLOUD", "POWERED_DOWN"),
            4,
            15000,
            ("dynamic", "gpu"),
            ("gpu:a10g:1",),
            ("gpu",),
        )
    ]
    assert client.partition_details() == [
        PartitionFacts(
            "gpu",
            is_default=True,
            nodes="gpu-dy-g5-[1-4]",
            total_nodes=4,
            total_cpus=16,
            max_nodes=2,
            default_mem_per_cpu_mib=2000,
            allow_qos=("high",),
        )
    ]
    assert client.partitions() == ["gpu"]
