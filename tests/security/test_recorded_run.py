"""One recorded run: each call is allowed by its role's policy, each action is needed by a call, and the
run's secrets are where they must be for its jobs, and nowhere else.

In one file, as each process that runs a file of tests would make a recorded run of its own.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys

import pytest
from iam_recorder import allowed, needs
from iam_run import FEATURES, PLANTED, PREFIX, TOKEN, VALUES

from snakemake_executor_takeda.sandbox.variables import client_variables
from snakemake_executor_takeda.worker.manifest import CELL

ROLES = {"CONTROLLER": "controller", "JOB": "job", "OMICS": "healthomics"}


@pytest.mark.sandbox
def test_the_pipeline_ran_in_all_roles(recorded):
    assert recorded.done.returncode == 0, recorded.done.stderr
    assert {call.role for call in recorded.recorder.calls} == set(ROLES)


@pytest.mark.sandbox
@pytest.mark.parametrize("key", ROLES)
def test_every_call_is_allowed_on_what_it_names(recorded, policies, key):
    policy = policies.filled(policies.policy(ROLES[key], FEATURES), VALUES)
    refused = {
        f"{call.operation} needs {need.action} on {need.resource}"
        for call in recorded.recorder.by(key)
        if call.operation not in policies.DATA["not_granted"]
        for need in needs(call)
        if not allowed(policy, need)
    }
    assert not refused


@pytest.mark.sandbox
@pytest.mark.parametrize("key", ["CONTROLLER", "JOB"])
def test_every_action_is_needed(recorded, policies, key):
    """What no call asked for is rare, and says when it is called."""
    asked = {need.action for call in recorded.recorder.by(key) for need in needs(call)}
    unused = {
        action
        for statement in policies.ROLES[ROLES[key]]["statements"]
        if statement["feature"] in FEATURES
        for action, about in statement["actions"].items()
        if action not in asked and "rare" not in about
    }
    assert not unused, f"asked for: {sorted(asked)}"


@pytest.mark.sandbox
@pytest.mark.parametrize("key", ["CONTROLLER", "JOB"])
def test_every_call_is_in_the_table(recorded, policies, key):
    known = {
        (action, call)
        for statement in policies.ROLES[ROLES[key]]["statements"]
        for action, about in statement["actions"].items()
        for call in about["calls"]
    }
    made = {
        (need.action, call.operation) for call in recorded.recorder.by(key) for need in needs(call)
    }
    assert made - known == set()


@pytest.mark.sandbox
def test_a_node_of_slurm_with_s3_needs_no_more_than_a_job(recorded, policies, tmp_path):
    """It leaves an exit record, which a Batch job does not."""
    entry = {"run_id": "r", "task_id": "r-t1", "argv": ["true"], "workdir": str(tmp_path)}
    line = json.dumps(entry | {"sources_uri": None, "environment_uri": None}).encode() + b"\n"
    cells = b"".join(b"%0*d" % (CELL, one) for one in (2 * CELL, 2 * CELL + len(line)))
    place = f"{PREFIX}run/.takeda/slurm"
    recorded.s3.put_object(Bucket="takeda-sandbox", Key=f"{place}/m", Body=cells + line)
    url = recorded.recorder.url
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "snakemake_executor_takeda.worker"),
            *("--manifest", f"s3://takeda-sandbox/{place}/m"),
            *("--exit-records", f"s3://takeda-sandbox/{place}/exits"),
        ],
        env=os.environ | client_variables(url, url, "SLURM"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    calls = recorded.recorder.by("SLURM")
    assert {call.operation for call in calls} == {"GetObject", "PutObject"}
    policy = policies.filled(policies.policy("job", ["s3"]), VALUES)
    assert all(allowed(policy, need) for call in calls for need in needs(call))


# ---- secrets


@pytest.mark.sandbox
def test_the_jobs_had_the_variable(recorded):
    assert recorded.done.returncode == 0, recorded.done.stderr
    assert recorded.objects[f"{PREFIX}run/sum.txt"] == b"1\n2\n"


@pytest.mark.sandbox
def test_no_call_holds_a_secret_but_the_one_that_brings_the_variables(recorded):
    holding = [
        call
        for call in recorded.recorder.calls
        if PLANTED in f"{call.path}{call.query}{dict(call.headers)}"
        or PLANTED.encode() in call.body
    ]
    assert {(call.role, call.operation) for call in holding} == {("CONTROLLER", "PutObject")}
    (call,) = holding
    assert call.path.endswith("/environment.json")
    assert not [one for one in call.headers if "encryption" in one], "the bucket's own is used"
    variables = json.loads(call.body)
    assert variables.pop("LAB_TOKEN") == TOKEN
    assert not any(PLANTED in value for value in variables.values())


@pytest.mark.sandbox
def test_nothing_holds_a_secret_when_the_run_is_over(recorded):
    told = recorded.done.stdout + recorded.done.stderr
    assert PLANTED not in told
    holding = [key for key, content in recorded.objects.items() if PLANTED.encode() in content]
    for folder in (recorded.project, recorded.state_dir):
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert files
        holding += [str(path) for path in files if PLANTED.encode() in path.read_bytes()]
    assert holding == []


@pytest.mark.sandbox
def test_the_ledger_and_the_log_were_written(recorded):
    """Or else the tests above would have looked at nothing."""
    state = recorded.project / ".snakemake/takeda"
    assert "words" in (state / "events.jsonl").read_text()
    with sqlite3.connect(state / "ledger.sqlite") as ledger:
        assert ledger.execute("select count(*) from sqlite_master").fetchone()[0] > 0
    assert [key for key in recorded.objects if "/manifests/" in key]


@pytest.mark.sandbox
def test_hostile_wildcards_and_variables_stay_what_they_are(recorded):
    names = {key.removeprefix(f"{PREFIX}run/odd/") for key in recorded.objects if "/odd/" in key}
    long = "".join(map(str, range(80)))
    wanted = {"-rf $(touch pwned);`touch pwned`|a>b&c", f"..ünï 日本{long}"}
    assert names == {f"{name}.txt" for name in wanted}
    for folder in (recorded.project, recorded.state_dir):
        assert not list(folder.rglob("pwned"))
    for call in recorded.recorder.by("CONTROLLER"):
        if call.operation == "SubmitJob":
            name = json.loads(call.body)["jobName"]
            assert re.fullmatch(r"[A-Za-z0-9][\w-]{0,127}", name, re.ASCII)


SHARED = """
envvars: "LAB_TOKEN"

rule all:
    input: "seen"

rule a:
    output: "seen"
    shell: 'test -n "$LAB_TOKEN" && cat /proc/[0-9]*/cmdline 2>/dev/null > {output}'

rule says_it:
    output: "never"
    shell: 'echo "$LAB_TOKEN" >&2; exit 3'
"""


def test_on_a_shared_file_system_no_file_and_no_command_line_holds_a_secret(tmp_path):
    """A job's own output is its own: one that prints a secret has it in its log."""
    (tmp_path / "Snakefile").write_text(SHARED)
    (tmp_path / "routing.yaml").write_text(
        "version: 1\ntargets: {here: {backend: local}}\ndefault: here\n"
    )
    command = [
        *(sys.executable, "-m", "snakemake", "--executor", "takeda", "--jobs", "5", "--keep-going"),
        *("--takeda-routing", "routing.yaml", "--takeda-poll-seconds", "0.2", "all", "never"),
    ]
    secrets = {
        "LAB_TOKEN": f"{PLANTED}-of-envvars",
        "AWS_SECRET_ACCESS_KEY": f"{PLANTED}-of-aws",
        "AWS_SESSION_TOKEN": f"{PLANTED}-of-aws-too",
        "SLURM_JWT": f"{PLANTED}-of-slurm",
    }
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | secrets, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "rule says_it" in done.stderr
    assert b"snakemake" in (tmp_path / "seen").read_bytes()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    holding = [path for path in files if PLANTED.encode() in path.read_bytes()]
    assert [path for path in holding if path.suffix != ".log"] == []
