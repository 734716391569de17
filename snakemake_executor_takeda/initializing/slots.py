"""What a profile is made from: each value with its flag, its variable in the project's profiles, and what it may be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from snakemake_executor_takeda.values import TakedaError

_ROLE = (r"arn:aws[\w-]*:iam::\d{12}:role/[\w+=,.@/-]+", "arn:aws:iam::123456789012:role/NAME")
_NAME = (r"[^\x00-\x1f\x7f-\x9f]+", "a name on one line")


@dataclass(frozen=True)
class Slot:
    """A value, and how it is asked for."""

    name: str
    what: str
    variable: str | None = None
    """In `profiles/`."""
    pattern: str = _NAME[0]
    example: str = _NAME[1]

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    def checked(self, value: str) -> str:
        """The value, without blanks around it. Raises TakedaError."""
        value = value.strip()
        if value and (not value.isprintable() or not re.fullmatch(self.pattern, value)):
            raise TakedaError(f"{self.flag} {value!r}: {self.what} is written {self.example}")
        return value


SLOTS: Mapping[str, Slot] = {
    slot.name: slot
    for slot in (
        Slot("spot_queue", "Batch queue of Spot instances", "TAKEDA_SPOT_QUEUE"),
        Slot("queue", "Batch queue of On-Demand instances", "TAKEDA_QUEUE"),
        Slot("fargate_spot_queue", "Batch queue of Fargate Spot", "TAKEDA_FARGATE_SPOT_QUEUE"),
        Slot("fargate_queue", "Batch queue of Fargate", "TAKEDA_FARGATE_QUEUE"),
        Slot("spot_partition", "Slurm partition of Spot nodes", "TAKEDA_SPOT_PARTITION"),
        Slot("partition", "Slurm partition", "TAKEDA_PARTITION"),
        Slot("efa_partition", "Slurm partition of nodes with EFA", "TAKEDA_EFA_PARTITION"),
        Slot("scratch", "folder that all nodes of the cluster share", "TAKEDA_SCRATCH"),
        Slot("omics_role", "role that HealthOmics runs assume", None, *_ROLE),
        Slot(
            "bucket", "bucket of all files", "TAKEDA_BUCKET",
            r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "my-bucket: 3 to 63 small letters, digits and hyphens, without s3://",
        ),
        Slot(
            "project", "name of the project, the prefix of its files in the bucket", "TAKEDA_PROJECT",
            r"[A-Za-z0-9][A-Za-z0-9._/-]*", "my-project",
        ),
        Slot(
            "image", "image with Python, this package and the pipeline's tools", "TAKEDA_IMAGE",
            r"[\w][\w.:/@-]*", "123456789012.dkr.ecr.REGION.amazonaws.com/takeda-worker:0.1.0",
        ),
        Slot("job_role", "role of the jobs on Batch", None, *_ROLE),
        Slot("execution_role", "role that starts tasks on Fargate", None, *_ROLE),
        Slot("account", "AWS account of the roles", "TAKEDA_ACCOUNT", r"\d{12}", "as 12 digits"),
    )
}  # fmt: skip
QUEUES = ("spot_queue", "queue", "fargate_spot_queue", "fargate_queue")
PARTITIONS = ("spot_partition", "partition", "efa_partition")
