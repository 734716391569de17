"""Unmodified boto3 against a running sandbox: what a client sees of errors, credentials and logs."""

from __future__ import annotations

import http.client
import json
import time
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_takeda.sandbox import record
from snakemake_executor_takeda.sandbox.variables import MOTO_SERVICES, OWN_SERVICES

pytestmark = pytest.mark.sandbox


@pytest.fixture
def batch(sandbox_env: dict[str, str]) -> Any:
    import boto3

    return boto3.client("batch")


def define(batch: Any, name: str, *command: str, **more: Any) -> None:
    batch.register_job_definition(
        jobDefinitionName=name,
        type="container",
        containerProperties={
            "image": "debian",
            "command": list(command),
            "resourceRequirements": [
                {"type": "VCPU", "value": "1"},
                {"type": "MEMORY", "value": "256"},
            ],
            **more,
        },
    )


def ended(batch: Any, job_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        (job,) = batch.describe_jobs(jobs=[job_id])["jobs"]
        if job["status"] in ("SUCCEEDED", "FAILED"):
            return dict(job)
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_variables_are_those_that_botocore_reads() -> None:
    import botocore.session

    session = botocore.session.get_session()
    known = {
        session.get_service_model(name).service_id.upper().replace(" ", "_").replace("-", "_")
        for name in (
            *("batch", "omics", "s3", "sqs", "sns", "events", "cloudwatch", "logs", "iam", "sts"),
            *("ec2", "ecs", "ecr", "cloudformation", "secretsmanager", "ssm", "pricing"),
            "resourcegroupstaggingapi",
        )
    }
    assert {*OWN_SERVICES, *MOTO_SERVICES} == known


def test_no_client_reaches_beyond_this_machine(sandbox_env: dict[str, str]) -> None:
    import boto3

    for name in (
        "batch",
        "omics",
        "s3",
        "logs",
        "events",
        "iam",
        "sts",
        "dynamodb",
        "fsx",
        "lambda",
    ):
        assert boto3.client(name).meta.endpoint_url.startswith("http://127.0.0.1:")


def test_errors_are_boto3s_own(batch: Any) -> None:
    with pytest.raises(batch.exceptions.ClientException) as caught:
        batch.submit_job(jobName="j", jobQueue="takeda-sandbox", jobDefinition="no-such")
    assert caught.value.response["Error"] == {
        "Code": "ClientException",
        "Message": "there is no active job definition 'no-such'",
    }
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_what_the_sandbox_lacks_says_so(batch: Any) -> None:
    with pytest.raises(Exception, match="does not have ListJobsByConsumableResource of batch"):
        batch.list_jobs_by_consumable_resource(consumableResource="licence")


def test_logs_go_to_the_definitions_group(batch: Any) -> None:
    import boto3

    define(
        batch,
        "logged",
        *("sh", "-c", "echo one; echo; printf 'ü\\303'"),
        logConfiguration={"logDriver": "awslogs", "options": {"awslogs-group": "/my/group"}},
    )
    job_id = batch.submit_job(jobName="j", jobQueue="takeda-sandbox", jobDefinition="logged")[
        "jobId"
    ]
    stream = ended(batch, job_id)["container"]["logStreamName"]
    events = boto3.client("logs").get_log_events(logGroupName="/my/group", logStreamName=stream)
    assert [event["message"] for event in events["events"]] == ["one", " ", "ü\ufffd"]


def test_a_job_talks_to_the_same_sandbox(batch: Any, tmp_path: Path) -> None:
    import boto3

    script = "import boto3; boto3.client('s3').put_object(Bucket='takeda-sandbox', Key='from-job')"
    define(batch, "writes", "python", "-c", script)
    job_id = batch.submit_job(jobName="j", jobQueue="takeda-sandbox-spot", jobDefinition="writes")[
        "jobId"
    ]
    assert ended(batch, job_id)["status"] == "SUCCEEDED"
    assert (
        boto3.client("s3").head_object(Bucket="takeda-sandbox", Key="from-job")["ContentLength"]
        == 0
    )


def test_a_large_array_is_accepted_and_paged(batch: Any) -> None:
    define(batch, "sleeps", "sleep", "600")
    job_id = batch.submit_job(
        jobName="j",
        jobQueue="takeda-sandbox",
        jobDefinition="sleeps",
        arrayProperties={"size": 10_000},
    )["jobId"]
    batch.terminate_job(jobId=job_id, reason="enough")
    job = ended(batch, job_id)
    assert job["arrayProperties"]["statusSummary"]["FAILED"] == 10_000
    pages = batch.get_paginator("list_jobs").paginate(arrayJobId=job_id, jobStatus="FAILED")
    found = [child["jobId"] for page in pages for child in page["jobSummaryList"]]
    assert len(set(found)) == 10_000


def test_api_calls_are_counted(batch: Any, sandbox_dir: Path) -> None:
    from snakemake_executor_takeda.sandbox import control

    def calls() -> int:
        counts = control.status(sandbox_dir)["api_calls"]["batch"]
        return int(counts.get("DescribeComputeEnvironments", 0))

    before = calls()
    batch.describe_compute_environments()
    batch.describe_compute_environments()
    assert calls() == before + 2


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({}, "access key is not this sandbox's"),
        (
            {"authorization": "AWS4-HMAC-SHA256 Credential=AKIA/20260101/x/batch/aws4_request"},
            "key",
        ),
        ({"x-takeda-key": "guess"}, "access key"),
        ({"host": "evil.example.com"}, "127.0.0.1 and localhost only"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/listjobs", "/_takeda/status", "/run"])
def test_strangers_are_refused(
    sandbox_dir: Path, headers: dict[str, str], words: str, path: str
) -> None:
    found = record.read(sandbox_dir)
    assert found is not None
    connection = http.client.HTTPConnection("127.0.0.1", found.services_port, timeout=30)
    connection.request("POST", path, body=b"{}", headers=headers)
    answer = connection.getresponse()
    assert answer.status == 403
    assert words in json.load(answer)["message"]
    connection.close()
