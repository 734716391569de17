"""A run is ended by its user: killed half way through, and where Ctrl-C does nothing."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from runs_that_are_killed import KilledRun, again, end_controllers, lines, tasks, wait_until

POLICY = "version: 1\ntargets: {here: {backend: local, cpus: 8}}\ndefault: here\n"
TAKEDA = str(Path(sys.executable).with_name("takeda"))
# They take the time that a local process is given before it is killed.
DEAF = """
rule all:
    input: expand("{n}.out", n=range(2))
rule work:
    output: "{n}.out"
    shell: "trap '' TERM; echo {wildcards.n} >> begun; while [ ! -e go ]; do sleep 0.05; done; touch {output}"
"""


@pytest.fixture(autouse=True)
def _nothing_waits_on(project):
    project.write("routing.yaml", POLICY)
    project.write("Snakefile", DEAF)
    yield
    (project.path / "go").touch()
    end_controllers()


def runs(project):
    with closing(sqlite3.connect(project.path / ".snakemake/takeda/ledger.sqlite")) as db:
        return [row[0] for row in db.execute("select state from run order by began_at")]


def begun(project):
    return lines(project.path / "begun")


def takeda(project, *words):
    return subprocess.run(
        [TAKEDA, *words], cwd=project.path, capture_output=True, text=True, check=False, timeout=100
    )


def test_a_controller_that_is_killed_as_it_ends_its_jobs_leaves_no_failures(project):
    first = KilledRun(project)
    wait_until(lambda: len(begun(project)) == 2, "both begin")
    first.process.send_signal(signal.SIGINT)
    first.kill_when(lambda: runs(project) == ["cancelling"], "it begins to end them")
    assert runs(project) == ["cancelling"]
    status = takeda(project, "status")
    assert status.returncode == 1
    assert "half ended" in status.stdout
    (project.path / "Snakefile").write_text(DEAF.replace("while [ ! -e go ]", "while false"))

    log = again(project).ends_well()
    assert "was being ended by its user, and the rest of it is ended now: 2 jobs" in log
    assert "CANCELLED" not in log and "takeda: user" not in log
    assert runs(project) == ["cancelled", "ended"]
    assert tasks(project) == [("cancelled",)] * 2 + [("succeeded",)] * 2
    assert [event["event"] for event in project.events("failed", "interrupted")] == []
    assert takeda(project, "audit", "verify").returncode == 0


@pytest.mark.parametrize("on_interrupt", ["cancel", "detach"])
def test_takeda_cancel_ends_a_run_to_which_ctrl_c_means_nothing(project, on_interrupt):
    # As nohup, cron and CI jobs start it: Python leaves an ignored SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run = KilledRun(project, "--takeda-on-interrupt", on_interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    wait_until(lambda: len(begun(project)) == 2, "both begin")
    os.kill(run.process.pid, signal.SIGINT)
    asked = takeda(project, "cancel")
    assert asked.returncode == 2
    assert f"which process {run.process.pid} in {project.path} has, say --yes" in asked.stderr
    assert runs(project) == ["running"]

    done = takeda(project, "cancel", "--yes")
    assert done.returncode == 0, done.stderr
    assert run.process.wait(60) != 0
    assert runs(project) == ["cancelled"]
    assert tasks(project) == [("cancelled",)] * 2
    assert not list((project.path / ".snakemake/locks").glob("*"))
