"""A controller that stops, a full job table, a database that is down: nothing fails, nothing runs twice."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from slurm_builders import target
from slurm_outages import Bench, Controller, outage, queued_names

from snakemake_executor_takeda.backends.slurm import submitting
from snakemake_executor_takeda.backends.slurm.accounting import Sacct
from snakemake_executor_takeda.backends.slurm.clients import command_line
from snakemake_executor_takeda.backends.slurm.clients.base import SlurmSilent
from snakemake_executor_takeda.sandbox.slurm_processes import members, wait_until
from snakemake_executor_takeda.values import FailureKind

pytestmark = pytest.mark.slurm
OUTAGE_SECONDS = float(os.environ.get("TAKEDA_OUTAGE_SECONDS", "6"))


@pytest.fixture(scope="module", params=["22.05", "24.11"])
def own_slurm(request):
    """A cluster of this module's own: the session's keeps its controller. The session's fixtures say
    whether there is such a Slurm at all."""
    from snakemake_executor_takeda.sandbox import slurm

    if request.param == "22.05":
        request.getfixturevalue("slurm_dir")
        root = None
    else:
        root = request.getfixturevalue("slurm_root")
    folder = Path(tempfile.mkdtemp(prefix="takeda-outage-"))
    try:
        slurm.up(folder, nodes=3, root=root, rest=root is not None)
        yield folder
    finally:
        slurm.down(folder)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def controller(own_slurm, monkeypatch):
    from snakemake_executor_takeda.sandbox import slurm

    for name, value in slurm.environment(own_slurm).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(command_line, "QUERY_SECONDS", 3.0)
    monkeypatch.setattr(command_line, "SUBMIT_SECONDS", 3.0)
    monkeypatch.setattr(submitting, "LONGEST_PAUSE_SECONDS", 2.0)
    monkeypatch.setattr(submitting, "SETTLING_SECONDS", 3.0)
    made = Controller(own_slurm)
    conf = made.home / "slurm.conf"
    before = conf.read_text()
    yield made
    made.thaw()
    if conf.read_text() != before:
        made.stop()
        conf.write_text(before)
        made.start()


@pytest.fixture
def bench(tmp_path, controller):
    made = []

    def make(*targets):
        one = Bench(tmp_path, *(targets or (target(partition="hpc"),)))
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()


@pytest.fixture(params=["commands", "slurmrestd"])
def on(request, own_slurm, controller, tmp_path):
    """A target that is reached by the commands, or by slurmrestd."""
    from snakemake_executor_takeda.sandbox import slurm

    if request.param == "commands":
        return target(partition="hpc", client="command-line")
    if not any(process.name == "slurmrestd" for process in members(controller.home)):
        pytest.skip("this machine's own Slurm 22.05 has no slurmrestd of data parser v0.0.42")
    rest = slurm.rest(own_slurm)
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text(rest.token)
    url, file = rest.url, str(token)
    return target(partition="hpc", client="rest", rest_url=url, jwt_file=file, exchange="shared")


def check_each_ran_once(bench, tasks):
    listener = bench.listener
    assert len(bench.runs()) == tasks
    assert set(bench.runs().values()) == {1}
    assert set(listener.ends.values()) == {1}
    assert all(outcome.succeeded for outcome in listener.outcomes.values())
    assert set(queued_names().values()) <= {1, 2, 3, 4}, "a name stands for one job"


def check_told_once(bench, on):
    told = len([note for note in bench.listener.notes if "does not answer" in note])
    # slurmrestd itself waits longer for the controller than these seconds
    assert told == 1 or (told == 0 and on.options.client == "rest")


def test_a_controller_that_hangs(bench, controller, on):
    one = bench(on)
    outage(one, controller, controller.freeze, controller.thaw, OUTAGE_SECONDS)
    check_each_ran_once(one, 17)
    assert len(one.listener.accepted_ids) == len(set(one.listener.accepted_ids)) == 7
    check_told_once(one, on)


def test_a_controller_that_is_stopped_and_started_with_its_saved_state(bench, controller, on):
    one = bench(on)
    outage(one, controller, controller.stop, controller.start, OUTAGE_SECONDS)
    check_each_ran_once(one, 17)
    check_told_once(one, on)


def test_a_full_job_table_lets_submissions_wait(bench, controller):
    controller.configure(MaxJobCount=9, MinJobAge=2)
    controller.stop()
    controller.start()
    one = bench()
    for _ in range(5):
        one.send(4)
    one.listener.wait_for(20)
    check_each_ran_once(one, 20)
    (note,) = [note for note in one.listener.notes if "takes no more jobs" in note]
    assert "MaxJobCount" in note


def test_a_database_that_is_down(bench, controller):
    controller.configure(
        AccountingStorageType="accounting_storage/slurmdbd",
        AccountingStorageHost="127.0.0.1",
        AccountingStoragePort=1,
    )
    controller.stop()
    controller.start()
    one = bench()
    one.send(3)
    one.listener.wait_for(3)
    check_each_ran_once(one, 3)
    with pytest.raises(SlurmSilent, match="sacct"):
        Sacct().tasks({one.listener.accepted_ids[0]})


def test_a_task_that_is_killed_with_its_worker(bench):
    """As the kernel does it on a cluster that enforces no memory."""
    one = bench()
    one.send(2, then="kill -9 $PPID")
    one.listener.wait_for(2)
    assert {(out.kind, out.exit_code) for out in one.listener.outcomes.values()} == {
        (FailureKind.OUT_OF_MEMORY, 137)
    }
    assert all("node-" in out.detail["nodes"] for out in one.listener.outcomes.values())


def test_nodes_that_are_down_send_waiting_jobs_to_the_fallback(bench, controller):
    on = target(
        partition="spot",
        extra=["--nodelist=node-3"],
        fallback="hpc",
        pending_notice=0.05,
        pending_limit=0.1,
    )
    node = ["scontrol", "update", "nodename=node-3"]
    subprocess.run([*node, "state=down", "reason=(Code:InsufficientInstanceCapacity)"], check=True)
    try:
        one = bench(on)
        one.send(6)
        one.listener.wait_for(6)
    finally:
        subprocess.run([*node, "state=resume"], check=True)
    assert {outcome.kind for outcome in one.listener.outcomes.values()} == {FailureKind.NO_CAPACITY}
    (note,) = one.listener.notes
    assert note.startswith("pending for 0 min: 6 of 6 align on target hpc (job ")
    assert "it goes to hpc" in note
    assert one.runs() == {}
    assert wait_until(lambda: _in_queue() == "", 10)


def _in_queue():
    words = ["squeue", "--noheader", "--me"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout
