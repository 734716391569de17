"""Jobs of several nodes in the emulator: placed, run and ended as one, with a process for each node."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from batch_client import Batch

from snakemake_executor_takeda.sandbox import processes

pytestmark = pytest.mark.sandbox

SLEEP = ("sleep", "300")
MAIN_FAILS = 'test "$AWS_BATCH_JOB_NODE_INDEX" -ne 0 && exec sleep 300; exit 3'
MAIN_ENDS = 'test "$AWS_BATCH_JOB_NODE_INDEX" -ne 0 && exec sleep 300; exit 0'
VARIABLES = "env | grep -E '^(AWS_BATCH_|TAKEDA_NODE)' | sort"


def define(batch: Batch, **changes: Any) -> None:
    container = {
        "image": "debian",
        "resourceRequirements": [
            {"type": "VCPU", "value": "1"},
            {"type": "MEMORY", "value": "100"},
        ],
    }
    properties = {
        "numNodes": 2,
        "mainNode": 0,
        "nodeRangeProperties": [{"targetNodes": "0:", "container": container}],
    }
    batch(
        "RegisterJobDefinition",
        jobDefinitionName="nodes",
        type="multinode",
        nodeProperties=properties | changes,
    )


def submit(batch: Batch, *command: str, nodes: int = 3, vcpus: int = 1, **more: Any) -> str:
    overrides = {
        "numNodes": nodes,
        "nodePropertyOverrides": [
            {
                "targetNodes": "0:",
                "containerOverrides": {
                    "command": list(command),
                    "environment": [{"name": "MINE", "value": "yes"}],
                    "resourceRequirements": [{"type": "VCPU", "value": str(vcpus)}],
                },
            }
        ],
    }
    answer = batch(
        "SubmitJob",
        jobName="j",
        jobQueue="q",
        jobDefinition="nodes",
        nodeOverrides=overrides,
        **more,
    )
    return str(answer["jobId"])


@pytest.fixture
def nodes(batch: Batch) -> Batch:
    define(batch)
    return batch


def node_statuses(batch: Batch, job_id: str, count: int = 3) -> list[str]:
    return [batch.job(f"{job_id}#{index}")["status"] for index in range(count)]


def test_each_node_knows_itself_and_the_others_the_main_node(nodes: Batch) -> None:
    job_id = submit(nodes, "sh", "-c", VARIABLES + "; sleep 1")
    nodes.until(job_id)
    said = [
        dict(
            line.split("=", 1)
            for line in nodes.output(nodes.job(f"{job_id}#{index}")).splitlines()
            if "=" in line
        )
        for index in range(3)
    ]
    assert [one["AWS_BATCH_JOB_NODE_INDEX"] for one in said] == ["0", "1", "2"]
    assert {one["AWS_BATCH_JOB_NUM_NODES"] for one in said} == {"3"}
    assert {one["AWS_BATCH_JOB_MAIN_NODE_INDEX"] for one in said} == {"0"}
    address = "AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS"
    assert [one.get(address) for one in said] == [None, "127.0.0.1", "127.0.0.1"]
    assert len({one["TAKEDA_NODE_ADDRESS"] for one in said}) == 3
    assert [one["AWS_BATCH_JOB_ID"] for one in said] == [f"{job_id}#{i}" for i in range(3)]
    assert "AWS_BATCH_JOB_ARRAY_INDEX" not in said[1]


def test_how_a_job_of_nodes_is_shown(nodes: Batch) -> None:
    job_id = submit(nodes, *SLEEP)
    parent = nodes.until(job_id, "RUNNING")
    assert parent["nodeProperties"]["numNodes"] == 3
    shown = parent["nodeProperties"]["nodeRangeProperties"][0]["container"]
    assert shown["command"] == list(SLEEP)
    assert parent["container"] is None
    nodes.wait(
        lambda: nodes("ListJobs", multiNodeJobId=job_id),
        lambda all_: len(all_["jobSummaryList"]) == 3,
    )
    listed = nodes("ListJobs", multiNodeJobId=job_id)["jobSummaryList"]
    assert [one["nodeProperties"] for one in listed] == [
        {"isMainNode": index == 0, "numNodes": 3, "nodeIndex": index} for index in range(3)
    ]
    assert nodes.job(f"{job_id}#1")["nodeDetails"] == {"nodeIndex": 1, "isMainNode": False}
    (in_queue,) = nodes("ListJobs", jobQueue="q")["jobSummaryList"]
    assert in_queue["nodeProperties"] == {"numNodes": 3}
    assert nodes("DescribeJobs", jobs=[f"{job_id}:1", f"{job_id}#3"])["jobs"] == []


@pytest.mark.parametrize(
    ("script", "status", "code"), [(MAIN_ENDS, "SUCCEEDED", 0), (MAIN_FAILS, "FAILED", 3)]
)
def test_the_main_node_decides_and_the_others_are_stopped(
    nodes: Batch, script: str, status: str, code: int
) -> None:
    job_id = submit(nodes, "sh", "-c", script)
    assert nodes.until(job_id)["status"] == status
    assert nodes.job(f"{job_id}#0")["container"]["exitCode"] == code
    assert node_statuses(nodes, job_id) == [status, "FAILED", "FAILED"]
    assert processes.marked(**{processes.MARK: nodes.mark}) == []


def test_a_dead_child_triggers_nothing(nodes: Batch) -> None:
    script = 'test "$AWS_BATCH_JOB_NODE_INDEX" = 1 && exit 9; exec sleep 300'
    job_id = submit(nodes, "sh", "-c", script)
    nodes.until(f"{job_id}#1")
    nodes.until(f"{job_id}#0", "RUNNING")
    assert nodes.job(job_id)["status"] == "RUNNING"
    (main,) = processes.marked(**{processes.MARK: nodes.mark, "AWS_BATCH_JOB_NODE_INDEX": "0"})
    os.killpg(main, signal.SIGKILL)
    assert nodes.until(job_id)["status"] == "FAILED"


@pytest.mark.parametrize("named", ["", "#1"])
def test_terminate_ends_all_nodes(nodes: Batch, named: str) -> None:
    job_id = submit(nodes, *SLEEP)
    nodes.until(f"{job_id}#2", "RUNNING")
    nodes("TerminateJobs", jobs=[job_id + named], reason="enough")
    job = nodes.until(job_id)
    assert (job["status"], job["statusReason"], job["isTerminated"]) == ("FAILED", "enough", True)
    assert node_statuses(nodes, job_id) == ["FAILED"] * 3
    assert processes.marked(**{processes.MARK: nodes.mark}) == []


def test_the_nodes_start_together_or_not_at_all(nodes: Batch) -> None:
    first = nodes.submit(*SLEEP)
    nodes.until(first, "RUNNING")
    job_id = submit(nodes, "true", nodes=4)
    small = nodes.submit("true")
    nodes.until(job_id, "RUNNABLE")
    assert node_statuses(nodes, job_id, 4) == ["RUNNABLE"] * 4
    nodes("TerminateJob", jobId=first, reason="make room")
    assert nodes.until(job_id)["status"] == "SUCCEEDED"
    assert nodes.until(small)["status"] == "SUCCEEDED"


def test_what_never_fits_is_said(nodes: Batch) -> None:
    job_id = submit(nodes, "true", nodes=3, vcpus=2)
    job = nodes.wait(lambda: nodes.job(job_id), lambda job: job["statusReason"] is not None)
    assert "asks for 6 vCPUs" in job["statusReason"]
    nodes("CancelJob", jobId=job_id, reason="too large")
    assert nodes.until(job_id)["status"] == "FAILED"
    assert node_statuses(nodes, job_id) == ["FAILED"] * 3


def test_every_attempt_starts_all_nodes_anew(nodes: Batch) -> None:
    script = 'echo "attempt $AWS_BATCH_JOB_ATTEMPT"; test "$AWS_BATCH_JOB_ATTEMPT" = 2 || exit 5'
    job_id = submit(nodes, "sh", "-c", script + "; sleep 1", retryStrategy={"attempts": 3})
    job = nodes.until(job_id)
    assert (job["status"], len(job["attempts"])) == ("SUCCEEDED", 2)
    for index in range(3):
        node = nodes.job(f"{job_id}#{index}")
        assert len(node["attempts"]) == 2
        assert nodes.output(node) == "attempt 2\n"


def test_no_attempt_more_than_the_rules_say(nodes: Batch) -> None:
    rules = [{"onExitCode": "5", "action": "EXIT"}]
    retry = {"attempts": 3, "evaluateOnExit": rules}
    job = nodes.until(submit(nodes, "sh", "-c", "exit 5", retryStrategy=retry))
    assert (job["status"], len(job["attempts"])) == ("FAILED", 1)


def test_a_timeout_ends_all_nodes(make_batch: Callable[..., Batch]) -> None:
    nodes = make_batch(seconds_scale=0.01)
    define(nodes)
    job = nodes.until(submit(nodes, *SLEEP, timeout={"attemptDurationSeconds": 60}))
    assert job["statusReason"] == "Job attempt duration exceeded timeout"
    assert node_statuses(nodes, job["jobId"]) == ["FAILED"] * 3


def test_a_restart_ends_what_ran_and_remembers_the_nodes(make_batch: Callable[..., Batch]) -> None:
    before = make_batch()
    define(before)
    job_id = submit(before, *SLEEP)
    before.until(f"{job_id}#2", "RUNNING")
    before.stop()
    after = make_batch()
    job = after.job(job_id)
    assert job["status"] == "FAILED"
    assert job["statusReason"].startswith("Host EC2")
    assert job["nodeProperties"]["numNodes"] == 3
    assert node_statuses(after, job_id) == ["FAILED"] * 3


RANGES: list[tuple[list[str], int, str]] = [
    (["0:1"], 3, "open upper boundary"),
    (["0:1", "4:"], 3, "begins beyond the 3 nodes"),
    (["0:0", "2:"], 3, "no node range holds node 1"),
]


@pytest.mark.parametrize(("ranges", "number", "said"), RANGES)
def test_numbers_of_nodes_that_are_refused(
    batch: Batch, ranges: list[str], number: int, said: str
) -> None:
    container = {
        "image": "i",
        "resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "9"}],
    }
    define(
        batch,
        numNodes=5 if "4:" in ranges else 2 if ranges == ["0:1"] else 1,
        nodeRangeProperties=[{"targetNodes": one, "container": container} for one in ranges]
        + ([{"targetNodes": "2:3", "container": container}] if "4:" in ranges else []),
    )
    batch.refuses(
        said,
        "SubmitJob",
        jobName="j",
        jobQueue="q",
        jobDefinition="nodes",
        nodeOverrides={"numNodes": number},
    )


def test_definitions_that_are_refused(batch: Batch) -> None:
    container = {"image": "i"}
    ranges = [{"targetNodes": "0:", "container": container}]
    nodes = {"numNodes": 2, "mainNode": 0, "nodeRangeProperties": ranges}
    common = {"jobDefinitionName": "x", "type": "multinode"}
    register = "RegisterJobDefinition"
    batch.refuses("nodeProperties is required for type multinode", register, **common)
    batch.refuses(
        "EC2 only", register, **common, nodeProperties=nodes, platformCapabilities=["FARGATE"]
    )
    batch.refuses("both VCPU and MEMORY", register, **common, nodeProperties=nodes)
    batch.refuses("mainNode 2", register, **common, nodeProperties=nodes | {"mainNode": 2})


def test_jobs_that_are_refused(nodes: Batch) -> None:
    job = {"jobName": "j", "jobQueue": "q"}
    array = {"arrayProperties": {"size": 2}}
    nodes.refuses("no arrayProperties", "SubmitJob", **job, jobDefinition="nodes", **array)
    nodes.refuses(
        "type multinode", "SubmitJob", **job, jobDefinition="d", nodeOverrides={"numNodes": 2}
    )


@pytest.mark.parametrize("named", ["", "#1"])
def test_a_waiting_job_is_cancelled_with_all_its_nodes(nodes: Batch, named: str) -> None:
    job_id = submit(nodes, *SLEEP, vcpus=2)
    nodes.wait(lambda: nodes.job(job_id), lambda job: job["statusReason"] is not None)
    nodes("CancelJob", jobId=job_id + named, reason="no room")
    for found in (nodes.until(job_id), *(nodes.job(f"{job_id}#{index}") for index in range(3))):
        assert (found["status"], found["statusReason"]) == ("FAILED", "no room")
        assert found["isCancelled"]
        assert found["stoppedAt"] is not None


def test_spot_is_no_place_for_several_nodes(nodes: Batch) -> None:
    nodes.queue("spot", 8, "SPOT")
    job = {"jobName": "j", "jobDefinition": "nodes"}
    nodes.refuses("On-Demand", "SubmitJob", jobQueue="spot", **job)
    both = [
        {"order": 1, "computeEnvironment": "spot-ce"},
        {"order": 2, "computeEnvironment": "q-ce"},
    ]
    nodes("CreateJobQueue", jobQueueName="both", priority=1, computeEnvironmentOrder=both)
    job_id = nodes("SubmitJob", jobQueue="both", **job)["jobId"]
    nodes.until(job_id)
    assert "/q-ce/" in nodes.job(f"{job_id}#0")["container"]["taskArn"]
