"""Whole runs on Slurm whose controller is killed at a moment of the test's choice: nothing lost, nothing
twice."""

import os
import stat
import subprocess
import sys

import pytest
from runs_that_are_killed import (
    ONCE,
    SNAKEFILE,
    KilledRun,
    again,
    end_controllers,
    lines,
    tasks,
    wait_until,
)

pytestmark = pytest.mark.slurm
SUMMED = """
rule sum:
    input: expand("{n}.out", n=range(3))
    output: "sum"
    shell: "cat {input} > {output}"
"""
"""On a shared file system a job's own Snakemake marks it as done: without another job nothing is left to do."""
POLICY = """
version: 1
targets: {hpc: {backend: slurm, partition: hpc}}
default: hpc
"""


@pytest.fixture(autouse=True)
def _on_slurm(project, slurm_env, monkeypatch):
    for name, value in slurm_env.items():
        monkeypatch.setenv(name, value)
    project.write("routing.yaml", POLICY)
    summed = SNAKEFILE.replace('expand("{n}.out", n=range(3))', '"sum"', 1) + SUMMED
    project.write("Snakefile", summed)
    yield
    (project.path / "go").touch()
    end_controllers()


def begun(project):
    return lines(project.path / "begun")


def killed_when_all_run(project):
    KilledRun(project).kill_when(lambda: len(begun(project)) == 3, "all begin")


def test_running_tasks_are_adopted_and_a_second_controller_is_refused(project):
    killed_when_all_run(project)
    second = again(project)
    wait_until(lambda: len(project.events("reattached")) == 3, "all are taken up")
    third = project.run("--nolock", "--rerun-incomplete")
    assert third.returncode == 1 and "Traceback" not in third.stderr
    assert f"process {second.process.pid} on " in third.stderr
    assert "one ledger has one controller" in third.stderr
    (project.path / "go").touch()
    assert "jobs under way: 3 on slurm" in second.ends_well()
    assert begun(project) == ["0", "1", "2"]
    assert tasks(project) == [("succeeded",)] * 4
    first = tasks(project, "submission.external_id")[0][0]
    assert {event["detail"]["submission"] for event in project.events("reattached")} == {first}


def queue():
    command = ["squeue", "--noheader", "--me"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


SLOW_SBATCH = """#!{python}
import os, pathlib, sys, time
folder = pathlib.Path({folder!r})
if (folder / "deaf").exists():
    (folder / "called").touch()
    if (folder / "first").exists():
        os.spawnv(os.P_WAIT, {sbatch!r}, ["sbatch", *sys.argv[1:]])
        (folder / "sent").touch()
    time.sleep(60)
os.execv({sbatch!r}, ["sbatch", *sys.argv[1:]])
"""


@pytest.fixture
def sbatch(tmp_path_factory, slurm_env, monkeypatch):
    """An sbatch that does not come back as long as `deaf` lies beside it; with `first`, it sends before."""
    folder = tmp_path_factory.mktemp("bin")
    path = slurm_env.get("PATH", os.environ["PATH"])
    real = subprocess.run(
        ["which", "sbatch"], env={"PATH": path}, check=True, capture_output=True, text=True
    ).stdout.strip()
    script = folder / "sbatch"
    script.write_text(SLOW_SBATCH.format(python=sys.executable, folder=str(folder), sbatch=real))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{path}")
    return folder


@pytest.mark.parametrize("came_through", [True, False])
def test_a_call_whose_answer_nobody_heard_is_looked_up(project, sbatch, came_through):
    (sbatch / "deaf").touch()
    if came_through:
        (sbatch / "first").touch()
    KilledRun(project).kill_when(
        (sbatch / ("sent" if came_through else "called")).exists, "sbatch is called"
    )
    assert tasks(project, "submission.state, task.state") == [("intent", "intent")] * 3
    (sbatch / "deaf").unlink()
    (project.path / "go").touch()
    again(project).ends_well()
    assert begun(project) == ["0", "1", "2"]
    if came_through:
        assert tasks(project) == [("succeeded",)] * 4
    else:
        assert sorted(tasks(project)) == [("cancelled",)] * 3 + [("succeeded",)] * 4
        assert {event["detail"]["reason"] for event in project.events("resubmitted")} == {
            "it had never reached the service"
        }


def test_a_changed_rule_ends_what_runs_of_the_old_one(project):
    killed_when_all_run(project)
    project.write("Snakefile", SNAKEFILE.replace(ONCE, "echo new-{wildcards.n} >> begun; "))
    log = again(project).ends_well()
    assert "has changed since it was sent: what was sent is ended first" in log
    assert begun(project) == ["0", "1", "2", "new-0", "new-1", "new-2"]
    assert sorted(tasks(project)) == [("cancelled",)] * 3 + [("succeeded",)] * 3
    wait_until(lambda: queue() == "", "Slurm is empty")
