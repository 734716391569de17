"""What a poll says of tasks: records first, doubts need time, silence ends nothing."""

import json

import pytest
from slurm_builders import TRUE, FakeSlurm, active, sighting, submission

from snakemake_executor_takeda.backends.slurm.clients.base import SlurmSilent
from snakemake_executor_takeda.backends.slurm.records import ExitRecords
from snakemake_executor_takeda.backends.slurm.watching import Watcher
from snakemake_executor_takeda.values import FailureKind, Shape


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class Bench:
    """A watcher over fakes; each poll lets seconds pass."""

    def __init__(self, folder):
        self.slurm, self.clock = FakeSlurm(), Clock()
        self.exits, self.logs = folder / "exits", folder / "logs"
        self.exits.mkdir()
        self.watcher = Watcher(self.slurm, ExitRecords(self.exits), self.logs, clock=self.clock)

    def record(self, task_id, code):
        content = {"task_id": task_id, "exit_code": code, "started": 10.0, "ended": 14.0}
        content |= {"host": "node-9", "max_rss_kib": 2048}
        (self.exits / f"{task_id}.json").write_text(json.dumps(content))

    def log(self, sent, index, text):
        path = self.logs / sent.submission_id / f"{index}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def poll(self, *sent, seconds=0.0):
        self.clock.now += seconds
        return list(self.watcher.poll(sent))

    def until_told(self, sent, polls=50, seconds=10.0):
        for _ in range(polls):
            if updates := self.poll(sent, seconds=seconds):
                return updates
        raise AssertionError("nothing was told")


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_start_is_told_once_with_the_nodes(bench):
    sent = active(submission())
    bench.slurm.sees(sighting("PENDING", reason="Resources"))
    assert bench.poll(sent) == []
    bench.slurm.sees(sighting("RUNNING", nodes="node-[1-2]"))
    (update,) = bench.poll(sent)
    assert (update.task_id, update.outcome) == ("s1-t0", None)
    assert update.detail == {"nodes": "node-[1-2]"}
    assert bench.poll(sent) == []


def test_success_is_told_with_nodes_wall_time_and_memory(bench):
    sent = active(submission())
    bench.slurm.sees(sighting("COMPLETING", nodes="node-[1-2]"))
    bench.record("s1-t0", 0)
    (update,) = bench.poll(sent)
    assert update.outcome.succeeded
    assert update.outcome.wall_seconds == 4.0
    assert update.outcome.detail["nodes"] == "node-[1-2]"
    assert update.outcome.detail["max_rss_kib"] == 2048


def test_all_nodes_are_told_though_some_were_given_back_already(bench):
    sent = active(submission(shape=Shape(nodes=2, tasks=4, mpi="srun")))
    bench.record("s1-t0", 0)
    bench.slurm.sees(sighting("COMPLETING", nodes="node-1"))
    assert bench.poll(sent) == []
    bench.slurm.sees(sighting("COMPLETED", nodes="node-[1-2]"))
    (update,) = bench.poll(sent)
    assert update.outcome.detail["nodes"] == "node-[1-2]"


def test_nodes_seen_while_it_ran_are_kept(bench):
    sent = active(submission(shape=Shape(nodes=2, tasks=4, mpi="srun")))
    bench.slurm.sees(sighting("RUNNING", nodes="node-[1-2]"))
    bench.poll(sent)
    bench.record("s1-t0", 0)
    bench.slurm.sees(sighting("COMPLETING", nodes="node-1"))
    (update,) = bench.poll(sent)
    assert update.outcome.detail["nodes"] == "node-[1-2]"


def test_a_node_that_is_never_given_back_does_not_hold_up_the_end(bench):
    sent = active(submission(shape=Shape(nodes=2, tasks=4, mpi="srun")))
    bench.record("s1-t0", 0)
    bench.slurm.sees(sighting("COMPLETING", nodes="node-1"))
    (update,) = bench.until_told(sent)
    assert update.outcome.succeeded


def test_one_query_for_any_number_of_submissions(bench):
    many = [active(submission([TRUE] * 50, number=n), job_id=str(n)) for n in range(40)]
    bench.slurm.sees(*(sighting("RUNNING", f"{n}_{i}") for n in range(40) for i in range(50)))
    assert len(bench.poll(*many)) == 2000
    assert bench.slurm.calls == ["queue"]


def test_children_end_on_their_own_and_a_failure_shows_its_log(bench):
    array = submission([TRUE] * 3)
    bench.slurm.sees(
        sighting("COMPLETED", "7_0"),
        sighting("FAILED", "7_1", "NonZeroExitCode"),
        sighting("RUNNING", "7_2"),
    )
    bench.record("s1-t0", 0)
    bench.record("s1-t1", 3)
    log = bench.log(array, 1, "\n".join(f"line {n}" for n in range(100)) + "\nno such file \xff\n")
    first, second, third = bench.poll(active(array))
    assert first.outcome.succeeded
    assert third.outcome is None
    assert second.outcome.kind == FailureKind.USER
    assert second.outcome.exit_code == 3
    assert len(second.outcome.log_tail) == 30
    assert second.outcome.log_tail[-1] == "no such file \xff"
    assert second.outcome.log_location == str(log)


def test_failure_waits_for_slurm_to_say_why(bench):
    sent = active(submission())
    bench.record("s1-t0", 143)
    bench.slurm.sees(sighting("COMPLETING"))
    assert bench.poll(sent) == []
    bench.slurm.sees(sighting("TIMEOUT", reason="TimeLimit"))
    (update,) = bench.poll(sent)
    assert update.outcome.kind == FailureKind.TIMEOUT


def test_failure_does_not_wait_for_ever(bench):
    sent = active(submission())
    bench.record("s1-t0", 3)
    bench.slurm.sees(sighting("COMPLETING"))
    (update,) = bench.until_told(sent)
    assert update.outcome.kind == FailureKind.USER
    assert update.outcome.exit_code == 3


def test_a_late_record_is_waited_for(bench):
    """As NFS shows files late, COMPLETED or absence alone is not believed at once."""
    sent = active(submission())
    bench.slurm.sees(sighting("FAILED"))
    assert bench.poll(sent, seconds=3) == []
    assert bench.poll(sent, seconds=3) == []
    bench.slurm.sees()
    assert bench.poll(sent, seconds=3) == []
    bench.record("s1-t0", 0)
    (update,) = bench.poll(sent)
    assert update.outcome.succeeded


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("COMPLETED", None),
        ("FAILED", FailureKind.CONFIGURATION),
        ("NODE_FAIL", FailureKind.NODE_FAILURE),
    ],
)
def test_an_end_without_record_is_believed_in_time(bench, state, kind):
    sent = active(submission())
    bench.slurm.sees(sighting(state))
    (update,) = bench.until_told(sent)
    assert update.outcome.kind == kind


def test_absent_is_not_lost_while_the_controller_remembers(bench):
    sent = active(submission())
    bench.slurm.jobs_are = {"7": sighting("NODE_FAIL", reason="NodeDown")}
    (update,) = bench.until_told(sent)
    assert update.outcome.kind == FailureKind.NODE_FAILURE
    assert bench.slurm.calls.count("jobs 7") == 1


def test_absent_everywhere_is_lost(bench):
    sent = active(submission())
    (update,) = bench.until_told(sent)
    assert update.outcome.kind == FailureKind.LOST
    assert bench.slurm.calls.count("queue") >= 3


def test_silence_ends_nothing_however_long(bench):
    sent = active(submission([TRUE] * 2))
    bench.record("s1-t1", 3)
    bench.slurm.queue_is = SlurmSilent("connect failure")
    for _ in range(100):
        assert bench.poll(sent, seconds=60) == []
    bench.record("s1-t0", 0)
    (update,) = bench.poll(sent)
    assert update.task_id == "s1-t0"
    assert update.outcome.succeeded


def test_silence_does_not_count_as_absence(bench):
    sent = active(submission())
    for _ in range(5):
        assert bench.poll(sent, seconds=1) == []
    bench.slurm.queue_is = SlurmSilent("connect failure")
    for _ in range(10):
        assert bench.poll(sent, seconds=60) == []
    bench.slurm.sees()
    assert bench.poll(sent, seconds=1) == []


def test_what_can_never_start_is_ended_and_told(bench):
    sent = active(submission([TRUE] * 2))
    bench.slurm.sees(
        sighting("PENDING", "7_0", "BadConstraints"), sighting("PENDING", "7_1", "Resources")
    )
    (update,) = bench.until_told(sent)
    assert update.task_id == "s1-t0"
    assert update.outcome.kind == FailureKind.CONFIGURATION
    assert "BadConstraints" in update.outcome.reason
    assert bench.slurm.cancelled == [(["7_0"], False)]


def test_a_broken_record_is_no_record(bench):
    sent = active(submission())
    (bench.exits / "s1-t0.json").write_text('{"exit_code":')
    bench.slurm.sees(sighting("RUNNING"))
    (update,) = bench.poll(sent)
    assert update.outcome is None


def test_closed_tasks_are_not_told_again(bench):
    array = submission([TRUE] * 2)
    bench.record("s1-t0", 0)
    bench.record("s1-t1", 0)
    (update,) = bench.poll(active(array, open_ids={"s1-t1"}))
    assert update.task_id == "s1-t1"
