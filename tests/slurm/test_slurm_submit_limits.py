"""Limits of submissions as sacctmgr 24.11 tells them, and arrays that are no larger."""

from pathlib import Path

import pytest
from slurm_builders import FakeSlurm, target

from snakemake_executor_takeda.backends.slurm import submit_limits as module
from snakemake_executor_takeda.backends.slurm.choosing import Chooser
from snakemake_executor_takeda.backends.slurm.facts import PartitionFacts
from snakemake_executor_takeda.backends.slurm.submit_limits import (
    SubmitLimits,
    read_submit_limits,
    submit_limits_of,
)

DATA = Path(__file__).parent / "data" / "24.11"
ENFORCED = {"AccountingStorageEnforce": "associations,limits,qos", "MaxArraySize": "1001"}


@pytest.fixture
def limits():
    accounts = (DATA / "sacctmgr_assoc.txt").read_text().replace("lab||40||", "lab||40||high")
    accounts = accounts.replace("root||||", "root||||normal")
    return read_submit_limits(accounts, (DATA / "sacctmgr_qos.txt").read_text(), "root\n")


@pytest.mark.parametrize(
    ("account", "qualities", "most"),
    [
        (None, (), 30),
        ("root", (None, None), 30),
        ("root", ("low",), None),
        ("LAB", (), 40),
        ("lab", ("normal",), 30),
        ("phylo", (), None),
        ("phylo", ("high", None), 70),
        ("phylo", ("high", "normal"), 30),
        ("unknown", (), None),
    ],
)
def test_the_least_of_account_and_qualities(limits, account, qualities, most):
    assert limits.most(account, *qualities) == most


def test_an_association_of_one_partition_holds_there_alone():
    assert read_submit_limits("lab|gpu|5||\n", "", "lab").most("lab") is None


@pytest.fixture
def sacctmgr(tmp_path, monkeypatch):
    """A command in the place of sacctmgr, which writes down that it was asked."""

    def put(script):
        path = tmp_path / "sacctmgr"
        path.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n{script}\n')
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        return tmp_path / "asked"

    return put


def test_it_is_asked_only_where_limits_are_enforced(sacctmgr):
    asked = sacctmgr("exit 0")
    assert submit_limits_of({"AccountingStorageEnforce": "none"}) == SubmitLimits()
    assert submit_limits_of({"AccountingStorageEnforce": "associations"}) == SubmitLimits()
    assert submit_limits_of({}) == SubmitLimits()
    assert not asked.exists()
    submit_limits_of(ENFORCED)
    assert len(asked.read_text().splitlines()) == 3


@pytest.mark.parametrize(
    "script", ["echo 'Unable to contact slurmdbd' >&2; exit 1", "exec sleep 60"]
)
def test_a_database_that_does_not_answer_sets_no_limit(sacctmgr, monkeypatch, script):
    monkeypatch.setattr(module, "_SECONDS", 0.5)
    sacctmgr(script)
    assert submit_limits_of(ENFORCED) == SubmitLimits()


def test_without_the_command_there_is_no_limit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert submit_limits_of(ENFORCED) == SubmitLimits()


def test_arrays_are_no_larger(sacctmgr):
    asked = sacctmgr(
        f"""case "$*" in
            *association*) cat {DATA}/sacctmgr_assoc.txt ;;
            *qos*) cat {DATA}/sacctmgr_qos.txt ;;
            *) echo root ;;
        esac"""
    )
    slurm = FakeSlurm()
    slurm.settings = lambda: ENFORCED
    slurm.partitions_are = [PartitionFacts("hpc", total_nodes=1, qos="normal")]
    chooser = Chooser(slurm)
    assert chooser.array_limit(target()) == 1000
    assert chooser.array_limit(target(account="lab")) == 40
    assert chooser.array_limit(target(account="lab", array_limit=7)) == 7
    assert chooser.array_limit(target(partition="hpc")) == 30
    assert chooser.array_limit(target(qos="high")) == 70
    assert len(asked.read_text().splitlines()) == 3
