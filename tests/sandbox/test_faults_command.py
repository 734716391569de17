"""`takeda sandbox faults` as a user types it, and what unmodified boto3 sees of it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_takeda.cli import main
from snakemake_executor_takeda.sandbox import control, processes

pytestmark = pytest.mark.sandbox


@pytest.fixture
def faulty(sandbox_env: dict[str, str], sandbox_dir: Path) -> Iterator[Path]:
    """The session's sandbox; no fault is left in it."""
    yield sandbox_dir
    control.clear_faults(sandbox_dir)


def takeda(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(["sandbox", "faults", *words])
    said = capsys.readouterr()
    return status, said.out, said.err


def client(mode: str = "standard", attempts: int = 1, **config: Any) -> Any:
    import boto3
    from botocore.config import Config

    retries = {"mode": mode, "total_max_attempts": attempts}
    return boto3.client("batch", config=Config(retries=retries, **config))


def test_set_show_clear(faulty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert takeda(capsys)[1].startswith("No faults are set.")
    status, said, _ = takeda(
        capsys, "set", "spot-reclaim=0.3", "throttling=1", "--rule", "align", "--seed", "7"
    )
    assert status == 0
    assert [line.split() for line in said.splitlines()][1:] == [
        ["spot-reclaim:absent", "0.3", "rule", "align", "7", "0"],
        ["throttling:TooManyRequestsException", "1", "rule", "align", "7", "0"],
    ]
    takeda(capsys, "set", "throttling=0.5", "--call", "Describe*")
    facts = json.loads(takeda(capsys, "--json")[1])
    assert len(facts["faults"]) == 3
    assert facts == control.faults(faulty)
    assert takeda(capsys, "clear", "spot-reclaim")[1].count("throttling") == 2
    assert takeda(capsys, "clear")[1].startswith("No faults are set.")


def test_mistakes(faulty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert takeda(capsys, "set", "throttlin=1")[::2] == (
        1,
        "takeda: there is no fault 'throttlin'. Did you mean throttling?\n",
    )
    status, _, said = takeda(capsys, "set", "throttling=1", "--call", "SubmitJobs")
    assert (status, "Did you mean SubmitJob?" in said) == (1, True)
    assert takeda(capsys, "clear", "nothing")[0] == 1
    assert "no sandbox runs" in takeda(capsys, "--dir", "/nonexistent/sandbox")[2]


def test_help_has_an_example_and_every_fault(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["sandbox", "faults", "set", "--help"])
    said = capsys.readouterr().out
    assert "example: takeda sandbox faults set spot-reclaim=0.3" in said
    assert "blocked-queue=RATE" in said


@pytest.mark.parametrize(
    ("word", "code", "http"),
    [
        ("throttling", "TooManyRequestsException", 429),
        ("throttling:ThrottlingException", "ThrottlingException", 429),
        ("server-error", "ServerException", 500),
        ("server-error:503", "ServerException", 503),
        ("lost-answer:500", "ServerException", 500),
    ],
)
def test_calls_that_fail(faulty: Path, word: str, code: str, http: int) -> None:
    from botocore.exceptions import ClientError

    kind = word.partition(":")[0]
    control.set_faults(faulty, f"{word}=1")
    with pytest.raises(ClientError) as caught:
        client().describe_job_queues()
    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == http
    assert control.faults(faulty)["injected"] == {kind: 1}
    control.set_faults(faulty, f"{word}=0")
    assert client().describe_job_queues()["jobQueues"]
    assert control.faults(faulty)["injected"] == {kind: 0}


@pytest.mark.parametrize("word", ["throttling", "server-error", "lost-answer"])
@pytest.mark.parametrize("mode", ["standard", "adaptive"])
def test_boto3_retries_them(faulty: Path, mode: str, word: str) -> None:
    control.set_faults(faulty, f"{word}=1", times=1)
    assert client(mode, attempts=2).describe_job_queues()["jobQueues"]
    assert control.faults(faulty)["injected"] == {word: 1}


def test_a_lost_answer_is_to_a_call_that_was_done(faulty: Path) -> None:
    from botocore.exceptions import ConnectionClosedError

    batch = client()
    needs = [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}]
    batch.register_job_definition(
        jobDefinitionName="lost",
        type="container",
        containerProperties={"image": "i", "command": ["true"], "resourceRequirements": needs},
    )
    control.set_faults(faulty, "lost-answer=1", rule="lost", call="SubmitJob")
    job = {"jobQueue": "takeda-sandbox", "jobDefinition": "lost"}
    batch.submit_job(jobName="other", **job)
    with pytest.raises(ConnectionClosedError):
        batch.submit_job(jobName="lost-one", tags={"takeda:rule": "lost"}, **job)
    found = batch.list_jobs(
        jobQueue="takeda-sandbox", filters=[{"name": "JOB_NAME", "values": ["lost-one"]}]
    )
    assert len(found["jobSummaryList"]) == 1


def test_latency_is_waited(faulty: Path) -> None:
    from botocore.exceptions import ReadTimeoutError

    control.set_faults(faulty, "latency=2", call="ListJobs")
    hasty = client(read_timeout=1)
    assert hasty.describe_job_queues()["jobQueues"]
    with pytest.raises(ReadTimeoutError):
        hasty.list_jobs(jobQueue="takeda-sandbox")
    assert control.faults(faulty)["injected"] == {"latency": 1}


def test_faults_outlive_a_killed_daemon_and_end_with_down(tmp_path: Path) -> None:
    options = control.Options(services_port=0, moto_port=0, vcpus=1, memory_mib=512)
    try:
        found, _ = control.up(tmp_path, options)
        control.set_faults(tmp_path, "timeout=0.3", rule="align", seed=7)
        os.kill(found.pid, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while processes.is_running(found.pid):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        control.up(tmp_path, options)
        (fault,) = control.faults(tmp_path)["faults"]
        assert (fault["fault"], fault["rule"], fault["seed"]) == ("timeout", "align", 7)
        control.down(tmp_path)
        control.up(tmp_path, options)
        assert control.faults(tmp_path)["faults"] == []
    finally:
        control.down(tmp_path)
