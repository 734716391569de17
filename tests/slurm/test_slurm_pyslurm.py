"""The pyslurm client against a stand-in with pyslurm's own names and ways: test_slurm_clients.py has a real one."""

import os
import re
import subprocess
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


def test_submit(client, controller):
    request = replace(
        REQUEST,
        **{"array_size": 9, "array_throttle": 3, "partition": "gpu", "exclude": ("n1", "n2")},
        **{"gpus": 2, "gpu_model": "a10g", "mem_mb": 500, "runtime_min": 9, "nodes": 1},
        extra=("--comment=a b", "--nice"),
    )
    assert client.submit(request, "#!/bin/sh\n") == "42"
    (sent,) = controller.submitted
    assert (sent["array"], sent["partitions"], sent["nodes"]) == ("0-8%3", "gpu", "1")
    assert (sent["gpus"], sent["memory_per_node"], sent["time_limit"]) == ("gpu:a10g:2", 500, 9)
    assert (sent["comment"], sent["nice"], sent["is_requeueable"]) == ("a b", 100, False)
    assert sent["environment"]["SLURM_CPUS_PER_TASK"] == "1"


def test_no_variable_of_this_allocation_reaches_a_job(client, controller, monkeypatch):
    """pyslurm adds every SLURM_* of this process. Slurm sets the index anew, and it must stay."""
    monkeypatch.setenv("SLURM_JWT", "secret")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "9")
    script = "#!/bin/sh\nenv\n"
    client.submit(replace(REQUEST, array_size=9), script)
    (sent,) = controller.submitted
    assert sent["environment"]["SLURM_JWT"] == sent["environment"]["SLURM_ARRAY_TASK_ID"] == ""
    by_slurm = sent["environment"] | {"SLURM_ARRAY_TASK_ID": "3"}
    words = ["/bin/sh", "-c", sent["script"]]
    seen = subprocess.run(words, env=by_slurm, capture_output=True, text=True, check=True).stdout
    assert "SLURM_JWT" not in seen and "takeda_name" not in seen
    assert "SLURM_ARRAY_TASK_ID=3\n" in seen


def test_a_long_script(client, controller):
    script = f"#!/bin/sh\n# {'x' * 5000}\n"
    client.submit(REQUEST, script)
    assert controller.submitted[0]["script"].endswith(script.partition("\n")[2])


def test_without_nodes_there_are_no_more_than_ranks():
    assert job_attributes(replace(REQUEST, ntasks=64))["nodes"] == "1-64"
    hosts = replace(REQUEST, ntasks=2, extra=("-wn[1-3]",))
    assert job_attributes(hosts)["nodes"] == "3-3"


def test_cpus_that_are_left_to_the_cluster():
    sent = job_attributes(replace(REQUEST, cpus_per_task=None, ntasks=3))
    assert (sent["cpus_per_task"], sent["min_cpus_per_node"]) == (65534, 3)
    assert "SLURM_CPUS_PER_TASK" not in sent["environment"]


@pytest.mark.parametrize(
    ("words", "attributes"),
    [
        (("--mem=1G",), {"memory_per_node": 1024}),
        (("--mem=1G", "--mem-per-cpu=100K"), {"memory_per_cpu": 1}),
        (("-t1-2:03",), {"time_limit": 1563}),
        (("--signal=B:USR1@120",), {"signal": "B:SIGUSR1@120"}),
        (("--signal=10",), {"signal": "10@60"}),
        (("-H", "--nice"), {"priority": 0, "nice": 100}),
        (("--gres=gpu", "--gpus-per-node=l4:2"), {"gres_per_node": "gpu:1,gpu:l4:2"}),
        (("-G2",), {"gpus": "gpu:2"}),
        (
            ("--exclusive=user", "--no-kill"),
            {"resource_sharing": "user", "kill_on_node_fail": False},
        ),
        (("--wait-all-nodes=0",), {"wait_all_nodes": False}),
    ],
)
def test_words_of_sbatch(words, attributes):
    said = job_attributes(replace(REQUEST, extra=words))
    assert {name: said[name] for name in attributes} == attributes
    assert not {"memory_per_node", "memory_per_cpu"} <= said.keys()


@pytest.mark.parametrize(
    "word",
    [
        *("--begin=now", "--switches=1", "--mincpus=2", "--overcommit", "--gpus-per-task=1"),
        *("--mem=0", "--mem=", "--nice=x", "--nodes=1,3", "--signal=R:USR1", "--signal=NO"),
        *("--mail-type=BEGINNING", "--kill-on-invalid-dep=no", "--hold=1", "--gres=gpu:x:1K"),
        *("-w./hosts", "-Z", "--ntasks=0"),
    ],
)
def test_what_pyslurm_cannot_say_is_refused(client, word):
    with pytest.raises(ValueError, match=f"'{re.escape(word)}' can't be said through pyslurm"):
        client.check_request(replace(REQUEST, extra=(word,)))


def test_gres_that_pyslurm_cannot_say_is_refused(client):
    with pytest.raises(ValueError, match="gres 'a:b:c:1' can't be said through pyslurm"):
        client.check_request(replace(REQUEST, gres="a:b:c:1"))


def test_what_is_left_of_a_cancelled_array_is_not_its_first_task(client, controller):
    """For pyslurm a 0 is no number."""
    controller.jobs = {
        8: job(8, "RUNNING", ME, array_id=7, array_task_id=0, allocated_nodes="n1"),
        7: job(7, "CANCELLED", ME, array_id=7),
    }
    seen = {name: one.state for name, one in client.queue(["7"]).items()}
    assert seen == {"7_0": "RUNNING", "7": "CANCELLED"}


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
    client.cancel(["1", "2"])
    client.cancel(["2"], kill=True)
    assert controller.signalled == [(1, 9, "children"), (2, 9, "children"), (2, "SIGKILL", "all")]
    for words in ("Invalid job id specified", "Job/step already completing or completed"):
        controller.error = words
        client.cancel(["1"])


def test_errors_of_a_cancellation(client, controller):
    controller.error = "Resource temporarily unavailable"  # an errno that was left over
    client.cancel(["1", "2"])
    assert len(controller.signalled) == 2
    controller.error = "Unable to contact slurm controller (connect failure)"
    with pytest.raises(SlurmSilent):
        client.cancel(["1"])


def test_parts_of_jobs_are_cancelled_by_scancel(client, controller, tmp_path, monkeypatch):
    """pyslurm can't, and to Python 7_3 is the number 73."""
    (tmp_path / "scancel").write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/said\n')
    (tmp_path / "scancel").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    client.cancel(["5", "7_3"])
    client.cancel(["1", "2_0"], pending_only=True)
    assert (tmp_path / "said").read_text() == "7_3\n2_0\n--state=PENDING 1\n"
    assert controller.signalled == [(5, 9, "children")]


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
