"""What a pending task waits for, when that is said, and when it is given up."""

import pytest
from slurm_builders import TRUE, sighting, submission, target

from snakemake_executor_takeda.backends.slurm.answers import expand_hosts
from snakemake_executor_takeda.backends.slurm.capacity import (
    BadNodes,
    Cause,
    GiveUp,
    Pending,
    Queued,
    cause_of,
    failed_nodes,
    limit_seconds,
    notice_seconds,
)
from snakemake_executor_takeda.backends.slurm.facts import NodeFacts
from snakemake_executor_takeda.values import FailureKind, Update

DOWN = "ReqNodeNotAvail, UnavailableNodes:hpc-dy-c5-[1-4]"


def queued(sent, reason, count=None, state="PENDING"):
    count = len(sent.tasks) if count is None else count
    waiting = {task.task_id: sighting(state, reason=reason) for task in sent.tasks[:count]}
    return Queued(sent, "7", waiting)


def story(sent, minutes, reason="Resources", busy=(), state="PENDING"):
    """What is told in so many minutes, a look each: (minute, Update or GiveUp)."""
    pending, told = Pending(), []
    for minute in range(minutes + 1):
        busy_now = busy(minute) if callable(busy) else busy
        looks = pending.look([queued(sent, reason, state=state)], busy_now, 60.0 * minute)
        told += [(minute, found) for found in looks]
    return told


@pytest.mark.parametrize(
    ("state", "reason", "cause"),
    [
        ("PENDING", "Resources", Cause.TURN),
        ("PENDING", "Priority", Cause.TURN),
        ("PENDING", "", Cause.TURN),
        ("PENDING", "QOSMaxJobsPerUserLimit", Cause.TURN),
        ("PENDING", "JobArrayTaskLimit", Cause.TURN),
        ("PENDING", "ReqNodeNotAvail", Cause.UNAVAILABLE),
        ("PENDING", DOWN, Cause.UNAVAILABLE),
        ("PENDING", "Nodes required for job are DOWN, DRAINED or reserved", Cause.UNAVAILABLE),
        ("PENDING", "PartitionDown", Cause.UNAVAILABLE),
        ("PENDING", "JobHeldAdmin", Cause.HELD),
        ("PENDING", "JobHoldMaxRequeue", Cause.HELD),
        ("RESV_DEL_HOLD", "", Cause.HELD),
        ("REQUEUE_HOLD", "", Cause.HELD),
        ("SPECIAL_EXIT", "", Cause.HELD),
        ("PENDING", "launch failed requeued held", Cause.HELD),
        ("REQUEUED", "BeginTime", Cause.WISH),
        ("PENDING", "Dependency", Cause.WISH),
        ("PENDING", "Licenses", Cause.WISH),
    ],
)
def test_causes(state, reason, cause):
    assert cause_of(sighting(state, reason=reason)) == cause


def test_its_turn_is_waited_for_and_said_once():
    told = story(submission([TRUE] * 4), 600)
    assert [minute for minute, _ in told] == [10]
    note = told[0][1].note
    assert note.startswith("pending for 10 min: 4 of 4 align on target hpc (job 7): Resources.")
    assert "squeue --start -j 7" in note
    assert "After" not in note


def test_a_target_with_fallback_is_left_after_thirty_minutes():
    (first, note), (second, gone), *_ = story(submission(on=target(fallback="od")), 40)
    assert (first, second) == (10, 30)
    assert "After 30 min it goes to od." in note.note
    assert isinstance(gone, GiveUp)
    assert gone.outcome.kind == FailureKind.NO_CAPACITY
    assert gone.outcome.reason == "PENDING (Resources)"


def test_a_limit_of_the_target_counts_without_fallback_too():
    told = story(submission(on=target(pending_limit=15)), 15)
    assert [minute for minute, _ in told] == [10, 15]
    assert "After 15 min it is given up." in told[0][1].note


def test_a_limit_before_the_notice_gives_up_without_words():
    told = story(submission(on=target(pending_limit=4)), 4)
    assert [(minute, type(found)) for minute, found in told] == [(4, GiveUp)]


def test_nothing_is_said_while_something_of_the_run_runs_there():
    on = target(fallback="od")
    assert story(submission(on=on), 120, busy=("hpc",)) == []
    told = story(submission(on=on), 120, busy=lambda minute: ("hpc",) if minute < 60 else ())
    # busy for the last time in minute 59
    assert [minute for minute, _ in told][:2] == [69, 89]


def test_nodes_that_are_down_are_left_sooner_even_while_others_run():
    told = story(submission(on=target(fallback="od")), 20, DOWN, busy=("hpc",))
    assert [minute for minute, _ in told] == [10, 20]
    assert DOWN in told[0][1].note
    assert "After 20 min it goes to od." in told[0][1].note
    assert isinstance(told[1][1], GiveUp)


def test_nodes_that_are_down_are_waited_for_where_there_is_no_other_place():
    told = story(submission(), 600, DOWN)
    assert [(minute, type(found)) for minute, found in told] == [(10, Update)]


@pytest.mark.parametrize("state", ["SPECIAL_EXIT", "REQUEUE_HOLD", "RESV_DEL_HOLD"])
def test_what_is_held_waits_for_its_release(state):
    told = story(submission(on=target(fallback="od", pending_limit=20)), 600, "", state=state)
    ((minute, note),) = told
    assert minute == 10
    assert "scontrol release 7" in note.note


def test_an_array_that_moves_is_not_stuck():
    sent, pending = submission([TRUE] * 50, on=target(fallback="od")), Pending()
    for minute in range(50):
        assert not list(pending.look([queued(sent, "Resources", 50 - minute)], (), 60.0 * minute))


def test_limits():
    assert limit_seconds(target()) is None
    assert limit_seconds(target(fallback="od")) == 1800
    assert limit_seconds(target(pending_limit=5, fallback="od")) == 300
    assert notice_seconds(target()) == 600
    assert notice_seconds(target(pending_limit=5)) == 300


def test_bad_nodes():
    bad = BadNodes()
    assert bad.failed(["a", "b"]) == []
    assert bad.failed(["b"]) == ["b"]
    assert bad.failed(["b"]) == []
    assert bad.excluded() == ("b",)


def test_of_several_nodes_those_that_are_not_well_failed():
    nodes = {
        name: NodeFacts(name, states, 4, 8000)
        for name, states in {"n-1": ("IDLE",), "n-2": ("DOWN", "NOT_RESPONDING")}.items()
    }
    assert failed_nodes("n-[1-2]", nodes) == ["n-2"]
    assert failed_nodes("n-1", nodes) == ["n-1"]
    assert failed_nodes("", nodes) == []


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("node-1", ["node-1"]),
        ("node-[1-3]", ["node-1", "node-2", "node-3"]),
        ("a-[08-10,12],b", ["a-08", "a-09", "a-10", "a-12", "b"]),
        ("r[1-2]n[1,3]", ["r1n1", "r1n3", "r2n1", "r2n3"]),
        ("q-dy-c5-[1-2],q-st-c5-1", ["q-dy-c5-1", "q-dy-c5-2", "q-st-c5-1"]),
        ("", []),
    ],
)
def test_host_lists(text, names):
    assert expand_hosts(text) == names
