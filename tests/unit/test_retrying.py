"""Outcome → next step."""

import pytest

from snakemake_executor_takeda.retrying import Report, Resubmit, next_step
from snakemake_executor_takeda.values import FailureKind, Outcome, RetryRules, Target

SPOT = Target("batch-spot", "batch")
REPEATED = {
    FailureKind.INTERRUPTED,
    FailureKind.NODE_FAILURE,
    FailureKind.NO_CAPACITY,
    FailureKind.IMAGE,
}


def step(kind, count=1, *, target=SPOT, fallback="batch-od", budget=2, mem_mb=1000, more=None):
    return next_step(
        Outcome(kind),
        target,
        fallback=fallback,
        failures={kind: count, **(more or {})},
        budget=budget,
        mem_mb=mem_mb,
        jitter=lambda: 0.0,
    )


@pytest.mark.parametrize("kind", sorted(set(FailureKind) - REPEATED))
def test_what_is_the_jobs_own_doing_is_reported(kind):
    assert step(kind) == Report()


@pytest.mark.parametrize("kind", [FailureKind.INTERRUPTED, FailureKind.NODE_FAILURE])
def test_a_lost_node_is_sent_again_within_the_budget_and_the_third_goes_to_the_fallback(kind):
    steps = [step(kind, count) for count in (1, 2, 3)]
    assert [one.target for one in steps] == ["batch-spot", "batch-spot", "batch-od"]


def test_all_ways_to_lose_a_node_draw_on_one_budget():
    one = step(FailureKind.INTERRUPTED, 1, more={FailureKind.NODE_FAILURE: 2})
    assert one.target == "batch-od"


def test_a_targets_own_budget_comes_before_the_runs():
    patient = Target("batch-spot", "batch", retry=RetryRules(interruptions=5))
    assert step(FailureKind.INTERRUPTED, 5, target=patient).target == "batch-spot"
    assert step(FailureKind.INTERRUPTED, 6, target=patient).target == "batch-od"
    never = Target("batch-spot", "batch", retry=RetryRules(interruptions=0))
    assert step(FailureKind.INTERRUPTED, 1, target=never).target == "batch-od"


def test_without_a_fallback_the_budget_is_five_times_as_large_then_it_is_reported():
    assert isinstance(step(FailureKind.INTERRUPTED, 10, fallback=None), Resubmit)
    assert step(FailureKind.INTERRUPTED, 11, fallback=None) == Report()
    assert step(FailureKind.INTERRUPTED, 1, fallback=None, budget=0) == Report()


def test_no_capacity_falls_back_at_once():
    assert step(FailureKind.NO_CAPACITY) == Resubmit("batch-od", "batch-spot has no capacity")


def test_no_capacity_without_a_fallback_is_asked_again_with_growing_pauses_then_reported():
    steps = [step(FailureKind.NO_CAPACITY, count, fallback=None) for count in range(1, 22)]
    assert [one.delay_seconds for one in steps[:4]] == [15, 30, 60, 120]
    assert steps[19].delay_seconds == 600
    assert steps[20] == Report()


def test_an_image_that_cannot_be_pulled_is_tried_again_a_few_times():
    steps = [step(FailureKind.IMAGE, count) for count in range(1, 6)]
    assert [one.delay_seconds for one in steps[:4]] == [5, 10, 20, 40]
    assert {one.target for one in steps[:4]} == {"batch-spot"}
    assert steps[4] == Report()


def test_pauses_are_shortened_at_random_by_no_more_than_half():
    def pause(chance):
        return next_step(
            Outcome(FailureKind.IMAGE),
            SPOT,
            fallback=None,
            failures={FailureKind.IMAGE: 1},
            budget=2,
            mem_mb=None,
            jitter=lambda: chance,
        ).delay_seconds

    assert (pause(0.0), pause(0.5), pause(1.0)) == (5.0, 3.75, 2.5)


def test_memory_grows_by_the_factor_up_to_the_cap_and_then_retries_decide():
    rules = RetryRules(memory_factor=2.0, memory_times=3, memory_up_to_mb=6000)
    target = Target("t", "batch", retry=rules)

    def memory(count, mem_mb):
        one = step(FailureKind.OUT_OF_MEMORY, count, target=target, mem_mb=mem_mb)
        return getattr(one, "mem_mb", one)

    assert memory(1, 2000) == 4000
    assert memory(2, 4000) == 6000
    assert memory(3, 6000) == Report(), "there is no more to be had"
    assert memory(4, 1000) == Report(), "often enough"
    assert memory(1, None) == Report(), "nothing was asked for that could grow"
    assert step(FailureKind.OUT_OF_MEMORY).__class__ is Report, "not unless the policy says so"


def test_an_image_that_is_not_there_is_not_pulled_again():
    outcome = Outcome(FailureKind.IMAGE, permanent=True)
    failures = {FailureKind.IMAGE: 1}
    assert (
        next_step(outcome, SPOT, fallback="batch-od", failures=failures, budget=2, mem_mb=None)
        == Report()
    )
