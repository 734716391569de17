"""Outcome, history and policy → next step: report to Snakemake, or send the task again quietly. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby

from snakemake_executor_takeda.values import FailureKind, Outcome, RetryRules, Target

CAPACITY_PAUSE_SECONDS = 15.0
IMAGE_PAUSE_SECONDS = 5.0
LOST_PAUSE_SECONDS = 60.0
"""At least half of it: longer than Batch is looked through for a job whose answer was lost."""
LONGEST_PAUSE_SECONDS = 600.0
HERD_SECONDS = 1.0
"""Tasks that lose their machines together come back within this time: not at one moment, but soon
enough to share arrays again."""
ALONE_FACTOR = 5
"""A target without fallback is given this many times the budget of interruptions: to give up would
help nobody."""
_LONGEST_REASON = 160
_ALWAYS_REPORTED = frozenset({FailureKind.USER, FailureKind.CONFIGURATION})
_NODE_LOST = frozenset({FailureKind.INTERRUPTED, FailureKind.NODE_FAILURE})
_PAUSED: Mapping[FailureKind, tuple[str, Callable[[RetryRules], int], float]] = {
    FailureKind.NO_CAPACITY: (
        "no capacity",
        lambda rules: rules.no_capacity,
        CAPACITY_PAUSE_SECONDS,
    ),
    FailureKind.IMAGE: ("image not pulled", lambda rules: rules.image, IMAGE_PAUSE_SECONDS),
    FailureKind.LOST: ("lost", lambda rules: rules.lost, LOST_PAUSE_SECONDS),
    FailureKind.TIMEOUT: ("timeout", lambda rules: rules.timeout, 0.0),
}
"""In words, the budget, and the first pause in seconds. The budget's word in a policy is the kind's."""


Row = tuple[int, str, str | None, str | None, str | None, int | None]
"""A task of a ledger that failed: Snakemake's attempt, target, kind, reason, external id, memory asked for
in MB."""


@dataclass(frozen=True)
class Failure:
    """How one task of a job ended."""

    target: str
    kind: FailureKind
    reason: str = ""
    """The service's words in one line, shortened."""
    external_id: str | None = None
    """What a person would look up; None where the service refused it."""
    mem_mb: int | None = field(default=None, compare=False)
    """Memory that it had asked for, where a ledger tells it."""

    @property
    def line(self) -> str:
        """As a sentence: `interrupted on batch-spot (4711:3): Host EC2 terminated.`"""
        who = f" ({self.external_id})" if self.external_id else ""
        return f"{self.kind} on {self.target}{who}{': ' if self.reason else ''}{self.reason}"


@dataclass(frozen=True)
class History:
    """How a job has failed since Snakemake handed it over, oldest first: what Snakemake has not heard of."""

    failures: tuple[Failure, ...] = ()

    @classmethod
    def of(cls, rows: Iterable[Row]) -> History:
        """From a ledger's failed tasks of one job, oldest first.

        A row without a kind is passed over: that task was cancelled, or never sent. What was reported
        does not count: a failure of an earlier attempt, or of a kind that always is, and all before it.
        """
        history, last_attempt = cls(), None
        for attempt, target, kind, reason, external_id, mem_mb in rows:
            if kind is None:
                continue
            if attempt != last_attempt:
                history, last_attempt = cls(), attempt
            if kind in _ALWAYS_REPORTED:
                history = cls()
            else:
                outcome = Outcome(FailureKind(kind), reason or "")
                history = history.with_failure(target, outcome, external_id, mem_mb)
        return history

    def with_failure(
        self,
        target: str,
        outcome: Outcome,
        external_id: str | None = None,
        mem_mb: int | None = None,
    ) -> History:
        """The same, and this failure on the target of this name."""
        assert outcome.kind is not None, "a success is no failure"
        failure = Failure(target, outcome.kind, _in_short(outcome.reason), external_id, mem_mb)
        return replace(self, failures=(*self.failures, failure))

    @property
    def total(self) -> int:
        """Failures of all kinds on all targets: so often the job was sent."""
        return len(self.failures)

    def count(self, target: str, *kinds: FailureKind) -> int:
        """Failures of these kinds on the target of this name."""
        return sum(one.target == target and one.kind in kinds for one in self.failures)

    def lines(self) -> list[str]:
        """A line for each failure, numbered; like ones that follow each other share a line."""
        told, number = [], 0
        for _, group in groupby(self.failures, lambda one: replace(one, external_id=None)):
            alike = list(group)
            first, number = number + 1, number + len(alike)
            if len(alike) == 1:
                told.append(f"{number}. {alike[0].line}")
            else:
                told.append(f"{first}. to {number}. {replace(alike[0], external_id=None).line}")
        return told


@dataclass(frozen=True)
class Report:
    """Tell Snakemake; its own `--retries` decide."""

    reason: str = ""
    """Which budget is spent; empty where failures of this kind are never repeated."""


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
    history: History,
    *,
    fallback: str | None,
    interruptions: int,
    mem_mb: int | None,
    jitter: Callable[[], float] = random.random,
) -> Report | Resubmit:
    """What follows a failed task on this target, where the job may go to `fallback`.

    `history` is how the job failed before, this time not included. `interruptions` is the run's budget
    where the target has none of its own; `mem_mb` is what the job asked for; `jitter` gives 0 to 1.
    Whatever the outcomes, a job is sent at most `target.retry.total` times.
    """
    kind, rules = outcome.kind, target.retry
    if kind is None or kind in _ALWAYS_REPORTED:
        return Report()
    history = history.with_failure(target.name, outcome)
    if kind in _NODE_LOST:
        step = _without_node(kind, target, history, fallback, interruptions)
    elif kind == FailureKind.NO_CAPACITY and fallback:
        step = Resubmit(fallback, f"{target.name} has no capacity")
    elif kind == FailureKind.OUT_OF_MEMORY:
        step = _with_more_memory(target, history, mem_mb)
    elif outcome.permanent:
        step = Report()
    else:
        step = _repeated(kind, target, history)
    if isinstance(step, Report):
        return step
    if history.total >= rules.total:
        return Report(f"it was sent {_times(rules.total)}, as often as `total` of `retry` allows")
    return replace(step, delay_seconds=_scattered(step.delay_seconds, jitter()))


def memory_to_ask(
    history: History, targets: Mapping[str, Target], mem_mb: int | None
) -> int | None:
    """Memory in MB that a job with this history, out of a ledger, goes on with after it ran out of memory:
    what it had asked for last, or would have next. None where its own `mem_mb` is as much, and where its
    budget was spent, so that Snakemake had heard of it."""
    if mem_mb is None or not any(one.kind == FailureKind.OUT_OF_MEMORY for one in history.failures):
        return None
    last = history.failures[-1]
    asked = last.mem_mb
    if last.kind == FailureKind.OUT_OF_MEMORY:
        target = targets.get(last.target)
        step = _with_more_memory(target, history, asked) if target else Report()
        asked = step.mem_mb if isinstance(step, Resubmit) else None
    return asked if asked and asked > mem_mb else None


def _repeated(kind: FailureKind, target: Target, history: History) -> Report | Resubmit:
    """On the same target, after a pause that doubles."""
    words, budget_of, first_pause_seconds = _PAUSED[kind]
    count, budget = history.count(target.name, kind), budget_of(target.retry)
    if count > budget:
        return _spent(target, str(kind), budget)
    pause = min(first_pause_seconds * 2.0 ** (count - 1), LONGEST_PAUSE_SECONDS)
    return Resubmit(target.name, f"{words}, try {count} of {budget}", pause)


def _without_node(
    kind: FailureKind, target: Target, history: History, fallback: str | None, interruptions: int
) -> Report | Resubmit:
    name, rules = target.name, target.retry
    word, budget = "interruptions", rules.interruptions
    if rules.node_failure is None:
        count = history.count(name, FailureKind.INTERRUPTED, FailureKind.NODE_FAILURE)
    else:
        count = history.count(name, kind)
        if kind == FailureKind.NODE_FAILURE:
            word, budget = "node_failure", rules.node_failure
    if budget is None:
        budget = interruptions
    if fallback is None:
        budget *= ALONE_FACTOR
    if count <= budget:
        return Resubmit(name, f"{kind} {count} of {budget}")
    if fallback:
        return Resubmit(fallback, f"{kind} {_times(count)} on {name}")
    return _spent(target, word, budget)


def _with_more_memory(target: Target, history: History, mem_mb: int | None) -> Report | Resubmit:
    rules = target.retry
    if history.count(target.name, FailureKind.OUT_OF_MEMORY) > rules.memory_times:
        return _spent(target, "out_of_memory", rules.memory_times)
    if mem_mb is None:
        return Report("it asks for no `mem_mb` that could grow")
    more = int(mem_mb * rules.memory_factor)
    if rules.memory_up_to_mb is not None:
        more = min(more, rules.memory_up_to_mb)
    if more <= mem_mb:
        return Report(f"it had {mem_mb} MB, and `out_of_memory` of `retry` allows no more")
    return Resubmit(target.name, f"out of memory with {mem_mb} MB, now {more} MB", mem_mb=more)


def _spent(target: Target, word: str, budget: int) -> Report:
    """A budget of nothing is no budget to tell of."""
    if not budget:
        return Report()
    return Report(f"on {target.name} it was repeated {_times(budget)} (`{word}` of `retry`)")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _scattered(pause_seconds: float, chance: float) -> float:
    """Shortened by up to half at random: jobs that failed together do not come back in step."""
    return pause_seconds * (1 - chance / 2) if pause_seconds else HERD_SECONDS * chance


def _in_short(reason: str) -> str:
    line = " ".join(reason.split())
    return line if len(line) <= _LONGEST_REASON else f"{line[: _LONGEST_REASON - 1]}…"
