"""Real runs in the sandbox's HealthOmics, by boto3, the AWS CLI and miniwdl-omics-run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError
from omics_client import ROLE, packed, wait_for

from snakemake_executor_takeda.sandbox import control
from snakemake_executor_takeda.sandbox.omics.mishaps import REASONS
from snakemake_executor_takeda.values import TakedaError

pytestmark = pytest.mark.sandbox

COUNT = """version 1.0
workflow count {
  input { Array[File] texts  Int fail = 0 }
  scatter (text in texts) { call lines { input: text = text } }
  call total { input: counts = lines.n, fail = fail }
  output { File sum = total.sum }
}
task lines {
  input { File text }
  command <<< wc -l < ~{text} | tr -d ' ' >>>
  output { Int n = read_int(stdout())  File copy = stdout() }
  runtime { docker: "debian:12"  cpu: 2  memory: "4 GiB" }
}
task total {
  input { Array[Int] counts  Int fail }
  command <<< echo told >&2; echo ~{sep="+" counts} > sum.txt; exit ~{fail} >>>
  output { File sum = "sum.txt" }
  runtime { docker: "debian:12" }
}
"""
META = """version 1.0
workflow meet { call t as one { input: n = 1 } call t as two { input: n = 2 } }
task t {
  input { Int n }
  command <<< date +%s.%N > begin; sleep 0.3; date +%s.%N > end; cat begin end >>>
  output { File o = stdout() }
  runtime { cpu: 4 }
}
"""


@dataclass
class Cloud:
    s3: Any
    omics: Any
    logs: Any
    bucket: str
    folder: Path

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    def text(self, key: str) -> str:
        return str(self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read().decode())

    def keys(self, prefix: str) -> list[str]:
        found = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        return [item["Key"] for item in found.get("Contents", [])]

    def workflow(self, source: str = COUNT, **more: Any) -> str:
        made = self.omics.create_workflow(
            name=f"w-{self.bucket}", definitionZip=packed(main__wdl=source), **more
        )
        wait_for(lambda: self.omics.get_workflow(id=made["id"])["status"] == "ACTIVE")
        return str(made["id"])

    def start(self, workflow_id: str, **more: Any) -> str:
        parameters = {"texts": [self.uri("in/a.txt"), self.uri("in/b.txt")]}
        request = {
            "workflowId": workflow_id,
            "roleArn": ROLE,
            "outputUri": self.uri("runs"),
            "storageType": "DYNAMIC",
            "parameters": parameters,
            **more,
        }
        return str(self.omics.start_run(**request)["id"])

    def ended(self, run_id: str) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            run: dict[str, Any] = self.omics.get_run(id=run_id)
            return run if run["status"] in ("COMPLETED", "FAILED", "CANCELLED") else None

        run: dict[str, Any] = wait_for(found)
        return run

    def log(self, stream: str) -> list[str]:
        found = self.logs.get_log_events(
            logGroupName="/aws/omics/WorkflowLog", logStreamName=stream, startFromHead=True
        )
        return [event["message"] for event in found["events"]]


@cache
def clients(sandbox_dir: Path) -> tuple[Any, Any, Any]:
    """For S3, HealthOmics and logs; building them is a third of a second's work."""
    import boto3

    session = boto3.Session()
    return session.client("s3"), session.client("omics"), session.client("logs")


@pytest.fixture
def cloud(sandbox_env: dict[str, str], sandbox_dir: Path) -> Cloud:
    bucket = f"omics-{uuid.uuid4().hex[:12]}"
    cloud = Cloud(*clients(sandbox_dir), bucket, sandbox_dir)
    cloud.s3.create_bucket(Bucket=bucket)
    for name, text in (("a", "1\n2\n"), ("b", "1\n")):
        cloud.s3.put_object(Bucket=bucket, Key=f"in/{name}.txt", Body=text.encode())
    return cloud


def tasks_of(cloud: Cloud, run_id: str) -> dict[str, dict[str, Any]]:
    """By name, a shard's with its index."""
    return {task["name"]: task for task in cloud.omics.list_run_tasks(id=run_id)["items"]}


def hits(cloud: Cloud, run_id: str) -> dict[str, bool]:
    return {name: task["cacheHit"] for name, task in tasks_of(cloud, run_id).items()}


def test_what_failed_is_not_computed_again(cloud: Cloud) -> None:
    """CACHE_ON_FAILURE: the tasks before the one that failed; nothing of a run that completes."""
    registries = {
        "imageMappings": [{"sourceImage": "debian:12", "destinationImage": "own/debian:12"}],
    }
    workflow_id = cloud.workflow(containerRegistryMap=registries)
    cache = cloud.omics.create_run_cache(cacheS3Location=cloud.uri("cache/"), name="c")["id"]
    texts = [cloud.uri("in/a.txt"), cloud.uri("in/b.txt")]
    first = cloud.start(workflow_id, cacheId=cache, parameters={"texts": texts, "fail": 3})
    run = cloud.ended(first)
    assert (run["status"], run["failureReason"]) == ("FAILED", "RUN_TASK_FAILED")
    assert run["cacheBehavior"] == "CACHE_ON_FAILURE"
    assert set(run["resourceDigests"]) == set(texts)
    assert not any(hits(cloud, first).values())

    tasks = tasks_of(cloud, first)
    detail = cloud.omics.get_run_task(id=first, taskId=tasks["total"]["taskId"])
    assert (detail["status"], detail["failureReason"]) == ("FAILED", "RUN_TASK_FAILED")
    assert detail["imageDetails"] == {"image": "own/debian:12", "sourceImage": "debian:12"}
    shard = cloud.omics.get_run_task(id=first, taskId=tasks["lines-0"]["taskId"])
    assert (shard["cpus"], shard["memory"], shard["instanceType"]) == (2, 4, "omics.c.large")
    assert shard["uuid"]
    assert cloud.log(detail["logStream"].rpartition("log-stream:")[2]) == ["told"]
    entry = shard["cacheS3Uri"]
    assert f"/{first}/{shard['taskId']}/" in entry
    saved = cloud.keys(entry.removeprefix(f"s3://{cloud.bucket}/"))
    assert any(key.endswith("stdout.txt") for key in saved)
    assert any(key.endswith(".json") for key in saved)

    second = cloud.start(workflow_id, cacheId=cache)
    assert cloud.ended(second)["status"] == "COMPLETED"
    assert hits(cloud, second) == {"lines-0": True, "lines-1": True, "total": False}
    assert cloud.text(f"runs/{second}/out/sum/sum.txt") in ("2+1\n", "1+2\n")
    lines = [json.loads(one) for one in cloud.log(f"manifest/run/{second}/{_uuid(cloud, second)}")]
    assert lines[0]["arn"].endswith(f"run/{second}")
    assert sorted(one["cacheHit"] for one in lines[1:]) == [False, True, True]
    assert lines[0]["metrics"]["storageMaximumGiB"] > 0
    assert any("from the run cache" in line for line in cloud.log(f"run/{second}"))

    # what the second run computed is in no cache, as it completed; an input that changed is no hit
    cloud.s3.put_object(Bucket=cloud.bucket, Key="in/b.txt", Body=b"1\n2\n3\n")
    third = cloud.start(workflow_id, cacheId=cache, cacheBehavior="CACHE_ALWAYS")
    assert cloud.ended(third)["status"] == "COMPLETED"
    assert hits(cloud, third) == {"lines-0": True, "lines-1": False, "total": False}
    fourth = cloud.start(workflow_id, cacheId=cache)
    cloud.ended(fourth)
    assert all(hits(cloud, fourth).values())
    assert cloud.text(f"runs/{fourth}/out/sum/sum.txt") == "2+3\n"
    cloud.omics.delete_run_cache(id=cache)
    with pytest.raises(ClientError, match="run cache"):
        cloud.start(workflow_id, cacheId=cache)
    assert cloud.keys("cache/")


def _uuid(cloud: Cloud, run_id: str) -> str:
    return str(cloud.omics.get_run(id=run_id)["uuid"])


def test_a_group_shares_its_cpus_among_its_runs(cloud: Cloud) -> None:
    """Four tasks of four CPUs, two runs, a group of four: never two at a time."""
    workflow_id = cloud.workflow(META)
    group = cloud.omics.create_run_group(name=cloud.bucket, maxCpus=4)["id"]
    runs = [cloud.start(workflow_id, runGroupId=group, parameters={}) for _ in range(2)]
    spans = []
    for run_id in runs:
        assert cloud.ended(run_id)["status"] == "COMPLETED"
        for task in cloud.omics.list_run_tasks(id=run_id)["items"]:
            detail = cloud.omics.get_run_task(id=run_id, taskId=task["taskId"])
            stream = detail["logStream"].rpartition("log-stream:")[2]
            begin, end = (float(line) for line in cloud.log(stream))
            spans.append((begin, end))
    spans.sort()
    assert len(spans) == 4
    assert all(spans[n][1] <= spans[n + 1][0] for n in range(3))


@pytest.fixture
def faults(cloud: Cloud) -> Any:
    yield lambda word, **selectors: control.set_faults(cloud.folder, word, **selectors)
    control.clear_faults(cloud.folder)


def test_a_run_fails_with_the_reason_that_was_asked_for(cloud: Cloud, faults: Any) -> None:
    """One of each phase; `test_omics_parts.py` has them all."""
    workflow_id, mark = cloud.workflow(), uuid.uuid4().hex[:6]
    reasons = ("ASSUME_ROLE_FAILED", "ECR_PERMISSION_ERROR", "OUT_OF_MEMORY_ERROR", "EXPORT_FAILED")
    runs = {}
    for reason in reasons:
        faults(f"omics-failure:{reason}=1", job=f"{mark}-{reason}")
        runs[reason] = cloud.start(workflow_id, name=f"{mark}-{reason}")
    for reason, run_id in runs.items():
        run = cloud.ended(run_id)
        assert (run["status"], run["failureReason"]) == ("FAILED", reason)
        assert run["statusMessage"]
        assert cloud.keys(f"runs/{run_id}/") == []
        tasks = cloud.omics.list_run_tasks(id=run_id)["items"]
        phase = REASONS[reason].phase
        if phase == "import":
            assert tasks == []
        elif phase == "task":
            (task,) = tasks
            detail = cloud.omics.get_run_task(id=run_id, taskId=task["taskId"])
            assert (detail["status"], detail["failureReason"]) == ("FAILED", reason)
        else:
            assert {task["status"] for task in tasks} == {"COMPLETED"}
    injected = control.faults(cloud.folder)["injected"]["omics-failure"]
    assert injected == len(reasons)


def test_an_input_that_changes_meanwhile_fails_the_run(cloud: Cloud, tmp_path: Path) -> None:
    source = COUNT.replace("echo told", f"until [ -e {tmp_path}/go ]; do sleep 0.05; done; echo")
    run_id = cloud.start(cloud.workflow(source))
    wait_for(lambda: "total" in hits(cloud, run_id))
    cloud.s3.put_object(Bucket=cloud.bucket, Key="in/a.txt", Body=b"other\n")
    (tmp_path / "go").touch()
    run = cloud.ended(run_id)
    assert run["failureReason"] == "MODIFIED_INPUT_RESOURCE"
    assert cloud.uri("in/a.txt") in run["statusMessage"]


def test_inputs_are_read_only(cloud: Cloud) -> None:
    source = COUNT.replace("wc -l <", "stat -L -c %a ~{text} >&2; wc -l <")
    run_id = cloud.start(cloud.workflow(source))
    assert cloud.ended(run_id)["status"] == "COMPLETED"
    task = cloud.omics.list_run_tasks(id=run_id)["items"][0]
    assert cloud.log(f"run/{run_id}/task/{task['taskId']}")[-1] == "444"


def test_a_run_cancelled_while_it_works_exports_nothing(cloud: Cloud, tmp_path: Path) -> None:
    source = COUNT.replace("echo told", f"touch {tmp_path}/began; sleep 600; echo")
    run_id = cloud.start(cloud.workflow(source))
    wait_for((tmp_path / "began").exists)
    cloud.omics.cancel_run(id=run_id)
    assert cloud.omics.get_run(id=run_id)["status"] in ("STOPPING", "CANCELLED")
    assert cloud.ended(run_id)["status"] == "CANCELLED"
    assert cloud.keys(f"runs/{run_id}") == []
    tasks = tasks_of(cloud, run_id)
    assert tasks["total"]["status"] == "CANCELLED"
    assert tasks["lines-0"]["status"] == "COMPLETED"


def test_an_answer_that_is_lost_has_started_one_run(cloud: Cloud, faults: Any) -> None:
    import boto3
    from botocore.config import Config

    workflow_id, name = cloud.workflow(), f"lost-{cloud.bucket}"
    once = boto3.Session().client("omics", config=Config(retries={"max_attempts": 0}))
    faults("lost-answer=1", job=name, call="StartRun", times=1)
    hasty = Cloud(cloud.s3, once, cloud.logs, cloud.bucket, cloud.folder)
    with pytest.raises(ConnectionClosedError):
        hasty.start(workflow_id, name=name, requestId=name)
    run_id = hasty.start(workflow_id, name=name, requestId=name)
    assert [item["id"] for item in cloud.omics.list_runs(name=name)["items"]] == [run_id]
    cloud.ended(run_id)


def test_a_batch_of_real_runs_from_s3(cloud: Cloud) -> None:
    settings = [
        {"runSettingId": name, "name": name, "parameters": {"texts": [cloud.uri(f"in/{name}.txt")]}}
        for name in ("a", "b")
    ]
    cloud.s3.put_object(Bucket=cloud.bucket, Key="batch.json", Body=json.dumps(settings).encode())
    made = cloud.omics.start_run_batch(
        defaultRunSetting={
            "workflowId": cloud.workflow(),
            "roleArn": ROLE,
            "outputUri": cloud.uri("runs"),
            "storageType": "DYNAMIC",
        },
        batchRunSettings={"s3UriSettings": cloud.uri("batch.json")},
    )
    wait_for(lambda: cloud.omics.get_batch(batchId=made["id"])["status"] == "PROCESSED")
    pages = cloud.omics.get_paginator("list_runs_in_batch").paginate(batchId=made["id"])
    runs = {row["runSettingId"]: row["runId"] for page in pages for row in page["runs"]}
    sums = {name: cloud.text(f"runs/{runs[name]}/out/sum/sum.txt") for name in runs}
    assert sums == {"a": "2\n", "b": "1\n"}


def test_settings_that_changed_meanwhile_fail_the_batch(cloud: Cloud) -> None:
    def put(text: str) -> None:
        cloud.s3.put_object(Bucket=cloud.bucket, Key="batch.json", Body=text.encode())

    put("{}")
    request = {
        "defaultRunSetting": {
            "workflowId": cloud.workflow(),
            "roleArn": ROLE,
            "outputUri": cloud.uri("runs"),
        },
        "batchRunSettings": {"s3UriSettings": cloud.uri("batch.json")},
    }
    made = cloud.omics.start_run_batch(**request)
    wait_for(lambda: cloud.omics.get_batch(batchId=made["id"])["status"] == "FAILED")
    reason = cloud.omics.get_batch(batchId=made["id"])["failureReason"]
    assert reason.startswith("Invalid JSON format in run configurations")
    with pytest.raises(ClientError, match="cannot be read"):
        request["batchRunSettings"] = {"s3UriSettings": cloud.uri("nowhere.json")}
        cloud.omics.start_run_batch(**request)


def test_events_of_a_run_and_its_tasks(cloud: Cloud) -> None:
    import boto3

    session = boto3.Session()
    events, sqs = session.client("events"), session.client("sqs")
    url = sqs.create_queue(QueueName=cloud.bucket)["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    name = f"told-{cloud.bucket}"
    pattern = {"source": ["aws.omics"], "detail": {"runName": [name]}}
    events.put_rule(Name=cloud.bucket, EventPattern=json.dumps(pattern))
    target = {"Id": "1", "Arn": attributes["Attributes"]["QueueArn"]}
    events.put_targets(Rule=cloud.bucket, Targets=[target])
    try:
        run_id = cloud.start(cloud.workflow(), name=name)
        told: list[dict[str, Any]] = []

        def is_over() -> bool:
            found = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)
            told.extend(json.loads(message["Body"]) for message in found.get("Messages", []))
            return any(one["detail"]["status"] == "COMPLETED" for one in told if not _is_task(one))

        wait_for(is_over)
        of_run = [one["detail"] for one in told if not _is_task(one)]
        assert [one["status"] for one in of_run] == ["PENDING", "STARTING", "RUNNING", "COMPLETED"]
        assert of_run[0]["runOutputUri"] == cloud.uri(f"runs/{run_id}")
        assert {one["runId"] for one in of_run} == {run_id}
        tasks = [one["detail"] for one in told if _is_task(one)]
        assert {one["name"][:7] for one in tasks} == {"lines-0", "lines-1", "total"}
        assert all(one["arn"].split(":")[-1].startswith("task/") for one in tasks)
    finally:
        events.remove_targets(Rule=cloud.bucket, Ids=["1"])
        events.delete_rule(Name=cloud.bucket)


def _is_task(event: dict[str, Any]) -> bool:
    return bool(event["detail-type"] == "Task Status Change")


def test_a_ready2run_stand_in_runs(cloud: Cloud) -> None:
    reads = "@r1\nACGT\n+\nIIII\n"
    for number in (1, 2):
        cloud.s3.put_object(Bucket=cloud.bucket, Key=f"in/{number}.fq", Body=reads.encode())
    run_id = cloud.start(
        "9500764",
        workflowType="READY2RUN",
        parameters={
            "fastq_1": cloud.uri("in/1.fq"),
            "fastq_2": cloud.uri("in/2.fq"),
            "sample": "s1",
        },
    )
    assert cloud.ended(run_id)["status"] == "COMPLETED"
    assert "##reads=2\n" in cloud.text(f"runs/{run_id}/out/vcf/s1.vcf")


def test_a_foreign_client_uses_groups_and_caches(
    cloud: Cloud, sandbox_env: dict[str, str], tmp_path: Path
) -> None:
    """miniwdl-omics-run, unmodified, twice: the second run finds the first one's tasks."""
    (tmp_path / "count.wdl").write_text(COUNT)
    cloud.omics.create_run_group(name=f"g-{cloud.bucket}", maxRuns=1)
    cache = cloud.omics.create_run_cache(cacheS3Location=cloud.uri("cache"), name=cloud.bucket)
    runs = []
    for _ in range(2):
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("miniwdl-omics-run")),
                str(tmp_path / "count.wdl"),
                *(f"texts={cloud.uri(f'in/{name}.txt')}" for name in ("a", "b")),
                *("--role-arn", ROLE, "--output-uri", cloud.uri("foreign")),
                *("--run-group", f"g-{cloud.bucket}", "--cache-id", cache["id"]),
                *("--cache-behavior", "always"),
            ],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **sandbox_env},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        runs.append(json.loads(done.stdout)["runId"])
        run = cloud.ended(runs[-1])
        assert run["status"] == "COMPLETED", run
    assert all(hits(cloud, runs[1]).values())


@pytest.mark.skipif(shutil.which("aws") is None, reason="there is no AWS CLI on PATH")
def test_the_aws_cli(cloud: Cloud, sandbox_env: dict[str, str], tmp_path: Path) -> None:
    def aws(*words: str) -> dict[str, Any]:
        done = subprocess.run(
            ["aws", "omics", *words, "--output", "json"],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **sandbox_env},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout or "{}"))

    group = aws("create-run-group", "--name", cloud.bucket, "--max-runs", "2")["id"]
    assert aws("get-run-group", "--id", group)["maxRuns"] == 2
    run = aws(
        *("start-run", "--workflow-id", "1000001", "--workflow-type", "READY2RUN"),
        *("--role-arn", ROLE, "--output-uri", cloud.uri("cli"), "--storage-type", "DYNAMIC"),
        *("--run-group-id", group, "--priority", "3"),
        *("--parameters", json.dumps({"text": cloud.uri("in/a.txt")})),
    )["id"]
    found = cloud.ended(run)
    assert (found["status"], found["runGroupId"], found["priority"]) == ("COMPLETED", group, 3)
    (task,) = aws("list-run-tasks", "--id", run)["items"]
    assert task["name"] == "count"
    assert cloud.text(f"cli/{run}/out/table/lines.txt") == "2\n"


NEXTFLOW = """#!{python}
import json, os, pathlib, sys
if sys.argv[1] == "-v":
    sys.exit(print("nextflow version 25.10.0.9999"))
given = sys.argv[1:]
params = json.loads(pathlib.Path(given[given.index("-params-file") + 1]).read_text())
config = pathlib.Path(given[given.index("-c") + 1]).read_text()
trace = config.split("file = '")[1].split("'")[0]
work = pathlib.Path(given[given.index("-work-dir") + 1], "ab", "1")
work.mkdir(parents=True)
(work / ".command.log").write_text("counted\\n")
code = int(params.get("fail", 0))
pathlib.Path(trace).write_text(
    "task_id\\thash\\tname\\tstatus\\texit\\tsubmit\\tstart\\tcomplete\\tcpus\\tworkdir\\n"
    f"1\\tab/1\\tcount\\t{{'FAILED' if code else 'COMPLETED'}}\\t{{code}}\\t1000\\t1000\\t2000\\t2"
    f"\\t{{work}}\\n")
if code:
    sys.exit(1)
text = pathlib.Path(params["text"]).read_text()
pathlib.Path("/mnt/workflow/pubdir/sub").mkdir()
pathlib.Path("/mnt/workflow/pubdir/sub/lines.txt").write_text(str(len(text.splitlines())))
pathlib.Path("elsewhere.txt").write_text("not exported")
"""


@pytest.fixture
def nextflow_cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """A sandbox of its own, with a stand-in for `nextflow` on its PATH: a contract, no engine."""
    import boto3

    from snakemake_executor_takeda.sandbox.omics import nextflow

    program = tmp_path / "bin" / "nextflow"
    program.parent.mkdir()
    program.write_text(NEXTFLOW.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    try:
        nextflow.check()
    except TakedaError as error:
        pytest.skip(str(error))
    folder = Path(tempfile.mkdtemp(prefix="takeda-nf-"))
    try:
        control.up(folder, control.Options(services_port=0, moto_port=0))
        for name, value in control.environment(folder).items():
            monkeypatch.setenv(name, value)
        session = boto3.Session()
        clients = [session.client(name) for name in ("s3", "omics", "logs")]
        yield Cloud(*clients, "takeda-sandbox", folder)
    finally:
        control.down(folder)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_nextflow_run_exports_what_it_publishes(nextflow_cloud: Cloud) -> None:
    cloud = nextflow_cloud
    made = cloud.omics.create_workflow(
        engine="NEXTFLOW", definitionZip=packed(main__nf="workflow { }")
    )
    wait_for(lambda: cloud.omics.get_workflow(id=made["id"])["status"] == "ACTIVE")
    cloud.s3.put_object(Bucket=cloud.bucket, Key="in/a.txt", Body=b"1\n2\n")
    run_id = cloud.start(made["id"], parameters={"text": cloud.uri("in/a.txt")})
    run = cloud.ended(run_id)
    assert run["status"] == "COMPLETED", run
    assert run["engineVersion"] == "25.10.0"
    assert cloud.keys(f"runs/{run_id}/") == [f"runs/{run_id}/pubdir/sub/lines.txt"]
    assert cloud.text(f"runs/{run_id}/pubdir/sub/lines.txt") == "2"
    (task,) = cloud.omics.list_run_tasks(id=run_id)["items"]
    assert (task["name"], task["cpus"], task["status"]) == ("count", 2, "COMPLETED")
    assert cloud.log(f"run/{run_id}/task/{task['taskId']}") == ["counted"]
    failed = cloud.start(made["id"], parameters={"fail": 137})
    assert cloud.ended(failed)["failureReason"] == "OUT_OF_MEMORY_ERROR"
    assert cloud.keys(f"runs/{failed}/") == []
    assert not Path("/mnt/workflow/pubdir/sub").exists()


def test_without_nextflow_a_workflow_fails_and_says_why(cloud: Cloud) -> None:
    if shutil.which("nextflow"):
        pytest.skip("there is a nextflow on PATH")
    made = cloud.omics.create_workflow(engine="NEXTFLOW", definitionZip=packed(main__nf="x"))
    wait_for(lambda: cloud.omics.get_workflow(id=made["id"])["status"] == "FAILED")
    said = cloud.omics.get_workflow(id=made["id"])["statusMessage"]
    assert "found no `nextflow` on the PATH of `takeda sandbox up`" in said
