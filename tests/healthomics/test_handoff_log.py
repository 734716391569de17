"""The task table, the rule's log, and the copy of large objects within S3."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from snakemake_executor_takeda.backends.healthomics import delivery
from snakemake_executor_takeda.backends.healthomics.definition import Delivery
from snakemake_executor_takeda.backends.healthomics.task_table import COLUMNS, log_of, table
from snakemake_executor_takeda.values import File

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TASKS: list[dict[str, Any]] = [
    {
        "taskId": "1",
        "name": "align-0",
        "status": "COMPLETED",
        "cpus": 4,
        "memory": 16,
        "gpus": 0,
        "instanceType": "omics.m.xlarge",
        "startTime": NOON,
        "stopTime": NOON + timedelta(seconds=90),
        "cacheHit": True,
    },
    {"taskId": "2", "name": "call\tall", "status": "RUNNING", "cpus": 1, "memory": 2},
]


def test_the_table_has_a_line_for_each_task() -> None:
    lines = [line.split("\t") for line in table(TASKS).splitlines()]
    assert lines == [
        list(COLUMNS),
        ["align-0", "COMPLETED", "4", "16", "0", "omics.m.xlarge", "90", "yes"],
        ["call all", "RUNNING", "1", "2", "-", "-", "-", "-"],
    ]


def test_the_log_has_facts_tasks_and_lines() -> None:
    run = {
        "id": "7",
        "uuid": "u",
        "status": "FAILED",
        "workflowName": "takeda-w",
        "workflowVersionName": "c-1",
        "runOutputUri": "s3://b/7",
        "creationTime": NOON,
    }
    text = log_of(run, TASKS, {"run/7/engine": ["began", "ended"]}, "RUN_TASK_FAILED")
    assert "workflow: takeda-w c-1\nreason: RUN_TASK_FAILED\noutputs: s3://b/7\n" in text
    assert "created: 2026-01-01T12:00:00+00:00\n" in text
    assert f"== tasks\n{table(TASKS)}" in text
    assert text.endswith("== run/7/engine\nbegan\nended\n")
    assert "none was begun" in log_of(run, [], {})


@pytest.fixture
def s3() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client(
            "s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
        )
        client.create_bucket(Bucket="here")
        client.create_bucket(Bucket="there")
        yield client


def test_a_log_goes_to_s3_or_below_the_working_directory(s3: Any, tmp_path: Path) -> None:
    delivery.write_log(s3, File("x", "s3://there/logs/a.log"), tmp_path, "said\n")
    assert s3.get_object(Bucket="there", Key="logs/a.log")["Body"].read() == b"said\n"
    delivery.write_log(s3, File("logs/b.log", None), tmp_path, "said\n")
    assert (tmp_path / "logs/b.log").read_text() == "said\n"


def test_a_large_object_is_copied_part_by_part_within_s3(
    s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With small parts; one CopyObject ends at 5 GiB."""
    mebibyte = 1 << 20
    monkeypatch.setattr(delivery, "_MULTIPART_FROM_BYTES", 6 * mebibyte)
    monkeypatch.setattr(delivery, "_PART_BYTES", 5 * mebibyte)
    body = bytes(range(256)) * (11 * mebibyte // 256)
    s3.put_object(Bucket="here", Key="run/large", Body=body)
    s3.put_object(Bucket="here", Key="run/small", Body=b"small")
    calls: list[str] = []
    s3.meta.events.register("before-call.s3", lambda model, **_: calls.append(model.name))
    delivery.deliver(
        s3,
        [
            Delivery("s3://here/run/large", File("l", "s3://there/out/large")),
            Delivery("s3://here/run/small", File("s", "s3://there/out/small")),
        ],
    )
    assert calls.count("UploadPartCopy") == 3
    assert calls.count("CompleteMultipartUpload") == 1
    assert calls.count("CopyObject") == 1
    assert not {"GetObject", "UploadPart", "PutObject"} & set(calls), "nothing comes through here"
    assert s3.get_object(Bucket="there", Key="out/large")["Body"].read() == body
    assert s3.get_object(Bucket="there", Key="out/small")["Body"].read() == b"small"


def test_the_real_sizes_stay_within_what_s3_takes() -> None:
    gibibyte = 1 << 30
    assert 5 * gibibyte >= delivery._MULTIPART_FROM_BYTES
    # 10,000 parts at most; s3transfer makes parts larger where an object needs more.
    assert 2_000 * gibibyte <= delivery._PART_BYTES * 10_000


def test_all_that_a_run_left_apart_from_its_logs(s3: Any) -> None:
    for key in ("r/7/out/a.vcf", "r/7/logs/engine.log", "r/70/other"):
        s3.put_object(Bucket="here", Key=key, Body=b"x")
    assert delivery.all_outputs(s3, "s3://here/r/7") == {"out/a.vcf": "s3://here/r/7/out/a.vcf"}
