"""How a run stands, by its ledger: what is on its way, how the rest ended, what to do next. No I/O."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from snakemake_executor_takeda.ledger import KnownRun, SentTask

RERUN = "say the same snakemake command with --rerun-incomplete"


@dataclass
class TargetCounts:
    """Tasks of one target."""

    target: str
    backend: str
    unanswered: int = 0
    """Sent, or about to be, when the ledger was last written."""
    under_way: int = 0
    """Taken by the service, and not known to have ended."""
    succeeded: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    """By kind. Each is one submission of a job, which may have been sent again since."""
    cancelled: int = 0

    def count(self, task: SentTask) -> None:
        if task.state == "intent":
            self.unanswered += 1
        elif task.state == "accepted":
            self.under_way += 1
        elif task.state == "succeeded":
            self.succeeded += 1
        elif task.state == "failed":
            self.failed[task.kind or "unknown"] += 1
        else:
            self.cancelled += 1


@dataclass(frozen=True)
class Standing:
    """Of one run, at one moment."""

    run: KnownRun
    state: str
    """`running`, `abandoned`, `cancelling`, `detached`, `ended` or `cancelled`."""
    words: str
    """The state, as a person says it."""
    to_do: str
    """What to type now; empty where nothing has to be done."""
    targets: Sequence[TargetCounts]
    open: Sequence[SentTask]
    failed: Sequence[SentTask]
    """The last task of each job that failed and was not sent again."""

    @property
    def is_problem(self) -> bool:
        is_half_ended = self.state == "cancelling" and not self.run.is_controlled
        return self.state == "abandoned" or is_half_ended or bool(self.failed)


def standing(
    run: KnownRun, tasks: Sequence[SentTask], *, is_locked: bool, is_copy: bool
) -> Standing:
    """`is_locked`: Snakemake's own lock is in the directory. `is_copy`: the run was not made in it."""
    counts: dict[str, TargetCounts] = {}
    last: dict[str, SentTask] = {}
    for task in tasks:
        counts.setdefault(task.target, TargetCounts(task.target, task.backend)).count(task)
        last[task.identity] = task
    state, words = _state(run)
    return Standing(
        run,
        state,
        words,
        _to_do(run, state, is_locked=is_locked, is_copy=is_copy),
        list(counts.values()),
        [task for task in tasks if task.is_open],
        [task for task in last.values() if task.state == "failed"],
    )


def _state(run: KnownRun) -> tuple[str, str]:
    who = f"process {run.pid} on {run.host}"
    if run.state == "cancelling":
        if run.is_controlled:
            return run.state, f"being ended by {who}"
        return run.state, f"half ended: who ended it is gone ({who}, or `takeda cancel`)"
    if run.state != "running":
        words = {
            "detached": "detached: what was sent goes on without a controller",
            "ended": "ended",
            "cancelled": "cancelled",
        }
        return run.state, words.get(run.state, run.state)
    if run.is_controlled:
        return "running", f"running under {who}"
    if run.host == socket.gethostname():
        return "abandoned", f"its controller, {who}, is gone: what was sent goes on"
    return "running", f"running under {who}, as far as can be seen from here"


def _to_do(run: KnownRun, state: str, *, is_locked: bool, is_copy: bool) -> str:
    if not run.is_unfinished or run.is_controlled:
        return ""
    if is_copy and run.remote_prefix is None:
        return f"this is a copy, whose jobs write into {run.workdir}: go on there"
    rerun = f"{RERUN}, and with --unlock before that" if is_locked else RERUN
    if state == "cancelling":
        return f"to end the rest, `takeda cancel`; to end it and start anew, {rerun}"
    if state == "running":
        return f"if it is gone: to go on, {rerun}; to end all jobs, `takeda cancel`"
    return f"to go on, {rerun}; to end all jobs, `takeda cancel`"


def names(wildcards: Mapping[str, str]) -> str:
    """`sample=A, lane=1`; empty where there are none."""
    return ", ".join(f"{name}={value}" for name, value in wildcards.items())
