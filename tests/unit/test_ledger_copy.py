"""The ledger's copy in S3: nothing is sent before it is there, one controller at a time, few calls."""

import json
import os
from collections import Counter
from contextlib import closing

import boto3
import pytest
from moto import mock_aws

from snakemake_executor_takeda import ledger_copy
from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.ledger import Ledger, last_run
from snakemake_executor_takeda.ledger_copy import LedgerCopy, workflow_key
from snakemake_executor_takeda.values import (
    Accepted,
    FailureKind,
    JobSpec,
    Outcome,
    Shape,
    Submission,
    TakedaError,
    Target,
    Task,
)

RUN = "20260101-000000-abcdef"
HERE = Target("here", "fake")
PREFIX = "s3://bucket/p/.takeda/ledger/Snakefile"


class Counted:
    """A client that is shared, as a client takes a second to make, and its calls."""

    def __init__(self, client):
        self._client, self.calls = client, Counter()

    def __getattr__(self, name):
        def call(*arguments, **words):
            self.calls[name] += 1
            return getattr(self._client, name)(*arguments, **words)

        return call


@pytest.fixture(scope="module")
def shared_client():
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("s3")
        client.create_bucket(Bucket="bucket")
        yield client


@pytest.fixture(autouse=True)
def s3(shared_client, monkeypatch):
    for one in shared_client.list_objects_v2(Bucket="bucket").get("Contents", []):
        shared_client.delete_object(Bucket="bucket", Key=one["Key"])
    monkeypatch.setattr(ledger_copy, "client", lambda name, **words: Counted(shared_client))
    return shared_client


def objects(s3):
    found = s3.list_objects_v2(Bucket="bucket", Prefix="p/").get("Contents", [])
    return sorted(one["Key"].partition("Snakefile/")[2] for one in found)


def submission(number, tasks=2):
    def task(n):
        job = JobSpec(n, "r", {}, 1, Shape(), {}, rules=("r",), identity=f"j{number}-{n}")
        return Task(f"{RUN}-t{100 * number + n}", job, HERE)

    return Submission(f"{RUN}-s{number}", f"name{number}", HERE, tuple(map(task, range(tasks))))


def accepted(one):
    return Accepted("p", {task.task_id: f"p:{i}" for i, task in enumerate(one.tasks)})


class Machine:
    """A directory with a ledger and a copy of it; `now` is its clock."""

    def __init__(self, folder):
        self.folder, self.now, self.told = folder, 0.0, []
        folder.mkdir(exist_ok=True)
        self.path = folder / "ledger.sqlite"
        self.copy = LedgerCopy(PREFIX, self.path, folder, self.told.append, lambda: self.now)
        self.ledger = None

    def begin(self):
        line = self.copy.restore()
        known = last_run(self.path)
        self.ledger = Ledger(self.path, known.run_id if known else RUN)
        self.copy.hold()
        self.ledger.begin(self.folder, self.folder / "s", "s3://bucket/p/.takeda/r")
        self.copy.begin(RUN)
        self.ledger.follower = self.copy
        return line

    def open_tasks(self):
        found = self.ledger.remembered({"here": HERE})
        return {task_id for one in found for task_id in one.open_task_ids}

    def die(self):
        """As by kill -9, where nothing is written any more."""
        self.ledger.follower = None
        self.copy._step = lambda *, at_last: None
        self.copy._is_held = False
        self.end()

    def end(self, state=None):
        if state:
            self.ledger.finish(state)
        self.ledger.close()
        self.copy.close()


@pytest.fixture
def machine(tmp_path):
    made = []

    def make(name):
        made.append(Machine(tmp_path / name))
        return made[-1]

    yield make
    for one in made:
        one.copy._is_held = False
        one.copy.close()


def test_an_intent_is_in_s3_before_anything_is_sent_and_is_found_elsewhere(machine, s3):
    one = machine("a")
    one.begin()
    one.ledger.intend(submission(1))
    assert f"submissions/{RUN}/{RUN}-s1.json.gz" in objects(s3)
    one.die()
    other = machine("b")
    _as_if_the_process_had_ended(s3)
    line = other.begin()
    assert f"what run {RUN} has sent" in line and "1 submissions, 2 tasks" in line
    (found,) = other.ledger.remembered({"here": HERE})
    assert found.accepted is None and found.submission.name == "name1"
    assert other.ledger.numbers() == (101, 1)


def _as_if_the_process_had_ended(s3, **changes):
    """The holder is one that this machine knows to be gone."""
    key = "p/.takeda/ledger/Snakefile/head.json"
    head = json.loads(s3.get_object(Bucket="bucket", Key=key)["Body"].read())
    head["holder"] |= {"process_began": 1.0, **changes}
    s3.put_object(Bucket="bucket", Key=key, Body=json.dumps(head).encode())


def test_answers_ends_and_the_place_in_an_array_come_along(machine, s3):
    one = machine("a")
    one.begin()
    first, second = submission(1, tasks=12), submission(2)
    for sent in (first, second):
        one.ledger.intend(sent)
        one.ledger.accept(sent, accepted(sent))
    one.ledger.end({first.tasks[3].task_id: Outcome(wall_seconds=1.0)})
    one.ledger.end({second.tasks[0].task_id: Outcome(FailureKind.INTERRUPTED, reason="spot")})
    one.end("detached")
    assert objects(s3) == ["head.json", f"runs/{RUN}.json.gz"], "folded"
    other = machine("b")
    other.begin()
    (again, _) = other.ledger.remembered({"here": HERE})
    assert again.accepted == accepted(first)
    assert [task.task_id for task in again.submission.tasks] == [t.task_id for t in first.tasks]
    assert len(other.open_tasks()) == 12
    assert set(other.ledger.ended_well()) == {"j1-3"}
    assert set(other.ledger.histories()) == {"j2-0"}


def test_what_was_written_after_the_fold_counts_and_what_ended_before_stays_ended(machine, s3):
    one = machine("a")
    one.begin()
    first, second = submission(1), submission(2)
    one.ledger.intend(first)
    one.ledger.accept(first, accepted(first))
    one.copy._put_submission(first.submission_id)
    old = s3.get_object(
        Bucket="bucket", Key=f"p/.takeda/ledger/Snakefile/submissions/{RUN}/{RUN}-s1.json.gz"
    )["Body"].read()
    one.ledger.end({first.tasks[0].task_id: Outcome()})
    one.copy._fold()
    # It comes late: the fold had it, and knew more.
    s3.put_object(
        Bucket="bucket",
        Key=f"p/.takeda/ledger/Snakefile/submissions/{RUN}/{RUN}-s1.json.gz",
        Body=old,
    )
    one.ledger.intend(second)
    one.die()
    _as_if_the_process_had_ended(s3)
    other = machine("b")
    other.begin()
    assert other.open_tasks() == {
        first.tasks[1].task_id,
        *(task.task_id for task in second.tasks),
    }


@pytest.mark.parametrize("state", ["ended", "cancelled"])
def test_of_a_run_that_ended_nothing_is_left_but_its_head(machine, s3, state):
    one = machine("a")
    one.begin()
    one.ledger.intend(submission(1))
    one.end(state)
    assert objects(s3) == ["head.json"]
    other = machine("b")
    assert other.copy.restore() is None
    assert last_run(other.path) is None


def test_a_directory_that_knows_the_run_goes_by_its_own_ledger(machine, s3):
    one = machine("a")
    one.begin()
    one.ledger.intend(submission(1))
    one.die()
    again = machine("a")
    assert again.begin() is None
    assert len(again.open_tasks()) == 2


def test_what_was_cancelled_in_its_directory_does_not_come_back(machine):
    one = machine("a")
    one.begin()
    one.ledger.intend(submission(1))
    one.end("detached")
    with closing(Ledger(one.path, RUN)) as cancelling:
        cancelling.finish("cancelled")
    again = machine("a")
    assert again.copy.restore() is None
    assert last_run(again.path).state == "cancelled"


def test_two_machines_do_not_control_one_workflow(machine, monkeypatch, s3):
    one = machine("a")
    one.begin()
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(ledger_copy.socket, "gethostname", lambda: "elsewhere")
        with pytest.raises(
            TakedaError, match=rf"process {os.getpid()} on .* controls this .* in 1"
        ):
            machine("b").copy.restore()
        elsewhere.setattr(ledger_copy, "_age", lambda answer: 121.0)
        late = machine("c")
        late.begin()
    # The first one was only slow: it sends nothing more.
    one.copy._put_head()
    with pytest.raises(SubmissionError, match=r"another controller may be at this run.*elsewhere"):
        one.ledger.intend(submission(1))
    assert f"submissions/{RUN}/{RUN}-s1.json.gz" not in objects(s3)


def test_of_two_that_start_at_once_one_is_refused(machine, s3):
    one, other = machine("a"), machine("b")
    for copy in (one.copy, other.copy):
        assert copy.restore() is None
    one.copy.hold()
    head = other.copy._read_head
    other.copy._read_head = lambda: None
    other.copy._etag = None
    with pytest.raises(TakedaError, match="another controller of this workflow was faster"):
        other.copy.hold()
    assert head()["holder"]["token"] == one.copy._token


def test_its_own_write_without_an_answer_is_known_as_its_own(machine, s3):
    one = machine("a")
    one.begin()
    etag = one.copy._etag
    one.copy._run = {**one.copy._run, "ended_at": 1.0}  # an ETag is of the content
    one.copy._put_head()
    assert one.copy._etag != etag
    one.copy._etag = etag  # the answer was lost, and the client sent it once more
    assert one.copy._put_head()
    one.ledger.intend(submission(1))


def test_where_s3_takes_no_intent_nothing_may_be_sent(machine, s3):
    one = machine("a")
    one.begin()
    one.copy._s3.put_object = _refusing
    with pytest.raises(SubmissionError, match=r"nothing was sent: .*SlowDown") as refused:
        one.ledger.intend(submission(1))
    assert refused.value.kind == FailureKind.LOST, "so that it is tried again"


def _refusing(**arguments):
    from botocore.exceptions import ClientError

    raise ClientError({"Error": {"Code": "SlowDown"}}, "PutObject")


def test_a_controller_that_s3_did_not_hear_of_for_long_sends_nothing(machine, s3):
    one = machine("a")
    one.begin()
    one.copy._step = lambda *, at_last: None
    one.now = ledger_copy.SURE_SECONDS + 1
    one.ledger.intend(submission(1))  # renewed on the way
    one.now += ledger_copy.SURE_SECONDS + 1
    one.copy._s3.put_object = _refusing
    with pytest.raises(SubmissionError, match="S3 took no word of this controller for 80 s"):
        one.ledger.intend(submission(2))
    assert "is behind" in one.told[0]


def test_an_end_that_cannot_be_written_is_told_once_and_no_tragedy(machine, s3):
    one = machine("a")
    one.begin()
    one.ledger.intend(submission(1))
    one.copy._s3.put_object = _refusing
    one.ledger.accept(submission(1), accepted(submission(1)))
    one.ledger.end({f"{RUN}-t100": Outcome()})
    one.end("detached")
    assert len(one.told) == 1 and "SlowDown" in one.told[0]


def test_calls_grow_with_submissions_not_with_jobs(machine):
    def calls(tasks, jobs):
        one = machine(f"m{tasks}")
        one.begin()
        for number in range(1, jobs // tasks + 1):
            sent = submission(number, tasks)
            one.ledger.intend(sent)
            one.ledger.accept(sent, accepted(sent))
            one.ledger.end({task.task_id: Outcome() for task in sent.tasks})
        one.end("ended")
        return one.copy._s3.calls

    few = calls(tasks=50, jobs=100)
    many = calls(tasks=5, jobs=100)
    assert few["put_object"] <= 2 * 2 + 3, "before and after each call; held, begun, let go"
    assert many["put_object"] <= 2 * 20 + 3
    assert many["delete_objects"] == 1 and many["get_object"] <= 4


def test_a_bucket_that_is_not_there_is_one_clear_error(tmp_path):
    copy = LedgerCopy("s3://nowhere/x", tmp_path / "l", tmp_path, print)
    with pytest.raises(
        TakedaError, match=r"--takeda-ledger-copy\) cannot be kept below s3://nowhere"
    ):
        copy.restore()


def test_a_copy_of_a_later_version_is_left_alone(machine, s3):
    key = "p/.takeda/ledger/Snakefile/head.json"
    s3.put_object(Bucket="bucket", Key=key, Body=b'{"schema": 999}')
    with pytest.raises(TakedaError, match="of a later version of this plugin"):
        machine("a").copy.restore()


def test_two_runs_that_did_not_end_are_both_named(machine, s3):
    one = machine("a")
    one.begin()
    one.end("detached")
    other = machine("b")
    with closing(Ledger(other.path, "20250101-000000-aaaaaa")) as ledger:
        ledger.begin(other.folder, other.folder, None)
    with pytest.raises(TakedaError, match=rf"20250101-000000-aaaaaa .*neither did run {RUN}"):
        other.copy.restore()


@pytest.mark.parametrize(
    ("snakefile", "key"),
    [
        ("Snakefile", "Snakefile"),
        ("workflow/Snakefile", "workflow_Snakefile"),
        ("../x y", ".._x_y"),
    ],
)
def test_a_clone_has_the_same_key(tmp_path, snakefile, key):
    assert workflow_key(tmp_path / "here" / snakefile, tmp_path / "here") == key
