"""Starts runs exactly once: an equal request finds the run it already started."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends.aws import error_code, error_message, is_throttling
from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.healthomics.failures import refusal
from snakemake_executor_takeda.backends.healthomics.options import HealthOmicsOptions
from snakemake_executor_takeda.backends.healthomics.registry import Registered
from snakemake_executor_takeda.values import FailureKind, JobSpec

if TYPE_CHECKING:
    from mypy_boto3_omics import OmicsClient

_log = logging.getLogger("takeda")

MAX_PARAMETER_BYTES = 50_000
MAX_GENERATIONS = 20
RUN_TAG = "takeda:run"
REQUEST_TAG = "takeda:request"

# StartRun allows one call in one to ten seconds; these pauses wait a busy account out.
_THROTTLED_PAUSES_SECONDS = (2, 5, 10, 20, 30, 60, 60)
_MAX_TAKEN = 3
_FAILED = ("FAILED", "CANCELLED", "DELETED")


@dataclass(frozen=True)
class RunRequest:
    """All that decides what a run computes and where its result belongs."""

    registered: Registered
    parameters: Mapping[str, Any]
    input_tags: Sequence[tuple[str, str]]
    """URI and ETag of each input whose ETag is known: the same name may hold other content."""
    job: JobSpec
    options: HealthOmicsOptions

    def token(self, generation: int) -> str:
        """The requestId: the same for the same request, whoever makes it and when."""
        facts = [
            self.registered.workflow_id,
            self.registered.version,
            dict(self.parameters),
            sorted(self.input_tags),
            self.options.output_uri,
            self.options.role_arn,
            self.job.rule,
            dict(self.job.wildcards),
            self.job.attempt,
            generation,
        ]
        canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"), default=str)
        return hashlib.sha256(canonical.encode()).hexdigest()


class _TokenTaken(SubmissionError):
    """A conflict about a token whose run is not to be found."""


@dataclass(frozen=True)
class StartedRun:
    run_id: str
    uuid: str
    adopted: bool
    """True where another run of the pipeline had started it with an equal request."""


def check_size(parameters: Mapping[str, Any], where: str) -> None:
    size = len(json.dumps(parameters).encode())
    if size > MAX_PARAMETER_BYTES:
        raise SubmissionError(
            FailureKind.CONFIGURATION,
            f"{where}: the parameters are {size:,} bytes; HealthOmics takes {MAX_PARAMETER_BYTES:,}",
            "list the files in one text file, pass that as a File and read it with read_lines()",
        )


def start_run(
    omics: OmicsClient,
    request: RunRequest,
    run_tag: str,
    *,
    is_intact: Callable[[Mapping[str, Any]], bool],
) -> StartedRun:
    """Start the run, or find the one that an equal request started. Raises SubmissionError.

    A run that failed or was cancelled is not found again: its successor gets the next generation.
    One that completed is, as long as `is_intact` finds what it left, so that a controller that died
    before it heard of it loses nothing.
    """
    taken = 0
    for generation in range(MAX_GENERATIONS):
        token = request.token(generation)
        try:
            run = _start(omics, request, token)
        except _TokenTaken:
            taken += 1
            if taken == _MAX_TAKEN:
                raise  # It is no token's conflict, but one of the workflow.
            continue
        if run is None or run["status"] in _FAILED:
            continue
        tags = run.get("tags", {})
        if tags.get(REQUEST_TAG) != token or (run["status"] == "COMPLETED" and not is_intact(run)):
            continue
        adopted = RUN_TAG in tags
        if not adopted:
            _tag(omics, run["arn"], run_tag)
        return StartedRun(run["id"], run["uuid"], adopted)
    raise SubmissionError(
        FailureKind.CONFIGURATION,
        f"{MAX_GENERATIONS} equal runs of workflow {request.registered.workflow_id} have failed",
        "look at them with `aws omics list-runs`; delete them or change the rule to go on",
    )


def _start(omics: OmicsClient, request: RunRequest, token: str) -> Mapping[str, Any] | None:
    """GetRun's answer about the run of this token; None where it was deleted, its token spent."""
    name = _run_name(request.job.rule, token)
    options = request.options
    extra: dict[str, Any] = {
        "runGroupId": options.run_group_id,
        "priority": options.priority,
        "storageCapacity": options.storage_capacity_gib
        if options.storage_type == "STATIC"
        else None,
    }
    try:
        reply = _patiently(
            omics,
            workflowId=request.registered.workflow_id,
            workflowType="PRIVATE",
            workflowVersionName=request.registered.version,
            roleArn=options.role_arn,
            name=name,
            parameters=dict(request.parameters),
            outputUri=options.output_uri,
            storageType=options.storage_type,
            logLevel=options.log_level,
            requestId=token,
            # Nothing here may differ between two controllers: the same token with another request
            # is a conflict. So the tag that names the controller's run is put on later.
            tags={"takeda:rule": _tag_value(request.job.rule), REQUEST_TAG: token},
            **{key: value for key, value in extra.items() if value is not None},
        )
        run_id = reply["id"]
    except omics.exceptions.ConflictException as error:
        # How a repeated requestId is answered is not documented; this is the other way.
        found = _find(omics, name, token)
        if found is None:
            raise _TokenTaken(FailureKind.CONFIGURATION, _words(error)) from error
        run_id = found
    try:
        run: Mapping[str, Any] = omics.get_run(id=run_id)
    except omics.exceptions.ResourceNotFoundException:
        return None
    return run


def _tag(omics: OmicsClient, arn: str, run_tag: str) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        omics.tag_resource(resourceArn=arn, tags={RUN_TAG: run_tag})
    except (ClientError, BotoCoreError) as error:
        # The run is started, and must not be given up for want of a tag.
        _log.warning("run %s could not be tagged: %s", arn, error)


def _patiently(omics: OmicsClient, **arguments: Any) -> Mapping[str, Any]:
    from botocore.exceptions import ClientError

    for pause in (*_THROTTLED_PAUSES_SECONDS, None):
        try:
            return omics.start_run(**arguments)
        except omics.exceptions.ConflictException:
            raise
        except ClientError as error:
            if pause is None or not is_throttling(error):
                raise _refused(error) from error
            time.sleep(pause)
    raise AssertionError("the last pause is None")


def _refused(error: Any) -> SubmissionError:
    kind, advice = refusal(error_code(error))
    return SubmissionError(kind, _words(error), advice)


def _words(error: Any) -> str:
    return f"{error_code(error)}: {error_message(error)}"


def _find(omics: OmicsClient, name: str, token: str) -> str | None:
    for page in omics.get_paginator("list_runs").paginate(name=name):
        for item in page["items"]:
            if omics.get_run(id=item["id"]).get("tags", {}).get(REQUEST_TAG) == token:
                return str(item["id"])
    return None


def _run_name(rule: str, token: str) -> str:
    return f"takeda-{_tag_value(rule)[:80]}-{token[:16]}"


def _tag_value(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text)[:200] or "rule"
