"""What sacct prints, read; a cluster without a database is never asked; one that is down says so."""

import os

import pytest

from snakemake_executor_takeda.backends.slurm.accounting import (
    SACCT_FORMAT,
    NoAccounting,
    Sacct,
    accounting_of,
    read_accounts,
    read_cpu,
)
from snakemake_executor_takeda.backends.slurm.clients.base import SlurmSilent

# JobID,State,ExitCode,ElapsedRaw,NodeList,TotalCPU,MaxRSS,NTasks as sacct 24.11 prints them
PRINTED = """\
7_0|COMPLETED|0:0|61|node-1|01:40.500||
7_0.batch|COMPLETED|0:0|61|node-1|00:00.500|5120K|1
7_0.extern|COMPLETED|0:0|61|node-1|00:00.000|200K|1
7_0.0|COMPLETED|0:0|60|node-[1-2]|01:40.000|20480K|4
7_1|CANCELLED by 1000|0:0|0|None assigned|00:00:00||
9|NODE_FAIL|1:0|12|node-3|00:00:00||
10|FAILED|0:9|3|node-3|1-00:00:01||
"""


def test_tasks_are_read_with_their_steps():
    found = read_accounts(PRINTED)
    assert set(found) == {"7_0", "7_1", "9", "10"}
    whole = found["7_0"]
    assert (whole.sighting.state, whole.sighting.nodes) == ("COMPLETED", "node-1")
    assert whole.sighting.wall_seconds == 61.0
    assert whole.cpu_seconds == 100.5
    assert whole.max_rss_kib == 4 * 20480
    assert found["7_1"].sighting.state == "CANCELLED"
    assert found["7_1"].sighting.reason == "by 1000"
    assert found["7_1"].sighting.nodes == ""
    assert found["9"].sighting.state == "NODE_FAIL"
    assert found["9"].cpu_seconds is None
    assert found["10"].sighting.exit_code == 137


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("00:01.250", 1.25),
        ("01:00:00", 3600.0),
        ("2-00:00:01", 172801.0),
        ("00:00:00", None),
        ("", None),
    ],
)
def test_cpu_time(text, seconds):
    assert read_cpu(text) == seconds


def test_only_slurmdbd_can_be_asked(sacct, monkeypatch):
    sacct("true")
    assert isinstance(accounting_of({}), NoAccounting)
    assert isinstance(accounting_of({"AccountingStorageType": "(null)"}), NoAccounting)
    assert isinstance(
        accounting_of({"AccountingStorageType": "accounting_storage/none"}), NoAccounting
    )
    assert isinstance(
        accounting_of({"AccountingStorageType": "accounting_storage/slurmdbd"}), Sacct
    )
    assert NoAccounting().tasks({"7"}) == {}
    monkeypatch.setenv("PATH", "/nowhere")
    there = {"AccountingStorageType": "accounting_storage/slurmdbd"}
    assert isinstance(accounting_of(there), NoAccounting)


@pytest.fixture
def sacct(tmp_path, monkeypatch):
    """Put a script in the place of sacct."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def put(script):
        (tmp_path / "sacct").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "sacct").chmod(0o755)
        return tmp_path / "said"

    return put


def test_one_call_for_many_tasks(sacct):
    said = sacct(
        'echo "$@" >> "$(dirname "$0")/said"; echo "7_1|COMPLETED|0:0|5|node-1|00:01.000||"'
    )
    assert set(Sacct().tasks({"7_1", "7_0", "9"})) == {"7_1"}
    assert said.read_text().splitlines() == [
        f"--noheader --parsable2 --jobs=7_0,7_1,9 --format={SACCT_FORMAT}"
    ]


def test_a_database_that_is_down_says_so(sacct):
    sacct("echo 'sacct: error: Problem talking to the database: Connection refused' >&2; exit 1")
    with pytest.raises(SlurmSilent, match="Connection refused"):
        Sacct().tasks({"7"})
