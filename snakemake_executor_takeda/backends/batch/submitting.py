"""A submission → one manifest in S3 and one SubmitJob, sent so that it is accepted at most once."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends import aws
from snakemake_executor_takeda.backends.base import SubmissionDelayed, SubmissionError
from snakemake_executor_takeda.backends.batch import api
from snakemake_executor_takeda.backends.batch.definitions import definition_of
from snakemake_executor_takeda.backends.batch.doubles import Doubles
from snakemake_executor_takeda.backends.batch.multinode import (
    check_launcher,
    is_multinode,
    node_overrides,
    with_launcher,
)
from snakemake_executor_takeda.backends.batch.rate import TokenBucket
from snakemake_executor_takeda.backends.batch.rule_images import in_rule_images
from snakemake_executor_takeda.backends.batch.scheduling import scheduling_words
from snakemake_executor_takeda.backends.batch.shapes import (
    lowered_memory,
    resource_requirements,
    timeout,
)
from snakemake_executor_takeda.values import Accepted, FailureKind
from snakemake_executor_takeda.worker.manifest import encode_manifest

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.base import RunContext
    from snakemake_executor_takeda.backends.batch.options import BatchOptions
    from snakemake_executor_takeda.values import Submission

SUBMITS_PER_SECOND = 50
"""A fixed quota of the account; other users of it may take their share, hence the retries."""
PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, *(15.0,) * 6)
"""At most this long before each further SubmitJob after one that was throttled or got no answer, and
at least half of it: runs that were throttled together must not come back together."""
SURE_AFTER_S = 10.0
"""After a call without answer: a list that does not show its job is believed. Of a controller that is gone
nobody knows when it called last: after the first look, then."""
UNANSWERED_LOOK_S, LONGEST_LOOK_S = 2.0, 15.0
LOOKS_S = (0.5, 1.0, 2.0)
"""Before each look for a job whose answer never came: lists are not up to date at once."""
MAX_BYTES = 30 * 1024
"""Of a SubmitJob, a quota of Batch that cannot be raised."""
_ROOM_BYTES = 512
"""For the definition's ARN in place of its name."""
MAX_NAME = 128
_NOT_IN_TAGS = re.compile(r"[^\w +\-=.:/@]")


_log = logging.getLogger(__name__)

# The quota is the account's, so one bucket serves every run of this process.
_all_submits = TokenBucket(SUBMITS_PER_SECOND, burst=SUBMITS_PER_SECOND)


@dataclass
class _Calls:
    """What became of the SubmitJobs of one submission."""

    sent: int = 0
    unanswered_at: float | None = None
    """When it was last seen that an answer did not come."""


@dataclass
class _Doubt:
    """A submission of which nobody knows yet whether Batch has taken it."""

    submission: Submission
    since: float
    """Of the last call without answer."""
    error: SubmissionError | None
    """What it ends with where no job came of it; None: it is sent once more."""
    pause_s: float = UNANSWERED_LOOK_S
    is_told: bool = False
    """That there is no answer to looks either."""


class Submitter:
    """Sends submissions of one run. Job definitions are looked up once and kept."""

    def __init__(
        self,
        clients: api.Clients,
        context: RunContext,
        sleep: Callable[[float], object] = time.sleep,
        rate: TokenBucket = _all_submits,
        doubles: Doubles | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clients = clients
        self._clock = clock
        self._doubts: dict[str, _Doubt] = {}
        """By name of the job."""
        self._looked_since: dict[str, float] = {}
        """For jobs of earlier controllers."""
        self._context = context
        self._sleep = sleep
        self._rate = rate
        self._doubles = doubles or Doubles(clients)
        self._definitions: dict[str, str] = {}
        self._told: set[str] = set()

    def submit(self, submission: Submission) -> Accepted:
        """Raises SubmissionError: then no job of this submission is known to exist; and SubmissionDelayed as
        long as there may be one that lists do not show yet."""
        from botocore.exceptions import BotoCoreError, ClientError

        if doubt := self._doubts.get(job_name(submission)):
            if found := self._settled(doubt):
                return found
            if doubt.error:
                raise doubt.error
        request = job_request(submission, self._context)
        self._tell_of_lowered_memory(submission)
        try:
            self._put_manifest(submission)
            if submission.target.options.job_definition:
                job_id = self._submit_once(submission, request)
            else:
                job_id = self._submit_defined(submission, request, definition_of(submission))
        except ClientError as error:
            raise _refused(error) from error
        except BotoCoreError as error:
            raise SubmissionError(
                FailureKind.LOST, f"AWS did not answer: {error}", "see the network and the endpoint"
            ) from error
        self._doubles.goes_on(request["jobName"], job_id)
        return accepted(submission, job_id)

    def find(self, submission: Submission) -> Accepted | None:
        """What a SubmitJob of an earlier controller has become; None where no job came of it. Raises
        SubmissionDelayed as long as a list may not show it yet."""
        since = self._looked_since.setdefault(job_name(submission), self._clock())
        return self._look(submission, since)

    def in_doubt(self) -> list[Submission]:
        """Those that may have been taken, though the answers did not come."""
        return [doubt.submission for doubt in list(self._doubts.values())]

    def find_in_doubt(self, submission: Submission) -> Accepted | None:
        """What became of one of them; None where no job came of it. Raises SubmissionDelayed."""
        doubt = self._doubts.get(job_name(submission))
        return self._settled(doubt) if doubt else None

    def _settled(self, doubt: _Doubt) -> Accepted | None:
        """Raises SubmissionDelayed, the first time with a note."""
        try:
            found = self._look(doubt.submission, doubt.since)
        except SubmissionDelayed as delay:
            note = "" if doubt.is_told else delay.note
            doubt.is_told = doubt.is_told or bool(note)
            pause_s = doubt.pause_s if delay.note else delay.seconds
            doubt.pause_s = min(2 * doubt.pause_s, LONGEST_LOOK_S)
            raise SubmissionDelayed(pause_s, note) from delay
        self._doubts.pop(job_name(doubt.submission), None)
        return found

    def _look(self, submission: Submission, since: float) -> Accepted | None:
        """`since`: a moment after which nobody has called any more."""
        from botocore.exceptions import BotoCoreError, ClientError

        queue, name = submission.target.options.queue, job_name(submission)
        age_s = self._clock() - since
        try:
            job_id = api.find_job(self._clients.batch_at_once, queue, name)
        except (BotoCoreError, ClientError) as error:
            raise SubmissionDelayed(
                UNANSWERED_LOOK_S, f"AWS Batch does not say whether job {name} is there: {error}"
            ) from error
        if job_id is None and age_s < SURE_AFTER_S:
            raise SubmissionDelayed(min(UNANSWERED_LOOK_S, SURE_AFTER_S - age_s))
        # It may have been sent twice, or show up later than any list should lag behind.
        self._doubles.may_exist(queue, name)
        if job_id is None:
            return None
        self._doubles.goes_on(name, job_id)
        return accepted(submission, job_id)

    def _tell_of_lowered_memory(self, submission: Submission) -> None:
        """Once for each target: the jobs run, but not with all that they asked for."""
        target = submission.target
        note = lowered_memory(submission.tasks[0].job.shape, target)
        if note and target.name not in self._told:
            self._told.add(target.name)
            _log.warning("%s", note)

    def _put_manifest(self, submission: Submission) -> None:
        bucket, key = aws.split_s3_uri(manifest_uri(submission, self._context))
        body = encode_manifest(with_launcher(in_rule_images(submission)), self._context)
        self._clients.s3.put_object(Bucket=bucket, Key=key, Body=body)

    def _submit_defined(
        self, submission: Submission, request: dict[str, Any], definition: dict[str, Any]
    ) -> str:
        """Send with the definition's ARN. Where that is refused though the definition was found
        earlier, it may have been deregistered since: look again, and send once more if it was."""
        from botocore.exceptions import ClientError

        name = definition["jobDefinitionName"]
        is_fresh = name not in self._definitions
        arn = self._registered(definition)
        try:
            return self._submit_once(submission, {**request, "jobDefinition": arn})
        except ClientError:
            self._definitions.pop(name, None)
            if is_fresh or (renewed := self._registered(definition)) == arn:
                raise
        return self._submit_once(submission, {**request, "jobDefinition": renewed})

    def _registered(self, definition: dict[str, Any]) -> str:
        name = definition["jobDefinitionName"]
        if name not in self._definitions:
            pages = self._clients.batch.get_paginator("describe_job_definitions").paginate(
                jobDefinitionName=name, status="ACTIVE"
            )
            found = [one for page in pages for one in page["jobDefinitions"]]
            self._definitions[name] = (
                max(found, key=lambda one: one["revision"])["jobDefinitionArn"]
                if found
                else self._clients.batch.register_job_definition(**definition)["jobDefinitionArn"]
            )
        return self._definitions[name]

    def _submit_once(self, submission: Submission, request: dict[str, Any]) -> str:
        """Send until it is accepted, but after an answer that never came look for the job first. Where
        that leaves a doubt, raises SubmissionDelayed."""
        from botocore.exceptions import BotoCoreError, ClientError

        calls = _Calls()
        try:
            job_id = self._submit_patiently(request, calls)
        except (ClientError, BotoCoreError, SubmissionError) as error:
            if calls.unanswered_at is None:
                raise
            given_up = error if isinstance(error, SubmissionError) else None
            self._doubts[request["jobName"]] = _Doubt(submission, calls.unanswered_at, given_up)
            why = given_up.reason if given_up else error
            raise SubmissionDelayed(
                UNANSWERED_LOOK_S,
                f"AWS Batch has not said whether it took job {request['jobName']}, which is looked for "
                f"before anything is sent again: {why}",
            ) from error
        if calls.unanswered_at is not None and calls.sent > 1:
            self._doubles.may_exist(request["jobQueue"], request["jobName"])
        return job_id

    def _submit_patiently(self, request: dict[str, Any], calls: _Calls) -> str:
        from botocore.exceptions import BotoCoreError, ClientError

        doubtful = False
        last: Exception | None = None
        for pause_s in (0.0, *PAUSES_S):
            if pause_s:
                self._sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 - no secret
            try:
                if doubtful and (job_id := self._find(request)):
                    return job_id
                doubtful = False
                self._rate.take()
                calls.sent += 1
                answer = self._clients.batch_once.submit_job(**request)
                # without an id it is the answer of something on the way, not of Batch
                if job_id := answer.get("jobId"):
                    return str(job_id)
                last = LookupError(f"an answer without a job: {answer}"[:500])
            except ClientError as error:
                last = error
                if aws.is_throttling(error) and aws.http_status(error) < 500:
                    continue  # a look that was throttled leaves the doubt as it was
                if aws.http_status(error) < 500:
                    raise
            except BotoCoreError as error:
                last = error
                if not _passing(error):
                    raise
            doubtful, calls.unanswered_at = True, self._clock()
        if doubtful and (job_id := self._find(request)):
            return job_id
        raise SubmissionError(
            FailureKind.LOST,
            f"SubmitJob failed {len(PAUSES_S) + 1} times, at last with: {last}",
            f"see whether a job named {request['jobName']} is in the queue {request['jobQueue']}",
        ) from last

    def _find(self, request: dict[str, Any]) -> str | None:
        """A job that was perhaps accepted. A second one would run every task twice, so that a list
        which does not show it is not believed at once."""
        for pause_s in LOOKS_S:
            self._sleep(pause_s)
            found = api.find_job(
                self._clients.batch_at_once, request["jobQueue"], request["jobName"]
            )
            if found:
                return found
        return None


def job_request(submission: Submission, context: RunContext) -> dict[str, Any]:
    """The arguments of SubmitJob, with the job definition's name. Raises SubmissionError. Pure."""
    options: BatchOptions = submission.target.options
    job = submission.tasks[0].job
    shape = job.shape
    check_launcher(shape.mpi)
    request: dict[str, Any] = {
        "jobName": job_name(submission),
        "jobQueue": options.queue,
        "jobDefinition": options.job_definition or definition_of(submission)["jobDefinitionName"],
        "containerOverrides": {
            "command": worker_command(submission, context),
            "resourceRequirements": resource_requirements(
                shape, options.platform, submission.target.instances
            ),
        },
        # Whether and where a task is tried again is decided by the run, not by the service.
        "retryStrategy": {"attempts": 1},
        "propagateTags": True,
        "tags": {
            **options.tags,
            "takeda:run": tag_text(context.run_id),
            "takeda:rule": tag_text(job.rule),
            "takeda:submission": tag_text(submission.submission_id),
        },
        **scheduling_words(job.resources, options),
    }
    if is_multinode(submission):
        overrides = request.pop("containerOverrides")
        request["nodeOverrides"] = node_overrides(submission, context, overrides)
        if needs := request.pop("consumableResourcePropertiesOverride", None):
            # of jobs of several nodes Batch takes it for each range of nodes
            for group in request["nodeOverrides"]["nodePropertyOverrides"]:
                group["consumableResourcePropertiesOverride"] = needs
    if len(submission.tasks) > 1:
        request["arrayProperties"] = {"size": len(submission.tasks)}
    limit = timeout(shape, options)
    if limit:
        request["timeout"] = limit
    size = len(json.dumps(request).encode())
    if size > MAX_BYTES - _ROOM_BYTES:
        raise SubmissionError(
            FailureKind.CONFIGURATION,
            f"the SubmitJob of rule {job.rule} has {size} bytes; Batch takes {MAX_BYTES}",
            "shorten the target's tags and paths",
        )
    return request


def worker_command(submission: Submission, context: RunContext) -> list[str]:
    """What a container runs: the worker, which finds its task in the manifest."""
    options: BatchOptions = submission.target.options
    command = [options.python, "-P", "-m", "snakemake_executor_takeda.worker"]
    command += ["--manifest", manifest_uri(submission, context)]
    if options.scratch:
        command += ["--scratch", options.scratch]
    shape = submission.tasks[0].job.shape
    if shape.mpi and shape.nodes == 1:
        command.append("--mpi")
    return command


def job_name(submission: Submission) -> str:
    """A name that no other submission has, and the same one whenever it is asked for."""
    marker = hashlib.sha256(submission.submission_id.encode()).hexdigest()[:12]
    name = submission.name.lstrip("-_") or "takeda"
    return f"{name[: MAX_NAME - len(marker) - 1]}-{marker}"


def manifest_uri(submission: Submission, context: RunContext) -> str:
    """Where the manifest of this submission is in S3. The check at start saw to the prefix."""
    return aws.join_s3_uri(context.remote_prefix or "", "manifests", submission.submission_id)


def accepted(submission: Submission, job_id: str) -> Accepted:
    """The ids of the tasks: `parent:index` in an array, the job's own for a single one."""
    tasks = submission.tasks
    if len(tasks) == 1:
        return Accepted(job_id, {tasks[0].task_id: job_id})
    return Accepted(job_id, {task.task_id: f"{job_id}:{i}" for i, task in enumerate(tasks)})


def tag_text(text: str) -> str:
    """What AWS takes as a tag's value: 256 of letters, digits, spaces and + - = . _ : / @."""
    return _NOT_IN_TAGS.sub("_", text)[:256]


def _passing(error: BaseException) -> bool:
    """True for trouble on the way: the call may have arrived, or may the next time."""
    from botocore import exceptions

    return isinstance(
        error,
        exceptions.ConnectionError
        | exceptions.HTTPClientError
        | exceptions.ResponseStreamingError
        | exceptions.IncompleteReadError,
    )


def _refused(error: Any) -> SubmissionError:
    call = error.operation_name
    reason = f"{call} refused ({aws.error_code(error)}): {aws.error_message(error)}"
    if aws.is_throttling(error) or aws.http_status(error) >= 500:
        return SubmissionError(FailureKind.LOST, reason, "the service is busy: run again later")
    advice = "see the target's options, the roles' rights and the service's words"
    return SubmissionError(FailureKind.CONFIGURATION, reason, advice)
