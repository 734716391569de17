"""A disk that is full where tasks leave their records: on a real Slurm, and as its words are read."""

import errno
import os
import subprocess
import tempfile
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
from slurm_builders import active, context, sighting, submission, target

from snakemake_executor_takeda.backends.slurm import backend as factory
from snakemake_executor_takeda.backends.slurm.records import ExitRecord, ExitRecords
from snakemake_executor_takeda.backends.slurm.states import NO_LOG, Place, outcome_of, without_room
from snakemake_executor_takeda.values import FailureKind
from snakemake_executor_takeda.worker.exits import DISK_FULL

SENT = submission()
TASK = SENT.tasks[0]
NO_RECORD = None


def test_without_a_record_the_reserved_exit_code_tells_of_a_full_disk():
    failed = sighting("FAILED", reason="NonZeroExitCode", exit_code=DISK_FULL)
    outcome = outcome_of(TASK, failed, NO_RECORD, Place("/fsx/run/.snakemake/takeda/runs/r"))
    assert outcome.kind == FailureKind.LOST
    assert not outcome.permanent
    assert "below /fsx/run/.snakemake/takeda/runs/r" in outcome.reason
    assert "free space there" in outcome.reason


def test_with_a_record_it_was_the_nodes_own_disk():
    failed = sighting("FAILED", reason="NonZeroExitCode", exit_code=DISK_FULL)
    outcome = outcome_of(TASK, failed, ExitRecord(DISK_FULL, 1.0, "node-1", None))
    assert outcome.kind == FailureKind.LOST
    assert "for the task's directory" in outcome.reason
    assert "`scratch`" in outcome.advice


def test_a_log_that_could_not_be_opened_is_told_as_that():
    failed = sighting("FAILED", reason="JobLaunchFailure", exit_code=NO_LOG)
    place = Place("/fsx/run")
    outcome = outcome_of(TASK, failed, NO_RECORD, place)
    assert outcome.kind == FailureKind.CONFIGURATION
    assert "could not open the task's log" in outcome.reason
    assert "below /fsx/run" in outcome.advice
    lost = without_room(outcome, place)
    assert lost.kind == FailureKind.LOST
    assert lost.reason.startswith("FAILED (JobLaunchFailure): no space left")
    assert "below /fsx/run" in lost.reason


def test_whether_there_is_room_is_tried(tmp_path, monkeypatch):
    records = ExitRecords(tmp_path)
    assert records.has_room()
    for error, has_room in ((errno.ENOSPC, False), (errno.EDQUOT, False), (errno.EACCES, True)):
        fail = Mock(side_effect=OSError(error, os.strerror(error)))
        monkeypatch.setattr(tempfile, "TemporaryFile", fail)
        assert records.has_room() == has_room
    assert not list(tmp_path.iterdir())


@pytest.fixture
def small(tmp_path):
    """A directory whose `.snakemake/takeda` is a file system of 1 MB and few files."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system to fill")
    folder = tmp_path / ".snakemake/takeda"
    folder.mkdir(parents=True)
    words = ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=60", "small", str(folder)]
    if (tried := subprocess.run(words, check=False, capture_output=True, text=True)).returncode:
        pytest.skip(f"no small file system to fill: {tried.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def follow(tmp_path, slurm_env, monkeypatch):
    """Submit tasks, do what follows, and poll until they end: their outcomes."""
    for name, value in slurm_env.items():
        monkeypatch.setenv(name, value)
    on = target(partition="hpc", extra=["--begin=now+2"])
    backend = factory([on], context(tmp_path))
    backend.check()

    def submit(argvs, then=lambda: None):
        sent = submission(argvs, on=on)
        accepted = backend.submit(sent)
        then()
        outcomes = {}
        while len(outcomes) < len(argvs):
            left = {task.task_id for task in sent.tasks} - outcomes.keys()
            one = active(sent, accepted.external_id, left)
            outcomes |= {u.task_id: u.outcome for u in backend.poll([one]) if u.outcome}
            time.sleep(0.1)
        return outcomes.values()

    yield submit
    backend.cancel([])
    backend.close()


@pytest.mark.slurm
def test_a_task_that_fills_the_disk_is_told_as_that(small, tmp_path, follow):
    fill = f"cat /dev/zero > '{small}/ballast' 2>/dev/null; exit CODE"
    for outcome in follow([("sh", "-c", fill.replace("CODE", str(code))) for code in (0, 1)]):
        assert outcome.kind == FailureKind.LOST, outcome
        assert str(small) in outcome.reason
        assert outcome.exit_code == DISK_FULL
    exits = Path(context(tmp_path).state_dir, "exits")
    assert list(exits.iterdir()) == [], "nothing half written is left"


@pytest.mark.slurm
def test_a_log_for_which_there_is_no_room_is_told_as_that(small, follow):
    def fill():
        with pytest.raises(OSError, match="No space left"):
            for number in range(100):
                (small / f"ballast{number}").touch()

    (outcome,) = follow([("true",)], then=fill)
    assert outcome.kind == FailureKind.LOST, outcome
    assert str(small) in outcome.reason and "log could not be opened" in outcome.reason
