"""Each job of a run gets its one report, whatever is thrown on the way to it."""

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest

from snakemake_executor_takeda import run as run_module
from snakemake_executor_takeda.dispatching import Ready
from snakemake_executor_takeda.reporting.summary import Summary
from snakemake_executor_takeda.run import OpenJob, Run
from snakemake_executor_takeda.values import (
    Accepted,
    Active,
    FailureKind,
    File,
    JobSpec,
    NamedFiles,
    Outcome,
    Placement,
    RetryRules,
    Shape,
    Submission,
    TakedaError,
    Target,
    Update,
)

TARGET = Target("t", "fake")


class Silent:
    """Takes every call and says nothing."""

    def __getattr__(self, name):
        return lambda *words, **named: None


class Executor:
    """Snakemake's side: counts the reports of each job."""

    def __init__(self):
        self.logger = Silent()
        self.failed, self.succeeded, self.messages = Counter(), Counter(), []
        self.workflow = SimpleNamespace(
            executor_settings=SimpleNamespace(interruptions=2),
            scheduler=SimpleNamespace(error_callback=lambda job: self.failed.update([job.name])),
            dag=SimpleNamespace(depending={}),
        )

    def report_job_success(self, info):
        self.succeeded[info.job.name] += 1

    def report_job_error(self, info, msg):
        self.failed[info.job.name] += 1
        self.messages.append(msg)


class Job:
    def __init__(self, name):
        self.name = name
        self.output = ()

    def is_group(self):
        return False


@pytest.fixture
def run(monkeypatch):
    """A run without backends: jobs `a` and `b` were sent as the tasks of these names."""
    monkeypatch.setattr(run_module.Run, "_assemble", lambda self: None)
    one = Run(Executor())
    one._ledger = one._events = Silent()
    one._summary = Summary()
    one._takeover = SimpleNamespace(
        keep_for_later=lambda outcomes: None, has_inherited=lambda task_id: False
    )
    one._fallback_of = lambda spec, target: None
    one._targets = {"t": TARGET, "od": Target("od", "fake")}
    one.sent = []
    one._dispatcher = SimpleNamespace(hand_over=lambda ready, delay: one.sent.extend(ready))
    for key, name in enumerate("ab"):
        made = NamedFiles(None, (File(f"{name}.txt", f"s3://b/{name}.txt"),), is_list=False)
        spec = JobSpec(key, "r", {}, 1, Shape(), {}, outputs=(made,))
        one._open.add(OpenJob(Job(name), Ready(key, spec, ()), "", Placement(TARGET, ())))
        one._open.link({name: key})
    return one


def reported(run):
    """What Snakemake heard: succeeded and failed jobs."""
    run._outcomes.put(None)
    run._report()
    return dict(run._executor.succeeded), dict(run._executor.failed)


def test_each_is_reported_once(run):
    run.ended([Update("a", Outcome())])
    run.ended([Update("a", Outcome()), Update("b", Outcome())])
    assert reported(run) == ({"a": 1, "b": 1}, {})
    assert not run._open


def test_a_look_for_outputs_that_throws_loses_no_job(run):
    def throw(outputs):
        raise IndexError(len(list(outputs)))

    run._output_check = SimpleNamespace(problems=throw)
    run.ended([Update("a", Outcome()), Update("b", Outcome())])
    assert reported(run) == ({}, {"a": 1, "b": 1})


def test_what_ended_well_is_not_sent_again_because_its_outputs_cannot_be_looked_up(run):
    run._output_check = SimpleNamespace(problems=lambda files: dict.fromkeys(files, "S3 is silent"))
    run.ended([Update("a", Outcome())])
    assert run.sent == []
    assert reported(run) == ({}, {"a": 1})


def test_a_job_that_is_lost_is_sent_again_quietly_and_reported_with_its_history_in_the_end(run):
    for number in range(1, 4):
        run._open.get(0).external_id = f"j{number}"
        run.ended([Update("a", Outcome(FailureKind.LOST, f"forgotten {number}", advice="look"))])
        assert len(run.sent) == min(number, 2)
    assert reported(run) == ({}, {"a": 1})
    assert run._executor.messages == [
        "takeda: lost on t (j3): forgotten 3\n"
        "it was sent again after:\n"
        "    1. lost on t (j1): forgotten 1\n"
        "    2. lost on t (j2): forgotten 2\n"
        "not sent again: on t it was repeated 2 times (`lost` of `retry`)\n"
        "what to do: look\n"
    ]


def test_a_failure_at_once_has_no_history_to_tell(run):
    run.ended([Update("a", Outcome(FailureKind.USER, "no genome"))])
    reported(run)
    assert run._executor.messages == ["takeda: user on t: no genome\n"]


def test_the_events_tell_what_was_decided(run):
    told = []
    run._events = SimpleNamespace(
        write=lambda name, job, target, at, more: told.append((name, more))
    )
    for _ in range(3):
        run.ended([Update("a", Outcome(FailureKind.LOST, "gone", log_location="l"))])
    assert [name for name, _ in told] == ["interrupted", "resubmitted"] * 2 + ["failed"]
    assert told[0][1] == {"kind": "lost", "reason": "gone", "exit_code": None, "log": "l"}
    assert told[1][1]["reason"] == "sent again after: lost, try 1 of 2"
    assert 30 <= told[1][1]["delay_seconds"] <= 60 <= told[3][1]["delay_seconds"] <= 120
    assert told[4][1]["given_up"] == "on t it was repeated 2 times (`lost` of `retry`)"


def test_a_target_has_the_fallback_that_the_job_has(run):
    """A rule that names its target, or asks for Spot, may not go where the target's others go: it must
    not be given up for it."""
    job = run._open.get(0).ready.job
    placement = Placement(replace(TARGET, fallback="od"), ("default",))
    assert run._as_of(job, placement).target.fallback is None
    run._fallback_of = lambda spec, target: "od"
    assert run._as_of(job, placement) == placement
    run._targets["od"] = replace(run._targets["od"], fallback="t")
    run._fallback_of = lambda spec, target: "od" if target.name == "t" else None
    run.ended([Update("a", Outcome(FailureKind.NO_CAPACITY))])
    (again,) = run.sent
    assert (again.placement.target.name, again.placement.target.fallback) == ("od", None)


def test_a_job_that_ran_out_of_memory_is_sent_again_with_more_and_that_is_said(run):
    rules = RetryRules(memory_factor=2, memory_times=1)
    target = replace(TARGET, retry=rules)
    run._targets["t"] = target
    open_job = run._open.get(0)
    job = replace(open_job.ready.job, shape=Shape(mem_mb=1000), is_group=True)
    open_job.ready = replace(open_job.ready, job=job)
    open_job.placement = Placement(target, ())
    said = []
    run._logger = SimpleNamespace(info=said.append)
    run.ended([Update("a", Outcome(FailureKind.OUT_OF_MEMORY, reason="killed"))])
    assert said == ["takeda: r (job 0): out_of_memory: killed. It is sent again to t with 2000 MB."]
    (again,) = run.sent
    assert again.job.shape.mem_mb == 2000


class FakeLane:
    """A lane that outlives the first wait; what it sends meanwhile is accepted then."""

    tasks = 0

    def __init__(self, *, is_sending):
        self.is_sending = is_sending
        self.ended = []
        self.backend = SimpleNamespace(cancel=self._cancel)
        self._waits = 0

    def join(self, timeout):
        self._waits += 1

    def active(self):
        return [self._one(f"s{number}") for number in range(self._waits)]

    def _one(self, name):
        one = Submission(name, name, TARGET, ())
        return Active(one, Accepted(name, {}), frozenset(map(str, range(self.tasks))))

    def _cancel(self, active):
        self.ended.append([one.submission.submission_id for one in active])


def test_ctrl_c_ends_each_submission_once_and_waits_for_nothing_but_sending(run):
    polling, sending = FakeLane(is_sending=False), FakeLane(is_sending=True)
    run._cancel_lane(polling)
    run._cancel_lane(sending)
    assert polling.ended == [["s0"]]
    assert sending.ended == [["s0"], ["s1"]]


def test_what_a_ctrl_c_ended_is_told_by_target(run):
    said = []
    run._logger = SimpleNamespace(info=said.append, error=said.append)
    lane = FakeLane(is_sending=False)
    lane.name, lane.tasks = "takeda-fake", 3
    run._cancel_lane(lane)
    assert said == ["takeda: cancelled 3 jobs on t (fake); none is left"]


def test_a_service_that_could_not_be_told_is_not_said_to_have_ended_its_jobs(run):
    def refuse(active):
        raise TakedaError("these jobs would not end: 7")

    said = []
    run._logger = SimpleNamespace(info=said.append, error=said.append)
    lane = FakeLane(is_sending=False)
    lane.tasks, lane.backend = 1, SimpleNamespace(cancel=refuse)
    run._cancel_lane(lane)
    assert said == ["takeda: these jobs would not end: 7"]


def test_what_goes_on_after_a_ctrl_c_is_not_counted_as_ended(run):
    said = []
    run._logger = SimpleNamespace(info=said.append, error=said.append)
    lane = FakeLane(is_sending=True)
    lane.tasks, lane.backend = 2, SimpleNamespace(cancel=lambda active: {"s1"})
    run._cancel_lane(lane)
    assert said == ["takeda: cancelled 2 jobs on t (fake)"]
