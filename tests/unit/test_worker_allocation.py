"""A task on several nodes of Slurm: a failure for a lost node is told from one of its own; EFA is looked for.

`srun` is a stand-in here, which notes that it was called; tests/snakemake has the real one.
"""

import os
import signal
import subprocess
import sys

import pytest
from test_manifest_and_worker import context, submission

from snakemake_executor_takeda.worker import efa
from snakemake_executor_takeda.worker.exits import NODE_LOST, NODES_UNFIT
from snakemake_executor_takeda.worker.manifest import encode_manifest


@pytest.fixture
def start(tmp_path):
    """The worker with a task, on so many nodes, where srun ends as told."""

    def start_it(script, nodes=2, srun="exit 0", words=()):
        program = tmp_path / "srun"
        program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n{srun}\n')
        program.chmod(0o755)
        manifest = tmp_path / "manifest"
        manifest.write_bytes(
            encode_manifest(submission(["/bin/sh", "-c", script]), context(tmp_path))
        )
        command = [sys.executable, "-P", "-m", "snakemake_executor_takeda.worker"]
        path = f"{tmp_path}:{os.environ['PATH']}"
        return subprocess.Popen(
            [*command, "--manifest", str(manifest), "--allocation", *words],
            env={**os.environ, "PATH": path, "SLURM_JOB_NUM_NODES": str(nodes)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start_it


def ended(process):
    out, err = process.communicate(timeout=60)
    return process.returncode, out + err


def asked(tmp_path):
    file = tmp_path / "asked"
    return file.read_text().splitlines() if file.exists() else []


def test_a_failure_of_its_own(start, tmp_path):
    assert ended(start("exit 7"))[0] == 7
    (step,) = asked(tmp_path)
    assert "--nodes=2 --ntasks=2 --ntasks-per-node=1" in step
    assert "--overlap --mpi=none" in step


def test_a_failure_for_a_lost_node(start):
    code, said = ended(start("exit 7", srun="exit 233"))
    assert code == NODE_LOST
    assert "not all of its 2 nodes answer any more (srun: 233)" in said


@pytest.mark.parametrize(("script", "nodes"), [("exit 0", 2), ("exit 7", 1)])
def test_nobody_is_asked_without_need(start, tmp_path, script, nodes):
    assert ended(start(script, nodes, srun="exit 1"))[0] == int(script[-1])
    assert asked(tmp_path) == []


def test_a_task_that_was_told_to_end_lost_no_node(start, tmp_path):
    """At a time limit, say: steps are refused then, which must not look like a lost node."""
    process = start("echo on; exec sleep 600", srun="exit 1")
    assert process.stdout.readline() == "on\n"
    os.killpg(process.pid, signal.SIGTERM)
    assert ended(process)[0] == 128 + signal.SIGTERM
    assert asked(tmp_path) == []


def test_efa_is_looked_for_on_all_nodes_before_the_task(start, tmp_path):
    code, said = ended(start("echo ran", srun=f"exit {NODES_UNFIT}", words=["--efa"]))
    assert code == NODES_UNFIT
    assert "ran" not in said
    code, said = ended(start("echo ran", srun="exit 0", words=["--efa"]))
    assert (code, said) == (0, "ran\n")
    code, said = ended(start("echo ran", srun="exit 2", words=["--efa"]))
    assert code == NODES_UNFIT
    assert "the look for EFA devices on all 2 nodes failed (srun: 2)" in said


def test_a_device_or_libfabric_will_do(tmp_path, monkeypatch):
    monkeypatch.setattr(efa, "DEVICES", tmp_path / "infiniband")
    monkeypatch.setattr(efa, "FI_INFO", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    assert "Efa: {Enabled: true}" in efa.lack_of_efa()
    program = tmp_path / "fi_info"
    program.write_text("#!/bin/sh\nexit 61\n")
    program.chmod(0o755)
    assert efa.lack_of_efa()
    program.write_text('#!/bin/sh\ntest "$*" = "-p efa"\n')
    assert efa.lack_of_efa() is None
    program.unlink()
    (tmp_path / "infiniband").mkdir()
    assert efa.lack_of_efa()
    (tmp_path / "infiniband" / "uverbs0").touch()
    assert efa.lack_of_efa() is None
