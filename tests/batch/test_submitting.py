"""What goes out with a submission: its image, its turn, its memory, its size; and how often it is sent."""

import dataclasses
import json
import logging
import threading

import pytest
from batch_fakes import (
    MODEL,
    FakeBatch,
    FakeClients,
    context,
    lost_answer,
    refusal,
    submission,
    target,
)
from botocore.validate import ParamValidator

from snakemake_executor_takeda.backends.base import SubmissionDelayed, SubmissionError
from snakemake_executor_takeda.backends.batch import backend as factory
from snakemake_executor_takeda.backends.batch.doubles import Doubles
from snakemake_executor_takeda.backends.batch.instances import architecture_problem
from snakemake_executor_takeda.backends.batch.options import RESOURCES
from snakemake_executor_takeda.backends.batch.queues import queue_problem
from snakemake_executor_takeda.backends.batch.rate import TokenBucket
from snakemake_executor_takeda.backends.batch.submitting import (
    MAX_BYTES,
    PAUSES_S,
    SURE_AFTER_S,
    UNANSWERED_LOOK_S,
    Submitter,
    job_request,
)
from snakemake_executor_takeda.commands.rewording import without_apptainer
from snakemake_executor_takeda.values import FailureKind, JobSpec, Shape, Submission, Task
from snakemake_executor_takeda.worker.manifest import read_entry

MANIFEST = "s3://bucket/prefix/.takeda/run1/manifests/run1-s1"


def one(to, container=None, argv=("true",), shape=None, count=1, **resources):
    job = JobSpec(1, "align", {}, 1, shape or Shape(), resources, container=container)
    tasks = tuple(Task(f"run1-s1-t{i}", job, to, argv) for i in range(count))
    return Submission("run1-s1", "takeda-run1-align-1", to, tasks)


@pytest.fixture
def clients():
    return FakeClients()


@pytest.fixture
def sender(clients):
    fast = TokenBucket(10_000, burst=10_000)
    return Submitter(clients, context(), sleep=lambda seconds: None, rate=fast)


# A rule's own image.


def sent_image(clients, sender, to, **words):
    sender.submit(one(to, **words))
    return clients.batch.definitions[-1]["containerProperties"]["image"]


def test_a_rules_container_is_its_jobs_image_where_the_target_says_so(clients, sender):
    to = target(rule_image=True, image="worker:1")
    assert sent_image(clients, sender, to, container="docker://quay.io/b/salmon:1") == (
        "quay.io/b/salmon:1"
    )
    assert sent_image(clients, sender, to) == "worker:1"
    elsewhere = target(image="worker:1")
    assert sent_image(clients, sender, elsewhere, container="docker://x/y:1") == "worker:1"


@pytest.mark.parametrize("container", ["tools.sif", "oras://x/y", "docker://a b", "docker://"])
def test_a_container_that_is_no_image_of_a_registry_is_refused(container):
    with pytest.raises(SubmissionError, match="no image of a registry") as caught:
        job_request(one(target(rule_image=True), container=container), context())
    assert caught.value.kind == FailureKind.CONFIGURATION
    assert "docker://" in caught.value.advice


def test_snakemake_in_a_rules_image_starts_no_second_container(clients, sender):
    argv = ("python", "--software-deployment-method", "apptainer", "conda", "--quiet")
    sender.submit(one(target(rule_image=True), container="docker://x/y:1", argv=argv))
    data = clients.s3.objects[MANIFEST]
    entry = read_entry(lambda start, end: data[start:end], 0)
    assert entry["argv"] == ["python", "--software-deployment-method", "conda", "--quiet"]


@pytest.mark.parametrize(
    ("argv", "left"),
    [
        (("a", "--sdm", "apptainer"), ("a",)),
        (("a", "--deployment-method", "singularity", "-q"), ("a", "-q")),
        (("a", "--sdm", "conda"), ("a", "--sdm", "conda")),
        (("apptainer",), ("apptainer",)),
    ],
)
def test_apptainer_is_taken_out_of_the_methods_only(argv, left):
    assert without_apptainer(argv) == left


# A job's turn.


def test_the_targets_turn_holds_until_a_rule_says_its_own():
    to = target(
        share_identifier="lab", scheduling_priority=5, consumable_resources={"a": 1, "b": 2}
    )

    def turn(**resources):
        request = job_request(one(to, **resources), context())
        override = request["consumableResourcePropertiesOverride"]["consumableResourceList"]
        needs = {need["consumableResource"]: need["quantity"] for need in override}
        return request["shareIdentifier"], request["schedulingPriorityOverride"], needs

    assert turn() == ("lab", 5, {"a": 1, "b": 2})
    changed = turn(
        batch_share_identifier="urgent",
        batch_scheduling_priority=9,
        batch_consumable_resources="b=0, c=4",
    )
    assert changed == ("urgent", 9, {"a": 1, "c": 4})


def test_on_several_nodes_a_need_is_that_of_the_nodes():
    to = target(capacity="on-demand", consumable_resources={"a": 1})
    request = job_request(one(to, shape=Shape(nodes=2)), context())
    assert "consumableResourcePropertiesOverride" not in request
    (group,) = request["nodeOverrides"]["nodePropertyOverrides"]
    shape = MODEL.operation_model("SubmitJob").input_shape
    assert not ParamValidator().validate(request, shape).has_errors()
    needs = group["consumableResourcePropertiesOverride"]["consumableResourceList"]
    assert needs == [{"consumableResource": "a", "quantity": 1}]


def test_nothing_is_said_of_a_turn_that_nobody_asked_for():
    request = job_request(one(target()), context())
    assert {"shareIdentifier", "schedulingPriorityOverride"}.isdisjoint(request)
    assert "consumableResourcePropertiesOverride" not in request


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ({"batch_share_identifier": "a b"}, "batch_share_identifier='a b'"),
        ({"batch_scheduling_priority": 10_000}, "0 to 9999"),
        ({"batch_scheduling_priority": "high"}, "'high'"),
        ({"batch_consumable_resources": "licence"}, "licence=1"),
        ({"batch_consumable_resources": "a=1,b=1,c=1,d=1,e=1,f=1"}, "at most 5"),
    ],
)
def test_a_rules_word_that_cannot_be_is_named_with_what_to_write(resources, said):
    with pytest.raises(SubmissionError) as caught:
        job_request(one(target(), **resources), context())
    assert said in f"{caught.value} {caught.value.advice}"


def test_rules_that_differ_in_their_turn_share_no_array():
    assert factory.shape_key_resources >= RESOURCES


@pytest.mark.parametrize(
    ("share", "policy", "said"),
    [
        ("lab", None, "leave out `share_identifier: lab`"),
        (None, "arn:aws:batch:…", "write `share_identifier: NAME`"),
        ("lab", "arn:aws:batch:…", None),
        (None, None, None),
    ],
)
def test_a_share_and_the_queues_policy_go_together(share, policy, said):
    queue = {"state": "ENABLED", "status": "VALID"}
    if policy:
        queue["schedulingPolicyArn"] = policy
    problem = queue_problem(target(share_identifier=share), queue, [], {})
    assert (said in problem) if said else problem is None


# Memory that an instance keeps for itself.


def test_lowered_memory_is_sent_and_said_once(clients, sender, caplog):
    to = dataclasses.replace(target(), instances=("m7i.large",))
    shape = Shape(cpus=2, mem_mb=8192)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            sender.submit(one(to, shape=shape))
        sender.submit(one(to, shape=Shape(cpus=2, mem_mb=8000)))
    needs = [
        {
            need["type"]: need["value"]
            for need in request["containerOverrides"]["resourceRequirements"]
        }
        for call, request in clients.batch.requests
        if call == "SubmitJob"
    ]
    assert [need["MEMORY"] for need in needs] == ["7750", "7750", "7750", "7630"]
    (said,) = caplog.messages
    assert "7813 MiB" in said
    assert "7750 MiB" in said
    assert "mem_mb up to 8126" in said


@pytest.mark.parametrize(
    ("architecture", "instances", "said"),
    [
        ("arm64", ["c7g", "m8gd.large", "t4g.small"], None),
        ("x86_64", ["c7i", "m7a.large", "g4dn.xlarge", "p5.48xlarge"], None),
        ("arm64", ["c7g", "c7i"], "c7i in `instances` is x86_64"),
        ("x86_64", ["hpc7g.4xlarge"], "hpc7g.4xlarge in `instances` is arm64"),
        (None, ["c7g", "c7i"], None),
    ],
)
def test_an_architecture_is_compared_with_the_instances(architecture, instances, said):
    to = dataclasses.replace(target(architecture=architecture), instances=tuple(instances))
    problem = architecture_problem(to)
    assert (said in problem) if said else problem is None


# Size and rate.


def test_ten_thousand_children_with_long_wildcards_stay_far_below_the_limit():
    to = target(tags={f"key{i}": "v" * 200 for i in range(40)})
    job = JobSpec(1, "align", {"sample": "s" * 4000}, 1, Shape(), {})
    tasks = tuple(
        Task(f"run1-s1-t{i}", job, to, ("true", "--target-jobs", "s" * 4000)) for i in range(10_000)
    )
    request = job_request(Submission("run1-s1", "n" * 100, to, tasks), context())
    assert request["arrayProperties"] == {"size": 10_000}
    assert len(json.dumps(request)) < MAX_BYTES / 2


def test_a_request_above_the_limit_is_refused_before_anything_is_sent(clients, sender):
    to = target(python="/p" * MAX_BYTES)
    with pytest.raises(SubmissionError, match=f"Batch takes {MAX_BYTES}"):
        sender.submit(one(to))
    assert not clients.batch.calls
    assert not clients.s3.objects


def test_all_runs_of_a_process_share_one_rate(clients, monkeypatch):
    taken = []
    first, second = (Submitter(clients, context()) for _ in range(2))
    monkeypatch.setattr(first._rate, "take", lambda: taken.append(1))
    first.submit(submission(1))
    second.submit(submission(1, number=2))
    assert len(taken) == 2


@pytest.mark.parametrize("seed", range(5))
def test_heavy_throttling_and_server_errors_lose_and_double_nothing(clients, sender, seed):
    """Six calls in ten are refused; half of the server's errors came after it had accepted."""
    import random

    dice = random.Random(seed)
    batch = clients.batch
    real = FakeBatch.submit_job

    def unreliable(**arguments):
        if dice.random() < 0.4:
            raise refusal("SubmitJob", "TooManyRequestsException", status=429)
        if dice.random() < 0.3:
            if dice.random() < 0.5:
                real(batch, **arguments)
            raise refusal("SubmitJob", "ServerException", status=500)
        return real(batch, **arguments)

    batch.submit_job = unreliable
    ids = {sender.submit(submission(1, number=number)).external_id for number in range(100)}
    assert len(ids) == len(batch.jobs) == 100


def test_patience_outlasts_a_minute_of_throttling_and_ends(clients):
    pauses = []
    throttled = refusal("SubmitJob", "TooManyRequestsException", status=429)
    clients.batch.errors["SubmitJob"] = [throttled] * 100
    sender = Submitter(clients, context(), sleep=pauses.append)
    with pytest.raises(SubmissionError) as caught:
        sender.submit(submission(2))
    assert caught.value.kind == FailureKind.LOST
    assert len(pauses) == len(PAUSES_S)
    assert sum(PAUSES_S) / 2 <= sum(pauses) <= sum(PAUSES_S)
    assert sum(PAUSES_S) > 100


def test_a_list_that_lags_does_not_double_a_job(clients, sender):
    answers = [{"jobSummaryList": []}] * 2
    batch = clients.batch
    real = batch.list_jobs
    batch.list_jobs = lambda **words: answers.pop() if answers else real(**words)

    def accepted_then_lost(**arguments):
        FakeBatch.submit_job(batch, **arguments)
        raise refusal("SubmitJob", "ServerException", status=500)

    batch.submit_job = accepted_then_lost
    assert sender.submit(submission(1)).external_id == "job0"
    assert len(batch.jobs) == 1


def unanswered(batch, times=1):
    """SubmitJob is done, but so often the answer is lost."""

    def submit_job(**arguments):
        nonlocal times
        answer = FakeBatch.submit_job(batch, **arguments)
        times -= 1
        if times >= 0:
            raise refusal("SubmitJob", "ServerException", status=500)
        return answer

    batch.submit_job = submit_job


def hide_jobs(batch):
    """Lists lag behind; → what ends that."""
    real = batch.list_jobs
    batch.list_jobs = lambda **words: {"jobSummaryList": []}
    return lambda: setattr(batch, "list_jobs", real)


@pytest.fixture
def doubles(clients):
    one = Doubles(clients, clock=lambda: one.now)
    one.now = 0.0
    return one


@pytest.fixture
def doubter(clients, doubles):
    fast = TokenBucket(10_000, burst=10_000)
    return Submitter(
        clients,
        context(),
        sleep=lambda _: None,
        rate=fast,
        doubles=doubles,
        clock=lambda: doubles.now,
    )


def alive(batch):
    return [i for i, job in batch.jobs.items() if job["status"] not in ("SUCCEEDED", "FAILED")]


def test_a_second_job_that_lists_showed_too_late_is_ended(clients, doubter, doubles, caplog):
    unanswered(clients.batch)
    show = hide_jobs(clients.batch)
    assert doubter.submit(submission(1)).external_id == "job1"
    doubles.now = 9.0
    show()
    doubles.end()
    assert alive(clients.batch) == ["job0", "job1"]
    doubles.now = 10.0
    clients.batch.errors["ListJobs"] = [refusal("ListJobs", "ServerException", status=500)]
    doubles.end()
    doubles.now = 30.0
    doubles.end()
    assert alive(clients.batch) == ["job1"]
    assert "job0 is ended" in caplog.text
    for doubles.now in (60.0, 120.0):
        doubles.end()
    calls = clients.batch.calls["ListJobs"]
    doubles.end()
    doubles.end(at_last=True)
    assert clients.batch.calls["ListJobs"] == calls


def test_a_job_that_shows_up_after_eleven_tries_is_the_submissions_own(clients, doubter, doubles):
    """Nothing is sent beside it, under this or another name."""
    unanswered(clients.batch, times=100)
    show = hide_jobs(clients.batch)
    with pytest.raises(SubmissionDelayed, match=r"has not said whether it took job .*align"):
        doubter.submit(submission(2))
    sent = clients.batch.calls["SubmitJob"]
    doubles.now = SURE_AFTER_S - 1.0
    with pytest.raises(SubmissionDelayed) as delay:
        doubter.submit(submission(2))
    assert not delay.value.note, "it was said"
    show()
    kept = doubter.submit(submission(2)).external_id
    doubles.end(at_last=True)
    assert {job_id.partition(":")[0] for job_id in alive(clients.batch)} == {kept}
    assert clients.batch.calls["SubmitJob"] == sent
    assert not doubter.in_doubt()


def test_as_long_as_batch_says_nothing_nothing_is_given_up(clients, doubter, doubles):
    batch = clients.batch
    unanswered(batch, times=100)
    silent = refusal("ListJobs", "ServerException", status=503)
    batch.errors["ListJobs"] = [silent] * 100
    pauses, notes = [], []
    for minutes in range(8):
        doubles.now = 600.0 * minutes
        with pytest.raises(SubmissionDelayed) as delay:
            doubter.submit(submission(1))
        pauses.append(delay.value.seconds)
        notes.append(delay.value.note)
    assert pauses == [2.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0, 15.0]
    assert [bool(note) for note in notes] == [True, True, *[False] * 6]
    assert batch.calls["SubmitJob"] == len(batch.jobs) == 1
    batch.errors["ListJobs"].clear()
    assert doubter.submit(submission(1)).external_id == "job0"
    assert batch.calls["SubmitJob"] == 1


def test_a_job_of_a_submission_that_was_given_up_is_ended(clients, doubter, doubles):
    """It is given up only where lists do not show it some time after the last call."""
    unanswered(clients.batch, times=100)
    show = hide_jobs(clients.batch)
    with pytest.raises(SubmissionDelayed):
        doubter.submit(submission(2))
    doubles.now = SURE_AFTER_S
    with pytest.raises(SubmissionError, match="SubmitJob failed 12 times") as caught:
        doubter.submit(submission(2))
    assert caught.value.kind == FailureKind.LOST
    show()
    doubles.end(at_last=True)
    assert not alive(clients.batch)


def test_a_look_that_is_refused_leaves_the_doubt(clients, doubter, doubles):
    """A role without batch:ListJobs: the job may be there."""
    unanswered(clients.batch)
    denied = refusal("ListJobs", "AccessDeniedException", "no", 403)
    clients.batch.errors["ListJobs"] = [denied, denied]
    for words in ("has not said whether", "AccessDenied"):
        with pytest.raises(SubmissionDelayed, match=words):
            doubter.submit(submission(1))
    assert doubter.submit(submission(1)).external_id == "job0"
    assert clients.batch.calls["SubmitJob"] == 1


def test_a_refusal_after_a_doubt_is_asked_for_again_once_no_job_came_of_it(
    clients, doubter, doubles
):
    clients.batch.errors["SubmitJob"] = [
        refusal("SubmitJob", "ServerException", status=500),
        refusal("SubmitJob", "ClientException", "disabled"),
        refusal("SubmitJob", "ClientException", "disabled"),
    ]
    with pytest.raises(SubmissionDelayed):
        doubter.submit(submission(1))
    doubles.now = SURE_AFTER_S
    with pytest.raises(SubmissionError, match="disabled") as caught:
        doubter.submit(submission(1))
    assert caught.value.kind == FailureKind.CONFIGURATION


def test_what_was_sent_anew_with_another_definition_goes_on(clients, doubter, doubles):
    doubter.submit(submission(1))
    clients.batch.definitions.clear()
    arn = "arn:aws:batch:eu-west-1:123456789012:job-definition/new:2"
    clients.batch.register_job_definition = lambda **words: {"jobDefinitionArn": arn}
    inactive = refusal("SubmitJob", "ClientException", "not active")
    clients.batch.errors["SubmitJob"] = [
        refusal("SubmitJob", "ServerException", status=500),
        inactive,
        inactive,
    ]
    with pytest.raises(SubmissionDelayed):
        doubter.submit(submission(1, number=2))
    doubles.now = SURE_AFTER_S
    assert doubter.submit(submission(1, number=2)).external_id == "job1"
    doubles.end(at_last=True)
    assert alive(clients.batch) == ["job0", "job1"]


def test_a_plain_look_that_finds_the_job_leaves_no_doubt(clients, doubter, doubles):
    unanswered(clients.batch)
    doubter.submit(submission(1))
    calls = clients.batch.calls["ListJobs"]
    doubles.end(at_last=True)
    assert clients.batch.calls["ListJobs"] == calls


def test_an_answer_that_names_no_job_is_no_answer(clients, sender):
    """As of a proxy on the way, after which the job may be there or not."""
    real = clients.batch.submit_job
    answers = [{"message": "<html>"}]
    clients.batch.submit_job = lambda **words: real(**words) and answers.pop()
    assert sender.submit(submission(1)).external_id == "job0"
    assert len(clients.batch.jobs) == 1


# Job definitions.


def test_a_definition_that_was_deregistered_since_is_renewed_at_once(clients, sender):
    sender.submit(submission(1))
    clients.batch.definitions.clear()
    clients.batch.errors["SubmitJob"] = [refusal("SubmitJob", "ClientException", "not active")]
    arn = "arn:aws:batch:eu-west-1:123456789012:job-definition/new:2"
    real = clients.batch.register_job_definition
    clients.batch.register_job_definition = lambda **words: {
        **real(**words),
        "jobDefinitionArn": arn,
    }
    sender.submit(submission(1, number=2))
    last = [request for call, request in clients.batch.requests if call == "SubmitJob"][-1]
    assert last["jobDefinition"] == arn


def test_a_refusal_for_another_reason_is_that_submissions_failure_only(clients, sender):
    sender.submit(submission(1))
    clients.batch.errors["SubmitJob"] = [refusal("SubmitJob", "ClientException", "disabled")]
    with pytest.raises(SubmissionError, match="disabled"):
        sender.submit(submission(1, number=2))
    sender.submit(submission(1, number=3))
    assert clients.batch.calls["RegisterJobDefinition"] == 1
    assert len(clients.batch.jobs) == 2


def test_two_threads_of_one_run_can_submit_at_once(clients, sender):
    threads = [
        threading.Thread(target=sender.submit, args=(submission(1, number=number),))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(clients.batch.jobs) == 8


# The call of a controller that is gone.


def sent_before(clients, sent, times=1):
    """SubmitJobs whose answers nobody has."""
    request = job_request(sent, context())
    return [clients.batch.submit_job(**request)["jobId"] for _ in range(times)]


def test_a_job_of_an_earlier_controller_is_found_by_its_name(clients, sender):
    sent = one(target(), count=3)
    (job_id,) = sent_before(clients, sent)
    found = sender.find(sent)
    assert found.external_id == job_id
    assert found.task_external_ids["run1-s1-t2"] == f"{job_id}:2"
    assert len(clients.batch.jobs) == 4, "nothing is sent"


def test_that_there_is_none_is_believed_after_a_while_only(clients, doubter, doubles):
    """However long ago it was written down: it may have been tried again until the controller's end."""
    with pytest.raises(SubmissionDelayed) as delay:
        doubter.find(one(target()))
    assert delay.value.seconds == UNANSWERED_LOOK_S
    doubles.now = SURE_AFTER_S - 0.5
    with pytest.raises(SubmissionDelayed) as delay:
        doubter.find(one(target()))
    assert 0 < delay.value.seconds <= 0.5
    doubles.now = SURE_AFTER_S
    assert doubter.find(one(target())) is None


def test_silence_is_no_answer(clients, doubter, doubles):
    clients.batch.errors = {"ListJobs": [lost_answer(), lost_answer()]}
    for doubles.now in (0.0, 1e6):
        with pytest.raises(SubmissionDelayed, match=r"does not say whether job .*align"):
            doubter.find(one(target()))


def test_of_a_submission_that_was_sent_twice_one_job_is_left(clients, doubter, doubles):
    sent = one(target())
    first, second = sent_before(clients, sent, times=2)
    kept = doubter.find(sent).external_id
    doubles.now = 1000.0
    doubles.end()
    ended = {job_id for job_id, job in clients.batch.jobs.items() if job["status"] == "FAILED"}
    assert {kept} | ended == {first, second} and kept not in ended


def test_a_job_that_shows_up_after_it_was_called_absent_is_ended(clients, doubter, doubles):
    sent = one(target())
    with pytest.raises(SubmissionDelayed):
        doubter.find(sent)
    doubles.now = 60.0
    assert doubter.find(sent) is None
    (late,) = sent_before(clients, sent)
    doubles.now = 1000.0
    doubles.end()
    assert clients.batch.jobs[late]["status"] == "FAILED"
