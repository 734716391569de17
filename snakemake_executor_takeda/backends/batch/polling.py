"""What is new about open tasks: told by events, or asked; arrays through their parents, children only
where they moved."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from snakemake_executor_takeda.backends.batch import api
from snakemake_executor_takeda.backends.batch.explaining import Failed, explain, outcome
from snakemake_executor_takeda.backends.batch.job_events import newer
from snakemake_executor_takeda.backends.batch.looking import (
    DESCRIBE_PAGE,
    SECONDS_PER_CALL,
    Look,
    how_to_look,
    is_due,
    is_start_due,
)
from snakemake_executor_takeda.backends.batch.stuck import StuckJobs
from snakemake_executor_takeda.backends.batch.watched import ENDED, Watched
from snakemake_executor_takeda.values import FailureKind, Outcome, Update

if TYPE_CHECKING:
    from snakemake_executor_takeda.values import Active, Target

MISSING_GRACE_S = 600.0
"""A job that DescribeJobs does not show is lost only after this long: the list may lag behind."""
RECONCILE_GROWTH = 1.5
LONGEST_RECONCILE = 5
"""Times the first pause: the longest between two looks at jobs whose ends are told."""
EARLY_S = 300.0
"""An event may be ahead of the answer to SubmitJob: one of a job not known yet is kept this long."""
MAX_EARLY = 20_000
_NEVER_PLACED = frozenset({FailureKind.NO_CAPACITY, FailureKind.CONFIGURATION})
"""Kinds of ends that, without a start, say nothing of the queue's machines."""


class Hearing(Protocol):
    """Where events come from: `listening.Ears`."""

    def told_of(self, target: Target) -> bool: ...
    def take(self) -> Iterable[Mapping[str, Any]]: ...


class Deaf:
    """No events: everything is asked."""

    def told_of(self, target: Target) -> bool:
        return False

    def take(self) -> Iterable[Mapping[str, Any]]:
        return ()


@dataclass(frozen=True)
class _Moved:
    """An array some of whose children have ended, and how to find out which."""

    watched: Watched
    parent: Mapping[str, Any]
    counts: Mapping[str, int]
    look: Look | None


class Poller:
    """Polls the submissions of one run. Calls grow with arrays and failures, not with tasks."""

    def __init__(
        self,
        clients: api.Clients,
        hearing: Hearing | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._clients = clients
        self._hearing = hearing or Deaf()
        self._clock = clock
        self._sleep = sleep
        self._watched: dict[str, Watched] = {}
        self._stuck = StuckJobs(clients)
        self._early: dict[str, tuple[float, Mapping[str, Any]]] = {}
        self._reconcile_at: float | None = None
        self._reconcile_factor = 1.0

    def knows(self, job_id: str) -> bool:
        """Whether a job, or the array of a child, was open at the last poll. From any thread."""
        return job_id.partition(":")[0] in self._watched

    def poll(self, active: Sequence[Active]) -> Iterator[Update]:
        """Raises botocore's errors; what was not said by then is said by the next poll."""
        now = self._clock()
        watched = {}
        for one in active:
            known = self._watched.get(one.accepted.external_id) or Watched(one, now)
            known.take_in(one)
            watched[known.job_id] = known
        self._watched = watched
        yield from self._told(now)
        asked, pause_s = self._whom_to_ask(now)
        for update in self._asked(asked, now):
            if update.outcome and pause_s is not None:
                # An event did not come, or is late: the next look is soon.
                self._reconcile_factor = 1.0
                self._reconcile_at = now + pause_s
            yield update

    # Told.

    def _told(self, now: float) -> Iterator[Update]:
        """From the events themselves, without a call but for the logs of what failed."""
        failed: list[Failed] = []
        for job in self._events(now):
            watched = self._watched[job["jobId"].partition(":")[0]]
            task_id = watched.task_ids.get(job["jobId"])
            # A duplicate, one that comes late, or one about an array's parent.
            if task_id is None or not watched.is_open(task_id):
                continue
            if job["status"] == "FAILED":
                failed.append(Failed(watched, task_id, job))
            else:
                yield from self._news(watched, task_id, job, failed, now)
        try:
            yield from self._explained(failed, now)
        except Exception:
            # Nobody tells of it again: ask at once.
            self._reconcile_at = now
            raise

    def _events(self, now: float) -> list[Mapping[str, Any]]:
        """The latest event of each job that is known by now."""
        events = {job_id: kept for job_id, kept in self._early.items() if now - kept[0] < EARLY_S}
        for job in self._hearing.take():
            before = events.pop(job["jobId"], None)
            events[job["jobId"]] = (now, newer(before[1] if before else None, job))
        known = [job for job_id, (_, job) in events.items() if self.knows(job_id)]
        early = [(job_id, kept) for job_id, kept in events.items() if not self.knows(job_id)]
        self._early = dict(early[-MAX_EARLY:])
        return known

    # Asked.

    def _whom_to_ask(self, now: float) -> tuple[list[Watched], float | None]:
        """Those nobody tells of; and the others too when it is time to see that nothing was missed:
        then with the shortest pause until the next such look, else with None."""
        everybody = list(self._watched.values())
        told = {
            one.job_id: one
            for one in everybody
            if self._hearing.told_of(one.target) and not one.was_not_heard
        }
        if not told:
            self._reconcile_at = None
            return everybody, None
        pause_s = float(min(one.target.options.reconcile_seconds for one in told.values()))
        if self._reconcile_at is None:
            self._reconcile_factor = 1.0
            self._reconcile_at = now + pause_s
        if now < self._reconcile_at:
            return [one for one in everybody if one.job_id not in told], None
        self._reconcile_at = now + pause_s * self._reconcile_factor
        self._reconcile_factor = min(self._reconcile_factor * RECONCILE_GROWTH, LONGEST_RECONCILE)
        return everybody, pause_s

    def _asked(self, asked: Sequence[Watched], now: float) -> Iterator[Update]:
        failed: list[Failed] = []
        arrays: list[_Moved] = []
        details = api.describe_jobs(self._clients.batch, (one.job_id for one in asked))
        for one in asked:
            detail = details.get(one.job_id)
            if detail is None:
                yield from self._missing(one, one.open_tasks(), now)
                continue
            counts = one.counts(detail, now)
            if one.is_array:
                look = how_to_look(
                    one.open_count,
                    counts,
                    one.unseen(counts),
                    only_list=detail["status"] in ENDED or one.descriptions_lag,
                )
                arrays.append(_Moved(one, detail, counts, look))
                continue
            one.missing_since = None
            for task_id in one.open_tasks():
                yield from self._news(one, task_id, detail, failed, now)
        yield from self._children(arrays, failed, now)
        yield from self._explained(failed, now)
        for array in arrays:
            yield from self._left_over(array, now)
        yield from self._stuck.look(self._watched.values(), details, now)

    def _children(
        self, arrays: Sequence[_Moved], failed: list[Failed], now: float
    ) -> Iterator[Update]:
        calls = sum(array.look.calls for array in arrays if array.look)
        for array in arrays:
            watched, look = array.watched, array.look
            others = calls - (look.calls if look else 0)
            ended = array.parent["status"] in ENDED
            if look and is_due(
                look,
                waited_s=now - watched.looked_at,
                others=others,
                parent_ended=ended and not watched.looked_after_the_end,
            ):
                watched.looked_at = now
                yield from self._look(array, look, failed, now)
                watched.looked_after_the_end = ended
            yield from self._starts(array, others, now, len(failed))

    def _look(
        self, array: _Moved, look: Look, failed: list[Failed], now: float
    ) -> Iterator[Update]:
        """Until as many ends were found as the parent counts."""
        watched = array.watched
        found = 0
        if not look.states:
            ids = [watched.active.accepted.task_external_ids[t] for t in watched.open_tasks()]
            for child in api.describe_each(self._clients.batch, ids):
                found += child["status"] in ENDED
                task_id = watched.task_ids.get(child["jobId"])
                if watched.is_open(task_id):
                    yield from self._news(watched, str(task_id), child, failed, now)
                if found >= look.brings:
                    return
            watched.descriptions_lag = True
            return
        watched.descriptions_lag = False
        for state in look.states:
            yield from self._list(watched, state, array.counts, failed, now)

    def _list(
        self,
        watched: Watched,
        state: str,
        counts: Mapping[str, int],
        failed: list[Failed],
        now: float,
    ) -> Iterator[Update]:
        unseen = watched.unseen(counts)[state]
        to_explain = len(failed)
        listed = found = 0
        for child in api.list_children(self._clients.batch, watched.job_id, state):
            listed += 1
            task_id = watched.task_ids.get(child["jobId"])
            if not watched.is_open(task_id):
                continue
            found += 1
            if state == "FAILED":
                failed.append(Failed(watched, str(task_id), {**child, "status": state}, True))
            else:
                yield from self._news(
                    watched, str(task_id), {**child, "status": state}, failed, now
                )
            if found >= unseen:
                return
        # All of them: their number, not the parent's, since a list may lag behind. Those still to be
        # explained count when they are said.
        watched.seen[state] = listed - (len(failed) - to_explain)

    def _starts(self, array: _Moved, others: int, now: float, explaining: int) -> Iterator[Update]:
        """Children that run: asked for where more do, or did, than are known to have started."""
        watched, counts = array.watched, array.counts
        running = counts.get("RUNNING", 0)
        past_start = running + sum(counts.get(state, 0) for state in ENDED)
        unknown = past_start - (watched.size - watched.open_count) - len(watched.started)
        if not running or unknown - explaining <= 0:
            return
        if not is_start_due(
            watched.size, running, waited_s=now - watched.starts_looked_at, others=others
        ):
            return
        watched.starts_looked_at = now
        for child in api.list_children(self._clients.batch, watched.job_id, "RUNNING"):
            task_id = watched.task_ids.get(child["jobId"])
            if watched.is_open(task_id) and watched.says_start(str(task_id), now):
                yield Update(str(task_id), detail=_start(child))
                unknown -= 1
                if unknown <= 0:
                    return

    def _left_over(self, array: _Moved, now: float) -> Iterator[Update]:
        """Open tasks of an ended array: its list may lag, or it ended before it had children."""
        watched, parent = array.watched, array.parent
        if parent["status"] not in ENDED or watched.open_count <= 0:
            watched.missing_since = None
            return
        calls = -(-watched.open_count // DESCRIBE_PAGE)
        if now - watched.left_looked_at < SECONDS_PER_CALL * (calls - 1):
            return
        watched.left_looked_at = now
        ids = {watched.active.accepted.task_external_ids[t]: t for t in watched.open_tasks()}
        children = api.describe_jobs(self._clients.batch, ids)
        failed: list[Failed] = []
        gone = []
        # Children that it counts are there, though they are not shown yet.
        never_had_them = parent["status"] == "FAILED" and sum(array.counts.values()) < watched.size
        for child_id, task_id in ids.items():
            child = children.get(child_id)
            if child is not None:
                yield from self._news(watched, task_id, child, failed, now)
            elif never_had_them:
                failed.append(Failed(watched, task_id, parent))
            else:
                gone.append(task_id)
        yield from self._explained(failed, now)
        if gone:
            yield from self._missing(watched, gone, now)
        else:
            watched.missing_since = None

    # Said.

    def _news(
        self,
        watched: Watched,
        task_id: str,
        detail: Mapping[str, Any],
        failed: list[Failed],
        now: float,
    ) -> Iterator[Update]:
        """What a job's description says of its task."""
        status = detail["status"]
        if status == "FAILED":
            failed.append(Failed(watched, task_id, detail))
        elif status == "SUCCEEDED":
            well = outcome(watched, detail)
            if well.succeeded:
                watched.says_end(task_id, status, now)
                yield Update(task_id, well)
            else:
                failed.append(Failed(watched, task_id, detail, is_summary=watched.is_array))
        elif status == "RUNNING" and watched.says_start(task_id, now):
            yield Update(task_id, detail=_start(detail))

    def _explained(self, failed: Sequence[Failed], now: float) -> Iterator[Update]:
        for one, why in explain(self._clients, failed, sleep=self._sleep):
            if one.watched.is_open(one.task_id):
                had_machine = bool(one.detail.get("startedAt")) or why.kind not in _NEVER_PLACED
                one.watched.says_end(
                    one.task_id, one.detail["status"], now, had_machine=had_machine
                )
                yield Update(one.task_id, why)

    def _missing(self, watched: Watched, task_ids: Iterable[str], now: float) -> Iterator[Update]:
        if watched.missing_since is None:
            watched.missing_since = now
        if now - watched.missing_since < MISSING_GRACE_S:
            return
        for task_id in task_ids:
            job_id = watched.active.accepted.task_external_ids[task_id]
            yield Update(
                task_id,
                Outcome(
                    FailureKind.LOST,
                    reason=f"Batch does not know the job {job_id} any more",
                    advice="see in CloudTrail who removed it; run the workflow again to repeat it",
                ),
            )


def _start(detail: Mapping[str, Any]) -> dict[str, Any]:
    return {"started_at_ms": detail["startedAt"]} if detail.get("startedAt") else {}
