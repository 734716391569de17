"""The settings of a batch's runs, and which run each place of it has become."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends.aws import error_code, join_s3_uri, split_s3_uri
from snakemake_executor_takeda.backends.healthomics.failures import refusal
from snakemake_executor_takeda.values import FailureKind, Outcome

if TYPE_CHECKING:
    from mypy_boto3_omics import OmicsClient
    from mypy_boto3_s3 import S3Client

INLINE_LIMIT = 100
"""Settings that one StartRunBatch takes in the call itself."""
LIMIT = 100_000
"""Settings that one StartRunBatch takes by an object in S3."""
FOLDER = "batches"
"""Below a target's output_uri: there are these objects."""
# Where a batch comes to nothing, its places stay empty.
_OVER = frozenset({"FAILED", "CANCELLED", "RUNS_DELETED", "RUNS_DELETE_FAILED", "PROCESSED"})


@dataclass(frozen=True)
class Begun:
    """A place that has become a run."""

    run_id: str
    uuid: str | None


def run_settings(
    s3: Callable[[], S3Client], settings: Sequence[Mapping[str, Any]], output_uri: str
) -> dict[str, Any]:
    """StartRunBatch's `batchRunSettings`: the settings themselves, or an object in S3 that has them.

    The object is named by its content and never written twice: where a bucket encrypts by a key of KMS,
    the same content would get another ETag, and HealthOmics fails a batch whose object has changed.
    Raises ClientError and botocore's connection errors.
    """
    from botocore.exceptions import ClientError

    if len(settings) <= INLINE_LIMIT:
        return {"inlineSettings": list(settings)}
    body = json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()
    uri = join_s3_uri(output_uri, FOLDER, f"{hashlib.sha256(body).hexdigest()}.json")
    bucket, key = split_s3_uri(uri)
    try:
        s3().put_object(Bucket=bucket, Key=key, Body=body, IfNoneMatch="*")
    except ClientError as error:
        if error_code(error) != "PreconditionFailed":
            raise
    return {"s3UriSettings": uri}


def places(
    omics: OmicsClient,
    batch_id: str,
    settings: Iterable[str],
    pages: Callable[[Iterable[Any]], Iterator[Any]] = iter,
) -> Mapping[str, Begun | Outcome]:
    """For each of these runSettingIds that is decided: its run, or why there is none.

    One call for 100 places, and one more where a look found nothing new. All answers go through `pages`.
    """
    wanted = set(settings)
    found: dict[str, Begun | Outcome] = {}
    try:
        listing = omics.get_paginator("list_runs_in_batch").paginate(
            batchId=batch_id, PaginationConfig={"PageSize": 100}
        )
        for page in pages(listing):
            for row in page["runs"]:
                if row["runSettingId"] not in wanted:
                    continue
                if run_id := row.get("runId"):
                    found[row["runSettingId"]] = Begun(run_id, row.get("runInternalUuid"))
                elif row["submissionStatus"] != "SUCCESS":
                    found[row["runSettingId"]] = _refused(row)
        if not found:
            found |= _of_batch(omics, batch_id, wanted)
    except omics.exceptions.ResourceNotFoundException:
        gone = Outcome(
            FailureKind.LOST, reason=f"batch {batch_id} was deleted before its runs began"
        )
        return dict.fromkeys(wanted, gone)
    return found


def _refused(row: Mapping[str, object]) -> Outcome:
    code = str(row.get("submissionFailureReason") or row["submissionStatus"])
    if code.startswith("CANCEL"):
        return Outcome(FailureKind.USER, reason="its batch was cancelled before its run began")
    kind, advice = refusal(code)
    return Outcome(kind, reason=f"{code}: {row.get('submissionFailureMessage', '')}", advice=advice)


def _of_batch(omics: OmicsClient, batch_id: str, wanted: set[str]) -> dict[str, Outcome]:
    batch = omics.get_batch(batchId=batch_id)
    if batch["status"] not in _OVER:
        return {}
    reason = f"batch {batch_id} is {batch['status']}"
    if batch.get("failureReason"):
        reason += f": {batch['failureReason']}"
    kind = {"CANCELLED": FailureKind.USER, "FAILED": FailureKind.CONFIGURATION}.get(
        batch["status"], FailureKind.LOST
    )
    return dict.fromkeys(wanted, Outcome(kind, reason=reason))
