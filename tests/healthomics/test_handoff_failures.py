"""HealthOmics' failure reasons → what happens next; and the options of a target."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from snakemake_executor_takeda.backends.healthomics import backend
from snakemake_executor_takeda.backends.healthomics.diagnosis import said_of
from snakemake_executor_takeda.backends.healthomics.failures import classify, refusal
from snakemake_executor_takeda.values import FailureKind

GOOD = {"role_arn": "arn:aws:iam::123456789012:role/omics", "output_uri": "s3://bucket/runs/"}


@pytest.mark.parametrize(
    ("reason", "tasks", "kind"),
    [
        ("INSTANCE_RESERVATION_FAILED", (), FailureKind.NO_CAPACITY),
        ("SERVICE_ERROR", (), FailureKind.NODE_FAILURE),
        ("ASSUME_ROLE_FAILED", (), FailureKind.CONFIGURATION),
        ("INPUT_URI_NOT_FOUND", (), FailureKind.CONFIGURATION),
        ("ECR_PERMISSION_ERROR", (), FailureKind.IMAGE),
        ("OUT_OF_MEMORY_ERROR", (), FailureKind.OUT_OF_MEMORY),
        ("RUN_TASK_FAILED", ("RUN_TASK_FAILED",), FailureKind.USER),
        ("RUN_TASK_FAILED", ("OUT_OF_MEMORY_ERROR",), FailureKind.OUT_OF_MEMORY),
        ("RUN_TIMED_OUT", (), FailureKind.TIMEOUT),
        ("SOMETHING_NEW", (), FailureKind.USER),
        ("", (), FailureKind.USER),
    ],
)
def test_failure_reasons(reason: str, tasks: tuple[str, ...], kind: FailureKind) -> None:
    found = classify(reason, tasks)
    assert found.kind == kind
    assert found.advice


def test_refusals() -> None:
    assert refusal("AccessDeniedException")[0] == FailureKind.CONFIGURATION
    assert refusal("ThrottlingException")[0] == FailureKind.NO_CAPACITY
    assert refusal("ValidationException")[0] == FailureKind.CONFIGURATION


def test_options_are_checked() -> None:
    options = backend.options_model.model_validate(GOOD)
    assert options.output_uri == "s3://bucket/runs"  # type: ignore[attr-defined]
    assert options.storage_type == "DYNAMIC"  # type: ignore[attr-defined]
    for wrong in ({"role_arn": "omics"}, {"output_uri": "/tmp/x"}, {"role": "x"}):
        with pytest.raises(ValidationError):
            backend.options_model.model_validate({**GOOD, **wrong})


@pytest.mark.parametrize(
    ("message", "tasks", "said"),
    [
        (
            "c-0: the command failed with exit status 3",
            {"c-0": "it ended with exit status 3", "c-1": "it ended with exit status 4"},
            "R; task c-0: it ended with exit status 3; task c-1: it ended with exit status 4",
        ),
        ("the disk is full", {"c": "the disk is full"}, "R; task c: the disk is full"),
        ("c-10 failed", {"c-1": "status 3"}, "R: c-10 failed; task c-1: status 3"),
        ("c failed, the engine says", {"c": ""}, "R: c failed, the engine says; task c: failed"),
        ("no instance", {}, "R: no instance"),
    ],
)
def test_a_message_says_each_task_once(message: str, tasks: dict[str, str], said: str) -> None:
    failed = [
        {"name": name, "failureReason": "R", "statusMessage": own} for name, own in tasks.items()
    ]
    run = {"failureReason": "R", "statusMessage": message}
    assert "; ".join(said_of(run, failed)) == said
    other = said_of({**run, "failureReason": "W"}, failed)
    assert all(": R" in words for words in other[1:])
