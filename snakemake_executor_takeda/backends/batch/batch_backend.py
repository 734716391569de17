"""The Batch backend: what the executor calls, each duty done by a module of its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends import aws
from snakemake_executor_takeda.backends.base import SubmissionDelayed
from snakemake_executor_takeda.backends.batch.api import Clients
from snakemake_executor_takeda.backends.batch.cancelling import cancel
from snakemake_executor_takeda.backends.batch.doubles import Doubles
from snakemake_executor_takeda.backends.batch.given_definitions import check_job_definitions
from snakemake_executor_takeda.backends.batch.listening import Ears, check_event_queues
from snakemake_executor_takeda.backends.batch.polling import Poller
from snakemake_executor_takeda.backends.batch.queues import check_queues
from snakemake_executor_takeda.backends.batch.rule_words import on_rule_target, with_rule_words
from snakemake_executor_takeda.backends.batch.submitting import (
    SURE_AFTER_S,
    Submitter,
    job_name,
    job_request,
    tag_text,
)
from snakemake_executor_takeda.values import (
    Accepted,
    Active,
    JobSpec,
    Remembered,
    Shape,
    Submission,
    TakedaError,
    Target,
    Update,
    submission_to_check,
)

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.base import RunContext

ARRAY_LIMIT = 10_000
IN_DOUBT_SECONDS = SURE_AFTER_S + 5.0
"""At the end of a run, for what became of calls without answer."""

_log = logging.getLogger(__name__)


class BatchBackend:
    """All Batch targets of one run; speaks `backends.base.Backend`."""

    finds_its_runs = False
    outlives_controller = True

    def __init__(
        self, targets: Sequence[Target], context: RunContext, clients: Clients | None = None
    ) -> None:
        self._targets = targets
        self._context = context
        self._regions = {target.options.region for target in targets}
        self._clients = clients or Clients(next(iter(self._regions), None))
        self._doubles = Doubles(self._clients)
        self._submitter = Submitter(self._clients, context, doubles=self._doubles)
        self._ears = Ears()
        self._event_queues: Mapping[str, str] = {}
        self._poller = Poller(self._clients, self._ears)
        self._silence: str | None = None

    def check(self) -> None:
        if not self._targets:
            return
        if self._context.remote_prefix is None:
            raise TakedaError(
                f"target {self._targets[0].name!r} is an AWS Batch queue, whose jobs share no files "
                "with this machine: add `--default-storage-provider s3 --default-storage-prefix "
                "s3://BUCKET/PREFIX --shared-fs-usage none`"
            )
        if len(self._regions) > 1:
            raise TakedaError(
                "the AWS Batch targets of one run are in one region, not in "
                f"{len(self._regions)}: say the same `region` in each of them, or in none"
                + "".join(
                    f"\n  {target.where}: {target.options.region or 'the default region'}"
                    for target in self._targets
                )
            )
        check_queues(self._clients.batch_at_once, self._targets)
        check_job_definitions(self._clients.batch_at_once, self._targets)
        self._event_queues = check_event_queues(self._clients, self._targets)

    def check_job(self, job: JobSpec, target: Target) -> None:
        job_request(with_rule_words(submission_to_check(job, target)), self._context)

    def array_limit(self, target: Target, shape: Shape) -> int:
        # Batch has no arrays of jobs of several nodes.
        return ARRAY_LIMIT if shape.nodes == 1 else 1

    def listen(self, wake: Callable[[], None]) -> None:
        if self._event_queues:
            self._ears.open(self._clients, self._event_queues, self._is_ours, wake)

    def _is_ours(self, job: Mapping[str, Any]) -> bool:
        """Whether an event is about a job of this run, or one that it took over."""
        run_id = self._context.run_id
        return (
            (job.get("tags") or {}).get("takeda:run") == tag_text(run_id)
            or f"-{run_id}-" in job.get("jobName", "")
            or self._poller.knows(job["jobId"])
        )

    def submit(self, submission: Submission) -> Accepted:
        return self._submitter.submit(with_rule_words(submission))

    def reattach(self, remembered: Remembered) -> Accepted | None:
        return remembered.accepted or self._submitter.find(on_rule_target(remembered.submission))

    def poll(self, active: Sequence[Active]) -> Iterable[Update]:
        from botocore.exceptions import BotoCoreError, ClientError

        if not active:
            return
        self._doubles.end()
        try:
            yield from self._poller.poll(
                [replace(one, submission=on_rule_target(one.submission)) for one in active]
            )
            self._silence = None
        except ClientError as error:
            self._warn(f"{aws.error_code(error)}: {aws.error_message(error)}")
        except BotoCoreError as error:
            self._warn(str(error))

    def _warn(self, what: str) -> None:
        """Once for each kind of silence: a poll that fails is no job that failed."""
        if what != self._silence:
            self._silence = what
            _log.warning("AWS Batch does not say how the jobs do, asking again: %s", what)

    def end(self, active: Active) -> None:
        self.cancel([active])

    def cancel(self, active: Sequence[Active]) -> set[str]:
        """→ ids of the jobs that had not ended in time, and names of those that Batch may have taken
        unseen. Raises TakedaError where the service could not be told: then the jobs may still run."""
        from botocore.exceptions import BotoCoreError, ClientError

        ids = ", ".join(one.accepted.external_id for one in active)
        try:
            left = cancel(self._clients, active) if active else set()
            found, unknown = self._found_in_doubt()
            ids = ", ".join(one.accepted.external_id for one in found)
            return left | unknown | (cancel(self._clients, found) if found else set())
        except (BotoCoreError, ClientError) as error:
            raise TakedaError(
                f"AWS Batch could not be told to end these jobs, which may still run: {ids} ({error}). "
                "End them with `aws batch terminate-job --reason cancelled --job-id ID`"
            ) from error

    def _found_in_doubt(self) -> tuple[list[Active], set[str]]:
        """Jobs of submissions without an answer, looked for until lists are believed; and the names of
        those that Batch says nothing of."""
        found, unknown = [], set()
        deadline = time.monotonic() + IN_DOUBT_SECONDS
        for one in self._submitter.in_doubt():
            while True:
                try:
                    accepted = self._submitter.find_in_doubt(one)
                except SubmissionDelayed as delay:
                    if time.monotonic() + delay.seconds > deadline:
                        unknown.add(job_name(one))
                        break
                    time.sleep(delay.seconds)
                    continue
                if accepted:
                    task_ids = frozenset(task.task_id for task in one.tasks)
                    found.append(Active(one, accepted, task_ids))
                break
        if unknown:
            _log.warning(
                "AWS Batch does not say whether it took these jobs, which may run: %s",
                ", ".join(sorted(unknown)),
            )
        return found, unknown

    def close(self) -> None:
        """The clients hold nothing but idle connections; the threads that listen end by themselves."""
        self._ears.close()
        self._doubles.end(at_last=True)
