"""Event mode: duplicates, disorder, strangers and silence are harmless, and ends cost no call."""

import itertools
import json
import random
import threading
from dataclasses import replace

import botocore.session
import pytest
from batch_fakes import FakeClients, context, refusal, submission, target, watch
from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.validate import ParamValidator
from pydantic import ValidationError

from snakemake_executor_takeda.backends.batch import explaining
from snakemake_executor_takeda.backends.batch.batch_backend import BatchBackend
from snakemake_executor_takeda.backends.batch.job_events import job_of
from snakemake_executor_takeda.backends.batch.listening import (
    FOREIGN_PAUSE_S,
    MANY_FOREIGN,
    Ear,
    check_event_queues,
)
from snakemake_executor_takeda.backends.batch.polling import Poller
from snakemake_executor_takeda.values import FailureKind, Shape, TakedaError

MODEL = botocore.session.get_session().get_service_model("sqs")
QUEUE = "arn:aws:batch:eu-west-1:123456789012:job-queue/q"
EXITED = "Essential container in task exited"
URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/takeda-events"


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(explaining, "LATE_LOG_S", 0.0)


class FakeSqs:
    """One queue: what was received and not deleted is there again at the next call."""

    class meta:
        region_name = "eu-west-1"

    def __init__(self, names=("takeda-events",)):
        self.names = names
        self.bodies = []
        self.deleted = []
        self.errors = {}
        self.calls = []

    def _called(self, call, arguments):
        self.calls.append(call)
        report = ParamValidator().validate(arguments, MODEL.operation_model(call).input_shape)
        assert not report.has_errors(), report.generate_report()
        error = self.errors[call].pop(0) if self.errors.get(call) else None
        if error is not None:
            raise error

    def get_queue_url(self, **arguments):
        self._called("GetQueueUrl", arguments)
        if arguments["QueueName"] not in self.names:
            raise refusal("GetQueueUrl", "AWS.SimpleQueueService.NonExistentQueue")
        return {"QueueUrl": URL}

    def list_queues(self, **arguments):
        self._called("ListQueues", arguments)
        return {"QueueUrls": [f"https://sqs.eu-west-1.amazonaws.com/1/{n}" for n in self.names]}

    def receive_message(self, **arguments):
        self._called("ReceiveMessage", arguments)
        found = list(enumerate(self.bodies))
        there = [(n, b) for n, b in found if n not in self.deleted][
            : arguments["MaxNumberOfMessages"]
        ]
        return {
            "Messages": [
                {"MessageId": str(n), "ReceiptHandle": str(n), "Body": b} for n, b in there
            ]
        }

    def delete_message_batch(self, **arguments):
        self._called("DeleteMessageBatch", arguments)
        self.deleted += [int(entry["ReceiptHandle"]) for entry in arguments["Entries"]]
        return {"Successful": [], "Failed": []}


def event(job_id, status, name="takeda-align-run1-1-abc", **detail):
    return json.dumps(
        {
            "version": "0",
            "detail-type": "Batch Job State Change",
            "source": "aws.batch",
            "time": "2026-01-01T00:00:00Z",
            "detail": {
                "jobId": job_id,
                "jobName": name,
                "jobQueue": QUEUE,
                "status": status,
                **detail,
            },
        }
    )


class Told:
    """What `Ears` gives the poller."""

    def __init__(self, relied_on=True):
        self.jobs = []
        self.relied_on = relied_on

    def told_of(self, target):
        return self.relied_on

    def take(self):
        jobs, self.jobs = self.jobs, []
        return jobs

    def hear(self, *bodies):
        self.jobs += [job_of(body) for body in bodies]


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clients():
    made = FakeClients()
    made.sqs = FakeSqs()
    return made


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def poller(clients, told, clock):
    return Poller(clients, told, clock=clock)


@pytest.fixture
def backend(clients):
    return BatchBackend([target(event_queue="takeda-events")], context(), clients)


def ends(updates):
    return {u.task_id: u.outcome for u in updates if u.outcome}


# Messages.


@pytest.mark.parametrize(
    "body",
    [
        "",
        "no json",
        "[]",
        "null",
        "{}",
        "[" * 100_000,
        '{"detail-type": "Batch Job State Change", "source": "aws.batch"}',
        event("", "FAILED"),
        event(7, "FAILED"),
        event("j", None),
        event("j", "FAILED").replace("aws.batch", "aws.ec2"),
        event("j", "FAILED").replace("Job State", "Job Queue Blocked"),
        event("j", "FAILED", container=[]),
        event("j", "FAILED", attempts=[1]),
        event("j", "FAILED", startedAt="yesterday"),
    ],
)
def test_garbage_is_no_event(body):
    assert job_of(body) is None


def test_an_event_is_cut_to_what_an_outcome_needs():
    attempts = [{"statusReason": "old"}, {"statusReason": "new", "container": {"exitCode": 3}}]
    container = {"exitCode": 3, "logStreamName": "s", "command": ["x"] * 1000, "reason": None}
    job = job_of(event("j:1", "FAILED", attempts=attempts, container=container, unheard_of={}))
    assert job == {
        "jobId": "j:1",
        "jobName": "takeda-align-run1-1-abc",
        "jobQueue": QUEUE,
        "status": "FAILED",
        "attempts": [{"statusReason": "new", "container": {"exitCode": 3}}],
        "container": {"exitCode": 3, "logStreamName": "s"},
    }


# The poller.


def test_an_end_that_was_told_costs_no_call(poller, told, clients):
    backend = BatchBackend([target()], context(), clients)
    one = submission(1000)
    active = [watch(one, backend.submit(one))]
    clients.batch.calls.clear()
    assert list(poller.poll(active)) == []
    told.hear(
        event("job0:3", "SUCCEEDED", startedAt=1000, stoppedAt=3500),
        event("job0:7", "RUNNING", startedAt=7),
        event("job0", "PENDING"),
    )
    end, start = poller.poll(active)
    assert (end.task_id, end.outcome.wall_seconds) == ("run1-s1-t3", 2.5)
    assert (start.task_id, start.detail) == ("run1-s1-t7", {"started_at_ms": 7})
    assert not clients.batch.calls


def test_a_failure_that_was_told_costs_its_log_only(poller, told, clients):
    backend = BatchBackend([target()], context(), clients)
    one = submission(2)
    active = [watch(one, backend.submit(one))]
    clients.batch.calls.clear()
    clients.logs.streams["/aws/batch/job", "s"] = ["the end"]
    container = {"exitCode": 2, "logStreamName": "s"}
    told.hear(event("job0:1", "FAILED", statusReason=EXITED, container=container))
    (outcome,) = ends(poller.poll(active)).values()
    assert (outcome.kind, outcome.exit_code) == (FailureKind.USER, 2)
    assert outcome.log_tail == ("the end",)
    assert not clients.batch.calls
    assert clients.logs.calls == 1


@pytest.mark.parametrize("seed", range(30))
def test_duplicates_and_disorder_are_harmless(seed, clients, told, clock):
    """Every child's events, some twice, in any order, some before SubmitJob's answer, some lost."""
    chance = random.Random(seed)
    poller = Poller(clients, told, clock=clock)
    backend = BatchBackend([target()], context(), clients)
    one = submission(40)
    accepted = backend.submit(one)
    bodies = []
    for index in range(40):
        state = "FAILED" if index % 3 == 0 else "SUCCEEDED"
        clients.batch.end(f"job0:{index}", state, statusReason=EXITED, container={"exitCode": 9})
        for status in ("RUNNABLE", "STARTING", "RUNNING", state):
            heard = chance.choice((0, 1, 1, 2))
            more = {"container": {"exitCode": 9}, "statusReason": EXITED}
            bodies += [event(f"job0:{index}", status, **more)] * heard
    bodies += [event("stranger:1", "FAILED"), event("job0", "FAILED"), event("job0:999", "FAILED")]
    chance.shuffle(bodies)
    open_ids = {task.task_id for task in one.tasks}
    early = chance.randrange(len(bodies))
    told.hear(*bodies[:early])
    assert list(poller.poll([])) == []
    found, started = {}, set()
    for start in range(early, len(bodies), 7):
        told.hear(*bodies[start : start + 7])
        for update in poller.poll([watch(one, accepted, open_ids - found.keys())]):
            if update.outcome:
                assert update.task_id not in found
                found[update.task_id] = update.outcome
            else:
                assert update.task_id not in found | dict.fromkeys(started)
                started.add(update.task_id)
    clock.now = 1000.0
    found |= ends(poller.poll([watch(one, accepted, open_ids - found.keys())]))
    assert found.keys() == open_ids
    for index in range(40):
        kind = FailureKind.USER if index % 3 == 0 else None
        assert found[f"run1-s1-t{index}"].kind == kind


def test_a_slow_look_catches_what_never_came(poller, told, clients, clock):
    backend = BatchBackend([target()], context(), clients)
    one = submission(3)
    accepted = backend.submit(one)
    active = [watch(one, accepted)]
    clients.batch.calls.clear()
    list(poller.poll(active))
    clients.batch.end("job0:1")
    clock.now = 59.0
    assert list(poller.poll(active)) == []
    assert not clients.batch.calls
    clock.now = 60.0
    assert ends(poller.poll(active)).keys() == {"run1-s1-t1"}
    clients.batch.calls.clear()
    # It found something: the next look is soon. From then on they grow.
    rest = [watch(one, accepted, {"run1-s1-t0", "run1-s1-t2"})]
    looked = []
    for second in range(61, 2000):
        clock.now = float(second)
        list(poller.poll(rest))
        if clients.batch.calls:
            looked.append(second)
            clients.batch.calls.clear()
    pauses = [after - before for before, after in itertools.pairwise(looked)]
    assert looked[0] == 120
    assert pauses[0] >= 60
    assert pauses == sorted(pauses)
    assert pauses[-1] == 300
    # An end that no event told shortens it.
    clients.batch.end("job0:0")
    clock.now = looked[-1] + 300.0
    assert ends(poller.poll(rest)).keys() == {"run1-s1-t0"}
    clients.batch.calls.clear()
    clock.now += 60.0
    list(poller.poll([watch(one, accepted, {"run1-s1-t2"})]))
    assert clients.batch.calls


def test_a_failure_that_was_told_but_not_explained_is_asked_for_at_once(poller, told, clients):
    """The message is deleted by then: nobody tells it again."""
    backend = BatchBackend([target(capacity="on-demand")], context(), clients)
    one = submission(1, to=target(capacity="on-demand"), shape=Shape(nodes=2))
    active = [watch(one, backend.submit(one))]
    list(poller.poll(active))
    clients.batch.end("job0", "FAILED", statusReason=EXITED)
    told.hear(event("job0", "FAILED", statusReason=EXITED))
    clients.batch.errors["DescribeJobs"] = [refusal("DescribeJobs", "ServerException", status=500)]
    with pytest.raises(ClientError):
        list(poller.poll(active))
    assert ends(poller.poll(active)).keys() == {"run1-s1-t0"}


def test_while_nothing_is_told_everything_is_asked(clients, clock):
    told = Told(relied_on=False)
    poller = Poller(clients, told, clock=clock)
    backend = BatchBackend([target()], context(), clients)
    one = submission(2)
    active = [watch(one, backend.submit(one))]
    clients.batch.end("job0:0")
    assert ends(poller.poll(active)).keys() == {"run1-s1-t0"}


def test_what_the_caller_did_not_take_in_is_said_again(poller, told, clients):
    backend = BatchBackend([target()], context(), clients)
    one = submission(2)
    active = [watch(one, backend.submit(one))]
    clients.batch.end("job0:0")
    told.hear(event("job0:0", "SUCCEEDED"))
    assert ends(poller.poll(active)).keys() == {"run1-s1-t0"}
    assert ends(poller.poll(active)).keys() == {"run1-s1-t0"}


# The queue.


def ear(sqs, is_ours=lambda job: job["jobName"].startswith("takeda-align-run1-"), clock=None):
    woken = []
    return Ear("q", sqs, URL, is_ours, lambda: woken.append(1), clock=clock or (lambda: 0.0)), woken


def test_ours_are_deleted_and_others_left(clients):
    sqs = clients.sqs
    sqs.bodies = [event("a", "SUCCEEDED"), event("b", "FAILED", name="other"), "garbage"]
    listener, woken = ear(sqs)
    assert not listener.is_relied_on("q")
    assert listener.listen_once() is False
    assert sqs.deleted == [0]
    assert [job["jobId"] for job in listener.take()] == ["a"]
    assert listener.take() == []
    assert listener.is_relied_on("q")
    assert woken == [1]


def test_only_strangers_prove_nothing_and_slow_it_down(clients):
    sqs = clients.sqs
    sqs.bodies = [event("b", "FAILED", name="other")]
    listener, woken = ear(sqs)
    assert listener.listen_once() is True
    assert FOREIGN_PAUSE_S > 0
    assert not listener.is_relied_on("q")
    assert (woken, sqs.deleted) == ([], [])


def test_a_queue_full_of_strangers_is_warned_of_once(clients, caplog):
    clients.sqs.bodies = [event("b", "FAILED", name="other")] * 10
    listener, _ = ear(clients.sqs)
    for _ in range(2 * MANY_FOREIGN // 10):
        listener.listen_once()
    assert len(caplog.records) == 1
    assert "a queue of its own" in caplog.text


def test_states_that_are_no_news_are_deleted_and_prove_the_rule(clients):
    clients.sqs.bodies = [event("a", "RUNNABLE"), event("a", "STARTING")]
    listener, woken = ear(clients.sqs)
    listener.listen_once()
    assert (clients.sqs.deleted, listener.take(), woken) == ([0, 1], [], [])
    assert listener.is_relied_on("q")


def test_a_rule_that_leaves_a_job_queue_out_is_not_relied_on_for_it(clients):
    clients.sqs.bodies = [event("a", "RUNNING")]
    listener, _ = ear(clients.sqs)
    listener.listen_once()
    assert listener.is_relied_on("q")
    assert listener.is_relied_on(QUEUE)
    assert not listener.is_relied_on("other")


def test_an_end_stands_against_a_start_that_comes_later(clients):
    clients.sqs.bodies = [event("a", "SUCCEEDED"), event("a", "RUNNING")]
    listener, _ = ear(clients.sqs)
    listener.listen_once()
    assert [job["status"] for job in listener.take()] == ["SUCCEEDED"]


def test_a_burst_wakes_seldom_and_its_end_always(clients):
    clients.sqs.bodies = [event(f"a:{i}", "SUCCEEDED") for i in range(95)]
    listener, woken = ear(clients.sqs)
    for _ in range(10):
        listener.listen_once()
    assert len(woken) == 2
    assert len(listener.take()) == 95
    clients.sqs.bodies += [event(f"b:{i}", "SUCCEEDED") for i in range(10)]
    listener.listen_once()
    assert len(woken) == 2
    listener.listen_once()
    assert len(woken) == 3, "a full call may have been the last"


def test_a_queue_that_cannot_be_read_is_warned_of_once_and_not_relied_on(clients, caplog):
    sqs = clients.sqs
    sqs.bodies = [event("a", "SUCCEEDED")]
    listener, _ = ear(sqs)
    listener.listen_once()
    denied = refusal("ReceiveMessage", "AccessDenied")
    slept = []

    class Ending(threading.Event):
        def wait(self, timeout=None):
            slept.append(timeout)
            if len(slept) == 4:
                self.set()
            return True

    listener._ending = Ending()
    sqs.errors["ReceiveMessage"] = [denied] * 4
    listener.run()
    assert slept == [1.0, 2.0, 4.0, 8.0]
    assert len(caplog.records) == 1
    assert not listener.is_relied_on("q")
    listener._ending.clear()
    listener.listen_once()
    assert listener.is_relied_on("q")


def test_an_answer_that_cannot_be_understood_is_a_silence_like_any_other(clients, caplog):
    """A thread that died of it would be relied on for ever."""
    clients.sqs.bodies = [event("a", "SUCCEEDED")]
    listener, _ = ear(clients.sqs)
    listener.listen_once()
    assert listener.is_relied_on("q")
    clients.sqs.errors["ReceiveMessage"] = [ValueError("no JSON")]
    listener._ending.wait = lambda _: listener.stop()
    listener.run()
    assert not listener.is_relied_on("q")
    assert "no JSON" in caplog.text


def test_messages_that_cannot_be_deleted_are_heard_but_not_relied_on(clients):
    clients.sqs.bodies = [event("a", "SUCCEEDED")]
    clients.sqs.errors["DeleteMessageBatch"] = [refusal("DeleteMessageBatch", "AccessDenied")]
    listener, woken = ear(clients.sqs)
    listener._ending.wait = lambda _: listener.stop()
    listener.run()
    assert [job["jobId"] for job in listener.take()] == ["a"]
    assert woken == [1]
    assert not listener.is_relied_on("q")


# The check at start, and the whole.


def check_fails(clients, queue):
    with pytest.raises(TakedaError) as caught:
        named = replace(target("cheap", event_queue=queue), source="routing.yaml:7")
        check_event_queues(clients, [named])
    return str(caught.value)


@pytest.mark.parametrize(
    "queue", ["takeda-events", "arn:aws:sqs:eu-west-1:123456789012:takeda-events", URL]
)
def test_a_queue_by_name_arn_or_url(clients, queue):
    found = check_event_queues(clients, [target(event_queue=queue), target("b"), target("c")])
    assert found == {queue: URL}


def test_without_a_queue_nothing_is_asked(clients):
    assert check_event_queues(clients, [target()]) == {}
    assert clients.sqs.calls == []


def test_an_unknown_queue_is_named_with_its_nearest(clients):
    message = check_fails(clients, "takeda-evnets")
    assert message.startswith("routing.yaml:7: target 'cheap': ")
    assert "'takeda-evnets'" in message
    assert "did you mean 'takeda-events'?" in message


def test_a_queue_of_another_region_is_named(clients):
    for queue in (
        "arn:aws:sqs:us-east-1:123456789012:takeda-events",
        "https://sqs.us-east-1.amazonaws.com/123456789012/takeda-events",
    ):
        assert "us-east-1, this run in eu-west-1" in check_fails(clients, queue)


@pytest.mark.parametrize(
    "queue", ["arn:aws:sqs", "arn:aws:sns:eu-west-1:123456789012:x", "https://[x", "two words"]
)
def test_what_names_no_queue_is_refused_with_what_to_write(queue):
    with pytest.raises(ValidationError, match="write the name of an SQS queue"):
        target(event_queue=queue)


def test_a_missing_right_names_the_rights(clients):
    clients.sqs.errors["ReceiveMessage"] = [refusal("ReceiveMessage", "AccessDenied")]
    message = check_fails(clients, "takeda-events")
    assert "sqs:ReceiveMessage" in message
    assert "leave `event_queue` out" in message


def test_a_dead_endpoint_is_said(clients):
    clients.sqs.errors["GetQueueUrl"] = [EndpointConnectionError(endpoint_url="http://x:1")]
    assert "does not answer" in check_fails(clients, "takeda-events")


def test_the_backend_listens_wakes_and_reports(backend, clients):
    backend.check()
    woken = threading.Event()
    one = submission(2)
    accepted = backend.submit(one)
    clients.sqs.bodies = [event("job0:1", "SUCCEEDED", name=clients.batch.jobs["job0"]["jobName"])]
    clients.sqs.bodies += [event("other:1", "SUCCEEDED", name="takeda-align-run2-1-abc")]
    backend.listen(woken.set)
    assert woken.wait(30)
    clients.batch.calls.clear()
    assert ends(backend.poll([watch(one, accepted)])).keys() == {"run1-s1-t1"}
    backend.close()
    assert clients.sqs.deleted[0] == 0
    assert 1 not in clients.sqs.deleted


def test_targets_that_share_a_queue_share_a_listener(clients):
    arn = "arn:aws:sqs:eu-west-1:123456789012:takeda-events"
    targets = [target("a", event_queue="takeda-events"), target("b", event_queue=arn)]
    backend = BatchBackend(targets, context(), clients)
    backend.check()
    before = set(threading.enumerate())
    backend.listen(lambda: None)
    assert len(set(threading.enumerate()) - before) == 1
    backend.close()
