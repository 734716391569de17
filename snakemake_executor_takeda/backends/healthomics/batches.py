"""Which run each place of a batch has become: asked as long as there are places without one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from snakemake_executor_takeda.backends.healthomics.failures import refusal
from snakemake_executor_takeda.values import FailureKind, Outcome

if TYPE_CHECKING:
    from mypy_boto3_omics import OmicsClient

LIMIT = 100
"""Settings that one StartRunBatch takes inline."""
# Where a batch comes to nothing, its places stay empty.
_OVER = frozenset({"FAILED", "CANCELLED", "RUNS_DELETED", "RUNS_DELETE_FAILED", "PROCESSED"})


@dataclass(frozen=True)
class Begun:
    """A place that has become a run."""

    run_id: str
    uuid: str | None


def places(
    omics: OmicsClient, batch_id: str, settings: Iterable[str]
) -> Mapping[str, Begun | Outcome]:
    """For each of these runSettingIds that is decided: its run, or why there is none.

    One call for 100 places, and one more where a look found nothing new.
    """
    wanted = set(settings)
    found: dict[str, Begun | Outcome] = {}
    try:
        for page in omics.get_paginator("list_runs_in_batch").paginate(batchId=batch_id):
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
