"""What a later controller knows of an earlier one: memory, lock, ledger; and which ledgers it refuses."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from snakemake_executor_takeda.ledger import SCHEMA_VERSION, KnownRun, Ledger, last_run
from snakemake_executor_takeda.processes import claim, process_began, start_of
from snakemake_executor_takeda.resuming import (
    ControllerLock,
    Memory,
    check_is_free,
    is_before,
    unfinished_run,
)
from snakemake_executor_takeda.values import (
    Accepted,
    FailureKind,
    JobSpec,
    Outcome,
    Remembered,
    Shape,
    Submission,
    TakedaError,
    Target,
    Task,
)

HERE = Target("here", "fake")
SHAPE = Shape(cpus=4, mem_mb=2000, gpus=1, nodes=2, tasks=8, mpi="srun")
RUN = "20260101-000000-abcdef"


def task(number, attempt=1, rule="align", print_="f"):
    job = JobSpec(
        number,
        rule,
        {"sample": f"S{number}"},
        attempt,
        SHAPE,
        {"mem_mb": 2000, "runtime": 5},
        container="docker://a/b",
        rules=(rule,),
        identity=f"job{number}",
        fingerprint=print_,
    )
    return Task(f"{RUN}-t{number}", job, HERE, ("cmd",))


def submission(number, *tasks):
    return Submission(f"{RUN}-s{number}", f"takeda-align-{number}", HERE, tasks)


def accepted(one):
    return Accepted("p", {task.task_id: f"p:{i}" for i, task in enumerate(one.tasks)})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path):
    one = Ledger(path, RUN)
    yield one
    one.close()


def remembered(*tasks, open_ids=None):
    one = submission(1, *tasks)
    ids = frozenset(t.task_id for t in tasks) if open_ids is None else open_ids
    return Remembered(one, None, ids, 100.0)


# Memory.


def test_a_task_is_one_jobs_and_what_no_job_asks_for_stays_unclaimed():
    memory = Memory([remembered(task(1), task(2), task(3))])
    found = memory.find("job2")
    assert found.task.task_id == f"{RUN}-t2"
    memory.claim(found, key=7)
    assert memory.find("job2") is None and found.key == 7
    assert [one.task.job.identity for one in memory.unclaimed()] == ["job1", "job3"]
    assert memory.tasks([f"{RUN}-t2", "another"]) == [found]


def test_what_has_ended_is_no_more_on_its_way():
    memory = Memory([remembered(task(1), task(2), open_ids=frozenset({f"{RUN}-t2"}))])
    assert memory.find("job1") is None
    memory.find("job2").outcome = Outcome()
    assert memory.unclaimed() == [] and memory.find("job2") is not None


def test_of_two_tasks_for_one_job_the_later_one_counts():
    older, newer = task(1), task(2)
    newer = Task(newer.task_id, older.job, HERE)
    memory = Memory([remembered(older), remembered(newer)])
    assert memory.find("job1").task.task_id == newer.task_id


def test_what_is_set_aside_is_found_no_more():
    memory = Memory([remembered(task(1))])
    found = memory.find("job1")
    memory.set_aside(found)
    assert memory.find("job1") is None and memory.unclaimed() == [] and found.is_absent


# Lock.

HOLDER = """
import sys
from pathlib import Path
from snakemake_executor_takeda.resuming import ControllerLock
lock = ControllerLock(Path(sys.argv[1]), "run-1")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_directory_has_one_controller_and_a_killed_one_leaves_it_free(tmp_path):
    path = tmp_path / "controller.lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(TakedaError, match=rf"process {holder.pid} on .*run run-1.*Ctrl-C"):
            ControllerLock(path, "run-2")
    finally:
        holder.kill()
        holder.communicate()
    ControllerLock(path, "run-2").release()
    assert json.loads(path.read_text())["run_id"] == "run-2"


def test_a_lock_says_that_it_is_taken_also_where_its_text_is_torn(tmp_path):
    path = tmp_path / "controller.lock"
    held = ControllerLock(path, "run-1")
    path.write_text('{"host": "a')
    with pytest.raises(TakedaError, match="another process runs a pipeline"):
        ControllerLock(path, "run-2")
    held.release()


# Whether a directory may go on with a run.


def known(**changes):
    began = process_began(os.getpid())
    facts = {
        "run_id": RUN,
        "state": "running",
        "workdir": "/elsewhere",
        "state_dir": "/elsewhere/.snakemake/takeda/runs/r",
        "remote_prefix": "s3://b/p",
        "host": os.uname().nodename,
        "pid": os.getpid(),
        "process_began": began,
        "began_at": 0.0,
        "ended_at": None,
    }
    return KnownRun(**(facts | changes))


def test_a_copy_waits_for_the_controller_of_its_original():
    with pytest.raises(TakedaError, match=f"still controlled by process {os.getpid()}"):
        check_is_free(known(), Path("/copy"))
    for gone in ({"pid": 2**22 + 1}, {"process_began": 1.0}, {"state": "detached"}):
        check_is_free(known(**gone), Path("/copy"))
    check_is_free(known(host="another"), Path("/copy"))
    check_is_free(known(process_began=None, pid=2**22 + 1), Path("/copy"))
    check_is_free(known(), Path("/elsewhere"))


def test_a_copy_without_s3_is_refused_as_its_jobs_write_elsewhere(tmp_path):
    original = known(remote_prefix=None, state="detached", workdir=str(tmp_path / "original"))
    with pytest.raises(TakedaError, match="move it back"):
        check_is_free(original, tmp_path / "copy")
    (tmp_path / "original").mkdir()
    with pytest.raises(TakedaError, match=f"go on in {tmp_path}/original"):
        check_is_free(original, tmp_path / "copy")


@pytest.mark.parametrize("state", ["ended", "cancelled"])
def test_a_run_that_ended_is_not_gone_on_with(tmp_path, path, ledger, state):
    ledger.begin(tmp_path, tmp_path / "s", None)
    assert unfinished_run(path, tmp_path).run_id == RUN
    ledger.finish(state)
    assert unfinished_run(path, tmp_path) is None


def test_the_newest_run_counts(tmp_path, path, ledger):
    ledger.begin(tmp_path, tmp_path, None)
    ledger.finish("ended")
    second = Ledger(path, "second")
    second.begin(tmp_path, tmp_path, "s3://b/p")
    second.finish("detached")
    second.close()
    found = last_run(path)
    assert (found.run_id, found.state, found.remote_prefix) == ("second", "detached", "s3://b/p")


@pytest.mark.parametrize(
    ("newest", "expected"), [(None, True), (90.0, True), (104.0, True), (106.0, False)]
)
def test_an_input_that_is_younger_than_the_submission_has_changed(newest, expected):
    assert is_before(100.0, newest) is expected


# The ledger, as it is found again.


def test_what_is_remembered_is_what_was_sent(ledger):
    one = submission(1, *(task(n) for n in range(12)))
    ledger.intend(one)
    (found,) = ledger.remembered({"here": HERE})
    assert found.accepted is None and len(found.open_task_ids) == 12
    ledger.accept(one, accepted(one))
    ledger.end({f"{RUN}-t3": Outcome()})
    (found,) = ledger.remembered({"here": HERE})
    # An array's child is found by its place.
    assert [t.task_id for t in found.submission.tasks] == [t.task_id for t in one.tasks]
    assert found.accepted == accepted(one)
    assert found.open_task_ids == {t.task_id for t in one.tasks} - {f"{RUN}-t3"}
    sent, back = one.tasks[5].job, found.submission.tasks[5].job
    for name in ("rule", "wildcards", "attempt", "shape", "resources", "container", "rules"):
        assert getattr(back, name) == getattr(sent, name), name
    assert (back.identity, back.fingerprint) == ("job5", "f")
    assert found.submission.name == one.name


def test_nothing_is_remembered_of_what_ended_was_refused_or_of_other_runs(path, ledger):
    ended, refused, absent = submission(1, task(1)), submission(2, task(2)), submission(3, task(3))
    for one in (ended, refused, absent):
        ledger.intend(one)
    ledger.end({f"{RUN}-t1": Outcome()})
    ledger.refuse(refused, Outcome(FailureKind.CONFIGURATION, reason="no"))
    (left,) = ledger.remembered({"here": HERE})
    ledger.never_sent(left)
    assert ledger.remembered({"here": HERE}) == []
    other = Ledger(path, "other")
    assert other.remembered({"here": HERE}) == [] and other.ended_well() == {}
    other.close()


def test_jobs_on_a_target_that_the_policy_lost_are_named(ledger):
    ledger.intend(submission(1, task(1)))
    with pytest.raises(TakedaError, match=r"target 'here' \(fake\).*no longer has.*takeda cancel"):
        ledger.remembered({})
    with pytest.raises(TakedaError, match="has as slurm"):
        ledger.remembered({"here": Target("here", "slurm")})


def test_the_last_good_end_of_each_job_is_known(ledger):
    for number, print_ in ((1, "old"), (2, "new")):
        again = Task(f"{RUN}-t{number}", task(7, print_=print_).job, HERE)
        ledger.intend(submission(number, again))
        ledger.end({again.task_id: Outcome(wall_seconds=number, detail={"nodes": "n1"})})
    (identity, found), *others = ledger.ended_well().items()
    assert (identity, found.fingerprint, others) == ("job7", "new", [])
    assert found.detail == {"wall_seconds": 2, "nodes": "n1"} and found.intent_at > 0


def test_failures_of_a_job_are_its_history_whichever_task_they_were_of(ledger):
    for number, kind in ((1, FailureKind.INTERRUPTED), (2, FailureKind.OUT_OF_MEMORY)):
        again = Task(f"{RUN}-t{number}", task(7).job, HERE)
        ledger.intend(submission(number, again))
        ledger.end({again.task_id: Outcome(kind, reason=f"r{number}")})
    (history,) = ledger.histories().values()
    assert [one.kind for one in history.failures] == [
        FailureKind.INTERRUPTED,
        FailureKind.OUT_OF_MEMORY,
    ]
    assert [one.target for one in history.failures] == ["here", "here"]


def test_numbers_go_on_by_number_not_by_text(ledger):
    assert ledger.numbers() == (0, 0)
    ledger.intend(submission(2, task(9), task(10)))
    ledger.intend(submission(10, task(3)))
    assert ledger.numbers() == (10, 10)


# Files that are no ledger of ours.


def test_a_later_version_is_not_touched(path, ledger):
    ledger.close()
    with sqlite3.connect(path) as db:
        db.execute(f"pragma user_version = {SCHEMA_VERSION + 1}")
    before = path.read_bytes()
    for opened in (lambda: Ledger(path, RUN), lambda: last_run(path)):
        with pytest.raises(TakedaError, match="of a later version of this plugin"):
            opened()
    assert path.read_bytes() == before


def torn_in_the_middle(path):
    ledger = Ledger(path, RUN)
    ledger.begin(Path("/w"), Path("/s"), None)
    for number in range(40):
        ledger.intend(submission(number, *(task(100 * number + n) for n in range(20))))
    ledger.close()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    "damage",
    [
        torn_in_the_middle,
        lambda path: path.write_bytes(b"\0" * 8192),
        lambda path: path.write_text("no database, but long enough for a header\n" * 20),
    ],
    ids=["torn", "zeros", "text"],
)
def test_a_damaged_file_is_told_with_what_to_do(path, damage):
    damage(path)

    def use():
        last_run(path)
        ledger = Ledger(path, RUN)
        try:
            ledger.remembered({"here": HERE})
        finally:
            ledger.close()

    with pytest.raises(
        TakedaError, match=r"is damaged .*names begin with `takeda-`.*move the"
    ) as told:
        use()
    assert str(path) in str(told.value)


def test_an_empty_file_is_a_new_ledger(path):
    path.touch()
    assert last_run(path) is None
    Ledger(path, RUN).close()


# Who does a task on this machine.


def test_a_task_is_claimed_once_ever(tmp_path):
    assert start_of(tmp_path, "t1") is None
    assert claim(tmp_path, "t1")
    assert not claim(tmp_path, "t1")
    assert start_of(tmp_path, "t1").pid == os.getpid() and start_of(tmp_path, "t1").is_running
    assert claim(tmp_path, "t2", for_nobody=True)
    assert not claim(tmp_path, "t2") and not start_of(tmp_path, "t2").is_running
    assert sorted(file.name for file in tmp_path.iterdir()) == ["t1", "t2"]


def test_a_process_runs_as_long_as_what_it_started(tmp_path):
    claiming = (
        "import subprocess, sys; from pathlib import Path\n"
        "from snakemake_executor_takeda.processes import claim\n"
        "subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL)\n"
        "claim(Path(sys.argv[1]), 't')"
    )
    subprocess.run(
        [sys.executable, "-c", claiming, str(tmp_path)], start_new_session=True, check=True
    )
    start = start_of(tmp_path, "t")
    assert process_began(start.pid) is None and start.is_running
    os.killpg(start.pid, 9)
    while start.is_running:
        pass


def event(name, status=None):
    detail = {} if status is None else {"status": status}
    return json.dumps({"seq": 1, "event": name, "run_id": RUN, "detail": detail}) + "\n"


def test_a_ledger_that_is_gone_is_missed_where_a_run_did_not_end(tmp_path):
    events, ledger = tmp_path / "events.jsonl", tmp_path / "ledger.sqlite"
    assert unfinished_run(ledger, tmp_path) is None
    events.write_text(event("run") + event("run_end", "ended"))
    assert unfinished_run(ledger, tmp_path) is None
    for end in ("", event("run_end", "detached")):
        events.write_text(event("run") + event("placed") + end)
        with pytest.raises(TakedaError, match=f"is gone, and run {RUN}.* would run twice"):
            unfinished_run(ledger, tmp_path)
