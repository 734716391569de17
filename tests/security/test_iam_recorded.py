"""Each call that a run makes is allowed by its role's policy, and each action is needed by a call."""

from __future__ import annotations

import pytest
from iam_recorder import allowed, needs
from iam_run import FEATURES, VALUES

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
