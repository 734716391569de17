"""Everything that a container may be is kept and described; what Batch would refuse is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from batch_client import Batch

from snakemake_executor_takeda.sandbox.batch.runners import Attempt, ProcessRunner, StartFailure

ROLE = "arn:aws:iam::123456789012:role/takeda-sandbox"
NEEDS = [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "2048"}]
FILES = "arn:aws:s3files:us-east-1:123456789012:file-system/fs-0123"


def efs(**more: Any) -> dict[str, Any]:
    return {"name": "v", "efsVolumeConfiguration": {"fileSystemId": "fs-01234567", **more}}


def register(batch: Batch, platform: str = "EC2", **words: Any) -> dict[str, Any]:
    properties = {"image": "debian", "command": ["true"], "resourceRequirements": NEEDS, **words}
    batch(
        "RegisterJobDefinition",
        jobDefinitionName="one",
        type="container",
        platformCapabilities=[platform],
        containerProperties=properties,
    )
    (found,) = batch("DescribeJobDefinitions", jobDefinitionName="one")["jobDefinitions"]
    return dict(found["containerProperties"])


EVERYTHING = {
    "jobRoleArn": ROLE,
    "executionRoleArn": ROLE,
    "user": "1000:1000",
    "readonlyRootFilesystem": True,
    "privileged": False,
    "volumes": [
        {"name": "here", "host": {"sourcePath": "/fsx"}},
        {"name": "tmp", "host": {}},
        {
            "name": "shared",
            "efsVolumeConfiguration": {
                "fileSystemId": "fs-01234567",
                "transitEncryption": "ENABLED",
                "authorizationConfig": {"accessPointId": "fsap-1", "iam": "ENABLED"},
            },
        },
        {"name": "files", "s3filesVolumeConfiguration": {"fileSystemArn": FILES}},
    ],
    "mountPoints": [{"sourceVolume": "files", "containerPath": "/refs", "readOnly": True}],
    "ulimits": [{"name": "nofile", "softLimit": 10, "hardLimit": -1}],
    "linuxParameters": {
        "sharedMemorySize": 128,
        "initProcessEnabled": True,
        "tmpfs": [{"containerPath": "/fast", "size": 64}],
        "devices": [{"hostPath": "/dev/fuse"}],
    },
}


def test_what_a_container_is_is_kept_and_described(batch: Batch) -> None:
    found = register(batch, **EVERYTHING)
    assert {name: found[name] for name in EVERYTHING} == EVERYTHING
    job = batch.until(batch.submit(jobDefinition="one"))
    assert job["status"] == "SUCCEEDED"
    assert {name: job["container"][name] for name in EVERYTHING} == EVERYTHING


def test_what_a_fargate_container_is_is_kept_too(batch: Batch) -> None:
    words = {
        "executionRoleArn": ROLE,
        "networkConfiguration": {"assignPublicIp": "ENABLED"},
        "fargatePlatformConfiguration": {"platformVersion": "1.4.0"},
        "ephemeralStorage": {"sizeInGiB": 21},
        "runtimePlatform": {"operatingSystemFamily": "LINUX", "cpuArchitecture": "ARM64"},
        "volumes": [{"name": "tmp"}],
        "mountPoints": [{"sourceVolume": "tmp", "containerPath": "/tmp"}],
    }
    found = register(batch, "FARGATE", **words)
    assert {name: found[name] for name in words} == words


@pytest.mark.parametrize(
    ("platform", "words", "said"),
    [
        ("EC2", {"image": "a b"}, "no name of an image"),
        ("EC2", {"networkConfiguration": {}}, "Fargate only"),
        ("EC2", {"runtimePlatform": {}}, "Fargate only"),
        ("EC2", {"ephemeralStorage": {"sizeInGiB": 30}}, "Fargate only"),
        ("EC2", {"volumes": [{"name": "a"}, {"name": "a"}]}, "name of its own"),
        ("EC2", {"mountPoints": [{"sourceVolume": "a", "containerPath": "/a"}]}, "no volume"),
        (
            "EC2",
            {
                "volumes": [{"name": "a"}],
                "mountPoints": [{"sourceVolume": "a", "containerPath": "a"}],
            },
            "absolute",
        ),
        ("EC2", {"volumes": [{**efs(), "host": {}}]}, "two kinds"),
        ("EC2", {"volumes": [efs(authorizationConfig={"accessPointId": "x"})]}, "transitEncr"),
        (
            "EC2",
            {"volumes": [efs(transitEncryption="ENABLED", authorizationConfig={"iam": "ENABLED"})]},
            "jobRoleArn",
        ),
        (
            "EC2",
            {
                "volumes": [
                    efs(
                        transitEncryption="ENABLED",
                        rootDirectory="/a",
                        authorizationConfig={"accessPointId": "x"},
                    )
                ]
            },
            "no rootDirectory",
        ),
        (
            "EC2",
            {"volumes": [{"name": "a", "s3filesVolumeConfiguration": {"fileSystemArn": FILES}}]},
            "jobRoleArn",
        ),
        ("EC2", {"secrets": [{"name": "A", "valueFrom": "b"}]}, "executionRoleArn"),
        ("EC2", {"repositoryCredentials": {"credentialsParameter": "b"}}, "executionRoleArn"),
        (
            "EC2",
            {"executionRoleArn": ROLE, "secrets": [{"name": "AWS_BATCH_A", "valueFrom": "b"}]},
            "AWS_BATCH",
        ),
        (
            "EC2",
            {
                "executionRoleArn": ROLE,
                "secrets": [{"name": "A", "valueFrom": "b"}],
                "environment": [{"name": "A", "value": "1"}],
            },
            "in environment and in secrets",
        ),
        ("EC2", {"ulimits": [{"name": "core", "softLimit": 3, "hardLimit": 2}]}, "above"),
        ("EC2", {"linuxParameters": {"tmpfs": [{"containerPath": "/a", "size": 0}]}}, "at least 1"),
        ("EC2", {"linuxParameters": {"sharedMemorySize": 0}}, "at least 1"),
        ("EC2", {"linuxParameters": {"swappiness": 101}}, "swappiness"),
        ("FARGATE", {}, "executionRoleArn"),
        ("FARGATE", {"privileged": True, "executionRoleArn": ROLE}, "privileged"),
        (
            "FARGATE",
            {
                "ulimits": [{"name": "core", "softLimit": 1, "hardLimit": 2}],
                "executionRoleArn": ROLE,
            },
            "ulimits",
        ),
        (
            "FARGATE",
            {"linuxParameters": {"sharedMemorySize": 64}, "executionRoleArn": ROLE},
            "sharedMemorySize",
        ),
        (
            "FARGATE",
            {
                "volumes": [{"name": "a", "host": {"sourcePath": "/a"}}],
                "executionRoleArn": ROLE,
            },
            "host.sourcePath",
        ),
        (
            "FARGATE",
            {"ephemeralStorage": {"sizeInGiB": 20}, "executionRoleArn": ROLE},
            "between 21 and 200",
        ),
        (
            "FARGATE",
            {"runtimePlatform": {"cpuArchitecture": "arm64"}, "executionRoleArn": ROLE},
            "X86_64 or ARM64",
        ),
    ],
)
def test_registering_refuses(batch: Batch, platform: str, words: dict[str, Any], said: str) -> None:
    properties = {"image": "debian", "resourceRequirements": NEEDS, **words}
    batch.refuses(
        said,
        "RegisterJobDefinition",
        jobDefinitionName="one",
        type="container",
        platformCapabilities=[platform],
        containerProperties=properties,
    )


# shares


def fair_queue(batch: Batch) -> None:
    arn = batch(
        "CreateSchedulingPolicy",
        name="fair",
        fairsharePolicy={"shareDistribution": [{"shareIdentifier": "lab*", "weightFactor": 0.5}]},
    )["arn"]
    batch.queue("fair", 2, schedulingPolicyArn=arn)


def test_a_queue_with_a_policy_wants_a_share_and_one_without_takes_none(batch: Batch) -> None:
    fair_queue(batch)
    words = {"jobName": "j", "jobDefinition": "d"}
    batch.refuses("give a shareIdentifier", "SubmitJob", jobQueue="fair", **words)
    batch.refuses("leave out", "SubmitJob", jobQueue="q", shareIdentifier="labA", **words)
    batch.refuses("letters", "SubmitJob", jobQueue="fair", shareIdentifier="lab-A", **words)
    more = {"shareIdentifier": "labA", "schedulingPriorityOverride": 7}
    job = batch.until(batch.submit(jobQueue="fair", **more))
    assert (job["shareIdentifier"], job["schedulingPriority"]) == ("labA", 7)
    batch.refuses(
        "between 0 and 9999",
        "SubmitJob",
        jobQueue="fair",
        **{**words, **more, "schedulingPriorityOverride": 10_000},
    )


def test_policies_are_kept_described_and_not_deleted_in_use(batch: Batch) -> None:
    fair_queue(batch)
    (arn,) = (one["arn"] for one in batch("ListSchedulingPolicies")["schedulingPolicies"])
    batch("UpdateSchedulingPolicy", arn=arn, fairsharePolicy={"computeReservation": 10})
    (found,) = batch("DescribeSchedulingPolicies", arns=[arn, "arn:x"])["schedulingPolicies"]
    assert found["fairsharePolicy"] == {"computeReservation": 10}
    (queue,) = batch("DescribeJobQueues", jobQueues=["fair"])["jobQueues"]
    assert queue["schedulingPolicyArn"] == arn
    batch.refuses("used by the job queue fair", "DeleteSchedulingPolicy", arn=arn)
    batch.refuses("FIFO", "UpdateJobQueue", jobQueue="q", schedulingPolicyArn=arn)
    batch.refuses("no scheduling policy", "DeleteSchedulingPolicy", arn="x")


# consumable resources


def needing(name: str, quantity: int) -> dict[str, Any]:
    wanted = {"consumableResource": name, "quantity": quantity}
    return {"consumableResourcePropertiesOverride": {"consumableResourceList": [wanted]}}


def test_jobs_share_what_there_is_of_a_consumable_resource(batch: Batch, tmp_path: Any) -> None:
    batch("CreateConsumableResource", consumableResourceName="licence", totalQuantity=2)
    go = tmp_path / "go"
    waiting = ("sh", "-c", f"until [ -e {go} ]; do sleep 0.02; done")
    first = batch.submit(*waiting, **needing("licence", 2))
    batch.until(first, "RUNNING")
    second = batch.submit("true", **needing("licence", 1))
    batch.until(second, "RUNNABLE")
    shown = batch("DescribeConsumableResource", consumableResource="licence")
    assert (shown["inUseQuantity"], shown["availableQuantity"]) == (2, 0)
    assert batch.job(second)["status"] == "RUNNABLE"
    batch.refuses("in use", "DeleteConsumableResource", consumableResource="licence")
    go.touch()
    assert batch.until(first)["status"] == batch.until(second)["status"] == "SUCCEEDED"
    (listed,) = batch("ListConsumableResources")["consumableResources"]
    assert (listed["inUseQuantity"], listed["totalQuantity"]) == (0, 2)
    batch("DeleteConsumableResource", consumableResource="licence")


def test_more_of_a_resource_lets_a_waiting_job_go(batch: Batch) -> None:
    batch("CreateConsumableResource", consumableResourceName="licence", totalQuantity=0)
    job_id = batch.submit("true", **needing("licence", 1))
    batch.until(job_id, "RUNNABLE")
    change = {"consumableResource": "licence", "quantity": 1}
    batch("UpdateConsumableResource", operation="ADD", **change)
    job = batch.until(job_id)
    assert job["status"] == "SUCCEEDED"
    (need,) = job["consumableResourceProperties"]["consumableResourceList"]
    assert need["quantity"] == 1
    batch.refuses(
        "not that much", "UpdateConsumableResource", operation="REMOVE", **{**change, "quantity": 5}
    )


def test_what_cannot_be_used_again_is_spent_across_a_restart(
    make_batch: Callable[..., Batch],
) -> None:
    batch = make_batch()
    batch(
        "CreateConsumableResource",
        consumableResourceName="reagent",
        totalQuantity=3,
        resourceType="NON_REPLENISHABLE",
    )
    batch.until(batch.submit("true", **needing("reagent", 2)))
    batch.stop()
    again = make_batch()
    shown = again("DescribeConsumableResource", consumableResource="reagent")
    assert (shown["totalQuantity"], shown["availableQuantity"]) == (3, 1)


def test_a_definitions_need_is_overridden_by_the_submission(batch: Batch) -> None:
    batch("CreateConsumableResource", consumableResourceName="a", totalQuantity=5)
    wanted = [{"consumableResource": "a", "quantity": 3}]
    batch.define("needy", consumableResourceProperties={"consumableResourceList": wanted})
    quantities = []
    for more in ({}, needing("a", 4)):
        job = batch.until(batch.submit(jobDefinition="needy", **more))
        quantities.append(
            job["consumableResourceProperties"]["consumableResourceList"][0]["quantity"]
        )
    assert quantities == [3, 4]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ([{"consumableResource": "nothing", "quantity": 1}], "no consumable resource 'nothing'"),
        ([{"consumableResource": "a", "quantity": 0}], "at least 1"),
        ([{"consumableResource": "a", "quantity": 1}] * 6, "at most 5"),
    ],
)
def test_a_need_that_cannot_be_is_refused(batch: Batch, wanted: list[Any], said: str) -> None:
    batch("CreateConsumableResource", consumableResourceName="a", totalQuantity=5)
    batch.refuses("already", "CreateConsumableResource", consumableResourceName="a")
    batch.refuses(
        said,
        "SubmitJob",
        jobName="j",
        jobQueue="q",
        jobDefinition="d",
        consumableResourcePropertiesOverride={"consumableResourceList": wanted},
    )


# secrets: the fetching itself is in test_batch_secrets.py, against the sandbox's own services


def test_an_attempt_without_secrets_asks_nobody(tmp_path: Any) -> None:
    from snakemake_executor_takeda.sandbox.batch.secrets import WithSecrets
    from snakemake_executor_takeda.sandbox.services import Context

    class Inner(ProcessRunner):
        def start(self, attempt: Attempt) -> Any:
            raise StartFailure("reached")

    context = Context(tmp_path, tmp_path / "db", "http://127.0.0.1:1", "http://127.0.0.1:1")
    runner = WithSecrets(Inner(tmp_path / "scratch", "mark"), context)
    attempt = Attempt("j", 1, ("true",), {}, {}, 1.0, 100, 0, tmp_path / "log")
    with pytest.raises(StartFailure, match="reached"):
        runner.start(attempt)
