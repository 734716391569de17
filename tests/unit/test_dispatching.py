"""The dispatcher sends what it is handed: equals together, a delayed job later, never anything twice."""

import queue
import time

import pytest

from snakemake_executor_takeda.coalescing import Coalescer
from snakemake_executor_takeda.dispatching import Dispatcher, Ready
from snakemake_executor_takeda.values import JobSpec, Placement, Shape, Target

TARGET = Target("t", "fake")


def ready(key, rule="r"):
    return Ready(key, JobSpec(key, rule, {}, 1, Shape(), {}), ())


@pytest.fixture
def dispatcher():
    sent = queue.Queue()
    one = Dispatcher(
        "run",
        Coalescer(0.05, 0.5),
        place=lambda job: Placement(TARGET, ("default",)),
        placed=lambda ready, placement: None,
        failed=lambda ready, error: sent.put(error),
        limit=lambda target: 100,
        key_resources=lambda target: frozenset(),
        send=lambda submission, keys: sent.put(sorted(keys.values())),
    )
    one.start()
    yield one, sent
    one.stop()
    one.join(10)
    assert not one.is_alive()
    assert sent.empty()


def test_equals_leave_together_and_a_delayed_job_not_before_its_time(dispatcher):
    one, sent = dispatcher
    began = time.monotonic()
    one.hand_over([ready(9)], delay_seconds=0.4)
    one.hand_over([ready(1), ready(2)])
    one.hand_over([ready(3)])
    assert sent.get(timeout=10) == [1, 2, 3]
    assert sent.get(timeout=10) == [9]
    assert time.monotonic() - began >= 0.4


def test_jobs_of_other_rules_leave_by_themselves(dispatcher):
    one, sent = dispatcher
    one.hand_over([ready(1, "a"), ready(2, "b"), ready(3, "a")])
    assert sorted([sent.get(timeout=10), sent.get(timeout=10)]) == [[1, 3], [2]]
