"""The words a Slurm target may say in the routing policy, and the resources of a rule that override them."""

from __future__ import annotations

import re
import shlex
import sys
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from snakemake_executor_takeda.backends.slurm.extra import checked_extra
from snakemake_executor_takeda.backends.slurm.mpi import DEFAULT_LAUNCHER
from snakemake_executor_takeda.commands.pyxis import mount_of

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

_Word = Annotated[
    str, StringConstraints(min_length=1, pattern=r"^[^\x00-\x1f\x7f]+$", strip_whitespace=True)
]
_Name = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x20\x7f,]+$")]
_Module = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+/@=-]*$")]
_Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
_SECRET = re.compile(
    r"SECRET|PASSWORD|PASSWD|TOKEN|ACCESS_KEY|PRIVATE_KEY|CREDENTIAL", re.IGNORECASE
)
_Url = Annotated[str, StringConstraints(pattern=r"^(https?://[^\s/@]+(/[^\s]*)?|unix:///[^\s]+)$")]
_Directory = Annotated[str, StringConstraints(pattern=r"^/[^\x00-\x1f\x7f]*$")]


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
    partition: _Word | tuple[_Name, ...] | None = Field(
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
    account: _Word | None = Field(default=None, description="Account that pays for the jobs.")
    qos: _Word | None = Field(default=None, description="Quality of service.")
    constraint: _Word | None = Field(
        default=None, description="Node features, as `sbatch --constraint` takes them."
    )
    reservation: _Word | None = Field(default=None, description="Reservation to run in.")
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

    @field_validator("environment")
    @classmethod
    def _environment_is_harmless(cls, environment: dict[str, str]) -> dict[str, str]:
        for name, value in environment.items():
            if _SECRET.search(name):
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
