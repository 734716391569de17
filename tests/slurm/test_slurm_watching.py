"""What a poll says of tasks: records first, doubts need time, silence ends nothing."""

import json

import pytest
from slurm_builders import TRUE, FakeSlurm, active, sighting, submission, target

from snakemake_executor_takeda.backends.slurm.accounting import Account
from snakemake_executor_takeda.backends.slurm.clients.base import SlurmSilent
from snakemake_executor_takeda.backends.slurm.exchange import S3Records
from snakemake_executor_takeda.backends.slurm.facts import NodeFacts
from snakemake_executor_takeda.backends.slurm.records import ExitRecords, log_folder
from snakemake_executor_takeda.backends.slurm.watching import Watcher
from snakemake_executor_takeda.values import FailureKind, Shape


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class Nothing:
    """A bucket without an object."""

    def get_paginator(self, name):
        return self

    def paginate(self, **where):
        return []


class Bench:
    """A watcher over fakes; each poll lets seconds pass."""

    def __init__(self, folder):
        self.slurm, self.clock = FakeSlurm(), Clock()
        self.exits, self.logs = folder / "exits", folder / "logs"
        self.exits.mkdir()
        self.watcher = Watcher(self.slurm, ExitRecords(self.exits), self.logs, clock=self.clock)

    def record(self, task_id, code):
        content = {"task_id": task_id, "exit_code": code, "started": 10.0, "ended": 14.0}
        content |= {"host": "node-9", "max_rss_kib": 2048, "cpu_seconds": 3.5}
        (self.exits / f"{task_id}.json").write_text(json.dumps(content))

    def log(self, sent, index, text):
        path = log_folder(self.logs, sent) / f"{index}.log"
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


def test_nodes_that_the_queue_leaves_out_are_asked_for_once(bench):
    """As slurmrestd's light query does. Of a task on one node its own record tells."""
    mpi = active(submission(shape=Shape(nodes=2, tasks=4, mpi="srun"), number=1))
    plain = active(submission(number=2), job_id="8")
    bench.slurm.sees(sighting("RUNNING"), sighting("RUNNING", "8"))
    bench.slurm.jobs_are = {"7": sighting("RUNNING", nodes="node-[1-2]")}
    started = {update.task_id: update.detail["nodes"] for update in bench.poll(mpi, plain)}
    assert started == {"s1-t0": "node-[1-2]", "s2-t0": ""}
    bench.record("s1-t0", 0)
    bench.slurm.sees(sighting("COMPLETING"), sighting("RUNNING", "8"))
    (update,) = bench.poll(mpi, plain)
    assert update.outcome.detail["nodes"] == "node-[1-2]"
    assert [call for call in bench.slurm.calls if call.startswith("jobs")] == ["jobs 7"]


def test_a_job_whose_id_was_given_to_another_is_not_taken_for_it(bench):
    """A controller that is killed forgets its last seconds, and counts on from before them."""
    forgotten, later = active(submission(number=1)), active(submission(number=2))
    bench.slurm.sees(sighting("RUNNING", nodes="node-1"))
    (update,) = bench.poll(forgotten, later)
    assert update.task_id == "s2-t0"
    bench.record("s2-t0", 0)
    bench.slurm.sees(sighting("COMPLETED"))
    (update,) = bench.poll(forgotten, later)
    assert update.task_id == "s2-t0"
    bench.slurm.jobs_are = {"7": sighting("COMPLETED")}
    (update,) = bench.until_told(forgotten)
    assert (update.task_id, update.outcome.kind) == ("s1-t0", FailureKind.LOST)
    assert not [call for call in bench.slurm.calls if call.startswith("jobs")]


def test_a_forgotten_job_that_left_its_record_has_ended_well(bench):
    forgotten, later = active(submission(number=1)), active(submission(number=2))
    bench.slurm.sees(sighting("PENDING"))
    bench.record("s1-t0", 0)
    (update,) = bench.poll(forgotten, later)
    assert (update.task_id, update.outcome.succeeded) == ("s1-t0", True)


@pytest.mark.parametrize(("name", "ends_well"), [("takeda-align-1", True), ("theirs", False)])
def test_what_slurm_remembers_under_the_id_must_bear_the_name(bench, name, ends_well):
    bench.slurm.jobs_are = {"7": sighting("COMPLETED", name=name)}
    (update,) = bench.until_told(active(submission()))
    assert update.outcome.succeeded == ends_well


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED"])
def test_the_end_of_another_runs_job_under_the_same_id_is_not_ours(bench, state):
    """What the queue shows has no names. A controller that was killed gives ids twice."""
    ours = submission()
    log_folder(bench.logs, ours).mkdir(parents=True)
    bench.slurm.sees(sighting(state))
    bench.slurm.jobs_are = {"7": sighting(state, name="takeda-of-another-run")}
    (update,) = bench.until_told(active(ours))
    assert update.outcome.kind == FailureKind.NODE_FAILURE
    assert "never began" in update.outcome.reason


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
    third, first, second = bench.poll(active(array))
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


def test_an_end_that_slurm_forgets_before_it_is_believed_still_counts(bench):
    """MinJobAge may be some seconds."""
    array = submission()
    bench.log(array, 0, "begun")
    bench.slurm.sees(sighting("TIMEOUT", reason="TimeLimit"))
    assert bench.poll(active(array)) == []
    bench.slurm.sees()
    (update,) = bench.until_told(active(array), seconds=1)
    assert update.outcome.kind == FailureKind.TIMEOUT


def test_absent_everywhere_is_lost_if_it_had_begun(bench):
    array = submission()
    bench.log(array, 0, "begun")
    (update,) = bench.until_told(active(array))
    assert update.outcome.kind == FailureKind.LOST
    assert bench.slurm.calls.count("queue") >= 3


def test_absent_everywhere_is_sent_again_if_it_never_began(bench):
    """A controller that was killed has forgotten the jobs of its last seconds."""
    array = submission()
    log_folder(bench.logs, array).mkdir(parents=True)
    (update,) = bench.until_told(active(array))
    assert update.outcome.kind == FailureKind.NODE_FAILURE
    assert "never began" in update.outcome.reason


def test_waiting_tasks_that_were_cancelled_with_all_of_their_array_are_not_sent_again(bench):
    """`scancel --me` and the like leave one job without indices of them (22.05 to 24.11)."""
    array = submission([TRUE] * 3)
    log_folder(bench.logs, array).mkdir(parents=True)
    bench.log(array, 0, "begun")
    bench.record("s1-t0", 0)
    bench.slurm.sees(sighting("CANCELLED", "7", "Priority"), sighting("RUNNING", "7_0"))
    ends = {u.task_id: u.outcome for u in bench.poll(active(array))}
    ends |= {
        u.task_id: u.outcome for u in bench.until_told(active(array, open_ids={"s1-t1", "s1-t2"}))
    }
    kinds = {task_id: outcome.kind for task_id, outcome in ends.items()}
    assert kinds == {"s1-t0": None, "s1-t1": FailureKind.USER, "s1-t2": FailureKind.USER}
    assert "CANCELLED" in ends["s1-t1"].reason


@pytest.mark.parametrize("rest", ["7_*", "7_2"])
def test_a_waiting_task_that_was_cancelled_alone_is_not_sent_again(bench, rest):
    """`scancel 7_1`: nothing lists it any more, but its array is known."""
    array = submission([TRUE] * 3)
    log_folder(bench.logs, array).mkdir(parents=True)
    bench.slurm.sees(sighting("PENDING", "7_0"), sighting("PENDING", "7_2"))
    bench.slurm.jobs_are = {rest: sighting("PENDING", rest, name=array.name)}
    (update,) = bench.until_told(active(array))
    assert (update.task_id, update.outcome.kind) == ("s1-t1", FailureKind.USER)
    assert "CANCELLED" in update.outcome.reason


def test_an_array_of_another_under_the_same_id_does_not_tell_of_a_cancelled_task(bench):
    array = submission([TRUE] * 3)
    log_folder(bench.logs, array).mkdir(parents=True)
    bench.slurm.jobs_are = {"7_*": sighting("PENDING", "7_*", name="theirs")}
    updates = bench.until_told(active(array))
    assert {update.outcome.kind for update in updates} == {FailureKind.NODE_FAILURE}


def test_absent_everywhere_is_lost_where_logs_are_not_seen(bench):
    """On a machine that shares nothing with the cluster nobody knows whether it began."""
    (update,) = bench.until_told(active(submission()))
    assert update.outcome.kind == FailureKind.LOST


@pytest.mark.parametrize(
    ("tasks", "workdir", "log"),
    [
        (1, None, "node-2:/tmp/takeda-align-1.log"),
        (2, "/fsx/100%", "node-2:/fsx/100%/takeda-align-1_0.log"),
    ],
)
def test_from_afar_a_worker_that_failed_is_told_with_host_and_log(bench, tasks, workdir, log):
    records = S3Records(Nothing(), "s3://bucket/run/.takeda/r1/exits")
    bench.watcher = Watcher(bench.slurm, records, bench.logs, clock=bench.clock)
    sent = active(submission([TRUE] * tasks, on=target(workdir=workdir)), open_ids={"s1-t0"})
    name = "7_0" if tasks > 1 else "7"
    bench.slurm.sees(sighting("FAILED", name))
    bench.slurm.jobs_are = {name: sighting("FAILED", name, exit_code=1, nodes="node-[2-3]")}
    (update,) = bench.until_told(sent)
    assert update.outcome.log_location == log
    assert "can they read s3://bucket/run/.takeda/r1?" in update.outcome.advice
    assert "directory" not in update.outcome.advice


def test_many_vanished_jobs_cost_a_bounded_number_of_questions_per_poll(bench):
    many = [active(submission([TRUE] * 20, number=n), job_id=str(n)) for n in range(30)]
    told = 0
    for _ in range(40):
        before = len(bench.slurm.calls)
        told += sum(update.outcome is not None for update in bench.poll(*many, seconds=10))
        assert len(bench.slurm.calls) - before <= 12
        if told:
            break
    assert told == 10 * 20


class Database:
    def __init__(self, **accounts):
        self.asked, self.accounts, self.is_down = [], accounts, False

    def tasks(self, ids):
        self.asked.append(sorted(ids))
        if self.is_down:
            raise SlurmSilent("sacct: connection refused")
        return {key: value for key, value in self.accounts.items() if key in ids}


def test_the_database_is_asked_only_for_what_nothing_else_explains(bench):
    database = bench.watcher._accounting = Database()
    database.accounts["7_1"] = Account(sighting("TIMEOUT", "7_1", nodes="node-2"))
    sent = active(submission([TRUE] * 3))
    bench.slurm.sees(sighting("RUNNING", "7_0"))
    bench.slurm.jobs_are = {"7_2": sighting("NODE_FAIL", "7_2")}
    told = {}
    for _ in range(10):
        for update in bench.poll(sent, seconds=10):
            if update.outcome:
                told.setdefault(update.task_id, update.outcome)
    assert told["s1-t1"].kind == FailureKind.TIMEOUT
    assert told["s1-t1"].detail["nodes"] == "node-2"
    assert told["s1-t2"].kind == FailureKind.NODE_FAILURE
    assert "s1-t0" not in told
    assert {tuple(ids) for ids in database.asked} == {("7_1",)}


@pytest.mark.parametrize(
    ("account", "kind"),
    [
        (Account(sighting("TIMEOUT")), FailureKind.TIMEOUT),
        (Account(sighting("FAILED")), FailureKind.USER),
        (None, FailureKind.USER),
    ],
)
def test_a_failure_that_slurm_forgot_is_explained_by_the_database(bench, account, kind):
    """As after a controller that was away for longer than it remembers jobs."""
    bench.watcher._accounting = Database(**({"7": account} if account else {}))
    bench.record("s1-t0", 143)
    (update,) = bench.until_told(active(submission()))
    assert update.outcome.kind == kind
    assert update.outcome.exit_code == 143


def test_a_database_that_is_down_ends_no_task(bench):
    database = bench.watcher._accounting = Database()
    database.is_down = True
    array = submission()
    sent = active(array)
    bench.log(array, 0, "begun")
    for _ in range(60):
        assert bench.poll(sent, seconds=10) == []
    database.is_down = False
    database.accounts["7"] = Account(sighting("COMPLETED"))
    (update,) = bench.until_told(sent)
    assert update.outcome.succeeded


def test_a_cluster_without_database_is_never_asked_by_sacct(bench, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    bench.slurm.settings_are = {"AccountingStorageType": "accounting_storage/none"}
    (update,) = bench.until_told(active(submission()))
    assert update.outcome.kind == FailureKind.LOST


def test_ranks_are_counted_by_the_database_and_a_single_task_by_its_record(bench):
    database = bench.watcher._accounting = Database()
    database.accounts["7"] = Account(sighting("COMPLETED"), cpu_seconds=400.0, max_rss_kib=9000)
    mpi = active(submission(shape=Shape(nodes=2, tasks=4, mpi="srun")))
    bench.record("s1-t0", 0)
    bench.slurm.sees(sighting("COMPLETED", nodes="node-[1-2]"))
    (update,) = bench.poll(mpi)
    assert update.outcome.detail["cpu_seconds"] == 400.0
    assert update.outcome.detail["max_rss_kib"] == 9000
    database.is_down = True
    (update,) = bench.poll(mpi)
    assert update.outcome.succeeded
    assert "cpu_seconds" not in update.outcome.detail

    alone = active(submission(number=2), job_id="8")
    bench.record("s2-t0", 0)
    bench.slurm.sees(sighting("COMPLETED", "8"))
    (update,) = bench.poll(alone)
    assert update.outcome.detail["max_rss_kib"] == 2048
    assert update.outcome.detail["cpu_seconds"] == 3.5
    assert len(database.asked) == 2


def test_silence_ends_nothing_however_long(bench):
    sent = active(submission([TRUE] * 2))
    bench.record("s1-t1", 3)
    bench.slurm.queue_is = SlurmSilent("connect failure")
    for _ in range(100):
        assert not any(update.outcome for update in bench.poll(sent, seconds=60))
    bench.record("s1-t0", 0)
    (update,) = bench.poll(sent)
    assert update.task_id == "s1-t0"
    assert update.outcome.succeeded


def test_a_silence_and_its_end_are_told_once(bench):
    sent = active(submission([TRUE] * 2))
    bench.slurm.queue_is = SlurmSilent("connect failure")
    notes = [update.note for _ in range(60) for update in bench.poll(sent, seconds=10)]
    assert len(notes) == 1
    assert "connect failure" in notes[0] and "Nothing is taken as failed; open jobs (2)" in notes[0]
    bench.slurm.sees(sighting("RUNNING", "7_0"), sighting("RUNNING", "7_1"))
    first, *_ = bench.poll(sent)
    assert first.note == "Slurm answers again, after 9.8 min"
    assert [update.note for update in bench.poll(sent)] == []


def test_a_hiccup_is_not_told(bench):
    sent = active(submission())
    bench.slurm.queue_is = SlurmSilent("socket timed out")
    assert bench.poll(sent, seconds=10) == []
    bench.slurm.sees(sighting("PENDING"))
    assert bench.poll(sent, seconds=10) == []


def test_silence_does_not_count_as_absence(bench):
    sent = active(submission())
    for _ in range(5):
        assert bench.poll(sent, seconds=1) == []
    bench.slurm.queue_is = SlurmSilent("connect failure")
    for _ in range(10):
        assert not any(update.outcome for update in bench.poll(sent, seconds=60))
    bench.slurm.sees()
    assert not any(update.outcome for update in bench.poll(sent, seconds=1))


def test_what_can_never_start_is_taken_out_and_then_told(bench):
    sent = active(submission([TRUE] * 2))
    other = sighting("PENDING", "7_1", "Resources")
    bench.slurm.sees(sighting("PENDING", "7_0", "BadConstraints"), other)
    for _ in range(8):
        assert bench.poll(sent, seconds=10) == []
    assert bench.slurm.taken_out[0] == ["7_0"]
    bench.slurm.sees(sighting("CANCELLED", "7_0"), other)
    (update,) = bench.poll(sent)
    assert update.task_id == "s1-t0"
    assert update.outcome.kind == FailureKind.CONFIGURATION
    assert "BadConstraints" in update.outcome.reason


def test_what_waits_too_long_goes_elsewhere_but_not_what_began_meanwhile(bench):
    on = target(fallback="od", pending_notice=5, pending_limit=20)
    sent = active(submission([TRUE] * 3, on=on))
    down = "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions"
    bench.slurm.sees(*(sighting("PENDING", f"7_{n}", down) for n in range(3)))
    (note,) = bench.until_told(sent, seconds=60)
    assert "pending for 5 min: 3 of 3 align on target hpc (job 7): Nodes required" in note.note
    assert "After 10 min it goes to od" in note.note
    for _ in range(6):
        assert bench.poll(sent, seconds=60) == []
    # all that waits of the job, by its own number
    assert bench.slurm.taken_out[-1] == ["7"]
    bench.slurm.sees(
        sighting("CANCELLED", "7_0"), sighting("RUNNING", "7_1"), sighting("PENDING", "7_2", down)
    )
    began, out = bench.poll(sent)
    assert (out.task_id, out.outcome.kind) == ("s1-t0", FailureKind.NO_CAPACITY)
    assert (began.task_id, began.outcome) == ("s1-t1", None)
    bench.record("s1-t1", 0)
    bench.slurm.sees()
    left = active(sent.submission, open_ids={"s1-t1", "s1-t2"})
    ends = {update.task_id: update.outcome.kind for update in bench.poll(left)}
    assert ends == {"s1-t1": None, "s1-t2": FailureKind.NO_CAPACITY}


@pytest.mark.parametrize("record", [None, 143])
def test_what_began_just_as_it_was_taken_out_goes_elsewhere_too(bench, record):
    """Slurm 22.05 can't be told to leave alone a task of an array that has begun."""
    on = target(fallback="od", pending_notice=5, pending_limit=20)
    sent = active(submission([TRUE] * 3, on=on))
    bench.slurm.sees(*(sighting("PENDING", f"7_{n}", "Resources") for n in range(3)))
    for _ in range(30):
        bench.poll(sent, seconds=60)
    assert bench.slurm.taken_out
    bench.slurm.sees(sighting("COMPLETING", "7_0", nodes="node-1"))
    bench.poll(active(sent.submission, open_ids={"s1-t0"}))
    if record:
        bench.record("s1-t0", record)
    bench.slurm.sees(sighting("CANCELLED", "7_0", nodes="node-1"))
    updates = bench.until_told(active(sent.submission, open_ids={"s1-t0"}))
    assert [u.outcome.kind for u in updates if u.outcome] == [FailureKind.NO_CAPACITY]


def test_what_went_on_after_it_was_to_be_taken_out_may_be_cancelled_by_its_owner(bench):
    on = target(fallback="od", pending_notice=5, pending_limit=20)
    sent = active(submission([TRUE] * 2, on=on), open_ids={"s1-t0"})
    bench.slurm.sees(sighting("PENDING", "7_0", "Resources"))
    for _ in range(30):
        bench.poll(sent, seconds=60)
    assert bench.slurm.taken_out
    bench.slurm.sees(sighting("RUNNING", "7_0", nodes="node-1"))
    assert [update.outcome for update in bench.poll(sent)] == [None]
    bench.slurm.sees(sighting("CANCELLED", "7_0", nodes="node-1"))
    (update,) = bench.until_told(sent)
    assert update.outcome.kind == FailureKind.USER


ICE = "(Code:InsufficientInstanceCapacity)Failure when resuming nodes"


@pytest.mark.parametrize("state", ["NODE_FAIL", "BOOT_FAIL"])
def test_a_node_for_which_there_was_no_machine_is_no_loss(bench, state):
    bench.slurm.nodes_are = [NodeFacts("q-dy-c5-1", ("DOWN", "CLOUD"), 4, 8000, reason=ICE)]
    sent = active(submission(on=target("spot")))
    bench.slurm.sees(sighting(state, nodes="q-dy-c5-1"))
    (update,) = bench.until_told(sent)
    assert update.outcome.kind == FailureKind.NO_CAPACITY
    assert ICE in update.outcome.reason
    assert bench.slurm.calls.count("nodes") == 1


def test_a_failure_without_record_is_asked_for_once_more(bench):
    """squeue tells no exit code, and slurmrestd's states no nodes."""
    sent = active(submission([TRUE] * 3))
    bench.slurm.sees(*(sighting("FAILED", f"7_{n}") for n in range(3)))
    bench.slurm.jobs_are = {
        "7_0": sighting("FAILED", "7_0", exit_code=137, nodes="node-2"),
        "7_1": sighting("FAILED", "7_1", exit_code=127),
    }
    ends = {update.task_id: update.outcome for update in bench.until_told(sent)}
    assert ends["s1-t0"].kind == FailureKind.OUT_OF_MEMORY
    assert ends["s1-t0"].detail["nodes"] == "node-2"
    assert (ends["s1-t1"].kind, ends["s1-t1"].exit_code) == (FailureKind.CONFIGURATION, 127)
    assert ends["s1-t2"].kind == FailureKind.CONFIGURATION
    assert bench.slurm.calls.count("jobs 7") == 1


def test_a_node_that_was_lost_at_work_is_a_loss_whatever_came_after(bench):
    bench.slurm.nodes_are = [NodeFacts("q-dy-c5-1", ("DOWN",), 4, 8000, reason=ICE)]
    array = submission(on=target("spot"))
    bench.log(array, 0, "at work")
    bench.slurm.sees(sighting("NODE_FAIL", nodes="q-dy-c5-1"))
    (update,) = bench.until_told(active(array))
    assert update.outcome.kind == FailureKind.INTERRUPTED


def test_a_node_that_fails_twice_is_told_once_and_excluded(bench):
    bench.slurm.nodes_are = [NodeFacts("node-2", ("DOWN",), 4, 8000, reason="Not responding")]
    notes = []
    for number in (1, 2, 3):
        sent = active(submission(number=number), job_id=str(number))
        bench.slurm.sees(sighting("NODE_FAIL", str(number), nodes="node-2"))
        updates = bench.until_told(sent)
        assert updates[-1].outcome.kind == FailureKind.NODE_FAILURE
        notes += [update.note for update in updates if update.note]
        assert bench.watcher.excluded_nodes() == (("node-2",) if number >= 2 else ())
    assert len(notes) == 1
    assert "node node-2 failed 2 times (Not responding)" in notes[0]


def test_spot_names_are_not_excluded_as_the_machine_behind_them_is_another(bench):
    for number in (1, 2, 3):
        sent = active(submission(number=number, on=target("spot")), job_id=str(number))
        bench.slurm.sees(sighting("NODE_FAIL", str(number), nodes="spot-dy-c5-1"))
        bench.until_told(sent)
    assert bench.watcher.excluded_nodes() == ()


def test_the_record_of_an_earlier_run_is_not_the_end_of_this_one(bench):
    sent = active(submission())
    bench.record("s1-t0", 143)  # ended long ago
    bench.slurm.sees(sighting("RUNNING", wall_seconds=5.0))
    for _ in range(30):
        assert [update.outcome for update in bench.poll(sent, seconds=10)] in ([], [None])


def test_a_task_that_a_site_has_put_back_into_the_queue_has_not_ended(bench):
    sent = active(submission())
    bench.record("s1-t0", 143)
    bench.slurm.sees(sighting("PENDING", reason="BeginTime"))
    for _ in range(30):
        assert not any(update.outcome for update in bench.poll(sent, seconds=10))


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
def test_the_record_of_an_earlier_run_does_not_hasten_looks_at_the_queue(bench, state):
    sent = active(submission())
    paced(bench).record("s1-t0", 143)
    bench.slurm.sees(sighting(state, reason="BeginTime", wall_seconds=5.0))
    looks, _ = polled(bench, sent, seconds=300)
    assert looks < 40


def test_a_light_query_does_not_take_an_earlier_run_for_this_one(bench):
    """slurmrestd's states tell neither since when a task runs, nor why it is ending."""
    sent = active(submission())
    bench.record("s1-t0", 143)
    bench.slurm.sees(sighting("RUNNING"))
    bench.slurm.jobs_are = {"7": sighting("RUNNING", wall_seconds=5.0)}
    for _ in range(30):
        assert not any(update.outcome for update in bench.poll(sent, seconds=10))
    bench.slurm.sees(sighting("COMPLETING"))
    bench.slurm.jobs_are = {"7": sighting("COMPLETING", reason="TimeLimit")}
    (update,) = bench.until_told(sent)
    assert update.outcome.kind == FailureKind.TIMEOUT


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


def paced(bench):
    """Looks at the queue are paced, as in a run."""
    bench.watcher = Watcher(
        bench.slurm,
        ExitRecords(bench.exits),
        bench.logs,
        clock=bench.clock,
        longest_pause_seconds=10.0,
    )
    return bench


def polled(bench, *sent, seconds, every=0.5):
    """Polls in succession: how often the queue was asked, and what was told."""
    before = bench.slurm.calls.count("queue")
    told = [
        update for _ in range(int(seconds / every)) for update in bench.poll(*sent, seconds=every)
    ]
    return bench.slurm.calls.count("queue") - before, told


def test_ends_by_record_are_told_at_once_and_do_not_hasten_looks_at_the_queue(bench):
    paced(bench)
    sent = submission([TRUE] * 600)
    bench.slurm.sees(*(sighting("RUNNING", f"7_{index}") for index in range(600)))
    polled(bench, active(sent), seconds=1)
    open_ids = [task.task_id for task in sent.tasks]
    looks = 0
    while open_ids:
        bench.record(open_ids[0], 0)
        asked, told = polled(bench, active(sent, open_ids=open_ids), seconds=0.5)
        looks += asked
        assert open_ids.pop(0) in [update.task_id for update in told if update.outcome]
    assert 22 <= looks <= 30


def test_among_thousands_of_tasks_there_are_fewer_looks(bench):
    paced(bench)
    sent = active(submission([TRUE] * 3000))
    bench.slurm.sees(*(sighting("RUNNING", f"7_{index}") for index in range(3000)))
    assert polled(bench, sent, seconds=300, every=2.0)[0] in range(14, 18)


def test_ends_are_seen_before_a_forgetful_slurm_drops_them(bench):
    paced(bench)
    bench.watcher.remembered_for(6)
    many = [active(submission([TRUE] * 1000, number=n), job_id=str(n)) for n in range(3)]
    bench.slurm.sees(*(sighting("RUNNING", f"{n}_{i}") for n in range(3) for i in range(1000)))
    polled(bench, *many, seconds=60)
    before = bench.slurm.calls.count("queue")
    polled(bench, *many, seconds=60)
    assert bench.slurm.calls.count("queue") - before >= 60 / 2.5


def test_what_a_record_does_not_say_is_asked_within_a_second(bench):
    paced(bench)
    sent = active(submission([TRUE, TRUE]))
    bench.slurm.sees(sighting("RUNNING", "7_0"), sighting("RUNNING", "7_1"))
    polled(bench, sent, seconds=60)
    bench.slurm.sees(sighting("TIMEOUT", "7_0"), sighting("RUNNING", "7_1"))
    assert polled(bench, sent, seconds=1) == (0, [])
    bench.record("s1-t0", 143)
    _, (update,) = polled(bench, sent, seconds=1)
    assert update.outcome.kind == FailureKind.TIMEOUT


def test_the_nodes_of_ranks_are_asked_for_when_they_end(bench):
    paced(bench)
    sent = active(submission(shape=Shape(nodes=2, tasks=4, mpi="srun")))
    bench.slurm.sees(sighting("RUNNING"))
    polled(bench, sent, seconds=60)
    bench.slurm.sees(sighting("COMPLETED", nodes="node-[1-2]"))
    bench.record("s1-t0", 0)
    _, (update,) = polled(bench, sent, seconds=1)
    assert update.outcome.detail["nodes"] == "node-[1-2]"


def test_a_new_submission_is_looked_at_soon(bench):
    paced(bench)
    first, second = active(submission()), active(submission(number=2), job_id="78")
    bench.slurm.sees(sighting("RUNNING"))
    polled(bench, first, seconds=60)
    assert polled(bench, first, second, seconds=1)[0] == 1


def test_submissions_that_go_on_and_on_do_not_hasten_looks_among_many_tasks(bench):
    paced(bench)
    many = [active(submission([TRUE] * 800, number=0), job_id="1000")]
    tasks = [f"1000_{index}" for index in range(800)] + [str(number) for number in range(1, 61)]
    bench.slurm.sees(*(sighting("RUNNING", name) for name in tasks))
    looks = 0
    for number in range(1, 61):
        many.append(active(submission(number=number), job_id=str(number)))
        looks += polled(bench, *many, seconds=2)[0]
    assert looks < 20


def test_a_doubt_is_looked_into_every_few_seconds(bench):
    paced(bench)
    sent = active(submission())
    bench.slurm.sees(sighting("RUNNING"))
    polled(bench, sent, seconds=60)
    bench.slurm.sees(sighting("COMPLETED"))
    _, told = polled(bench, sent, seconds=25)
    assert told[0].outcome.succeeded


def test_a_node_that_fails_twice_counts_though_the_worker_left_a_record(bench):
    """Slurm ends the task by SIGTERM when it finds the node down."""
    notes = []
    for number in (1, 2):
        sent = active(submission(number=number), job_id=str(number))
        bench.slurm.sees(sighting("NODE_FAIL", str(number), nodes="node-9"))
        bench.record(f"s{number}-t0", 143)
        notes += [update.note for update in bench.until_told(sent) if update.note]
    assert bench.watcher.excluded_nodes() == ("node-9",)
    assert len(notes) == 1
