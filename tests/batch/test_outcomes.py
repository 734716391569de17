"""Batch's words → kind of failure, in the order that keeps exit codes from misleading."""

import re
from dataclasses import replace

import pytest

from snakemake_executor_takeda.backends.batch.console import Console
from snakemake_executor_takeda.backends.batch.outcomes import given_up, outcome_of, with_log
from snakemake_executor_takeda.reporting.failures import failure_text
from snakemake_executor_takeda.values import FailureKind, Outcome
from snakemake_executor_takeda.worker.exits import DISK_FULL

EXITED = "Essential container in task exited"
OOM = "OutOfMemoryError: Container killed due to memory usage"
HOST = "Host EC2 (instance i-0abc123) terminated."
TIMEOUT = "Job attempt duration exceeded timeout"
PULL = "CannotPullContainerError: manifest unknown"
STUCK = "Canceled by JobStateTimeLimit action due to reason: "
RAN = {"startedAt": 1000, "stoppedAt": 3500}


def failed(reason=None, container_reason=None, exit_code=None, **more):
    container = {"reason": container_reason, "exitCode": exit_code}
    return {
        "status": "FAILED",
        "statusReason": reason,
        "container": {key: value for key, value in container.items() if value is not None},
        **more,
    }


def outcome(detail, capacity="spot"):
    return outcome_of(detail, capacity=capacity, log_group="/aws/batch/job")


@pytest.mark.parametrize(
    ("detail", "kind"),
    [
        (failed(EXITED, exit_code=1, **RAN), FailureKind.USER),
        (failed(EXITED, exit_code=137, **RAN), FailureKind.USER),
        (failed(EXITED, exit_code=143, **RAN), FailureKind.USER),
        (failed(HOST, **RAN), FailureKind.INTERRUPTED),
        (failed(HOST, exit_code=143, **RAN), FailureKind.INTERRUPTED),
        (failed("Your Spot Task was interrupted.", **RAN), FailureKind.INTERRUPTED),
        (failed("Your Spot Task was interrupted.", exit_code=137, **RAN), FailureKind.INTERRUPTED),
        (failed(EXITED, OOM, 137, **RAN), FailureKind.OUT_OF_MEMORY),
        (failed(EXITED, OOM, 0, **RAN), FailureKind.OUT_OF_MEMORY),
        (failed(EXITED, OOM, 1, **RAN), FailureKind.OUT_OF_MEMORY),
        (failed(EXITED, OOM, 2, **RAN), FailureKind.OUT_OF_MEMORY),
        (failed("Task failed to start", PULL), FailureKind.IMAGE),
        (failed(TIMEOUT, exit_code=137, **RAN), FailureKind.TIMEOUT),
        (failed(TIMEOUT, **RAN), FailureKind.TIMEOUT),
        (failed(TIMEOUT, OOM, 137, **RAN), FailureKind.TIMEOUT),
        (failed(HOST, OOM, 137, **RAN), FailureKind.INTERRUPTED),
        (
            failed("Task failed to start", "CannotInspectContainerError: x"),
            FailureKind.NODE_FAILURE,
        ),
        (failed("Task failed to start", "DockerTimeoutError: x"), FailureKind.NODE_FAILURE),
        (failed("Task failed to start"), FailureKind.NODE_FAILURE),
        (failed("ResourceInitializationError: no secret"), FailureKind.CONFIGURATION),
        (failed("Task failed to start", "CannotStartContainerError: x"), FailureKind.CONFIGURATION),
        (failed(STUCK + "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"), FailureKind.NO_CAPACITY),
        (
            failed(STUCK + "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT", isCancelled=True),
            FailureKind.CONFIGURATION,
        ),
        (
            failed(STUCK + "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE"),
            FailureKind.CONFIGURATION,
        ),
        (failed("Capacity is unavailable at this time"), FailureKind.NO_CAPACITY),
        (failed("by hand", isTerminated=True, **RAN), FailureKind.USER),
        (failed(EXITED, **RAN), FailureKind.NODE_FAILURE),
        (failed(EXITED, exit_code=0, **RAN), FailureKind.NODE_FAILURE),
        (failed(**RAN), FailureKind.NODE_FAILURE),
        (failed(), FailureKind.NODE_FAILURE),
        (failed("Host EC2 Terminated", **RAN), FailureKind.INTERRUPTED),
        (failed("The job definition is gone"), FailureKind.CONFIGURATION),
    ],
)
def test_kind(detail, kind):
    assert outcome(detail).kind == kind


def test_no_room_for_a_tasks_directory_is_told_and_may_be_repeated():
    found = outcome(failed(EXITED, exit_code=DISK_FULL, **RAN))
    assert found.kind == FailureKind.LOST
    assert not found.permanent
    assert found.reason == f"no space left for the task's directory: {EXITED}"
    assert "more disk" in found.advice


def test_a_host_that_goes_away_on_demand_was_no_spot_reclaim():
    assert outcome(failed(HOST, **RAN), capacity="on-demand").kind == FailureKind.NODE_FAILURE


def test_the_last_attempt_speaks_where_the_job_is_silent():
    old = {"statusReason": HOST, "container": {}}
    last = {
        "statusReason": EXITED,
        "container": {"reason": OOM, "exitCode": 137, "logStreamName": "s"},
    }
    detail = {"status": "FAILED", "attempts": [old, last], "container": {}}
    found = outcome(detail)
    assert found.kind == FailureKind.OUT_OF_MEMORY
    assert found.exit_code == 137
    assert found.log_location == "/aws/batch/job:s"
    assert found.reason == f"{EXITED}; {OOM}"


def test_a_failure_explains_itself():
    detail = failed(EXITED, OOM, 137, **RAN, jobId="j:3")
    detail["container"] |= {
        "logStreamName": "takeda/default/abc",
        "resourceRequirements": [{"type": "MEMORY", "value": "2048"}],
    }
    found = outcome(detail)
    assert found.reason == f"{EXITED}; {OOM}"
    assert "2048 MiB" in found.advice
    assert found.log_location == "/aws/batch/job:takeda/default/abc"
    assert found.wall_seconds == 2.5
    assert found.detail == {"job_id": "j:3", "log_stream": "takeda/default/abc"}


def test_success_carries_its_time():
    found = outcome({"status": "SUCCEEDED", "container": {"exitCode": 0}, **RAN})
    assert found.succeeded
    assert (found.wall_seconds, found.exit_code, found.reason) == (2.5, 0, "")


def test_every_failure_has_words():
    found = outcome({"status": "FAILED"})
    assert found.reason
    assert found.advice


@pytest.mark.parametrize("code", [0, None])
def test_a_good_exit_after_an_out_of_memory_kill_is_no_success(code):
    container = {"reason": OOM, **({} if code is None else {"exitCode": code})}
    found = outcome({"status": "SUCCEEDED", "container": container, **RAN})
    assert found.kind == FailureKind.OUT_OF_MEMORY
    assert "exited well" in found.reason
    assert OOM in found.reason


@pytest.mark.parametrize(
    ("words", "permanent"),
    [
        ("manifest for x:1 not found: manifest unknown: Requested image not found", True),
        ("pull access denied for x, repository does not exist or may require 'docker login'", True),
        ("no basic auth credentials", True),
        ("failed to resolve reference docker.io/x:1: docker.io/x:1: not found", True),
        ("no matching manifest for linux/arm64/v8 in the manifest list entries", True),
        ("image Manifest does not contain descriptor matching platform 'linux/arm64'", True),
        ("invalid reference format", True),
        ("AccessDeniedException: User x is not authorized to perform: ecr:BatchGetImage", True),
        ("context canceled", False),
        ("net/http: TLS handshake timeout", False),
        ("toomanyrequests: You have reached your unauthenticated pull rate limit", False),
        ("503 Service Unavailable", False),
        ("dial tcp 1.2.3.4:443: i/o timeout", False),
        ("write /var/lib/docker/tmp/x: no space left on device", False),
    ],
)
def test_images_that_no_further_pull_would_find(words, permanent):
    found = outcome(failed("Task failed to start", f"CannotPullContainerError: {words}"))
    assert (found.kind, found.permanent) == (FailureKind.IMAGE, permanent)


def test_other_failures_are_never_permanent():
    assert not outcome(failed(EXITED, "not found: manifest unknown", 1, **RAN)).permanent


@pytest.mark.parametrize("kind", [FailureKind.NO_CAPACITY, FailureKind.CONFIGURATION])
def test_a_job_that_was_given_up_ends_with_the_kind_it_was_given_up_for(kind):
    why = "RUNNABLE for 30 min: Host EC2 (instance i) terminated; OutOfMemoryError" + "x" * 2000
    reason = given_up(kind, why, "Raise maxvCpus")
    assert len(reason) <= 1024
    found = outcome(failed(reason, isCancelled=True))
    assert found.kind == kind
    assert found.advice == "raise maxvCpus"
    assert "maxvCpus" not in found.reason, "said once"


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        (f"{STUCK}MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT", "ask for less in the rule"),
        (
            "ResourceInitializationError: unable to pull secrets or registry auth: execution resource "
            "retrieval failed: unable to retrieve secret from asm: ResourceNotFoundException",
            "`secrets`.*`execution_role_arn`",
        ),
        (
            "ResourceInitializationError: unable to pull secrets or registry auth: execution resource "
            "retrieval failed: unable to retrieve ecr registry auth",
            "`execution_role_arn` may log in to the image's registry",
        ),
        ("ResourceInitializationError: failed to configure ENI", "queue, roles and network"),
    ],
)
def test_what_to_do_is_what_the_reason_is_about(reason, advice):
    found = outcome(failed(reason))
    assert found.kind == FailureKind.CONFIGURATION
    assert re.search(advice, found.advice)


def test_a_failure_names_its_pages_in_the_console():
    detail = failed(EXITED, exit_code=1, **RAN, jobId="j:3")
    detail["container"]["logStreamName"] = "a/b"
    found = outcome_of(detail, capacity="spot", log_group="/g", console=Console("eu-west-1"))
    assert found.detail["job_url"].endswith("#jobs/detail/j:3")
    assert found.detail["log_url"].endswith("log-group/$252Fg/log-events/a$252Fb")
    text = failure_text(None, "j:3", found)
    assert f"log in the console: {found.detail['log_url']}" in text
    assert f"job in the console: {found.detail['job_url']}" in text
    well = outcome_of(
        {**detail, "status": "SUCCEEDED"}, capacity=None, log_group="/g", console=Console("x")
    )
    assert "job_url" not in well.detail, "a success needs no page in the event log"


@pytest.mark.parametrize(
    "line",
    [
        "/usr/bin/python: No module named snakemake_executor_takeda",
        "python: Error while finding module specification for 'snakemake_executor_takeda.worker' "
        "(ModuleNotFoundError: No module named 'snakemake_executor_takeda')",
    ],
)
def test_an_image_without_this_package_is_no_failure_of_the_command(line):
    outcome = with_log(Outcome(FailureKind.USER, exit_code=1), ("first", line))
    assert outcome.kind == FailureKind.CONFIGURATION
    assert "pip install snakemake-executor-plugin-takeda" in outcome.advice
    assert outcome.log_tail == ("first", line)


def test_any_other_log_changes_nothing_but_itself():
    failed = Outcome(FailureKind.USER, exit_code=1, advice="as before")
    assert with_log(failed, ("No module named numpy",)) == replace(
        failed, log_tail=("No module named numpy",)
    )
