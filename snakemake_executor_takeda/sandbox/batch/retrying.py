"""Whether Batch starts another attempt: `retryStrategy` with its `evaluateOnExit` rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from snakemake_executor_takeda.sandbox.batch.jobs import Ending


def is_retried(
    ending: Ending, attempt: int, attempts: int, evaluate_on_exit: Sequence[Mapping[str, str]]
) -> bool:
    """Whether a failed attempt, counted from 1, is followed by another.

    The first rule whose conditions all match decides; without a match the job is retried.
    """
    if not ending.can_retry or attempt >= attempts:
        return False
    for rule in evaluate_on_exit:
        if _matches(rule, ending):
            return rule["action"].upper() == "RETRY"
    return True


def _matches(rule: Mapping[str, str], ending: Ending) -> bool:
    values = {
        "onStatusReason": ending.status_reason,
        "onReason": ending.reason or "",
        "onExitCode": "" if ending.exit_code is None else str(ending.exit_code),
    }
    return all(_glob(rule[name], value) for name, value in values.items() if name in rule)


def _glob(pattern: str, value: str) -> bool:
    """Only a trailing `*` is special; what is before it must be there exactly."""
    if pattern.endswith("*"):
        return value.startswith(pattern[:-1])
    return value == pattern
