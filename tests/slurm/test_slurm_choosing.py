"""What is known of the cluster, and when it is looked at; targets' words about partitions."""

import threading

import pytest
from pydantic import ValidationError
from slurm_builders import FakeSlurm, context, submission, target

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.slurm import SlurmOptions, shape_key_resources
from snakemake_executor_takeda.backends.slurm import slurm_backend as module
from snakemake_executor_takeda.backends.slurm.arguments import job_request
from snakemake_executor_takeda.backends.slurm.choosing import (
    REFRESH_SECONDS,
    Chooser,
    partitions_of,
    wish_of,
)
from snakemake_executor_takeda.backends.slurm.clients import command_line
from snakemake_executor_takeda.backends.slurm.clients.base import SlurmSilent
from snakemake_executor_takeda.backends.slurm.facts import NodeFacts, PartitionFacts
from snakemake_executor_takeda.values import Shape, TakedaError, Target


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def fake():
    """Partition `small` with nodes of 4 CPUs, `large` with 64."""
    slurm = FakeSlurm()
    slurm.looks = 0
    slurm.nodes_are = [
        NodeFacts("s1", ("IDLE",), 4, 8000, partitions=("small",)),
        NodeFacts("l1", ("IDLE",), 64, 256_000, partitions=("large",)),
    ]
    slurm.partitions_are = [
        PartitionFacts("small", is_default=True, total_nodes=1, max_time_min=60),
        PartitionFacts("large", total_nodes=1),
    ]
    return slurm


def chosen(fake, sent, chooser=None):
    request = job_request(sent, sent.target.options, "/project", "/logs")
    return (chooser or Chooser(fake)).choose(request, sent.tasks[0].job, sent.target)


@pytest.mark.parametrize(
    ("partition", "resources", "shape", "expected"),
    [
        (None, {}, Shape(), "small"),
        (None, {}, Shape(cpus=8), "large"),
        ("default", {}, Shape(), "small"),
        ("large", {}, Shape(), "large"),
        ("large,small", {}, Shape(), "large,small"),
        ("small,large", {}, Shape(cpus=8), "large"),
        (("small", "large"), {}, Shape(cpus=8), "large"),
        (("large", "small"), {}, Shape(), "small"),
        ("small", {"slurm_partition": "large"}, Shape(), "large"),
        (None, {"slurm_partition": "small, large"}, Shape(), "small,large"),
        (("small",), {"slurm_partition": "large"}, Shape(cpus=8), "large"),
    ],
)
def test_partitions(fake, partition, resources, shape, expected):
    sent = submission(shape=shape, on=target(partition=partition), **resources)
    assert chosen(fake, sent).request.partition == expected


def test_default_is_not_left_for_a_larger_one(fake):
    with pytest.raises(SubmissionError, match="at most 4 CPUs, and it asks 8"):
        chosen(fake, submission(shape=Shape(cpus=8), on=target(partition="default")))


def test_what_a_rule_says_of_instances_comes_first():
    on = Target("hpc", "slurm", instances=("c7i",), efa=True, options=SlurmOptions())
    wish = wish_of(submission(on=on).tasks[0].job, on)
    assert (wish.instances, wish.efa, wish.choices) == (("c7i",), True, ())
    wish = wish_of(submission(on=on, instance_type="r7i.large").tasks[0].job, on)
    assert wish.instances == ("r7i.large",)
    assert "instance_type" in shape_key_resources


@pytest.mark.parametrize("bad", ["", "a\nb", ["a,b"], ["a b"], [""], 7, ["\x1b[0m"]])
def test_hostile_partitions_of_a_target(bad):
    with pytest.raises(ValidationError):
        SlurmOptions(partition=bad)


def test_partitions_that_a_target_names():
    assert partitions_of(SlurmOptions()) == []
    assert partitions_of(SlurmOptions(partition="default")) == []
    assert partitions_of(SlurmOptions(partition="a, b,")) == ["a", "b"]
    assert partitions_of(SlurmOptions(partition=["a", "b"])) == ["a", "b"]


def test_a_partition_that_is_not_there_stops_the_run(fake):
    chooser = Chooser(fake)
    chooser.check([target(partition="small,large"), target(partition=["large"]), target()])
    with pytest.raises(
        TakedaError, match=r"target hpc: .*no partition 'smal'\. Did you mean 'small'"
    ):
        chooser.check([target(partition=["large", "smal"])])


def test_the_cluster_is_looked_at_once_and_then_now_and_then(fake):
    clock = Clock()
    looks = []
    partitions = fake.partition_details
    fake.partition_details = lambda: looks.append(clock.now) or partitions()
    chooser = Chooser(fake, clock)
    chooser.look_again()
    assert looks == []
    for now in (0.0, 1.0, REFRESH_SECONDS - 1, REFRESH_SECONDS, REFRESH_SECONDS + 1):
        clock.now = now
        assert chooser.cluster
        chooser.look_again()
    assert looks == [0.0, REFRESH_SECONDS]


def test_what_has_come_and_gone_is_seen(fake):
    clock = Clock()
    chooser = Chooser(fake, clock)
    assert chosen(fake, submission(), chooser).request.partition == "small"
    fake.nodes_are[0] = NodeFacts("s1", ("DOWN",), 4, 8000, partitions=("small",), reason="disk")
    clock.now = REFRESH_SECONDS
    chooser.look_again()
    assert chosen(fake, submission(), chooser).request.partition == "large"


def test_the_limit_of_arrays_stays_as_it_was_at_the_start(fake):
    clock = Clock()
    chooser = Chooser(fake, clock)
    assert chooser.array_limit(target()) == 1000
    fake.settings = lambda: {"MaxArraySize": "11"}
    clock.now = REFRESH_SECONDS
    chooser.look_again()
    assert chooser.array_limit(target()) == 1000


def test_silence_leaves_what_was_seen(fake):
    clock = Clock()
    chooser = Chooser(fake, clock)
    assert chooser.cluster
    fake.nodes_are = SlurmSilent("no answer")
    clock.now = 2 * REFRESH_SECONDS
    chooser.look_again()
    assert chosen(fake, submission(), chooser).request.partition == "small"


def test_a_look_that_takes_long_holds_up_nobody(fake):
    """The dispatcher, which serves other backends too, asks for limits and places all the while."""
    clock, asked, answer = Clock(), threading.Event(), threading.Event()
    chooser = Chooser(fake, clock)
    assert chooser.cluster
    clock.now = REFRESH_SECONDS
    fake.nodes = lambda: asked.set() or [] * answer.wait(60)
    look = threading.Thread(target=chooser.look_again)
    look.start()
    assert asked.wait(60)
    limits = []
    other = threading.Thread(target=lambda: limits.append(chooser.array_limit(target())))
    other.start()
    other.join(5)
    told_meanwhile = list(limits)
    answer.set()
    look.join(60)
    assert told_meanwhile == [1000]


# The backend.


@pytest.fixture
def backend(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(command_line, "missing_commands", list)
    monkeypatch.delenv("SLURM_CONF", raising=False)
    made = module.SlurmBackend((target(partition=None),), context(tmp_path), client=fake)
    made.check()
    return made


def test_a_submission_tells_its_partition_and_why(backend, fake):
    accepted = backend.submit(submission(shape=Shape(cpus=8)))
    assert fake.requests[-1].partition == "large"
    assert accepted.detail["partition"] == "large"
    assert "partition large has the smallest nodes that fit" in accepted.detail["reasons"][0]


def test_a_closed_partition_is_told_at_the_start_unless_there_is_a_fallback(backend, fake):
    fake.partitions_are = [PartitionFacts("small", state="DRAIN", is_default=True, total_nodes=1)]
    backend._chooser = Chooser(fake)
    job = submission().tasks[0].job
    with pytest.raises(SubmissionError, match="takes no jobs: it is DRAIN"):
        backend.check_job(job, target(partition="small"))
    backend.check_job(job, target(partition="small", fallback="other"))


def test_a_job_that_fits_nothing_is_refused_before_anything_runs(backend):
    sent = submission(shape=Shape(cpus=65))
    with pytest.raises(
        SubmissionError, match="the nearest of 2 is large, which has nodes of at most"
    ):
        backend.check_job(sent.tasks[0].job, sent.target)
    sent = submission(shape=Shape(runtime_min=61), slurm_partition="small")
    with pytest.raises(SubmissionError, match="runs jobs for at most 1 h, and it asks runtime=61"):
        backend.check_job(sent.tasks[0].job, sent.target)


@pytest.mark.parametrize(
    ("settings", "options", "limit"),
    [
        ({"MaxArraySize": "1001", "MaxJobCount": "10000"}, {}, 1000),
        ({"MaxArraySize": "1001"}, {"array_limit": 40}, 40),
        ({"MaxArraySize": "1001"}, {"array_limit": 4000}, 1000),
        ({}, {}, 1000),
        # slurmrestd does not tell.
        ({}, {"array_limit": 4000}, 4000),
        ({"MaxArraySize": "1001", "SchedulerParameters": "max_array_tasks=7"}, {}, 7),
    ],
)
def test_the_most_tasks_of_an_array(fake, settings, options, limit):
    fake.settings = lambda: settings
    assert Chooser(fake).array_limit(target(**options)) == limit
