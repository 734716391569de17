"""Tasks on this machine when their controller is killed: each runs once, whatever the moment."""

import os
import signal
import sqlite3
from contextlib import closing

import pytest
from runs_that_are_killed import (
    SNAKEFILE,
    KilledRun,
    again,
    end_controllers,
    lines,
    tasks,
    wait_until,
)

CPUS = "version: 1\ntargets: {here: {backend: local, cpus: CPUS}}\ndefault: here\n"


@pytest.fixture(autouse=True)
def _nothing_waits_on(project):
    yield
    go(project)
    end_controllers()


@pytest.fixture
def killed(project):
    """A run of three tasks, killed when so many of them have begun."""

    def start(count, cpus=8):
        project.write("routing.yaml", CPUS.replace("CPUS", str(cpus)))
        project.write("Snakefile", SNAKEFILE)
        KilledRun(project).kill_when(
            lambda: len(lines(project.path / "begun")) == count, f"{count} tasks begin"
        )
        return project

    return start


def go(project):
    (project.path / "go").touch()


def starts(project):
    (folder,) = (project.path / ".snakemake/takeda/runs").glob("*/starts")
    return {file.name: file for file in folder.iterdir()}


def test_what_runs_on_is_watched_and_what_had_not_begun_is_started(killed):
    project = killed(2, cpus=2)
    second = again(project)
    wait_until(lambda: len(project.events("reattached")) == 3, "all are taken up")
    assert len(lines(project.path / "begun")) == 2
    go(project)
    log = second.ends_well()
    assert lines(project.path / "begun") == ["0", "1", "2"]
    assert "jobs under way: 3 on local" in log
    assert tasks(project) == [("succeeded",)] * 3
    assert len(project.events("succeeded")) == 3


def test_what_ended_meanwhile_is_settled_and_what_is_gone_is_sent_again(killed):
    project = killed(3)
    from snakemake_executor_takeda.processes import start_of

    first, *others = sorted(starts(project).values())
    gone = start_of(first.parent, first.name)
    os.killpg(gone.pid, signal.SIGKILL)
    go(project)
    exits = first.parents[1] / "exits"
    wait_until(lambda: len(list(exits.glob("*.json"))) == 2, "two end")
    log = again(project).ends_well()
    assert "its process is gone without a word on its end" in log
    assert len(lines(project.path / "begun")) == 4
    assert sorted(tasks(project)) == [("failed",), *[("succeeded",)] * 3]
    assert {file.name for file in others} < {row[0] for row in tasks(project, "task_id")}


def test_a_failure_while_nobody_looked_is_told_with_its_log(project):
    project.write(
        "Snakefile",
        'rule work:\n    output: "0.out"\n    shell: "touch begun; sleep 1; echo hopeless; exit 7"\n',
    )
    KilledRun(project).kill_when((project.path / "begun").exists, "the task begins")
    wait_until(lambda: list(project.path.glob(".snakemake/takeda/runs/*/exits/*.json")), "it ends")
    second = again(project)
    assert second.process.wait(60) == 1
    log = second.log.read_text()
    assert "takeda: user on here" in log and "hopeless" in log
    assert tasks(project) == [("failed",)]


def test_ctrl_c_after_a_restart_ends_the_processes_of_the_first_controller(killed):
    from snakemake_executor_takeda.processes import start_of

    project = killed(3)
    second = again(project)
    wait_until(lambda: len(project.events("reattached")) == 3, "all are taken up")
    second.process.send_signal(signal.SIGINT)
    second.process.wait(60)
    assert [start_of(file.parent, file.name).is_running for file in starts(project).values()] == [
        False
    ] * 3
    assert tasks(project) == [("cancelled",)] * 3
    assert len(lines(project.path / "begun")) == 3


def test_detached_tasks_go_on_and_are_found_ended(project):
    project.write("routing.yaml", CPUS.replace("CPUS", "8"))
    project.write("Snakefile", SNAKEFILE)
    first = KilledRun(project, "--takeda-on-interrupt", "detach")
    wait_until(lambda: len(lines(project.path / "begun")) == 3, "all begin")
    first.process.send_signal(signal.SIGINT)
    first.process.wait(60)
    assert "jobs that go on without this process: 3 on local" in first.log.read_text()
    go(project)
    exits = ".snakemake/takeda/runs/*/exits/*.json"
    wait_until(lambda: len(list(project.path.glob(exits))) == 3, "all end")
    # On a shared file system Snakemake sees the outputs, and may ask for nothing: all is written down.
    again(project).ends_well()
    assert lines(project.path / "begun") == ["0", "1", "2"]
    assert tasks(project) == [("succeeded",)] * 3
    assert len(project.events("succeeded")) == 3
    with closing(sqlite3.connect(project.path / ".snakemake/takeda/ledger.sqlite")) as db:
        assert db.execute("select state from run").fetchall() == [("ended",)]


def test_an_input_that_is_younger_than_what_runs_makes_it_be_sent_anew(project):
    project.write("routing.yaml", CPUS.replace("CPUS", "8"))
    project.write("Snakefile", SNAKEFILE.replace("    output:", '    input: "in"\n    output:'))
    (project.path / "in").touch()
    KilledRun(project).kill_when(lambda: len(lines(project.path / "begun")) == 3, "all begin")
    with closing(sqlite3.connect(project.path / ".snakemake/takeda/ledger.sqlite")) as db:
        db.execute("update submission set intent_at = intent_at - 60")
        db.commit()
    (project.path / "in").touch()
    second = again(project)
    wait_until(lambda: len(lines(project.path / "begun")) == 6, "all begin again")
    go(project)
    second.ends_well()
    assert sorted(tasks(project)) == [("cancelled",)] * 3 + [("succeeded",)] * 3
