"""The stub runner: jobs go through all of their states, and nothing is run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from batch_client import Batch
from botocore import session

from snakemake_executor_takeda.sandbox.batch.runners import StubRunner
from snakemake_executor_takeda.sandbox.constraints import problems


def test_an_array_ends_well_without_a_process(
    make_batch: Callable[..., Batch], tmp_path: Path
) -> None:
    batch = make_batch(vcpus=3, runner=StubRunner(tmp_path, ""))
    trace = tmp_path / "trace"
    parent = batch.until(batch.submit("touch", str(trace), size=20))
    assert parent["status"] == "SUCCEEDED"
    assert parent["arrayProperties"]["statusSummary"]["SUCCEEDED"] == 20
    child = batch.job(f"{parent['jobId']}:7")
    assert child["container"]["exitCode"] == 0
    assert child["container"]["logStreamName"] is None
    assert child["startedAt"] <= child["stoppedAt"]
    assert not trace.exists()


def test_an_empty_map_of_tags_is_taken() -> None:
    operation = session.get_session().get_service_model("batch").operation_model("SubmitJob")
    request = {"jobName": "j", "jobQueue": "q", "jobDefinition": "d", "tags": {}}
    assert problems(request, operation.input_shape) == []
    many = {str(n): "" for n in range(51)}
    assert problems({**request, "tags": many}, operation.input_shape)
