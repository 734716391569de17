"""Target (and a rule's own image) → job definition. Pure.

What differs from job to job (CPUs, memory, command, time) is overridden at submission, so a run needs
one definition per kind of target. Its name holds a hash of its content: one lookup by name finds it,
and two controllers that register it at once make two equal revisions.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.batch.grammar import ulimit
from snakemake_executor_takeda.backends.batch.mounts import device
from snakemake_executor_takeda.backends.batch.multinode import is_multinode, node_content
from snakemake_executor_takeda.backends.batch.options import DEFAULT_LOG_GROUP
from snakemake_executor_takeda.backends.batch.rule_images import image_of
from snakemake_executor_takeda.backends.batch.shapes import fargate_disk_gib
from snakemake_executor_takeda.values import FailureKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from snakemake_executor_takeda.backends.batch.options import BatchOptions
    from snakemake_executor_takeda.values import Submission

MAX_BYTES = 24 * 1024
"""Of a job definition, a quota of Batch that cannot be raised."""

# Batch demands some at registration; every submission overrides them. A legal pair on Fargate.
_PLACEHOLDER_RESOURCES = [
    {"type": "VCPU", "value": "1"},
    {"type": "MEMORY", "value": "2048"},
]
_TEMPORARY = "/tmp"  # noqa: S108 - a path in the container
_ARCHITECTURES = {"x86_64": "X86_64", "arm64": "ARM64"}


def definition_of(submission: Submission) -> dict[str, Any]:
    """The job definition that these tasks need. Raises SubmissionError(configuration)."""
    options: BatchOptions = submission.target.options
    job = submission.tasks[0].job
    if is_multinode(submission):
        container = container_properties(options, image_of(job, options))
        return named(node_content(submission.target, container))
    disk_gib = fargate_disk_gib(job.shape.disk_mb) if options.platform == "FARGATE" else None
    return job_definition(options, image_of(job, options), disk_gib)


def job_definition(
    options: BatchOptions, image: str | None = None, disk_gib: int | None = None
) -> dict[str, Any]:
    """The arguments of RegisterJobDefinition for a job of one container.

    `image` stands in for the target's, `disk_gib` is a Fargate task's ephemeral storage where it needs
    more than the 20 GiB it has. Raises SubmissionError(configuration).
    """
    return named(
        {
            "type": "container",
            "platformCapabilities": [options.platform],
            "propagateTags": True,
            "containerProperties": container_properties(options, image, disk_gib),
        }
    )


def container_properties(
    options: BatchOptions, image: str | None = None, disk_gib: int | None = None
) -> dict[str, Any]:
    """One container of this target. No environment: what tasks need of it is in S3."""
    container: dict[str, Any] = {
        "image": image or options.image,
        "resourceRequirements": _PLACEHOLDER_RESOURCES,
        **_fargate(options, disk_gib),
        **_storage(options),
    }
    for member, value in (
        ("jobRoleArn", options.job_role_arn),
        ("executionRoleArn", options.execution_role_arn),
        ("user", options.user),
        ("readonlyRootFilesystem", options.read_only_root),
        ("privileged", options.privileged),
        ("ulimits", [ulimit(name, given) for name, given in options.ulimits.items()]),
        ("linuxParameters", _linux_parameters(options)),
        ("secrets", [{"name": n, "valueFrom": place} for n, place in options.secrets.items()]),
    ):
        if value:
            container[member] = value
    if options.registry_credentials:
        container["repositoryCredentials"] = {"credentialsParameter": options.registry_credentials}
    if options.log_group != DEFAULT_LOG_GROUP:
        container["logConfiguration"] = {
            "logDriver": "awslogs",
            "options": {"awslogs-group": options.log_group},
        }
    return container


def named(content: dict[str, Any]) -> dict[str, Any]:
    """The content with its name, which follows from it. Raises SubmissionError where Batch would not
    take that much."""
    definition = {"jobDefinitionName": f"takeda-{content_hash(content)}", **content}
    size = len(json.dumps(definition).encode())
    if size > MAX_BYTES:
        raise SubmissionError(
            FailureKind.CONFIGURATION,
            f"the target's job definition has {size} bytes; Batch takes {MAX_BYTES}",
            "name fewer mounts, secrets and limits in the target",
        )
    return definition


def content_hash(content: dict[str, Any]) -> str:
    """20 hex digits of the SHA-256 of the content in canonical JSON."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:20]


def _fargate(options: BatchOptions, disk_gib: int | None) -> dict[str, Any]:
    """What EC2 must not have and Fargate may."""
    if options.platform != "FARGATE":
        return {}
    found: dict[str, Any] = {}
    if options.architecture:
        found["runtimePlatform"] = {
            "operatingSystemFamily": "LINUX",
            "cpuArchitecture": _ARCHITECTURES[options.architecture],
        }
    if options.fargate:
        address = "ENABLED" if options.fargate.assign_public_ip else "DISABLED"
        found["networkConfiguration"] = {"assignPublicIp": address}
        found["fargatePlatformConfiguration"] = {
            "platformVersion": options.fargate.platform_version
        }
    if disk_gib:
        found["ephemeralStorage"] = {"sizeInGiB": disk_gib}
    return found


def _storage(options: BatchOptions) -> dict[str, Any]:
    """volumes and mountPoints: the target's, and a /tmp where the image's own cannot be written."""
    volumes, points = [], []
    for number, mount in enumerate(options.mounts):
        name = f"mount-{number}"
        volumes.append(mount.volume(name))
        points.append(
            {"sourceVolume": name, "containerPath": mount.at, "readOnly": mount.read_only}
        )
    if options.read_only_root and _TEMPORARY not in _places(options):
        # the engine finds a place: on the instance's disk, on Fargate in the ephemeral storage
        volumes.append(
            {"name": "tmp"} if options.platform == "FARGATE" else {"name": "tmp", "host": {}}
        )
        points.append({"sourceVolume": "tmp", "containerPath": _TEMPORARY, "readOnly": False})
    return {"volumes": volumes, "mountPoints": points} if volumes else {}


def _places(options: BatchOptions) -> Iterator[str]:
    yield from (mount.at for mount in options.mounts)
    yield from options.tmpfs


def _linux_parameters(options: BatchOptions) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if options.devices:
        found["devices"] = [device(text) for text in options.devices]
    if options.init:
        found["initProcessEnabled"] = True
    if options.shared_memory_mib:
        found["sharedMemorySize"] = options.shared_memory_mib
    if options.tmpfs:
        found["tmpfs"] = [
            {"containerPath": place, "size": mib} for place, mib in options.tmpfs.items()
        ]
    return found
