"""Slurm's words on a task and the task's own → how it ended, or that it has not. Pure.

The states are those of squeue, scontrol and sacct, 21.08 to 26.05. A word that is not known is no end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from snakemake_executor_takeda.full_disks import no_space
from snakemake_executor_takeda.values import FailureKind, Outcome
from snakemake_executor_takeda.worker.exits import (
    DISK_FULL,
    NO_MODULES,
    NODE_LOST,
    NODES_UNFIT,
    UNREACHABLE,
)

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.slurm.answers import Sighting
    from snakemake_executor_takeda.backends.slurm.options import SlurmOptions
    from snakemake_executor_takeda.backends.slurm.records import ExitRecord
    from snakemake_executor_takeda.values import Task

RUNNING = frozenset(
    {"RUNNING", "COMPLETING", "RESIZING", "SUSPENDED", "SIGNALING", "STAGE_OUT", "STOPPED"}
)
"""The task has begun and has not ended."""
WAITING = frozenset(
    {
        "PENDING",
        "REQUEUED",
        "REQUEUE_FED",
        "REQUEUE_HOLD",
        "RESV_DEL_HOLD",
        "SPECIAL_EXIT",
        "EXPEDITING",
    }
)
"""The task is in the queue, for the first time or again. A SPECIAL_EXIT or …_HOLD is held there."""
AGAIN = WAITING | {"CONFIGURING"}
"""It is to be run, perhaps again: what an earlier run of it left behind is no end."""

_FAILURES = {
    "BOOT_FAIL": FailureKind.NO_CAPACITY,
    "CANCELLED": FailureKind.USER,
    "DEADLINE": FailureKind.TIMEOUT,
    "LAUNCH_FAILED": FailureKind.NODE_FAILURE,
    "NODE_FAIL": FailureKind.NODE_FAILURE,
    "OUT_OF_MEMORY": FailureKind.OUT_OF_MEMORY,
    "PREEMPTED": FailureKind.INTERRUPTED,
    "RECONFIG_FAIL": FailureKind.NODE_FAILURE,
    "REVOKED": FailureKind.LOST,
    "TIMEOUT": FailureKind.TIMEOUT,
}
"""States in which Slurm itself says why the task failed."""
_OWN_END = frozenset({"COMPLETED", "FAILED"})
"""States in which the batch script ended by itself."""
ENDED = _FAILURES.keys() | _OWN_END
_HOPELESS = {
    "AccountNotAllowed": "the account may not use this partition",
    "BadConstraints": "no node has what the job asks for",
    "DependencyNeverSatisfied": "what it depends on has failed",
    "InvalidAccount": "the account is not valid",
    "InvalidQOS": "the quality of service is not valid",
    "PartitionNodeLimit": "it asks for more nodes than the partition gives a job",
    "PartitionTimeLimit": "it asks for more time than the partition gives a job",
    "QOSNotAllowed": "the quality of service may not use this partition",
    "launch_failed_requeued_held": "it could not be launched and is held",
}
"""Reasons of a pending job that waiting does not mend."""
_ENDING_FOR = {"NodeDown": "NODE_FAIL", "OutOfMemory": "OUT_OF_MEMORY", "TimeLimit": "TIMEOUT"}
"""Reason of a COMPLETING job → the state that it will have: an epilog may take minutes."""
_KILLED = 137
"""128 + SIGKILL."""
_OF_WORKER: Mapping[int, tuple[FailureKind, str, str]] = {
    NODE_LOST: (
        FailureKind.NODE_FAILURE,
        "the command failed, and a node of its allocation does not answer any more",
        "",
    ),
    NODES_UNFIT: (
        FailureKind.CONFIGURATION,
        "a node of the job is not what the target says",
        "The log names the node and what to change.",
    ),
    DISK_FULL: (
        FailureKind.LOST,
        "no space was left on the node for the task's directory",
        "The log names the path: free space there, or name another `scratch` in the target.",
    ),
}
"""Exit codes of the worker's own → kind, reason, advice."""
NO_LOG = 181
"""What `ExitCode=0:53` is read as, with which Slurm ends a task whose log it could not open."""
_NOT_STARTED = frozenset({126, 127})
"""A shell's codes for a program that is not there, or is none."""


@dataclass(frozen=True)
class Place:
    """Where the tasks of a run leave their records."""

    name: str
    seen_by: str = "do they see the run's directory"
    """What nodes must be able to do to take up a task, as a question."""


RUNS_DIRECTORY = Place("the run's directory")


class Doubt(StrEnum):
    """Why a verdict holds only if the same is seen for a while."""

    UNRECORDED = "unrecorded"
    """Ended for Slurm, but without a record: a shared file system shows it late."""
    UNSETTLED = "unsettled"
    """A record of failure, while Slurm does not say why."""
    PARTIAL = "partial"
    """Ended well or not, but of several nodes Slurm lists only those that it has not taken back; or a node
    is gone, as its worker saw, and Slurm waits for it."""
    ABSENT = "absent"
    """Not in the queue, and without a record."""
    HOPELESS = "hopeless"
    """Waiting for a reason that does not go away, unless nodes come up or limits change."""


@dataclass(frozen=True)
class Verdict:
    """How a task ended; firm at once where there is no doubt."""

    outcome: Outcome
    doubt: Doubt | None = None


def verdict_of(
    task: Task,
    sighting: Sighting | None,
    record: ExitRecord | None,
    place: Place = RUNS_DIRECTORY,
) -> Verdict | None:
    """None while the task goes on, and for one of which nothing is seen."""
    if outcome := outcome_of(task, sighting, record, place):
        return Verdict(outcome, None if record else Doubt.UNRECORDED)
    if record is None or (sighting and sighting.state in AGAIN):
        return None
    if sighting is not None and sighting.state == "COMPLETING":
        if state := _ENDING_FOR.get(sighting.reason):
            outcome = outcome_of(task, replace(sighting, state=state), record)
        if outcome or record.exit_code == NODE_LOST:
            return Verdict(outcome or _failed(task, record), Doubt.PARTIAL)
    return Verdict(_failed(task, record), Doubt.UNSETTLED)


def hopeless(task: Task, sighting: Sighting) -> Outcome | None:
    """Why a task that waits would never start; None where waiting may help."""
    why = _HOPELESS.get(sighting.reason.replace(" ", "_")) if sighting.state in WAITING else None
    if why is None:
        return None
    advice = f"Slurm would never start it: {why}. Change rule {task.job.rule} or the target."
    return Outcome(FailureKind.CONFIGURATION, _reason(sighting), advice=advice)


def cancelled_in_array(task: Task) -> Outcome:
    """Of a task that never began and that Slurm does not list any more, though it knows its array."""
    reason = "CANCELLED: it was taken out of its array while it waited"
    return Outcome(FailureKind.USER, reason, advice=_advice(FailureKind.USER, task))


def without_room(outcome: Outcome, place: Place) -> Outcome:
    """The end of a task that had no record, where it is known that there is no room for its log."""
    said = outcome.reason.partition(":")[0]
    reason = no_space(place.name, "the task's log could not be opened, and it never began")
    return replace(outcome, kind=FailureKind.LOST, reason=f"{said}: {reason}", advice="")


def outcome_of(
    task: Task,
    sighting: Sighting | None,
    record: ExitRecord | None,
    place: Place = RUNS_DIRECTORY,
) -> Outcome | None:
    """How the task ended, without its log; None while it goes on, or while it isn't known.

    A record of success is the last word. A record of failure is not: Slurm may have ended the
    command, so its state says why.
    """
    if record is not None and record.exit_code == 0:
        return Outcome(exit_code=0, wall_seconds=record.wall_seconds)
    if sighting is None or sighting.state not in ENDED:
        return None
    if sighting.state in _OWN_END and record is not None:
        return _failed(task, record, _reason(sighting))
    wall = record.wall_seconds if record else sighting.wall_seconds
    if sighting.state == "COMPLETED":
        return Outcome(exit_code=0, wall_seconds=wall)
    if sighting.state == "FAILED":
        return _failed_unrecorded(task, sighting, place)
    kind = _FAILURES[sighting.state]
    if kind == FailureKind.NODE_FAILURE and _is_spot(task):
        kind = FailureKind.INTERRUPTED
    # Slurm's own exit code says nothing here: scontrol and sacct differ even for one job.
    code = record.exit_code if record else None
    return Outcome(
        kind,
        _reason(sighting),
        code,
        advice=_advice(kind, task),
        # REVOKED: a sibling of it runs on another cluster of a federation.
        permanent=kind == FailureKind.LOST,
        wall_seconds=wall,
    )


def _failed(task: Task, record: ExitRecord, reason: str = "") -> Outcome:
    """The command itself failed, or the worker ended it for what is wrong with a node."""
    code = record.exit_code
    if code in _OF_WORKER:
        return _ended_by_worker(task, record, reason)
    advice = ""
    if code == _KILLED:
        memory = _advice(FailureKind.OUT_OF_MEMORY, task)
        advice = f"Exit code 137 is SIGKILL, often for lack of memory. {memory}"
    return Outcome(
        FailureKind.USER,
        reason or f"exit code {code}",
        code,
        advice=advice,
        wall_seconds=record.wall_seconds,
    )


def _ended_by_worker(task: Task, record: ExitRecord, said: str) -> Outcome:
    kind, reason, advice = _OF_WORKER[record.exit_code]
    if kind == FailureKind.NODE_FAILURE and _is_spot(task):
        kind = FailureKind.INTERRUPTED
    reason = f"{said}: {reason}" if said else reason
    return Outcome(kind, reason, record.exit_code, advice=advice, wall_seconds=record.wall_seconds)


def _failed_unrecorded(task: Task, sighting: Sighting, place: Place) -> Outcome:
    code, wall = sighting.exit_code, sighting.wall_seconds
    if code == DISK_FULL:
        reason = no_space(place.name, "it could not be written down how the task ended")
        return Outcome(FailureKind.LOST, f"{_reason(sighting)}: {reason}", code, wall_seconds=wall)
    if code == _KILLED:
        kind = FailureKind.OUT_OF_MEMORY
        reason = f"{_reason(sighting)}: all of it was killed (SIGKILL), often for lack of memory"
        return Outcome(kind, reason, code, advice=_advice(kind, task), wall_seconds=wall)
    what, advice = _lacking(task, code, place)
    reason = f"{_reason(sighting)}: {what}"
    return Outcome(FailureKind.CONFIGURATION, reason, code, advice=advice, wall_seconds=wall)


def _lacking(task: Task, code: int | None, place: Place) -> tuple[str, str]:
    """What kept the worker from its work, and what to do."""
    options: SlurmOptions = task.target.options
    if code == NO_MODULES:
        named = f" ({', '.join(options.modules)})" if options.modules else ""
        return (
            "environment modules could not be loaded on the node",
            f"The log says which. Change `modules` of target {task.target.name}{named} or "
            f"`envmodules:` of rule {task.job.rule}; `module avail` on a node tells what there is.",
        )
    if code == UNREACHABLE:
        return (
            "the worker could not reach what the run left for it",
            f"The log says why. Do the nodes have credentials, and {place.seen_by}?",
        )
    if code == NO_LOG:
        return (
            "Slurm could not open the task's log, and it never began",
            f"May it be written below {place.name} on the nodes, and {place.seen_by}?",
        )
    if code in _NOT_STARTED:
        return (
            "the worker could not be started",
            f"Set `python` of target {task.target.name} to a Python on the nodes that has this "
            "package; the log names the one that was tried.",
        )
    return (
        "the worker ended without leaving a record",
        f"See the log. Do the nodes have the `python` of the target, with this package, and {place.seen_by}?",
    )


def _is_spot(task: Task) -> bool:
    return task.target.capacity == "spot"


def _reason(sighting: Sighting) -> str:
    return f"{sighting.state} ({sighting.reason})" if sighting.reason else sighting.state


def _advice(kind: FailureKind, task: Task) -> str:
    shape, rule = task.job.shape, task.job.rule
    if kind == FailureKind.TIMEOUT:
        now = f"{shape.runtime_min} min" if shape.runtime_min else "the partition's limit"
        return f"Raise `runtime` of rule {rule}; it is {now}."
    if kind == FailureKind.OUT_OF_MEMORY:
        return f"Raise `mem_mb` of rule {rule}; it is {shape.mem_mb or 'not set'}."
    if kind == FailureKind.USER:
        return "Somebody, or the site's rules, cancelled the job in Slurm."
    return ""
