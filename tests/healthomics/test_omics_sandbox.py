"""The sandbox's HealthOmics by itself, asked with unmodified boto3 and a foreign client."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.healthomics.conftest import DATA, ROLE, Cloud, make_cloud, wait_for

pytestmark = pytest.mark.sandbox

ECHO = """version 1.0
workflow echo_file {
  input { File file  Int times = 1 }
  call repeat { input: file = file, times = times }
  output { File out = repeat.out }
}
task repeat {
  input { File file  Int times }
  command <<< for i in $(seq ~{times}); do cat ~{file}; done >>>
  output { File out = stdout() }
}
"""
SLEEP = """version 1.0
workflow sleeper { call t output { File o = t.o } }
task t { command { touch FLAG; sleep 600 } output { File o = stdout() } }
"""


def packed(**files: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "."), text)
    return buffer.getvalue()


def create(cloud: Cloud, source: str = ECHO, **more: Any) -> str:
    reply = cloud.omics.create_workflow(
        name=f"w-{cloud.bucket}", engine="WDL", definitionZip=packed(main__wdl=source), **more
    )
    assert re.fullmatch(r"[0-9]{7}", reply["id"])
    assert reply["status"] == "CREATING"
    return str(reply["id"])


def settled(cloud: Cloud, workflow_id: str) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        workflow = cloud.omics.get_workflow(id=workflow_id)
        return None if workflow["status"] == "CREATING" else workflow

    return wait_for(found)


@pytest.fixture
def workflow_id(cloud: Cloud) -> str:
    found = create(cloud)
    assert settled(cloud, found)["status"] == "ACTIVE"
    return found


def start(cloud: Cloud, workflow_id: str, **changes: Any) -> dict[str, Any]:
    request = {
        "workflowId": workflow_id,
        "roleArn": ROLE,
        "outputUri": cloud.uri("runs"),
        "parameters": {"file": cloud.uri("in/one.txt"), "times": 2},
        "storageType": "DYNAMIC",
        **changes,
    }
    return cloud.omics.start_run(**request)


def ended(cloud: Cloud, run_id: str) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        run = cloud.omics.get_run(id=run_id)
        return run if run["status"] in ("COMPLETED", "FAILED", "CANCELLED") else None

    return wait_for(found)


def refused(code: str, words: str) -> Any:
    return pytest.raises(ClientError, match=rf"\({code}\).*{words}")


def test_a_workflow_tells_its_parameters(cloud: Cloud, workflow_id: str) -> None:
    found = cloud.omics.get_workflow(id=workflow_id)
    assert found["main"] == "main.wdl"
    assert {k: v["optional"] for k, v in found["parameterTemplate"].items()} == {
        "file": False,
        "times": True,
    }


def test_a_run_from_start_to_logs(cloud: Cloud, workflow_id: str) -> None:
    import boto3

    reply = start(cloud, workflow_id, name="first", tags={"a": "b"})
    assert reply["status"] == "PENDING"
    assert reply["runOutputUri"] == cloud.uri(f"runs/{reply['id']}")
    run = ended(cloud, reply["id"])
    assert run["status"] == "COMPLETED"
    listing = json.loads(cloud.text(f"runs/{reply['id']}/logs/outputs.json"))
    assert listing == {"echo_file.out": cloud.uri(f"runs/{reply['id']}/out/out/stdout.txt")}
    assert cloud.text(f"runs/{reply['id']}/out/out/stdout.txt") == "a b c a\n" * 2
    (task,) = cloud.omics.list_run_tasks(id=reply["id"])["items"]
    assert (task["name"], task["status"]) == ("repeat", "COMPLETED")
    assert task["instanceType"] == "omics.c.large"
    logs = boto3.Session().client("logs")
    for stream, words in (
        (f"run/{reply['id']}", "COMPLETED"),
        (f"run/{reply['id']}/engine", "repeat"),
    ):
        events = logs.get_log_events(
            logGroupName="/aws/omics/WorkflowLog", logStreamName=stream, startFromHead=True
        )["events"]
        assert words in "\n".join(event["message"] for event in events)


def test_a_definition_that_does_not_parse_fails_with_place(cloud: Cloud) -> None:
    found = settled(cloud, create(cloud, "version 1.0\nworkflow w { call nobody }\n"))
    assert found["status"] == "FAILED"
    assert re.search(r"main\.wdl:2: .*nobody", found["statusMessage"])
    with refused("ConflictException", "FAILED"):
        start(cloud, found["id"])


def test_an_unsafe_zip_fails(cloud: Cloud) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("main.wdl", ECHO)
        archive.writestr("../../escaped", "x")
    reply = cloud.omics.create_workflow(engine="WDL", definitionZip=buffer.getvalue())
    found = settled(cloud, reply["id"])
    assert found["status"] == "FAILED"
    assert "unsafe path" in found["statusMessage"]


def test_a_wrong_cwl_is_failed_and_says_why(cloud: Cloud) -> None:
    reply = cloud.omics.create_workflow(engine="CWL", definitionZip=packed(main__cwl="x: y"))
    found = settled(cloud, reply["id"])
    assert found["status"] == "FAILED"
    assert "cwl" in found["statusMessage"].lower()


def test_what_create_workflow_refuses(cloud: Cloud) -> None:
    with refused("ValidationException", "exactly one"):
        cloud.omics.create_workflow(engine="WDL")
    with refused("ValidationException", "larger"):
        cloud.omics.create_workflow(engine="WDL", definitionZip=b"x" * 5_000_000)


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"parameters": {"file": "s3://b/x", "time": 1}}, "ValidationException", "declare.* time"),
        ({"parameters": {}}, "ValidationException", "requires the parameters file"),
        ({"parameters": {"file": "x" * 50_001}}, "ValidationException", "bytes"),
        ({"roleArn": "arn:aws:s3:::bucket"}, "ValidationException", "IAM role"),
        ({"outputUri": "/tmp/out"}, "ValidationException", "S3 URI"),
        ({"outputUri": "s3://no-such-bucket-x/y"}, "ValidationException", "does not exist"),
        ({"workflowId": "1"}, "ResourceNotFoundException", "workflow 1"),
        ({"workflowVersionName": "v9"}, "ResourceNotFoundException", "v9"),
        ({"workflowType": "READY2RUN"}, "ResourceNotFoundException", "Ready2Run workflow"),
        ({"logLevel": "LOUD"}, "ValidationException", "enum"),
    ],
)
def test_what_start_run_refuses(
    cloud: Cloud, workflow_id: str, changes: dict[str, Any], code: str, words: str
) -> None:
    with refused(code, words):
        start(cloud, workflow_id, **changes)


def test_a_request_id_starts_one_run(cloud: Cloud, workflow_id: str) -> None:
    token = f"token-{cloud.bucket}"
    first = start(cloud, workflow_id, requestId=token)
    assert start(cloud, workflow_id, requestId=token)["id"] == first["id"]
    with refused("ConflictException", "another request"):
        start(cloud, workflow_id, requestId=token, name="other")
    ended(cloud, first["id"])


def test_a_missing_input_and_a_failing_task_have_their_reasons(
    cloud: Cloud, workflow_id: str
) -> None:
    absent = start(cloud, workflow_id, parameters={"file": cloud.uri("absent")})
    run = ended(cloud, absent["id"])
    assert (run["status"], run["failureReason"]) == ("FAILED", "INPUT_URI_NOT_FOUND")
    wrong = start(cloud, workflow_id, parameters={"file": cloud.uri("in/one.txt"), "times": "many"})
    assert ended(cloud, wrong["id"])["failureReason"] == "WORKFLOW_RUN_FAILED"


def test_versions_are_immutable_and_run(cloud: Cloud, workflow_id: str) -> None:
    changed = ECHO.replace("cat ~{file}", "echo changed")
    request = {
        "workflowId": workflow_id,
        "versionName": "v-2",
        "engine": "WDL",
        "definitionZip": packed(main__wdl=changed),
    }
    cloud.omics.create_workflow_version(**request)
    with refused("ConflictException", "v-2"):
        cloud.omics.create_workflow_version(**request)

    def active() -> bool:
        found = cloud.omics.get_workflow_version(workflowId=workflow_id, versionName="v-2")
        return bool(found["status"] == "ACTIVE")

    wait_for(active)
    run = start(cloud, workflow_id, workflowVersionName="v-2")
    assert ended(cloud, run["id"])["status"] == "COMPLETED"
    assert cloud.text(f"runs/{run['id']}/out/out/stdout.txt") == "changed\nchanged\n"


def test_lists_come_in_pages_and_by_name(cloud: Cloud, workflow_id: str) -> None:
    runs = [start(cloud, workflow_id, name=f"paged-{cloud.bucket}")["id"] for _ in range(3)]
    pages = list(
        cloud.omics.get_paginator("list_runs").paginate(
            name=f"paged-{cloud.bucket}", PaginationConfig={"PageSize": 2}
        )
    )
    assert [len(page["items"]) for page in pages] == [2, 1]
    assert [item["id"] for page in pages for item in page["items"]] == runs[::-1]
    for run_id in runs:
        ended(cloud, run_id)


def test_tags_and_deletion(cloud: Cloud, workflow_id: str) -> None:
    run = start(cloud, workflow_id, tags={"a": "1"})
    with refused("ConflictException", "cancel it first"):
        cloud.omics.delete_run(id=run["id"])
    ended(cloud, run["id"])
    with refused("ConflictException", "COMPLETED"):
        cloud.omics.cancel_run(id=run["id"])
    cloud.omics.tag_resource(resourceArn=run["arn"], tags={"b": "2"})
    cloud.omics.untag_resource(resourceArn=run["arn"], tagKeys=["a"])
    assert cloud.omics.list_tags_for_resource(resourceArn=run["arn"])["tags"] == {"b": "2"}
    cloud.omics.delete_run(id=run["id"])
    with refused("ResourceNotFoundException", run["id"]):
        cloud.omics.get_run(id=run["id"])


def test_a_pending_run_can_be_cancelled(cloud: Cloud, workflow_id: str) -> None:
    run = start(cloud, workflow_id)
    cloud.omics.cancel_run(id=run["id"])
    assert ended(cloud, run["id"])["status"] == "CANCELLED"
    assert cloud.keys(f"runs/{run['id']}/") == []


def test_miniwdl_omics_run_works_unmodified(cloud: Cloud, sandbox_env: dict[str, str]) -> None:
    """A foreign client that knows nothing of the sandbox but the environment's variables."""
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("miniwdl-omics-run")),
            str(DATA / "words.wdl"),
            *(f"texts={cloud.uri(f'in/{name}.txt')}" for name in ("one", "two")),
            "label=foreign",
            *("--role-arn", ROLE, "--output-uri", cloud.uri("foreign")),
        ],
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **sandbox_env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    run = ended(cloud, json.loads(done.stdout)["runId"])
    assert run["status"] == "COMPLETED"
    assert cloud.text(f"foreign/{run['id']}/out/table/table.txt").startswith("# foreign")


@pytest.fixture
def own_sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    from snakemake_executor_takeda.sandbox import control

    folder = Path(tempfile.mkdtemp(prefix="takeda-omics-"))
    try:
        yield folder
    finally:
        control.down(folder)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_restart_keeps_state_and_fails_what_was_under_way(
    own_sandbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from snakemake_executor_takeda.sandbox import control, processes
    from snakemake_executor_takeda.sandbox.omics.supervisor import RUN_MARK

    def up() -> None:
        control.up(own_sandbox, control.Options(services_port=0, moto_port=0))
        for name, value in control.environment(own_sandbox).items():
            monkeypatch.setenv(name, value)

    up()
    cloud = make_cloud()
    flag = tmp_path / "began"
    workflow_id = create(cloud, SLEEP.replace("FLAG", str(flag)))
    assert settled(cloud, workflow_id)["status"] == "ACTIVE"
    run = start(cloud, workflow_id, parameters={})
    wait_for(flag.exists)
    control.down(own_sandbox)
    assert processes.marked(**{RUN_MARK: run["uuid"]}) == []
    up()
    again = make_cloud()
    found = again.omics.get_run(id=run["id"])
    assert (found["status"], found["failureReason"]) == ("FAILED", "SERVICE_ERROR")
    assert again.omics.get_workflow(id=workflow_id)["status"] == "ACTIVE"
