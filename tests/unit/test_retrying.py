"""Outcome → next step."""

import pytest

from snakemake_executor_takeda.retrying import Report, Resubmit, next_step
from snakemake_executor_takeda.values import FailureKind, Outcome

SPOT = {"target": "batch-spot", "fallback": "batch-od"}
ALONE = {"target": "alone", "fallback": None}


@pytest.mark.parametrize(
    "kind",
    sorted(
        set(FailureKind)
        - {FailureKind.INTERRUPTED, FailureKind.NODE_FAILURE, FailureKind.NO_CAPACITY}
    ),
)
def test_what_is_the_jobs_own_doing_is_reported(kind):
    assert next_step(Outcome(kind), **SPOT, interruptions=1, budget=3) == Report()


@pytest.mark.parametrize("kind", [FailureKind.INTERRUPTED, FailureKind.NODE_FAILURE])
def test_a_lost_node_is_sent_again_within_the_budget_then_falls_back(kind):
    steps = [
        next_step(Outcome(kind), **SPOT, interruptions=count, budget=3) for count in (1, 2, 3, 4)
    ]
    assert [step.target for step in steps] == ["batch-spot"] * 3 + ["batch-od"]


def test_past_the_budget_without_a_fallback_it_is_reported():
    lost = Outcome(FailureKind.INTERRUPTED)
    assert isinstance(next_step(lost, **ALONE, interruptions=3, budget=3), Resubmit)
    assert next_step(lost, **ALONE, interruptions=4, budget=3) == Report()


def test_no_capacity_falls_back_at_once():
    step = next_step(Outcome(FailureKind.NO_CAPACITY), **SPOT, interruptions=1, budget=3)
    assert step == Resubmit("batch-od", "batch-spot has no capacity")


def test_no_capacity_without_a_fallback_is_asked_again_with_growing_pauses_then_reported():
    lost = Outcome(FailureKind.NO_CAPACITY)
    steps = [next_step(lost, **ALONE, interruptions=count, budget=3) for count in range(1, 22)]
    assert [step.delay_seconds for step in steps[:4]] == [15, 30, 60, 120]
    assert steps[19].delay_seconds == 600
    assert steps[20] == Report()
