"""A disk that is full where tasks leave their records: on a real Slurm, and as its words are read."""

import os
import subprocess
import time
from pathlib import Path

import pytest
from slurm_builders import active, context, sighting, submission, target

from snakemake_executor_takeda.backends.slurm import backend as factory
from snakemake_executor_takeda.backends.slurm.records import ExitRecord
from snakemake_executor_takeda.backends.slurm.states import Place, outcome_of
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


@pytest.fixture
def small(tmp_path):
    """A directory whose `.snakemake/takeda` is a file system of 1 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system to fill")
    folder = tmp_path / ".snakemake/takeda"
    folder.mkdir(parents=True)
    words = ["mount", "-t", "tmpfs", "-o", "size=1m", "small", str(folder)]
    if (tried := subprocess.run(words, check=False, capture_output=True, text=True)).returncode:
        pytest.skip(f"no small file system to fill: {tried.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slurm
def test_a_task_that_fills_the_disk_is_told_as_that(small, tmp_path, slurm_env, monkeypatch):
    for name, value in slurm_env.items():
        monkeypatch.setenv(name, value)
    backend = factory([target(partition="hpc")], context(tmp_path))
    backend.check()
    fill = f"cat /dev/zero > '{small}/ballast' 2>/dev/null; exit CODE"
    argvs = [("sh", "-c", fill.replace("CODE", str(code))) for code in (0, 1)]
    sent = submission(argvs)
    accepted = backend.submit(sent)
    outcomes = {}
    try:
        while len(outcomes) < len(argvs):
            one = active(
                sent, accepted.external_id, {t.task_id for t in sent.tasks} - outcomes.keys()
            )
            outcomes |= {u.task_id: u.outcome for u in backend.poll([one]) if u.outcome}
            time.sleep(0.1)
    finally:
        backend.cancel([])
        backend.close()
    for outcome in outcomes.values():
        assert outcome.kind == FailureKind.LOST, outcome
        assert str(small) in outcome.reason
        assert outcome.exit_code == DISK_FULL
    exits = Path(context(tmp_path).state_dir, "exits")
    assert list(exits.iterdir()) == [], "nothing half written is left"
