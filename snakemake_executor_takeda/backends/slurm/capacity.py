"""Tasks that wait for nodes: say why, and give up those that have waited for too long; nodes that fail.

A submission waits too long when for `pending_notice` minutes nothing of it has started, and nothing of
the run runs on its target. It is said once for each reason, and given up after `pending_limit`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

from snakemake_executor_takeda.backends.slurm.answers import Sighting, expand_hosts
from snakemake_executor_takeda.values import FailureKind, Outcome, Update

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.slurm.facts import NodeFacts
    from snakemake_executor_takeda.backends.slurm.options import SlurmOptions
    from snakemake_executor_takeda.values import Submission, Target

LIMIT_WITH_FALLBACK_MIN = 30
"""`pending_limit` where the target says none but has a fallback."""
FAILURES_OF_A_NODE = 2
"""After so many a node gets no more of the run's jobs."""
_MINUTE_S = 60.0

_NO_MACHINE = re.compile(
    r"insufficient\w*capacity|insufficient capacity|MaxSpotInstanceCountExceeded|SpotMaxPriceTooLow"
    r"|VcpuLimitExceeded|InstanceLimitExceeded|Code:Unsupported|Code:LimitedInstanceCapacity"
    r"|when resuming nodes|ResumeTimeout reached",
    re.IGNORECASE,
)
"""Why ParallelCluster sets a node down for which EC2 gave no instance, or one that did not boot:
https://docs.aws.amazon.com/parallelcluster/latest/ug/slurm-short-capacity-fail-mode-v3.html"""


class Cause(StrEnum):
    """What a pending task waits for."""

    TURN = "turn"
    UNAVAILABLE = "unavailable"
    """Its nodes are down, drained, powered down or reserved."""
    HELD = "held"
    """By somebody: it waits until it is released."""
    WISH = "wish"
    """A time, a dependency, a licence: as its options say."""


_UNAVAILABLE = re.compile(
    r"ReqNodeNotAvail|Nodes required for job are|NodeDown|PartitionDown|PartitionInactive|FrontEndDown",
    re.IGNORECASE,
)
_HELD = re.compile(r"JobHeld|HoldMaxRequeue|requeued?[ _]held|held state", re.IGNORECASE)
_WISH = re.compile(
    r"BeginTime|Dependency|Licenses|BurstBuffer|Reservation$|DeadLine", re.IGNORECASE
)


def cause_of(sighting: Sighting) -> Cause:
    """Of one task in the queue, by its state and Slurm's reason."""
    return _cause_of(sighting.state, sighting.reason)


@lru_cache(maxsize=1024)
def _cause_of(state: str, reason: str) -> Cause:
    if state in ("REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT") or _HELD.search(reason):
        return Cause.HELD
    if _UNAVAILABLE.search(reason):
        return Cause.UNAVAILABLE
    return Cause.WISH if _WISH.search(reason) else Cause.TURN


def limit_seconds(target: Target) -> float | None:
    """Seconds after which what does not start is given up, None for never."""
    options: SlurmOptions = target.options
    if options.pending_limit is not None:
        return options.pending_limit * _MINUTE_S
    return LIMIT_WITH_FALLBACK_MIN * _MINUTE_S if target.fallback else None


def notice_seconds(target: Target) -> float:
    """After how long it is said why: no later than it would be given up."""
    options: SlurmOptions = target.options
    limit = limit_seconds(target)
    notice = options.pending_notice * _MINUTE_S
    return notice if limit is None else min(notice, limit)


@dataclass(frozen=True)
class Queued:
    """One submission that has tasks in the queue."""

    submission: Submission
    job_id: str
    waiting: Mapping[str, Sighting]
    """Task id → how Slurm shows it."""


@dataclass(frozen=True)
class GiveUp:
    """Tasks to take out of the queue, with the outcome that they get when they are out."""

    task_ids: tuple[str, ...]
    outcome: Outcome


@dataclass
class _Wait:
    """What is known of one submission that waits."""

    count: int
    moved_at: float
    cause: Cause
    cause_since: float
    said: set[Cause] = field(default_factory=set)


class Pending:
    """Looks after all submissions of one run."""

    def __init__(self) -> None:
        self._waits: dict[str, _Wait] = {}
        self._ran_at: dict[str, float] = {}
        """Target → when a task of the run was last seen running there."""

    def look(
        self, queued: Collection[Queued], busy_targets: Collection[str], now: float
    ) -> Iterator[Update | GiveUp]:
        """Notes about what waits for too long, and what to give up. `busy_targets` are the names of
        those on which something of the run runs."""
        self._ran_at |= dict.fromkeys(busy_targets, now)
        known, self._waits = self._waits, {}
        for one in queued:
            self._waits[one.submission.submission_id] = self._wait(one, known, now)
        for one in queued:
            yield from self._look_at(one, now)

    def _wait(self, one: Queued, known: Mapping[str, _Wait], now: float) -> _Wait:
        cause = _main_cause(one.waiting.values())
        wait = known.get(one.submission.submission_id)
        if wait is None:
            return _Wait(len(one.waiting), now, cause, now)
        if len(one.waiting) != wait.count:
            wait.count, wait.moved_at = len(one.waiting), now
            wait.cause_since = now
            wait.said.clear()
        if cause != wait.cause:
            wait.cause, wait.cause_since = cause, now
        return wait

    def _look_at(self, one: Queued, now: float) -> Iterator[Update | GiveUp]:
        wait = self._waits[one.submission.submission_id]
        target = one.submission.target
        ran_at = self._ran_at.get(target.name, wait.moved_at)
        quiet_s = now - max(wait.moved_at, ran_at)
        waited_s = now - wait.cause_since if wait.cause == Cause.UNAVAILABLE else quiet_s
        limit_s = _limit_for(wait.cause, target)
        gives_up = limit_s is not None and waited_s >= limit_s
        if waited_s < notice_seconds(target) and not gives_up:
            return
        task_id = min(one.waiting)
        reason = _most_common(
            (sighting.reason or sighting.state)
            for sighting in one.waiting.values()
            if cause_of(sighting) == wait.cause
        )
        said = f"pending for {waited_s / _MINUTE_S:.0f} min: {_who(one)}: {reason}"
        if gives_up:
            yield GiveUp(
                tuple(one.waiting), Outcome(FailureKind.NO_CAPACITY, f"PENDING ({reason})")
            )
        elif wait.cause not in wait.said:
            wait.said.add(wait.cause)
            note = f"{said}. {_meaning(wait.cause, one)}{_then(limit_s, target)}"
            yield Update(
                task_id, note=note, detail={"cause": wait.cause, "tasks": len(one.waiting)}
            )


class BadNodes:
    """Nodes that fail again and again: the run's next jobs are not sent there."""

    def __init__(self) -> None:
        self._failures: Counter[str] = Counter()

    def failed(self, nodes: Iterable[str]) -> list[str]:
        """Count a failure of each; → those that are excluded from now on."""
        nodes = list(nodes)
        self._failures.update(nodes)
        return [node for node in nodes if self._failures[node] == FAILURES_OF_A_NODE]

    def excluded(self) -> tuple[str, ...]:
        return tuple(
            sorted(name for name, count in self._failures.items() if count >= FAILURES_OF_A_NODE)
        )


def without_machine(outcome: Outcome, hosts: str, nodes: Mapping[str, NodeFacts]) -> Outcome | None:
    """The outcome of a task whose node never came: EC2 had no machine for it. None where it was
    another failure."""
    for name in expand_hosts(hosts):
        node = nodes.get(name)
        if node is not None and _NO_MACHINE.search(node.reason):
            reason = f"{outcome.reason}: no machine for {name}: {node.reason}"
            return Outcome(FailureKind.NO_CAPACITY, reason)
    return None


def failed_nodes(hosts: str, nodes: Mapping[str, NodeFacts]) -> list[str]:
    """Those of a lost task's nodes that failed: its only one, or those that are not well now."""
    names = expand_hosts(hosts)
    if len(names) == 1:
        return names
    return [name for name in names if name in nodes and _is_unwell(nodes[name])]


def _is_unwell(node: NodeFacts) -> bool:
    return bool({"DOWN", "FAIL", "FAILING", "NOT_RESPONDING", "DRAIN"} & set(node.states))


def _main_cause(waiting: Iterable[Sighting]) -> Cause:
    """Of a submission: that of most of its tasks, but one that waits its turn says little."""
    causes = Counter(cause_of(sighting) for sighting in waiting)
    others = {cause: count for cause, count in causes.items() if cause != Cause.TURN}
    return max(others, key=lambda cause: others[cause]) if others else Cause.TURN


def _most_common(words: Iterable[str]) -> str:
    return Counter(words).most_common(1)[0][0]


def _limit_for(cause: Cause, target: Target) -> float | None:
    limit = limit_seconds(target)
    if cause in (Cause.HELD, Cause.WISH):
        return None
    if cause == Cause.UNAVAILABLE and limit is not None and target.fallback:
        # Said once, then left for as long again: nodes may come back.
        return min(limit, 2 * notice_seconds(target))
    return limit


def _who(one: Queued) -> str:
    rule = one.submission.tasks[0].job.rule
    count = len(one.submission.tasks)
    what = f"{len(one.waiting)} of {count} {rule}" if count > 1 else rule
    return f"{what} on target {one.submission.target.name} (job {one.job_id})"


def _meaning(cause: Cause, one: Queued) -> str:
    match cause:
        case Cause.UNAVAILABLE:
            return "The nodes are down, powered down or reserved; `sinfo -R` says why."
        case Cause.HELD:
            return f"It is held: `scontrol release {one.job_id}` lets it go on."
        case Cause.WISH:
            return "That is as its options say."
        case Cause.TURN:
            return f"It waits its turn; `squeue --start -j {one.job_id}` tells when."


def _then(limit_s: float | None, target: Target) -> str:
    """What will be done about it, if anything."""
    if limit_s is None:
        return ""
    minutes = limit_s / _MINUTE_S
    if target.fallback:
        return f" After {minutes:g} min it goes to {target.fallback}."
    return f" After {minutes:g} min it is given up."
