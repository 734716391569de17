"""What has changed since it was sent is ended first, and nothing is sent beside what would not end."""

from types import SimpleNamespace

import pytest

from snakemake_executor_takeda import jobs
from snakemake_executor_takeda.dispatching import Ready
from snakemake_executor_takeda.ledger import KnownRun, Ledger
from snakemake_executor_takeda.open_jobs import OpenJob, OpenJobs
from snakemake_executor_takeda.takeover import Takeover
from snakemake_executor_takeda.values import (
    Accepted,
    Active,
    FailureKind,
    JobSpec,
    Placement,
    Shape,
    Submission,
    TakedaError,
    Target,
    Task,
)

HERE = Target("here", "fake")
KNOWN = KnownRun("run", "detached", "/w", "/w/state", None, "host", 1, None, 0.0, None)


def spec(number, fingerprint):
    return JobSpec(
        number, "r", {}, 1, Shape(), {}, identity=f"job{number}", fingerprint=fingerprint
    )


class Lane:
    def __init__(self):
        self.active, self.adopted = {}, []

    def adopt(self, remembered):
        one = remembered.submission
        self.adopted.append(one.submission_id)
        self.active[one.submission_id] = Active(one, remembered.accepted, remembered.open_task_ids)

    def leave(self, submission_id):
        return self.active.pop(submission_id, None)

    def call(self, duty):
        duty()


class Run:
    def __init__(self):
        self.the_lane, self.sent, self.done, self.events = Lane(), [], [], []

    def lane(self, name):
        return self.the_lane

    def place_at(self, open_job, target, reason):
        open_job.placement = Placement(target, (reason,))

    def announce(self, open_job): ...
    def say(self, line): ...
    def trouble(self, message): ...

    def event(self, event, open_job, detail):
        self.events.append(event)

    def record(self, write):
        write()

    def found_done(self, open_job, outcome):
        self.done.append((open_job.ready.key, outcome))

    def send(self, open_jobs):
        self.sent += [one.ready.key for one in open_jobs]


@pytest.fixture
def began(tmp_path, monkeypatch):
    """An array of two jobs is on its way; → the takeover, its run, its open jobs and the ledger."""
    monkeypatch.setattr(jobs, "newest_input", lambda job, workflow: None)
    ledger = Ledger(tmp_path / "ledger.sqlite", "run")
    tasks = tuple(Task(f"run-t{n}", spec(n, "old"), HERE) for n in (1, 2))
    one = Submission("run-s1", "takeda-r", HERE, tasks)
    ledger.intend(one)
    ledger.accept(one, Accepted("7", {"run-t1": "7:0", "run-t2": "7:1"}))

    def begin(end):
        run, open_jobs = Run(), OpenJobs()
        takeover = Takeover(run, ledger, open_jobs, {"here": HERE}, SimpleNamespace())
        takeover.remember(KNOWN, None)
        backend = SimpleNamespace(finds_its_runs=False, end=end)
        takeover.begin(SimpleNamespace(of=lambda target: backend))
        (remembered,) = ledger.remembered({"here": HERE})
        takeover.reattached(remembered, remembered.accepted)
        return takeover, run, open_jobs, ledger

    yield begin
    ledger.close()


def hand_over(takeover, open_jobs, number, fingerprint):
    open_job = OpenJob(None, Ready(number, spec(number, fingerprint), ()), "")
    open_jobs.add(open_job)
    return takeover.takes(open_job)


def test_the_same_job_is_linked_to_its_task(began):
    takeover, run, open_jobs, _ = began(lambda active: pytest.fail("nothing is to be ended"))
    assert hand_over(takeover, open_jobs, 1, "old")
    assert open_jobs.of_task("run-t1").external_id == "7:0"
    assert (run.events, run.sent) == (["reattached"], [])


def test_what_has_changed_is_ended_with_its_array_and_all_of_it_is_sent_anew(began):
    ended = []
    takeover, run, open_jobs, ledger = began(ended.append)
    hand_over(takeover, open_jobs, 2, "old")
    assert hand_over(takeover, open_jobs, 1, "new")
    assert [one.accepted.external_id for one in ended] == ["7"]
    assert sorted(run.sent) == [1, 2]
    assert ledger.remembered({"here": HERE}) == []


def test_nothing_is_sent_beside_what_would_not_end(began):
    def refuse(active):
        raise TakedaError("job 7 would not end")

    takeover, run, open_jobs, ledger = began(refuse)
    hand_over(takeover, open_jobs, 2, "old")
    assert hand_over(takeover, open_jobs, 1, "new")
    assert run.sent == []
    assert sorted(key for key, _ in run.done) == [1, 2]
    assert all(one.kind is FailureKind.LOST and one.permanent for _, one in run.done)
    assert "job 7 would not end" in run.done[0][1].reason
    # It is watched on, and known to whoever comes next.
    assert run.the_lane.adopted == ["run-s1", "run-s1"]
    assert len(ledger.remembered({"here": HERE})) == 1
