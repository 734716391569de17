"""Runs start exactly once, whatever is lost between this machine and HealthOmics."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.healthomics import batches
from snakemake_executor_takeda.backends.healthomics.journal import Entry, Journal
from snakemake_executor_takeda.backends.healthomics.options import HealthOmicsOptions
from snakemake_executor_takeda.backends.healthomics.registry import Registered
from snakemake_executor_takeda.backends.healthomics.requests import RunRequest
from snakemake_executor_takeda.backends.healthomics.starting import (
    Handle,
    Spent,
    Starter,
    Throttled,
    Unanswered,
    Wanted,
)
from tests.healthomics.conftest import job
from tests.healthomics.omics_in_process import Bucket, Wire
from tests.sandbox.omics_client import ROLE, Engine, Omics, wait_for


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    made = Bucket()
    monkeypatch.setattr(
        "snakemake_executor_takeda.sandbox.omics.batches.sandbox_s3", lambda context: made
    )
    return made


@pytest.fixture
def wire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    (tmp_path / "omics").mkdir()
    omics = Omics(tmp_path / "omics", Engine(), monkeypatch)
    yield Wire(omics)
    omics.engine.is_open = True
    omics.stop()


@pytest.fixture
def workflow_id(wire: Wire) -> str:
    return wire.omics.workflow()


class Controllers:
    """Controllers that share a working directory, or have one each."""

    def __init__(self, wire: Wire, folder: Path, bucket: Bucket) -> None:
        self.wire = wire
        self.bucket: Any = bucket
        self.folder = folder
        self.made = 0

    def __call__(self, workdir: str = "work") -> Starter:
        self.made += 1
        client = self.wire.client()
        journal = Journal(self.folder / workdir / "ledger.sqlite")
        return Starter(client, client, lambda: self.bucket, journal, f"run-{self.made}")


@pytest.fixture
def controller(wire: Wire, tmp_path: Path, bucket: Bucket) -> Controllers:
    return Controllers(wire, tmp_path, bucket)


def wanted(workflow_id: str, number: int = 0, *, intact: bool = True, **options: Any) -> Wanted:
    one = job("main.wdl", outputs={"o": [f"s3://bucket/{number}"]})
    request = RunRequest(
        Registered(workflow_id, None),
        {"who": f"w{number}"},
        (),
        replace(one, wildcards={"n": str(number)}),
        HealthOmicsOptions(role_arn=ROLE, output_uri="s3://bucket/runs", **options),
    )
    return Wanted(request, lambda run: intact)


def go(starter: Starter, one: Wanted) -> Handle:
    (found,) = starter.look_up([one])
    while isinstance(found, int):
        found = starter.start(one, found)
    return found


def runs(wire: Wire) -> list[str]:
    return [item["id"] for item in wire.omics.call("ListRuns")["items"]]


def end(wire: Wire, handle: Handle, status: str) -> None:
    assert handle.run_id is not None
    if status == "CANCELLED":
        wire.omics.call("CancelRun", id=handle.run_id)
    else:
        wire.omics.engine.end()
    wait_for(lambda: wire.omics.run_status(handle.run_id or "") == status)


def test_a_new_run_takes_two_calls(wire: Wire, workflow_id: str, controller: Controllers) -> None:
    handle = go(controller(), wanted(workflow_id))
    assert runs(wire) == [handle.run_id]
    assert not handle.adopted
    assert dict(wire.calls) == {"ListRuns": 1, "StartRun": 1}
    run = wire.omics.call("GetRun", id=handle.run_id)
    assert run["tags"] == {
        "takeda:rule": "call_words",
        "takeda:run": "run-1",
        "takeda:request": handle.request,
        "takeda:generation": "0",
    }
    assert run["storageType"] == "DYNAMIC"


@pytest.mark.parametrize("workdir", ["work", "elsewhere"])
def test_another_controller_finds_it_running_or_complete(
    wire: Wire, workflow_id: str, controller: Controllers, workdir: str
) -> None:
    first = go(controller(), wanted(workflow_id))
    again = go(controller(workdir), wanted(workflow_id))
    assert (again.run_id, again.uuid, again.adopted) == (first.run_id, first.uuid, True)
    end(wire, first, "COMPLETED")
    assert go(controller(workdir), wanted(workflow_id)).run_id == first.run_id
    assert len(runs(wire)) == 1


@pytest.mark.parametrize("workdir", ["work", "elsewhere"])
@pytest.mark.parametrize("status", ["CANCELLED", "COMPLETED"])
def test_a_run_that_is_of_no_use_has_a_successor(
    wire: Wire, workflow_id: str, controller: Controllers, status: str, workdir: str
) -> None:
    first = go(controller(), wanted(workflow_id))
    end(wire, first, status)
    again = go(controller(workdir), wanted(workflow_id, intact=False))
    assert again.run_id != first.run_id
    assert again.generation == 1
    assert go(controller(workdir), wanted(workflow_id, intact=False)).run_id == again.run_id
    assert len(runs(wire)) == 2


def test_a_deleted_run_has_a_successor_even_under_its_id(
    wire: Wire, workflow_id: str, controller: Controllers
) -> None:
    first = go(controller(), wanted(workflow_id))
    end(wire, first, "COMPLETED")
    wire.omics.call("DeleteRun", id=first.run_id)
    again = go(controller(), wanted(workflow_id))
    assert again.uuid != first.uuid
    assert again.generation == 1
    assert len(runs(wire)) == 1


def test_a_deleted_run_that_no_journal_knows(
    wire: Wire, workflow_id: str, controller: Controllers
) -> None:
    """Its requestId is spent: the service says so with a conflict, and nothing is listed."""
    first = go(controller(), wanted(workflow_id))
    end(wire, first, "COMPLETED")
    wire.omics.call("DeleteRun", id=first.run_id)
    starter, one = controller("elsewhere"), wanted(workflow_id)
    with pytest.raises(Spent):
        go(starter, one)
    starter.pass_over([(one, 0)])
    again = go(starter, one)
    assert again.uuid != first.uuid
    assert again.generation == 1
    assert len(runs(wire)) == 1


def test_a_lost_answer_starts_no_second_run(
    wire: Wire, workflow_id: str, controller: Controllers
) -> None:
    wire.lose_answers_of["StartRun"] = 1
    starter, one = controller(), wanted(workflow_id)
    with pytest.raises(Unanswered):
        go(starter, one)
    (started,) = runs(wire)
    handle = go(starter, one)
    assert (handle.run_id, handle.adopted) == (started, True)
    assert runs(wire) == [started]


def test_a_call_that_was_never_heard_is_made_again(
    wire: Wire, workflow_id: str, controller: Controllers
) -> None:
    wire.lose_calls_of["StartRun"] = 1
    starter, one = controller(), wanted(workflow_id)
    with pytest.raises(Unanswered):
        go(starter, one)
    assert runs(wire) == []
    assert go(starter, one).generation == 0
    assert len(runs(wire)) == 1


@pytest.mark.parametrize("workdir", ["work", "elsewhere"])
def test_a_crash_after_start_run(
    wire: Wire, workflow_id: str, controller: Controllers, workdir: str
) -> None:
    """The run is there, the journal has the intent only."""

    class Crash(BaseException):
        pass

    def crash(*_: Any) -> None:
        raise Crash

    starter, one = controller(), wanted(workflow_id)
    starter.started = crash  # type: ignore[method-assign]
    with pytest.raises(Crash):
        go(starter, one)
    (started,) = runs(wire)
    assert go(controller(workdir), one).run_id == started
    assert runs(wire) == [started]


def test_a_run_that_is_being_cancelled_is_not_waited_for(
    wire: Wire, workflow_id: str, controller: Controllers
) -> None:
    """That it was told to end is written down; HealthOmics may say STOPPING for minutes."""
    first = go(controller(), wanted(workflow_id))
    controller().ended([first], "CANCELLED")
    again = go(controller(), wanted(workflow_id))
    assert again.run_id != first.run_id
    assert again.generation == 1
    assert go(controller(), wanted(workflow_id)).run_id == again.run_id


def test_a_run_of_that_name_that_is_not_ours_is_left_alone(
    wire: Wire, workflow_id: str, controller: Controllers
) -> None:
    one = wanted(workflow_id)
    theirs = wire.omics.start_run(workflow_id, name=one.request.run_name)["id"]
    handle = go(controller(), one)
    assert handle.run_id != theirs
    assert not handle.adopted


def test_an_answer_that_names_a_run_of_another_controller(
    wire: Wire, workflow_id: str, controller: Controllers
) -> None:
    """How a repeated requestId is answered is not documented: here with the run it started."""
    one = wanted(workflow_id)
    first = go(controller(), one)
    starter = controller("elsewhere")
    reply = {**wire.omics.call("GetRun", id=first.run_id), "status": "PENDING"}
    starter._once.start_run = lambda **_: reply
    handle = starter.start(one, 0)
    assert (handle.run_id, handle.adopted) == (first.run_id, True)
    end(wire, first, "CANCELLED")
    assert starter.start(one, 0) == 1
    assert starter.look_up([one]) == [1]


def test_a_refusal_is_told_and_a_429_is_not_a_refusal(
    wire: Wire, workflow_id: str, controller: Controllers
) -> None:
    with pytest.raises(SubmissionError, match="ResourceNotFoundException"):
        go(controller(), wanted("999"))
    wire.omics.set_fault("omics-quotas=1")
    starter = controller()
    go(starter, wanted(workflow_id))
    with pytest.raises(Throttled):
        go(starter, wanted(workflow_id, 1))
    assert len(runs(wire)) == 1


# Batches.


def start_all(starter: Starter, asked: list[Wanted]) -> list[Handle]:
    found = starter.look_up(asked)
    handles = {i: one for i, one in enumerate(found) if isinstance(one, Handle)}
    left = [(i, one) for i, one in enumerate(found) if isinstance(one, int)]
    if left:
        started = starter.start_batch([(asked[i], generation) for i, generation in left])
        handles |= {i: handle for (i, _), handle in zip(left, started, strict=True)}
    return [handles[i] for i in range(len(asked))]


def settled(wire: Wire, handles: list[Handle]) -> list[str]:
    """Run ids by place, once all places of the one batch have runs."""
    settings = [one.setting_id or "" for one in handles]
    batch_id = handles[0].batch_id or ""

    def found() -> Any:
        places = batches.places(wire.client(), batch_id, settings)
        return places if len(places) == len(settings) else None

    places = wait_for(found)
    return [places[one].run_id for one in settings]


def test_one_call_starts_a_hundred(wire: Wire, workflow_id: str, controller: Controllers) -> None:
    asked = [wanted(workflow_id, number, tags={"cost": "7"}) for number in range(100)]
    handles = start_all(controller(), asked)
    assert dict(wire.calls) == {"ListRuns": 1, "StartRunBatch": 1}
    ids = settled(wire, handles)
    assert len(set(ids)) == 100
    run = wire.omics.call("GetRun", id=ids[7])
    assert run["parameters"] == {"who": "w7"}
    assert run["tags"]["takeda:request"] == asked[7].request.key
    assert run["tags"]["cost"] == "7"
    assert run["tags"]["takeda:run"] == "run-1"


@pytest.mark.parametrize("workdir", ["work", "elsewhere"])
def test_a_batch_is_found_again_with_its_runs(
    wire: Wire, workflow_id: str, controller: Controllers, workdir: str
) -> None:
    asked = [wanted(workflow_id, number) for number in range(7)]
    ids = settled(wire, start_all(controller(), asked))
    again = start_all(controller(workdir), asked[2:])
    assert [one.run_id for one in again] == ids[2:]
    assert len(runs(wire)) == 7


def test_a_batch_whose_answer_was_lost_before_its_runs_began(
    wire: Wire, workflow_id: str, controller: Controllers
) -> None:
    wire.omics.set_fault("omics-quotas=1")
    wire.lose_answers_of["StartRunBatch"] = 1
    asked = [wanted(workflow_id, number) for number in range(3)]
    with pytest.raises(Unanswered):
        start_all(controller(), asked)
    again = start_all(controller(), list(reversed(asked)))
    wire.omics.faults.clear()
    assert wire.calls["StartRunBatch"] == 1
    ids = {one.run_id for one in again if one.run_id}
    places = [one for one in again if one.run_id is None]
    ids |= set(settled(wire, places)) if places else set()
    assert sorted(ids) == sorted(runs(wire))
    assert len(ids) == 3


def test_more_than_a_hundred_go_by_an_object_in_s3(
    wire: Wire, workflow_id: str, controller: Controllers, bucket: Bucket
) -> None:
    asked = [wanted(workflow_id, number) for number in range(101)]
    handles = start_all(controller(), asked)
    assert dict(wire.calls) == {"ListRuns": 1, "StartRunBatch": 1}
    (key,) = bucket.objects
    assert re.fullmatch(r"runs/batches/[0-9a-f]{64}\.json", key)
    ids = settled(wire, handles)
    assert len(set(ids)) == 101
    run = wire.omics.call("GetRun", id=ids[100])
    assert run["parameters"] == {"who": "w100"}
    assert run["tags"]["takeda:request"] == asked[100].request.key
    again = start_all(controller("elsewhere"), asked)
    assert [one.run_id for one in again] == ids
    assert len(wire.omics.call("ListRuns", maxResults=100)["items"]) == 100
    assert bucket.writes == 1


@pytest.mark.parametrize("lost", ["lose_answers_of", "lose_calls_of"])
def test_settings_in_s3_are_never_written_twice(
    wire: Wire, workflow_id: str, controller: Controllers, bucket: Bucket, lost: str
) -> None:
    """HealthOmics notes the object's ETag, and fails the batch where it has changed when it is read."""
    wire.omics.set_fault("omics-quotas=1")
    getattr(wire, lost)["StartRunBatch"] = 1
    asked = [wanted(workflow_id, number) for number in range(102)]
    with pytest.raises(Unanswered):
        start_all(controller(), asked)
    # The order in which hand-offs come is another one after a restart.
    again = start_all(controller(), list(reversed(asked)))
    wire.omics.faults.clear()
    assert bucket.writes == 1
    ids = {one.run_id for one in again if one.run_id}
    ids |= set(settled(wire, [one for one in again if one.run_id is None]))
    assert len(ids) == 102
    assert wire.calls["StartRunBatch"] == (1 if lost == "lose_answers_of" else 2)
    assert len(wire.omics.call("ListBatch")["items"]) == 1


def test_settings_that_cannot_be_written_are_told(
    wire: Wire, workflow_id: str, controller: Controllers, bucket: Bucket
) -> None:
    asked = [wanted(workflow_id, number) for number in range(101)]
    bucket.refusal = ("AccessDenied", 403)
    with pytest.raises(SubmissionError) as caught:
        start_all(controller(), asked)
    assert (
        "settings of 101 runs could not be written below s3://bucket/runs/batches: AccessDenied"
        in caught.value.reason
    )
    assert caught.value.advice.startswith("allow s3:PutObject there; or leave `batch: true` out")
    bucket.refusal = ("ConditionalRequestConflict", 409)
    with pytest.raises(Unanswered, match="ConditionalRequestConflict"):
        start_all(controller(), asked)
    assert wire.calls["StartRunBatch"] == 0


def test_a_batch_that_comes_to_nothing_says_why(
    wire: Wire, workflow_id: str, controller: Controllers
) -> None:
    asked = [wanted(workflow_id, number) for number in range(2)]
    asked[1] = replace(
        asked[1], request=replace(asked[1].request, parameters={"nobody": "declared this"})
    )
    handles = start_all(controller(), asked)
    settings = [one.setting_id or "" for one in handles]
    places = wait_for(
        lambda: (
            found
            if len(found := batches.places(wire.client(), handles[0].batch_id or "", settings)) == 2
            else None
        )
    )
    assert isinstance(places[settings[0]], batches.Begun)
    refused = places[settings[1]]
    assert not isinstance(refused, batches.Begun)
    assert "ValidationException" in refused.reason
    assert "nobody" in refused.reason


# The journal and the key.


def test_the_journal_survives_and_raises_generations_after_an_end_only(tmp_path: Path) -> None:
    path = tmp_path / "a" / "ledger.sqlite"
    journal = Journal(path)
    journal.intend([Entry("r", 0, "name", "batch")])
    other = Journal(path)
    assert other.latest(["r", "s"]) == {"r": Entry("r", 0, "name", "batch")}
    other.started(Entry("r", 0, "", run_id="7", uuid="u"))
    assert journal.latest(["r"])["r"] == Entry("r", 0, "name", "batch", "7", "u")
    journal.ended([("r", 0)], "FAILED")
    journal.intend([Entry("r", 1, "name")])
    assert other.latest(["r"])["r"] == Entry("r", 1, "name")
    journal.close()
    other.close()


def test_equal_requests_have_equal_keys_whatever_the_attempt(workflow_id: str) -> None:
    one = wanted(workflow_id).request
    assert replace(one, job=replace(one.job, attempt=3)).key == one.key
    assert one.token(0) != one.token(1)
    for other in (
        replace(one, parameters={"who": "x"}),
        replace(one, input_tags=[("s3://b/k", "etag")]),
        replace(one, job=replace(one.job, wildcards={"n": "9"})),
        replace(one, options=one.options.model_copy(update={"output_uri": "s3://bucket/x"})),
        replace(one, registered=Registered(workflow_id, "c-1")),
    ):
        assert other.key != one.key


def test_what_goes_on_is_found_by_names_where_answers_were_lost(
    wire: Wire, workflow_id: str, controller: Controllers
) -> None:
    """For `takeda cancel`, whose ledger has no ids of runs that a killed controller just started."""
    first = controller()
    known = go(first, wanted(workflow_id))
    wire.lose_answers_of["StartRun"] = 1
    with pytest.raises(Unanswered):
        go(first, wanted(workflow_id, 1))
    (lost,) = set(runs(wire)) - {known.run_id}
    go(controller(), wanted(workflow_id, 2))  # of another run of the pipeline
    assert {one.run_id for one in first.going_on()} == {known.run_id, lost}
    end(wire, known, "CANCELLED")
    assert [one.run_id for one in first.going_on()] == [lost]
