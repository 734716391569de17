"""The backend on a real Slurm: arrays, MPI over two nodes, cancelling, and a Slurm that is down."""

import contextlib
import http.client
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from fixtures_slurm import on_every_slurm
from slurm_builders import context, submission, target

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.slurm import SlurmOptions
from snakemake_executor_takeda.backends.slurm import backend as factory
from snakemake_executor_takeda.backends.slurm.states import Doubt
from snakemake_executor_takeda.backends.slurm.watching import Patience
from snakemake_executor_takeda.values import Active, FailureKind, Shape, TakedaError

pytestmark = [pytest.mark.slurm, on_every_slurm]
PATIENCE_SECONDS = 90


@pytest.fixture(autouse=True)
def _slurm_in_the_environment(slurm_env, monkeypatch):
    for name, value in slurm_env.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def make(tmp_path, slurm_way):
    """A backend with a run directory whose name is no shell's friend; its jobs end with the test."""
    folder = tmp_path / "it's 100%a $HOME run"
    made = []

    def make_one(*targets, run_id="run"):
        reached = [by_client(one, slurm_way.words) for one in targets or (target(partition="hpc"),)]
        backend = factory(reached, context(folder, run_id))
        backend.check()
        made.append(backend)
        return backend

    yield make_one
    for backend in made:
        backend.cancel([])
        backend.close()


def by_client(one, words):
    said = one.options.model_dump(exclude_unset=True)
    return replace(one, options=SlurmOptions(**(words | said)))


def awaited(look, what):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited in vain: {what}")


def follow(backend, *sent):
    """Submit all, poll until all tasks have ended: task id → outcome."""
    open_ones = [Active(s, backend.submit(s), frozenset(t.task_id for t in s.tasks)) for s in sent]
    outcomes = {}

    def all_ended():
        left = [
            Active(one.submission, one.accepted, one.open_task_ids - outcomes.keys())
            for one in open_ones
        ]
        for update in backend.poll(left):
            if update.outcome is not None:
                assert update.task_id not in outcomes
                outcomes[update.task_id] = update.outcome
        return len(outcomes) == sum(len(one.open_task_ids) for one in open_ones)

    awaited(all_ended, "the end of all tasks")
    return outcomes


def queued():
    words = ["squeue", "--noheader", "--me", "--format=%i %T"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.split("\n")[:-1]


def test_an_array_of_twenty_with_one_failure(make, tmp_path):
    argvs = [
        ("sh", "-c", f"echo task {n} > '{tmp_path}/out.{n}'; echo said {n}; exit {7 * (n == 13)}")
        for n in range(20)
    ]
    outcomes = follow(make(), submission(argvs))
    failed = {task_id for task_id, outcome in outcomes.items() if not outcome.succeeded}
    assert failed == {"s1-t13"}
    bad = outcomes["s1-t13"]
    assert (bad.kind, bad.exit_code) == (FailureKind.USER, 7)
    assert bad.log_tail[-1] == "said 13"
    assert Path(bad.log_location).read_text() == "said 13\n"
    assert [(tmp_path / f"out.{n}").read_text() for n in range(20)] == [
        f"task {n}\n" for n in range(20)
    ]
    assert all(outcome.detail["nodes"].startswith("node-") for outcome in outcomes.values())


@pytest.mark.parametrize("launcher", ["srun --mpi=pmix", "mpirun"])
def test_mpi_over_two_nodes_with_four_ranks(make, launcher):
    program = f"{sys.executable} {Path(__file__).with_name('allreduce.py')}"
    shape = Shape(cpus=1, mem_mb=2000, nodes=2, tasks=4, tasks_per_node=2, mpi=launcher)
    sent = submission(
        [("sh", "-c", f"echo srun sees $SRUN_CPUS_PER_TASK; {launcher} {program}")],
        shape,
        nodes=2,
        tasks=4,
    )
    (outcome,) = follow(make(), sent).values()
    said = Path(outcome.detail["log"]).read_text()
    assert outcome.succeeded, said
    ranks = re.findall(r"rank (\d) of 4 on (node-\d): sum 10", said)
    assert sorted(rank for rank, _ in ranks) == ["0", "1", "2", "3"]
    assert len({node for _, node in ranks}) == 2
    assert ("srun sees 1\n" in said) == (launcher != "mpirun"), "daemons of mpirun hold all ranks"
    assert re.fullmatch(r"node-\[\d[-,]\d\]", outcome.detail["nodes"])


def test_the_rule_script_runs_once_and_sees_no_enclosing_allocation(make, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "31")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "5")
    monkeypatch.setenv("MINE", "kept")
    argv = ("sh", "-c", f"echo $SLURM_CPUS_PER_TASK $SLURM_NTASKS $MINE >> '{tmp_path}/ran'")
    shape = Shape(cpus=2, nodes=2, tasks=2, mpi="srun")
    (outcome,) = follow(make(), submission([argv], shape, nodes=2)).values()
    assert outcome.succeeded
    assert (tmp_path / "ran").read_text() == "2 2 kept\n"


def test_resources_reach_slurm(make):
    sent = submission(
        [("sh", "-c", "scontrol --oneliner show job $SLURM_JOB_ID")],
        Shape(cpus=2, mem_mb=3000, runtime_min=7),
        slurm_partition="spot",
        slurm_account="lab",
        slurm_extra="--nice=5 --comment 'a b'",
        constraint="sandbox",
    )
    (outcome,) = follow(make(), sent).values()
    said = Path(outcome.detail["log"]).read_text()
    for word in ("Partition=spot", "Account=lab", "Nice=5", "Features=sandbox", "CPUs/Task=2"):
        assert word in said
    assert "TimeLimit=00:07:00" in said
    assert "MinMemoryNode=3000M" in said
    assert "Comment=a b" in said
    assert "Requeue=0" in said


def test_cancel_leaves_nothing(make, tmp_path):
    backend = make()
    marker = f"{os.getpid()}.{time.monotonic_ns()}"
    # one child in a session of its own, deaf to SIGTERM: what a careless tool may leave behind
    naughty = f"trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 600; : {marker}' & touch '{tmp_path}/on'; wait"
    array = submission([("sh", "-c", naughty)] * 30)
    mpi = submission(
        [("sh", "-c", f"srun -n4 sleep 600; : {marker}")],
        Shape(nodes=2, tasks=4, mpi="srun"),
        number=2,
        nodes=2,
    )
    sent = [
        Active(one, backend.submit(one), frozenset(task.task_id for task in one.tasks))
        for one in (array, mpi)
    ]
    awaited((tmp_path / "on").exists, "the first task")
    assert queued()
    backend.cancel(sent)
    assert queued() == []

    def nobody():
        return not [
            path
            for path in Path("/proc").glob("[0-9]*/cmdline")
            if path.parent.name != str(os.getpid()) and marker.encode() in _read(path)
        ]

    awaited(nobody, "the end of all processes")
    with pytest.raises(SubmissionError):
        backend.submit(submission(number=3))


def _read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_lost_node_is_told_as_such(make):
    on = target("spot", partition="spot", extra=["--nodelist=node-4"])
    backend = make(on)
    sent = submission([("sleep", "600")], on=on)
    accepted = backend.submit(sent)
    one = Active(sent, accepted, frozenset({"s1-t0"}))
    awaited(lambda: list(backend.poll([one])), "the start")
    node = ["scontrol", "update", "nodename=node-4"]
    try:
        subprocess.run([*node, "state=down", "reason=test"], check=True)
        (update,) = awaited(lambda: list(backend.poll([one])), "the end")
        assert update.outcome.kind == FailureKind.INTERRUPTED
        assert "NODE_FAIL" in update.outcome.reason
    finally:
        subprocess.run([*node, "state=resume"], check=True)


def test_a_cancelled_task_and_one_whose_worker_cannot_start(make):
    on = target(partition="hpc", python="/no/such/python")
    (outcome,) = follow(make(on), submission(on=on)).values()
    assert outcome.kind == FailureKind.CONFIGURATION
    assert "/no/such/python" in "".join(outcome.log_tail)

    backend = make(run_id="second")
    sent = submission([("sleep", "600")], number=2)
    accepted = backend.submit(sent)
    one = Active(sent, accepted, frozenset({"s2-t0"}))
    awaited(lambda: list(backend.poll([one])), "the start")
    subprocess.run(["scancel", accepted.external_id], check=True)
    (update,) = awaited(lambda: list(backend.poll([one])), "the end")
    assert update.outcome.kind == FailureKind.USER
    assert "CANCELLED" in update.outcome.reason


def test_waiting_tasks_that_somebody_cancelled_are_told_as_such(make):
    """Slurm lists them no more: one alone is just not there, and of all there is a job without indices."""
    backend = make()
    backend._watcher._patience = Patience(polls=2, seconds=dict.fromkeys(Doubt, 0.0))
    held = target(partition="hpc", extra=("--hold",))
    sent = submission([("true",)] * 3, on=by_client(held, {}))
    accepted = backend.submit(sent)
    one, *others = (task.task_id for task in sent.tasks)

    def ends(*open_ids):
        active = [Active(sent, accepted, frozenset(open_ids))]
        told = {u.task_id: u.outcome for _ in range(3) for u in backend.poll(active) if u.outcome}
        return {task_id: outcome.kind for task_id, outcome in told.items()}

    subprocess.run(["scancel", accepted.task_external_ids[one]], check=True)
    assert awaited(lambda: ends(one), "the end of one") == {one: FailureKind.USER}
    subprocess.run(["scancel", f"--name={sent.name}"], check=True)
    ended = awaited(lambda: ends(*others), "the end of the others")
    assert ended == dict.fromkeys(others, FailureKind.USER)


def test_unknown_partition(make):
    with pytest.raises(TakedaError, match=r"no partition 'sport'\. Did you mean 'spot'"):
        make(target(partition="sport"))


def test_refusals_come_in_slurms_words(make):
    with pytest.raises(SubmissionError, match="Invalid license") as refused:
        make().submit(submission(slurm_extra="--licenses=nope"))
    assert refused.value.kind == FailureKind.CONFIGURATION
    with pytest.raises(SubmissionError, match=r"nvalid partition"):
        make().submit(submission(slurm_extra="--partition=nope"))


@pytest.fixture
def away(slurm_way, monkeypatch):
    """Take the controller out of reach of the client, and give it back: a context."""

    @contextlib.contextmanager
    def take():
        with monkeypatch.context() as patch:
            if slurm_way.is_rest:
                nobody = Mock(side_effect=ConnectionRefusedError("nobody listens"))
                patch.setattr(http.client.HTTPConnection, "request", nobody)
            else:
                conf = Path(slurm_way.environment["SLURM_CONF"])
                unreachable = conf.with_name("unreachable.conf")
                unreachable.write_text(
                    re.sub(r"SlurmctldPort=\d+", "SlurmctldPort=1", conf.read_text())
                )
                patch.setenv("SLURM_CONF", str(unreachable))
            yield

    return take


def test_a_slurm_that_is_down(make, away):
    with away(), pytest.raises(TakedaError, match="controller does not answer"):
        make()


def test_the_array_limit_is_the_clusters(make):
    assert make().array_limit(target(), Shape()) == 1000


def test_a_controller_out_of_reach_ends_no_task(make, away):
    """Records are read while Slurm is silent, and nothing else is made of the silence."""
    backend = make()
    sent = submission([("true",), ("sleep", "600")])
    accepted = backend.submit(sent)
    one = Active(sent, accepted, frozenset(task.task_id for task in sent.tasks))
    awaited(lambda: [u for u in backend.poll([one]) if u.task_id == "s1-t1"], "the start")
    left = Active(sent, accepted, frozenset({"s1-t1"}))
    with away():
        assert list(backend.poll([left])) == []
    assert list(backend.poll([left])) == []
