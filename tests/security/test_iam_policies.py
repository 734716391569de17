"""The policies are those of actions.yaml, of actions that there are, for calls that the code makes."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import cfnlint.data.AdditionalSpecs
import pytest

ROOT = Path(__file__).parents[2]
IAM = ROOT / "infrastructure/iam"
PACKAGE = ROOT / "snakemake_executor_takeda"
SERVICES = (
    *("batch", "omics", "s3", "sqs", "logs", "pricing", "ec2"),
    *("sts", "iam", "ecr", "service-quotas"),
)
MANAGED_POLICY_CHARS = 6144
"""IAM's limit, white space not counted."""
NEVER_IN_FILES = ("sandbox/",)
"""The emulated AWS calls no AWS."""
BOTO3_WORDS = {
    "download_file": ("HeadObject", "GetObject"),
    "upload_file": ("PutObject",),
}
# Made of several calls by boto3, and here of these.
COPIES = {"copy": ("HeadObject", "CopyObject", "CreateMultipartUpload", "UploadPartCopy")}


def actions(policies, role):
    for statement in policies.ROLES[role]["statements"]:
        for action, about in statement["actions"].items():
            yield statement, action, about


@cache
def known_actions() -> dict[str, dict[str, object]]:
    """Every action of AWS with its kinds of resources, and every kind's ARN, as cfn-lint has them."""
    place = Path(next(iter(cfnlint.data.AdditionalSpecs.__path__)), "Policies.json")
    return json.loads(place.read_text())


@cache
def operations() -> dict[str, set[str]]:
    """`submit_job` → its operation, for all services that are called."""
    from botocore import xform_name
    from botocore.session import get_session

    session = get_session()
    found: dict[str, set[str]] = {}
    for service in SERVICES:
        for name in session.get_service_model(service).operation_names:
            found.setdefault(xform_name(name), set()).add(name)
    return found


def calls_in(path: Path) -> Iterator[str]:
    """Operations that a file names as methods, or to a paginator."""
    known = operations()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            yield from known.get(node.attr, ())
            yield from BOTO3_WORDS.get(node.attr, ())
            if node.attr == "copy" and isinstance(node.value, ast.Name) and node.value.id == "s3":
                yield from COPIES["copy"]
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "get_paginator"
        ):
            (word,) = node.args
            if isinstance(word, ast.Constant):
                yield from known[str(word.value)]


def source_files():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith(NEVER_IN_FILES):
            yield name, path


def test_what_is_checked_in_is_what_the_data_makes(policies):
    for name, text in policies.files().items():
        assert (IAM / name).read_text() == text, f"run {IAM.name}/policies.py: {name} is old"


@pytest.mark.parametrize("role", ["controller", "job", "execution", "healthomics"])
def test_every_action_exists_and_is_asked_for_on_its_resources(policies, role):
    for statement, action, _ in actions(policies, role):
        service, name = action.split(":")
        facts = known_actions()[service]
        kinds = facts["Actions"][name.lower()].get("Resources", [])
        if isinstance(kinds, str):
            kinds = [kinds]
        if not kinds:
            assert statement["resources"] == ["*"], f"{action} knows no resources"
            continue
        assert "*" not in statement["resources"], f"{action} is allowed on everything"
        patterns = [
            re.escape(form).replace(re.escape(".*"), ".*")
            for kind in kinds
            for form in facts["Resources"][kind.lower()]["ARNFormats"]
        ]
        patterns = [re.sub(r"\\\$\\\{\w+\\\}", ".*", one) for one in patterns]
        assert any(
            re.fullmatch(pattern, resource)
            for pattern in patterns
            for resource in statement["resources"]
        ), f"{action} is not about {statement['resources']}, but {kinds}"


@pytest.mark.parametrize("role", ["controller", "job", "execution", "healthomics"])
def test_nothing_is_broader_than_it_must_be(policies, role):
    document = policies.policy(role)
    assert len(re.sub(r"\s", "", json.dumps(document))) <= MANAGED_POLICY_CHARS
    names = [statement["Sid"] for statement in document["Statement"]]
    assert len(set(names)) == len(names)
    for statement in document["Statement"]:
        assert not any("*" in action for action in statement["Action"])
        if "iam:PassRole" in statement["Action"]:
            assert statement["Action"] == ["iam:PassRole"]
            assert statement["Condition"]["StringEquals"]["iam:PassedToService"]
            assert all("*" not in resource for resource in statement["Resource"])
    for statement, _, about in actions(policies, role):
        assert statement["feature"] in policies.DATA["features"]
        assert about["why"]


def test_every_action_names_a_file_that_makes_the_call(policies):
    for role in policies.ROLES:
        for _, action, about in actions(policies, role):
            path = PACKAGE / about["code"]
            if not about["code"].endswith(".py") or about["code"] == "worker/objects.py":
                continue  # a service's own, Snakemake's storage plugin's, or obstore's
            if action.endswith(":TagResource") or action == "iam:PassRole":
                assert re.search(r"\btags\b|_arn\b|register_job_definition", path.read_text())
                continue
            found = set(calls_in(path))
            assert found & set(about["calls"]), f"{about['code']} makes no call for {action}"


def test_every_call_in_the_code_has_its_permission(policies):
    granted = {
        call
        for role in ("controller", "job")
        for *_, a in actions(policies, role)
        for call in a["calls"]
    }
    granted |= set(policies.DATA["not_granted"])
    missing = {(name, call) for name, path in source_files() for call in calls_in(path)}
    assert {one for one in missing if one[1] not in granted} == set()


def test_the_scan_sees_calls():
    seen = {call for name, path in source_files() for call in calls_in(path)}
    assert {"SubmitJob", "StartRun", "ListObjectsV2", "TerminateJobs", "UploadPartCopy"} <= seen


def test_a_sites_policy(policies, capsys, monkeypatch):
    monkeypatch.setattr(
        "sys.argv",
        ["policies.py", "controller", "Account=1", "Region=r", "Bucket=b", "--for", "s3,batch"],
    )
    assert policies.main() == 0
    text = capsys.readouterr().out
    assert "${" not in text and "sqs:" not in text and "omics:" not in text
    assert "arn:aws:batch:r:1:job-queue/takeda-*" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["job"], "Bucket is missing"),
        (["job", "Buckte=x"], "'Buckte=x': write NAME=VALUE"),
        (["job", "Bucket=x", "--for", "s4"], "--for s4: there are s3, batch"),
    ],
)
def test_a_sites_mistakes(policies, capsys, monkeypatch, words, said):
    monkeypatch.setattr("sys.argv", ["policies.py", *words])
    with pytest.raises(SystemExit):
        policies.main()
    assert said in capsys.readouterr().err


def test_the_template_is_good_cloudformation():
    from cfnlint.api import lint

    assert lint((IAM / "roles.yaml").read_text()) == []


@pytest.mark.sandbox
def test_the_template_makes_the_roles_that_the_policies_say(policies):
    """CloudFormation fills in what policies.py leaves open: both come to the same."""
    import boto3
    from moto import mock_aws

    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    given = {"Bucket": "lab", "Prefix": "project-x/", "JobRole": "lab-job"}
    with mock_aws():
        stacks, iam = boto3.client("cloudformation", **keys), boto3.client("iam", **keys)
        stacks.create_stack(
            StackName="roles",
            TemplateBody=(IAM / "roles.yaml").read_text(),
            Parameters=[
                {"ParameterKey": name, "ParameterValue": value} for name, value in given.items()
            ],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        (stack,) = stacks.describe_stacks(StackName="roles")["Stacks"]
        outputs = {one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]}
        values = {one["ParameterKey"]: one["ParameterValue"] for one in stack["Parameters"]}
        values |= {"Partition": "aws", "Account": "123456789012", "Region": "us-east-1"}
        for role, facts in policies.ROLES.items():
            arn = outputs[f"{role.capitalize()}Arn"]
            if "trusted" in facts:
                name = arn.rpartition("/")[2]
                inline = iam.get_role_policy(RoleName=name, PolicyName="takeda")
                # moto keeps it as Python would print it
                made = ast.literal_eval(inline["PolicyDocument"])
                trust = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
                assert trust == policies.filled(policies.trust(facts["trusted"]), values)
            else:
                version = iam.get_policy_version(PolicyArn=arn, VersionId="v1")
                made = version["PolicyVersion"]["Document"]
            assert made == policies.filled(policies.policy(role), values)
    assert outputs["JobArn"].endswith(":role/lab-job")
