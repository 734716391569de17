"""Each call that a run makes is allowed by its role's policy, and each action is needed by a call."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from iam_recorder import allowed, needs
from iam_run import FEATURES, PREFIX, VALUES

from snakemake_executor_takeda.sandbox.variables import client_variables
from snakemake_executor_takeda.worker.manifest import CELL

pytestmark = pytest.mark.sandbox
ROLES = {"CONTROLLER": "controller", "JOB": "job", "OMICS": "healthomics"}


def test_the_pipeline_ran_in_all_roles(recorded):
    assert recorded.done.returncode == 0, recorded.done.stderr
    assert {call.role for call in recorded.recorder.calls} == set(ROLES)


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
