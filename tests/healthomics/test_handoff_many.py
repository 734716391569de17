"""Many hand-offs through the backend: paced, in batches, counted, cancelled; HealthOmics in this process."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_takeda.backends.base import (
    RunContext,
    SubmissionDelayed,
    SubmissionError,
)
from snakemake_executor_takeda.backends.healthomics.handoffs import HealthOmicsBackend
from snakemake_executor_takeda.backends.healthomics.options import HealthOmicsOptions
from snakemake_executor_takeda.backends.healthomics.pacing import Looks, StartBucket
from snakemake_executor_takeda.sandbox.faults import parse
from snakemake_executor_takeda.values import (
    Accepted,
    Active,
    FailureKind,
    JobSpec,
    Outcome,
    Shape,
    Submission,
    Target,
    Task,
)
from tests.healthomics.conftest import job
from tests.healthomics.omics_in_process import Bucket, Wire
from tests.sandbox.omics_client import ROLE, WDL, Engine, Omics, wait_for


@pytest.fixture
def wire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    (tmp_path / "omics").mkdir()
    omics = Omics(tmp_path / "omics", Engine(), monkeypatch)
    wire = Wire(omics)
    bucket = Bucket()
    monkeypatch.setattr(
        "snakemake_executor_takeda.backends.aws.client",
        lambda service, **_: bucket if service == "s3" else wire.client(),
    )
    monkeypatch.setattr(
        "snakemake_executor_takeda.sandbox.omics.batches.sandbox_s3", lambda context: bucket
    )
    yield wire
    omics.engine.is_open = True
    omics.stop()


class Controller:
    """A backend as a lane drives it, by a clock that jumps over the waits."""

    def __init__(self, folder: Path, **options: Any) -> None:
        (folder / "main.wdl").write_text(WDL)
        words = {"role_arn": ROLE, "output_uri": "s3://bucket/runs", **options}
        words.setdefault("registration_poll_seconds", 0.01)
        self.target = Target(
            "omics", "healthomics", options=HealthOmicsOptions.model_validate(words)
        )
        self.said: list[str] = []
        self.notes: list[str] = []
        self.now = 0.0
        context = RunContext(
            run_id=f"run-{uuid.uuid4().hex[:6]}",
            workdir=folder,
            state_dir=folder,
            remote_prefix=None,
            sources_uri=None,
            environment_uri=None,
            basedir=folder,
            say=self.said.append,
        )
        self.backend = HealthOmicsBackend([self.target], context)
        per_second = self.target.options.start_runs_per_second
        self.backend._bucket = StartBucket(per_second, lambda: self.now)

    def submission(self, jobs: list[JobSpec]) -> Submission:
        tasks = tuple(Task(f"t-{uuid.uuid4().hex[:8]}", one, self.target) for one in jobs)
        return Submission(f"s-{uuid.uuid4().hex[:8]}", "name", self.target, tasks)

    def submit(self, submissions: list[Submission]) -> list[Active]:
        """All of them, each again when its wait is over, in order."""
        waiting = [(0.0, one) for one in submissions]
        active: list[Active] = []
        while waiting:
            waiting.sort(key=lambda item: item[0])
            at, one = waiting.pop(0)
            self.now = max(self.now, at)
            try:
                accepted: Accepted = self.backend.submit(one)
            except SubmissionDelayed as delay:
                self.notes += [delay.note] if delay.note else []
                waiting.append((self.now + delay.seconds, one))
                continue
            ids = frozenset(task.task_id for task in one.tasks)
            active.append(Active(one, accepted, ids))
        return active

    def until(self, active: list[Active], *, ended: int = 0) -> dict[str, Outcome]:
        """Poll until so many have ended and all others have a run."""
        outcomes: dict[str, Outcome] = {}

        def look() -> bool:
            for update in self.backend.poll(active):
                if update.outcome is not None:
                    outcomes[update.task_id] = update.outcome
            left = self.backend._watched.values()
            placed = all(one.handle and one.handle.run_id for one in left)
            return placed and len(outcomes) >= ended

        wait_for(look)
        return outcomes


@pytest.fixture
def controller(tmp_path: Path, wire: Wire) -> Iterator[Callable[..., Controller]]:
    made: list[Controller] = []

    def make(**options: Any) -> Controller:
        made.append(Controller(tmp_path, **options))
        return made[-1]

    yield make
    for one in made:
        one.backend.close()


def batch_id(active: Active) -> str:
    return active.accepted.external_id.removeprefix("batch ")


def jobs(count: int) -> list[JobSpec]:
    one = job("main.wdl", outputs={"o": ["s3://bucket/out"]})
    return [replace(one, wildcards={"n": str(n)}, params={"who": f"w{n}"}) for n in range(count)]


def test_one_by_one_at_the_rate(wire: Wire, controller: Callable[..., Controller]) -> None:
    one = controller(start_runs_per_second=0.5)
    assert one.backend.array_limit(one.target, Shape()) == 1
    active = one.submit([one.submission([job]) for job in jobs(12)])
    assert one.now == pytest.approx(22.0), "the first at once, then one every two seconds"
    assert wire.calls["StartRun"] == 12
    assert wire.calls["ListRuns"] == 12, "each is looked for once, however often it waits"
    assert any("0.5 StartRun a second" in note for note in one.notes)
    wire.calls.clear()
    list(one.backend.poll(active))
    assert dict(wire.calls) == {"ListRuns": 1}
    assert len({run.accepted.external_id for run in active}) == 12


def test_a_429_slows_all_down(wire: Wire, controller: Callable[..., Controller]) -> None:
    one = controller(start_runs_per_second=1)
    submissions = [one.submission([job]) for job in jobs(4)]
    one.submit(submissions[:1])
    assert one.now == 0.0
    wire.refuse_calls_of["StartRun"] = 2
    one.submit(submissions[1:])
    # The second slot, then what each refusal makes of the rate, then slots given out at that rate.
    slower, slowest = 1 / 0.7, 1 / 0.49
    assert one.now == pytest.approx(1 + slower + 3 * slowest)
    assert wire.calls["StartRun"] == 6
    assert len(wire.omics.call("ListRuns")["items"]) == 4


def test_hand_offs_of_one_rule_in_batches(
    wire: Wire, controller: Callable[..., Controller]
) -> None:
    one = controller(batch=True, start_runs_per_second=1)
    assert one.backend.array_limit(one.target, Shape()) == 100_000
    every = jobs(130)
    active = one.submit([one.submission(every[:110]), one.submission(every[110:])])
    assert one.now == pytest.approx(1.0)
    assert wire.calls["StartRunBatch"] == 2
    assert wire.calls["StartRun"] == 0
    assert active[0].accepted.external_id.startswith("batch ")
    wait_for(
        lambda: wire.omics.call("GetBatch", batchId=batch_id(active[0]))["status"] == "INPROGRESS"
    )
    wait_for(
        lambda: wire.omics.call("GetBatch", batchId=batch_id(active[1]))["status"] == "INPROGRESS"
    )
    wire.calls.clear()
    list(one.backend.poll(active))
    assert dict(wire.calls) == {"ListRunsInBatch": 3, "ListRuns": 2}
    wire.calls.clear()
    list(one.backend.poll(active))
    assert dict(wire.calls) == {"ListRuns": 2}
    who = {
        watched.task.job.params["who"]: wire.omics.call("GetRun", id=watched.handle.run_id)
        for watched in one.backend._watched.values()
        if watched.handle and watched.handle.run_id
    }
    assert len(who) == 130
    assert all(run["parameters"] == {"who": name} for name, run in who.items())


def test_many_are_prepared_with_looks_in_between(
    wire: Wire, controller: Callable[..., Controller], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "snakemake_executor_takeda.backends.healthomics.handoffs._PREPARED_AT_ONCE", 4
    )
    one = controller(batch=True)
    bad = replace(jobs(1)[0], params={"whom": "x"})
    submission = one.submission([bad, *jobs(8)])
    for _ in range(2):
        with pytest.raises(SubmissionDelayed) as caught:
            one.backend.submit(submission)
        assert caught.value.seconds == 0
    assert not one.backend.submit(submission).detail
    assert wire.calls["StartRunBatch"] == 1
    assert wire.calls["ListRuns"] == 1
    wait_for(lambda: len(wire.omics.call("ListRuns")["items"]) == 8)


def test_looks_of_many_calls_are_spaced(wire: Wire, controller: Callable[..., Controller]) -> None:
    one = controller(start_runs_per_second=100)
    active = one.submit([one.submission([job]) for job in jobs(3)])
    one.backend._looks = Looks(lambda: one.now)
    for _ in one.backend._looks.counted(range(60)):
        pass
    one.backend._looks.done()
    wire.calls.clear()
    one.now += 11.9
    assert list(one.backend.poll(active)) == []
    assert not wire.calls
    one.now += 0.2
    list(one.backend.poll(active))
    list(one.backend.poll(active))
    assert dict(wire.calls) == {"ListRuns": 2}


def test_a_bad_task_does_not_take_its_batch_with_it(
    wire: Wire, controller: Callable[..., Controller]
) -> None:
    one = controller(batch=True)
    good, bad = jobs(3), replace(jobs(1)[0], params={"whom": "x"})
    (active,) = one.submit([one.submission([*good, bad])])
    ended = one.until([active], ended=1)
    (outcome,) = ended.values()
    assert outcome.kind == FailureKind.CONFIGURATION
    assert "no input for the param `whom`" in outcome.reason
    assert len(wire.omics.call("ListRuns")["items"]) == 3
    with pytest.raises(SubmissionError, match="no input for the param `whom`"):
        one.submit([one.submission([bad])])


def test_a_lost_answer_is_waited_out(wire: Wire, controller: Callable[..., Controller]) -> None:
    one = controller()
    wire.lose_answers_of["StartRun"] = 1
    (active,) = one.submit([one.submission(jobs(1))])
    (run,) = wire.omics.call("ListRuns")["items"]
    assert active.accepted.external_id == run["id"]
    assert active.accepted.detail == {"adopted": 1}
    assert "did not answer StartRun, looking again in 2 s" in one.notes[0]


def test_a_service_that_stays_silent_is_given_up(
    wire: Wire, controller: Callable[..., Controller]
) -> None:
    one = controller()
    wire.lose_calls_of["StartRun"] = 1000
    with pytest.raises(SubmissionError, match="did not answer StartRun 21 times") as caught:
        one.submit([one.submission(jobs(1))])
    assert caught.value.kind == FailureKind.NODE_FAILURE
    assert 400 < one.now < 700


@pytest.mark.parametrize("batch", [False, True])
def test_cancel_ends_all_and_says_what_is_lost(
    wire: Wire, controller: Callable[..., Controller], batch: bool
) -> None:
    one = controller(batch=batch, start_runs_per_second=100)
    if batch:
        wire.omics.faults.set(parse(["omics-quotas=1"], call="StartRun*"))
        active = one.submit([one.submission(jobs(8))])
    else:
        active = one.submit([one.submission([job]) for job in jobs(8)])
    wait_for(lambda: wire.omics.engine.running)
    list(one.backend.poll(active))
    requests = [
        watched.handle.request for watched in one.backend._watched.values() if watched.handle
    ]
    one.backend.cancel(active)
    assert one.backend._journal is not None
    entries = one.backend._journal.latest(requests)
    assert [entry.status for entry in entries.values()] == ["CANCELLED"] * 8
    wire.omics.faults.clear()
    wait_for(lambda: not wire.omics.engine.running)
    assert {run["status"] for run in wire.omics.call("ListRuns")["items"]} == {"CANCELLED"}
    assert any("saved no outputs" in line or "saves no outputs" in line for line in one.said)
    ended = one.until(active, ended=8)
    assert len(ended) == 8
    assert all("cancelled" in outcome.reason for outcome in ended.values())
    # What was cancelled is not waited for by the next controller.
    again = controller(batch=batch, start_runs_per_second=100)
    more = again.submit([again.submission(jobs(8))] if batch else [again.submission(jobs(1))])
    assert "adopted" not in more[0].accepted.detail


def test_ready2run_and_batches_do_not_go_together(
    wire: Wire, controller: Callable[..., Controller]
) -> None:
    one = controller(batch=True)
    rule = job("ready2run:1000001", inputs={"text": ["s3://b/i"]}, outputs={"o": ["s3://b/o"]})
    with pytest.raises(Exception, match="cannot be started in batches; route ready2run:1000001"):
        one.backend.check_job(rule, one.target)


def test_parameters_that_are_too_many_are_explained(
    wire: Wire, controller: Callable[..., Controller]
) -> None:
    one = controller()
    rule = replace(jobs(1)[0], params={"who": "x" * 50_001})
    with pytest.raises(SubmissionError) as caught:
        one.backend.check_job(rule, one.target)
    assert "Snakefile:12: the parameters are 50,0" in caught.value.reason
    assert "HealthOmics takes 50,000 (largest: `who` 50,003)" in caught.value.reason
    assert "read_lines()" in caught.value.advice


def test_what_a_target_says_reaches_the_run(
    wire: Wire, controller: Callable[..., Controller]
) -> None:
    group = wire.omics.call("CreateRunGroup", name="g", maxRuns=5)["id"]
    cache = wire.omics.call("CreateRunCache", cacheS3Location="s3://bucket/cache")["id"]
    one = controller(
        run_group_id=group,
        priority=7,
        cache_id=cache,
        cache_behavior="CACHE_ALWAYS",
        tags={"cost-centre": "oncology"},
        log_level="ERROR",
        retention_mode="REMOVE",
        storage_type="STATIC",
        storage_capacity_gib=1200,
    )
    (active,) = one.submit([one.submission(jobs(1))])
    run = wire.omics.call("GetRun", id=active.accepted.external_id)
    said = {
        "runGroupId": group,
        "priority": 7,
        "cacheId": cache,
        "cacheBehavior": "CACHE_ALWAYS",
        "logLevel": "ERROR",
        "retentionMode": "REMOVE",
        "storageType": "STATIC",
        "storageCapacity": 1200,
    }
    assert {name: run[name] for name in said} == said
    assert run["tags"]["cost-centre"] == "oncology"


def test_engine_settings_are_for_nextflow(
    wire: Wire, controller: Callable[..., Controller]
) -> None:
    one = controller(engine_settings={"profile": "test"})
    with pytest.raises(Exception, match="for Nextflow workflows only; route main"):
        one.backend.check_job(jobs(1)[0], one.target)
