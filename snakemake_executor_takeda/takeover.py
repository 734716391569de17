"""Takes up what earlier controllers of a run have left: links jobs to tasks on their way, reports what has
ended, ends what is out of date, sends anew what never arrived."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from snakemake_executor_takeda import jobs
from snakemake_executor_takeda.ledger import KnownRun, Ledger
from snakemake_executor_takeda.resuming import Adopted, Memory, ago, is_before
from snakemake_executor_takeda.values import (
    Accepted,
    Active,
    FailureKind,
    JobSpec,
    Outcome,
    Remembered,
    TakedaError,
    Target,
    Task,
)

if TYPE_CHECKING:
    from snakemake_executor_takeda.open_jobs import OpenJob, OpenJobs
    from snakemake_executor_takeda.opening import Backends
    from snakemake_executor_takeda.retrying import History
    from snakemake_executor_takeda.watching import Lane

LAST_LOOKS_SECONDS = 10.0
LAST_LOOK_PAUSE_SECONDS = 0.2


class Duties(Protocol):
    """What the run does for it."""

    def lane(self, name: str) -> Lane: ...
    def place_at(self, open_job: OpenJob, target: Target, reason: str) -> None: ...
    def announce(self, open_job: OpenJob) -> None: ...
    def event(self, event: str, open_job: OpenJob, detail: Mapping[str, Any]) -> None: ...
    def record(self, write: Callable[[], None]) -> None: ...
    def found_ended(self, outcomes: dict[str, Outcome]) -> None:
        """Tasks ended before their jobs were handed over; their ends are in the ledger."""

    def found_done(self, open_job: OpenJob, outcome: Outcome) -> None:
        """It is known how it ended: nothing but the report is left to do."""

    def found_unclaimed(
        self, task: Task, external_id: str | None, outcome: Outcome | None, *, is_absent: bool
    ) -> None:
        """A task ended, or never began, and Snakemake has not asked for its job."""

    def send(self, open_jobs: Iterable[OpenJob]) -> None: ...
    def say(self, line: str) -> None: ...
    def trouble(self, message: str) -> None: ...


class Takeover:
    """Called from Snakemake's thread with jobs, and from the lanes with news of tasks."""

    def __init__(
        self,
        run: Duties,
        ledger: Ledger,
        open_jobs: OpenJobs,
        targets: Mapping[str, Target],
        workflow: Any,
    ) -> None:
        self._run = run
        self._ledger = ledger
        self._open_jobs = open_jobs
        self._targets = targets
        self._workflow = workflow
        self._backends: Backends | None = None
        self._lock = threading.Lock()
        self._memory = Memory()
        self._outdated: dict[str, list[int]] = {}
        """Submission → jobs that are sent once it is ended."""

    def remember(self, known: KnownRun, remote_prefix: str | None) -> None:
        """Read the ledger. Raises TakedaError where this controller cannot go on with the run."""
        self._memory = Memory(
            self._ledger.remembered(self._targets),
            self._ledger.ended_well(),
            self._ledger.histories(),
        )
        counts: Counter[str] = Counter()
        for one in self._memory.remembered:
            counts[one.submission.target.backend] += len(one.open_task_ids)
        if counts and known.remote_prefix != remote_prefix:
            raise TakedaError(
                f"run {known.run_id} did not end, and keeps its files in "
                f"{known.remote_prefix or known.workdir}, not in {remote_prefix or 'this directory'}: go on "
                "with the profile and flags that it had, or end its jobs with `takeda cancel`"
            )
        how = "was detached" if known.state == "detached" else "did not end"
        under_way = ", ".join(f"{count} on {name}" for name, count in sorted(counts.items()))
        self._run.say(
            f"goes on with run {known.run_id}, which began {ago(known.began_at)} ago and {how}; "
            f"jobs under way: {under_way or 'none'}"
        )

    @property
    def targets(self) -> set[str]:
        """Names of those that its tasks are on."""
        return {one.submission.target.name for one in self._memory.remembered}

    def begin(self, backends: Backends) -> None:
        """Have the lanes look for what was sent."""
        self._backends = backends
        for one in self._memory.remembered:
            if not backends.of(one.submission.target).finds_its_runs:
                self._run.lane(one.submission.target.backend).adopt(one)

    def history(self, identity: str) -> History | None:
        """How a job has failed so far. Once: what Snakemake hands over again after a failure begins
        anew."""
        return self._memory.histories.pop(identity, None)

    @property
    def unclaimed(self) -> int:
        """Tasks on their way that no job was found for."""
        with self._lock:
            return len(self._memory.unclaimed())

    @property
    def left(self) -> int:
        """Tasks of earlier controllers that are still open in the ledger."""
        if not self._memory.remembered:
            return 0
        still_open = self._ledger.open_task_ids()
        return sum(len(one.open_task_ids & still_open) for one in self._memory.remembered)

    def wait_for_ends(self, lanes: Sequence[Lane]) -> None:
        """At the end of a run: of what no job was found for, write down what has ended. Its outputs may be
        all that Snakemake looked at."""
        deadline = time.monotonic() + LAST_LOOKS_SECONDS
        while self._undecided() and time.monotonic() < deadline:
            for lane in lanes:
                lane.nudge()
            time.sleep(LAST_LOOK_PAUSE_SECONDS)
        with self._lock:
            decided = self._memory.decided_unclaimed()
        for one in decided:
            ids = one.accepted.task_external_ids if one.accepted else {}
            external_id = ids.get(one.task.task_id)
            self._run.found_unclaimed(one.task, external_id, one.outcome, is_absent=one.is_absent)

    def has_inherited(self, task_id: str) -> bool:
        """Whether an earlier controller has sent it."""
        return bool(self._memory.tasks([task_id]))

    def _undecided(self) -> bool:
        if self._backends is None:
            return False
        with self._lock:
            unclaimed = self._memory.unclaimed()
        return any(not self._backends.of(one.task.target).finds_its_runs for one in unclaimed)

    # With a job, in Snakemake's thread.

    def takes(self, open_job: OpenJob) -> bool:
        """Whether the work of this job is done already, or on its way."""
        if not (self._memory.remembered or self._memory.ended_well):
            return False
        spec, key = open_job.ready.job, open_job.ready.key
        adopted = self._memory.find(spec.identity)
        sharing = [adopted] if adopted else self._sharing(spec)
        if not sharing:
            return self._is_done(open_job)
        adopted = sharing[0]
        if len(sharing) > 1 or adopted.key is not None or not self._does_all_of(open_job, adopted):
            return self._supersede(open_job, sharing)
        assert self._backends is not None
        target, task_id = adopted.task.target, adopted.task.task_id
        if self._backends.of(target).finds_its_runs:
            self._memory.claim(adopted, key)
            self._run.record(
                lambda: self._ledger.cancel([task_id], "its job was handed over again")
            )
            return False
        # All that an end needs is there before a lane can tell of one.
        self._run.place_at(open_job, target, "an earlier controller of this run has sent it")
        with self._lock:
            self._memory.claim(adopted, key)
            accepted, outcome = adopted.accepted, adopted.outcome
            if adopted.is_absent:
                open_job.placement = None
                return False
            self._open_jobs.link({task_id: key})
        self._run.announce(open_job)
        if accepted:
            self._tell(open_job, task_id, adopted.remembered, accepted)
        if outcome is not None:
            # Its outputs are looked for in S3, away from Snakemake's own thread.
            found = {task_id: outcome}
            self._run.lane(target.backend).call(lambda: self._run.found_ended(found))
        return True

    def _is_done(self, open_job: OpenJob) -> bool:
        """Whether a task did all of a job's work, of which an earlier controller could not tell Snakemake
        any more."""
        spec = open_job.ready.job
        ended = self._memory.ended_well.get(spec.identity)
        if ended is None or ended.fingerprint != spec.fingerprint:
            return False
        target = self._targets.get(ended.target)
        if target is None or not jobs.is_complete_but_marked(open_job.job, self._workflow):
            return False
        if not self._is_as_old(open_job, ended.intent_at):
            return False
        self._run.place_at(open_job, target, "an earlier controller of this run saw it end")
        open_job.external_id = ended.external_id
        self._run.announce(open_job)
        self._run.event("reattached", open_job, {"has_ended": True})
        wall_seconds = ended.detail.get("wall_seconds")
        self._run.found_done(open_job, Outcome(wall_seconds=wall_seconds, detail=ended.detail))
        return True

    def _sharing(self, spec: JobSpec) -> list[Adopted]:
        """Tasks that may be making some of this job's files: a group of which some jobs are done, or one
        that is made up otherwise now."""
        found = []
        for one in self._memory.sharing(spec):
            maker = self._open_jobs.of_task(one.task.task_id)
            is_made = maker is not None and not maker.has_ended
            if one.key is None or is_made or one.submission_id in self._outdated:
                found.append(one)
        return found

    def _does_all_of(self, open_job: OpenJob, adopted: Adopted) -> bool:
        """Whether a task does what this job is to do, with the same inputs. A group may do more: what it has
        done of that Snakemake does not ask for again."""
        sent, spec = adopted.task.job, open_job.ready.job
        if sent.identity == spec.identity:
            made_here: frozenset[str] = frozenset()
            is_same = sent.fingerprint == spec.fingerprint
        else:
            made_here = frozenset(part for part, _ in sent.parts)
            is_same = spec.parts <= sent.parts
        sent_at = adopted.remembered.intent_at
        newest = jobs.newest_input(open_job.job, self._workflow, made_here) if is_same else None
        return is_same and is_before(sent_at, newest)

    def _is_as_old(self, open_job: OpenJob, sent_at: float) -> bool:
        """Whether no input has changed since a submission of that moment, in Unix time."""
        return is_before(sent_at, jobs.newest_input(open_job.job, self._workflow))

    def _tell(
        self, open_job: OpenJob, task_id: str, remembered: Remembered, accepted: Accepted
    ) -> None:
        open_job.external_id = accepted.task_external_ids[task_id]
        told = {"submission": accepted.external_id, "sent": f"{ago(remembered.intent_at)} ago"}
        self._run.event("reattached", open_job, told)

    def _supersede(self, open_job: OpenJob, outdated: Sequence[Adopted]) -> bool:
        """End what was sent for a job that has changed since, then send the job. False where nothing of it
        is left."""
        spec, key = open_job.ready.job, open_job.ready.key
        to_end: dict[str, Remembered] = {}
        is_waited_for = False
        with self._lock:
            # All of them, before the first is ended: the job is sent after the last.
            for adopted in outdated:
                self._memory.claim(adopted, key)
                if adopted.outcome is not None or adopted.is_absent:
                    continue
                is_waited_for = True
                waiting = self._outdated.setdefault(adopted.submission_id, [])
                if not waiting:
                    to_end[adopted.submission_id] = adopted.remembered
                if key not in waiting:
                    waiting.append(key)
        if is_waited_for:
            self._run.say(
                f"{spec.rule} (job {spec.job_id}) has changed since it was sent: what was sent is ended first"
            )
        for remembered in to_end.values():
            lane = self._run.lane(remembered.submission.target.backend)
            lane.call(partial(self._end_outdated, remembered))
        return is_waited_for

    # With news of tasks, in a lane's thread.

    def reattached(self, remembered: Remembered, accepted: Accepted) -> None:
        """A backend watches these again."""
        if remembered.accepted is None:
            self._run.record(lambda: self._ledger.accept(remembered.submission, accepted))
        with self._lock:
            adopted = self._memory.tasks(remembered.open_task_ids)
            for one in adopted:
                one.accepted = accepted
            claimed = [one.task.task_id for one in adopted if one.key is not None]
            is_outdated = remembered.submission.submission_id in self._outdated
        for task_id in claimed:
            if open_job := self._open_jobs.of_task(task_id):
                self._tell(open_job, task_id, remembered, accepted)
        if is_outdated:
            self._end_outdated(remembered)

    def absent(self, remembered: Remembered) -> None:
        """These never reached their service."""
        self._run.record(lambda: self._ledger.never_sent(remembered))
        self._send_anew(remembered, "it had never reached the service")

    def keep_for_later(self, outcomes: dict[str, Outcome]) -> None:
        """Take out those whose jobs have not been handed over yet."""
        with self._lock:
            for one in self._memory.tasks(outcomes):
                if one.key is None:
                    one.outcome = outcomes.pop(one.task.task_id)

    def _end_outdated(self, remembered: Remembered) -> None:
        """All of a submission is ended: its other jobs are sent anew as well."""
        assert self._backends is not None
        target = remembered.submission.target
        backend = self._backends.of(target)
        active = self._run.lane(target.backend).leave(remembered.submission.submission_id)
        if active is None and backend.finds_its_runs and remembered.accepted:
            active = Active(remembered.submission, remembered.accepted, remembered.open_task_ids)
        if active is not None:
            try:
                backend.end(active)
            except Exception as error:  # noqa: BLE001 - told; two must not write the same files
                self._refuse(remembered, str(error))
                return
            ids = active.open_task_ids
            self._run.record(lambda: self._ledger.cancel(ids, "its job has changed since"))
        elif not backend.finds_its_runs and self._is_in_doubt(remembered):
            return  # `reattached` or `absent` comes yet
        self._send_anew(remembered, "what was sent before is ended")

    def _refuse(self, remembered: Remembered, why: str) -> None:
        """Its jobs fail: what was sent for them before goes on, and is watched on."""
        target = remembered.submission.target
        with self._lock:
            # They fail now, whatever else they wait for.
            keys = set(self._outdated.get(remembered.submission.submission_id, ()))
            for name, waiting in self._outdated.items():
                if name != remembered.submission.submission_id:
                    waiting[:] = [key for key in waiting if key not in keys]
        for open_job in self._jobs_of(remembered):
            self._run.place_at(open_job, target, "an earlier controller of this run has sent it")
            outcome = Outcome(
                FailureKind.LOST,
                reason=f"it has changed since it was sent, and what was sent could not be ended: {why}",
                advice="end that, then start again: nothing was sent beside it",
                permanent=True,
            )
            self._run.found_done(open_job, outcome)
        self._run.lane(target.backend).adopt(remembered)

    def _is_in_doubt(self, remembered: Remembered) -> bool:
        with self._lock:
            return any(
                one.accepted is None and one.outcome is None and not one.is_absent
                for one in self._memory.tasks(remembered.open_task_ids)
            )

    def _send_anew(self, remembered: Remembered, why: str) -> None:
        """The jobs whose tasks were of this submission, and did not end."""
        found = self._jobs_of(remembered)
        for open_job in found:
            open_job.placement = None
            self._run.event("resubmitted", open_job, {"reason": why})
        self._run.send(found)

    def _jobs_of(self, remembered: Remembered) -> list[OpenJob]:
        """Those for which no task of the submission ended; none of its tasks is theirs any more. Without
        those that wait for another submission to be ended, too."""
        with self._lock:
            keys = self._outdated.pop(remembered.submission.submission_id, [])
            keys = [key for key in keys if not any(key in one for one in self._outdated.values())]
            left = [
                one for one in self._memory.tasks(remembered.open_task_ids) if one.outcome is None
            ]
            for one in left:
                self._memory.set_aside(one)
        linked = [self._open_jobs.of_task(one.task.task_id) for one in left]
        self._open_jobs.unlink(one.task.task_id for one in left)
        return [one for one in (*map(self._open_jobs.get, keys), *linked) if one]
