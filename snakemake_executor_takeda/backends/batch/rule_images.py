"""A rule's `container:` as its job's image, where the target says `rule_image: true`. Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.commands.rewording import without_apptainer
from snakemake_executor_takeda.values import FailureKind

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.batch.options import BatchOptions
    from snakemake_executor_takeda.values import JobSpec, Submission

_REGISTRY = "docker://"
_IMAGE = re.compile(r"[A-Za-z0-9_:./#@-]{1,255}")


def image_of(job: JobSpec, options: BatchOptions) -> str:
    """The image of a job's container. Raises SubmissionError for a rule's that Batch cannot pull."""
    if not options.rule_image or not job.container:
        return options.image
    image = job.container.removeprefix(_REGISTRY)
    if image == job.container or not _IMAGE.fullmatch(image):
        raise SubmissionError(
            FailureKind.CONFIGURATION,
            f"container {job.container!r} is no image of a registry, and the target has `rule_image: true`",
            "write docker://REGISTRY/NAME:TAG in the rule, or route it to a target without `rule_image`",
        )
    return image


def in_rule_images(submission: Submission) -> Submission:
    """The same tasks without `apptainer`: their container is there already, and runs no second one."""
    job = submission.tasks[0].job
    if not submission.target.options.rule_image or not job.container:
        return submission
    tasks = tuple(replace(task, argv=without_apptainer(task.argv)) for task in submission.tasks)
    return replace(submission, tasks=tasks)
