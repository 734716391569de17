"""Rules are edited while nobody watches their jobs: what those made of the old ones is made again."""

import pytest
from runs_that_are_killed import KilledRun, again, end_controllers, lines, tasks, wait_until

POLICY = "version: 1\ntargets: {here: {backend: local, cpus: 8}}\ndefault: here\n"
SNAKEFILE = """
rule all:
    input: "shell.out", "script.out", "kept.out"
rule by_shell:
    output: "shell.out"
    shell: "echo shell >> begun; while [ ! -e go ]; do sleep 0.05; done; echo old > {output}"
rule by_script:
    output: "script.out"
    script: "script.sh"
rule kept:
    output: "kept.out"
    params: word="kept"
    shell: "echo {params.word} >> begun; while [ ! -e go ]; do sleep 0.05; done; touch {output}"
"""
SCRIPT = """#!/bin/bash
echo script >> begun; while [ ! -e go ]; do sleep 0.05; done; echo old > script.out
"""


@pytest.fixture(autouse=True)
def _nothing_waits_on(project):
    yield
    (project.path / "go").touch()
    end_controllers()


def begun(project):
    return lines(project.path / "begun")


def test_what_ended_unseen_is_made_again_where_its_rule_was_edited(project):
    project.write("routing.yaml", POLICY)
    project.write("Snakefile", SNAKEFILE)
    project.write("script.sh", SCRIPT)
    KilledRun(project).kill_when(lambda: len(begun(project)) == 3, "all begin")
    # Edited before they end: the files are older than the outputs.
    edited = SNAKEFILE.replace("old", "new")
    project.write("Snakefile", edited)
    project.write("script.sh", SCRIPT.replace("old", "new"))
    (project.path / "go").touch()
    exits = ".snakemake/takeda/runs/*/exits/*.json"
    wait_until(lambda: len(list(project.path.glob(exits))) == 3, "all end")

    log = again(project).ends_well()
    why = "1 job ended while no controller was there, and code, params"
    assert f"by_shell: {why}" in log
    assert f"by_script: {why}" in log
    assert f"kept: {why}" not in log
    assert [(project.path / f"{name}.out").read_text() for name in ("shell", "script")] == [
        "new\n",
        "new\n",
    ]
    assert begun(project) == ["kept", "script", "script", "shell", "shell"]

    # Of what was found done Snakemake knows from now on what made it.
    project.write("Snakefile", edited.replace('word="kept"', 'word="other"'))
    done = project.run("--rerun-triggers", "mtime")
    assert "Nothing to be done" in done.stderr, done.stderr
    done = project.run()
    assert done.returncode == 0, done.stderr
    assert begun(project) == ["kept", "other", "script", "script", "shell", "shell"]
    assert len(tasks(project)) == 6


@pytest.mark.parametrize("first", [("script.out",), ("--rerun-triggers", "mtime")])
def test_an_edit_is_seen_by_a_later_start_than_the_first(project, first):
    project.write("routing.yaml", POLICY)
    project.write("Snakefile", SNAKEFILE)
    project.write("script.sh", SCRIPT)
    KilledRun(project).kill_when(lambda: len(begun(project)) == 3, "all begin")
    project.write("Snakefile", SNAKEFILE.replace("old", "new"))
    (project.path / "go").touch()
    exits = ".snakemake/takeda/runs/*/exits/*.json"
    wait_until(lambda: len(list(project.path.glob(exits))) == 3, "all end")

    # It has nothing to do with the rule that was edited, or is told not to look.
    again(project, *first).ends_well()
    assert (project.path / "shell.out").read_text() == "old\n"
    done = project.run()
    assert done.returncode == 0, done.stderr
    assert (project.path / "shell.out").read_text() == "new\n"
    assert begun(project) == ["kept", "script", "shell", "shell"], "what was not edited is left"
    assert "Nothing to be done" in project.run().stderr


def test_what_was_removed_by_hand_meanwhile_is_made_again(project):
    project.write("routing.yaml", POLICY)
    project.write("Snakefile", SNAKEFILE)
    project.write("script.sh", SCRIPT)
    KilledRun(project).kill_when(lambda: len(begun(project)) == 3, "all begin")
    (project.path / "go").touch()
    exits = ".snakemake/takeda/runs/*/exits/*.json"
    wait_until(lambda: len(list(project.path.glob(exits))) == 3, "all end")
    (project.path / "kept.out").unlink()

    log = again(project, "--latency-wait", "1").ends_well()
    assert "kept (job" in log and "its outputs are gone" in log
    assert (project.path / "kept.out").exists()
    assert begun(project) == ["kept", "kept", "script", "shell"]
