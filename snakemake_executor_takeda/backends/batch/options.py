"""The words a Batch target may say in the routing policy."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from importlib.metadata import version
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    field_validator,
    model_validator,
)

from snakemake_executor_takeda.backends.batch.grammar import (
    ContainerUser,
    Image,
    LogGroup,
    PlatformVersion,
    Region,
    Role,
    SecretPlace,
    Share,
    SqsQueue,
    TagKey,
    TagValue,
    Ulimit,
    UlimitName,
    Variable,
    one_a_line,
)
from snakemake_executor_takeda.backends.batch.mounts import (
    ContainerPath,
    Device,
    Mount,
    is_within,
)
from snakemake_executor_takeda.values import UNLIMITED, Limits

DEFAULT_LOG_GROUP = "/aws/batch/job"
DEFAULT_IMAGE = f"takeda-worker:{version('snakemake-executor-plugin-takeda')}"
"""A name without a registry: build it from `containers/`, push it, and name it in `image`."""

MAX_TAGS = 40
"""Batch takes 50 tags of job and job definition together; ours and later ones need room."""
MAX_CONSUMABLES = 5
"""Consumable resources that one job can need."""

SCHEDULING_PRIORITY = "batch_scheduling_priority"
SHARE_IDENTIFIER = "batch_share_identifier"
CONSUMABLE_RESOURCES = "batch_consumable_resources"
RESOURCES: frozenset[str] = frozenset({SCHEDULING_PRIORITY, SHARE_IDENTIFIER, CONSUMABLE_RESOURCES})
"""A rule's resources that hold for a whole submission: tasks that differ in one share no array."""

MAX_PRIORITY = 9999

_Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
IN_DEFINITION = frozenset(
    {
        *("image", "rule_image", "registry_credentials", "job_role_arn", "execution_role_arn"),
        *("secrets", "mounts", "tmpfs", "shared_memory_mib", "user", "read_only_root", "init"),
        *("ulimits", "devices", "privileged", "fargate"),
    }
)
"""Words that a job definition holds, which no submission can change."""
_EC2_ONLY = ("shared_memory_mib", "tmpfs", "ulimits", "devices", "privileged")


class FargateOptions(BaseModel):
    """What only a Fargate task has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    assign_public_ip: StrictBool = Field(
        default=False, description="A public address, for subnets without NAT or VPC endpoints."
    )
    platform_version: PlatformVersion = Field(
        default="LATEST", description="Platform version, such as 1.4.0."
    )


class BatchOptions(BaseModel):
    """One AWS Batch job queue and how jobs are started there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    queue: _Text = Field(description="Name or ARN of the job queue.")
    region: Region | None = Field(
        default=None, description="Region of the queue, where it is not AWS's own setting."
    )
    platform: Literal["EC2", "FARGATE"] = Field(
        default="EC2", description="What the queue's compute environments are made of."
    )
    architecture: Literal["x86_64", "arm64"] | None = Field(
        default=None, description="Processors that the image is for; Fargate takes x86_64 without."
    )
    fargate: FargateOptions | None = Field(
        default=None, description="What only a Fargate task has: address, platform version."
    )

    image: Image = Field(
        default=DEFAULT_IMAGE,
        description="Image of the container; it has Python and this package in it.",
    )
    rule_image: StrictBool = Field(
        default=False,
        description="A rule's own `container:` is its job's image; Python and this package are in it.",
    )
    registry_credentials: _Text | None = Field(
        default=None,
        description="Name or ARN of the Secrets Manager secret that opens a private registry.",
    )
    python: _Text = Field(
        default="python", description="Python of the container that has this package."
    )

    job_definition: _Text | None = Field(
        default=None,
        description="Name, name:revision or ARN of a job definition that is there already, used as it "
        "is: image, roles, mounts and the like are its own.",
    )
    job_role_arn: Role | None = Field(
        default=None, description="Role of the job itself: it reads and writes the run's S3 prefix."
    )
    execution_role_arn: Role | None = Field(
        default=None,
        description="Role that pulls the image, reads secrets and writes logs; FARGATE and `secrets` "
        "cannot do without.",
    )
    secrets: dict[Variable, SecretPlace] = Field(
        default_factory=dict,
        repr=False,  # what stands in a place's stead by mistake may be the secret itself
        description="Environment variable: ARN of a Secrets Manager secret, or name or ARN of an SSM "
        "parameter. Batch puts the value in; nobody else sees it.",
    )

    mounts: tuple[Mount, ...] = Field(
        default=(), description="Volumes of EFS, of S3 Files, or directories of the instance."
    )
    scratch: ContainerPath | None = Field(
        default=None,
        description="Directory in the container for task directories; by default its temp directory.",
    )
    tmpfs: dict[ContainerPath, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict,
        description="Directory in the container: MiB of the memory file system there. EC2 only.",
    )
    shared_memory_mib: int | None = Field(
        default=None, ge=1, description="MiB of /dev/shm; the engine gives 64. EC2 only."
    )

    user: ContainerUser | None = Field(
        default=None, description="User in the container: `1000`, `1000:1000` or a name it has."
    )
    read_only_root: StrictBool = Field(
        default=False, description="The image's files cannot be written; /tmp and mounts can."
    )
    init: StrictBool = Field(
        default=False,
        description="A small init process that passes on signals and reaps processes.",
    )
    ulimits: dict[UlimitName, Ulimit] = Field(
        default_factory=dict,
        description="Limits by name: `nofile: 65536`, or soft and hard, `nofile: '1024:65536'`; "
        "-1 is none. EC2 only.",
    )
    devices: tuple[Device, ...] = Field(
        default=(),
        description="Devices of the instance, such as /dev/fuse or /dev/fuse:/dev/fuse:rw. EC2 only.",
    )
    privileged: StrictBool = Field(
        default=False, description="Rights of root on the instance for the container. EC2 only."
    )

    share_identifier: Share | None = Field(
        default=None, description="Share of a queue with a fair-share policy; needed there."
    )
    scheduling_priority: int | None = Field(
        default=None,
        ge=0,
        le=MAX_PRIORITY,
        description="Priority within the share, the higher first.",
    )
    consumable_resources: dict[_Text, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict,
        description="Consumable resource, name or ARN: how much of it each job takes.",
    )
    tags: dict[TagKey, TagValue] = Field(
        default_factory=dict, description="Tags for jobs and their tasks, for instance for costs."
    )
    node_wait: int = Field(
        default=15,
        ge=1,
        description="Minutes that the nodes of a job of several wait for each other.",
    )
    efa_interfaces: int = Field(
        default=1, ge=1, le=64, description="EFA devices of each node, where the target has `efa`."
    )
    timeout: int | None = Field(
        default=None, ge=1, description="Minutes a task may run where its rule sets no `runtime`."
    )
    runnable_notice: float = Field(
        default=10.0,
        gt=0,
        description="Minutes that jobs wait RUNNABLE, nothing moving, before it is looked for why.",
    )
    runnable_limit: float | None = Field(
        default=None,
        gt=0,
        description="Minutes after which such jobs are given up: they go to the fallback, or fail. "
        "Without: 30 for a target with a fallback, else never.",
    )
    event_queue: SqsQueue | None = Field(
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
    log_group: LogGroup = Field(
        default=DEFAULT_LOG_GROUP, description="CloudWatch log group the jobs write to."
    )

    @field_validator("tags")
    @classmethod
    def _not_too_many_tags(cls, tags: dict[str, str]) -> dict[str, str]:
        if len(tags) > MAX_TAGS:
            raise ValueError(f"{len(tags)} tags are too many: at most {MAX_TAGS}")
        return tags

    @field_validator("consumable_resources")
    @classmethod
    def _not_too_many_consumables(cls, wanted: dict[str, int]) -> dict[str, int]:
        if len(wanted) > MAX_CONSUMABLES:
            raise ValueError(f"a job can need at most {MAX_CONSUMABLES}, not {len(wanted)}")
        return wanted

    @model_validator(mode="after")
    def _words_fit_each_other(self) -> Self:
        one_a_line(
            [
                *self._named_definition_alone(),
                *self._unfit_for_platform(),
                *self._lacking_roles(),
                *self._bad_places(),
            ]
        )
        return self

    def limits(self, capacity: str | None) -> Limits:
        """The largest job that Batch takes there; on EC2 the queue's instances say more."""
        from snakemake_executor_takeda.backends.batch.shapes import FARGATE_MAX_DISK_GIB
        from snakemake_executor_takeda.routing.instances_serverless import FARGATE_MEM_MIB

        if self.platform == "FARGATE":
            return Limits(
                threads=max(FARGATE_MEM_MIB),
                mem_mb=max(map(max, FARGATE_MEM_MIB.values())) * 2**20 // 10**6,
                disk_mb=FARGATE_MAX_DISK_GIB * 2**30 // 10**6,
                gpu=0,
                nodes=1,
            )
        return Limits(nodes=1) if capacity == "spot" else UNLIMITED

    def having(self, words: Mapping[str, Any]) -> Self:
        """The same options with these words. Raises pydantic's ValidationError."""
        own = {word: getattr(self, word) for word in self.model_fields_set}
        return type(self).model_validate({**own, **words})

    def without(self, words: Collection[str]) -> Self:
        """The same options as if these words were not said."""
        own = {word: getattr(self, word) for word in self.model_fields_set if word not in words}
        return type(self).model_validate(own)

    def _named_definition_alone(self) -> Iterator[str]:
        if self.job_definition is not None:
            for word in sorted(IN_DEFINITION & self.model_fields_set):
                yield f"`{word}` belongs to the job definition {self.job_definition!r}: leave one of them out"

    def _unfit_for_platform(self) -> Iterator[str]:
        if self.platform == "EC2":
            if self.fargate is not None:
                yield "`fargate` is for platform FARGATE: write `platform: FARGATE`, or leave it out"
            return
        for word in _EC2_ONLY:
            if getattr(self, word):
                yield f"Fargate has no `{word}`: leave it out, or use a queue of EC2 instances"
        if any(mount.host for mount in self.mounts):
            yield "Fargate has no instance whose directory could be a `host` mount: use efs or s3files"

    def _lacking_roles(self) -> Iterator[str]:
        if self.job_definition is not None:
            return
        if self.execution_role_arn is None:
            if self.platform == "FARGATE":
                yield "platform FARGATE needs `execution_role_arn`"
            for word in ("secrets", "registry_credentials"):
                if getattr(self, word):
                    yield f"`{word}` needs `execution_role_arn`, the role that reads them"
        if self.job_role_arn is None:
            if any(mount.iam for mount in self.mounts):
                yield "a mount with `iam` needs `job_role_arn`, the role it is mounted with"
            if any(mount.s3files for mount in self.mounts):
                yield "a mount of S3 Files needs `job_role_arn`, the role it is mounted with"

    def _bad_places(self) -> Iterator[str]:
        places = [*(mount.at for mount in self.mounts), *self.tmpfs]
        for place in dict.fromkeys(place for place in places if places.count(place) > 1):
            yield f"two things are mounted at {place}: leave one of them out"
        if self.scratch is None:
            return
        over = [mount for mount in self.mounts if is_within(self.scratch, mount.at)]
        if over and max(over, key=lambda mount: len(mount.at)).read_only:
            yield f"scratch {self.scratch} lies on a mount that is read_only"
        writable = [place for place in (*places, "/tmp") if is_within(self.scratch, place)]  # noqa: S108
        if self.read_only_root and not writable:
            yield (
                f"scratch {self.scratch} cannot be written with read_only_root: leave it out, name "
                "a directory in /tmp, or on one of the mounts or tmpfs"
            )
