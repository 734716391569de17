"""Outcome → next step: report to Snakemake, or send the task again quietly. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from snakemake_executor_takeda.values import FailureKind, Outcome

# Not the job's doing: the machine went away or never came.
_NOT_THE_JOBS_FAULT = frozenset(
    {FailureKind.INTERRUPTED, FailureKind.NODE_FAILURE, FailureKind.NO_CAPACITY}
)

CAPACITY_TRIES = 20
CAPACITY_PAUSE_SECONDS = 15.0
CAPACITY_LONGEST_SECONDS = 600.0


@dataclass(frozen=True)
class Report:
    """Tell Snakemake; its own `--retries` decide."""


@dataclass(frozen=True)
class Resubmit:
    """Send the task again, to the target of this name, without Snakemake noticing."""

    target: str
    reason: str
    delay_seconds: float = 0.0


def next_step(
    outcome: Outcome, target: str, fallback: str | None, interruptions: int, budget: int
) -> Report | Resubmit:
    """What follows a failed task on the target of this name, where the job may go to `fallback`.

    `interruptions` counts the times this job already lost its node on this target, this one
    included. Within `budget` it goes to the same target again, past it to the fallback, if any.
    A target without capacity hands over to its fallback at once; without one it is asked again
    after a growing pause, for some hours.
    """
    if outcome.kind not in _NOT_THE_JOBS_FAULT:
        return Report()
    if outcome.kind == FailureKind.NO_CAPACITY:
        return _without_capacity(target, fallback, interruptions)
    if interruptions <= budget:
        return Resubmit(target, f"{outcome.kind} {interruptions} of {budget}")
    if fallback:
        return Resubmit(fallback, f"{outcome.kind} {interruptions} times on {target}")
    return Report()


def _without_capacity(target: str, fallback: str | None, tries: int) -> Report | Resubmit:
    if fallback:
        return Resubmit(fallback, f"{target} has no capacity")
    if tries > CAPACITY_TRIES:
        return Report()
    delay = min(CAPACITY_PAUSE_SECONDS * 2 ** (tries - 1), CAPACITY_LONGEST_SECONDS)
    return Resubmit(target, f"no capacity, try {tries}", delay)
