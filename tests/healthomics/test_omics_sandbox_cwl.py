"""The sandbox's HealthOmics runs CWL: outputs as AWS documents them, tasks, logs, failures, an end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.healthomics.conftest import Cloud, wait_for
from tests.healthomics.test_omics_sandbox import ended, packed, settled, start

pytest.importorskip("cwltool", reason="cwltool is not installed: pip install '.[cwl]'")
pytestmark = pytest.mark.sandbox

MAIN = """cwlVersion: v1.2
class: Workflow
label: Two steps
inputs:
  text: {type: File, label: what is read}
  status: {type: int, default: 0}
  seconds: {type: int, default: 0}
outputs:
  made: {type: File, outputSource: say/made}
  number: {type: int, outputSource: count/number}
steps:
  say:
    in: {text: text}
    out: [made]
    run:
      class: CommandLineTool
      hints:
        ResourceRequirement: {coresMin: 4, ramMin: 8192}
        DockerRequirement: {dockerPull: "123456789012.dkr.ecr.us-east-1.amazonaws.com/tools:1"}
      baseCommand: [sh, -c, 'cat "$0"; echo "to stderr" >&2']
      inputs: {text: {type: File, inputBinding: {position: 1}}}
      stdout: made.txt
      outputs: {made: stdout}
  count:
    in: {made: say/made, status: status, seconds: seconds}
    out: [number]
    run:
      class: CommandLineTool
      baseCommand: [sh, -c, 'echo counting; sleep "$1"; echo "{\\"number\\": 3}" > cwl.output.json; exit "$0"']
      inputs:
        made: File
        status: {type: int, inputBinding: {position: 1}}
        seconds: {type: int, inputBinding: {position: 2}}
      outputs: {number: int}
"""


@pytest.fixture
def workflow_id(cloud: Cloud) -> str:
    reply = cloud.omics.create_workflow(engine="CWL", definitionZip=packed(main__cwl=MAIN))
    found = settled(cloud, reply["id"])
    assert (found["status"], found["main"]) == ("ACTIVE", "main.cwl"), found.get("statusMessage")
    assert {name: one["optional"] for name, one in found["parameterTemplate"].items()} == {
        "text": False,
        "status": True,
        "seconds": True,
    }
    return str(reply["id"])


def events(stream: str) -> str:
    import boto3

    found = (
        boto3.Session()
        .client("logs")
        .get_log_events(
            logGroupName="/aws/omics/WorkflowLog", logStreamName=stream, startFromHead=True
        )
    )
    return "\n".join(event["message"] for event in found["events"])


def begin(cloud: Cloud, workflow_id: str, **more: Any) -> str:
    text = {"class": "File", "location": cloud.uri("in/one.txt")}
    return str(start(cloud, workflow_id, parameters={"text": text, **more})["id"])


def test_a_run_its_tasks_and_its_logs(cloud: Cloud, workflow_id: str) -> None:
    run_id = begin(cloud, workflow_id)
    run = ended(cloud, run_id)
    assert run["status"] == "COMPLETED", run.get("statusMessage")
    assert json.loads(cloud.text(f"runs/{run_id}/logs/outputs.json")) == {
        "made": {
            "class": "File",
            "location": cloud.uri(f"runs/{run_id}/out/made.txt"),
            "basename": "made.txt",
            "size": 8,
        },
        "number": 3,
    }
    assert cloud.text(f"runs/{run_id}/out/made.txt") == "a b c a\n"
    assert list(run["resourceDigests"]) == [cloud.uri("in/one.txt")]
    tasks = {one["name"]: one for one in cloud.omics.list_run_tasks(id=run_id)["items"]}
    assert {name: one["status"] for name, one in tasks.items()} == {
        "say": "COMPLETED",
        "count": "COMPLETED",
    }
    assert (tasks["say"]["cpus"], tasks["say"]["memory"]) == (4, 8)
    assert "to stderr" in events(f"run/{run_id}/task/{tasks['say']['taskId']}")
    assert "counting" in events(f"run/{run_id}/task/{tasks['count']['taskId']}")
    assert "[step count]" in events(f"run/{run_id}/engine")


def test_a_failed_task_fails_the_run(cloud: Cloud, workflow_id: str) -> None:
    run_id = begin(cloud, workflow_id, status=4)
    run = ended(cloud, run_id)
    assert (run["status"], run["failureReason"]) == ("FAILED", "RUN_TASK_FAILED")
    assert "count: the command failed with exit status 4" in run["statusMessage"]
    failed = cloud.omics.list_run_tasks(id=run_id, status="FAILED")["items"]
    assert [one["name"] for one in failed] == ["count"]


def test_a_cancelled_run_ends_its_tasks(cloud: Cloud, workflow_id: str) -> None:
    run_id = begin(cloud, workflow_id, seconds=1000)

    def counting() -> bool:
        tasks = cloud.omics.list_run_tasks(id=run_id)["items"]
        return any(one["name"] == "count" and one["status"] == "RUNNING" for one in tasks)

    wait_for(counting)
    cloud.omics.cancel_run(id=run_id)
    assert ended(cloud, run_id)["status"] == "CANCELLED"
    assert cloud.keys(f"runs/{run_id}/out") == []
    statuses = {
        one["name"]: one["status"] for one in cloud.omics.list_run_tasks(id=run_id)["items"]
    }
    assert statuses == {"say": "COMPLETED", "count": "CANCELLED"}
