"""The check at start of `job_definition`: is there an active revision of what targets name?"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends import aws
from snakemake_executor_takeda.backends.batch.patience import patiently
from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from mypy_boto3_batch import BatchClient

    from snakemake_executor_takeda.values import Target


def check_job_definitions(batch: BatchClient, targets: Sequence[Target]) -> None:
    """Raises TakedaError naming every target whose `job_definition` is not there. A role that may not
    ask is let pass: SubmitJob says it then."""
    from botocore.exceptions import ClientError

    given = {
        target.options.job_definition: target.where
        for target in reversed(targets)
        if target.options.job_definition
    }
    problems = []
    for text, target in given.items():
        try:
            problem = _problem(batch, text)
        except ClientError as error:
            if aws.is_denied(error):
                return
            problem = f" cannot be looked up ({aws.error_code(error)}): {aws.error_message(error)}."
        if problem:
            problems.append(
                f"{target}: the job definition {text!r}{problem} Correct `job_definition`, or "
                "leave it out: then one is made from the target's options"
            )
    if problems:
        raise TakedaError("\n".join(problems))


def _problem(batch: BatchClient, text: str) -> str | None:
    name, _, revision = text.rpartition("/")[2].partition(":")
    if revision:
        wanted = text if text.startswith("arn:") else f"{name}:{revision}"
        found = _described(batch, jobDefinitions=[wanted])
        if any(one.get("status", "ACTIVE") == "ACTIVE" for one in found):
            return None
    active = _described(batch, jobDefinitionName=name, status="ACTIVE")
    if not active:
        # One page, 100 of them: not worth more calls.
        there = _described(batch, status="ACTIVE")
        return f" does not exist in this account and region{_nearest(name, there)}"
    if revision:
        other = max(one["revision"] for one in active)
        return f" is no active revision; there is '{name}:{other}'."
    return None


def _described(batch: BatchClient, **which: Any) -> list[Any]:
    """The first page that holds something."""

    def ask() -> list[Any]:
        pages = batch.get_paginator("describe_job_definitions").paginate(**which)
        return next((list(found) for page in pages if (found := page["jobDefinitions"])), [])

    return patiently("AWS Batch", ask)


def _nearest(name: str, there: Iterable[Any]) -> str:
    names = {one["jobDefinitionName"] for one in there}
    near = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else "."
