"""The bucket of StartRun, by a clock of the test's own."""

from __future__ import annotations

import threading

import pytest

from snakemake_executor_takeda.backends.healthomics.pacing import LOWEST_PER_SECOND, StartBucket


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_slots_come_at_the_rate_and_in_order() -> None:
    clock = Clock()
    bucket = StartBucket(2.0, clock)
    slots = [bucket.reserve() for _ in range(5)]
    assert [bucket.seconds_until(slot) for slot in slots] == [0.0, 0.5, 1.0, 1.5, 2.0]
    clock.now += 10
    assert [bucket.seconds_until(slot) for slot in slots] == [0.0] * 5
    assert bucket.seconds_until(bucket.reserve()) == 0.0, "an idle time is no debt"


def test_a_refusal_slows_down_and_voids_what_was_given_out() -> None:
    clock = Clock()
    bucket = StartBucket(1.0, clock)
    old = [bucket.reserve() for _ in range(3)]
    bucket.refused()
    assert [bucket.seconds_until(slot) for slot in old] == [None] * 3
    new = [bucket.reserve() for _ in range(2)]
    assert [bucket.seconds_until(slot) for slot in new] == pytest.approx([1 / 0.7, 2 / 0.7])
    for _ in range(20):
        bucket.refused()
    assert bucket.per_second == LOWEST_PER_SECOND
    for _ in range(100):
        bucket.taken()
    assert bucket.per_second == 1.0


def test_who_comes_late_to_his_slot_is_not_followed_too_soon() -> None:
    clock = Clock()
    bucket = StartBucket(1.0, clock)
    first, second = bucket.reserve(), bucket.reserve()
    clock.now += 0.4
    assert bucket.seconds_until(first) == 0.0
    bucket.sent()
    assert bucket.seconds_until(second) == pytest.approx(1.0)


def test_a_quota_below_the_lowest_rate_is_kept() -> None:
    bucket = StartBucket(0.01, Clock())
    bucket.refused()
    assert bucket.per_second == pytest.approx(0.01)


def test_threads_share_it() -> None:
    clock = Clock()
    bucket = StartBucket(1.0, clock)
    found: list[float] = []

    def take() -> None:
        for _ in range(50):
            found.append(bucket.reserve().at)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [100.0 + second for second in range(200)]
