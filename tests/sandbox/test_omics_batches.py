"""Batches of runs: submission, counts, what fails, cancelling, deleting, restarts."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from omics_client import Engine, Omics, wait_for


@pytest.fixture
def make_omics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Omics]]:
    made: list[Omics] = []

    def make() -> Omics:
        made.append(Omics(tmp_path, Engine(), monkeypatch))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def omics(make_omics: Callable[[], Omics]) -> Omics:
    return make_omics()


def rows(omics: Omics, batch_id: str, **filters: str) -> dict[str, dict[str, str]]:
    found = omics.call("ListRunsInBatch", batchId=batch_id, **filters)["runs"]
    return {row["runSettingId"]: row for row in found}


def test_a_batch_from_creating_to_processed(omics: Omics) -> None:
    omics.engine.is_open = True
    workflow_id = omics.workflow()
    request = omics.batch_request(
        workflow_id, ["a", "b", "c"], runTags={"all": "1", "one": "1"}, parameters={"who": "all"}
    )
    request["batchRunSettings"]["inlineSettings"][1] |= {
        "runTags": {"one": "2"},
        "parameters": {"who": "b"},
        "priority": 7,
    }
    made = omics.call("StartRunBatch", **request, tags={"project": "p"})
    assert made["status"] == "CREATING"
    batch_id = made["id"]
    wait_for(lambda: omics.batch_status(batch_id) == "PROCESSED")
    found = omics.call("GetBatch", batchId=batch_id)
    assert (found["name"], found["totalRuns"], found["uuid"]) == ("cohort", 3, made["uuid"])
    assert found["submissionSummary"]["successfulStartSubmissionCount"] == 3
    assert found["runSummary"]["completedRunCount"] == 3
    assert found["processedTime"] >= found["submittedTime"] >= found["creationTime"]
    run = omics.call("GetRun", id=rows(omics, batch_id)["b"]["runId"])
    assert run["batchId"] == batch_id
    assert (run["name"], run["priority"], run["parameters"]) == ("b", 7, {"who": "b"})
    assert run["tags"] == {"all": "1", "one": "2"}
    assert omics.call("ListTagsForResource", resourceArn=made["arn"])["tags"] == {"project": "p"}
    listed = omics.call("ListRuns", batchId=batch_id)["items"]
    assert [item["name"] for item in listed] == ["c", "b", "a"]
    assert {item["batchId"] for item in listed} == {batch_id}
    said = [
        event["detail"]["status"]
        for event in omics.bus.events
        if event["detail-type"] == "RunBatch Status Change"
    ]
    assert said == ["CREATING", "PENDING", "SUBMITTING", "INPROGRESS", "PROCESSED"]


def test_one_request_is_one_batch(omics: Omics) -> None:
    request = omics.batch_request(omics.workflow(), ["a"])
    first = omics.call("StartRunBatch", requestId="t", **request)
    assert omics.call("StartRunBatch", requestId="t", **request)["id"] == first["id"]
    request["batchName"] = "other"
    assert omics.error("StartRunBatch", requestId="t", **request)[0] == "ConflictException"
    assert len(omics.call("ListBatch")["items"]) == 1


def test_a_run_that_is_refused_does_not_stop_the_others(omics: Omics) -> None:
    omics.engine.is_open = True
    request = omics.batch_request(omics.workflow(), ["good", "bad", "nowhere"])
    settings = request["batchRunSettings"]["inlineSettings"]
    settings[1]["parameters"] = {"whom": "x"}
    settings[2]["outputUri"] = "s3://missing/x"
    batch_id = omics.call("StartRunBatch", **request)["id"]
    wait_for(lambda: omics.batch_status(batch_id) == "PROCESSED")
    failed = rows(omics, batch_id, submissionStatus="FAILED")
    assert set(failed) == {"bad", "nowhere"}
    assert failed["bad"]["submissionFailureReason"] == "ValidationException"
    assert "whom" in failed["bad"]["submissionFailureMessage"]
    assert "runId" not in failed["bad"]
    found = omics.call("GetBatch", batchId=batch_id)["submissionSummary"]
    assert found["failedStartSubmissionCount"] == 2
    assert found["successfulStartSubmissionCount"] == 1


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"workflowId": "1"}, "ResourceNotFoundException", "workflow 1"),
        ({"workflowType": "READY2RUN"}, "ValidationException", "Ready2Run"),
        ({"roleArn": "arn:aws:s3:::b"}, "ValidationException", "IAM role"),
        ({"outputUri": "s3://missing/x"}, "ValidationException", "does not exist"),
        ({"runGroupId": "9"}, "ResourceNotFoundException", "run group 9"),
        ({"cacheBehavior": "CACHE_ALWAYS"}, "ValidationException", "cacheId"),
    ],
)
def test_what_all_runs_share_is_checked_at_once(
    omics: Omics, change: dict[str, str], code: str, says: str
) -> None:
    request = omics.batch_request(omics.workflow(), ["a"], **change)
    found, message = omics.error("StartRunBatch", **request)
    assert (found, says in message) == (code, True)


def test_settings_are_one_of_two_and_at_most_a_hundred(omics: Omics) -> None:
    request = omics.batch_request(omics.workflow(), [])
    request["batchRunSettings"] = {}
    assert "inlineSettings, s3UriSettings" in omics.error("StartRunBatch", **request)[1]
    names = [{"runSettingId": f"r{number}"} for number in range(101)]
    request["batchRunSettings"] = {"inlineSettings": names}
    assert "less than or equal to 100" in omics.error("StartRunBatch", **request)[1]


def test_the_same_setting_twice_fails_the_batch(omics: Omics) -> None:
    batch_id = omics.batch(omics.workflow(), ["a", "a"])
    wait_for(lambda: omics.batch_status(batch_id) == "FAILED")
    found = omics.call("GetBatch", batchId=batch_id)
    assert found["failureReason"] == "Expected 2 unique runSettingIds but there were 1"
    assert found["failedTime"]
    assert omics.bus.events[-1]["detail"]["failureReason"] == "VALIDATION_EXCEPTION"
    assert omics.error("CancelRunBatch", batchId=batch_id)[0] == "ConflictException"
    omics.call("DeleteBatch", batchId=batch_id)
    assert omics.error("GetBatch", batchId=batch_id)[0] == "ResourceNotFoundException"


def test_cancelling_stops_runs_and_those_never_submitted(omics: Omics) -> None:
    omics.set_fault("omics-quotas=0.5", call="StartRun")
    batch_id = omics.batch(omics.workflow(), ["a", "b", "c"])
    wait_for(lambda: rows(omics, batch_id))
    omics.faults.clear()
    omics.set_fault("omics-quotas=0.001", call="StartRun")
    assert omics.error("DeleteRunBatch", batchId=batch_id)[0] == "ConflictException"
    omics.call("CancelRunBatch", batchId=batch_id)
    wait_for(lambda: omics.batch_status(batch_id) == "CANCELLED")
    found = omics.call("GetBatch", batchId=batch_id)
    assert found["submissionSummary"]["successfulCancelSubmissionCount"] == 3
    assert found["runSummary"]["cancelledRunCount"] == 1
    assert {row["submissionStatus"] for row in rows(omics, batch_id).values()} == {"CANCEL_SUCCESS"}


def test_runs_are_deleted_apart_from_their_batch(omics: Omics) -> None:
    omics.engine.is_open = True
    batch_id = omics.batch(omics.workflow(), ["a", "b"])
    wait_for(lambda: omics.batch_status(batch_id) == "PROCESSED")
    run_id = rows(omics, batch_id)["a"]["runId"]
    omics.call("DeleteRunBatch", batchId=batch_id)
    wait_for(lambda: omics.batch_status(batch_id) == "RUNS_DELETED")
    assert omics.error("GetRun", id=run_id)[0] == "ResourceNotFoundException"
    found = omics.call("GetBatch", batchId=batch_id)
    assert found["runSummary"]["deletedRunCount"] == 2
    assert found["submissionSummary"]["successfulDeleteSubmissionCount"] == 2


def test_lists_take_one_filter(omics: Omics) -> None:
    workflow_id = omics.workflow()
    ids = [omics.batch(workflow_id, ["a"]) for _ in range(3)]
    page = omics.call("ListBatch", maxItems=2)
    assert [item["id"] for item in page["items"]] == ids[:0:-1]
    rest = omics.call("ListBatch", maxItems=2, startingToken=page["nextToken"])
    assert [item["id"] for item in rest["items"]] == ids[:1]
    assert "one filter" in omics.error("ListBatch", name="cohort", status="FAILED")[1]
    omics.engine.is_open = True


@pytest.mark.parametrize("died", [False, True])
def test_a_batch_goes_on_after_a_restart(omics: Omics, died: bool) -> None:
    """Each run is started once, be it before or after."""
    omics.set_fault("omics-quotas=0.5", call="StartRun")
    batch_id = omics.batch(omics.workflow(), ["a", "b", "c"])
    wait_for(lambda: rows(omics, batch_id))
    omics.stop()
    omics.faults.clear()
    if died:  # after the run had been started, before that was written down
        with sqlite3.connect(omics.folder / "state.sqlite") as connection:
            connection.execute("delete from omics_records where kind = 'batchrun'")
        connection.close()
    omics.engine.is_open = True
    omics.start()
    wait_for(lambda: omics.batch_status(batch_id) == "PROCESSED")
    names = sorted(item["name"] for item in omics.call("ListRuns")["items"])
    assert names == ["a", "b", "c"]
    assert set(rows(omics, batch_id)) == {"a", "b", "c"}
