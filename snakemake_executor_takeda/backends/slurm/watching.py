"""What is new about open tasks: the tasks' own records first, then one look at the queue."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_executor_takeda.backends.slurm import states
from snakemake_executor_takeda.backends.slurm.answers import Sighting, task_id_of
from snakemake_executor_takeda.backends.slurm.arguments import log_path
from snakemake_executor_takeda.backends.slurm.clients.base import (
    SlurmClient,
    SlurmRefused,
    SlurmSilent,
)
from snakemake_executor_takeda.backends.slurm.records import ExitRecord, ExitRecords, log_tail
from snakemake_executor_takeda.backends.slurm.states import Doubt
from snakemake_executor_takeda.values import FailureKind, Outcome, Update

if TYPE_CHECKING:
    from snakemake_executor_takeda.values import Active, Task

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """How long a doubtful sight must last, in polls and in seconds, before it is believed."""

    polls: int = 3
    seconds: Mapping[Doubt, float] = field(
        default_factory=lambda: {
            Doubt.UNRECORDED: 5.0,
            Doubt.UNSETTLED: 60.0,
            Doubt.PARTIAL: 5.0,
            Doubt.ABSENT: 30.0,
            Doubt.HOPELESS: 60.0,
        }
    )


@dataclass(frozen=True)
class _Open:
    task: Task
    external_id: str
    job_id: str
    log: Path


@dataclass
class _Waiting:
    doubt: Doubt
    since: float
    polls: int = 0


class Watcher:
    """Remembers between polls what it has said and what it doubts."""

    def __init__(
        self,
        client: SlurmClient,
        records: ExitRecords,
        logs: Path,
        patience: Patience | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._records = records
        self._logs = logs
        self._patience = patience or Patience()
        self._clock = clock
        self._is_silent = False
        self._started: set[str] = set()
        self._hopeless: list[str] = []
        self._nodes: dict[str, str] = {}
        self._waiting: dict[str, _Waiting] = {}

    def poll(self, active: Sequence[Active]) -> Iterator[Update]:
        """Updates; without an answer from Slurm only successes that the records tell of."""
        opened = list(_open_tasks(active, self._logs))
        self._forget_all_but({one.task.task_id for one in opened})
        if self._waiting:
            self._records.refresh()
        recorded = self._records.names()
        records = {
            one.task.task_id: self._records.read(one.task.task_id)
            for one in opened
            if one.task.task_id in recorded
        }
        try:
            queue = self._client.queue()
            self._is_silent = False
        except (SlurmSilent, SlurmRefused) as error:
            queue = None
            if not self._is_silent:
                self._is_silent = True
                _log.warning("Slurm does not say how the jobs do, asking again: %s", error)
        for one in opened:
            record = records.get(one.task.task_id)
            if queue is None:
                update = self._without_slurm(one, record)
            else:
                update = self._look(one, queue.get(one.external_id), record)
            if update is not None:
                yield update
        self._end_hopeless()

    def _look(
        self, one: _Open, sighting: Sighting | None, record: ExitRecord | None
    ) -> Update | None:
        if sighting is None and record is None:
            return self._absent(one)
        task_id = one.task.task_id
        # squeue lists of a COMPLETING job only the nodes that it has not given back.
        is_partial = sighting is not None and sighting.state == "COMPLETING"
        if sighting is not None and sighting.nodes and not (is_partial and _spreads(one.task)):
            self._nodes[task_id] = sighting.nodes
        verdict = states.verdict_of(one.task, sighting, record)
        if verdict is not None:
            if is_partial and task_id not in self._nodes and verdict.doubt is None:
                verdict = replace(verdict, doubt=Doubt.PARTIAL)
            if verdict.doubt and not self._lasts(one, verdict.doubt):
                return None
            if verdict.doubt == Doubt.HOPELESS:
                self._hopeless.append(one.external_id)
            return self._ended(one, verdict.outcome, record)
        self._waiting.pop(task_id, None)
        if sighting and sighting.state in states.RUNNING and task_id not in self._started:
            self._started.add(task_id)
            return Update(task_id, detail={"nodes": sighting.nodes})
        return None

    def _absent(self, one: _Open) -> Update | None:
        """Slurm forgets ended jobs after some minutes, and a record may come late."""
        if not self._lasts(one, Doubt.ABSENT):
            return None
        try:
            sighting = self._client.jobs(one.job_id).get(one.external_id)
        except (SlurmSilent, SlurmRefused):
            return None
        if sighting is not None:
            outcome = states.outcome_of(one.task, sighting, None)
            return self._ended(one, outcome, None) if outcome else None
        reason = "Slurm does not know the job any more, and it left no record"
        advice = "Was it removed, or was the controller started anew without its saved state?"
        return self._ended(one, Outcome(FailureKind.LOST, reason, advice=advice), None)

    def _without_slurm(self, one: _Open, record: ExitRecord | None) -> Update | None:
        outcome = states.outcome_of(one.task, None, record)
        if outcome is not None:
            return self._ended(one, outcome, record)
        # What is not seen now must not be counted as absent.
        self._waiting.pop(one.task.task_id, None)
        return None

    def _ended(self, one: _Open, outcome: Outcome, record: ExitRecord | None) -> Update:
        detail: dict[str, object] = {"log": str(one.log)}
        nodes = self._nodes.get(one.task.task_id) or (record.host if record else "")
        if nodes:
            detail["nodes"] = nodes
        if record is not None and record.max_rss_kib:
            detail["max_rss_kib"] = record.max_rss_kib
        outcome = replace(outcome, detail=detail, log_location=str(one.log))
        if not outcome.succeeded:
            outcome = replace(outcome, log_tail=log_tail(one.log))
        return Update(one.task.task_id, outcome)

    def _lasts(self, one: _Open, doubt: Doubt) -> bool:
        """Whether the same doubtful sight has lasted long enough, this look included."""
        now = self._clock()
        waiting = self._waiting.get(one.task.task_id)
        if waiting is None or waiting.doubt != doubt:
            waiting = self._waiting[one.task.task_id] = _Waiting(doubt, now)
        waiting.polls += 1
        long_enough = now - waiting.since >= self._patience.seconds[doubt]
        return long_enough and waiting.polls >= self._patience.polls

    def _end_hopeless(self) -> None:
        """What would wait for ever has been reported as failed, so it must not stay in the queue."""
        if self._hopeless:
            with contextlib.suppress(SlurmSilent):  # asked again at the next poll
                self._client.cancel(self._hopeless)
                self._hopeless.clear()

    def _forget_all_but(self, open_ids: set[str]) -> None:
        self._started &= open_ids
        for memory in (self._nodes, self._waiting):
            for task_id in memory.keys() - open_ids:
                del memory[task_id]


def _spreads(task: Task) -> bool:
    return task.job.shape.nodes > 1 or task.job.shape.tasks > 1


def _open_tasks(active: Sequence[Active], logs: Path) -> Iterator[_Open]:
    for one in active:
        submission, job_id = one.submission, one.accepted.external_id
        for index, task in enumerate(submission.tasks):
            if task.task_id in one.open_task_ids:
                yield _Open(
                    task,
                    task_id_of(job_id, index, len(submission.tasks)),
                    job_id,
                    log_path(logs / submission.submission_id, index),
                )
