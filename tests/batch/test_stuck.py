"""Jobs that stay RUNNABLE: said once, in one line, and given up as the policy says."""

from dataclasses import replace

import pytest
from batch_fakes import FakeClients, context, refusal, submission, target, watch

from snakemake_executor_takeda.backends.batch.polling import Poller
from snakemake_executor_takeda.backends.batch.submitting import Submitter
from snakemake_executor_takeda.values import FailureKind

MINUTE = 60.0
NEVER_FITS = "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - It asks for too much."
CAPACITY = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - There is none."


class Scene:
    """A run on a queue `q` whose minutes pass at will."""

    def __init__(self):
        self.clients = FakeClients()
        self.batch = self.clients.batch
        self.now = 0.0
        self.poller = Poller(self.clients, clock=lambda: self.now, sleep=lambda _: None)
        self.active = {}
        self.notes, self.ended, self.started = [], {}, []
        self.batch.queues["q"]["computeEnvironmentOrder"] = [
            {"order": 1, "computeEnvironment": "ce"}
        ]
        self.environment()

    def environment(self, maximum=16, desired=0, **more):
        resources = {"maxvCpus": maximum, "desiredvCpus": desired}
        self.batch.environments["ce"] = {
            "computeEnvironmentName": "ce",
            "state": "ENABLED",
            "status": "VALID",
            "computeResources": resources,
            **more,
        }

    def submit(self, count, to=None, number=1):
        one = submission(count, number, to=to or target())
        accepted = Submitter(self.clients, context()).submit(one)
        self.active[accepted.external_id] = watch(one, accepted)
        self.poll()
        return accepted.external_id

    def at(self, minute):
        """Poll each ten seconds until then; → what was noted meanwhile."""
        before = len(self.notes)
        while self.now < minute * MINUTE:
            self.now = min(self.now + 10, minute * MINUTE)
            self.poll()
        return self.notes[before:]

    def poll(self):
        for update in self.poller.poll(list(self.active.values())):
            if update.note:
                self.notes.append(update.note)
            elif update.outcome:
                self.ended[update.task_id] = update.outcome
            else:
                self.started.append(update.task_id)
        for job_id, one in list(self.active.items()):
            still_open = one.open_task_ids - self.ended.keys()
            self.active[job_id] = replace(one, open_task_ids=still_open)
            if not still_open:
                del self.active[job_id]

    def set(self, job_id, status, **detail):
        self.batch.jobs[job_id] |= {"status": status, **detail}

    def kinds(self):
        return [outcome.kind for outcome in self.ended.values()]


@pytest.fixture
def scene():
    return Scene()


def test_it_is_said_once_in_one_line(scene):
    scene.submit(3)
    assert scene.at(9.9) == []
    (note,) = scene.at(10)
    assert note == (
        "RUNNABLE for 10 min: 3 of 3 align on target spot (queue q, job0): no instance comes "
        "although there is room for more (ce 0 of 16 vCPUs). See the compute environment's instances, "
        "subnets and service quotas in the console."
    )
    assert scene.at(300) == []
    assert not scene.ended, "without a limit and a fallback it is waited for"


def test_the_time_is_the_targets(scene):
    scene.submit(1, target(runnable_notice=2))
    assert scene.at(1.9) == []
    assert len(scene.at(2)) == 1


def test_a_new_reason_is_said_again(scene):
    scene.submit(3)
    scene.at(10)
    scene.environment(state="DISABLED")
    assert scene.at(19.9) == []
    (note,) = scene.at(20)
    assert "ce is DISABLED" in note
    assert "update-compute-environment" in note
    scene.set("job0:1", "RUNNABLE", statusReason=CAPACITY)
    (note,) = scene.at(30)
    assert "Batch says CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - There is none" in note


def test_with_a_fallback_it_is_given_up_after_half_an_hour(scene):
    to = replace(target(), fallback="od")
    scene.submit(120, to)
    (note,) = scene.at(10)
    assert note.endswith("After 30 min it goes to od.")
    assert scene.at(29) == []
    assert not scene.ended
    assert scene.at(31) == [], "the reason was said"
    assert scene.kinds() == [FailureKind.NO_CAPACITY] * 120
    assert scene.batch.calls["CancelJobs"] == 3
    (reason,) = {outcome.reason for outcome in scene.ended.values()}
    assert "RUNNABLE for 30 min: no instance comes" in reason


def test_a_single_job_is_given_up_at_its_own_limit(scene):
    scene.submit(1, target(runnable_limit=15))
    (note,) = scene.at(10)
    assert note.endswith("After 15 min it is given up.")
    scene.at(14.9)
    assert not scene.ended
    scene.at(16)
    assert scene.kinds() == [FailureKind.NO_CAPACITY]


def test_a_limit_shorter_than_the_notice_counts(scene):
    scene.submit(1, target(runnable_notice=10, runnable_limit=3))
    scene.at(2.9)
    assert not scene.ended
    scene.at(3)
    scene.at(3.1)
    assert scene.kinds() == [FailureKind.NO_CAPACITY]


def test_children_that_have_started_go_on(scene):
    scene.submit(4, target(runnable_limit=15))
    scene.at(14)
    real = scene.batch.list_jobs

    def list_jobs(**arguments):
        page = real(**arguments)
        if arguments.get("jobStatus") == "RUNNABLE" and "maxResults" not in arguments:
            # Between the list and the cancel.
            scene.set("job0:2", "RUNNING")
        return page

    scene.batch.list_jobs = list_jobs
    scene.at(16)
    assert scene.kinds() == [FailureKind.NO_CAPACITY] * 3
    assert scene.batch.jobs["job0:2"]["status"] == "RUNNING"
    scene.batch.end("job0:2")
    scene.at(17)
    assert scene.ended["run1-s1-t2"].succeeded


def test_what_never_fits_fails_without_a_limit_and_says_so_first(scene):
    scene.submit(2)
    for index in range(2):
        scene.set(f"job0:{index}", "RUNNABLE", statusReason=NEVER_FITS)
    (note,) = scene.at(10)
    assert "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - It asks for too much" in note
    assert note.endswith("Unless that is mended within 10 min it fails.")
    assert scene.at(19.9) == []
    assert not scene.ended
    scene.at(21)
    assert scene.kinds() == [FailureKind.CONFIGURATION] * 2
    assert "It asks for too much" in scene.ended["run1-s1-t0"].reason
    assert scene.ended["run1-s1-t0"].advice.startswith(
        "ask for less in the rule, or raise maxvCpus"
    )


def test_what_was_mended_goes_on(scene):
    scene.submit(1)
    scene.set("job0", "RUNNABLE", statusReason=NEVER_FITS)
    scene.at(10)
    scene.set("job0", "RUNNABLE", statusReason="")
    scene.at(60)
    assert not scene.ended
    scene.set("job0", "RUNNING")
    scene.at(61)
    assert scene.started == ["run1-s1-t0"]


def test_a_queue_full_of_the_runs_own_jobs_is_not_stuck(scene):
    to = replace(target(), fallback="od")
    scene.submit(2, to)
    scene.submit(50, to, number=2)
    for index in range(2):
        scene.set(f"job0:{index}", "RUNNING")
    assert scene.at(600) == []
    assert not scene.ended


def test_but_a_job_that_never_fits_is_found_behind_them(scene):
    scene.submit(2)
    job_id = scene.submit(1, number=2)
    scene.set("job0:0", "RUNNING")
    scene.set(job_id, "RUNNABLE", statusReason=NEVER_FITS)
    (note,) = scene.at(15)
    assert f"(queue q, {job_id})" in note
    scene.at(25)
    assert list(scene.ended) == ["run1-s2-t0"]


def test_progress_anywhere_on_the_queue_counts(scene):
    to = replace(target(), fallback="od")
    scene.submit(4, to)
    for number in range(2, 10):
        job_id = scene.submit(1, to, number=number)
        scene.at(scene.now / MINUTE + 8)
        scene.batch.end(job_id)
        scene.poll()
    assert scene.notes == []
    assert scene.at(scene.now / MINUTE + 11)


def test_rights_it_lacks_make_the_reason_poorer_only(scene):
    for call in ("DescribeJobQueues", "DescribeComputeEnvironments", "GetJobQueueSnapshot"):
        scene.batch.errors[call] = [refusal(call, "AccessDeniedException", status=403)]
    scene.submit(1)
    (note,) = scene.at(10)
    assert "Batch gives no reason" in note


def test_its_place_in_the_queue_is_said(scene):
    job_id = scene.submit(3)
    scene.batch.front = ["other", f"{job_id}:0"]
    (note,) = scene.at(10)
    assert "number 2 in its queue" in note


def test_a_queue_is_asked_about_once_for_all_that_waits_there(scene):
    for number in range(30):
        scene.submit(2, number=number)
    scene.batch.calls.clear()
    assert len(scene.at(10)) == 30
    assert scene.batch.calls["DescribeComputeEnvironments"] == 1
    assert scene.batch.calls["GetJobQueueSnapshot"] == 1


def test_without_the_right_to_give_up_that_is_said(scene):
    scene.submit(1, target(runnable_limit=10))
    scene.batch.errors["CancelJobs"] = [refusal("CancelJobs", "AccessDeniedException", "no", 403)]
    _, note = scene.at(10)
    assert "needs batch:CancelJob" in note
    assert not scene.ended


def test_a_limit_holds_for_what_never_fits_too(scene):
    job_id = scene.submit(1, target(runnable_limit=12))
    scene.set(job_id, "RUNNABLE", statusReason=NEVER_FITS)
    scene.at(11.8)
    assert not scene.ended
    scene.at(12.5)
    assert scene.kinds() == [FailureKind.CONFIGURATION]


def test_after_progress_a_reason_is_said_again_before_anything_follows(scene):
    scene.submit(3)
    for index in range(3):
        scene.set(f"job0:{index}", "RUNNABLE", statusReason=NEVER_FITS)
    assert len(scene.at(10)) == 1
    scene.batch.end("job0:0")
    scene.at(15)
    assert len(scene.at(27)) == 1
    assert len(scene.ended) == 1


def test_what_is_only_sent_moves_no_queue(scene):
    """Others of the run that join the wait, and those given up in it, hold nobody back."""
    to = replace(target(), fallback="od")
    waits = {}
    for number in range(1, 13):
        scene.submit(1, to, number=number)
        waits[f"run1-s{number}-t0"] = scene.now
        scene.at(scene.now / MINUTE + 8)
        for task_id in scene.ended.keys() & waits.keys():
            waits[task_id] = scene.now - waits[task_id]
            assert waits.pop(task_id) <= 39 * MINUTE
    assert "RUNNABLE for 10 min: align on target spot (queue q, job0)" in scene.notes[0]
    assert len(scene.ended) >= 8
    assert set(scene.kinds()) == {FailureKind.NO_CAPACITY}


def test_the_limit_that_a_fallback_brings_is_sooner_than_a_long_notice(scene):
    scene.submit(1, replace(target(runnable_notice=60), fallback="od"))
    scene.at(29.9)
    assert not scene.ended
    scene.at(30.5)
    assert scene.kinds() == [FailureKind.NO_CAPACITY]


def test_what_is_short_is_said_in_seconds(scene):
    scene.submit(1, replace(target(runnable_notice=0.5, runnable_limit=1.5), fallback="od"))
    (note,) = scene.at(2)
    assert note.startswith("RUNNABLE for 30 s: ")
    assert note.endswith(" After 90 s it goes to od.")
    assert "RUNNABLE for 90 s" in scene.ended["run1-s1-t0"].reason
