"""What a `healthomics` target of the routing policy may say."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_ROLE = re.compile(r"arn:aws[\w-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+")
_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s]*)?")


def _role_arn(text: str) -> str:
    if not _ROLE.fullmatch(text):
        raise ValueError(f"{text!r} is no role ARN such as arn:aws:iam::123456789012:role/omics")
    return text


def _s3_uri(text: str) -> str:
    if not _BUCKET.fullmatch(text):
        raise ValueError(f"{text!r} is no S3 URI such as s3://bucket/prefix")
    return text.rstrip("/")


class HealthOmicsOptions(BaseModel):
    """The words of a `healthomics` target."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role_arn: Annotated[str, AfterValidator(_role_arn)]
    """The role that HealthOmics takes on to read inputs, write outputs and pull images."""
    output_uri: Annotated[str, AfterValidator(_s3_uri)]
    """Where runs leave what they produce; it is copied from there to the rule's outputs."""
    storage_type: Literal["DYNAMIC", "STATIC"] = "DYNAMIC"
    storage_capacity_gib: int | None = Field(None, ge=1)
    """Size of a run's file system, with `storage_type: STATIC` only."""
    run_group_id: str | None = Field(None, pattern=r"^[0-9]{1,18}$")
    log_level: Literal["OFF", "FATAL", "ERROR", "ALL"] = "ALL"
    priority: int | None = Field(None, ge=0, le=100_000)
    registration_timeout_seconds: float = Field(600, gt=0)
    """How long a workflow version may take to become ACTIVE."""
    registration_poll_seconds: float = Field(1, gt=0)
