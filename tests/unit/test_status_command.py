"""`takeda status` and `takeda cancel`: what they tell and settle of a ledger, with backends that are made up."""

import io
import json
import os
import socket
import sqlite3
import threading
from contextlib import closing

import pytest

from snakemake_executor_takeda.audit.verifying import verify
from snakemake_executor_takeda.backends.base import SubmissionDelayed
from snakemake_executor_takeda.cli import main
from snakemake_executor_takeda.ending import RunEnder
from snakemake_executor_takeda.ledger import Ledger, ends_of_event_log, last_run
from snakemake_executor_takeda.resuming import ControllerLock
from snakemake_executor_takeda.values import (
    Accepted,
    FailureKind,
    JobSpec,
    Outcome,
    Shape,
    Submission,
    TakedaError,
    Target,
    Task,
    Update,
)

SPOT, HPC = Target("spot", "batch"), Target("hpc", "slurm")
LOST = Outcome(FailureKind.INTERRUPTED, reason="Host EC2 (instance i-1) terminated.")
WRONG = Outcome(FailureKind.USER, reason="the command failed")


def submission(number, target, *jobs):
    """Of jobs (rule, wildcard n)."""
    tasks = tuple(
        Task(
            f"r-t{number}{index}",
            JobSpec(index, rule, {"n": n}, 1, Shape(), {}, rules=(rule,), identity=f"{rule}{n}"),
            target,
        )
        for index, (rule, n) in enumerate(jobs)
    )
    return Submission(f"r-s{number}", f"takeda-{number}", target, tasks)


def accept(ledger, one, job_id):
    ledger.intend(one)
    ids = {task.task_id: f"{job_id}:{i}" for i, task in enumerate(one.tasks)}
    ledger.accept(one, Accepted(job_id, ids))


@pytest.fixture
def state(tmp_path):
    folder = tmp_path / ".snakemake/takeda"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def ledger(state, tmp_path):
    """Of a run whose controller is gone: one job failed, one was sent again, five tasks are open."""
    one = Ledger(state / "ledger.sqlite", "r")
    one.begin(tmp_path, state / "runs/r", None, {"slurm_partition": "p"})
    accept(one, submission(1, SPOT, ("align", "1"), ("align", "2"), ("align", "3")), "j")
    one.end({"r-t10": Outcome(), "r-t11": LOST, "r-t12": WRONG})
    accept(one, submission(2, SPOT, ("align", "2")), "k")
    accept(one, submission(3, HPC, ("tree", "1"), ("tree", "2"), ("tree", "3")), "4711")
    one.intend(submission(4, HPC, ("plot", "1")))
    gone(state)
    yield one
    one.close()


def gone(state, **values):
    """The controller is another process, which has ended, unless the values say otherwise."""
    words = {"pid": 2**22 + 1, "process_began": 1.0} | values
    with sqlite3.connect(state / "ledger.sqlite") as db:
        db.execute(
            f"update run set {', '.join(f'{name} = ?' for name in words)}", [*words.values()]
        )


def status(capsys, *arguments):
    code = main(["status", *map(str, arguments)])
    return code, capsys.readouterr().out


@pytest.mark.usefixtures("ledger")
def test_status_tells_what_is_open_what_failed_and_what_to_type(tmp_path, capsys):
    code, said = status(capsys, tmp_path)
    assert code == 1
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert lines[0].startswith("run r: its controller, process 4194305 on ")
    assert lines[0].endswith(" is gone: what was sent goes on")
    assert "target backend unanswered under way succeeded cancelled failed" in lines
    assert "spot batch 0 1 1 0 2 (1 interrupted, 1 user)" in lines
    assert "hpc slurm 1 3 0 0 0" in lines
    assert "align n=2 spot k:0 0 s ago" in lines
    assert "plot n=1 hpc (no answer yet) 0 s ago" in lines
    failed = lines[lines.index("failed, and not sent again:") + 1 :]
    assert failed[0] == "align n=3 spot j:2 user: the command failed"
    assert failed[1] == ""
    assert lines[-1].startswith("to go on, say the same snakemake command with --rerun-incomplete;")


@pytest.mark.usefixtures("ledger")
def test_status_says_unlock_where_snakemakes_lock_is_left(tmp_path, capsys):
    locks = tmp_path / ".snakemake/locks"
    locks.mkdir()
    (locks / "0.output.lock").touch()
    assert "--rerun-incomplete, and with --unlock before that" in status(capsys, tmp_path)[1]


def test_status_shows_twenty_or_all(tmp_path, ledger, capsys):
    accept(ledger, submission(5, SPOT, *(("many", str(n)) for n in range(30))), "m")
    shown = [line for line in status(capsys, tmp_path)[1].splitlines() if " ago" in line]
    assert "  and 15 more: --all shows them" in status(capsys, tmp_path)[1].splitlines()
    everything = status(capsys, tmp_path, "--all")[1]
    assert everything.count(" s ago") == len([s for s in shown if " s ago" in s]) + 15
    assert "more: --all" not in everything


def test_status_as_json(tmp_path, ledger, capsys):
    ledger.finish("detached")
    code, said = status(capsys, tmp_path, "--json")
    facts = json.loads(said)
    assert code == 1  # a job failed
    assert facts["state"] == "detached"
    assert facts["targets"][0]["failed"] == {"interrupted": 1, "user": 1}
    assert [task["external_id"] for task in facts["open"]] == [
        *("k:0", "4711:0", "4711:1", "4711:2", None)
    ]
    assert [task["wildcards"] for task in facts["failed"]] == [{"n": "3"}]
    assert facts["began_at"].endswith("+00:00")


def test_a_run_that_goes_well_is_no_problem(tmp_path, state, capsys):
    one = Ledger(state / "ledger.sqlite", "r")
    one.begin(tmp_path, state / "runs/r", None)
    accept(one, submission(1, SPOT, ("align", "1")), "j")
    code, said = status(capsys, tmp_path)
    assert code == 0
    assert f"run r: running under process {os.getpid()} on {socket.gethostname()}" in said
    assert "rerun" not in said
    one.end({"r-t10": Outcome()})
    one.finish("ended")
    one.close()
    code, said = status(capsys, tmp_path)
    assert (code, said.splitlines()[0]) == (0, "run r: ended")


@pytest.mark.usefixtures("ledger")
def test_of_another_machine_nothing_is_claimed(tmp_path, state, capsys):
    gone(state, host="elsewhere")
    said = status(capsys, tmp_path)[1]
    assert "running under process 4194305 on elsewhere, as far as can be seen from here" in said
    assert "if it is gone: to go on, say the same snakemake command" in said


@pytest.mark.usefixtures("ledger")
def test_a_copy_without_s3_is_sent_home(tmp_path, state, capsys):
    gone(state, workdir="/data/pipeline")
    assert (
        "this is a copy, whose jobs write into /data/pipeline: go on there"
        in (status(capsys, tmp_path)[1])
    )


@pytest.mark.parametrize("command", ["status", "cancel"])
def test_a_directory_without_a_run(tmp_path, capsys, command):
    assert main([command, str(tmp_path)]) == 2
    assert "name the working directory of a pipeline" in capsys.readouterr().err


def test_a_ledger_that_is_torn(tmp_path, state, ledger, capsys):
    ledger.close()
    for file in state.glob("ledger.sqlite*"):
        file.write_bytes(b"no database" * 1000)
    assert main(["status", str(tmp_path)]) == 1
    assert "is damaged" in capsys.readouterr().err


@pytest.mark.usefixtures("ledger")
def test_status_writes_nothing(tmp_path, state, capsys):
    before = (state / "ledger.sqlite").read_bytes()
    status(capsys, tmp_path)
    assert (state / "ledger.sqlite").read_bytes() == before


# Cancel.


class Service:
    """A backend of either kind. What it was told to end is in `ended`."""

    outlives_controller, finds_its_runs = True, False

    def __init__(self, found=None, outcomes=None, left=(), doubts=0, refuses=""):
        self.found = found
        self.outcomes = outcomes or {}
        self.left = set(left)
        self.doubts = doubts
        self.refuses = refuses
        self.ended = []

    def __call__(self, targets, context):
        self.targets = [target.name for target in targets]
        return self

    def check(self):
        if self.refuses:
            raise TakedaError(self.refuses)

    def poll(self, active):
        ids = {task_id for one in active for task_id in one.open_task_ids}
        return [Update(i, outcome) for i, outcome in self.outcomes.items() if i in ids]

    def reattach(self, remembered):
        if self.doubts:
            self.doubts -= 1
            raise SubmissionDelayed(0.0, "Slurm does not answer")
        if self.found is None:
            return None
        ids = {task.task_id: self.found for task in remembered.submission.tasks}
        return Accepted(self.found, ids)

    def cancel(self, active):
        self.ended += [one.accepted.external_id for one in active]
        return self.left

    def close(self):
        """Nothing is held."""


def end(tmp_path, batch, slurm, **flags):
    said = []
    ender = RunEnder(
        tmp_path,
        last_run(tmp_path / ".snakemake/takeda/ledger.sqlite"),
        {"spot": SPOT, "hpc": HPC},
        {"batch": batch, "slurm": slurm},
        said.append,
        **flags,
    )
    try:
        return ender.end(), said
    finally:
        ender.close()


def task_states(state):
    with closing(sqlite3.connect(state / "ledger.sqlite")) as db:
        return dict(db.execute("select task_id, state from task order by rowid"))


def events(state):
    return [json.loads(line) for line in (state / "events.jsonl").read_text().splitlines()]


@pytest.mark.usefixtures("ledger")
def test_cancel_ends_all_and_settles_ledger_and_log(tmp_path, state):
    batch, slurm = Service(), Service(found="4712", doubts=2, outcomes={"r-t30": Outcome()})
    ended, said = end(tmp_path, batch, slurm)
    assert ended.is_all
    assert (ended.cancelled, ended.had_ended) == ({"spot": 1, "hpc": 3}, {"hpc": 1})
    assert batch.ended == ["k"]
    assert slurm.ended == ["4711", "4712"]
    assert said == [
        "looks whether 1 submission that slurm did not answer came through",
        "Slurm does not answer",
    ]
    assert last_run(state / "ledger.sqlite").state == "cancelled"
    last = task_states(state)
    assert list(last.values()) == [
        *("succeeded", "failed", "failed", "cancelled"),
        *("succeeded", "cancelled", "cancelled", "cancelled"),
    ]
    log = events(state)
    told = {(e["event"], e["rule"], e["external_id"]) for e in log}
    assert ("cancelled", "plot", "4712") in told
    assert ("succeeded", "tree", "4711:0") in told
    assert log[-1]["event"] == "run_end"
    assert log[-1]["detail"]["status"] == "cancelled"
    lines = (state / "events.jsonl").read_bytes().splitlines(keepends=True)
    assert not verify(lines, ends_of_event_log(state / "ledger.sqlite")).problems


@pytest.mark.usefixtures("ledger")
def test_what_never_arrived_is_settled(tmp_path, state):
    ended, _ = end(tmp_path, Service(), Service(found=None))
    assert ended.never_sent == {"hpc": 1}
    assert last_run(state / "ledger.sqlite").state == "cancelled"
    assert set(task_states(state).values()) == {"succeeded", "failed", "cancelled"}


@pytest.mark.usefixtures("ledger")
def test_what_would_not_end_stays_open_and_can_be_ended_later(tmp_path, state):
    ended, _ = end(tmp_path, Service(left=["k"]), Service(found="4712"))
    assert not ended.is_all
    assert ended.left == {"spot": 1}
    assert last_run(state / "ledger.sqlite").state == "detached"
    assert task_states(state)["r-t20"] == "accepted"
    batch = Service()
    assert end(tmp_path, batch, Service())[0].is_all
    assert batch.ended == ["k"]
    assert last_run(state / "ledger.sqlite").state == "cancelled"


@pytest.mark.usefixtures("ledger")
def test_nothing_is_settled_by_a_service_that_does_not_know_the_target(tmp_path, state):
    batch, slurm = Service(refuses="the queue does not exist in this account"), Service()
    ended, _ = end(tmp_path, batch, slurm)
    assert batch.ended == []
    assert ended.left == {"spot": 1}
    assert "the queue does not exist in this account. Nothing was ended there" in ended.troubles[0]
    assert end(tmp_path, batch, slurm, anyway=True)[0].is_all
    assert batch.ended == ["k"]


@pytest.mark.usefixtures("ledger")
def test_one_service_that_throws_does_not_keep_the_others(tmp_path):
    class Broken(Service):
        def cancel(self, active):
            raise TakedaError("these jobs would not end: k")

    slurm = Service(found="4712")
    ended, _ = end(tmp_path, Broken(), slurm)
    assert slurm.ended == ["4711", "4712"]
    assert (ended.left, ended.troubles) == ({"spot": 1}, ["these jobs would not end: k"])


@pytest.mark.usefixtures("ledger")
def test_a_ctrl_c_leaves_what_is_settled_whole_and_the_rest_open(tmp_path, state, monkeypatch):
    is_in, never = threading.Event(), threading.Event()

    class Slow(Service):
        def cancel(self, active):
            is_in.set()
            never.wait()

    join = threading.Thread.join

    def interrupted(thread, timeout=None):
        if "_end_of_backend" in thread.name:
            is_in.wait()
            raise KeyboardInterrupt
        join(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        end(tmp_path, Slow(), Service(found="4712"))
    never.set()
    monkeypatch.undo()
    assert last_run(state / "ledger.sqlite").state == "running"
    assert task_states(state)["r-t20"] == "accepted"
    assert end(tmp_path, Service(), Service())[0].is_all
    lines = (state / "events.jsonl").read_bytes().splitlines(keepends=True)
    assert not verify(lines, ends_of_event_log(state / "ledger.sqlite")).problems


@pytest.mark.usefixtures("ledger")
def test_a_target_that_the_policy_no_longer_has(tmp_path):
    known = last_run(tmp_path / ".snakemake/takeda/ledger.sqlite")
    with pytest.raises(TakedaError, match=r"'hpc'.*no longer has"):
        RunEnder(tmp_path, known, {"spot": SPOT}, {}, print)


def test_cancel_refuses_while_a_controller_runs(tmp_path, state, ledger, capsys):
    gone(state, pid=os.getpid(), process_began=last_process_began())
    assert main(["cancel", "--yes", str(tmp_path)]) == 1
    assert f"press Ctrl-C there, or `kill -INT {os.getpid()}`" in capsys.readouterr().err
    gone(state)
    lock = ControllerLock(state / "controller.lock", "r")
    assert main(["cancel", "--yes", str(tmp_path)]) == 1
    assert "one ledger has one controller" in capsys.readouterr().err
    lock.release()
    assert set(task_states(state).values()) >= {"accepted", "intent"}


def last_process_began():
    from snakemake_executor_takeda.processes import process_began

    return process_began(os.getpid())


@pytest.mark.usefixtures("ledger")
def test_cancel_asks_and_without_a_terminal_wants_to_be_told(tmp_path, state, capsys, monkeypatch):
    (tmp_path / "routing.yaml").write_text(
        "version: 1\ntargets:\n  spot: {backend: batch, queue: q}\n"
        "  hpc: {backend: slurm, partition: p}\ndefault: spot\n"
    )
    gone(state, policy=json.dumps({"routing": "routing.yaml"}))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main(["cancel", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "4 on hpc (slurm), 1 on spot (batch), say --yes" in said
    assert set(task_states(state).values()) >= {"accepted", "intent"}


@pytest.mark.usefixtures("ledger")
def test_cancel_names_the_flag_where_the_policy_is_not_to_be_had(tmp_path, state, capsys):
    gone(state, policy=json.dumps({"routing": "gone.yaml"}))
    assert main(["cancel", "--yes", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert f"there is no routing policy {tmp_path}/gone.yaml" in said
    assert "--routing FILE names another policy" in said


def test_a_run_that_has_ended_is_let_alone(tmp_path, ledger, capsys):
    ledger.finish("ended")
    assert main(["cancel", str(tmp_path)]) == 0
    assert "run r is ended: there is nothing to end" in capsys.readouterr().out
