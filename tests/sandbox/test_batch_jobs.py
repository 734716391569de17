"""Jobs that really run: states, arrays, retries, timeouts, dependencies, ends."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from batch_client import Batch

from snakemake_executor_takeda.sandbox import processes

APPLICATION_EXIT = "Essential container in task exited"


def test_a_job_runs_and_is_described(batch: Batch) -> None:
    job = batch.until(batch.submit("sh", "-c", "echo to stdout; echo to stderr >&2"))
    assert (job["status"], job["statusReason"]) == ("SUCCEEDED", APPLICATION_EXIT)
    assert job["container"]["exitCode"] == 0
    assert job["createdAt"] <= job["startedAt"] <= job["stoppedAt"]
    assert job["container"]["logStreamName"].startswith("d/default/")
    assert job["attempts"][0]["container"]["logStreamName"] == job["container"]["logStreamName"]
    assert batch.output(job) == "to stdout\nto stderr\n"


def test_a_failing_job_tells_its_exit_code(batch: Batch) -> None:
    job = batch.until(batch.submit("sh", "-c", "exit 7"))
    assert (job["status"], job["statusReason"]) == ("FAILED", APPLICATION_EXIT)
    assert job["container"]["exitCode"] == 7
    assert job["container"]["reason"] is None


def test_a_killed_process_has_128_plus_signal(batch: Batch) -> None:
    job = batch.until(batch.submit("sh", "-c", "kill -9 $$"))
    assert job["container"]["exitCode"] == 137


def test_a_command_that_does_not_exist_does_not_start(batch: Batch) -> None:
    job = batch.until(batch.submit("no-such-program"))
    assert (job["status"], job["statusReason"]) == ("FAILED", "Task failed to start")
    assert job["container"]["reason"].startswith("CannotStartContainerError")
    assert "no-such-program" in job["container"]["reason"]
    assert job["container"]["exitCode"] is None


def test_the_environment_is_the_jobs_own(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_USER", "1")
    script = "import json, os; print(json.dumps(dict(os.environ))); print(os.getcwd())"
    job = batch.submit(
        "python",
        "-c",
        script,
        size=2,
        containerOverrides={
            "environment": [
                {"name": "MINE", "value": "a b\n$HOME"},
                {"name": "HOME", "value": "/h"},
            ]
        },
    )
    batch.until(job)
    text, directory = batch.output(batch.job(f"{job}:1")).splitlines()
    seen = json.loads(text)
    assert "SECRET_OF_THE_USER" not in seen
    assert seen["MINE"] == "a b\n$HOME"
    assert seen["HOME"] == "/h"
    assert seen["TMPDIR"] == directory
    assert seen["PATH"].split(":")[0] == str(Path(sys.executable).parent)
    assert {name: value for name, value in seen.items() if name.startswith("AWS_")} == {
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_BATCH_JOB_ID": f"{job}:1",
        "AWS_BATCH_JOB_ATTEMPT": "1",
        "AWS_BATCH_JOB_ARRAY_INDEX": "1",
        "AWS_BATCH_JOB_ARRAY_SIZE": "2",
        "AWS_BATCH_CE_NAME": "q-ce",
        "AWS_BATCH_JQ_NAME": "q",
    }
    batch.wait(lambda: {"there": Path(directory).exists()}, lambda found: not found["there"])


def test_a_plain_job_has_no_array_variables(batch: Batch) -> None:
    job = batch.until(batch.submit("sh", "-c", "echo ${AWS_BATCH_JOB_ARRAY_INDEX-none}"))
    assert batch.output(job) == "none\n"


def test_nothing_of_a_command_goes_through_a_shell(batch: Batch, tmp_path: Path) -> None:
    word = f"$(touch {tmp_path}/hacked); `id` && *"
    job = batch.until(batch.submit("echo", word))
    assert batch.output(job) == word + "\n"
    assert not (tmp_path / "hacked").exists()


def test_parameters_replace_references(batch: Batch) -> None:
    batch.define("r", ("echo", "Ref::a", "Ref::b", "Ref::c"), parameters={"a": "1", "b": "2"})
    job = batch.until(batch.submit(jobDefinition="r", parameters={"b": "two words"}))
    assert batch.output(job) == "1 two words Ref::c\n"


def test_an_array_fails_with_one_child_and_the_others_go_on(batch: Batch) -> None:
    script = 'test "$AWS_BATCH_JOB_ARRAY_INDEX" != 3'
    job = batch.until(batch.submit("sh", "-c", script, size=8))
    assert (job["status"], job["statusReason"]) == ("FAILED", "Array Child Job failed")
    summary = job["arrayProperties"]["statusSummary"]
    assert (summary["SUCCEEDED"], summary["FAILED"], sum(summary.values())) == (7, 1, 8)
    failed = batch("ListJobs", arrayJobId=job["jobId"], jobStatus="FAILED")["jobSummaryList"]
    assert [child["arrayProperties"]["index"] for child in failed] == [3]
    assert failed[0]["container"]["exitCode"] == 1


def test_a_parent_is_pending_while_children_run(batch: Batch) -> None:
    job = batch.submit("sleep", "60", size=3)
    batch.wait(
        lambda: batch.job(job)["arrayProperties"]["statusSummary"],
        lambda found: found["RUNNING"] == 3,
    )
    assert batch.job(job)["status"] == "PENDING"
    pending = batch("ListJobs", jobQueue="q", jobStatus="PENDING")["jobSummaryList"]
    assert [found["jobId"] for found in pending] == [job]


def test_10000_children_are_taken_at_once_and_ended_at_once(batch: Batch) -> None:
    job = batch.submit("sleep", "60", size=10_000)
    assert batch.job(job)["arrayProperties"]["size"] == 10_000
    batch("TerminateJob", jobId=job, reason="enough")
    ended = batch.until(job)
    assert ended["arrayProperties"]["statusSummary"]["FAILED"] == 10_000
    assert (ended["status"], ended["statusReason"], ended["isTerminated"]) == (
        "FAILED",
        "enough",
        True,
    )


def test_no_more_run_than_the_environment_has_room_for(
    make_batch: Callable[..., Batch], tmp_path: Path
) -> None:
    batch = make_batch(vcpus=3)
    seen = tmp_path / "seen"
    seen.mkdir()
    # each child counts those that run with it: a fourth would see four
    script = (
        f"import os, pathlib, time; me = pathlib.Path({str(seen)!r}) / os.environ['AWS_BATCH_JOB_ID'];"
        "me.touch(); time.sleep(0.05); print(len(list(me.parent.iterdir()))); me.unlink()"
    )
    job = batch.submit(sys.executable, "-c", script, size=12)
    assert batch.until(job)["status"] == "SUCCEEDED"
    counts = [int(batch.output(batch.job(f"{job}:{index}"))) for index in range(12)]
    assert max(counts) <= 3


def test_memory_gates_as_well(batch: Batch) -> None:
    more = {"containerOverrides": {"resourceRequirements": [{"type": "MEMORY", "value": "5000"}]}}
    first = batch.submit("sleep", "60", **more)
    second = batch.submit("sleep", "60", **more)
    batch.until(first, "RUNNING")
    assert batch.job(second)["status"] in ("SUBMITTED", "RUNNABLE")
    batch("TerminateJob", jobId=first, reason="enough")
    batch.until(second, "RUNNING")


def test_a_job_too_large_says_why_and_holds_up_its_queue(batch: Batch) -> None:
    more = {"containerOverrides": {"resourceRequirements": [{"type": "VCPU", "value": "5"}]}}
    large = batch.submit("true", **more)
    small = batch.submit("true")
    reason = batch.wait(lambda: batch.job(large), lambda job: job["statusReason"] is not None)[
        "statusReason"
    ]
    assert reason.startswith("MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - ")
    assert batch.job(small)["status"] in ("SUBMITTED", "RUNNABLE")
    batch("CancelJob", jobId=large, reason="too large")
    assert batch.until(small)["status"] == "SUCCEEDED"
    cancelled = batch.job(large)
    assert (cancelled["status"], cancelled["statusReason"]) == ("FAILED", "too large")
    assert cancelled["isCancelled"]


def test_a_larger_environment_lets_it_start(batch: Batch) -> None:
    more = {"containerOverrides": {"resourceRequirements": [{"type": "VCPU", "value": "5"}]}}
    job = batch.submit("true", **more)
    batch("UpdateComputeEnvironment", computeEnvironment="q-ce", computeResources={"maxvCpus": 8})
    done = batch.until(job)
    assert (done["status"], done["statusReason"]) == ("SUCCEEDED", APPLICATION_EXIT)


def test_cancel_leaves_running_jobs_alone(batch: Batch) -> None:
    job = batch.submit("sleep", "60", size=6)
    batch.wait(
        lambda: batch.job(job)["arrayProperties"]["statusSummary"],
        lambda found: found["RUNNING"] == 4,
    )
    batch("CancelJob", jobId=job, reason="no more")
    summary = batch.job(job)["arrayProperties"]["statusSummary"]
    assert (summary["RUNNING"], summary["FAILED"]) == (4, 2)
    child = batch.job(f"{job}:5")
    assert (child["statusReason"], child["isCancelled"], child["attempts"]) == ("no more", True, [])


def test_terminate_ends_the_whole_group(batch: Batch, tmp_path: Path) -> None:
    flag = tmp_path / "started"
    script = f"sleep 61 & sleep 62 & touch {flag}; wait"
    job = batch.submit("sh", "-c", script, retryStrategy={"attempts": 3})
    batch.wait(
        lambda: {
            "flag": flag.exists(),
            "count": len(processes.marked(**{processes.MARK: batch.mark})),
        },
        lambda found: found["flag"] and found["count"] == 3,
    )
    batch("TerminateJob", jobId=job, reason="enough of it")
    ended = batch.until(job)
    assert (ended["status"], ended["statusReason"]) == ("FAILED", "enough of it")
    assert (ended["isTerminated"], len(ended["attempts"])) == (True, 1)
    assert ended["container"]["exitCode"] == 143
    assert processes.marked(**{processes.MARK: batch.mark}) == []


def test_terminate_ends_what_left_the_group(batch: Batch, tmp_path: Path) -> None:
    flag = tmp_path / "started"
    script = f"setsid sleep 61 & touch {flag}; wait"
    job = batch.submit("sh", "-c", script)
    batch.wait(
        lambda: {
            "count": len(processes.marked(**{processes.MARK: batch.mark})),
            "flag": flag.exists(),
        },
        lambda found: found["count"] >= 2 and found["flag"],
    )
    batch("TerminateJob", jobId=job, reason="enough")
    batch.until(job)
    batch.wait(
        lambda: {"left": processes.marked(**{processes.MARK: batch.mark})},
        lambda found: not found["left"],
    )


def test_a_process_that_ignores_sigterm_is_killed(batch: Batch, tmp_path: Path) -> None:
    flag = tmp_path / "started"
    job = batch.submit("sh", "-c", f"trap '' TERM; touch {flag}; sleep 60 & wait; sleep 60")
    batch.wait(lambda: {"there": flag.exists()}, lambda found: found["there"])
    batch("TerminateJob", jobId=job, reason="enough")
    assert batch.until(job)["container"]["exitCode"] == 137


def test_background_processes_die_with_their_job(batch: Batch) -> None:
    job = batch.until(batch.submit("sh", "-c", "sleep 61 >/dev/null 2>&1 &"))
    assert job["status"] == "SUCCEEDED"
    assert processes.marked(**{processes.MARK: batch.mark}) == []


def test_a_timeout_ends_the_attempt_for_good(make_batch: Callable[..., Batch]) -> None:
    batch = make_batch(seconds_scale=0.005)
    job = batch.until(
        batch.submit(
            "sleep",
            "60",
            timeout={"attemptDurationSeconds": 60},
            retryStrategy={"attempts": 3},
        )
    )
    assert (job["status"], job["statusReason"]) == (
        "FAILED",
        "Job attempt duration exceeded timeout",
    )
    assert job["container"]["exitCode"] == 137
    assert len(job["attempts"]) == 1


def test_retries_count_per_child(batch: Batch, tmp_path: Path) -> None:
    script = (
        'echo $AWS_BATCH_JOB_ATTEMPT; test "$AWS_BATCH_JOB_ATTEMPT" = "$AWS_BATCH_JOB_ARRAY_INDEX"'
    )
    job = batch.until(batch.submit("sh", "-c", script, size=4, retryStrategy={"attempts": 3}))
    children = [batch.job(f"{job['jobId']}:{index}") for index in range(4)]
    assert [child["status"] for child in children] == [
        "FAILED",
        "SUCCEEDED",
        "SUCCEEDED",
        "SUCCEEDED",
    ]
    assert [len(child["attempts"]) for child in children] == [3, 1, 2, 3]
    streams = [attempt["container"]["logStreamName"] for attempt in children[3]["attempts"]]
    assert len(set(streams)) == 3
    assert children[3]["container"]["logStreamName"] == streams[2]


def test_evaluate_on_exit_decides(batch: Batch) -> None:
    rules = [
        {"onExitCode": "4*", "action": "RETRY"},
        {"onReason": "*", "action": "EXIT"},
    ]
    strategy = {"attempts": 4, "evaluateOnExit": rules}
    ended = batch.until(batch.submit("sh", "-c", "exit 3", retryStrategy=strategy))
    assert len(ended["attempts"]) == 1
    tried = batch.until(batch.submit("sh", "-c", "exit 42", retryStrategy=strategy))
    assert len(tried["attempts"]) == 4


def test_the_definitions_retry_and_timeout_hold_where_submit_gives_none(batch: Batch) -> None:
    batch.define("twice", ("false",), retryStrategy={"attempts": 2})
    assert len(batch.until(batch.submit(jobDefinition="twice"))["attempts"]) == 2
    once = batch.submit(jobDefinition="twice", retryStrategy={"attempts": 1})
    assert len(batch.until(once)["attempts"]) == 1


def test_a_job_waits_for_what_it_depends_on(batch: Batch, tmp_path: Path) -> None:
    flag = tmp_path / "go"
    first = batch.submit("sh", "-c", f"while test ! -e {flag}; do sleep 0.01; done", size=2)
    second = batch.submit("true", dependsOn=[{"jobId": first}])
    third = batch.submit("true", size=3, dependsOn=[{"jobId": second}])
    batch.until(second, "PENDING")
    batch.until(third, "PENDING")
    flag.touch()
    assert batch.until(third)["status"] == "SUCCEEDED"
    assert batch.job(second)["startedAt"] >= batch.job(first)["stoppedAt"]


def test_a_failed_dependency_fails_what_waits(batch: Batch) -> None:
    first = batch.submit("sh", "-c", "sleep 0.1; false")
    second = batch.submit("true", size=2, dependsOn=[{"jobId": first}])
    third = batch.submit("true", dependsOn=[{"jobId": second}])
    assert batch.until(third)["statusReason"] == "Dependent Job failed"
    assert batch.job(f"{second}:1")["statusReason"] == "Dependent Job failed"
    late = batch.submit("true", dependsOn=[{"jobId": first}])
    assert batch.until(late)["statusReason"] == "Dependent Job failed"


def test_sequential_and_n_to_n_dependencies(batch: Batch) -> None:
    script = "echo $AWS_BATCH_JOB_ARRAY_INDEX"
    first = batch.submit("sh", "-c", script, size=4, dependsOn=[{"type": "SEQUENTIAL"}])
    second = batch.submit(
        "sh", "-c", script, size=4, dependsOn=[{"jobId": first, "type": "N_TO_N"}]
    )
    assert batch.until(second)["status"] == "SUCCEEDED"
    one = [batch.job(f"{first}:{index}") for index in range(4)]
    two = [batch.job(f"{second}:{index}") for index in range(4)]
    for before, after in itertools.pairwise(one):
        assert after["startedAt"] >= before["stoppedAt"]
    for before, after in zip(one, two, strict=True):
        assert after["startedAt"] >= before["stoppedAt"]


def test_queues_of_higher_priority_go_first(make_batch: Callable[..., Batch]) -> None:
    batch = make_batch(vcpus=1)
    order = [{"order": 1, "computeEnvironment": "q-ce"}]
    batch("CreateJobQueue", jobQueueName="urgent", priority=9, computeEnvironmentOrder=order)
    blocker = batch.submit("sleep", "60")
    batch.until(blocker, "RUNNING")
    low, high = batch.submit("true"), batch.submit("true", jobQueue="urgent")
    batch.until(low, "RUNNABLE")
    batch.until(high, "RUNNABLE")
    batch("TerminateJob", jobId=blocker, reason="enough")
    assert batch.until(low)["startedAt"] >= batch.until(high)["startedAt"]


def test_an_ended_job_stays_as_it_is(batch: Batch) -> None:
    job = batch.submit("true")
    before = batch.until(job)
    batch("TerminateJob", jobId=job, reason="too late")
    batch("CancelJob", jobId=job, reason="too late")
    assert batch.job(job) == before
