"""One thing is broken at a time: `takeda doctor` finds it, nothing else, and names what mends it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import boto3
import pytest
from aws_stand_in import StandIn

pytestmark = pytest.mark.sandbox


@dataclass
class World:
    """What a break can reach."""

    project: Any
    stand_in: StandIn
    patch: pytest.MonkeyPatch
    after: contextlib.ExitStack
    """What is undone at the end of the test."""


@pytest.fixture
def world(on_sandbox: Any, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with contextlib.ExitStack() as after:
        yield World(on_sandbox, stand_in, monkeypatch, after)


def test_nothing_is_found_where_all_is_well(world: World) -> None:
    facts = world.project.ask(status=0)
    assert facts["findings"] == []
    assert facts["notes"] == facts["not_looked_at"] == []
    assert facts["checks"] == len(facts["well"]) > 15


def test_all_that_is_written_is_deleted_again(world: World) -> None:
    s3 = boto3.client("s3")
    before = s3.list_objects_v2(Bucket="takeda-sandbox").get("Contents", [])
    batch = boto3.client("batch")
    definitions = len(batch.describe_job_definitions()["jobDefinitions"])
    world.project.ask(status=0)
    assert s3.list_objects_v2(Bucket="takeda-sandbox").get("Contents", []) == before
    assert len(batch.describe_job_definitions()["jobDefinitions"]) == definitions
    assert batch.list_jobs(jobQueue="takeda-sandbox-spot")["jobSummaryList"] == []


def no_credentials(world: World) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        world.patch.delenv(name)
    world.patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")


def wrong_credentials(world: World) -> None:
    world.patch.delenv("AWS_ENDPOINT_URL_STS")
    world.patch.setenv("AWS_ACCESS_KEY_ID", "AKIDOFNOBODYATALL")


def no_region(world: World) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        world.patch.delenv(name)
    world.patch.setenv("AWS_CONFIG_FILE", "/nonexistent")


def wrong_clock(world: World) -> None:
    world.stand_in.clock_ahead_s = 600


def clock_beyond_signatures(world: World) -> None:
    """What STS says then, in one of two ways."""
    world.stand_in.clock_ahead_s = 3600
    world.stand_in.sts_refuses = "SignatureDoesNotMatch"


def clock_beyond_requests(world: World) -> None:
    world.stand_in.clock_ahead_s = -3600
    world.stand_in.sts_refuses = "RequestExpired"


def slow_clock(world: World) -> None:
    world.stand_in.clock_ahead_s = -90


def no_queue(world: World) -> None:
    world.project.target("spot")["queue"] = "takeda-sandbox-spto"


def queue_disabled(world: World) -> None:
    _queue_of(world, "closed", "takeda-sandbox-spot")
    boto3.client("batch").update_job_queue(jobQueue="closed", state="DISABLED")


def environment_disabled(world: World) -> None:
    _environment(world, "asleep")
    _queue_of(world, "sleepy", "asleep")
    boto3.client("batch").update_compute_environment(computeEnvironment="asleep", state="DISABLED")


def too_few_vcpus(world: World) -> None:
    world.project.target("spot")["limits"] = {"threads": 96, "mem_mb": 16000}


def too_little_memory(world: World) -> None:
    _environment(world, "small", instanceTypes=["c7i.large", "c7i.xlarge"])
    _queue_of(world, "small", "small")


def no_gpu(world: World) -> None:
    world.project.policy["routes"].append({"when": {"gpu": ">0"}, "to": "spot"})


def other_instances(world: World) -> None:
    world.project.target("spot")["instances"] = ["p5"]


def not_on_spot(world: World) -> None:
    world.project.target("spot")["queue"] = "takeda-sandbox"


def no_image(world: World) -> None:
    world.stand_in.images.clear()


def no_image_in_ecr(world: World) -> None:
    ecr = boto3.client("ecr")
    ecr.create_repository(repositoryName="lab/worker")
    world.after.callback(ecr.delete_repository, repositoryName="lab/worker", force=True)
    world.project.target("spot")["image"] = f"{ECR}/lab/worker:9.9"


def no_repository_in_ecr(world: World) -> None:
    world.project.target("spot")["image"] = f"{ECR}/lab/wroker:1.0"


def no_log_group(world: World) -> None:
    world.project.target("spot")["log_group"] = "/lab/jobs"


def no_definition(world: World) -> None:
    target = world.project.target("spot")
    del target["image"], target["job_role_arn"]
    target["job_definition"] = "nobodys"


def no_event_queue(world: World) -> None:
    world.project.target("spot")["event_queue"] = "nobodys"


def no_role(world: World) -> None:
    world.patch.delenv("AWS_ENDPOINT_URL_IAM")
    world.project.target("omics")["role_arn"] = "arn:aws:iam::123456789012:role/omcis"
    # moto, which has GetRole, simulates no policy
    world.patch.setattr("snakemake_executor_takeda.doctor.rights.simulated", lambda *_: [])


def no_trust(world: World) -> None:
    world.stand_in.trusted = ["ecs-tasks.amazonaws.com"]


def job_role_may_not_write(world: World) -> None:
    world.stand_in.denied = {("takeda-sandbox", "s3:PutObject")}


def i_may_not_submit(world: World) -> None:
    world.stand_in.denied = {("ada", "batch:SubmitJob"), ("ada", "iam:PassRole")}


def no_bucket(world: World) -> None:
    world.project.config["default-storage-prefix"] = "s3://takeda-sandbxo/doctor"


def bucket_elsewhere(world: World) -> None:
    s3 = boto3.client("s3")
    s3.create_bucket(
        Bucket="far-away", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    world.after.callback(s3.delete_bucket, Bucket="far-away")
    world.project.target("omics")["output_uri"] = "s3://far-away/runs"


def bucket_read_only(world: World) -> None:
    world.patch.setenv("AWS_ENDPOINT_URL_S3", world.stand_in.url)
    world.stand_in.s3_refuses = {"PUT"}


def bucket_keeps_all(world: World) -> None:
    world.patch.setenv("AWS_ENDPOINT_URL_S3", world.stand_in.url)
    world.stand_in.s3_refuses = {"DELETE"}


def no_run_group(world: World) -> None:
    world.project.target("omics")["run_group_id"] = "123456"


def no_run_cache(world: World) -> None:
    world.project.target("omics")["cache_id"] = "123456"


def no_quota(world: World) -> None:
    world.stand_in.quotas["L-34B43A08"] = 2.0


def no_quota_for_runs(world: World) -> None:
    world.stand_in.quotas["L-BE38079A"] = 0.0


def no_storage_plugin(world: World) -> None:
    version = metadata.version

    def without(name: str) -> str:
        if name == "snakemake-storage-plugin-s3":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    world.patch.setattr(metadata, "version", without)


def no_s3(world: World) -> None:
    for word in ("default-storage-provider", "default-storage-prefix", "shared-fs-usage"):
        del world.project.config[word]


def unset_variable(world: World) -> None:
    world.project.config["default-storage-prefix"] = "s3://${NO_SUCH_BUCKET}/x"


def two_regions(world: World) -> None:
    targets = world.project.policy["targets"]
    targets["spot"]["region"] = "us-east-1"
    targets["far"] = {**targets["spot"], "region": "us-east-2"}


def policy_mistake(world: World) -> None:
    world.project.target("spot")["capcity"] = "spot"


ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
BREAKS: dict[Callable[[World], None], tuple[str, str, str]] = {
    # what is broken: (the check, what it says, what mends it)
    no_credentials: ("credentials", "no AWS credentials", "Set AWS_PROFILE, or AWS_ACCESS_KEY_ID"),
    wrong_credentials: ("credentials", "does not accept the AWS credentials", "aws sso login"),
    no_region: ("credentials", "no AWS region", "set AWS_REGION (such as eu-central-1)"),
    wrong_clock: ("clock", "10 min behind AWS's", "sudo timedatectl set-ntp true"),
    clock_beyond_signatures: ("credentials", "60 min behind AWS's", "timedatectl set-ntp true"),
    clock_beyond_requests: ("credentials", "60 min ahead of AWS's", "timedatectl set-ntp true"),
    slow_clock: ("clock", "ahead of AWS's", "sudo timedatectl set-ntp true"),
    no_queue: ("queue", "'takeda-sandbox-spto' does not exist", "'takeda-sandbox-spot'"),
    queue_disabled: ("queue", "is DISABLED", "aws batch update-job-queue --job-queue closed"),
    environment_disabled: (
        "compute environments",
        "asleep is DISABLED",
        "aws batch update-compute-environment --compute-environment asleep --state ENABLED",
    ),
    too_few_vcpus: (
        "largest job",
        "threads=96 (`limits` of profile/routing.yaml",
        "--compute-resources maxvCpus=96",
    ),
    too_little_memory: (
        "largest job",
        "15 GiB of memory on a node: the largest, c7i.xlarge",
        "instanceTypes=c7i.large,c7i.xlarge,",
    ),
    no_gpu: ("largest job", "gpu=1 (route 2 (profile/routing.yaml:", "instanceTypes=optimal,g"),
    other_instances: ("largest job", "`instances` has p5", "write `instances: [optimal]`"),
    not_on_spot: ("queue", "cost the on-demand price", "Write `capacity: on-demand`"),
    no_image: ("image", "has no image lab/worker:1.0", "docker push 127.0.0.1:"),
    no_image_in_ecr: ("image", "has no image 9.9", f"docker push {ECR}/lab/worker:9.9"),
    no_repository_in_ecr: (
        "image",
        "no repository lab/wroker",
        "aws ecr create-repository --region us-east-1 --repository-name lab/wroker",
    ),
    no_log_group: (
        "log group",
        "no log group /lab/jobs",
        "aws logs create-log-group --log-group-name /lab/jobs",
    ),
    no_definition: ("job definition", "'nobodys' does not exist", "Correct `job_definition`"),
    no_event_queue: ("event queue", "'nobodys' of `event_queue`", "Correct `event_queue`"),
    no_role: ("healthomics role", "there is no role omcis", "correct `role_arn`"),
    no_trust: (
        "healthomics role",
        "does not trust omics.amazonaws.com",
        "aws iam update-assume-role-policy --role-name takeda-sandbox-omics",
    ),
    job_role_may_not_write: (
        "job role's rights",
        "may not: s3:PutObject on arn:aws:s3:::takeda-sandbox/doctor/",
        "policies.py job prints a policy",
    ),
    i_may_not_submit: (
        "your rights",
        "iam:PassRole on arn:aws:iam::123456789012:role/takeda-sandbox",
        "policies.py controller … --for s3,batch",
    ),
    no_bucket: ("bucket", "no bucket takeda-sandbxo", "aws s3 mb s3://takeda-sandbxo"),
    bucket_elsewhere: ("bucket", "is in eu-west-1", "aws s3 mb s3://NAME --region us-east-1"),
    bucket_read_only: (
        "objects",
        "s3:PutObject is refused",
        "allow s3:PutObject on arn:aws:s3:::takeda-sandbox/doctor/.takeda/*",
    ),
    bucket_keeps_all: ("objects", "is still there", "allow s3:DeleteObject on"),
    no_run_group: ("run group", "no run group 123456", "correct `run_group_id`"),
    no_run_cache: ("run cache", "no run cache 123456", "correct `cache_id`"),
    no_quota: (
        "vCPU quotas",
        "is 2 vCPUs, and the largest job takes 4",
        "request-service-quota-increase --service-code ec2 --quota-code L-34B43A08",
    ),
    no_quota_for_runs: (
        "active runs",
        "0 of 0 are in use",
        "--service-code omics --quota-code L-BE38079A",
    ),
    no_storage_plugin: (
        "storage plugin",
        "is not installed",
        "pip install 'snakemake-executor-plugin-takeda[s3]'",
    ),
    no_s3: (
        "storage",
        "the run has no S3",
        "write into profile/config.yaml: default-storage-provider: s3",
    ),
    unset_variable: ("storage", "NO_SUCH_BUCKET is not set", "export NO_SUCH_BUCKET=…"),
    two_regions: ("Region", "in 2 Regions", "write `region: us-east-1` in each of them"),
    policy_mistake: (
        "policy",
        "unknown word `capcity`. Did you mean capacity?",
        "takeda policy check profile/routing.yaml",
    ),
}
_OTHER = dict.fromkeys(
    (no_role, no_trust, bucket_elsewhere, no_run_group, no_run_cache, no_quota_for_runs), "omics"
)


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.__name__)
def test_what_is_broken_is_found_and_nothing_else(
    world: World, broken: Callable[[World], None]
) -> None:
    check, what, fix = BREAKS[broken]
    broken(world)
    # The others cost time, and are well: see above.
    targets = ("spot", "far") if broken is two_regions else (_OTHER.get(broken, "spot"),)
    facts = world.project.ask(*(word for one in targets for word in ("--target", one)), status=1)
    (found,) = facts["findings"]
    assert found["check"] == check
    assert what in found["what"]
    assert fix in found["fix"]
    assert found["why"]


def _environment(world: World, name: str, **resources: Any) -> None:
    batch = boto3.client("batch")
    batch.create_compute_environment(
        computeEnvironmentName=name,
        type="MANAGED",
        computeResources={
            "type": "SPOT",
            "allocationStrategy": "SPOT_PRICE_CAPACITY_OPTIMIZED",
            "minvCpus": 0,
            "maxvCpus": 64,
            "instanceTypes": ["c7i"],
            "subnets": ["subnet-00000000"],
            "securityGroupIds": ["sg-00000000"],
            "instanceRole": "arn:aws:iam::123456789012:instance-profile/x",
            **resources,
        },
    )
    world.after.callback(batch.delete_compute_environment, computeEnvironment=name)
    world.after.callback(
        batch.update_compute_environment, computeEnvironment=name, state="DISABLED"
    )


def _queue_of(world: World, name: str, environment: str) -> None:
    """A queue of the test's own, which the target then names."""
    batch = boto3.client("batch")
    batch.create_job_queue(
        jobQueueName=name,
        priority=1,
        computeEnvironmentOrder=[{"order": 1, "computeEnvironment": environment}],
    )
    world.after.callback(batch.delete_job_queue, jobQueue=name)
    world.after.callback(batch.update_job_queue, jobQueue=name, state="DISABLED")
    world.project.target("spot")["queue"] = name
