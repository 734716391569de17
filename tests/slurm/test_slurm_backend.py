"""Submitting, cancelling and checking, against a stand-in for Slurm."""

import stat
from dataclasses import replace

import pytest
from slurm_builders import TRUE, FakeSlurm, active, context, sighting, submission, target

from snakemake_executor_takeda.backends import slurm as package
from snakemake_executor_takeda.backends.base import SubmissionDelayed, SubmissionError
from snakemake_executor_takeda.backends.slurm import slurm_backend as module
from snakemake_executor_takeda.backends.slurm import submitting
from snakemake_executor_takeda.backends.slurm.clients import command_line
from snakemake_executor_takeda.backends.slurm.clients.base import (
    SlurmRefused,
    SlurmSilent,
)
from snakemake_executor_takeda.backends.slurm.facts import NodeFacts
from snakemake_executor_takeda.values import FailureKind, Shape, TakedaError


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(submitting, "FIRST_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(command_line, "missing_commands", list)
    monkeypatch.delenv("SLURM_CONF", raising=False)
    return FakeSlurm()


@pytest.fixture
def make(fake, tmp_path):
    def make_one(*targets):
        where = context(tmp_path)
        made = module.SlurmBackend(targets or (target(),), where, client=fake)
        made.state_dir = where.state_dir
        return made

    return make_one


def test_the_factory_stays_the_factory(tmp_path):
    package.backend((target(),), context(tmp_path))
    assert package.backend.options_model is package.SlurmOptions


def test_submit_names_every_task_and_keeps_the_manifest_private(make):
    backend = make()
    backend.check()
    accepted = backend.submit(submission([TRUE] * 3))
    assert accepted.external_id == "7"
    assert accepted.task_external_ids == {"s1-t0": "7_0", "s1-t1": "7_1", "s1-t2": "7_2"}
    manifest = backend.state_dir / "manifests" / "s1"
    assert stat.S_IMODE(manifest.stat().st_mode) == 0o600
    assert backend.submit(submission(number=2)).task_external_ids == {"s2-t0": "7"}


def test_a_call_of_unknown_fate_is_never_repeated_blindly(make, fake):
    backend = make()
    backend.check()
    fake.submits, fake.found = [SlurmSilent("socket timed out")], "42"
    with pytest.raises(SubmissionDelayed):
        backend.submit(submission())
    assert backend.submit(submission()).external_id == "42"
    assert [call for call in fake.calls if call in ("submit", "find")] == ["submit", "find"]


@pytest.mark.parametrize(
    ("said", "seconds"), [("300 sec", 60.0), ("30 sec", 10.0), ("2 sec", 1.0), ("0 sec", 60.0)]
)
def test_looks_are_as_frequent_as_the_clusters_memory_is_short(make, fake, said, seconds):
    fake.settings_are |= {"MinJobAge": said}
    backend = make()
    backend.check()
    assert backend._watcher._looks.limit_seconds == seconds


def test_a_refusal_fails_its_own_submission_in_slurms_words(make, fake):
    backend = make()
    backend.check()
    fake.submits = [SlurmRefused("Invalid account")]
    with pytest.raises(SubmissionError) as refused:
        backend.submit(submission())
    assert refused.value.kind == FailureKind.CONFIGURATION
    assert "Invalid account" in refused.value.reason


def test_cancel_ends_what_may_have_come_through(make, fake):
    backend = make()
    backend.check()
    fake.submits = [SlurmSilent("socket timed out")]
    with pytest.raises(SubmissionDelayed):
        backend.submit(submission())
    fake.found = "42"
    backend.cancel([])
    assert fake.cancelled == [(["42"], False)]


def test_cancel_ends_what_a_controller_that_hung_makes_of_an_earlier_call(make, fake, monkeypatch):
    """It may answer that there is no such job, and make it then."""
    monkeypatch.setattr(submitting, "SETTLING_SECONDS", 0.5)
    backend = make()
    backend.check()
    fake.submits = [SlurmSilent("socket timed out")]
    with pytest.raises(SubmissionDelayed):
        backend.submit(submission())
    asked = []
    fake.find = lambda name: asked.append(name) or ("42" if len(asked) > 1 else None)
    backend.cancel([])
    assert fake.cancelled == [(["42"], False)]
    assert len(asked) == 2


def test_cancel_does_not_wait_for_ever_for_a_call_that_made_no_job(make, fake, monkeypatch):
    monkeypatch.setattr(submitting, "SETTLING_SECONDS", 0.2)
    backend = make()
    backend.check()
    fake.submits = [SlurmSilent("socket timed out")]
    with pytest.raises(SubmissionDelayed):
        backend.submit(submission())
    backend.cancel([])
    assert fake.cancelled == []


def test_cancel_says_when_slurm_does_not_answer(make, fake, monkeypatch):
    monkeypatch.setattr(module, "CANCEL_SECONDS", 0.3)
    fake.queue_is = SlurmSilent("connect failure")
    with pytest.raises(TakedaError, match=r"connect failure.*scancel 3"):
        make().cancel([active(submission(), job_id="3")])


def test_cancel_takes_all_in_one_call_and_sees_them_end(make, fake):
    backend = make()
    backend.cancel([active(submission(number=n), job_id=str(n)) for n in (3, 4, 5)])
    assert fake.cancelled == [(["3", "4", "5"], False)]


def test_cancel_includes_what_was_accepted_a_moment_ago(make, fake):
    backend = make()
    backend.check()
    backend.submit(submission())
    backend.cancel([])
    assert fake.cancelled == [(["7"], False)]
    with pytest.raises(SubmissionError):
        backend.submit(submission(number=2))


def test_cancel_kills_what_lingers_and_tells_what_stays(make, fake, monkeypatch):
    monkeypatch.setattr(module, "CANCEL_KILL_SECONDS", 0.1)
    monkeypatch.setattr(module, "CANCEL_SECONDS", 1.0)
    fake.sees(sighting("COMPLETING", "3_1"), sighting("RUNNING", "99"))
    with pytest.raises(TakedaError, match="3") as left:
        make().cancel([active(submission([TRUE] * 2), job_id="3")])
    assert "99" not in str(left.value)
    assert (["3"], True) in fake.cancelled


def test_cancel_of_nothing_calls_nothing(make, fake):
    make().cancel([])
    assert fake.cancelled == []


def test_unknown_partition_names_the_nearest(make):
    with pytest.raises(TakedaError, match=r"no partition 'hcp'\. Did you mean 'hpc'"):
        make(target(partition="hcp")).check()
    with pytest.raises(TakedaError, match="It has: hpc, spot"):
        make(target(partition="spot,zzzz")).check()
    make(target(partition="spot,hpc")).check()


def test_scratch_that_cannot_be_written(make, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TakedaError, match=r"scratch .*/file/below can't be written"):
        make(target(scratch=str(tmp_path / "file" / "below"))).check()


def test_array_limit_is_asked_once(make, fake, monkeypatch):
    asked = []
    monkeypatch.setattr(
        fake, "settings", lambda: asked.append(1) or {"MaxArraySize": "51", "MaxJobCount": "100"}
    )
    backend = make()
    assert [backend.array_limit(target(), Shape()) for _ in range(3)] == [50, 50, 50]
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("parameters", "jobs", "told"),
    [
        ("CR_Core_Memory", [{"mem_mb": 100}, {"mem_mb": 150}], ["mem_mb=100"]),
        ("CR_Core_Memory", [{"mem_mb": 200}, {}], []),
        ("CR_Core", [{"mem_mb": 100}], []),
    ],
)
def test_memory_below_what_snakemake_itself_takes_is_told_once(
    fake, tmp_path, parameters, jobs, told
):
    fake.settings_are = {"SelectTypeParameters": parameters}
    fake.nodes_are = [NodeFacts("n1", ("IDLE",), cpus=4, memory_mib=8000, partitions=("hpc",))]
    said = []
    backend = module.SlurmBackend(
        (target(),), replace(context(tmp_path), say=said.append), client=fake
    )
    for shape in jobs:
        job = submission(shape=Shape(**shape)).tasks[0].job
        backend.check_job(job, target())
    assert [line.partition(" asks ")[2].partition(",")[0] for line in said] == told
    assert all("rule align" in line and "200" in line for line in said)


def test_memory_for_each_cpu_counts_with_the_cpus(fake, tmp_path):
    said = []
    backend = module.SlurmBackend(
        (target(),), replace(context(tmp_path), say=said.append), client=fake
    )
    for threads in (4, 1):
        shape = Shape(cpus=threads, mem_mb=60 * threads)
        job = submission(shape=shape, mem_mb_per_cpu=60).tasks[0].job
        backend.check_job(job, target())
        assert bool(said) == (threads == 1)
