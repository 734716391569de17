"""Outcome → next step: report to Snakemake, or send the task again quietly. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from snakemake_executor_takeda.values import FailureKind, Outcome, Target

CAPACITY_TRIES = 20
CAPACITY_PAUSE_SECONDS = 15.0
IMAGE_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 600.0
ALONE_FACTOR = 5
"""A target without fallback is given this many times the budget of interruptions: to give up would
help nobody."""
_NODE_LOST = frozenset({FailureKind.INTERRUPTED, FailureKind.NODE_FAILURE})


@dataclass(frozen=True)
class Report:
    """Tell Snakemake; its own `--retries` decide."""


@dataclass(frozen=True)
class Resubmit:
    """Send the task again, to the target of this name, without Snakemake noticing."""

    target: str
    reason: str
    delay_seconds: float = 0.0
    mem_mb: int | None = None
    """Memory to ask for from now on, None for what it had."""


def next_step(
    outcome: Outcome,
    target: Target,
    *,
    fallback: str | None,
    failures: Mapping[FailureKind, int],
    budget: int,
    mem_mb: int | None,
    jitter: Callable[[], float] = random.random,
) -> Report | Resubmit:
    """What follows a failed task on this target, where the job may go to `fallback`.

    `failures` counts, by kind, how this job has failed on this target so far, this time included.
    `budget` is the run's for interruptions where the target has none of its own; `mem_mb` is what the
    job asked for. Each kind has a budget of its own, so the attempts of a job are bounded.
    """
    count = failures.get(outcome.kind, 0) if outcome.kind else 0
    match outcome.kind:
        case FailureKind.INTERRUPTED | FailureKind.NODE_FAILURE:
            lost = sum(failures.get(kind, 0) for kind in _NODE_LOST)
            own = target.retry.interruptions
            return _without_node(
                outcome, target.name, fallback, lost, budget if own is None else own
            )
        case FailureKind.NO_CAPACITY if fallback:
            return Resubmit(fallback, f"{target.name} has no capacity")
        case FailureKind.NO_CAPACITY if count <= CAPACITY_TRIES:
            reason = f"no capacity, try {count} of {CAPACITY_TRIES}"
            return Resubmit(target.name, reason, _pause(CAPACITY_PAUSE_SECONDS, count, jitter))
        case FailureKind.IMAGE if count <= target.retry.image and not outcome.permanent:
            reason = f"image not pulled, try {count} of {target.retry.image}"
            return Resubmit(target.name, reason, _pause(IMAGE_PAUSE_SECONDS, count, jitter))
        case FailureKind.OUT_OF_MEMORY:
            return _with_more_memory(target, count, mem_mb)
    return Report()


def _without_node(
    outcome: Outcome, target: str, fallback: str | None, lost: int, budget: int
) -> Report | Resubmit:
    if fallback is None:
        budget *= ALONE_FACTOR
    if lost <= budget:
        return Resubmit(target, f"{outcome.kind} {lost} of {budget}")
    if fallback:
        return Resubmit(fallback, f"{outcome.kind} {lost} times on {target}")
    return Report()


def _pause(first_seconds: float, count: int, jitter: Callable[[], float]) -> float:
    """It doubles, and is shortened by up to half at random: jobs do not come back in step."""
    longest = min(first_seconds * 2.0 ** (count - 1), LONGEST_PAUSE_SECONDS)
    return longest * (1 - jitter() / 2)


def _with_more_memory(target: Target, count: int, mem_mb: int | None) -> Report | Resubmit:
    rules = target.retry
    if mem_mb is None or count > rules.memory_times:
        return Report()
    more = int(mem_mb * rules.memory_factor)
    if rules.memory_up_to_mb is not None:
        more = min(more, rules.memory_up_to_mb)
    if more <= mem_mb:
        return Report()
    return Resubmit(target.name, f"out of memory with {mem_mb} MB, now {more} MB", mem_mb=more)
