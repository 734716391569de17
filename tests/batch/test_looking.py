"""What it costs to follow an array: the decision over a grid, and the calls of whole runs."""

import itertools
import random
from collections import Counter

import pytest
from batch_fakes import FakeLogs, Paginator, submission, watch

from snakemake_executor_takeda.backends.batch.looking import (
    WORTH,
    Look,
    how_to_look,
    is_due,
    is_start_due,
)
from snakemake_executor_takeda.backends.batch.polling import Poller
from snakemake_executor_takeda.values import Accepted

COUNTS = (0, 1, 99, 100, 101, 999, 1000, 1001, 5000, 9999)
GRID = [
    (open_count, succeeded, failed, new)
    for open_count, succeeded, failed, new in itertools.product(COUNTS, COUNTS, COUNTS, (0, 1, 60))
    if new <= succeeded and new <= open_count
]


def pages(count, size):
    return -(-count // size)


@pytest.mark.parametrize("only_list", [False, True])
def test_the_cheapest_way_over_a_grid(only_list):
    for open_count, succeeded, failed, new in GRID:
        ended = {"SUCCEEDED": succeeded, "FAILED": failed}
        look = how_to_look(open_count, ended, {"SUCCEEDED": new, "FAILED": 0}, only_list=only_list)
        if not new:
            assert look is None
            continue
        listing, describing = pages(succeeded, 1000), pages(open_count, 100)
        assert look.calls == (listing if only_list else min(listing, describing))
        assert look.brings == new
        assert look.states == (("SUCCEEDED",) if look.calls == listing else ())


def test_a_state_that_did_not_move_is_not_listed():
    look = how_to_look(5000, {"SUCCEEDED": 10, "FAILED": 3000}, {"SUCCEEDED": 0, "FAILED": 5})
    assert look == Look(("FAILED",), 3, 5)
    look = how_to_look(5000, {"SUCCEEDED": 10, "FAILED": 300}, {"SUCCEEDED": -4, "FAILED": 0})
    assert look is None, "a count behind what is known is no news"


def test_few_open_children_are_described():
    assert how_to_look(90, {"SUCCEEDED": 9910}, {"SUCCEEDED": 10}) == Look((), 1, 10)
    assert how_to_look(900, {"SUCCEEDED": 9100}, {"SUCCEEDED": 10}).states == ()
    assert how_to_look(2000, {"SUCCEEDED": 8000}, {"SUCCEEDED": 10}).states == ("SUCCEEDED",)


def test_small_arrays_never_wait_and_neither_does_a_last_child():
    for calls, brings in itertools.product(range(1, 12), (1, 10, 49)):
        assert is_due(Look(("SUCCEEDED",), calls, brings), waited_s=0.0, parent_ended=True)
        assert is_due(Look(("SUCCEEDED",), calls, brings), waited_s=0.0) == (calls == 1)


def test_what_brings_much_is_taken_at_once():
    assert is_due(Look(("SUCCEEDED",), 10, 10 * WORTH), waited_s=0.0, others=500)
    assert not is_due(Look(("SUCCEEDED",), 10, 10 * WORTH - 1), waited_s=0.0)


def test_many_arrays_share_a_rate():
    """A hundred arrays, each moving all the time: four calls a second together."""
    look = Look((), 1, 1)
    assert not is_due(look, waited_s=24.0, others=99)
    assert is_due(look, waited_s=25.0, others=99)


def test_starts_are_listed_at_once_in_small_arrays_only():
    assert is_start_due(100, 100, waited_s=0.0)
    assert not is_start_due(101, 50, waited_s=1.0)
    assert is_start_due(101, 50, waited_s=2.0)
    assert not is_start_due(10_000, 9000, waited_s=17.0)


class Array:
    """An array's parent and children behind the three calls that look at them."""

    def __init__(self, size, lag_of_list=0):
        self.size = size
        self.states = ["RUNNABLE"] * size
        self.counts = Counter({"RUNNABLE": size})
        self.calls = Counter()
        self.lag_of_list = lag_of_list

    def move(self, index, state):
        self.counts[self.states[index]] -= 1
        self.counts[state] += 1
        self.states[index] = state

    def parent(self):
        ended = self.counts["SUCCEEDED"] + self.counts["FAILED"] == self.size
        status = ("FAILED" if self.counts["FAILED"] else "SUCCEEDED") if ended else "PENDING"
        return {
            "jobId": "p",
            "status": status,
            "arrayProperties": {"size": self.size, "statusSummary": dict(self.counts)},
        }

    def describe_jobs(self, jobs):
        if jobs == ["p"]:
            self.calls["parent"] += 1
            return {"jobs": [self.parent()]}
        assert len(jobs) <= 100
        self.calls["DescribeJobs"] += 1
        indexes = [int(job.partition(":")[2]) for job in jobs]
        return {"jobs": [{"jobId": f"p:{i}", "status": self.states[i]} for i in indexes]}

    def list_jobs(self, arrayJobId, jobStatus, nextToken="0"):
        self.calls["ListJobs"] += 1
        found = [i for i, state in enumerate(self.states) if state == jobStatus]
        found = found[self.lag_of_list :] if jobStatus != "RUNNING" else found
        start = int(nextToken)
        page = [{"jobId": f"p:{i}", "status": jobStatus} for i in found[start : start + 1000]]
        more = {"nextToken": str(start + 1000)} if start + 1000 < len(found) else {}
        return {"jobSummaryList": page, **more}

    def get_paginator(self, name):
        return Paginator(getattr(self, name))


class Clients:
    def __init__(self, batch):
        self.batch = batch
        self.logs = FakeLogs()
        self.console = None


def simulate(size, per_poll, pause_s=0.5, running=0, seed=0, state="SUCCEEDED"):
    """Follow an array to its end; → calls beside the parent's, and how late each child was reported."""
    array = Array(size)
    now = [0.0]
    poller = Poller(Clients(array), clock=lambda: now[0], sleep=lambda _: None)
    one = submission(size)
    ids = {task.task_id: f"p:{i}" for i, task in enumerate(one.tasks)}
    accepted = Accepted("p", ids)
    still_open = set(ids)
    order = random.Random(seed).sample(range(size), size)
    ended_at, delays, starts = {}, [], []
    for index in order[:running]:
        array.move(index, "RUNNING")
    ahead = running
    while still_open:
        for index in order[len(ended_at) : len(ended_at) + per_poll]:
            array.move(index, state)
            ended_at[f"run1-s1-t{index}"] = now[0]
            if running and ahead < size:
                array.move(order[ahead], "RUNNING")
                ahead += 1
        for update in poller.poll([watch(one, accepted, still_open)]):
            if update.outcome:
                delays.append(now[0] - ended_at[update.task_id])
                still_open.remove(update.task_id)
            else:
                starts.append(update.task_id)
        now[0] += pause_s
        assert now[0] < 1e5
    assert len(starts) == len(set(starts))
    return array.calls["ListJobs"] + array.calls["DescribeJobs"], delays


def test_thousands_of_children_ending_ten_at_a_time():
    calls, delays = simulate(3000, 10)
    assert calls < 280
    assert max(delays) <= 20
    assert delays[-1] == 0, "the last child is not delayed"


def test_children_ending_one_at_a_time_slowly():
    """What goes on for hours costs calls by the clock, at most one a second."""
    calls, delays = simulate(600, 1, pause_s=5.0)
    assert calls < 600 * 5.0
    assert max(delays) <= 20


def test_ten_thousand_children_ending_at_once():
    calls, delays = simulate(10_000, 10_000)
    assert calls <= 25
    assert max(delays) == 0


@pytest.mark.parametrize("size", [2, 50, 100])
@pytest.mark.parametrize("per_poll", [1, 7])
def test_small_arrays_have_no_added_latency(size, per_poll):
    _, delays = simulate(size, per_poll)
    assert max(delays) == 0


def test_starts_cost_no_more_than_ends():
    without, _ = simulate(4000, 10)
    with_starts, _ = simulate(4000, 10, running=300)
    assert with_starts < 2 * without


def test_a_list_that_stays_behind_is_not_read_at_each_poll():
    array = Array(3000, lag_of_list=5)
    now = [0.0]
    poller = Poller(Clients(array), clock=lambda: now[0])
    one = submission(3000)
    accepted = Accepted("p", {task.task_id: f"p:{i}" for i, task in enumerate(one.tasks)})
    for index in range(2500):
        array.move(index, "SUCCEEDED")
    ended = {u.task_id for u in poller.poll([watch(one, accepted)]) if u.outcome}
    assert len(ended) == 2495
    before = array.calls.copy()
    still_open = {task.task_id for task in one.tasks} - ended
    for _ in range(20):
        now[0] += 0.5
        ended |= {
            u.task_id for u in poller.poll([watch(one, accepted, still_open - ended)]) if u.outcome
        }
    assert (array.calls - before).total() - 20 < 20
    array.lag_of_list = 0
    now[0] += 10
    ended |= {
        u.task_id for u in poller.poll([watch(one, accepted, still_open - ended)]) if u.outcome
    }
    assert len(ended) == 2500
