"""What goes wrong around a hand-off: silence, lagging listings, edited files, bad lists of outputs, Ctrl-C."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from snakemake_executor_takeda.backends.base import SubmissionDelayed, SubmissionError
from snakemake_executor_takeda.backends.healthomics import delivery
from snakemake_executor_takeda.backends.healthomics.definition import Delivery
from snakemake_executor_takeda.values import FailureKind, File, JobSpec, NamedFiles, TakedaError
from snakemake_executor_takeda.watching import Lane
from tests.healthomics.omics_in_process import Bucket, Wire
from tests.healthomics.test_handoff_many import Controller, jobs
from tests.sandbox.omics_client import Engine, Omics, wait_for

Controllers = Callable[..., Controller]


class Objects(Bucket):
    """With what a hand-off's inputs and outputs need of S3."""

    def __init__(self) -> None:
        super().__init__()
        self.failing: list[Exception] = []
        """What the next calls raise."""
        self.copying: Callable[[], None] = lambda: None

    def _heard(self) -> None:
        if self.failing:
            raise self.failing.pop(0)

    def head_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        self._heard()
        return super().head_object(Bucket=Bucket, Key=Key)

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        self._heard()
        if Key not in self.objects:
            raise refusal("NoSuchKey", 404)
        return super().get_object(Bucket=Bucket, Key=Key)

    def copy(self, source: dict[str, str], bucket: str, key: str, **_: Any) -> None:
        self.copying()
        if source["Key"] not in self.objects:
            raise refusal("404", 404)
        self.objects[key] = self.objects[source["Key"]]

    def list_objects_v2(self, *, Bucket: str, Prefix: str, **_: Any) -> dict[str, Any]:
        found = sorted(key for key in self.objects if key.startswith(Prefix))
        return {"Contents": [{"Key": key, "ETag": self.objects[key][1]} for key in found]}

    def get_paginator(self, operation: str) -> Any:
        assert operation == "list_objects_v2"
        pages = type("Pages", (), {})()
        pages.paginate = lambda **request: [self.list_objects_v2(**request)]
        return pages

    def delete_objects(self, *, Bucket: str, Delete: dict[str, Any]) -> dict[str, Any]:
        for one in Delete["Objects"]:
            del self.objects[one["Key"]]
        return {}

    def text(self, key: str) -> str:
        return self.objects[key][0].decode()


def refusal(code: str, status: int) -> ClientError:
    answer: Any = {
        "Error": {"Code": code, "Message": f"{code}, it says"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(answer, "GetObject")


@pytest.fixture
def s3() -> Objects:
    return Objects()


@pytest.fixture
def wire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3: Objects) -> Iterator[Wire]:
    (tmp_path / "omics").mkdir()
    omics = Omics(tmp_path / "omics", Engine(), monkeypatch)
    wire = Wire(omics)
    monkeypatch.setattr(
        "snakemake_executor_takeda.backends.aws.client",
        lambda service, **_: wire.client() if service == "omics" else s3,
    )
    yield wire
    omics.engine.is_open = True
    omics.stop()


@pytest.fixture
def controller(tmp_path: Path, wire: Wire) -> Iterator[Controllers]:
    made: list[Controller] = []

    def make(workdir: str = "work", **options: Any) -> Controller:
        folder = tmp_path / workdir
        folder.mkdir(exist_ok=True)
        made.append(Controller(folder, **options))
        return made[-1]

    yield make
    for one in made:
        one.backend.close()


def runs(wire: Wire) -> list[str]:
    return [item["id"] for item in wire.omics.call("ListRuns")["items"]]


def finish(wire: Wire, s3: Objects, run_id: str, listed: str | None = None) -> None:
    """The run completes with one file, or with this as its list of outputs."""
    folder = f"runs/{run_id}"
    s3.objects[f"{folder}/out/o/stdout"] = (b"done\n", '"o"')
    text = f'{{"w.o": "s3://bucket/{folder}/out/o/stdout"}}' if listed is None else listed
    s3.objects[f"{folder}/logs/outputs.json"] = (text.encode(), '"l"')
    wire.omics.engine.end()
    wait_for(lambda: wire.omics.run_status(run_id) == "COMPLETED")


def with_inputs(*uris: str, name: str | None = None) -> JobSpec:
    files = tuple(File(uri.removeprefix("s3://bucket/"), uri) for uri in uris)
    return replace(jobs(1)[0], inputs=(NamedFiles(name, files, True),))


# Silence and refusals while a run is being started.


@pytest.mark.parametrize(
    ("trouble", "operation"),
    [
        ("lose_calls_of", "CreateWorkflow"),
        ("refuse_calls_of", "GetWorkflowVersion"),
        ("lose_calls_of", "ListRuns"),
        ("refuse_calls_of", "ListRuns"),
    ],
)
def test_a_service_that_does_not_answer_for_a_while_fails_no_job(
    wire: Wire, controller: Controllers, operation: str, trouble: str
) -> None:
    one = controller()
    getattr(wire, trouble)[operation] = 4
    (active,) = one.submit([one.submission(jobs(1))])
    assert runs(wire) == [active.accepted.external_id]
    assert 2 < one.now < 60
    assert len(one.notes) == 1


def test_a_network_that_is_gone_after_start_run(wire: Wire, controller: Controllers) -> None:
    one = controller()
    wire.lose_answers_of["StartRun"] = 1
    wire.lose_calls_of["ListRuns"] = 0
    wire.before = lambda operation: (
        wire.lose_calls_of.update(ListRuns=3) if operation == "StartRun" else None
    )
    (active,) = one.submit([one.submission(jobs(1))])
    assert runs(wire) == [active.accepted.external_id]
    assert wire.calls["StartRun"] == 1


def test_a_silence_that_lasts_is_not_the_configurations_fault(
    wire: Wire, controller: Controllers
) -> None:
    one = controller()
    wire.lose_calls_of["ListRuns"] = 1000
    with pytest.raises(SubmissionError) as caught:
        one.submit([one.submission(jobs(1))])
    assert caught.value.kind == FailureKind.NODE_FAILURE
    assert 400 < one.now < 700


# Tokens that are spent.


def test_a_run_deleted_elsewhere_has_a_successor_under_the_quota(
    wire: Wire, controller: Controllers
) -> None:
    """The call that finds its token spent takes from the quota, too: the next one has to wait."""
    first = controller()
    for _ in range(2):
        (active,) = first.submit([first.submission(jobs(1))])
        run_id = active.accepted.external_id
        wait_for(lambda: wire.omics.engine.running)
        wire.omics.call("CancelRun", id=run_id)
        wait_for(lambda: wire.omics.run_status(run_id) == "CANCELLED")  # noqa: B023
        wire.omics.call("DeleteRun", id=run_id)
    wire.calls.clear()
    second = controller("elsewhere", start_runs_per_second=1)
    slots: list[float] = []

    def note(operation: str) -> None:
        if operation == "StartRun":
            slots.append(second.now)

    wire.before = note
    second.submit([second.submission(jobs(1))])
    assert len(runs(wire)) == 1
    gaps = [b - a for a, b in itertools.pairwise(slots)]
    assert all(gap >= 1 for gap in gaps), gaps


@pytest.mark.parametrize("batch", [False, True])
def test_a_listing_that_lags_starts_no_second_run(
    wire: Wire, controller: Controllers, monkeypatch: pytest.MonkeyPatch, batch: bool
) -> None:
    """The run of a controller that died: its token is spent, and it is not listed yet."""
    first = controller("elsewhere", batch=batch)
    first.submit([first.submission(jobs(3 if batch else 1))])
    wait_for(lambda: len(runs(wire)) == (3 if batch else 1))
    second = controller(batch=batch)
    lag = 10.0
    real = wire.omics._router.answer

    def answer(sent: Any) -> Any:
        found = real(sent)
        if sent.method == "GET" and sent.path in ("/run", "/runBatch") and second.now < lag:
            found = replace(found, body=b'{"items": []}')
        return found

    monkeypatch.setattr(wire.omics._router, "answer", answer)
    (active,) = second.submit([second.submission(jobs(3 if batch else 1))])
    second.now = lag
    assert active.accepted.detail["adopted"] == (3 if batch else 1)
    assert len(runs(wire)) == (3 if batch else 1)


def test_a_batch_that_was_cancelled_elsewhere_before_its_runs_began(
    wire: Wire, controller: Controllers
) -> None:
    first = controller("elsewhere", batch=True)
    wire.omics.set_fault("omics-quotas=0.001", call="StartRun*")
    (active,) = first.submit([first.submission(jobs(3))])
    first.backend.cancel([active])
    batch = active.accepted.external_id.removeprefix("batch ")
    wait_for(lambda: wire.omics.call("GetBatch", batchId=batch)["status"] == "CANCELLED")
    wire.omics.faults.clear()
    begun = runs(wire)
    second = controller(batch=True)
    second.submit([second.submission(jobs(3))])
    wait_for(lambda: len(runs(wire)) == len(begun) + 3)


# What a request is known by.


def test_content_of_every_input_is_part_of_the_request(
    wire: Wire, controller: Controllers, s3: Objects
) -> None:
    """Also where there are many, and where the workflow finds their names in a file."""
    uris = [f"s3://bucket/in/{n}.bam" for n in range(600)]
    for uri in uris:
        s3.put_object(Bucket="bucket", Key=uri.removeprefix("s3://bucket/"), Body=b"x")
    s3.put_object(Bucket="bucket", Key="in/folder/part", Body=b"x")
    rule = with_inputs(*uris, "s3://bucket/in/folder")
    one = controller()
    found = []
    for changed in ("", "in/599.bam", "in/folder/part"):
        if changed:
            s3.put_object(Bucket="bucket", Key=changed, Body=b"y")
        (active,) = one.submit([one.submission([rule])])
        found.append(active.accepted.external_id)
        (again,) = one.submit([one.submission([rule])])
        assert again.accepted.external_id == found[-1]
    assert len(set(found)) == 3


def test_an_input_that_s3_does_not_tell_of_makes_no_other_request(
    wire: Wire, controller: Controllers, s3: Objects
) -> None:
    s3.put_object(Bucket="bucket", Key="in/a", Body=b"x")
    rule = with_inputs("s3://bucket/in/a")
    one = controller()
    one.submit([one.submission([rule])])
    s3.failing = [refusal("503", 503), EndpointConnectionError(endpoint_url="s3")]
    (active,) = one.submit([one.submission([rule])])
    assert active.accepted.detail == {"adopted": 1}
    s3.failing = [refusal("403", 403)]
    (active,) = one.submit([one.submission([rule])])
    assert not active.accepted.detail, "who may not look has a request of his own"


# A workflow that is edited, and what a run leaves.


def test_a_workflow_that_is_edited_while_its_run_goes_on(
    wire: Wire, controller: Controllers, s3: Objects
) -> None:
    one = controller()
    (active,) = one.submit([one.submission(jobs(1))])
    (one.backend._context.basedir / "main.wdl").write_text("version 1.0\nworkflow w { half a l")
    finish(wire, s3, active.accepted.external_id)
    (outcome,) = one.until([active], ended=1).values()
    assert outcome.succeeded, outcome
    assert s3.text("out") == "done\n"


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ("{", "outputs.json"),
        ('{"w.o": 7}', "no file"),
        ('{"w.o": ["s3://bucket/x"]}', "no file"),
        ('{"w.o": "out/o/stdout"}', "no S3 URI"),
        ('{"w.o": "s3://bucket/absent"}', "it is not there"),
        ("[]", "left no logs/outputs.json"),
        ("{}", "left output `o` empty"),
    ],
)
def test_a_bad_list_of_outputs_is_told_and_has_a_successor(
    wire: Wire, controller: Controllers, s3: Objects, listed: str, words: str
) -> None:
    one = controller()
    (active,) = one.submit([one.submission(jobs(1))])
    run_id = active.accepted.external_id
    finish(wire, s3, run_id, listed)
    (outcome,) = one.until([active], ended=1).values()
    assert outcome.kind == FailureKind.USER
    assert f"run {run_id} completed, but" in outcome.reason
    assert words in outcome.reason
    (again,) = one.submit([one.submission(jobs(1))])
    assert again.accepted.external_id != run_id


def test_expired_credentials_lose_no_result(
    wire: Wire, controller: Controllers, s3: Objects
) -> None:
    one = controller()
    (active,) = one.submit([one.submission(jobs(1))])
    finish(wire, s3, active.accepted.external_id)
    s3.failing = [refusal("ExpiredToken", 403) for _ in range(12)]
    (outcome,) = one.until([active], ended=1).values()
    assert outcome.succeeded, outcome


def test_a_directory_has_nothing_of_an_earlier_run(s3: Objects) -> None:
    for key in ("d/a", "d/.empty", "d-other", "run/d/b", "run/c"):
        s3.objects[key] = (key.encode(), '"e"')
    target = File("d", "s3://bucket/d", is_directory=True)
    delivery.deliver(s3, [Delivery("s3://bucket/run/d", target, is_directory=True)])  # type: ignore[arg-type]
    assert sorted(s3.objects) == ["d-other", "d/b", "run/c", "run/d/b"]
    gathered = [
        Delivery("s3://bucket/run/c", target, "c"),
        Delivery("", target, "d.json", content=b""),
    ]
    delivery.deliver(s3, gathered)  # type: ignore[arg-type]
    assert sorted(s3.objects) == ["d-other", "d/c", "d/d.json", "run/c", "run/d/b"]


def test_a_directory_that_holds_the_run_itself_keeps_it(s3: Objects) -> None:
    s3.objects["work/runs/7/out/c"] = (b"c", '"e"')
    target = File("work", "s3://bucket/work", is_directory=True)
    delivery.deliver(s3, [Delivery("s3://bucket/work/runs/7/out/c", target, "c")])  # type: ignore[arg-type]
    assert sorted(s3.objects) == ["work/c", "work/runs/7/out/c"]


# Ctrl-C.


@pytest.mark.parametrize("seen", [True, False])
def test_a_completed_run_outlives_a_cancel(
    wire: Wire, controller: Controllers, s3: Objects, seen: bool
) -> None:
    """While its outputs are copied, or before its end was seen: what it computed is not thrown away."""
    one = controller()
    (active,) = one.submit([one.submission(jobs(1))])
    run_id = active.accepted.external_id
    finish(wire, s3, run_id)
    copying, go_on = threading.Event(), threading.Event()

    def copy() -> None:
        copying.set()
        go_on.wait(60)

    s3.copying = copy
    if seen:
        assert list(one.backend.poll([active])) == []
        assert copying.wait(60)
    one.backend.cancel([active])
    s3.copying = lambda: None
    again = controller()
    (adopted,) = again.submit([again.submission(jobs(1))])
    assert adopted.accepted.external_id == run_id
    one.backend.close()
    go_on.set()


def test_nothing_is_started_after_a_cancel(wire: Wire, controller: Controllers) -> None:
    one = controller(registration_poll_seconds=600)
    asked = threading.Event()
    wire.before = lambda operation: asked.set() if operation == "GetWorkflow" else None
    wire.omics.set_fault("omics-delay:CREATING=600")
    errors: list[Exception] = []

    def submit() -> None:
        try:
            one.submit([one.submission(jobs(1))])
        except SubmissionError as error:
            errors.append(error)

    thread = threading.Thread(target=submit)
    thread.start()
    assert asked.wait(60)
    one.backend.cancel([])
    thread.join(60)
    assert "cancelled before it was started" in str(errors[0])
    assert not wire.calls["StartRun"]
    wire.omics.faults.clear()


def test_a_submission_that_was_put_off_is_under_way_when_it_is_sent(tmp_path: Path) -> None:
    """A Ctrl-C waits for it then, and cancels what it started."""
    sent, go_on = threading.Event(), threading.Event()

    class Backend:
        calls = 0

        def listen(self, wake: Any) -> None: ...

        def submit(self, submission: Any) -> Any:
            self.calls += 1
            if self.calls == 1:
                raise SubmissionDelayed(0.0)
            sent.set()
            go_on.wait(60)
            raise SubmissionError(FailureKind.USER, "over")

    class Listener:
        def __getattr__(self, name: str) -> Any:
            return lambda *_: None

    backend: Any = Backend()
    listener: Any = Listener()
    lane = Lane("omics", backend, listener, 1.0)
    lane.start()
    one = Controller(tmp_path)
    lane.submit(one.submission(jobs(1)))
    assert sent.wait(60)
    assert lane.is_sending
    go_on.set()
    lane.stop()
    lane.join(60)
    assert not lane.is_sending
    one.backend.close()


def test_nothing_more_is_copied_once_the_backend_is_closed(s3: Objects) -> None:
    class Stopped(Exception):
        pass

    def stop() -> None:
        raise Stopped

    s3.objects["run/a"] = (b"a", '"e"')
    with pytest.raises(Stopped):
        delivery.deliver(s3, [Delivery("s3://bucket/run/a", File("a", "s3://bucket/a"))], stop)  # type: ignore[arg-type]
    assert "a" not in s3.objects


def test_an_output_without_a_place_in_s3_is_told(s3: Objects) -> None:
    with pytest.raises(TakedaError, match="no place in S3"):
        delivery.deliver(s3, [Delivery("s3://bucket/run/a", File("a", None))])  # type: ignore[arg-type]
