"""Watching against the sandbox: events through EventBridge and SQS, queues that block, a Ctrl-C."""

import json
import sys
import threading
import time
import uuid
from collections import Counter
from dataclasses import replace

import pytest
from batch_fakes import context, target

from snakemake_executor_takeda.backends import aws
from snakemake_executor_takeda.backends.batch import backend as factory
from snakemake_executor_takeda.backends.batch.api import Clients
from snakemake_executor_takeda.backends.batch.cancelling import cancel
from snakemake_executor_takeda.backends.batch.polling import Poller
from snakemake_executor_takeda.values import (
    Accepted,
    Active,
    FailureKind,
    JobSpec,
    Shape,
    Submission,
    TakedaError,
    Task,
)

pytestmark = pytest.mark.sandbox

DEADLINE_S = 120
MINUTE = 60.0
OK = ("python", "-c", "print('fine')")


@pytest.fixture(autouse=True)
def environment(sandbox_env):
    """The variables of the sandbox, as `tests/conftest.py` sets them."""


@pytest.fixture
def batch():
    return aws.client("batch")


@pytest.fixture
def run(tmp_path):
    bucket = f"watch-{uuid.uuid4().hex[:12]}"
    s3 = aws.client("s3")
    where = {"CreateBucketConfiguration": {"LocationConstraint": s3.meta.region_name}}
    s3.create_bucket(Bucket=bucket, **({} if s3.meta.region_name == "us-east-1" else where))
    return context(
        run_id=f"r{uuid.uuid4().hex[:8]}",
        remote_prefix=f"s3://{bucket}/.takeda/run",
        sources_uri=None,
        workdir=tmp_path,
    )


@pytest.fixture
def queue(batch):
    """A job queue of its own, with a compute environment of two vCPUs."""
    name = f"q{uuid.uuid4().hex[:8]}"
    batch.create_compute_environment(
        computeEnvironmentName=f"{name}-ce",
        type="MANAGED",
        computeResources={"type": "EC2", "maxvCpus": 2, "subnets": ["subnet-1"]},
    )
    batch.create_job_queue(
        jobQueueName=name,
        priority=1,
        computeEnvironmentOrder=[{"order": 1, "computeEnvironment": f"{name}-ce"}],
    )
    return name


@pytest.fixture
def event_queue(queue):
    """An SQS queue to which a rule sends the job queue's events, as docs/batch.md says."""
    sqs, events = aws.client("sqs"), aws.client("events")
    url = sqs.create_queue(QueueName=f"{queue}-events")["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    (job_queue,) = aws.client("batch").describe_job_queues(jobQueues=[queue])["jobQueues"]
    pattern = {
        "source": ["aws.batch"],
        "detail-type": ["Batch Job State Change"],
        "detail": {
            "jobQueue": [job_queue["jobQueueArn"]],
            "status": ["RUNNING", "SUCCEEDED", "FAILED"],
        },
    }
    events.put_rule(Name=queue, EventPattern=json.dumps(pattern))
    arn = attributes["Attributes"]["QueueArn"]
    events.put_targets(Rule=queue, Targets=[{"Id": "1", "Arn": arn}])
    yield f"{queue}-events"
    events.remove_targets(Rule=queue, Ids=["1"])
    events.delete_rule(Name=queue)
    sqs.delete_queue(QueueUrl=url)


def submission(run, to, *commands, cpus=1, number=1):
    job = JobSpec(1, "r", {}, 1, Shape(cpus=cpus, mem_mb=100), {})
    tasks = tuple(
        Task(f"{run.run_id}-s{number}-t{i}", job, to, argv) for i, argv in enumerate(commands)
    )
    name = f"takeda-r-{run.run_id}-{number}"
    return Submission(f"{run.run_id}-s{number}", name, to, tasks)


def watched(backend, one):
    return Active(one, backend.submit(one), frozenset(task.task_id for task in one.tasks))


def without(active, ended):
    return replace(active, open_task_ids=active.open_task_ids - set(ended))


def until(condition, what):
    deadline = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return found


def test_every_end_comes_as_an_event(run, queue, event_queue, monkeypatch):
    to = target(queue=queue, python=sys.executable, event_queue=event_queue)
    backend = factory([to], run)
    backend.check()
    woken = threading.Semaphore(0)
    backend.listen(woken.release)
    calls = Counter()
    real = backend._clients.batch._make_api_call

    def counted(name, arguments):
        calls[name] += 1
        return real(name, arguments)

    monkeypatch.setattr(backend._clients.batch, "_make_api_call", counted)
    fails = ("python", "-c", "print('words', flush=True); raise SystemExit(3)")
    active = watched(backend, submission(run, to, *[OK] * 11, fails))
    calls.clear()
    ended = {}
    while len(ended) < 12:
        # Only when it is woken: nothing is polled in between.
        assert woken.acquire(timeout=DEADLINE_S), ended
        for update in backend.poll([without(active, ended)]):
            if update.outcome:
                assert update.task_id not in ended
                ended[update.task_id] = update.outcome
    backend.close()
    failed = ended.pop(f"{run.run_id}-s1-t11")
    assert (failed.kind, failed.exit_code) == (FailureKind.USER, 3)
    assert "words" in failed.log_tail
    assert all(outcome.succeeded for outcome in ended.values())
    # Asked only until the first event had come.
    assert calls["ListJobs"] <= 2
    assert calls["DescribeJobs"] <= 3


def test_an_event_queue_that_is_not_there(run, queue, event_queue):
    wrong = target("spot", queue=queue, event_queue=event_queue + "x")
    with pytest.raises(TakedaError, match=f"did you mean '{event_queue}'"):
        factory([wrong], run).check()


class Waiting:
    """A poller whose minutes pass at will."""

    def __init__(self, active):
        self.now = 0.0
        self.poller = Poller(Clients(), clock=lambda: self.now)
        self.active = active
        self.notes, self.ended = [], {}

    def poll(self):
        for update in self.poller.poll([without(self.active, self.ended)]):
            if update.note:
                self.notes.append(update.note)
            elif update.outcome:
                self.ended[update.task_id] = update.outcome
        return self

    def has_ended(self):
        self.poll()
        return len(self.ended) == len(self.active.submission.tasks)


@pytest.mark.parametrize("count", [1, 3])
def test_a_job_larger_than_the_environment_fails_with_the_reason(run, queue, batch, count):
    to = target(queue=queue, python=sys.executable)
    active = watched(factory([to], run), submission(run, to, *[OK] * count, cpus=8))
    job_id = active.accepted.external_id if count == 1 else f"{active.accepted.external_id}:0"
    until(lambda: batch.describe_jobs(jobs=[job_id])["jobs"][0].get("statusReason"), "statusReason")
    scene = Waiting(active).poll()
    scene.now = 10 * MINUTE
    (note,) = scene.poll().notes
    assert "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE" in note
    assert "number 1 in its queue" in note or "maxvCpus" in note
    assert not scene.ended
    scene.now = 20 * MINUTE
    until(scene.has_ended, "given up")
    assert {outcome.kind for outcome in scene.ended.values()} == {FailureKind.CONFIGURATION}
    assert "maxvCpus" in next(iter(scene.ended.values())).reason


def test_a_disabled_environment_sends_the_jobs_to_the_fallback(run, queue, batch):
    to = replace(target(queue=queue, python=sys.executable), fallback="od")
    batch.update_compute_environment(computeEnvironment=f"{queue}-ce", state="DISABLED")
    active = watched(factory([to], run), submission(run, to, OK, OK))
    summary = lambda: batch.describe_jobs(jobs=[active.accepted.external_id])["jobs"][0][  # noqa: E731
        "arrayProperties"
    ]["statusSummary"]
    until(lambda: summary().get("RUNNABLE") == 2, "RUNNABLE")
    scene = Waiting(active).poll()
    scene.now = 10 * MINUTE
    (note,) = scene.poll().notes
    assert "compute environment" in note
    assert note.endswith("After 30 min it goes to od.")
    scene.now = 30 * MINUTE
    until(scene.has_ended, "given up")
    assert {outcome.kind for outcome in scene.ended.values()} == {FailureKind.NO_CAPACITY}


def test_a_full_queue_is_not_stuck_and_what_runs_is_not_ended(run, queue, batch):
    to = replace(target(queue=queue, python=sys.executable), fallback="od")
    backend = factory([to], run)
    go = run.workdir / "go"
    waits = f"import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(0.05)"
    active = watched(backend, submission(run, to, *[("python", "-c", waits)] * 4))
    summary = lambda: batch.describe_jobs(jobs=[active.accepted.external_id])["jobs"][0][  # noqa: E731
        "arrayProperties"
    ]["statusSummary"]
    until(lambda: summary().get("RUNNING") == 2 and summary().get("RUNNABLE") == 2, "half of it")
    scene = Waiting(active).poll()
    for minute in (10, 31, 60, 200):
        scene.now = minute * MINUTE
        scene.poll()
    assert scene.notes == []
    go.touch()
    until(scene.has_ended, "the end")
    assert all(outcome.succeeded for outcome in scene.ended.values())


def test_five_hundred_single_jobs_and_an_array_are_ended(run, queue, batch):
    to = target(queue=queue, python=sys.executable)
    needs = [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}]
    definition = batch.register_job_definition(
        jobDefinitionName=f"d-{queue}",
        type="container",
        containerProperties={
            "image": "x",
            "command": ["sleep", "300"],
            "resourceRequirements": needs,
        },
    )["jobDefinitionArn"]

    def sent(count, number):
        one = submission(run, to, *[OK] * count, number=number)
        array = {"arrayProperties": {"size": count}} if count > 1 else {}
        job_id = batch.submit_job(
            jobName=one.name, jobQueue=queue, jobDefinition=definition, **array
        )["jobId"]
        ids = {
            task.task_id: f"{job_id}:{i}" if count > 1 else job_id
            for i, task in enumerate(one.tasks)
        }
        return Active(one, Accepted(job_id, ids), frozenset(ids))

    active = [sent(50, 0), *(sent(1, number) for number in range(1, 501))]
    clients = Clients()
    assert cancel(clients, active) == set()
    for status in ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING"):
        assert batch.list_jobs(jobQueue=queue, jobStatus=status)["jobSummaryList"] == []
        children = batch.list_jobs(arrayJobId=active[0].accepted.external_id, jobStatus=status)
        assert children["jobSummaryList"] == []
