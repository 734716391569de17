"""What a user sees of a run: success, failure, retries, Ctrl-C and mistakes, on this machine alone."""

import json
import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest


def alive_with(marker):
    """Processes whose command line holds the marker."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if marker in (entry / "cmdline").read_text():
                    found.append(entry.name)
            except OSError:
                continue
    return found


def test_every_job_is_placed_with_reasons_and_ends_in_one_report(project):
    project.write(
        "Snakefile",
        """
        rule all:
            input: expand("{n}.txt", n=range(4))
        rule make:
            output: "{n}.txt"
            shell: "echo {wildcards.n} > {output}"
        """,
    )
    result = project.run()
    assert result.returncode == 0, result.stderr
    assert (project.path / "3.txt").read_text() == "3\n"
    for name in ("placed", "submitted", "started", "succeeded"):
        events = project.events(name)
        assert sorted(event["wildcards"]["n"] for event in events) == ["0", "1", "2", "3"], name
    assert {tuple(event["detail"]["reasons"]) for event in project.events("placed")} == {
        ("default",)
    }
    assert {event["detail"]["tasks"] for event in project.events("submitted")} == {4}
    with sqlite3.connect(project.path / ".snakemake/takeda/ledger.sqlite") as ledger:
        assert ledger.execute("select state, count(*) from task group by state").fetchall() == [
            ("succeeded", 4)
        ]
    assert "make" in result.stderr and "wall time" in result.stderr


def test_a_failure_says_what_happened_and_the_others_still_run(project):
    project.write(
        "Snakefile",
        """
        rule all:
            input: "good.txt", "bad.txt"
        rule good:
            output: "good.txt"
            shell: "touch {output}"
        rule bad:
            output: "bad.txt"
            shell: "echo the genome is missing >&2; exit 3"
        """,
    )
    result = project.run("--keep-going")
    assert result.returncode == 1
    assert (project.path / "good.txt").exists()
    assert "takeda: user on here" in result.stderr
    assert "the genome is missing" in result.stderr
    assert "whole log: " in result.stderr
    (failed,) = project.events("failed")
    assert (failed["rule"], failed["detail"]["kind"]) == ("bad", "user")
    assert "Traceback" not in result.stderr


def test_an_output_that_is_not_written_fails_its_job(project):
    project.write(
        "Snakefile",
        """
        rule all:
            input: "a.txt"
        rule forgetful:
            output: "a.txt"
            shell: "true"
        """,
    )
    result = project.run("--latency-wait", "1")
    assert result.returncode == 1
    assert "a.txt" in result.stderr and "Traceback" not in result.stderr


def test_retries_raise_the_attempt_that_resources_see(project):
    project.write(
        "Snakefile",
        """
        rule flaky:
            output: "a.txt"
            retries: 2
            resources: mem_mb=lambda wildcards, attempt: 100 * attempt
            shell: "[ {resources.mem_mb} -ge 300 ] && touch {output}"
        """,
    )
    result = project.run()
    assert result.returncode == 0, result.stderr
    assert [event["attempt"] for event in project.events("failed", "succeeded")] == [1, 2, 3]


def test_group_jobs_run_as_one(project):
    project.write(
        "Snakefile",
        """
        rule all:
            input: expand("b.{n}", n=range(3))
        rule first:
            output: "a.{n}"
            group: "pair"
            shell: "echo {wildcards.n} > {output}"
        rule second:
            input: "a.{n}"
            output: "b.{n}"
            group: "pair"
            shell: "cp {input} {output}"
        """,
    )
    result = project.run()
    assert result.returncode == 0, result.stderr
    assert len(project.events("succeeded")) == 3
    assert (project.path / "b.2").read_text() == "2\n"


@pytest.mark.parametrize("jobs", ["1", "2", "3", "50"])
@pytest.mark.parametrize("rate", ["100000/1s", "3/1s"])
def test_no_number_of_jobs_or_rate_stalls(project, jobs, rate):
    project.write(
        "Snakefile",
        """
        rule all:
            input: expand("{n}.txt", n=range(10))
        rule make:
            output: "{n}.txt"
            group: "bundle"
            shell: "touch {output}"
        """,
    )
    result = project.run(
        *("--jobs", jobs, "--max-jobs-per-timespan", rate),
        *("--group-components", "bundle=5", "--takeda-coalesce-seconds", "0.1"),
    )
    assert result.returncode == 0, result.stderr
    assert len(list(project.path.glob("*.txt"))) == 10


def test_hostile_wildcards_stay_words(project):
    project.write(
        "Snakefile",
        """
        NAMES = ["$(touch pwned)", "`touch pwned`", "a;touch pwned", "it's", 'say "hi"', "a b", "a,b", "x=y"]
        rule all:
            input: expand("out/{name}.txt", name=NAMES)
        rule make:
            output: "out/{name}.txt"
            shell: "touch {output:q}"
        """,
    )
    result = project.run()
    assert result.returncode == 0, result.stderr
    assert len(list((project.path / "out").iterdir())) == 8
    assert not (project.path / "pwned").exists()


def test_ctrl_c_ends_everything(project, tmp_path):
    marker = f"takeda-test-{os.getpid()}-{time.monotonic_ns()}"
    project.write(
        "Snakefile",
        f"""
        rule all:
            input: expand("{{n}}.txt", n=range(3))
        rule slow:
            output: "{{n}}.txt"
            shell: "touch started.{{wildcards.n}}; exec sh -c 'while sleep 1; do :; done' {marker}"
        """,
    )
    process = subprocess.Popen(
        project.command(), cwd=project.path, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 60
        while not list(project.path.glob("started.*")):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        process.wait(30)
        assert process.returncode != 0
        assert alive_with(marker) == []
        assert project.events("cancelled")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.stderr.close()


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("version: 1\ntargets: {here: {bakend: local}}\ndefault: here\n", ["bakend", "backend"]),
        ("version: 1\ntargets: {here: {backend: locl}}\ndefault: here\n", ["locl", "local"]),
        ("version: 1\ntargets: {here: {backend: local}}\ndefault: her\n", ["her", "here"]),
    ],
)
def test_a_mistake_in_the_policy_is_one_clear_message(project, policy, words):
    project.write("routing.yaml", policy)
    project.write("Snakefile", 'rule a:\n    output: "a"\n    shell: "touch {output}"\n')
    result = project.run()
    assert result.returncode == 1
    for word in ("routing.yaml:", *words):
        assert word in result.stderr
    assert "Traceback" not in result.stderr
    assert not (project.path / "a").exists()


def test_an_unknown_target_of_a_rule_is_found_before_anything_runs(project):
    project.write(
        "Snakefile",
        """
        rule all:
            input: "a", "b"
        rule a:
            output: "a"
            shell: "touch {output}"
        rule b:
            input: "a"
            output: "b"
            resources: target="hree"
            shell: "touch {output}"
        """,
    )
    result = project.run()
    assert result.returncode == 1
    assert "hree" in result.stderr and "here" in result.stderr and "Snakefile:" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (project.path / "a").exists()


def test_no_target_at_all_names_the_flags(project):
    project.write("Snakefile", 'rule a:\n    output: "a"\n    shell: "touch {output}"\n')
    command = [
        word for word in project.command() if word not in ("--takeda-routing", "routing.yaml")
    ]
    result = subprocess.run(command, cwd=project.path, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "--takeda-batch-queue" in result.stderr
    assert "Traceback" not in result.stderr


def test_envvars_reach_jobs_but_no_file_of_the_run(project):
    project.write(
        "Snakefile",
        """
        envvars: "TOKEN"
        rule a:
            output: "a"
            shell: "test -n \\"$TOKEN\\" && touch {output}"
        """,
    )
    result = project.run(TOKEN="s3cr3t-value")
    assert result.returncode == 0, result.stderr
    files = [path for path in (project.path / ".snakemake/takeda").rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if b"s3cr3t-value" in path.read_bytes()] == []
    assert json.loads((project.path / ".snakemake/takeda/events.jsonl").read_text().splitlines()[0])


def test_a_job_that_gathers_thousands_of_files_fits_on_the_command_line(project):
    project.write(
        "Snakefile",
        """
        FILES = [f"many/{'x' * 100}-{n}" for n in range(3000)]
        rule gather:
            input: FILES
            output: "count"
            shell: "ls many | wc -l > {output}"
        """,
    )
    (project.path / "many").mkdir()
    for number in range(3000):
        (project.path / "many" / f"{'x' * 100}-{number}").touch()
    result = project.run()
    assert result.returncode == 0, result.stderr
    assert (project.path / "count").read_text().strip() == "3000"


def test_immediate_submit_is_refused(project):
    project.write("Snakefile", 'rule a:\n    output: "a"\n    shell: "touch {output}"\n')
    result = project.run("--immediate-submit", "--notemp")
    assert result.returncode == 1
    assert "--immediate-submit is not supported" in result.stderr


def test_a_handoff_that_snakemake_keeps_on_this_machine_is_told_at_the_start(project):
    project.write(
        "Snakefile",
        """
        rule all:
            input: "1.txt", "2.txt", "near.txt", "none.txt"
        rule call:
            output: "{n,[0-9]}.txt"
            localrule: True
            resources: handoff="call.wdl"
            shell: "touch {output}"
        rule near:
            output: "near.txt"
            localrule: True
            shell: "touch {output}"
        rule none:
            output: "none.txt"
            localrule: True
            resources: handoff=lambda wildcards: ""
            shell: "touch {output}"
        """,
    )
    result = project.run()
    assert result.returncode == 0, result.stderr
    told = [line for line in result.stderr.splitlines() if "hands nothing off" in line]
    assert len(told) == 1
    assert "Snakefile:4: rule call hands nothing off: Snakemake runs its shell on this" in told[0]
    assert "it is a local rule" in told[0]
