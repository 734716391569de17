"""What a rule says over its target's words, in the resources of snakemake-executor-plugin-aws-batch. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.batch.grammar import in_a_line
from snakemake_executor_takeda.backends.batch.migrating import minutes
from snakemake_executor_takeda.backends.batch.options import IN_DEFINITION
from snakemake_executor_takeda.values import FailureKind, TakedaError

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.batch.options import BatchOptions
    from snakemake_executor_takeda.values import JobSpec, Submission, Target

_WORDS: Mapping[str, str] = {
    "batch_queue": "queue",
    "aws_batch_container_image": "image",
    "aws_batch_job_definition": "job_definition",
    "aws_batch_scheduling_priority": "scheduling_priority",
    "shared_memory_size_mb": "shared_memory_mib",
}
"""Resource → word of a Batch target. That plugin's MB of shared memory are MiB."""
_TIMEOUT = "aws_batch_task_timeout"
RULE_RESOURCES = frozenset({*_WORDS, _TIMEOUT})
"""Tasks that differ in one of them share no array."""


def with_rule_words(submission: Submission) -> Submission:
    """The submission, its target and time limit as its rule says. Raises SubmissionError(configuration)."""
    job = submission.tasks[0].job
    found = on_rule_target(submission)
    if not job.resources.get(_TIMEOUT):
        return found
    try:
        limit = minutes(job.resources[_TIMEOUT], _TIMEOUT)
    except TakedaError as error:
        raise SubmissionError(FailureKind.CONFIGURATION, str(error)) from None
    tasks = (
        replace(task, job=replace(task.job, shape=replace(task.job.shape, runtime_min=limit)))
        for task in submission.tasks
    )
    return replace(found, tasks=tuple(tasks))


def on_rule_target(submission: Submission) -> Submission:
    """The submission, its target as its rule says. Raises SubmissionError(configuration)."""
    job = submission.tasks[0].job
    if _WORDS.keys().isdisjoint(job.resources):
        return submission
    return replace(submission, target=_target(submission.target, job))


def _target(target: Target, job: JobSpec) -> Target:
    options: BatchOptions = target.options
    said: dict[str, Any] = {
        word: job.resources[name] for name, word in _WORDS.items() if job.resources.get(name)
    }
    if "job_definition" in said:
        # As there, a definition that is named wins over images, the rule's and the target's.
        said.pop("image", None)
        options = options.without(IN_DEFINITION)
    elif options.job_definition:
        said.pop("image", None)
    if said.get("image"):
        said["rule_image"] = False
    try:
        return replace(target, options=options.having(said))
    except ValidationError as error:
        names = {word: name for name, word in _WORDS.items()}
        texts = []
        for detail in error.errors(include_url=False):
            word = str(detail["loc"][0]) if detail["loc"] else ""
            named = [names[word]] if word in names else [n for n in _WORDS if n in job.resources]
            texts.append(f"{', '.join(named)}: {in_a_line(detail['msg'])}")
        raise SubmissionError(FailureKind.CONFIGURATION, "; ".join(texts)) from None
