"""Runs leave a chain of events that names who, what and with which code, and that tells of changes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from snakemake_executor_takeda.cli import main

SNAKEFILE = """
    envvars: "ACCESS_TOKEN"
    rule all:
        input: "all.txt"
    rule make:
        output: "made/{sample}.txt"
        resources: mem_mb=100
        shell: "echo {wildcards.sample:q} > {output:q}"
    rule gather:
        input: expand("made/{sample}.txt", sample=["a", "ü b"])
        output: "all.txt"
        threads: 2
        retries: 1
        shell: "test -e once || {{ touch once; exit 3; }}; cat {input:q} > {output}"
"""
VALIDATOR = Path(sys.prefix) / "rocrate-validator/bin/python"
VALIDATE = Path(__file__).parents[1] / "unit/validate_crate.py"


def takeda(capsys, *words):
    status = main(["audit", *words])
    return status, capsys.readouterr().out


def git(folder, *words):
    identity = ["-c", "user.name=x", "-c", "user.email=x@y.z"]
    done = subprocess.run(
        ["git", "-C", folder, *identity, *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_two_runs_are_one_chain_and_each_is_a_crate(project, capsys, monkeypatch):
    monkeypatch.chdir(project.path)
    project.write("Snakefile", SNAKEFILE)
    policy = (project.path / "routing.yaml").read_text()
    project.write("site.yaml", "version: 1\nretry: {lost: 1}\n")
    project.write("routing.yaml", policy + "include: site.yaml\n")
    git(project.path, "init")
    git(project.path, "add", "Snakefile")
    git(project.path, "commit", "-m", "one")
    for targets in (["made/a.txt"], ["all"]):
        done = project.run(
            *targets, ACCESS_TOKEN="hush-hush-1", AWS_SECRET_ACCESS_KEY="hush-hush-2"
        )
        assert done.returncode == 0, done.stderr
    text = (project.path / ".snakemake/takeda/events.jsonl").read_text()
    assert "hush" not in text

    status, said = takeda(capsys, "verify")
    assert status == 0, said
    assert "the ledger knows its end after 2 runs" in said
    first, second = project.events("run")
    assert len(project.events("run_end")) == 2
    facts = second["detail"]
    assert facts["who"].endswith(f"@{socket.gethostname()}")
    assert facts["workflow"]["path"] == str(project.path / "Snakefile")
    assert facts["workflow"]["commit"] == git(project.path, "rev-parse", "HEAD")
    assert facts["workflow"]["changed"] is False
    assert set(facts["versions"]) == {"takeda", "snakemake"}
    assert facts["policy"]["path"].endswith("routing.yaml") and facts["targets"] == {
        "here": "local"
    }
    (site,) = facts["policy_includes"]
    assert (site["path"], len(site["sha256"])) == (str(project.path / "site.yaml"), 64)
    totals = project.events("run_end")[1]["detail"]["totals"]
    assert (totals["placed"], totals["succeeded"], totals["failed"]) == (3, 2, 1)

    (placed, _) = [one for one in project.events("placed") if one["rule"] == "gather"]
    assert placed["detail"]["resources"]["cpus"] == 2
    makers = [one for one in project.events("placed") if one["rule"] == "make"]
    assert [one["detail"]["resources"]["mem_mb"] for one in makers] == [100, 100]
    assert placed["detail"]["inputs"] == [{"path": "made/a.txt"}, {"path": "made/ü b.txt"}]
    ended = [one for one in project.events("succeeded") if one["rule"] == "gather"]
    assert ended[0]["detail"]["outputs"] == [{"path": "all.txt"}]
    assert ended[0]["detail"]["wall_seconds"] >= 0

    status, said = takeda(capsys, "show", "--rule", "gather", "--run", second["run_id"])
    sentences = [line[23:].split(";")[0].split(" after")[0] for line in said.splitlines()[1:]]
    words = [
        "placed on here: default",
        "sent to here",
        "started",
        "failed",
        "attempt 2: placed on here: default",
    ]
    assert [one[: len(word)] for one, word in zip(sentences, words, strict=False)] == words
    assert sentences[-1] == "succeeded"

    for run_id, name in ((first["run_id"], "first.zip"), (second["run_id"], "second")):
        assert takeda(capsys, "export", "--ro-crate", name, "--run", run_id)[0] == 0
    if not VALIDATOR.exists():
        pytest.skip(f"there is no {VALIDATOR}: `make setup` makes it")
    done = subprocess.run(
        [VALIDATOR, VALIDATE, "REQUIRED", "first.zip", "second"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[[], []]"), done.stderr


def test_a_killed_controller_leaves_a_log_that_the_next_run_goes_on_with(project, capsys):
    # The second rule is run by the controller itself: it ends with it.
    project.write(
        "Snakefile",
        """
        localrules: b
        rule b:
            input: "a.txt"
            output: "b.txt"
            shell: "test -e once || {{ touch once; sleep 60; }}; touch {output}"
        rule a:
            output: "a.txt"
            shell: "touch {output}"
        """,
    )
    process = subprocess.Popen(
        project.command(),
        cwd=project.path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not (project.path / "once").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    log = project.path / ".snakemake/takeda/events.jsonl"
    # As if it had been in the middle of one more line.
    with log.open("a") as file:
        file.write('{"seq": 4, "previous": "5')
    assert takeda(capsys, "verify", str(log))[0] == 0
    subprocess.run([*project.command(), "--unlock"], cwd=project.path, check=True)
    done = project.run("--rerun-incomplete", "--forceall")
    assert done.returncode == 0, done.stderr
    assert "half a line stays there" in done.stderr
    status, said = takeda(capsys, "verify", str(log))
    assert status == 0, said
    assert "is torn: its writer was ended in the middle of it" in said
    lines = log.read_text().split("\n")
    log.write_text("\n".join(line for line in lines if '"event": "placed"' not in line))
    status, said = takeda(capsys, "verify", str(log), "--json")
    kinds = {one["kind"] for one in json.loads(said)["problems"]}
    assert status == 1 and kinds
