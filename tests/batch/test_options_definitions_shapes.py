"""What a target says and a rule asks → job definition and overrides."""

import json

import pytest
from batch_fakes import MODEL, target
from botocore.validate import ParamValidator
from pydantic import ValidationError

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.batch.definitions import job_definition
from snakemake_executor_takeda.backends.batch.options import BatchOptions
from snakemake_executor_takeda.backends.batch.shapes import (
    fargate_pair,
    mebibytes,
    resource_requirements,
    timeout,
)
from snakemake_executor_takeda.routing.instances_serverless import FARGATE_MEM_MIB
from snakemake_executor_takeda.values import FailureKind, Shape

ROLE = "arn:aws:iam::123456789012:role/batch"


def as_dict(requirements):
    return {one["type"]: one["value"] for one in requirements}


def test_a_queue_is_all_that_is_needed():
    options = BatchOptions(queue="q")
    assert (options.platform, options.python, options.timeout) == ("EC2", "python", None)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({}, "queue"),
        ({"queue": "q", "que": "x"}, "que"),
        ({"queue": "q", "platform": "FARGATE"}, "execution_role_arn"),
        ({"queue": "q", "platform": "EKS"}, "platform"),
        ({"queue": "q", "job_role_arn": "batch"}, "job_role_arn"),
        ({"queue": "q", "tags": {"aws:x": "y"}}, "aws:x"),
        ({"queue": "q", "tags": {"lab": "a;b"}}, "lab"),
        ({"queue": "q", "timeout": 0}, "timeout"),
        ({"queue": "q", "scratch": "relative"}, "scratch"),
    ],
)
def test_options_that_cannot_work_are_named(words, named):
    with pytest.raises(ValidationError, match=named):
        BatchOptions(**words)


def test_the_definition_suits_the_service():
    options = BatchOptions(
        queue="q",
        platform="FARGATE",
        execution_role_arn=ROLE,
        job_role_arn=ROLE,
        log_group="/my/group",
    )
    definition = job_definition(options)
    shape = MODEL.operation_model("RegisterJobDefinition").input_shape
    assert not ParamValidator().validate(definition, shape).has_errors()
    container = definition["containerProperties"]
    assert container["logConfiguration"]["options"] == {"awslogs-group": "/my/group"}
    assert container["jobRoleArn"] == container["executionRoleArn"] == ROLE
    assert definition["platformCapabilities"] == ["FARGATE"]
    assert "privileged" not in json.dumps(definition)
    assert "environment" not in container


def test_the_name_follows_the_content_and_nothing_else():
    def name(**words):
        return job_definition(BatchOptions(**{"queue": "q", **words}))["jobDefinitionName"]

    assert name() == name(queue="another", tags={"a": "b"}, timeout=5, scratch="/s", python="py")
    others = [
        name(image="i"),
        name(job_role_arn=ROLE),
        name(execution_role_arn=ROLE),
        name(log_group="g"),
        name(platform="FARGATE", execution_role_arn=ROLE),
    ]
    assert len({name(), *others}) == 6
    assert all(one.startswith("takeda-") and len(one) <= 128 for one in others)


def test_ec2_gets_what_the_rule_asks_for():
    asked = resource_requirements(Shape(cpus=3, mem_mb=60_000, gpus=2), "EC2")
    assert as_dict(asked) == {"VCPU": "3", "MEMORY": "57221", "GPU": "2"}


@pytest.mark.parametrize(
    ("mem_mb", "mib"),
    [(1, 1), (1000, 954), (8000, 7630), (1_048_576, 1_000_000), (2**20 + 1, 10**6 + 1)],
)
def test_memory_is_converted_rounding_up(mem_mb, mib):
    assert mebibytes(mem_mb) == mib


def test_memory_has_a_default_and_a_least():
    assert as_dict(resource_requirements(Shape(), "EC2"))["MEMORY"] == "2048"
    assert as_dict(resource_requirements(Shape(mem_mb=1), "EC2"))["MEMORY"] == "4"


def test_ranks_of_one_node_add_up():
    shape = Shape(cpus=2, tasks=4, mpi="mpirun", mem_mb=1000)
    assert as_dict(resource_requirements(shape, "EC2"))["VCPU"] == "8"


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ((1, 100), (1, 2048)),
        ((1, 2049), (1, 3072)),
        ((1, 8193), (2, 9216)),
        ((2, 100), (2, 4096)),
        ((3, 9000), (4, 9216)),
        ((4, 30 * 1024 + 1), (8, 32 * 1024)),
        ((8, 17 * 1024), (8, 20 * 1024)),
        ((16, 33 * 1024), (16, 40 * 1024)),
        ((9, 121 * 1024), (32, 244 * 1024)),
        ((32, 61 * 1024), (32, 120 * 1024)),
    ],
)
def test_fargate_rounds_up_to_a_legal_pair(asked, given):
    assert fargate_pair(*asked) == given


def test_fargate_never_gives_less_and_always_something_legal():
    for cpus in range(1, 33):
        for mib in range(512, 244 * 1024 + 1, 1777):
            given_cpus, given_mib = fargate_pair(cpus, mib)
            assert given_cpus >= cpus
            assert given_mib >= mib
            assert given_mib in FARGATE_MEM_MIB[given_cpus]


@pytest.mark.parametrize(
    ("shape", "platform", "word"),
    [
        (Shape(cpus=33), "FARGATE", "32 vCPU"),
        (Shape(mem_mb=300_000), "FARGATE", "244 GiB"),
        (Shape(gpus=1), "FARGATE", "GPU"),
        (Shape(disk_mb=250_000), "FARGATE", "disk_mb=250000"),
        (Shape(nodes=2, tasks=8, tasks_per_node=3), "EC2", "tasks=8 do not fit on nodes=2"),
    ],
)
def test_what_a_platform_cannot_give_is_said(shape, platform, word):
    with pytest.raises(SubmissionError, match=word) as caught:
        resource_requirements(shape, platform)
    assert caught.value.kind == FailureKind.CONFIGURATION
    assert caught.value.advice


def test_the_timeout_is_the_rules_or_the_targets_or_none():
    with_default = target(timeout=30).options
    assert timeout(Shape(), target().options) is None
    assert timeout(Shape(), with_default) == {"attemptDurationSeconds": 1800}
    assert timeout(Shape(runtime_min=2), with_default) == {"attemptDurationSeconds": 120}
    assert timeout(Shape(runtime_min=1), with_default) == {"attemptDurationSeconds": 60}
