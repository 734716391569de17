"""Faults of jobs, as DescribeJobs shows them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from batch_client import Batch

EXITED = "Essential container in task exited"
HOST_GONE = r"Host EC2 \(instance i-[0-9a-f]{17}\) terminated\."
OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"


@pytest.fixture
def spot(batch: Batch) -> Batch:
    batch.queue("spot", 4, kind="SPOT")
    return batch


def ended(batch: Batch, queue: str = "q", **more: Any) -> dict[str, Any]:
    return batch.until(batch.submit(jobQueue=queue, **more))


@pytest.mark.parametrize(
    ("fault", "reason", "code", "container_reason"),
    [
        ("spot-reclaim", HOST_GONE, None, None),
        ("spot-reclaim:143", HOST_GONE, 143, None),
        ("out-of-memory", EXITED, 137, OUT_OF_MEMORY),
        ("out-of-memory:0", EXITED, 0, OUT_OF_MEMORY),
        ("out-of-memory:2", EXITED, 2, OUT_OF_MEMORY),
        (
            "image-pull",
            "Task failed to start",
            None,
            "CannotPullContainerError: .*debian.*:.*Timeout.*",
        ),
        ("image-pull:denied", "Task failed to start", None, "CannotPullContainerError: .*debian.*"),
        ("timeout", "Job attempt duration exceeded timeout", 137, None),
        ("missing-exit-code", EXITED, None, None),
    ],
)
@pytest.mark.parametrize("command", [("true",), ("sleep", "600")])
def test_an_attempt_ends_in_the_services_words(
    spot: Batch,
    command: tuple[str, ...],
    fault: str,
    reason: str,
    code: int | None,
    container_reason: str | None,
) -> None:
    spot.faults(f"{fault}=1")
    job = spot.until(spot.submit(*command, jobQueue="spot"))
    assert job["status"] == "FAILED"
    assert re.fullmatch(reason, job["statusReason"])
    assert job["container"]["exitCode"] == code
    assert re.fullmatch(container_reason or "", job["container"]["reason"] or "")
    assert (job["startedAt"] is None) == fault.startswith("image-pull")
    assert spot.injected() == {fault.partition(":")[0]: 1}
    spot.faults(f"{fault}=0")
    assert spot.until(spot.submit("true", jobQueue="spot"))["status"] == "SUCCEEDED"
    assert spot.injected() == {fault.partition(":")[0]: 0}


def test_fargate_spot_says_it_otherwise(batch: Batch) -> None:
    batch.queue("fargate", 4, kind="FARGATE_SPOT")
    batch.define_fargate("f")
    batch.faults("spot-reclaim=1")
    job = ended(batch, "fargate", jobDefinition="f")
    assert job["statusReason"] == "Your Spot Task was interrupted."


def test_on_demand_survives_unless_its_queue_is_named(batch: Batch) -> None:
    batch.faults("spot-reclaim=1")
    assert ended(batch)["status"] == "SUCCEEDED"
    assert batch.injected() == {"spot-reclaim": 0}
    batch.faults("spot-reclaim=1", queue="q")
    assert re.fullmatch(HOST_GONE, ended(batch)["statusReason"])


def test_each_attempt_is_drawn_and_retried_as_the_job_says(spot: Batch) -> None:
    spot.faults("spot-reclaim=1", times=2)
    retry = {
        "attempts": 5,
        "evaluateOnExit": [
            {"onStatusReason": "Host EC2*", "action": "RETRY"},
            {"onReason": "*", "action": "EXIT"},
        ],
    }
    job = ended(spot, "spot", retryStrategy=retry)
    assert job["status"] == "SUCCEEDED"
    assert [a["container"].get("exitCode") for a in job["attempts"]] == [None, None, 0]


def test_the_seed_chooses_the_children(spot: Batch) -> None:
    reclaimed = []
    for seed in (7, 7, 8):
        spot.clear_faults()
        spot.faults("spot-reclaim=0.3", seed=seed)
        job = spot.until(spot.submit("true", size=40, jobQueue="spot"))
        failed = spot("ListJobs", arrayJobId=job["jobId"], jobStatus="FAILED")["jobSummaryList"]
        reclaimed.append({child["arrayProperties"]["index"] for child in failed})
        assert spot.injected() == {"spot-reclaim": len(failed)}
    assert reclaimed[0] == reclaimed[1] != reclaimed[2]
    assert 4 <= len(reclaimed[0]) <= 22


@pytest.mark.parametrize(
    ("selector", "hit", "spared"),
    [
        ({"rule": "align"}, {"tags": {"takeda:rule": "align"}}, {"tags": {"takeda:rule": "sort"}}),
        ({"job": "takeda-align-*"}, {"jobName": "takeda-align-1"}, {"jobName": "takeda-sort-1"}),
        ({"queue": "q"}, {}, {"jobQueue": "other"}),
    ],
)
def test_selectors(
    batch: Batch, selector: dict[str, str], hit: dict[str, Any], spared: dict[str, Any]
) -> None:
    batch.queue("other", 1)
    batch.faults("timeout=1", **selector)
    jobs = [batch.submit(**which) for which in (hit, spared)]
    assert [batch.until(job)["status"] for job in jobs] == ["FAILED", "SUCCEEDED"]


def test_a_reclaimed_process_is_gone_at_once(spot: Batch) -> None:
    spot.faults("spot-reclaim=1")
    # what ignores SIGTERM has no say when the machine goes away
    job = spot.until(spot.submit("sh", "-c", "trap '' TERM; sleep 600 & wait", jobQueue="spot"))
    assert job["stoppedAt"] - job["startedAt"] < 60_000
    assert re.fullmatch(HOST_GONE, job["statusReason"])


def test_a_terminated_job_had_no_fault(batch: Batch) -> None:
    batch.faults("out-of-memory=1", "latency=1")
    job = batch.submit("sleep", "600", jobQueue="q")
    batch("TerminateJob", jobId=job, reason="enough")
    assert batch.until(job)["statusReason"] in ("enough", EXITED)
    struck = batch.job(job)["statusReason"] == EXITED
    assert batch.injected()["out-of-memory"] == int(struck)


@pytest.mark.parametrize(
    "code", ["CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY", "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT"]
)
def test_a_blocked_queue(batch: Batch, code: str) -> None:
    batch.faults(f"blocked-queue:{code}=1", queue="q")
    batch.queue("other", 1)
    first, second = batch.submit(), batch.submit()
    job = batch.wait(lambda: batch.job(first), lambda job: job["statusReason"] is not None)
    assert job["status"] == "RUNNABLE"
    assert job["statusReason"].startswith(f"{code} - ")
    assert batch.job(second)["statusReason"] is None
    assert batch.until(batch.submit(jobQueue="other"))["status"] == "SUCCEEDED"
    assert batch.injected() == {"blocked-queue": 1}
    batch.clear_faults()
    assert [batch.until(job)["status"] for job in (first, second)] == ["SUCCEEDED"] * 2


def time_limit(reason: str) -> dict[str, Any]:
    return {
        "reason": reason,
        "state": "RUNNABLE",
        "maxTimeSeconds": 600,
        "action": "CANCEL",
    }


def test_a_queues_time_limit_cancels_the_head(make_batch: Callable[..., Batch]) -> None:
    batch = make_batch(seconds_scale=0.001)
    code = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"
    batch.queue("limited", 4, jobStateTimeLimitActions=[time_limit(code)])
    batch.faults("blocked-queue=1", job="stuck")
    stuck = batch.submit(jobQueue="limited", jobName="stuck")
    behind = batch.submit(jobQueue="limited")
    job = batch.until(stuck)
    assert job["status"] == "FAILED"
    assert job["statusReason"] == f"Canceled by JobStateTimeLimit action due to reason: {code}"
    assert job["isCancelled"]
    assert job["stoppedAt"] - job["createdAt"] >= 600
    assert job["attempts"] == []
    assert batch.until(behind)["status"] == "SUCCEEDED"


def test_a_time_limit_for_another_reason_or_a_full_queue_cancels_nothing(
    make_batch: Callable[..., Batch],
) -> None:
    batch = make_batch(seconds_scale=0.0001)
    batch.queue(
        "limited",
        1,
        jobStateTimeLimitActions=[time_limit("MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT")],
    )
    runs = batch.submit("sleep", "0.5", jobQueue="limited")
    batch.until(runs, "RUNNING")
    waits = batch.submit(jobQueue="limited")
    assert [batch.until(job)["status"] for job in (runs, waits)] == ["SUCCEEDED"] * 2
    batch.faults("blocked-queue=1")
    stuck = batch.submit(jobQueue="limited")
    batch.wait(lambda: batch.job(stuck), lambda job: job["statusReason"] is not None)
    # more than the limit of the other reason goes by, and a job of another queue comes and goes
    batch.clear_faults()
    batch.faults("blocked-queue=1", job="never")
    assert batch.until(stuck)["status"] == "SUCCEEDED"


def test_a_job_that_can_never_run_is_cancelled_by_its_reason(
    make_batch: Callable[..., Batch],
) -> None:
    batch = make_batch(seconds_scale=0.001)
    code = "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE"
    batch.queue("limited", 1, jobStateTimeLimitActions=[time_limit(code)])
    needs = [{"type": "VCPU", "value": "2"}]
    job = batch.submit(jobQueue="limited", containerOverrides={"resourceRequirements": needs})
    assert batch.until(job)["statusReason"].endswith(f"due to reason: {code}")


def test_jobs_and_changes_are_seen_late(batch: Batch) -> None:
    batch.faults("describe-lag=3600", job="late")
    on_time, late = batch.submit("true"), batch.submit("true", jobName="late")
    assert batch.until(on_time)["status"] == "SUCCEEDED"
    assert batch("DescribeJobs", jobs=[late])["jobs"] == []
    names = [
        job["jobName"]
        for status in ("SUBMITTED", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED")
        for job in batch("ListJobs", jobQueue="q", jobStatus=status)["jobSummaryList"]
    ]
    assert names == ["j"]
    assert batch.injected() == {"describe-lag": 1}
    batch.clear_faults()
    assert batch.until(late)["status"] == "SUCCEEDED"


def test_a_job_of_before_keeps_its_old_look(batch: Batch) -> None:
    job = batch.submit("sleep", "600", size=2)

    def summary() -> dict[str, int]:
        return dict(batch.job(job)["arrayProperties"]["statusSummary"])

    batch.wait(summary, lambda found: found["RUNNING"] == 2)
    batch.faults("describe-lag=0.5")
    batch.wait(summary, lambda found: found["RUNNING"] == 2)
    batch("TerminateJob", jobId=job, reason="enough")
    first = batch.job(f"{job}:0")
    assert (first["status"], first["stoppedAt"]) == ("RUNNING", None)
    assert batch.until(job)["statusReason"] == "enough"
    assert summary()["FAILED"] == 2
