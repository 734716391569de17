"""A submission → one manifest in S3 and one SubmitJob, sent so that it is accepted at most once."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends import aws
from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.batch import api
from snakemake_executor_takeda.backends.batch.definitions import job_definition
from snakemake_executor_takeda.backends.batch.rate import TokenBucket
from snakemake_executor_takeda.backends.batch.shapes import resource_requirements, timeout
from snakemake_executor_takeda.values import Accepted, FailureKind
from snakemake_executor_takeda.worker.manifest import encode_manifest

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.base import RunContext
    from snakemake_executor_takeda.backends.batch.options import BatchOptions
    from snakemake_executor_takeda.values import Submission

SUBMITS_PER_SECOND = 50
"""A fixed quota of the account; other users of it may take their share, hence the retries."""
PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Before each further SubmitJob after one that was throttled or got no answer."""
MAX_NAME = 128
_NOT_IN_TAGS = re.compile(r"[^\w +\-=.:/@]")


class Submitter:
    """Sends submissions of one run. Job definitions are looked up once and kept."""

    def __init__(
        self,
        clients: api.Clients,
        context: RunContext,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._clients = clients
        self._context = context
        self._sleep = sleep
        self._rate = TokenBucket(SUBMITS_PER_SECOND, burst=SUBMITS_PER_SECOND, sleep=sleep)
        self._definitions: dict[str, str] = {}

    def submit(self, submission: Submission) -> Accepted:
        """Raises SubmissionError; then no job of this submission is known to exist."""
        from botocore.exceptions import BotoCoreError, ClientError

        options: BatchOptions = submission.target.options
        request = job_request(submission, self._context)
        definition = job_definition(options)
        try:
            self._put_manifest(submission)
            request["jobDefinition"] = self._registered(definition)
            job_id = self._submit_once(request)
        except ClientError as error:
            # It may have been deregistered behind our back: look again the next time.
            self._definitions.pop(definition["jobDefinitionName"], None)
            raise _refused(error) from error
        except BotoCoreError as error:
            raise SubmissionError(
                FailureKind.LOST, f"AWS did not answer: {error}", "see the network and the endpoint"
            ) from error
        return accepted(submission, job_id)

    def _put_manifest(self, submission: Submission) -> None:
        bucket, key = aws.split_s3_uri(manifest_uri(submission, self._context))
        self._clients.s3.put_object(
            Bucket=bucket, Key=key, Body=encode_manifest(submission, self._context)
        )

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

    def _submit_once(self, request: dict[str, Any]) -> str:
        """Send until it is accepted, but after an answer that never came look for the job first."""
        from botocore.exceptions import BotoCoreError, ClientError

        doubtful = False
        last: BaseException | None = None
        for pause_s in (0.0, *PAUSES_S):
            if pause_s:
                self._sleep(pause_s)
            try:
                if doubtful and (job_id := self._find(request)):
                    return job_id
                self._rate.take()
                return self._clients.batch_once.submit_job(**request)["jobId"]
            except ClientError as error:
                if aws.http_status(error) >= 500:
                    doubtful = True
                elif not aws.is_throttling(error):
                    raise
                last = error
            except BotoCoreError as error:
                if not _passing(error):
                    raise
                doubtful = True
                last = error
        if doubtful:
            self._sleep(PAUSES_S[0])
            if job_id := self._find(request):
                return job_id
        raise SubmissionError(
            FailureKind.LOST,
            f"SubmitJob failed {len(PAUSES_S) + 1} times, at last with: {last}",
            f"see whether a job named {request['jobName']} is in the queue {request['jobQueue']}",
        ) from last

    def _find(self, request: dict[str, Any]) -> str | None:
        return api.find_job(self._clients.batch_at_once, request["jobQueue"], request["jobName"])


def job_request(submission: Submission, context: RunContext) -> dict[str, Any]:
    """The arguments of SubmitJob but for the job definition. Raises SubmissionError. Pure."""
    options: BatchOptions = submission.target.options
    shape = submission.tasks[0].job.shape
    request: dict[str, Any] = {
        "jobName": job_name(submission),
        "jobQueue": options.queue,
        "containerOverrides": {
            "command": worker_command(submission, context),
            "resourceRequirements": resource_requirements(shape, options.platform),
        },
        # Whether and where a task is tried again is decided by the run, not by the service.
        "retryStrategy": {"attempts": 1},
        "propagateTags": True,
        "tags": {
            **options.tags,
            "takeda:run": tag_text(context.run_id),
            "takeda:rule": tag_text(submission.tasks[0].job.rule),
            "takeda:submission": tag_text(submission.submission_id),
        },
    }
    if len(submission.tasks) > 1:
        request["arrayProperties"] = {"size": len(submission.tasks)}
    limit = timeout(shape, options)
    if limit:
        request["timeout"] = limit
    return request


def worker_command(submission: Submission, context: RunContext) -> list[str]:
    """What a container runs: the worker, which finds its task in the manifest."""
    options: BatchOptions = submission.target.options
    command = [options.python, "-P", "-m", "snakemake_executor_takeda.worker"]
    command += ["--manifest", manifest_uri(submission, context)]
    if options.scratch:
        command += ["--scratch", options.scratch]
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
