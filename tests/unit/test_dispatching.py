"""The dispatcher sends what it is handed: equals together, a delayed job later, never anything twice."""

import queue
import time
from dataclasses import replace

import pytest

from snakemake_executor_takeda.coalescing import Coalescer
from snakemake_executor_takeda.dispatching import Dispatcher, Ready
from snakemake_executor_takeda.values import JobSpec, Placement, Shape, Target

TARGET = Target("t", "fake")
PLAIN = Shape()
LARGEST_MB = 60_000
"""Of the target's nodes."""


def ready(key, rule="r", shape=PLAIN):
    return Ready(key, JobSpec(key, rule, {}, 1, shape, {}), ())


@pytest.fixture
def dispatcher():
    sent = queue.Queue()
    one = Dispatcher(
        "run",
        Coalescer(0.05, 0.5),
        place=lambda job: Placement(TARGET, ("default",)),
        placed=lambda ready, placement: None,
        failed=lambda ready, error: sent.put(error),
        limit=lambda target, shape: 100,
        shape_tolerance=0.1,
        fits=lambda job, target: (job.shape.mem_mb or 0) <= LARGEST_MB,
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


def test_jobs_that_may_go_elsewhere_leave_by_themselves(dispatcher):
    one, sent = dispatcher
    to = [Placement(replace(TARGET, fallback=name), ()) for name in ("od", None)]
    one.hand_over([replace(ready(key), placement=to[key % 2]) for key in range(4)])
    assert sorted([sent.get(timeout=10), sent.get(timeout=10)]) == [[0, 2], [1, 3]]


def test_what_differs_little_shares_an_array_and_what_differs_much_does_not(dispatcher):
    one, sent = dispatcher
    memories = {1: 1000, 2: 1050, 3: 4000, 4: 1100, 5: None, 6: 4000}
    one.hand_over([ready(key, shape=Shape(mem_mb=mem_mb)) for key, mem_mb in memories.items()])
    assert sorted(sent.get(timeout=10) for _ in range(3)) == [[1, 2, 4], [3, 6], [5]]


def test_rounding_up_makes_no_job_too_large_for_its_target(dispatcher):
    one, sent = dispatcher
    memories = {1: 59_000, 2: 60_001, 3: 58_000, 4: 58_000, 5: 1000, 6: 1050}
    one.hand_over([ready(key, shape=Shape(mem_mb=mem_mb)) for key, mem_mb in memories.items()])
    assert sorted(sent.get(timeout=10) for _ in range(4)) == [[1], [2], [3, 4], [5, 6]]
