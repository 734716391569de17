"""What is new about open tasks: arrays are asked through their parents, children only where it moved."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends.batch import api
from snakemake_executor_takeda.backends.batch.outcomes import log_stream, outcome_of
from snakemake_executor_takeda.values import FailureKind, Outcome, Update

if TYPE_CHECKING:
    from snakemake_executor_takeda.values import Active, Target

ENDED = ("FAILED", "SUCCEEDED")
MISSING_GRACE_S = 600.0
"""A job that DescribeJobs does not show is lost only after this long: the list may lag behind."""
LOG_TAILS_PER_POLL = 50
"""When thousands fail at once they fail alike; the others' messages name their log stream."""


@dataclass
class _Watched:
    """What is remembered of one submission between polls, only to save calls."""

    listed: dict[str, int] = field(default_factory=dict)
    """State → the count up to which its children have been listed."""
    started: set[str] = field(default_factory=set)
    ends: dict[str, str] = field(default_factory=dict)
    """task_id → the state it was reported in; the caller says in `open_task_ids` what it took in."""
    missing_since: float | None = None


@dataclass(frozen=True)
class _Failed:
    """A failed child that has to be described for its reasons."""

    active: Active
    task_id: str
    child_id: str
    summary: Mapping[str, Any]


class Poller:
    """Polls the submissions of one run. Calls grow with arrays and failures, not with tasks."""

    def __init__(self, clients: api.Clients, clock: Callable[[], float] = time.monotonic) -> None:
        self._clients = clients
        self._clock = clock
        self._watched: dict[str, _Watched] = {}
        self._tails_left = 0

    def poll(self, active: Sequence[Active]) -> Iterator[Update]:
        """Raises botocore's errors; what was not said by then is said by the next poll."""
        self._tails_left = LOG_TAILS_PER_POLL
        ids = [one.accepted.external_id for one in active]
        self._watched = {job_id: self._watched.get(job_id, _Watched()) for job_id in ids}
        details = api.describe_jobs(self._clients.batch, ids)
        failed: list[_Failed] = []
        # Taken down at the very end: what an error kept from being said is listed again.
        listed: list[tuple[_Watched, str, int]] = []
        for one in active:
            watched = self._watched[one.accepted.external_id]
            detail = details.get(one.accepted.external_id)
            if detail is None:
                yield from self._missing(one, watched)
            elif len(one.submission.tasks) == 1:
                watched.missing_since = None
                yield from self._single(one, watched, detail)
            else:
                yield from self._array(one, watched, detail, failed, listed)
        yield from self._explain(failed)
        for watched, status, count in listed:
            watched.listed[status] = count

    def _single(self, one: Active, watched: _Watched, detail: dict[str, Any]) -> Iterator[Update]:
        for task_id in one.open_task_ids:
            if detail["status"] in ENDED:
                yield self._ended(one, watched, task_id, detail)
            elif detail["status"] == "RUNNING" and task_id not in watched.started:
                watched.started.add(task_id)
                yield Update(task_id, detail=_start(detail))

    def _array(
        self,
        one: Active,
        watched: _Watched,
        parent: dict[str, Any],
        failed: list[_Failed],
        listed: list[tuple[_Watched, str, int]],
    ) -> Iterator[Update]:
        counts = (parent.get("arrayProperties") or {}).get("statusSummary") or {}
        task_ids = _by_child_id(one)
        waiting = set(one.open_task_ids)
        for status in ENDED:
            if not self._moved(one, watched, counts, status):
                continue
            children = api.list_children(self._clients.batch, one.accepted.external_id, status)
            for child in children:
                task_id = task_ids.get(child["jobId"])
                if task_id not in waiting:
                    continue
                waiting.discard(task_id)
                if status == "FAILED":
                    failed.append(_Failed(one, task_id, child["jobId"], child))
                else:
                    yield self._ended(one, watched, task_id, {**child, "status": status})
            # Their number, not the parent's: a list that lags behind is read again by the next poll.
            listed.append((watched, status, len(children)))
        yield from self._started(one, watched, counts, waiting)
        if parent["status"] in ENDED and waiting:
            yield from self._left_over(one, watched, parent, waiting)
        else:
            watched.missing_since = None

    @staticmethod
    def _moved(one: Active, watched: _Watched, counts: Mapping[str, int], status: str) -> bool:
        """Has a child come to this end that has not been listed, or was one said in vain?"""
        return counts.get(status, 0) > watched.listed.get(status, 0) or any(
            watched.ends.get(task_id) == status for task_id in one.open_task_ids
        )

    def _started(
        self, one: Active, watched: _Watched, counts: Mapping[str, int], waiting: set[str]
    ) -> Iterator[Update]:
        """Children that run: asked for where more do, or did, than are known to have started."""
        size = len(one.submission.tasks)
        past_start = sum(counts.get(status, 0) for status in ("RUNNING", *ENDED))
        if not counts.get("RUNNING") or past_start <= size - len(waiting - watched.started):
            return
        task_ids = _by_child_id(one)
        for child in api.list_children(self._clients.batch, one.accepted.external_id, "RUNNING"):
            task_id = task_ids.get(child["jobId"])
            if task_id in waiting and task_id not in watched.started:
                watched.started.add(task_id)
                yield Update(task_id, detail=_start(child))

    def _left_over(
        self, one: Active, watched: _Watched, parent: dict[str, Any], waiting: set[str]
    ) -> Iterator[Update]:
        """Open tasks of an ended array: counts may lag, or the array ended before it had children."""
        ids = {one.accepted.task_external_ids[task_id]: task_id for task_id in waiting}
        children = api.describe_jobs(self._clients.batch, ids)
        gone = []
        for child_id, task_id in ids.items():
            child = children.get(child_id)
            if child is None and parent["status"] == "FAILED":
                yield self._ended(one, watched, task_id, parent)
            elif child is None:
                gone.append(task_id)
            elif child["status"] in ENDED:
                yield self._ended(one, watched, task_id, child)
        if gone:
            yield from self._missing(one, watched, gone)
        else:
            watched.missing_since = None

    def _explain(self, failed: Sequence[_Failed]) -> Iterator[Update]:
        details = api.describe_jobs(self._clients.batch, (one.child_id for one in failed))
        for one in failed:
            detail = details.get(one.child_id)
            if detail is None or detail["status"] != "FAILED":
                # The list was ahead of the description; it has the reason, though not the log.
                detail = {**one.summary, "status": "FAILED"}
            watched = self._watched[one.active.accepted.external_id]
            yield self._ended(one.active, watched, one.task_id, detail)

    def _ended(
        self, one: Active, watched: _Watched, task_id: str, detail: Mapping[str, Any]
    ) -> Update:
        target: Target = one.submission.target
        group = target.options.log_group
        outcome = outcome_of(detail, capacity=target.capacity, log_group=group)
        stream = log_stream(detail)
        if outcome.kind and stream and self._tails_left:
            self._tails_left -= 1
            outcome = replace(outcome, log_tail=api.log_tail(self._clients.logs, group, stream))
        watched.ends[task_id] = detail["status"]
        return Update(task_id, outcome)

    def _missing(
        self, one: Active, watched: _Watched, task_ids: Sequence[str] | None = None
    ) -> Iterator[Update]:
        now = self._clock()
        if watched.missing_since is None:
            watched.missing_since = now
        if now - watched.missing_since < MISSING_GRACE_S:
            return
        for task_id in one.open_task_ids if task_ids is None else task_ids:
            job_id = one.accepted.task_external_ids[task_id]
            yield Update(
                task_id,
                Outcome(
                    FailureKind.LOST,
                    reason=f"Batch does not know the job {job_id} any more",
                    advice="see in CloudTrail who removed it; run the workflow again to repeat it",
                ),
            )


def _by_child_id(one: Active) -> Mapping[str, str]:
    return {child_id: task_id for task_id, child_id in one.accepted.task_external_ids.items()}


def _start(detail: Mapping[str, Any]) -> dict[str, Any]:
    return {"started_at_ms": detail["startedAt"]} if detail.get("startedAt") else {}
