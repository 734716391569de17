"""docs/batch.md: every word of a target is in it, and every policy in it is good."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from snakemake_executor_takeda.assembly import backend_factories
from snakemake_executor_takeda.backends.batch.mounts import Mount
from snakemake_executor_takeda.backends.batch.options import RESOURCES, BatchOptions
from snakemake_executor_takeda.backends.batch.submitting import job_request
from snakemake_executor_takeda.routing.policy import load_policy
from snakemake_executor_takeda.values import JobSpec, Shape, submission_to_check

PAGE = (Path(__file__).parents[2] / "docs" / "batch.md").read_text(encoding="utf-8")
POLICIES = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def words_of_first_columns(text: str) -> set[str]:
    cells = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
    return {word for cell in cells for word in re.findall(r"`(\w+)`", cell)}


def test_every_word_of_a_target_is_in_the_page_and_no_other() -> None:
    section = PAGE.partition("## What a target may say\n")[2].partition("\n### ")[0]
    documented = words_of_first_columns(section)
    elsewhere = set(re.findall(r"`(\w+)", PAGE))
    assert documented <= set(BatchOptions.model_fields)
    assert set(BatchOptions.model_fields) <= documented | elsewhere


def test_every_word_of_a_mount_and_of_a_rule_is_in_the_page() -> None:
    section = PAGE.partition("| word of a mount |")[2].partition("\n\n")[0]
    assert words_of_first_columns(section) == set(Mount.model_fields)
    assert all(f"`{name}=" in PAGE for name in RESOURCES)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_is_good_and_can_be_submitted_to(policy: str, tmp_path: Path) -> None:
    from batch_fakes import context

    path = tmp_path / "routing.yaml"
    path.write_text(policy, encoding="utf-8")
    models = {name: factory.options_model for name, factory in backend_factories().items()}
    targets = load_policy(path, models, {}).targets.values()
    assert targets
    for target in targets:
        if target.backend == "batch":
            job = JobSpec(1, "r", {}, 1, Shape(), {})
            assert job_request(submission_to_check(job, target), context())["jobName"]


AWS = """\
#!{python}
# The AWS CLI's three ways to give a structure: JSON, NAME=VALUE,…, NAME='VALUE'.
import json, re, sys
import boto3

service, operation, *words = sys.argv[1:]
given = dict(zip(words[::2], words[1::2], strict=True))
query = given.pop("--query", None)
given.pop("--output", None)
client = boto3.client(service)
method = client.meta.method_to_api_mapping[operation.replace("-", "_")]
members = client.meta.service_model.operation_model(method).input_shape.members
names = {{name.lower(): name for name in members}}
arguments = {{}}
for flag, text in given.items():
    name = names[flag[2:].replace("-", "")]
    kind = members[name].type_name
    if kind != "string":
        quoted = re.fullmatch(r"(\\w+)='(.*)'", text, re.DOTALL)
        pairs = [quoted.groups()] if quoted else [pair.split("=", 1) for pair in text.split(",")]
        text = [dict(pairs)] if kind == "list" else dict(pairs)
    arguments[name] = text
answer = getattr(client, operation.replace("-", "_"))(**arguments)
if query:
    print(answer[query])
"""


@pytest.mark.sandbox
def test_the_event_queue_is_set_up_by_the_commands_shown(
    sandbox_env: dict[str, str], tmp_path: Path
) -> None:
    import boto3

    (commands,) = re.findall(r"^```\n(aws sqs create-queue.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    region = sandbox_env["AWS_REGION"]
    commands = commands.replace("eu-central-1", region).replace(
        "job-queue/takeda-spot", "job-queue/takeda-sandbox"
    )
    aws = tmp_path / "aws"
    aws.write_text(AWS.format(python=sys.executable), encoding="utf-8")
    aws.chmod(0o755)
    done = subprocess.run(
        ["bash", "-euc", commands],
        env={**sandbox_env, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    sqs, events, batch = (boto3.client(name) for name in ("sqs", "events", "batch"))
    url = sqs.get_queue_url(QueueName="takeda-events")["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    (statement,) = json.loads(attributes["Policy"])["Statement"]
    assert statement == {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": attributes["QueueArn"],
        "Condition": {
            "ArnEquals": {"aws:SourceArn": events.describe_rule(Name="takeda-events")["Arn"]}
        },
    }
    batch.register_job_definition(
        jobDefinitionName="told",
        type="container",
        containerProperties={
            "image": "debian",
            "command": ["true"],
            "resourceRequirements": [
                {"type": "VCPU", "value": "1"},
                {"type": "MEMORY", "value": "64"},
            ],
        },
    )
    job = batch.submit_job(jobName="told", jobQueue="takeda-sandbox", jobDefinition="told")["jobId"]
    (message,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)["Messages"][:1]
    assert json.loads(message["Body"])["detail"]["jobId"] == job
    events.remove_targets(Rule="takeda-events", Ids=["1"])
    events.delete_rule(Name="takeda-events")
