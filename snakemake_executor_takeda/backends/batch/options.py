"""The words a Batch target may say in the routing policy."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

DEFAULT_LOG_GROUP = "/aws/batch/job"
DEFAULT_IMAGE = f"takeda-worker:{version('snakemake-executor-plugin-takeda')}"
"""A name without a registry: build it from `containers/`, push it, and name it in `image`."""

MAX_TAGS = 40
"""Batch takes 50 tags of job and job definition together; ours and later ones need room."""

_Role = Annotated[str, StringConstraints(pattern=r"^arn:[\w-]+:iam::\d{12}:role/\S+$")]
_Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
_TAG_TEXT = re.compile(r"[\w +\-=.:/@]*")


class BatchOptions(BaseModel):
    """One AWS Batch job queue and how jobs are started there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    queue: _Text = Field(description="Name or ARN of the job queue.")
    image: _Text = Field(
        default=DEFAULT_IMAGE,
        description="Image of the container; it has Python and this package in it.",
    )
    job_role_arn: _Role | None = Field(
        default=None, description="Role of the job itself: it reads and writes the run's S3 prefix."
    )
    execution_role_arn: _Role | None = Field(
        default=None,
        description="Role that pulls the image and writes logs; FARGATE cannot do without.",
    )
    platform: Literal["EC2", "FARGATE"] = Field(
        default="EC2", description="What the queue's compute environments are made of."
    )
    log_group: _Text = Field(
        default=DEFAULT_LOG_GROUP, description="CloudWatch log group the jobs write to."
    )
    python: _Text = Field(
        default="python", description="Python of the container that has this package."
    )
    tags: dict[str, str] = Field(
        default_factory=dict, description="Tags for jobs and their tasks, for instance for costs."
    )
    timeout: int | None = Field(
        default=None, ge=1, description="Minutes a task may run where its rule sets no `runtime`."
    )
    runnable_notice: int = Field(
        default=10,
        ge=1,
        description="Minutes that jobs wait RUNNABLE, nothing moving, before it is looked for why.",
    )
    runnable_limit: int | None = Field(
        default=None,
        ge=1,
        description="Minutes after which such jobs are given up: they go to the fallback, or fail. "
        "Without: 30 for a target with a fallback, else never.",
    )
    event_queue: _Text | None = Field(
        default=None,
        description="Name, URL or ARN of the SQS queue that an EventBridge rule sends this queue's "
        "`Batch Job State Change` events to; without, the jobs are polled.",
    )
    reconcile_seconds: int = Field(
        default=60,
        ge=5,
        description="Seconds between looks at jobs whose ends `event_queue` tells; up to five times "
        "that while the looks find nothing.",
    )
    scratch: _Text | None = Field(
        default=None,
        pattern="^/",
        description="Directory in the container for task directories; by default its temp directory.",
    )

    @field_validator("tags")
    @classmethod
    def _tags_fit_aws(cls, tags: dict[str, str]) -> dict[str, str]:
        if len(tags) > MAX_TAGS:
            raise ValueError(f"{len(tags)} tags are too many: at most {MAX_TAGS}")
        for key, value in tags.items():
            if not 1 <= len(key) <= 128 or key.lower().startswith("aws:"):
                raise ValueError(
                    f"tag {key!r}: a key has 1 to 128 characters, not beginning `aws:`"
                )
            if len(value) > 256 or not _TAG_TEXT.fullmatch(key) or not _TAG_TEXT.fullmatch(value):
                raise ValueError(
                    f"tag {key!r}: letters, digits, spaces and + - = . _ : / @ only, "
                    "and a value has at most 256"
                )
        return tags

    @model_validator(mode="after")
    def _fargate_needs_an_execution_role(self) -> Self:
        if self.platform == "FARGATE" and self.execution_role_arn is None:
            raise ValueError("platform FARGATE needs `execution_role_arn`")
        return self
