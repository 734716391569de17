"""What the emulator remembers, and what becomes of jobs that ran when it ended."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from batch_client import Batch

from snakemake_executor_takeda.sandbox import processes


def test_everything_is_there_after_a_restart(make_batch: Callable[..., Batch]) -> None:
    before = make_batch()
    before.define("x")
    before("DeregisterJobDefinition", jobDefinition="x:1")
    before.queue("other", 2)
    job = before.submit("sh", "-c", "exit $AWS_BATCH_JOB_ARRAY_INDEX", size=3, tags={"a": "b"})
    before.until(job)
    ids = [job, *(f"{job}:{index}" for index in range(3))]
    described = before("DescribeJobs", jobs=ids)
    definitions = before("DescribeJobDefinitions")
    queues = before("DescribeJobQueues")
    environments = before("DescribeComputeEnvironments")
    before.stop()

    after = make_batch()
    assert after("DescribeJobs", jobs=ids) == described
    assert after("DescribeJobDefinitions") == definitions
    assert after("DescribeJobQueues") == queues
    assert after("DescribeComputeEnvironments") == environments
    assert after.define("x").endswith("x:2")


def test_jobs_that_waited_go_on(make_batch: Callable[..., Batch]) -> None:
    before = make_batch(vcpus=1)
    blocker = before.submit("sleep", "60")
    before.until(blocker, "RUNNING")
    array = before.submit("true", size=20)
    after_array = before.submit("true", dependsOn=[{"jobId": array}])
    before.until(after_array, "PENDING")
    before.stop()

    after = make_batch()
    assert after.until(after_array)["status"] == "SUCCEEDED"
    ended = after.job(blocker)
    assert ended["status"] == "FAILED"
    assert ended["statusReason"].startswith("Host EC2 (instance i-")
    assert ended["container"]["exitCode"] is None


def test_jobs_that_ran_are_retried_where_they_may_be(make_batch: Callable[..., Batch]) -> None:
    before = make_batch()
    job = before.submit(
        "sh",
        "-c",
        'test "$AWS_BATCH_JOB_ATTEMPT" = 2 || exec sleep 60',
        retryStrategy={
            "attempts": 2,
            "evaluateOnExit": [
                {"onStatusReason": "Host EC2*", "action": "RETRY"},
                {"onReason": "*", "action": "EXIT"},
            ],
        },
    )
    before.until(job, "RUNNING")
    before.stop()
    assert processes.marked(**{processes.MARK: before.mark}) == []

    done = make_batch().until(job)
    assert done["status"] == "SUCCEEDED"
    assert [attempt["statusReason"][:8] for attempt in done["attempts"]] == ["Host EC2", "Essentia"]


def test_the_execution_log_tells_what_really_ran(batch: Batch) -> None:
    job = batch.until(batch.submit("sh", "-c", "exit 4", size=2, retryStrategy={"attempts": 2}))
    batch.stop()
    with sqlite3.connect(batch.state_dir / "state.sqlite") as connection:
        rows = connection.execute(
            "select job_id, attempt, exit_code, pid, started_at <= ended_at from batch_executions"
        ).fetchall()
    connection.close()
    ran = sorted((job_id, attempt, code) for job_id, attempt, code, _, _ in rows)
    assert ran == [
        (f"{job['jobId']}:{index}", attempt, 4) for index in (0, 1) for attempt in (1, 2)
    ]
    assert len({pid for *_, pid, _ in rows}) == 4
    assert all(ordered for *_, ordered in rows)
    assert os.getpid() not in {pid for *_, pid, _ in rows}


def test_scratch_directories_are_gone(batch: Batch) -> None:
    job = batch.submit("sh", "-c", "mkdir -p deep/er; touch deep/er/file", size=5)
    batch.until(job)
    batch.stop()
    assert list(Path(batch.state_dir, "scratch").iterdir()) == []
