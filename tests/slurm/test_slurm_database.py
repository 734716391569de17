"""A real accounting database, by sacct and by slurmrestd: ranks are counted, forgotten tasks explained, and its
outage ends nothing."""

import os
import signal
import sys

import pytest
from slurm_builders import context, submission, target

from snakemake_executor_takeda.backends.slurm import accounting, watching
from snakemake_executor_takeda.backends.slurm import backend as factory
from snakemake_executor_takeda.backends.slurm.accounting import Sacct
from snakemake_executor_takeda.backends.slurm.clients.base import SlurmSilent
from snakemake_executor_takeda.backends.slurm.clients.command_line import CommandLine
from snakemake_executor_takeda.backends.slurm.clients.http import JsonConnection
from snakemake_executor_takeda.backends.slurm.clients.rest import Rest
from snakemake_executor_takeda.backends.slurm.clients.token import Token
from snakemake_executor_takeda.backends.slurm.records import ExitRecords
from snakemake_executor_takeda.sandbox.slurm_processes import members, wait_until
from snakemake_executor_takeda.values import Active, FailureKind, Shape

pytestmark = pytest.mark.slurm
PATIENCE_SECONDS = 120
BURN = "x = bytearray(80_000_000); import time; t = time.time()\nwhile time.time() - t < 5: pass"


class Forgetful:
    """A controller that has forgotten all jobs, as after MinJobAge."""

    def queue(self, job_ids=()):
        return {}

    def jobs(self, job_id):
        return {}


class ForgetfulCommands(Forgetful, CommandLine):
    pass


class ForgetfulRest(Forgetful, Rest):
    pass


@pytest.fixture(autouse=True)
def _slurm_in_the_environment(slurm_2411, monkeypatch):
    for name, value in slurm_2411.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=["commands", "slurmrestd"])
def words(request, rest_words):
    """What the target says of its client."""
    return rest_words if request.param == "slurmrestd" else {}


@pytest.fixture
def forgetful(words):
    if words:
        url = words["rest_url"]
        return ForgetfulRest(url, Token(words["jwt_file"]), JsonConnection(url, seconds=3.0))
    return ForgetfulCommands()


@pytest.fixture
def backend(tmp_path, words):
    made = factory((target(partition="hpc", **words),), context(tmp_path))
    made.check()
    yield made
    made.cancel([])
    made.close()


@pytest.fixture
def watch(tmp_path, backend, forgetful):
    """Poll one submission, by a controller that forgets, until its tasks have ended."""
    patience = watching.Patience(polls=1, seconds=dict.fromkeys(watching.Doubt, 0.0))
    run = context(tmp_path).state_dir
    watcher = watching.Watcher(forgetful, ExitRecords(run / "exits"), run / "logs", patience)

    def poll(sent):
        accepted = backend.submit(sent)
        ids = frozenset(task.task_id for task in sent.tasks)
        return accepted.external_id, lambda: {
            update.task_id: update.outcome
            for update in watcher.poll([Active(sent, accepted, ids)])
            if update.outcome
        }

    return poll


def ended(job_id):
    """Wait until the database knows the end of a job's tasks."""

    def is_known():
        states = {a.sighting.state for a in Sacct().tasks({job_id}).values()}
        return states and not states & {"PENDING", "RUNNING", "COMPLETING"}

    assert wait_until(is_known, PATIENCE_SECONDS, every=0.5), "the database does not hear of it"


def test_what_ranks_on_two_nodes_used(backend):
    argv = ("sh", "-c", f"srun --mpi=none {sys.executable} -c '{BURN}'")
    sent = submission([argv], Shape(nodes=2, tasks=2, mpi="srun", mem_mb=1000), nodes=2)
    accepted = backend.submit(sent)
    ended(accepted.external_id)
    (account,) = Sacct().tasks({accepted.external_id}).values()
    assert account.sighting.state == "COMPLETED"
    assert account.cpu_seconds > 0.2
    assert account.max_rss_kib > 2 * 80_000_000 / 1024
    one = Active(sent, accepted, frozenset({"s1-t0"}))
    (update,) = [update for update in backend.poll([one]) if update.outcome]
    assert update.outcome.detail["cpu_seconds"] == pytest.approx(account.cpu_seconds, abs=0.01)
    assert update.outcome.detail["max_rss_kib"] == account.max_rss_kib


def test_tasks_that_the_controller_forgot_are_explained(watch, backend):
    argvs = [("sh", "-c", "kill -9 $PPID"), ("true",)]
    job_id, poll = watch(submission(argvs))
    ended(job_id)
    outcomes = poll()
    assert outcomes["s1-t1"].succeeded
    assert outcomes["s1-t0"].kind == FailureKind.OUT_OF_MEMORY
    assert outcomes["s1-t0"].exit_code == 137
    assert "SIGKILL" in outcomes["s1-t0"].reason


def test_a_database_that_hangs_ends_no_task(watch, forgetful, slurm_2411_dir, monkeypatch):
    monkeypatch.setattr(accounting, "SACCT_SECONDS", 2.0)
    home = slurm_2411_dir.resolve() / "slurm"
    job_id, poll = watch(submission([("sh", "-c", "kill -9 $PPID")]))
    ended(job_id)
    (pid,) = [process.pid for process in members(home) if process.name == "slurmdbd"]
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(SlurmSilent):
            accounting.database_of(forgetful).tasks({job_id})
        assert poll() == {}
    finally:
        os.kill(pid, signal.SIGCONT)
    assert wait_until(lambda: bool(outcomes := poll()) and _is_killed(outcomes), 30)


def _is_killed(outcomes):
    return {outcome.kind for outcome in outcomes.values()} == {FailureKind.OUT_OF_MEMORY}


def test_its_name_is_found_in_the_configuration():
    assert isinstance(accounting.accounting_of(CommandLine().settings()), Sacct)
