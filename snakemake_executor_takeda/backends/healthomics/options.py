"""What a `healthomics` target of the routing policy may say."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

_ROLE = re.compile(r"arn:aws[\w-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+")
_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s]*)?")
# AWS's own rule for keys and values of tags.
_TAG = re.compile(r"[\w\s.:/=+@-]*")
OWN_TAGS = "takeda:"
"""Keys of tags that begin so are this project's."""
MAX_USER_TAGS = 40
"""A run has 50; ours and the ones AWS adds need some."""

Id = Annotated[str, Field(pattern=r"^[0-9]{1,18}$")]


def _role_arn(text: str) -> str:
    if not _ROLE.fullmatch(text):
        raise ValueError(f"{text!r} is no role ARN such as arn:aws:iam::123456789012:role/omics")
    return text


def _s3_uri(text: str) -> str:
    if not _BUCKET.fullmatch(text):
        raise ValueError(f"{text!r} is no S3 URI such as s3://bucket/prefix")
    return text.rstrip("/")


def _tags(tags: dict[str, str]) -> dict[str, str]:
    if len(tags) > MAX_USER_TAGS:
        raise ValueError(f"{len(tags)} tags are too many: give at most {MAX_USER_TAGS}")
    for key, value in tags.items():
        if key.lower().startswith(("aws:", OWN_TAGS)):
            raise ValueError(f"tag {key!r}: keys that begin with aws: or {OWN_TAGS} are taken")
        if not 1 <= len(key) <= 128 or len(value) > 256:
            raise ValueError(f"tag {key!r}: a key has 1 to 128 characters, a value up to 256")
        if not (_TAG.fullmatch(key) and _TAG.fullmatch(value)):
            raise ValueError(f"tag {key!r}: {value!r}: letters, digits, spaces and _.:/=+-@ only")
    return tags


class RegistryMapping(BaseModel):
    """A public registry and the pull-through cache that stands in for it, in AWS's words."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    upstreamRegistryUrl: str
    ecrRepositoryPrefix: str
    upstreamRepositoryPrefix: str | None = None
    ecrAccountId: str | None = Field(None, pattern=r"^[0-9]{12}$")
    credentialArn: str | None = None


class ImageMapping(BaseModel):
    """An image and the one in Amazon ECR that stands in for it, in AWS's words."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sourceImage: str
    destinationImage: str


class ContainerRegistryMap(BaseModel):
    """`containerRegistryMap` of CreateWorkflow."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    registryMappings: tuple[RegistryMapping, ...] = ()
    imageMappings: tuple[ImageMapping, ...] = ()

    def as_request(self) -> dict[str, Any]:
        """As CreateWorkflow takes it; empty where nothing is mapped."""
        found = self.model_dump(mode="json", exclude_none=True)
        return {name: mappings for name, mappings in found.items() if mappings}


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
    run_group_id: Id | None = None
    priority: int | None = Field(None, ge=0, le=100_000)
    cache_id: Id | None = None
    """The run cache that runs look for finished tasks in, and add theirs to."""
    cache_behavior: Literal["CACHE_ON_FAILURE", "CACHE_ALWAYS"] | None = None
    """With `cache_id` only; None for what the cache itself says."""
    log_level: Literal["OFF", "FATAL", "ERROR", "ALL"] = "ALL"
    retention_mode: Literal["RETAIN", "REMOVE"] = "RETAIN"
    """REMOVE lets HealthOmics forget its oldest runs where an account has too many."""
    tags: Annotated[dict[str, str], AfterValidator(_tags)] = Field(default_factory=dict)
    """Tags of each run beside our own, for the bill."""
    engine_settings: dict[str, Any] | None = None
    """StartRun's `engineSettings`; HealthOmics takes them for Nextflow workflows only."""
    container_registry_map: ContainerRegistryMap = ContainerRegistryMap()
    definition_uri: Annotated[str, AfterValidator(_s3_uri)] | None = None
    """Where definitions too large to be sent inline are put; None for `definitions` below output_uri."""
    batch: bool = False
    """Start the ready hand-offs of one rule with one StartRunBatch."""
    start_runs_per_second: float = Field(1.0, gt=0, le=100)
    """The account's quota of StartRun in this region: 0.1 to 1 where AWS has not raised it."""
    registration_timeout_seconds: float = Field(600, gt=0)
    """How long a workflow version may take to become ACTIVE."""
    registration_poll_seconds: float = Field(1, gt=0)

    @model_validator(mode="after")
    def _fits_together(self) -> HealthOmicsOptions:
        if self.storage_capacity_gib is not None and self.storage_type != "STATIC":
            raise ValueError("storage_capacity_gib needs storage_type: STATIC")
        if self.cache_behavior is not None and self.cache_id is None:
            raise ValueError("cache_behavior needs cache_id, the run cache that it is about")
        return self
