"""The backend against a Batch in memory that counts calls."""

import json
import re
import threading

import pytest
from batch_fakes import (
    FakeBatch,
    FakeClients,
    context,
    lost_answer,
    refusal,
    submission,
    target,
    watch,
)
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

from snakemake_executor_takeda.backends.base import SubmissionDelayed, SubmissionError
from snakemake_executor_takeda.backends.batch import (
    api,
    batch_backend,
    cancelling,
    explaining,
    patience,
    polling,
    submitting,
)
from snakemake_executor_takeda.backends.batch import backend as factory
from snakemake_executor_takeda.backends.batch.batch_backend import BatchBackend
from snakemake_executor_takeda.backends.batch.cancelling import cancel
from snakemake_executor_takeda.backends.batch.polling import Poller
from snakemake_executor_takeda.backends.batch.rate import TokenBucket
from snakemake_executor_takeda.backends.batch.submitting import (
    SURE_AFTER_S,
    Submitter,
    job_request,
    tag_text,
)
from snakemake_executor_takeda.values import Accepted, FailureKind, Shape, TakedaError
from snakemake_executor_takeda.worker.manifest import read_entry

EXITED = "Essential container in task exited"


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(explaining, "LATE_LOG_S", 0.0)
    monkeypatch.setattr(patience, "PAUSES_S", (0.0,) * 8)


@pytest.fixture
def clients():
    return FakeClients()


@pytest.fixture
def batch(clients):
    return clients.batch


@pytest.fixture
def backend(clients):
    return BatchBackend([target()], context(), clients)


@pytest.fixture
def submitter(clients):
    pauses = []
    clock = Clock()
    one = Submitter(clients, context(), sleep=pauses.append, clock=lambda: clock.now)
    one.pauses, one.clock = pauses, clock
    return one


class Clock:
    def __init__(self):
        self.now = 0.0
        self.slept = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


# The factory and the check at start.


def test_the_factory_makes_a_backend_without_touching_aws():
    made = factory([target()], context())
    assert made.array_limit(target(), Shape()) == 10_000
    made.close()


def test_using_a_backend_does_not_hide_the_factory():
    from importlib.metadata import entry_points

    factory([target()], context())
    (point,) = entry_points(group="snakemake_executor_takeda.backends", name="batch")
    assert point.load() is factory


def test_all_queues_are_checked_in_one_call(clients, batch):
    batch.queues = FakeBatch([f"q{i}" for i in range(5)]).queues
    targets = [target(f"t{i}", queue=f"q{i}") for i in range(5)]
    BatchBackend(targets, context(), clients).check()
    assert batch.calls == {"DescribeJobQueues": 1}


def test_a_queue_may_be_named_by_its_arn(clients, batch):
    arn = batch.queues["q"]["jobQueueArn"]
    BatchBackend([target(queue=arn)], context(), clients).check()


def check_fails(clients, *targets, **changes):
    with pytest.raises(TakedaError) as caught:
        BatchBackend(targets or [target()], context(**changes), clients).check()
    return str(caught.value)


def test_an_unknown_queue_is_named_with_its_nearest(clients, batch):
    batch.queues = FakeBatch(["takeda-spot", "other"]).queues
    message = check_fails(clients, target("cheap", queue="takeda-spto"))
    assert "'cheap'" in message
    assert "'takeda-spto'" in message
    assert "did you mean 'takeda-spot'" in message


def test_every_unusable_target_is_named(clients, batch):
    batch.queues = FakeBatch(["a", "b", "c"]).queues
    batch.queues["a"]["state"] = "DISABLED"
    batch.queues["b"] |= {"status": "INVALID", "statusReason": "no compute environment"}
    message = check_fails(clients, *(target(f"t-{n}", queue=n) for n in "abc"))
    assert "t-a" in message
    assert "DISABLED" in message
    assert "--state ENABLED" in message
    assert "t-b" in message
    assert "no compute environment" in message
    assert "t-c" not in message


def test_a_queue_of_another_platform_is_named(clients, batch):
    batch.queues["q"]["jobQueueType"] = "ECS_FARGATE"
    assert "platform: FARGATE" in check_fails(clients)
    batch.queues["q"]["jobQueueType"] = "ECS"
    BatchBackend([target()], context(), clients).check()


def made_of(batch, **types):
    """Queue `q` gets compute environments of these names and types."""
    arn = "arn:aws:batch:eu-west-1:123456789012:compute-environment/{}"
    order = [{"order": n, "computeEnvironment": arn.format(t)} for n, t in enumerate(types)]
    batch.queues["q"]["computeEnvironmentOrder"] = order
    batch.environments = {
        arn.format(name): {
            "computeEnvironmentName": name,
            "computeEnvironmentArn": arn.format(name),
            "computeResources": {"type": kind} if kind else {},
        }
        for name, kind in types.items()
    }


@pytest.mark.parametrize(
    ("capacity", "platform", "types", "fix"),
    [
        (None, "EC2", {"a": "FARGATE"}, "a (FARGATE).*write `platform: FARGATE`"),
        (None, "FARGATE", {"a": "SPOT"}, "a (SPOT).*write `platform: EC2`"),
        (None, "FARGATE", {"a": "FARGATE_SPOT"}, None),
        ("on-demand", "EC2", {"a": "SPOT", "b": "SPOT"}, "a (SPOT), b (SPOT).*`capacity: spot`"),
        ("on-demand", "FARGATE", {"a": "FARGATE_SPOT"}, "`capacity: spot`"),
        ("on-demand", "EC2", {"a": "EC2", "b": "SPOT"}, None),
        ("spot", "EC2", {"a": "EC2", "b": "SPOT"}, None),
        ("on-demand", "EC2", {"a": "SPOT", "unmanaged": None}, None),
        (None, "EC2", {"a": "SPOT"}, None),
    ],
)
def test_a_target_says_what_its_compute_environments_are(
    clients, batch, capacity, platform, types, fix
):
    made_of(batch, **types)
    role = "arn:aws:iam::123456789012:role/x"
    said = target(capacity=capacity, platform=platform, execution_role_arn=role)
    if fix is None:
        BatchBackend([said], context(), clients).check()
    else:
        message = check_fails(clients, said)
        assert re.search(fix.replace("(", r"\(").replace(")", r"\)"), message)
    assert batch.calls == {"DescribeJobQueues": 1, "DescribeComputeEnvironments": 1}


def test_spot_on_an_on_demand_queue_is_warned_of(clients, batch, caplog):
    made_of(batch, a="EC2")
    BatchBackend([target(capacity="spot")], context(), clients).check()
    assert "a (EC2), the target says `capacity: spot`" in caplog.text


def test_compute_environments_are_looked_at_once_and_only_where_it_helps(clients, batch):
    made_of(batch, a="SPOT")
    batch.queues["q"]["jobQueueType"] = "ECS"
    BatchBackend([target(capacity=None)], context(), clients).check()
    assert batch.calls["DescribeComputeEnvironments"] == 0
    BatchBackend([target("a"), target("b")], context(), clients).check()
    assert batch.calls["DescribeComputeEnvironments"] == 1


def test_a_role_that_may_not_see_compute_environments_goes_on(clients, batch):
    made_of(batch, a="SPOT")
    denied = refusal("DescribeComputeEnvironments", "AccessDeniedException", status=403)
    batch.errors["DescribeComputeEnvironments"] = [denied]
    BatchBackend([target(capacity="on-demand")], context(), clients).check()


DEFINED = "arn:aws:batch:eu-west-1:123456789012:job-definition/"


def defined(batch, **active_revisions):
    for name, revisions in active_revisions.items():
        for revision in range(1, max(revisions) + 1):
            status = "ACTIVE" if revision in revisions else "INACTIVE"
            batch.definitions.append(
                {
                    "jobDefinitionName": name,
                    "jobDefinitionArn": f"{DEFINED}{name}:{revision}",
                    "revision": revision,
                    "status": status,
                }
            )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("align", None),
        ("align:2", None),
        (f"{DEFINED}align:2", None),
        (f"{DEFINED}align", None),
        ("align:1", "no active revision; there is 'align:3'"),
        ("align:9", "no active revision; there is 'align:3'"),
        ("aling", "does not exist in this account and region; did you mean 'align'?"),
        (f"{DEFINED}aling:1", "does not exist in this account and region; did you mean 'align'?"),
        ("gone", "does not exist in this account and region."),
    ],
)
def test_a_job_definition_is_looked_up_at_start(clients, batch, text, problem):
    defined(batch, align={2, 3}, other={1})
    batch.definitions.append({**batch.definitions[0], "jobDefinitionName": "gone"})
    if problem is None:
        BatchBackend([target(job_definition=text)], context(), clients).check()
        assert batch.calls["DescribeJobDefinitions"] == 1
    else:
        message = check_fails(clients, target("t", job_definition=text))
        assert f"target 't': the job definition {text!r} " in message
        assert problem in message


def test_without_the_right_a_job_definition_is_not_looked_up(clients, batch):
    denied = refusal("DescribeJobDefinitions", "AccessDeniedException", status=403)
    batch.errors["DescribeJobDefinitions"] = [denied]
    BatchBackend([target(job_definition="align")], context(), clients).check()


def test_without_s3_the_flag_is_named(clients, batch):
    assert "--default-storage-provider s3" in check_fails(clients, remote_prefix=None)
    assert not batch.calls


def test_missing_credentials_and_a_dead_endpoint_are_said(clients, batch):
    batch.errors["DescribeJobQueues"] = [NoCredentialsError()]
    assert "no AWS credentials" in check_fails(clients)
    batch.errors["DescribeJobQueues"] = [EndpointConnectionError(endpoint_url="http://localhost:1")]
    assert "does not answer" in check_fails(clients)
    batch.errors["DescribeJobQueues"] = [refusal("DescribeJobQueues", "ExpiredTokenException")]
    assert "does not accept the AWS credentials" in check_fails(clients)
    batch.errors["DescribeJobQueues"] = [refusal("DescribeJobQueues", "AccessDeniedException")]
    assert "batch:DescribeJobQueues" in check_fails(clients)
    batch.errors["DescribeJobQueues"] = [refusal("DescribeJobQueues", "ClientException")]
    assert "The role needs" not in check_fails(clients)


def test_a_busy_service_is_waited_for_at_start(clients, batch):
    busy = [
        refusal("DescribeJobQueues", "TooManyRequestsException", "Too Many Requests", 429),
        refusal("DescribeJobQueues", "ServerException", "oops", 503),
    ]
    batch.errors["DescribeJobQueues"] = [*busy]
    BatchBackend([target()], context(), clients).check()
    assert batch.calls["DescribeJobQueues"] == 3
    batch.errors["DescribeJobQueues"] = busy * 10
    message = check_fails(clients)
    assert "too busy" in message
    assert "role" not in message


def test_waiting_for_a_busy_service_takes_a_minute_and_is_told(monkeypatch, caplog):
    monkeypatch.undo()
    slept = []

    def throttled():
        raise refusal("GetQueueUrl", "RequestThrottled", "slow down", 400)

    with pytest.raises(TakedaError, match=r"SQS was too busy .*GetQueueUrl: RequestThrottled"):
        patience.patiently("SQS", throttled, sleep=slept.append)
    assert 30 <= sum(slept) <= 61
    assert caplog.text.count("SQS is busy") == 1


# Submitting.


def test_a_thousand_tasks_are_submitted_in_three_calls(backend, batch):
    one = submission(1000)
    accepted = backend.submit(one)
    assert batch.calls.total() <= 10
    assert batch.calls == {
        "DescribeJobDefinitions": 1,
        "RegisterJobDefinition": 1,
        "SubmitJob": 1,
    }
    assert accepted.external_id == "job0"
    assert accepted.task_external_ids["run1-s1-t999"] == "job0:999"
    backend.submit(submission(1000, 2))
    assert batch.calls.total() == 4


def test_the_request(backend, batch, clients):
    to = target(scratch="/scratch", python="/opt/python", tags={"lab": "a"}, timeout=10)
    backend.submit(submission(3, to=to))
    ((_, request),) = [one for one in batch.requests if one[0] == "SubmitJob"]
    uri = "s3://bucket/prefix/.takeda/run1/manifests/run1-s1"
    assert request["arrayProperties"] == {"size": 3}
    assert request["containerOverrides"]["command"] == [
        "/opt/python",
        "-P",
        "-m",
        "snakemake_executor_takeda.worker",
        "--manifest",
        uri,
        "--scratch",
        "/scratch",
    ]
    assert request["retryStrategy"] == {"attempts": 1}
    assert request["timeout"] == {"attemptDurationSeconds": 600}
    assert request["propagateTags"] is True
    assert request["tags"] == {
        "lab": "a",
        "takeda:run": "run1",
        "takeda:rule": "align",
        "takeda:submission": "run1-s1",
    }
    assert len(json.dumps(request)) < 2000
    manifest = clients.s3.objects[uri]
    assert read_entry(lambda start, end: manifest[start:end], 2)["task_id"] == "run1-s1-t2"


def test_a_single_task_is_a_plain_job(backend, batch):
    accepted = backend.submit(submission(1))
    assert "arrayProperties" not in batch.requests[-1][1]
    assert "timeout" not in batch.requests[-1][1]
    assert accepted == Accepted("job0", {"run1-s1-t0": "job0"})


def test_job_names_are_the_same_each_time_and_never_shared():
    def name(one):
        return job_request(one, context())["jobName"]

    assert name(submission(2)) == name(submission(2))
    assert name(submission(2)) != name(submission(2, 2))


def test_tags_hold_what_aws_takes():
    assert tag_text("a<b>\nc;" + "x" * 300) == "a_b__c_" + "x" * 249


def test_a_definition_that_exists_is_found_and_its_newest_revision_used(clients, batch):
    for _ in range(2):
        BatchBackend([target()], context(), clients).submit(submission(2))
    assert batch.calls["RegisterJobDefinition"] == 1
    definition = batch.definitions[0]
    arn = definition["jobDefinitionArn"].removesuffix(":1") + ":10"
    batch.definitions.append({**definition, "revision": 10, "jobDefinitionArn": arn})
    BatchBackend([target()], context(), clients).submit(submission(2))
    assert batch.requests[-1][1]["jobDefinition"] == arn


def test_a_refusal_is_this_submissions_alone(backend, batch):
    batch.errors["SubmitJob"] = [refusal("SubmitJob", message="JobQueue is DISABLED")]
    with pytest.raises(SubmissionError, match="JobQueue is DISABLED") as caught:
        backend.submit(submission(2))
    assert caught.value.kind == FailureKind.CONFIGURATION
    backend.submit(submission(2, 2))
    assert batch.calls["DescribeJobDefinitions"] == 2


def test_throttling_is_waited_out_and_no_job_is_doubled(submitter, batch):
    throttled = refusal("SubmitJob", "TooManyRequestsException", status=429)
    batch.errors["SubmitJob"] = [throttled, throttled]
    submitter.submit(submission(2))
    assert [0.25, 0.5] <= submitter.pauses <= [0.5, 1.0]
    assert batch.calls["SubmitJob"] == 3
    assert batch.calls["ListJobs"] == 0


def test_a_lost_answer_is_looked_up_not_sent_again(submitter, batch):
    batch.errors["SubmitJob"] = [lost_answer()]
    accepted = submitter.submit(submission(2))
    assert accepted.external_id == "job0"
    assert batch.calls["SubmitJob"] == 1
    assert [job_id for job_id in batch.jobs if ":" not in job_id] == ["job0"]


def test_a_server_error_that_accepted_nothing_is_sent_again(submitter, batch):
    batch.errors["SubmitJob"] = [refusal("SubmitJob", "ServerException", status=500)]
    submitter.submit(submission(2))
    assert (batch.calls["SubmitJob"], batch.calls["ListJobs"]) == (2, 3)


def test_while_it_is_unknown_whether_it_arrived_it_is_not_sent_again(submitter, batch):
    batch.errors["SubmitJob"] = [lost_answer()]
    batch.errors["ListJobs"] = [lost_answer(), lost_answer()]
    assert submitter.submit(submission(2)).external_id == "job0"
    assert (batch.calls["SubmitJob"], batch.calls["ListJobs"]) == (1, 3)


def test_a_service_that_stays_down_becomes_a_failure_with_the_jobs_name(submitter, batch):
    down = refusal("SubmitJob", "ServerException", "down", status=503)
    batch.errors["SubmitJob"] = [down] * 20
    with pytest.raises(SubmissionDelayed, match="down"):
        submitter.submit(submission(2))
    submitter.clock.now = SURE_AFTER_S
    with pytest.raises(SubmissionError, match="down") as caught:
        submitter.submit(submission(2))
    assert caught.value.kind == FailureKind.LOST
    assert "takeda-run1-align-1" in caught.value.advice


@pytest.fixture
def doubtful(backend, batch, monkeypatch):
    """A backend with a submission that Batch has taken, though nobody heard it."""
    monkeypatch.setattr(submitting, "PAUSES_S", ())
    monkeypatch.setattr(submitting, "LOOKS_S", ())
    batch.errors["SubmitJob"] = [lost_answer()]
    with pytest.raises(SubmissionDelayed):
        backend.submit(submission(2))
    return backend


def test_a_ctrl_c_ends_what_batch_took_unheard(doubtful, batch):
    assert doubtful.cancel([]) == set()
    assert {job["status"] for job in batch.jobs.values()} == {"FAILED"}
    calls = batch.calls["ListJobs"]
    assert doubtful.cancel([]) == set()
    assert batch.calls["ListJobs"] == calls


def test_what_batch_says_nothing_of_is_left_after_a_ctrl_c(doubtful, batch, caplog, monkeypatch):
    monkeypatch.setattr(batch_backend, "IN_DOUBT_SECONDS", 0.0)
    batch.errors["ListJobs"] = [refusal("ListJobs", "ServerException", status=503)]
    (name,) = doubtful.cancel([])
    assert name.startswith("takeda-run1-align-1-")
    assert f"may run: {name}" in caplog.text


def test_what_may_have_been_taken_goes_on_when_a_run_is_detached(doubtful, batch):
    """The next controller looks for it by its name."""
    doubtful.close()
    assert {job["status"] for job in batch.jobs.values()} == {"PENDING", "RUNNABLE"}


def test_the_impossible_is_refused_before_anything_is_sent(backend, batch, clients):
    with pytest.raises(SubmissionError, match=r"nodes=2 .* On-Demand only"):
        backend.submit(submission(1, shape=Shape(nodes=2)))
    assert not batch.calls
    assert not clients.s3.objects


def test_the_rate_is_kept_after_a_burst():
    clock = Clock()
    bucket = TokenBucket(50, burst=5, clock=clock, sleep=clock.sleep)
    for _ in range(5):
        bucket.take()
    assert clock.now == pytest.approx(0)
    for _ in range(50):
        bucket.take()
    assert clock.now == pytest.approx(1.0)


def test_threads_share_the_rate():
    passed = []
    bucket = TokenBucket(10, burst=1, clock=lambda: 0.0, sleep=passed.append)
    threads = [threading.Thread(target=bucket.take) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(passed) == pytest.approx([0.1, 0.2, 0.3, 0.4])


# Polling.


def ends(updates):
    return {u.task_id: u.outcome for u in updates if u.outcome}


def starts(updates):
    return [u.task_id for u in updates if not u.outcome]


def test_an_array_that_does_not_move_costs_one_call(backend, batch):
    one = submission(1000)
    active = [watch(one, backend.submit(one))]
    before = batch.calls.total()
    assert list(backend.poll(active)) == []
    assert list(backend.poll(active)) == []
    assert batch.calls.total() - before == 2


def test_a_hundred_arrays_are_one_call(backend, batch):
    active = []
    for number in range(100):
        one = submission(2, number)
        active.append(watch(one, backend.submit(one)))
    before = batch.calls.total()
    assert list(backend.poll(active)) == []
    assert batch.calls.total() - before == 1


def test_children_end_one_by_one_and_fail_each_for_its_reason(backend, batch, clients):
    one = submission(4)
    accepted = backend.submit(one)
    batch.end("job0:0")
    container = {"exitCode": 2, "logStreamName": "stream"}
    batch.end("job0:1", "FAILED", statusReason=EXITED, container=container)
    batch.end("job0:2", "FAILED", statusReason="Host EC2 (instance i-1) terminated.")
    clients.logs.streams["/aws/batch/job", "stream"] = [f"line {i}\x1b[2J" for i in range(40)]
    found = ends(backend.poll([watch(one, accepted)]))
    assert found.keys() == {"run1-s1-t0", "run1-s1-t1", "run1-s1-t2"}
    assert found["run1-s1-t0"].wall_seconds == 3.5
    user = found["run1-s1-t1"]
    assert (user.kind, user.exit_code) == (FailureKind.USER, 2)
    assert user.log_location == "/aws/batch/job:stream"
    assert user.log_tail == tuple(f"line {i}[2J" for i in range(10, 40))
    assert found["run1-s1-t2"].kind == FailureKind.INTERRUPTED

    batch.end("job0:3")
    before = batch.calls.copy()
    still_open = watch(one, accepted, {"run1-s1-t3"})
    assert ends(backend.poll([still_open])).keys() == {"run1-s1-t3"}
    assert batch.calls - before == {"DescribeJobs": 1, "ListJobs": 1}


def test_a_thousand_ends_are_two_calls_and_failures_a_hundred_a_call(backend, batch):
    one = submission(1000)
    active = [watch(one, backend.submit(one))]
    for index in range(1000):
        batch.end(f"job0:{index}", "FAILED" if index < 250 else "SUCCEEDED", statusReason="x")
    before = batch.calls.copy()
    assert len(ends(backend.poll(active))) == 1000
    assert batch.calls - before == {"DescribeJobs": 1 + 3, "ListJobs": 2}


def test_ten_thousand_children_are_listed_in_pages(backend, batch):
    one = submission(10_000)
    active = [watch(one, backend.submit(one))]
    for index in range(10_000):
        batch.jobs[f"job0:{index}"]["status"] = "SUCCEEDED"
    before = batch.calls.copy()
    assert len(ends(backend.poll(active))) == 10_000
    assert batch.calls - before == {"DescribeJobs": 1, "ListJobs": 10}


def test_a_start_is_said_once(backend, batch):
    one = submission(3)
    active = [watch(one, backend.submit(one))]
    batch.jobs["job0:1"] |= {"status": "RUNNING", "startedAt": 7}
    (update,) = backend.poll(active)
    assert (update.task_id, update.detail) == ("run1-s1-t1", {"started_at_ms": 7})
    before = batch.calls.copy()
    assert list(backend.poll(active)) == []
    assert batch.calls - before == {"DescribeJobs": 1}
    batch.jobs["job0:2"] |= {"status": "RUNNING"}
    assert starts(backend.poll(active)) == ["run1-s1-t2"]


def test_single_jobs_start_and_end(backend, batch):
    one, two = submission(1), submission(1, 2)
    active = [watch(one, backend.submit(one)), watch(two, backend.submit(two))]
    batch.jobs["job0"] |= {"status": "RUNNING"}
    assert starts(backend.poll(active)) == ["run1-s1-t0"]
    batch.end("job0", "FAILED", statusReason=EXITED, container={"exitCode": 3})
    batch.end("job1")
    found = ends(backend.poll(active))
    assert found["run1-s1-t0"].exit_code == 3
    assert found["run1-s2-t0"].succeeded
    assert batch.calls["ListJobs"] == 0


def test_what_the_caller_has_not_taken_in_is_said_again(backend, batch):
    one = submission(2)
    active = [watch(one, backend.submit(one))]
    batch.end("job0:0")
    assert list(ends(backend.poll(active))) == ["run1-s1-t0"]
    assert list(ends(backend.poll(active))) == ["run1-s1-t0"]


@pytest.mark.parametrize("call", ["DescribeJobs", "ListJobs"])
@pytest.mark.parametrize(
    "error", [refusal("x", "AccessDeniedException"), lost_answer(), refusal("x", "E", status=500)]
)
def test_an_api_error_is_no_end(backend, batch, call, error):
    one = submission(200)
    active = [watch(one, backend.submit(one))]
    batch.end("job0:0")
    batch.errors[call] = [error]
    assert list(backend.poll(active)) == []
    assert ends(backend.poll(active)).keys() == {"run1-s1-t0"}


def test_an_error_between_listing_and_describing_loses_no_failure(backend, batch):
    one = submission(300)
    active = [watch(one, backend.submit(one))]
    batch.end("job0:0", "FAILED", statusReason=EXITED, container={"exitCode": 1})
    batch.errors["DescribeJobs"] = [None, lost_answer()]
    assert list(backend.poll(active)) == []
    assert ends(backend.poll(active)).keys() == {"run1-s1-t0"}


def test_a_silence_is_warned_of_once(backend, batch, caplog):
    one = submission(2)
    active = [watch(one, backend.submit(one))]
    batch.errors["DescribeJobs"] = [refusal("DescribeJobs", "AccessDeniedException")] * 3
    for _ in range(3):
        list(backend.poll(active))
    assert len(caplog.records) == 1


@pytest.mark.parametrize("size", [2, 300])
def test_a_child_that_cannot_be_described_yet_ends_by_its_summary(backend, batch, size):
    one = submission(size)
    active = [watch(one, backend.submit(one))]
    batch.end("job0:1", "FAILED", statusReason=EXITED, container={"exitCode": 4})
    batch.hidden.add("job0:1")
    found = ends(backend.poll(active)) or ends(backend.poll(active))
    assert (found["run1-s1-t1"].kind, found["run1-s1-t1"].exit_code) == (FailureKind.USER, 4)


def test_a_lagging_list_is_read_again(backend, batch, monkeypatch):
    one = submission(2)
    active = [watch(one, backend.submit(one))]
    batch.end("job0:0")
    with monkeypatch.context() as patched:
        patched.setattr(batch, "list_jobs", lambda **_: {"jobSummaryList": []})
        assert list(backend.poll(active)) == []
    assert list(ends(backend.poll(active))) == ["run1-s1-t0"]


def test_a_parent_that_ended_without_children_speaks_for_them(backend, batch):
    one = submission(2)
    active = [watch(one, backend.submit(one))]
    for index in range(2):
        del batch.jobs[f"job0:{index}"]
    batch.jobs["job0"] |= {"status": "FAILED", "statusReason": "array refused"}
    found = ends(backend.poll(active))
    assert len(found) == 2
    assert {outcome.reason for outcome in found.values()} == {"array refused"}


@pytest.mark.parametrize("count", [1, 3])
def test_a_job_that_is_not_shown_is_lost_only_after_long(clients, batch, count):
    clock = Clock()
    poller = Poller(clients, clock=clock)
    one = submission(count)
    active = [watch(one, Submitter(clients, context()).submit(one))]
    batch.hidden.add("job0")
    assert list(poller.poll(active)) == []
    clock.now = polling.MISSING_GRACE_S - 1
    assert list(poller.poll(active)) == []
    batch.hidden.clear()
    assert list(poller.poll(active)) == []
    batch.hidden.add("job0")
    clock.now += polling.MISSING_GRACE_S
    assert list(poller.poll(active)) == []
    clock.now += polling.MISSING_GRACE_S
    found = ends(poller.poll(active))
    assert len(found) == count
    assert {outcome.kind for outcome in found.values()} == {FailureKind.LOST}


def test_a_missing_log_stream_is_no_error(backend, batch):
    one = submission(1)
    active = [watch(one, backend.submit(one))]
    container = {"exitCode": 1, "logStreamName": "never written"}
    batch.end("job0", "FAILED", statusReason=EXITED, container=container)
    (outcome,) = ends(backend.poll(active)).values()
    assert outcome.log_tail == ()
    assert outcome.log_location == "/aws/batch/job:never written"


def test_log_tails_are_bounded_when_everything_fails(backend, batch, clients):
    one = submission(200)
    active = [watch(one, backend.submit(one))]
    for index in range(200):
        container = {"exitCode": 1, "logStreamName": f"s{index}"}
        batch.end(f"job0:{index}", "FAILED", statusReason=EXITED, container=container)
    assert len(ends(backend.poll(active))) == 200
    assert clients.logs.calls == explaining.LOG_TAILS_PER_POLL + explaining.LATE_LOGS


# Cancelling.


def test_sixty_arrays_are_cancelled_in_two_calls_and_seen_to_end(backend, batch):
    active = []
    for number in range(60):
        one = submission(3, number)
        active.append(watch(one, backend.submit(one)))
    before = batch.calls.copy()
    backend.cancel(active)
    assert batch.calls - before == {"TerminateJobs": 2, "DescribeJobs": 1}
    assert {job["status"] for job in batch.jobs.values()} == {"FAILED"}


def test_what_has_ended_is_not_terminated(backend, batch):
    one = submission(3)
    backend.cancel([watch(one, backend.submit(one), still_open=())])
    assert batch.calls["TerminateJobs"] == 0
    backend.cancel([])


def test_a_service_without_the_bulk_call_is_told_one_by_one(backend, batch):
    one = submission(3)
    accepted = backend.submit(one)
    batch.errors["TerminateJobs"] = [refusal("TerminateJobs", "UnknownOperationException", "", 404)]
    backend.cancel([watch(one, accepted)])
    assert batch.calls["TerminateJob"] == 1
    assert batch.jobs["job0"]["status"] == "FAILED"


def submitted(clients, count=3):
    one = submission(count)
    return watch(one, Submitter(clients, context()).submit(one))


def test_stragglers_are_terminated_by_name(clients, batch):
    clock = Clock()
    active = submitted(clients)
    batch.deaf.add("job0")
    assert cancel(clients, [active], clock=clock, sleep=clock.sleep) == set()
    assert {job["status"] for job in batch.jobs.values()} == {"FAILED"}


def test_what_goes_on_is_named_and_the_wait_is_bounded(clients, batch, caplog):
    clock = Clock()
    active = submitted(clients)
    batch.deaf |= batch.jobs.keys()
    assert cancel(clients, [active], clock=clock, sleep=clock.sleep) == {"job0"}
    assert clock.now <= cancelling.WAIT_S + cancelling.LONGEST_PAUSE_S
    assert "job0" in caplog.text


def test_a_job_that_is_not_known_yet_is_terminated_again(clients, batch):
    active = submitted(clients)
    job = batch.jobs.pop("job0")
    clock = Clock()

    def sleep(seconds):
        clock.sleep(seconds)
        batch.jobs["job0"] = job

    assert cancel(clients, [active], clock=clock, sleep=sleep) == set()
    assert batch.jobs["job0"]["status"] == "FAILED"


def test_a_service_that_cannot_be_told_is_no_silent_success(backend, batch):
    one = submission(2)
    accepted = backend.submit(one)
    batch.errors["TerminateJobs"] = [refusal("TerminateJobs", "AccessDeniedException")]
    with pytest.raises(TakedaError, match="job0"):
        backend.cancel([watch(one, accepted)])


def busy(call):
    return refusal(call, "TooManyRequestsException", "slow down", 429)


def test_throttling_while_cancelling_is_waited_out(clients, batch):
    clock = Clock()
    active = [submitted(clients, count) for count in (1, 3)]
    batch.errors["TerminateJobs"] = [busy("TerminateJobs"), refusal("x", "E", status=503), None]
    batch.errors["DescribeJobs"] = [busy("DescribeJobs"), lost_answer()]
    assert cancel(clients, active, clock=clock, sleep=clock.sleep) == set()
    assert {job["status"] for job in batch.jobs.values()} == {"FAILED"}
    assert clock.now < cancelling.PATIENCE_S


def test_throttling_without_an_end_is_told_and_bounded(clients, batch, caplog):
    clock = Clock()
    active = [submitted(clients, count) for count in (1, 3)] + [
        watched_single(clients, number) for number in range(2, 120)
    ]
    real = batch._called

    def throttled(call, arguments):
        real(call, arguments)
        clock.now += 1
        raise busy(call)

    batch._called = throttled
    batch.calls.clear()
    assert len(cancel(clients, active, clock=clock, sleep=clock.sleep)) == 120
    assert clock.now <= cancelling.WAIT_S + 2, "and the calls under way"
    assert 3 <= caplog.text.count("still ending 122 jobs: AWS Batch is slow") <= 5
    assert "these 120 jobs" in caplog.text
    assert "has ended" not in caplog.text


def test_no_page_is_sent_when_the_time_is_up(batch):
    ids = [f"job{number}" for number in range(120)]
    refused = api.terminate_jobs(batch, ids, "x", is_late=lambda: True)
    assert refused.keys() == set(ids)
    assert not batch.calls


def test_how_many_were_ended_is_left_to_the_run_to_say(clients, batch, caplog):
    clock = Clock()
    active = [submitted(clients, 3), watched_single(clients, 2)]
    assert cancel(clients, active, clock=clock, sleep=clock.sleep) == set()
    assert caplog.messages == []


def test_a_page_that_is_refused_does_not_keep_the_others(clients, batch):
    active = [watched_single(clients, number) for number in range(120)]
    batch.errors["TerminateJobs"] = [refusal("TerminateJobs", "AccessDeniedException")]
    with pytest.raises(ClientError):
        cancel(clients, active)
    ended = [job for job in batch.jobs.values() if job["status"] == "FAILED"]
    assert len(ended) in (70, 100), "two of three pages"


def watched_single(clients, number):
    one = submission(1, number)
    batch = clients.batch
    job_id = batch.submit_job(jobName=one.name, jobQueue="q", jobDefinition="d")["jobId"]
    return watch(one, Accepted(job_id, {one.tasks[0].task_id: job_id}))


def test_thousands_of_single_jobs_are_few_calls(clients, batch):
    active = [watched_single(clients, number) for number in range(500)]
    batch.calls.clear()
    assert cancel(clients, active) == set()
    assert batch.calls == {"TerminateJobs": 10, "DescribeJobs": 5}


def test_many_that_go_on_are_counted_and_some_named(clients, batch, caplog):
    clock = Clock()
    active = [watched_single(clients, number) for number in range(30)]
    batch.deaf |= batch.jobs.keys()
    cancel(clients, active, clock=clock, sleep=clock.sleep)
    assert "these 30 jobs" in caplog.text
    assert caplog.text.count("job1") < 12


# What lags behind.


def test_a_parent_that_ended_before_its_children_waits_for_them(backend, batch):
    one = submission(3)
    active = [watch(one, backend.submit(one))]
    batch.jobs["job0"]["status"] = "FAILED"
    for index in range(3):
        batch.jobs[f"job0:{index}"]["status"] = "RUNNING"
    assert not ends(backend.poll(active))
    batch.end("job0:1", "FAILED", statusReason=EXITED, container={"exitCode": 3})
    assert list(ends(backend.poll(active))) == ["run1-s1-t1"]


def test_children_that_a_failed_parent_counts_but_nothing_shows_are_not_failed_for_it(
    backend, batch, monkeypatch
):
    one = submission(3)
    active = [watch(one, backend.submit(one))]
    batch.end("job0:0")
    batch.end("job0:1", "FAILED", statusReason=EXITED, container={"exitCode": 3})
    batch.end("job0:2")
    batch.hidden |= {f"job0:{index}" for index in range(3)}
    with monkeypatch.context() as patched:
        patched.setattr(batch, "list_jobs", lambda **_: {"jobSummaryList": []})
        assert not ends(backend.poll(active))
    batch.hidden.clear()
    found = ends(backend.poll(active))
    assert [found[f"run1-s1-t{index}"].succeeded for index in range(3)] == [True, False, True]


def test_counts_behind_the_children_are_waited_for(backend, batch, monkeypatch):
    one = submission(2)
    active = [watch(one, backend.submit(one))]
    real = batch._detail
    stale = real("job0")
    batch.end("job0:0")
    with monkeypatch.context() as patched:
        patched.setattr(
            batch, "_detail", lambda job_id: stale if job_id == "job0" else real(job_id)
        )
        assert list(backend.poll(active)) == []
    assert list(ends(backend.poll(active))) == ["run1-s1-t0"]


def test_a_log_that_comes_late_is_read_once_more(clients, batch):
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        clients.logs.streams["/aws/batch/job", "s"] = ["last words"]

    poller = Poller(clients, sleep=sleep)
    one = submission(1)
    active = [watch(one, Submitter(clients, context()).submit(one))]
    container = {"exitCode": 1, "logStreamName": "s"}
    batch.end("job0", "FAILED", statusReason=EXITED, container=container)
    (outcome,) = ends(poller.poll(active)).values()
    assert outcome.log_tail == ("last words",)
    assert slept == [explaining.LATE_LOG_S]


def test_reclaimed_children_cost_no_description_and_no_log(backend, batch, clients):
    one = submission(2000)
    active = [watch(one, backend.submit(one))]
    for index in range(600):
        batch.jobs[f"job0:{index}"] |= {
            "status": "FAILED",
            "statusReason": "Host EC2 (instance i-1) terminated.",
            "container": {"logStreamName": "s"},
        }
    batch.calls.clear()
    assert len(ends(backend.poll(active))) == 600
    assert batch.calls == {"DescribeJobs": 1, "ListJobs": 1}
    assert clients.logs.calls == 0


def test_a_multi_node_job_has_its_main_nodes_log(backend, batch, clients):
    one = submission(1)
    active = [watch(one, backend.submit(one))]
    nodes = {"numNodes": 2, "mainNode": 0, "nodeRangeProperties": []}
    batch.end("job0", "FAILED", statusReason=EXITED, nodeProperties=nodes)
    container = {"exitCode": 5, "logStreamName": "main"}
    batch.jobs["job0#0"] = {**batch.jobs["job0"], "jobId": "job0#0", "container": container}
    clients.logs.streams["/aws/batch/job", "main"] = ["mpi: no"]
    (outcome,) = ends(backend.poll(active)).values()
    assert (outcome.kind, outcome.exit_code) == (FailureKind.USER, 5)
    assert outcome.log_tail == ("mpi: no",)
    assert outcome.detail["job_id"] == "job0"


def test_a_failure_that_a_lagging_list_did_not_show_is_found_later(backend, batch, monkeypatch):
    one = submission(300)
    accepted = backend.submit(one)
    for index in (0, 1):
        batch.end(f"job0:{index}", "FAILED", statusReason=EXITED, container={"exitCode": 3})
    shown = {"jobSummaryList": [dict(batch.jobs["job0:0"])]}
    with monkeypatch.context() as patched:
        patched.setattr(batch, "list_jobs", lambda **_: shown)
        found = ends(backend.poll([watch(one, accepted)]))
    assert list(found) == ["run1-s1-t0"]
    still_open = {task.task_id for task in one.tasks} - found.keys()
    assert list(ends(backend.poll([watch(one, accepted, still_open)]))) == ["run1-s1-t1"]
