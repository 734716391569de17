"""Jobs that stay RUNNABLE: say why, and give up those that have waited for too long.

A submission waits too long when nothing of it has started or ended for `runnable_notice` minutes, nothing
of the run on the same queue either, and no job of the run takes up the queue's machines. Then, and each
`runnable_notice` minutes from there on, the service is asked why.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends import aws
from snakemake_executor_takeda.backends.batch import api
from snakemake_executor_takeda.backends.batch.diagnosis import (
    Diagnosis,
    Needs,
    diagnose,
    place_in,
    service_words,
)
from snakemake_executor_takeda.backends.batch.outcomes import given_up
from snakemake_executor_takeda.values import FailureKind, Update

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.batch.options import BatchOptions
    from snakemake_executor_takeda.backends.batch.watched import Watched

LIMIT_WITH_FALLBACK_MIN = 30
"""`runnable_limit` where the target says none but has a fallback."""
_MINUTE_S = 60.0


@dataclass
class _Wait:
    """What was found about one submission that waits."""

    looked_at: float
    code: str = ""
    """Of the last diagnosis, which was said."""


class StuckJobs:
    """Looks after all submissions of one run."""

    def __init__(self, clients: api.Clients) -> None:
        self._clients = clients
        self._moved_at: dict[str, float] = {}
        """Queue → when a job of the run last had a machine there, watched or not."""
        self._waits: dict[str, _Wait] = {}

    def look(
        self, watched: Collection[Watched], details: Mapping[str, Mapping[str, Any]], now: float
    ) -> Iterator[Update]:
        """Notes about what waits for too long. `details` is what DescribeJobs said in this poll."""
        for one in watched:
            queue = one.target.options.queue
            moved_at = now if one.occupies else one.ran_at
            self._moved_at[queue] = max(self._moved_at.get(queue, moved_at), moved_at)
        self._waits = {
            one.job_id: self._waits[one.job_id] for one in watched if one.job_id in self._waits
        }
        asked: dict[str, _Queue] = {}
        for one in watched:
            detail = details.get(one.job_id)
            if detail is not None and one.waiting and self._is_due(one, now):
                name = one.target.options.queue
                facts = asked.setdefault(name, _Queue(self._clients, name))
                yield from self._look_at(one, detail, facts, now)

    def _quiet_s(self, one: Watched, now: float) -> float:
        """How long nothing of it has moved, nor anything on its queue."""
        return now - max(one.moved_at, self._moved_at[one.target.options.queue])

    def _is_due(self, one: Watched, now: float) -> bool:
        wait = self._waits.get(one.job_id)
        if wait is None or wait.looked_at < one.moved_at:
            return now - one.moved_at >= _notice_s(one)
        quiet_s, since_s = self._quiet_s(one, now), now - wait.looked_at
        limit_s = _limit_s(one)
        marks = [_notice_s(one), *([] if limit_s is None else [limit_s])]
        passed = any(quiet_s - since_s < mark <= quiet_s for mark in marks)
        return passed or since_s >= _notice_s(one)

    def _look_at(
        self, one: Watched, detail: Mapping[str, Any], queue: _Queue, now: float
    ) -> Iterator[Update]:
        wait = self._waits.get(one.job_id)
        if wait is None or wait.looked_at < one.moved_at:
            wait = self._waits[one.job_id] = _Wait(now)
        wait.looked_at = now
        words = self._words(one, detail)
        said = service_words(words)
        # Where the queue moves it is merely the others' turn, unless Batch knows that this one never fits.
        if self._quiet_s(one, now) < _notice_s(one) and not (said and said.is_definite):
            return
        found = diagnose(words, _needs(detail), queue.queue, queue.environments, queue.place(one))
        waited = _span(now - one.moved_at, in_full=True)
        is_new = found.code != wait.code
        wait.code = found.code
        # What is definite is said once, and left for as long again to whoever can mend it.
        limit_s = _limit_s(one)
        gives_up = (found.is_definite and not is_new) or (
            limit_s is not None and self._quiet_s(one, now) >= limit_s
        )
        open_task = min(one.open_tasks(), default=None)
        if open_task and is_new:
            then = "" if gives_up else _then(one, found)
            who = f"RUNNABLE for {waited}: {_who(one)}"
            note = f"{who}: {found.because}. {found.advice}.{then}"
            yield Update(open_task, note=note, detail={"code": found.code, "tasks": one.waiting})
        if gives_up and (refusal := self._give_up(one, found, waited)) and open_task:
            note = f"{_who(one)} could not be given up: {refusal}. The role needs batch:CancelJob"
            yield Update(open_task, note=note)

    def _words(self, one: Watched, detail: Mapping[str, Any]) -> str:
        """The statusReason of what is RUNNABLE: the job's own, or the first that a child has."""
        if not one.is_array:
            return str(detail.get("statusReason") or "")
        page = self._clients.batch.list_jobs(
            arrayJobId=one.job_id, jobStatus="RUNNABLE", maxResults=api.DESCRIBE_PAGE
        )
        reasons = (child.get("statusReason") for child in page["jobSummaryList"])
        return next((str(reason) for reason in reasons if reason), "")

    def _give_up(self, one: Watched, found: Diagnosis, waited: str) -> str:
        """→ why it was refused, if it was.

        CancelJobs leaves alone what has started in the meantime; child by child, since what it does
        to the running children of a parent is not documented."""
        from botocore.exceptions import ClientError

        if one.is_array:
            listed = api.list_children(self._clients.batch, one.job_id, "RUNNABLE")
            job_ids = [
                child["jobId"] for child in listed if one.is_open(one.task_ids.get(child["jobId"]))
            ]
        else:
            job_ids = [one.job_id]
        reason = given_up(found.kind, f"RUNNABLE for {waited}: {found.because}", found.advice)
        try:
            refused = api.cancel_jobs(self._clients.batch, job_ids, reason)
        except ClientError as error:
            return aws.error_message(error)
        return next(iter(refused.values()), "")


class _Queue:
    """What the service says of a queue, asked once for all that waits in it."""

    def __init__(self, clients: api.Clients, name: str) -> None:
        self._clients = clients
        self._name = name
        self._facts: tuple[Mapping[str, Any] | None, list[Any], Mapping[str, Any]] | None = None

    @property
    def queue(self) -> Mapping[str, Any] | None:
        return self._asked()[0]

    @property
    def environments(self) -> list[Any]:
        return self._asked()[1]

    def place(self, one: Watched) -> str:
        return place_in(self._asked()[2], [one.job_id])

    def _asked(self) -> tuple[Mapping[str, Any] | None, list[Any], Mapping[str, Any]]:
        if self._facts is None:
            batch = self._clients.batch
            queue = environments = snapshot = None
            answer = _answer(lambda: batch.describe_job_queues(jobQueues=[self._name]))
            if answer and answer["jobQueues"]:
                queue = answer["jobQueues"][0]
                names = [
                    one["computeEnvironment"] for one in queue.get("computeEnvironmentOrder", [])
                ]
                if names:
                    environments = _answer(
                        lambda: batch.describe_compute_environments(computeEnvironments=names)
                    )
            snapshot = _answer(lambda: batch.get_job_queue_snapshot(jobQueue=self._name))
            found = environments["computeEnvironments"] if environments else []
            self._facts = (queue, list(found), snapshot or {})
        return self._facts


def _answer(call: Any) -> Any:
    """What the service answers; None where the role may not ask, which makes a diagnosis poorer only."""
    from botocore.exceptions import ClientError

    try:
        return call()
    except ClientError as error:
        if api.is_passing(error):
            raise
        return None


def limit_min(one: Watched) -> float | None:
    """Minutes after which what does not start is given up, None for never."""
    options: BatchOptions = one.target.options
    if options.runnable_limit is not None:
        return options.runnable_limit
    return LIMIT_WITH_FALLBACK_MIN if one.target.fallback else None


def _limit_s(one: Watched) -> float | None:
    limit = limit_min(one)
    return None if limit is None else limit * _MINUTE_S


def _notice_s(one: Watched) -> float:
    """After how long it is looked at: no later than it would be given up."""
    options: BatchOptions = one.target.options
    notice, limit = options.runnable_notice, limit_min(one)
    return _MINUTE_S * (notice if limit is None else min(notice, limit))


def _needs(detail: Mapping[str, Any]) -> Needs:
    requirements = (detail.get("container") or {}).get("resourceRequirements") or []
    values = {one["type"]: float(one["value"]) for one in requirements}
    return Needs(values.get("VCPU", 0.0), values.get("MEMORY", 0.0))


def _who(one: Watched) -> str:
    rule = one.active.submission.tasks[0].job.rule
    what = f"{one.waiting} of {one.size} {rule}" if one.is_array else rule
    return f"{what} on target {one.target.name} (queue {one.target.options.queue}, {one.job_id})"


def _then(one: Watched, found: Diagnosis) -> str:
    """What will be done about it, if anything."""
    if found.is_definite:
        return f" Unless that is mended within {_span(_notice_s(one))} it fails."
    limit_s = _limit_s(one)
    if limit_s is None:
        return ""
    if one.target.fallback and found.kind == FailureKind.NO_CAPACITY:
        return f" After {_span(limit_s)} it goes to {one.target.fallback}."
    return f" After {_span(limit_s)} it is given up."


def _span(seconds: float, *, in_full: bool = False) -> str:
    """`45 s`, `2.5 min`, `30 min`; `in_full` minutes only where there are several."""
    if seconds < 2 * _MINUTE_S:
        return f"{seconds:.0f} s"
    minutes = seconds / _MINUTE_S
    return f"{int(minutes) if in_full else minutes:g} min"
