"""The words a Slurm target may say in the routing policy, and the resources of a rule that override them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from snakemake_executor_takeda.backends.slurm.extra import checked_extra
from snakemake_executor_takeda.backends.slurm.mpi import DEFAULT_LAUNCHER
from snakemake_executor_takeda.backends.slurm.names import NAMES, Like, checked_names, no_names
from snakemake_executor_takeda.commands.pyxis import mount_of
from snakemake_executor_takeda.values import TakedaError

DEFAULT_PARTITION = "default"
"""`partition: default`: whatever partition the cluster takes by itself."""

RESOURCES = frozenset(
    {
        "cluster",
        "clusters",
        "cpus_per_gpu",
        "cpus_per_task",
        "instance_type",
        "slurm_cluster",
        "tasks_per_gpu",
        "slurm_partition",
        "slurm_account",
        "slurm_extra",
        "qos",
        "constraint",
        "reservation",
        "gres",
        "mem_mb_per_cpu",
        "nodes",
    }
)
"""What a rule may set beside its shape. `nodes` is of the shape, but it also matters whether a rule
sets it at all: Slurm chooses the number of nodes where it does not. So it is with `cpus_per_task`,
which may be negative."""

_Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
_Word = Annotated[_Text, Like(r"^[^\x00-\x1f\x7f]+$", "must not have control characters")]
_Names = Annotated[_Text, Like(NAMES, no_names)]
_Name = Annotated[
    str,
    Like(r"^[^\x00-\x20\x7f,]+$", "names in a list have no spaces and no commas"),
]
_Module = Annotated[
    str,
    Like(
        r"^[A-Za-z0-9_][A-Za-z0-9_.+/@=-]*$",
        "a module is a name such as openmpi5 or openmpi/5.0.3",
    ),
]
_Variable = Annotated[
    str,
    Like(
        r"^[A-Za-z_][A-Za-z0-9_]*$",
        "a variable's name is letters, digits and _, and begins with no digit",
    ),
]
_SECRET = re.compile(
    r"SECRET|PASSWORD|PASSWD|TOKEN|ACCESS_KEY|PRIVATE_KEY|CREDENTIAL", re.IGNORECASE
)
_Url = Annotated[
    str,
    Like(
        r"^(https?://[^\s/@]+(/[^\s]*)?|unix:///[^\s]+)$",
        "write it as https://head-node:6820 or unix:///path/of/socket",
    ),
]
_Directory = Annotated[
    str, Like(r"^/[^\x00-\x1f\x7f]*$", "must be an absolute path, such as /fsx/folder")
]


class SlurmOptions(BaseModel):
    """One partition of a Slurm cluster, or a way of using it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    client: Literal["auto", "command-line", "rest", "pyslurm"] = Field(
        default="auto",
        description="How Slurm is spoken to: by its commands, slurmrestd or pyslurm. `auto`: slurmrestd "
        "where `rest_url` is named, else pyslurm where it fits the cluster, else the commands.",
    )
    rest_url: _Url | None = Field(
        default=None,
        description="Where slurmrestd answers: `https://head-node:6820`, or `unix:///path/of/socket`.",
    )
    jwt_file: _Directory | None = Field(
        default=None,
        description="File with a token for slurmrestd; by default the token is in SLURM_JWT.",
    )
    exchange: Literal["auto", "shared", "s3"] = Field(
        default="auto",
        description="How the run and its tasks hand over manifests, records and ends of logs: by the "
        "run's directory, which the nodes see, or by S3. `auto`: S3 through slurmrestd in a run with S3.",
    )
    workdir: _Directory | None = Field(
        default=None,
        description="Folder on the nodes for the logs of jobs when `exchange` is S3; /tmp by default.",
    )
    partition: _Names | tuple[_Name, ...] | None = Field(
        default=None,
        description="Partition, or several with commas: Slurm starts jobs where it can first. A list: "
        "the smallest of these that fits. `default`: the cluster's default. Without: the smallest "
        "partition of the cluster that fits.",
    )
    partition_file: _Word | None = Field(
        default=None,
        description="YAML file with a site's own limits of the partitions to choose from, as Snakemake's "
        "Slurm plugin has it; by default what SNAKEMAKE_SLURM_PARTITIONS names.",
    )
    account: _Names | None = Field(default=None, description="Account that pays for the jobs.")
    qos: _Names | None = Field(default=None, description="Quality of service.")
    constraint: _Word | None = Field(
        default=None, description="Node features, as `sbatch --constraint` takes them."
    )
    reservation: _Names | None = Field(default=None, description="Reservation to run in.")
    extra: tuple[str, ...] = Field(
        default=(), description="More options of sbatch, one a word, such as --exclusive."
    )
    array_limit: int | None = Field(
        default=None,
        ge=1,
        description="Most tasks of one array; by default, and never more than, as the cluster is "
        "configured, which slurmrestd does not tell: 1,000 there.",
    )
    array_throttle: int | None = Field(
        default=None, ge=1, description="Most tasks of one array that run at once."
    )
    pending_notice: float = Field(
        default=10.0,
        gt=0,
        description="Minutes that jobs wait in the queue, nothing moving, before it is said why.",
    )
    pending_limit: float | None = Field(
        default=None,
        gt=0,
        description="Minutes after which such jobs are given up: they go to the fallback, or fail. "
        "Without: 30 for a target with a fallback, else never.",
    )
    scratch: _Directory | None = Field(
        default=None,
        description="Directory on a shared file system for tasks' work directories, seen by all "
        "nodes; by default in the run's own directory.",
    )
    python: _Word = Field(
        default_factory=lambda: sys.executable,
        description="Python on the nodes that has this package; by default the controller's own path.",
    )

    mpi: _Word = Field(
        default=DEFAULT_LAUNCHER,
        description="Launcher of ranks for rules that say `mpi=True`, and PMI of `srun` where a rule "
        "names none.",
    )
    modules: tuple[_Module, ...] = Field(
        default=(), description="Environment modules that are loaded before each job."
    )
    environment: dict[_Variable, str] = Field(
        default_factory=dict,
        description="Variables for jobs, over those of the caller's environment. No secrets: Slurm "
        "shows a job's script. See Snakemake's `envvars:` for those.",
    )
    container_runtime: Literal["apptainer", "pyxis"] = Field(
        default="apptainer",
        description="What runs a rule's `container:`: Snakemake by Apptainer, where "
        "`--software-deployment-method apptainer` says so, or always Pyxis (`srun --container-image`).",
    )
    container_mounts: tuple[_Directory, ...] = Field(
        default=(),
        description="Folders that Pyxis mounts in containers, beside the job's own directory.",
    )

    @property
    def named_partition(self) -> str | None:
        """What sbatch is told as it is; None where there is a choice, or the cluster's default."""
        if isinstance(self.partition, str) and self.partition != DEFAULT_PARTITION:
            return self.partition
        return None

    @property
    def finds_instances(self) -> bool:
        """Whether it looks itself, by the nodes' features, for an instance type that nobody lists."""
        return self.partition is None or isinstance(self.partition, tuple)

    def wrong_here(self) -> Iterator[str]:
        """What a run on this machine would refuse of the files that are named."""
        if self.partition_file:
            from snakemake_executor_takeda.backends.slurm.partition_file import read_partition_file

            try:
                read_partition_file(Path(self.partition_file))
            except TakedaError as error:
                yield f"`partition_file: {self.partition_file}`: {error}"
        # Where scontrol is at hand, a run makes tokens itself.
        if self.jwt_file and not os.access(self.jwt_file, os.R_OK) and not shutil.which("scontrol"):
            yield (
                f"`jwt_file: {self.jwt_file}` can't be read: write a token into it (`scontrol token "
                "lifespan=86400` on a node of the cluster prints one), or remove the word and export "
                "SLURM_JWT"
            )

    @field_validator("account", "qos", "constraint", "reservation", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        """As in a rule's resources; a variable of the policy may be empty."""
        return None if value == "" else value

    @field_validator("partition", mode="before")
    @classmethod
    def _partition_is_names(cls, value: object) -> object:
        """One complaint, rather than one of a text and one of a list."""
        if value is None:
            return None
        names = list(value) if isinstance(value, list | tuple) else [value]
        texts = [name for name in names if isinstance(name, str)]
        if len(texts) < len(names):
            raise ValueError("must be one text, or a list of texts: [one, two]")
        if not all(map(str.strip, texts or [""])):
            raise ValueError("must not be empty")
        for text in texts:
            checked_names(text)
            if not isinstance(value, str) and re.search(r"[,\s]", text):
                raise ValueError("names in a list have no spaces and no commas")
        return value

    @model_validator(mode="after")
    def _client_is_of_one_mind(self) -> SlurmOptions:
        if self.client == "rest" and not self.rest_url:
            raise ValueError(
                "`client: rest` needs `rest_url`, such as https://head-node:6820 or "
                "unix:///run/slurmrestd.socket"
            )
        given = [f"`{word}`" for word in ("rest_url", "jwt_file") if getattr(self, word)]
        if given and self.client not in ("auto", "rest"):
            raise ValueError(
                f"`client: {self.client}` makes no use of {' and '.join(given)}: remove "
                "what is not meant"
            )
        if self.jwt_file and not self.rest_url:
            raise ValueError(
                "`jwt_file` is for slurmrestd, and no `rest_url` tells where that answers: add it, or "
                "remove `jwt_file`"
            )
        return self

    @field_validator("environment")
    @classmethod
    def _environment_is_harmless(cls, environment: dict[str, str]) -> dict[str, str]:
        for name, value in environment.items():
            if _SECRET.search(name) and not name.upper().endswith("_FILE"):
                if name.upper().startswith("AWS_"):
                    raise ValueError(
                        f"{name} is a secret, and Slurm shows a job's script: give the nodes an "
                        "instance profile, or keys in a file on them (~/.aws/credentials, or the path "
                        "AWS_SHARED_CREDENTIALS_FILE in `environment`)"
                    )
                raise ValueError(
                    f"{name} looks like a secret, and Slurm shows a job's script: name it in the "
                    "workflow's `envvars:` instead"
                )
            if "\0" in value:
                raise ValueError(f"the value of {name} holds a NUL")
        return environment

    @field_validator("container_mounts")
    @classmethod
    def _mounts_are_mountable(cls, folders: tuple[str, ...]) -> tuple[str, ...]:
        for folder in folders:
            mount_of(folder)
        return folders

    @field_validator("mpi")
    @classmethod
    def _launcher_is_words(cls, launcher: str) -> str:
        shlex.split(launcher)  # raises ValueError
        return launcher

    @field_validator("extra")
    @classmethod
    def _extra_is_harmless(cls, extra: tuple[str, ...]) -> tuple[str, ...]:
        return checked_extra(extra)
