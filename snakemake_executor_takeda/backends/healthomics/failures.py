"""What HealthOmics calls a failure → what kind it is, what to change, and whether a retry helps. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from snakemake_executor_takeda.values import FailureKind


@dataclass(frozen=True)
class Verdict:
    """What a failureReason comes to."""

    kind: FailureKind
    change: str
    """What the user is to change, one clause."""
    retry_helps: bool = False
    """Whether the same run, started again, may end otherwise."""

    @property
    def advice(self) -> str:
        """What the user is told to do."""
        if self.kind in (FailureKind.NO_CAPACITY, FailureKind.NODE_FAILURE):
            retry = "it is started again by itself, within the target's budget"
        elif self.retry_helps:
            retry = "a retry may help"
        else:
            retry = "a retry as it is will not help"
        return f"{self.change}; {retry}"

    @property
    def permanent(self) -> bool:
        return not self.retry_helps


_IMAGE_URI = "images must lie in a private ECR repository of the run's region"

REASONS: Final[Mapping[str, Verdict]] = {
    # The service's doing.
    "INSTANCE_RESERVATION_FAILED": Verdict(
        FailureKind.NO_CAPACITY,
        "HealthOmics found no instance: ask for smaller or other tasks if it stays so",
        True,
    ),
    "SERVICE_ERROR": Verdict(FailureKind.NODE_FAILURE, "HealthOmics itself failed", True),
    "MODIFIED_INPUT_RESOURCE": Verdict(
        FailureKind.NODE_FAILURE,
        "an input changed in S3 during the run: leave the inputs alone",
        True,
    ),
    # The set-up's.
    "ASSUME_ROLE_FAILED": Verdict(
        FailureKind.CONFIGURATION,
        "let omics.amazonaws.com assume the target's role_arn (its trust policy)",
    ),
    "INPUT_URI_NOT_FOUND": Verdict(
        FailureKind.CONFIGURATION,
        "check that the inputs exist in the target's region and its role may read them",
    ),
    "INVALID_URI_INPUT": Verdict(
        FailureKind.CONFIGURATION,
        "give inputs as s3:// or omics:// URIs that HealthOmics can read",
    ),
    "INACTIVE_OMICS_STORAGE_RESOURCE": Verdict(
        FailureKind.CONFIGURATION,
        "activate the read sets among the inputs (start-read-set-activation-job)",
    ),
    "IMPORT_FAILED": Verdict(
        FailureKind.CONFIGURATION,
        "check that the target's role may read the inputs and their KMS keys",
    ),
    "UNSUPPORTED_INPUT_SIZE": Verdict(
        FailureKind.CONFIGURATION, "hand over fewer or smaller inputs, in more runs"
    ),
    "EXPORT_FAILED": Verdict(
        FailureKind.CONFIGURATION,
        "check that the target's role may write to output_uri and use its KMS key",
    ),
    "FILE_SYSTEM_OUT_OF_SPACE": Verdict(
        FailureKind.CONFIGURATION,
        "use storage_type: DYNAMIC, or raise storage_capacity_gib",
    ),
    "UNSUPPORTED_GPU_INSTANCE_TYPE": Verdict(
        FailureKind.CONFIGURATION,
        "name a GPU that HealthOmics has in this region in the task's acceleratorType",
    ),
    "INVALID_TASK_RESOURCE_VALUE": Verdict(
        FailureKind.CONFIGURATION,
        "correct cpu, memory or GPUs in the task's runtime: HealthOmics has 2 to 96 vCPUs and 4 to 768 GiB",
    ),
    "WORKFLOW_VER_VALIDATION_FAILED": Verdict(
        FailureKind.CONFIGURATION,
        "ask for an engine version that HealthOmics runs (the workflow's manifest)",
    ),
    # The images'.
    "ECR_PERMISSION_ERROR": Verdict(
        FailureKind.IMAGE, "allow omics.amazonaws.com in the ECR repository's policy"
    ),
    "INVALID_ECR_IMAGE_URI": Verdict(
        FailureKind.IMAGE, f"{_IMAGE_URI}; or map registries with container_registry_map"
    ),
    "IMAGE_VERIFICATION_FAILURE": Verdict(
        FailureKind.IMAGE, "push the image anew and name it by a tag or digest that exists"
    ),
    "CANNOT_START_CONTAINER_ERROR": Verdict(
        FailureKind.IMAGE, "build the image for x86_64 and without ENTRYPOINT"
    ),
    "CANNOT_START_CONTAINER_SIZE_ERROR": Verdict(
        FailureKind.IMAGE, "make the image smaller, or ask for a larger task"
    ),
    # The workflow's own.
    "OUT_OF_MEMORY_ERROR": Verdict(
        FailureKind.OUT_OF_MEMORY, "raise `memory` in the task's runtime"
    ),
    "RUN_TASK_FAILED": Verdict(FailureKind.USER, "read the failed task's log"),
    "WORKFLOW_RUN_FAILED": Verdict(FailureKind.USER, "read the engine's log"),
    "TASK_TIMED_OUT": Verdict(FailureKind.TIMEOUT, "raise the time limit in the task's runtime"),
    "RUN_TIMED_OUT": Verdict(
        FailureKind.TIMEOUT, "raise maxDuration of the run group, or cut the work into more runs"
    ),
}
"""By failureReason, all that HealthOmics' user guide lists."""

_SAYS_LITTLE = frozenset({"RUN_TASK_FAILED", "WORKFLOW_RUN_FAILED", ""})


def classify(reason: str, task_reasons: Sequence[str] = ()) -> Verdict:
    """What a run's failure comes to, by the run's reason and those of its failed tasks."""
    if reason in _SAYS_LITTLE:
        # A task's own reason says more than the run's, which only says that a task failed.
        for task_reason in task_reasons:
            if task_reason and task_reason not in _SAYS_LITTLE:
                return _verdict(task_reason)
        if reason == "" and any(task_reasons):
            return REASONS["RUN_TASK_FAILED"]
    return _verdict(reason)


def _verdict(reason: str) -> Verdict:
    if reason in REASONS:
        return REASONS[reason]
    if reason.endswith("TIMED_OUT"):
        return Verdict(FailureKind.TIMEOUT, "raise the time limit of the run group or the task")
    # A reason that came after this was written: whether a retry helps is not known.
    return Verdict(FailureKind.USER, "read the engine's log", retry_helps=True)


def refusal(code: str) -> tuple[FailureKind, str]:
    """Kind and advice for an error with which the service refuses a call."""
    if code in ("AccessDeniedException", "AccessDenied"):
        return (
            FailureKind.CONFIGURATION,
            "allow omics:* for workflows and runs, and iam:PassRole for the target's role",
        )
    if code in ("ThrottlingException", "TooManyRequestsException"):
        return FailureKind.NO_CAPACITY, "HealthOmics takes few calls a second; run again later"
    if code == "ServiceQuotaExceededException":
        return FailureKind.NO_CAPACITY, "wait for other runs to end, or ask AWS to raise the quota"
    if code in ("InternalServerException", "RequestTimeoutException"):
        return FailureKind.NODE_FAILURE, "HealthOmics itself failed; run it again"
    return FailureKind.CONFIGURATION, ""
