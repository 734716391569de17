"""Sends each submission once, whatever becomes of the answers, and lets it wait while Slurm takes none."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from snakemake_executor_takeda.backends.base import SubmissionDelayed, SubmissionError
from snakemake_executor_takeda.backends.slurm.capacity import limit_seconds
from snakemake_executor_takeda.backends.slurm.clients.base import (
    SlurmClient,
    SlurmFull,
    SlurmRefused,
    SlurmSilent,
)
from snakemake_executor_takeda.backends.slurm.refusals import advice_on
from snakemake_executor_takeda.values import FailureKind

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.slurm.records import Records
    from snakemake_executor_takeda.backends.slurm.request import JobRequest
    from snakemake_executor_takeda.values import Submission, Target

FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 60.0
SETTLING_SECONDS = 15.0
"""How long a controller that answers again must go on without the job that an unanswered call was for. A
call that it took while it hung is carried out then, though nobody waits for it, and a question that was
asked later may be answered first."""
FULL_LIMIT_SECONDS = 12 * 3600.0
"""How long a submission waits for room in the cluster where its target says no `pending_limit`."""
TOLD_AGAIN_SECONDS = 3600.0
"""A cluster may be full again and again while a large run goes through it."""
_NO_ROOM = re.compile(
    r"(Max|Grp)Submit|submit limit|temporarily unable to accept|job queue full"
    r"|error writing script",  # the controller's disk is full
    re.IGNORECASE,
)
_NEVER_SENT = re.compile(r"connect failure|connection refused", re.IGNORECASE)
_CLOSED = re.compile(r"required partition not available", re.IGNORECASE)
"""It is INACTIVE or set to DRAIN: by a site, for a while."""
_TOO_LARGE = re.compile(r"size and/or time limits", re.IGNORECASE)
_CLUSTER = ""


@dataclass
class _Shut:
    """Submissions of one kind are not taken at present."""

    until: float
    pause_seconds: float
    is_full: bool
    """For lack of room, which is waited for in bounded time; else nothing is known."""


class Submitter:
    """Remembers which submissions may have come through, and when it is worth trying again."""

    def __init__(
        self,
        client: SlurmClient,
        records: Records,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._records = records
        self._clock = clock
        self._shut: dict[str, _Shut] = {}
        """`_CLUSTER`, or the name of the target whose account is at a limit."""
        self._waiting_since: dict[str, float] = {}
        self._in_doubt: set[str] = set()
        self._unsettled: dict[str, float | None] = {}
        """Names of jobs that a call under way may still make, since when the controller answers."""
        self._told_at: dict[str, float] = {}
        """Like `_shut`: when it was last said that there is no room."""

    def send(self, submission: Submission, request: JobRequest, script: str) -> str:
        """The job's id. Raises SubmissionError, or SubmissionDelayed while Slurm does not answer or
        has no room.

        After a call that may or may not have come through, the job is looked for by its name, which
        is unique, so that it is never sent twice.
        """
        now = self._clock()
        for key in (_CLUSTER, submission.target.name):
            if (shut := self._shut.get(key)) and now < shut.until:
                if shut.is_full:
                    self._waiting_since.setdefault(submission.name, now)
                raise SubmissionDelayed(shut.until - now)
        try:
            job_id = self._find(submission) or self._submit(submission, request, script)
        except SlurmSilent as error:
            # Never given up: nobody knows whether it came through.
            self._in_doubt.add(submission.name)
            if submission.name in self._unsettled:
                self._unsettled[submission.name] = None
            note = (
                f"Slurm does not answer ({error}). Submissions wait and are sent once it does; "
                "nothing is taken as failed"
            )
            raise self._delay(_CLUSTER, note, is_full=False) from error
        except SlurmFull as error:
            # The command may have been stopped in the middle of a try of its own.
            self._in_doubt.add(submission.name)
            raise self._no_room(_CLUSTER, submission, str(error)) from error
        except SlurmRefused as error:
            if not _NO_ROOM.search(_without_general_words(str(error))):
                self._forget(submission)
                raise _refusal(str(error), submission.target) from error
            raise self._no_room(submission.target.name, submission, str(error)) from error
        for key in (_CLUSTER, submission.target.name):
            self._shut.pop(key, None)
        self._forget(submission)
        return job_id

    def find(self, submission: Submission) -> str | None:
        """The job that an earlier controller's call, whose answer was lost with it, has made; None where
        there is none. Raises SubmissionDelayed as long as the call may still be carried out."""
        if submission.name not in self._in_doubt:
            self._in_doubt.add(submission.name)
            self._unsettled[submission.name] = None
        try:
            job_id = self._find(submission)
        except SlurmSilent as error:
            self._unsettled[submission.name] = None
            raise SubmissionDelayed(
                FIRST_PAUSE_SECONDS,
                f"Slurm does not say whether job {submission.name} is there: {error}",
            ) from error
        self._forget(submission)
        return job_id

    def possible_jobs(self) -> set[str]:
        """Ids of jobs that came through although their answer did not. Raises SlurmSilent."""
        try:
            found = {name: self._client.find(name) for name in sorted(self._in_doubt)}
        except SlurmSilent:
            self._unsettled = dict.fromkeys(self._unsettled)
            raise
        now = self._clock()
        self._unsettled = {
            name: now if since is None else since
            for name, since in self._unsettled.items()
            if not found.get(name)
        }
        return {job_id for job_id in found.values() if job_id}

    def is_settled(self) -> bool:
        """Whether no call that had no answer may still make a job, as `possible_jobs` has last seen."""
        now = self._clock()
        return all(
            since is not None and now - since >= SETTLING_SECONDS
            for since in self._unsettled.values()
        )

    def _submit(self, submission: Submission, request: JobRequest, script: str) -> str:
        try:
            return self._client.submit(request, script)
        except SlurmSilent as error:
            if not _NEVER_SENT.search(str(error)):
                self._unsettled[submission.name] = None
            raise
        except SlurmRefused as error:
            if not request.exclude or _NO_ROOM.search(_without_general_words(str(error))):
                raise
        # Without the nodes that failed there may be too few left.
        return self._submit(submission, replace(request, exclude=()), script)

    def _find(self, submission: Submission) -> str | None:
        if submission.name not in self._in_doubt:
            return None
        try:
            job_id = self._client.find(submission.name)
        except SlurmRefused as error:
            # The question was refused, not the job, which may be there.
            raise SlurmSilent(str(error)) from error
        if job_id:
            return job_id
        # Slurm forgets a job some minutes after its end, which its tasks have recorded.
        for task in submission.tasks:
            record = self._records.read(task.task_id)
            if record and record.slurm_job_id:
                return record.slurm_job_id
        self._check_settled(submission)
        return None

    def _check_settled(self, submission: Submission) -> None:
        """Raises SubmissionDelayed while a call that had no answer may still be carried out."""
        if submission.name not in self._unsettled:
            return
        now = self._clock()
        since = self._unsettled[submission.name]
        if since is None:
            since = self._unsettled[submission.name] = now
        if now - since < SETTLING_SECONDS:
            raise SubmissionDelayed(SETTLING_SECONDS - (now - since))

    def _no_room(
        self, key: str, submission: Submission, why: str
    ) -> SubmissionDelayed | SubmissionError:
        limit = limit_seconds(submission.target) or FULL_LIMIT_SECONDS
        waited = self._clock() - self._waiting_since.setdefault(submission.name, self._clock())
        if waited >= limit:
            reason = f"no room in Slurm for {waited / 60:.0f} min: {why}"
            self._forget(submission)
            return SubmissionError(FailureKind.NO_CAPACITY, reason)
        now = self._clock()
        if now - self._told_at.get(key, -TOLD_AGAIN_SECONDS) < TOLD_AGAIN_SECONDS:
            return self._delay(key, "", is_full=True)
        self._told_at[key] = now
        where = f" to target {key}" if key else ""
        fallback = submission.target.fallback
        then = f"goes to {fallback}" if fallback else "ends as no_capacity"
        note = (
            f"Slurm takes no more jobs: {why}. Submissions{where} wait for room; after "
            f"{limit / 60:.0f} min one {then}"
        )
        return self._delay(key, note, is_full=True)

    def _delay(self, key: str, note: str, *, is_full: bool) -> SubmissionDelayed:
        now = self._clock()
        shut = self._shut.get(key)
        if shut is None:
            shut = self._shut[key] = _Shut(now, FIRST_PAUSE_SECONDS, is_full)
        else:
            shut.is_full = is_full
            shut.pause_seconds = min(2 * shut.pause_seconds, LONGEST_PAUSE_SECONDS)
            note = ""
        shut.until = now + shut.pause_seconds
        return SubmissionDelayed(shut.pause_seconds, note)

    def _forget(self, submission: Submission) -> None:
        self._in_doubt.discard(submission.name)
        self._unsettled.pop(submission.name, None)
        self._waiting_since.pop(submission.name, None)


def _without_general_words(words: str) -> str:
    """sbatch adds one line for all limits of an account to the line that names the limit."""
    return "; ".join(part for part in words.split("; ") if not _TOO_LARGE.search(part))


def _refusal(words: str, target: Target) -> SubmissionError:
    """sbatch's own words, with what to change."""
    kind = FailureKind.NO_CAPACITY if _CLOSED.search(words) else FailureKind.CONFIGURATION
    return SubmissionError(kind, f"sbatch: {words}", advice_on(words, target.name))
