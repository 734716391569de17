"""What HealthOmics calls a failure → what kind it is and what to change. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from snakemake_executor_takeda.values import FailureKind

_KINDS: dict[str, tuple[FailureKind, str]] = {
    # The service's doing: worth another run as it is.
    "INSTANCE_RESERVATION_FAILED": (
        FailureKind.NO_CAPACITY,
        "HealthOmics found no instance; try later, or ask for smaller or other tasks",
    ),
    "SERVICE_ERROR": (FailureKind.NODE_FAILURE, "HealthOmics itself failed; run it again"),
    "MODIFIED_INPUT_RESOURCE": (
        FailureKind.NODE_FAILURE,
        "an input changed in S3 during the run; run it again and leave the inputs alone",
    ),
    # The set-up's.
    "ASSUME_ROLE_FAILED": (
        FailureKind.CONFIGURATION,
        "let omics.amazonaws.com assume the target's role_arn (its trust policy)",
    ),
    "INPUT_URI_NOT_FOUND": (
        FailureKind.CONFIGURATION,
        "check that the inputs exist in the target's region and its role may read them",
    ),
    "IMPORT_FAILED": (
        FailureKind.CONFIGURATION,
        "check that the target's role may read the inputs and their KMS keys",
    ),
    "EXPORT_FAILED": (
        FailureKind.CONFIGURATION,
        "check that the target's role may write to output_uri",
    ),
    "UNSUPPORTED_GPU_INSTANCE_TYPE": (
        FailureKind.CONFIGURATION,
        "name a GPU that HealthOmics has in this region in the task's acceleratorType",
    ),
    "FILE_SYSTEM_OUT_OF_SPACE": (
        FailureKind.CONFIGURATION,
        "use storage_type: DYNAMIC, or raise storage_capacity_gib",
    ),
    "ECR_PERMISSION_ERROR": (
        FailureKind.IMAGE,
        "allow omics.amazonaws.com in the ECR repository's policy",
    ),
    "INVALID_ECR_IMAGE_URI": (
        FailureKind.IMAGE,
        "images must lie in a private ECR repository of the run's region",
    ),
    "CANNOT_START_CONTAINER_ERROR": (
        FailureKind.IMAGE,
        "build the image for x86_64 and without ENTRYPOINT",
    ),
    # The workflow's own.
    "OUT_OF_MEMORY_ERROR": (FailureKind.OUT_OF_MEMORY, "raise `memory` in the task's runtime"),
    "RUN_TASK_FAILED": (FailureKind.USER, "read the failed task's log"),
    "WORKFLOW_RUN_FAILED": (FailureKind.USER, "read the engine's log"),
}


def classify(reason: str, task_reasons: Sequence[str] = ()) -> tuple[FailureKind, str]:
    """The kind of a run's failure and one sentence of advice, by the run's and its tasks' reasons."""
    if reason in ("RUN_TASK_FAILED", "WORKFLOW_RUN_FAILED", ""):
        # A task's own reason says more than the run's, which only says that a task failed.
        for task_reason in task_reasons:
            if task_reason in _KINDS and _KINDS[task_reason][0] is not FailureKind.USER:
                return _KINDS[task_reason]
    if reason.endswith("TIMED_OUT"):
        return FailureKind.TIMEOUT, "raise the time limit of the run group or the task"
    return _KINDS.get(reason, (FailureKind.USER, "read the engine's log"))


def refusal(code: str) -> tuple[FailureKind, str]:
    """The same for an error with which the service refuses a call."""
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
