"""Whole runs whose Slurm nodes go away: Spot losses and their fallback, a bad node, and what jobs used."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import time

import pytest
from fixtures_slurm import on_old_and_rest

pytestmark = pytest.mark.slurm
BY_COMMANDS_AND_BY_REST = pytest.mark.parametrize(
    "slurm_way", ["22.05", "24.11-rest"], indirect=True
)
"""These take long: each client once."""
POLICY = """
version: 1
targets:
  cheap: {backend: slurm, partition: spot, capacity: spot, fallback: sure}
  sure:  {backend: slurm, partition: hpc}
default: DEFAULT
"""
SNAKEFILE = """
rule work:
    output: "out"
    threads: 2
    resources: mem_mb=2000
    shell:
        "echo $SLURM_JOB_PARTITION $SLURMD_NODENAME >> places; "
        "if [ $(wc -l < places) -le LOSSES ]; then sleep 600; fi; touch {output}"
"""


@pytest.fixture(autouse=True)
def _slurm_in_the_environment(slurm_env, monkeypatch):
    for name, value in slurm_env.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def run(project, slurm_way):
    """Start a run whose job loses its node so many times; (places it was, nodes taken, result)."""
    downed = []

    def start(default, losses, *flags):
        slurm_way.write_policy(project.path / "routing.yaml", POLICY.replace("DEFAULT", default))
        project.write("Snakefile", SNAKEFILE.replace("LOSSES", str(losses)))
        with (project.path / "log").open("w") as log:
            process = subprocess.Popen(
                project.command(*flags), cwd=project.path, stdout=log, stderr=log
            )
            for loss in range(losses):
                wait_until(lambda n=loss: len(places(project)) > n, "the job starts")
                _, node = places(project)[-1]
                downed.append(node)
                control(node, "state=down", "reason=taken")
                wait_until(
                    lambda n=loss: len(project.events("resubmitted")) > n, "it is sent again"
                )
                control(node, "state=resume")
            code = process.wait(180)
        return code, (project.path / "log").read_text()

    yield start
    for node in set(downed):
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], check=False)


def control(node, *words):
    subprocess.run(["scontrol", "update", f"nodename={node}", *words], check=True)


def places(project):
    file = project.path / "places"
    return [tuple(line.split()) for line in file.read_text().splitlines()] if file.exists() else []


def wait_until(condition, what):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.1)


@BY_COMMANDS_AND_BY_REST
def test_spot_losses_have_their_budget_then_the_fallback(run, project):
    code, log = run("cheap", 3, "--takeda-interruptions", "2")
    assert code == 0, log
    assert [partition for partition, _ in places(project)] == ["spot", "spot", "spot", "hpc"]
    lost = [event["detail"]["kind"] for event in project.events("interrupted")]
    assert lost == ["interrupted"] * 3
    assert "NODE_FAIL" in project.events("interrupted")[0]["detail"]["reason"]
    assert "no more jobs of this run" not in log


def test_a_node_that_fails_twice_is_left_alone(run, project):
    code, log = run("sure", 2)
    assert code == 0, log
    nodes = [node for _, node in places(project)]
    lost = [event["detail"]["kind"] for event in project.events("interrupted")]
    assert lost == ["node_failure"] * 2
    if nodes[0] == nodes[1]:
        assert log.count(f"node {nodes[0]} failed 2 times") == 1
        assert nodes[2] != nodes[0]


@on_old_and_rest
def test_what_a_job_used_is_in_events_ledger_and_summary(project, slurm_way):
    slurm_way.write_policy(project.path / "routing.yaml", POLICY.replace("DEFAULT", "sure"))
    burn = "x = bytearray(150_000_000); sum(i for i in range(8_000_000))"
    project.write(
        "Snakefile",
        f"""
        rule burn:
            output: "out"
            resources: mem_mb=3000
            shell: "python3 -c '{burn}'; touch {{output}}"
        """,
    )
    done = project.run()
    assert done.returncode == 0, done.stderr
    (event,) = project.events("succeeded")
    detail = event["detail"]
    assert detail["cpu_seconds"] > 0.3
    assert detail["max_rss_kib"] > 150_000_000 / 1024
    assert re.fullmatch(r"node-\d", detail["nodes"])
    assert detail["wall_seconds"] > 0
    with sqlite3.connect(project.path / ".snakemake/takeda/ledger.sqlite") as ledger:
        ((kept,),) = ledger.execute("select detail from task").fetchall()
    assert json.loads(kept).items() >= {"nodes": detail["nodes"], "log": detail["log"]}.items()
    assert re.search(
        r"burn on sure used \d+ % of its CPUs and at most \d+ of 3,000 MB \(\d+ %\)", done.stderr
    )
    assert re.search(r"/logs/burn/[\w-]+/0\.log$", detail["log"])


@BY_COMMANDS_AND_BY_REST
def test_ctrl_c_leaves_no_job_however_often_it_is_pressed(project, slurm_way):
    slurm_way.write_policy(project.path / "routing.yaml", POLICY.replace("DEFAULT", "sure"))
    project.write(
        "Snakefile",
        """
        rule all:
            input: expand("{n}", n=range(12))
        rule wait:
            output: "{n}"
            shell: "touch begun.{wildcards.n}; sleep 600; touch {output}"
        """,
    )
    with (project.path / "log").open("w") as log:
        run = subprocess.Popen(
            project.command(),
            cwd=project.path,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            wait_until(lambda: list(project.path.glob("begun.*")), "the first job begins")
            for _ in range(3):
                os.killpg(run.pid, signal.SIGINT)
                time.sleep(0.3)
            run.wait(60)
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
                run.wait()
    queue = ["squeue", "--noheader", "--me"]
    assert subprocess.run(queue, capture_output=True, text=True, check=True).stdout == ""
    assert len(project.events("cancelled")) == 12
