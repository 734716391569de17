"""The backend against the sandbox's Batch, which really runs the worker."""

import sys
import time
import uuid

import pytest
from batch_fakes import context, target

from snakemake_executor_takeda.backends import aws
from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.batch import backend as factory
from snakemake_executor_takeda.values import (
    Active,
    FailureKind,
    JobSpec,
    Shape,
    Submission,
    TakedaError,
    Task,
)

pytestmark = pytest.mark.sandbox

DEADLINE_S = 60
OK = ("python", "-c", "print('fine')")


@pytest.fixture(autouse=True)
def environment(sandbox_env, monkeypatch):
    for name, value in sandbox_env.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def queue():
    queues = aws.client("batch").describe_job_queues()["jobQueues"]
    return next(q["jobQueueName"] for q in queues if q.get("jobQueueType") != "ECS_FARGATE")


@pytest.fixture
def run(tmp_path):
    bucket = f"batch-{uuid.uuid4().hex[:12]}"
    s3 = aws.client("s3")
    region = s3.meta.region_name
    where = {"CreateBucketConfiguration": {"LocationConstraint": region}}
    s3.create_bucket(Bucket=bucket, **({} if region == "us-east-1" else where))
    return context(
        run_id=f"r{uuid.uuid4().hex[:8]}",
        remote_prefix=f"s3://{bucket}/.takeda/run",
        sources_uri=None,
        workdir=tmp_path,
    )


@pytest.fixture
def to(queue):
    return target(queue=queue, python=sys.executable)


@pytest.fixture
def backend(run, to):
    made = factory([to], run)
    yield made
    made.close()


def submission(run, to, *commands, shape=None):
    job = JobSpec(1, "r", {}, 1, shape or Shape(mem_mb=100), {})
    tasks = tuple(Task(f"{run.run_id}-t{i}", job, to, argv) for i, argv in enumerate(commands))
    return Submission(f"{run.run_id}-s1", f"takeda-{run.run_id}", to, tasks)


def watched(backend, one):
    ids = frozenset(task.task_id for task in one.tasks)
    return Active(one, backend.submit(one), ids)


def polled(backend, active, enough):
    """Poll until `enough(started, ended)`; every end is said once."""
    started, ended = set(), {}
    deadline = time.monotonic() + DEADLINE_S
    while not enough(started, ended):
        assert time.monotonic() < deadline, (started, ended)
        open_ids = active.open_task_ids - ended.keys()
        for update in backend.poll([Active(active.submission, active.accepted, open_ids)]):
            if update.outcome is None:
                assert update.task_id not in started
                started.add(update.task_id)
            else:
                assert update.task_id not in ended
                ended[update.task_id] = update.outcome
        time.sleep(0.1)
    return started, ended


def to_the_end(backend, active):
    count = len(active.submission.tasks)
    _, ended = polled(backend, active, lambda _, ended: len(ended) == count)
    return [ended[task.task_id] for task in active.submission.tasks]


def test_an_array_with_one_failing_child(backend, run, to):
    backend.check()
    code = "print('about to fail', flush=True); raise SystemExit(7)"
    active = watched(backend, submission(run, to, OK, ("python", "-c", code), OK))
    first, second, third = to_the_end(backend, active)
    assert first.succeeded
    assert third.succeeded
    assert first.wall_seconds > 0
    assert (second.kind, second.exit_code) == (FailureKind.USER, 7)
    assert second.reason == "Essential container in task exited"
    assert "about to fail" in second.log_tail
    group, _, stream = second.log_location.partition(":")
    assert (group, bool(stream)) == ("/aws/batch/job", True)


def test_a_single_job_runs_in_the_run_s_directory(backend, run, to):
    code = "from pathlib import Path; Path('written').write_text('x')"
    (outcome,) = to_the_end(backend, watched(backend, submission(run, to, ("python", "-c", code))))
    assert outcome.succeeded
    assert (run.workdir / "written").read_text() == "x"


def test_cancel_leaves_nothing_running(backend, run, to):
    sleep = ("python", "-c", "import time; time.sleep(300)")
    active = watched(backend, submission(run, to, sleep, sleep, sleep))
    polled(backend, active, lambda started, _: started)
    backend.cancel([active])
    ids = [active.accepted.external_id, *active.accepted.task_external_ids.values()]
    jobs = aws.client("batch").describe_jobs(jobs=ids)["jobs"]
    assert len(jobs) == 4
    assert {job["status"] for job in jobs} == {"FAILED"}


def test_an_unknown_queue_is_named_with_its_nearest(run, queue):
    wrong = queue[:-1] + ("x" if queue[-1] != "x" else "y")
    with pytest.raises(TakedaError, match=f"did you mean '{queue}'"):
        factory([target(queue=wrong)], run).check()


def test_a_refused_job_is_a_submission_error(backend, run, queue):
    nowhere = target(queue=f"{queue}-nowhere")
    with pytest.raises(SubmissionError) as caught:
        backend.submit(submission(run, nowhere, OK))
    assert caught.value.kind == FailureKind.CONFIGURATION
    assert "SubmitJob" in caught.value.reason


def test_a_second_controller_finds_the_job_definition(run, to):
    batch = aws.client("batch")
    for number in range(2):
        made = factory([to], run)
        active = watched(made, submission(run, to, OK))
        to_the_end(made, active)
        (job,) = batch.describe_jobs(jobs=[active.accepted.external_id])["jobs"]
        assert job["jobDefinition"].rpartition(":")[2] == "1", number
