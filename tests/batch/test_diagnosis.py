"""Why nothing starts, from the service's words, queues and compute environments."""

import pytest

from snakemake_executor_takeda.backends.batch.diagnosis import (
    Needs,
    diagnose,
    place_in,
    service_words,
)
from snakemake_executor_takeda.values import FailureKind

QUEUE = {"state": "ENABLED", "status": "VALID"}


def environment(name="ce", maximum=16, desired=0, **more):
    resources = {"maxvCpus": maximum, "desiredvCpus": desired}
    return {
        "computeEnvironmentName": name,
        "state": "ENABLED",
        "status": "VALID",
        "computeResources": resources,
        **more,
    }


@pytest.mark.parametrize(
    ("words", "code", "kind", "definite"),
    [
        (
            "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - The job asks for too much.",
            "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE",
            FailureKind.CONFIGURATION,
            True,
        ),
        (
            "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - x",
            "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT",
            FailureKind.CONFIGURATION,
            True,
        ),
        (
            "MISCONFIGURATION:SERVICE_ROLE_PERMISSIONS - x",
            "MISCONFIGURATION:SERVICE_ROLE_PERMISSIONS",
            FailureKind.CONFIGURATION,
            False,
        ),
        (
            "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - There is none.",
            "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY",
            FailureKind.NO_CAPACITY,
            False,
        ),
        ("ACTION_REQUIRED - Mend it", "ACTION_REQUIRED", FailureKind.NO_CAPACITY, False),
    ],
)
def test_the_services_words_come_first(words, code, kind, definite):
    found = diagnose(words, Needs(4, 100), QUEUE, [environment(desired=16)])
    assert (found.code, found.kind, found.is_definite) == (code, kind, definite)
    assert code in found.because
    assert found.advice


@pytest.mark.parametrize("words", ["", "Essential container in task exited", "CAPACITYX - no"])
def test_other_words_are_no_reason(words):
    assert service_words(words) is None


@pytest.mark.parametrize(
    ("queue", "environments", "code", "part"),
    [
        (QUEUE, [environment(state="DISABLED")], "disabled", "ce is DISABLED"),
        (
            QUEUE,
            [environment("a", state="DISABLED"), environment("b", state="DISABLED")],
            "disabled",
            "a, b are DISABLED",
        ),
        (
            QUEUE,
            [environment(status="INVALID", statusReason="CLIENT_ERROR - no role.")],
            "invalid",
            "ce is INVALID (CLIENT_ERROR - no role)",
        ),
        (QUEUE, [environment(desired=16)], "full", "ce 16 of 16 vCPUs"),
        (QUEUE, [environment(desired=0)], "not_growing", "ce 0 of 16 vCPUs"),
        (
            QUEUE,
            [environment("a", state="DISABLED"), environment("b", desired=2)],
            "not_growing",
            "b 2 of 16",
        ),
        ({**QUEUE, "status": "INVALID", "statusReason": "gone"}, [], "queue", "INVALID (gone)"),
        (None, [], "unknown", "no reason"),
        (QUEUE, [], "unknown", "no reason"),
        (QUEUE, [{"computeEnvironmentName": "unmanaged"}], "unknown", "no reason"),
    ],
)
def test_queue_and_environments_speak_where_the_job_is_silent(queue, environments, code, part):
    found = diagnose("", Needs(4, 100), queue, environments)
    assert found.code == code
    assert part in found.because
    assert (found.kind, found.is_definite) == (FailureKind.NO_CAPACITY, False)


def test_a_job_larger_than_every_environment_never_starts():
    found = diagnose("", Needs(64), QUEUE, [environment("a"), environment("b", 32)])
    assert (found.kind, found.is_definite) == (FailureKind.CONFIGURATION, True)
    assert "64 vCPUs" in found.because
    assert "is 32" in found.because
    assert diagnose("", Needs(32), QUEUE, [environment("b", 32)]).code == "not_growing"


def test_undetermined_words_are_said_beside_what_was_found():
    words = "UNDETERMINED - Batch job is blocked, root cause is undetermined."
    found = diagnose(words, Needs(1), QUEUE, [environment()], "number 3 in its queue")
    assert found.code == "not_growing"
    assert "UNDETERMINED - Batch job is blocked" in found.because
    assert found.because.endswith("number 3 in its queue")


def test_the_place_in_the_snapshot():
    arn = "arn:aws:batch:eu-west-1:123456789012:job/"
    snapshot = {"frontOfQueue": {"jobs": [{"jobArn": f"{arn}a"}, {"jobArn": f"{arn}b:7"}]}}
    assert place_in(snapshot, ["b"]) == "number 2 in its queue"
    assert place_in(snapshot, ["c"]) == "not among the first 2 in its queue"
    assert place_in({}, ["c"]) == ""
