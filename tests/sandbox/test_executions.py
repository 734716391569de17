"""The sandbox's own record of what ran: it stays when jobs and runs are forgotten."""

from __future__ import annotations

import json
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import boto3
import pytest
from batch_client import Batch
from omics_client import ROLE, WDL, wait_for

from snakemake_executor_takeda.cli import main
from snakemake_executor_takeda.sandbox.executions import executions, slurm_executions

LINE = (
    "JobId={id} UserId=root(0) GroupId=root(0) Name={name} JobState={state} Partition=hpc TimeLimit=5 "
    "StartTime={start} EndTime=2026-11-22T02:23:24 NodeList={nodes} NodeCnt=1 ProcCnt=1 WorkDir=/tmp/a b "
    "ReservationName= Tres=cpu=1,mem=200M Account= QOS= WcKey= Cluster=unknown "
    "SubmitTime=2026-11-22T02:23:20 EligibleTime=2026-11-22T02:23:20{array} DerivedExitCode=0:0 "
    "ExitCode=0:0 \n"
)
JOB = {
    "id": 3,
    "name": "takeda-distances",
    "state": "COMPLETED",
    "start": "2026-11-22T02:23:20",
    "nodes": "node-1",
    "array": "",
}


def write(state_dir: Path, *jobs: dict[str, object], then: str = "") -> None:
    (state_dir / "slurm").mkdir()
    text = "".join(LINE.format(**{**JOB, **job}) for job in jobs)
    (state_dir / "slurm" / "jobcomp.txt").write_text(text + then)


def test_slurms_own_log_is_read(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"id": 3, "array": " ArrayJobId=2 ArrayTaskId=0"},
        {"id": 4, "state": "NODE_FAIL"},
        then="JobId=5 UserId=ro",
    )
    one, other = slurm_executions(tmp_path)
    assert (one.external_id, one.name, one.succeeded) == ("2_0", "takeda-distances", True)
    assert one.ended_at is not None
    assert one.ended_at - one.started_at == 4
    assert (other.external_id, other.succeeded, other.said) == ("4", False, "NODE_FAIL")


def test_a_slurm_job_that_never_began_did_not_run(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"state": "CANCELLED", "start": "Unknown"},
        {"state": "CANCELLED", "nodes": "(null)"},
    )
    assert slurm_executions(tmp_path) == []


def test_nothing_has_run_where_there_is_no_sandbox(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert executions(tmp_path) == []
    assert main(["sandbox", "executions", "--dir", str(tmp_path)]) == 0
    assert "Nothing has run" in capsys.readouterr().out


def test_each_attempt_of_a_batch_job_is_on_record(batch: Batch) -> None:
    code = "import os; exit(os.environ['AWS_BATCH_JOB_ATTEMPT'] == '1')"
    job_id = batch.submit(
        jobName="twice",
        containerOverrides={"command": [sys.executable, "-c", code]},
        retryStrategy={"attempts": 2},
    )
    ended = lambda: [one for one in executions(batch.state_dir) if one.ended_at]  # noqa: E731
    first, second = wait_for(lambda: len(ended()) == 2 and ended())
    assert (second.attempt, second.succeeded) == (2, True)
    assert (first.backend, first.external_id, first.name) == ("batch", job_id, "twice")
    assert first.succeeded is False
    assert first.said.startswith("exit code 1: ")


@pytest.mark.sandbox
def test_a_run_stays_on_record_when_it_is_deleted(
    sandbox_env: dict[str, str], sandbox_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    omics, package = boto3.Session().client("omics"), BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("main.wdl", WDL)
    workflow_id = omics.create_workflow(
        name="on-record", engine="WDL", main="main.wdl", definitionZip=package.getvalue()
    )["id"]
    wait_for(lambda: omics.get_workflow(id=workflow_id)["status"] == "ACTIVE")
    run_id = omics.start_run(
        workflowId=workflow_id,
        name="recorded",
        roleArn=ROLE,
        outputUri="s3://takeda-sandbox/runs",
        storageType="DYNAMIC",
    )["id"]
    wait_for(lambda: omics.get_run(id=run_id)["status"] == "COMPLETED")
    omics.delete_run(id=run_id)
    assert main(["sandbox", "executions", "--json", "--dir", str(sandbox_dir)]) == 0
    listed = json.loads(capsys.readouterr().out)
    (found,) = [one for one in listed if one["external_id"] == run_id and one["name"] == "recorded"]
    assert found["backend"] == "healthomics"
    assert found["succeeded"] is True
    assert found["ended_at"] > found["started_at"]
