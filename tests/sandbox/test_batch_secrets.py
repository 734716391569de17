"""A container's secrets come from the sandbox's Secrets Manager and SSM, and are in no record."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest

pytestmark = pytest.mark.sandbox

ROLE = "arn:aws:iam::123456789012:role/takeda-sandbox"
VALUE = "s3cret-of-the-lab"


def ran(secrets: Mapping[str, str]) -> dict[str, Any]:
    """The job whose container prints its variables, at its end."""
    batch = boto3.client("batch")
    arn = batch.register_job_definition(
        jobDefinitionName="secretive",
        type="container",
        containerProperties={
            "image": "debian",
            "command": ["sh", "-c", "echo $A $B $C"],
            "executionRoleArn": ROLE,
            "secrets": [{"name": name, "valueFrom": place} for name, place in secrets.items()],
            "resourceRequirements": [
                {"type": "VCPU", "value": "1"},
                {"type": "MEMORY", "value": "100"},
            ],
        },
    )["jobDefinitionArn"]
    job_id = batch.submit_job(jobName="s", jobQueue="takeda-sandbox", jobDefinition=arn)["jobId"]
    deadline = time.monotonic() + 60
    while True:
        job = dict(batch.describe_jobs(jobs=[job_id])["jobs"][0])
        if job["status"] in ("SUCCEEDED", "FAILED"):
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.05)


def printed(job: Mapping[str, Any]) -> str:
    events = boto3.client("logs").get_log_events(
        logGroupName="/aws/batch/job", logStreamName=job["container"]["logStreamName"]
    )["events"]
    return str(events[0]["message"])


def test_secrets_and_parameters_are_put_into_the_environment(
    sandbox_env: dict[str, str], sandbox_dir: Path
) -> None:
    manager, ssm = boto3.client("secretsmanager"), boto3.client("ssm")
    plain = manager.create_secret(Name="lab/plain", SecretString=VALUE)["ARN"]
    mapped = manager.create_secret(Name="lab/map", SecretString='{"user": "mendel", "n": 7}')["ARN"]
    ssm.put_parameter(Name="/lab/token", Value="pea", Type="SecureString")
    job = ran({"A": plain, "B": f"{mapped}:user::", "C": "/lab/token"})
    assert printed(job) == f"{VALUE} mendel pea"
    arn = "arn:aws:ssm:us-east-1:123456789012:parameter/lab/token"
    assert printed(ran({"A": arn, "B": f"{mapped}:n::"})) == "pea 7"
    assert VALUE not in str(job)
    files = [path for path in sandbox_dir.rglob("state.sqlite*") if path.is_file()]
    assert files
    assert not any(VALUE.encode() in path.read_bytes() for path in files)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("arn:aws:secretsmanager:us-east-1:123456789012:secret:no-AbCdEf", "ResourceNotFound"),
        ("/no/such", "invalid parameters: /no/such"),
    ],
)
def test_a_secret_that_does_not_exist_fails_the_start(
    sandbox_env: dict[str, str], place: str, said: str
) -> None:
    job = ran({"A": place})
    assert job["status"] == "FAILED"
    reason = job["container"]["reason"]
    assert reason.startswith("ResourceInitializationError: unable to pull secrets")
    assert said in reason
    assert "exitCode" not in job["container"]


def test_a_key_that_a_secret_lacks_fails_the_start(sandbox_env: dict[str, str]) -> None:
    arn = boto3.client("secretsmanager").create_secret(Name="lab/x", SecretString="{}")["ARN"]
    assert "did not contain json key user" in ran({"A": f"{arn}:user::"})["container"]["reason"]
