"""What RegisterJobDefinition refuses of a container beyond its size: storage, limits, secrets, platform.

botocore's model has types and required members only; these rules are those of the API's reference.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from snakemake_executor_takeda.sandbox.batch import limits
from snakemake_executor_takeda.sandbox.batch.paging import client_error

_IMAGE = re.compile(r"[A-Za-z0-9_:./#@-]{1,255}")
_ONLY_FARGATE = (
    *("networkConfiguration", "fargatePlatformConfiguration", "ephemeralStorage"),
    "runtimePlatform",
)
_NOT_LINUX_ON_FARGATE = ("devices", "sharedMemorySize", "tmpfs", "maxSwap", "swappiness")


def check_rest(properties: Mapping[str, Any], platforms: Sequence[str]) -> None:
    """Raises ServiceError for the first thing that Batch would not take."""
    for problem in _problems(properties, "FARGATE" in platforms):
        raise client_error(problem)


def _problems(properties: Mapping[str, Any], is_fargate: bool) -> Iterator[str]:
    if not _IMAGE.fullmatch(properties["image"]):
        yield f"containerProperties.image {properties['image']!r} is no name of an image"
    yield from _fargate(properties) if is_fargate else _ec2(properties)
    yield from _volumes(properties)
    yield from _secrets(properties)
    yield from _limits(properties)


def _fargate(properties: Mapping[str, Any]) -> Iterator[str]:
    if not properties.get("executionRoleArn"):
        yield "a Fargate job definition needs executionRoleArn"
    if properties.get("privileged"):
        yield "a Fargate container cannot be privileged"
    if properties.get("ulimits"):
        yield "a Fargate container cannot have ulimits"
    linux = properties.get("linuxParameters", {})
    for word in _NOT_LINUX_ON_FARGATE:
        if linux.get(word):
            yield f"a Fargate container cannot have linuxParameters.{word}"
    if any(volume.get("host", {}).get("sourcePath") for volume in properties.get("volumes", [])):
        yield "a Fargate job cannot have volumes with host.sourcePath"
    size = properties.get("ephemeralStorage", {}).get("sizeInGiB")
    if size is not None and size not in limits.EPHEMERAL_GIB:
        yield f"ephemeralStorage.sizeInGiB must be between 21 and 200, not {size}"
    processor = properties.get("runtimePlatform", {}).get("cpuArchitecture", "X86_64")
    if processor not in ("X86_64", "ARM64"):
        yield f"runtimePlatform.cpuArchitecture must be X86_64 or ARM64, not {processor}"


def _ec2(properties: Mapping[str, Any]) -> Iterator[str]:
    for word in _ONLY_FARGATE:
        if word in properties:
            yield f"{word} is for jobs on Fargate only"


def _volumes(properties: Mapping[str, Any]) -> Iterator[str]:
    volumes = properties.get("volumes", [])
    names = [volume.get("name", "") for volume in volumes]
    if len(set(names)) < len(names) or not all(names):
        yield "every volume needs a name of its own"
    for point in properties.get("mountPoints", []):
        if point.get("sourceVolume") not in names:
            yield f"the mount point {point.get('containerPath')!r} names no volume of the job"
        if not str(point.get("containerPath", "")).startswith("/"):
            yield f"containerPath {point.get('containerPath')!r} is no absolute path"
    for volume in volumes:
        kinds = {"host", "efsVolumeConfiguration", "s3filesVolumeConfiguration"} & set(volume)
        if len(kinds) > 1:
            yield f"volume {volume['name']} is of two kinds: {' and '.join(sorted(kinds))}"
        yield from _efs(volume.get("efsVolumeConfiguration", {}), properties)
        yield from _s3files(volume.get("s3filesVolumeConfiguration", {}), properties)


def _efs(efs: Mapping[str, Any], properties: Mapping[str, Any]) -> Iterator[str]:
    authorization = efs.get("authorizationConfig", {})
    point, iam = authorization.get("accessPointId"), authorization.get("iam") == "ENABLED"
    if (point or iam) and efs.get("transitEncryption") != "ENABLED":
        yield "EFS with an access point or IAM authorization needs transitEncryption ENABLED"
    if iam and not properties.get("jobRoleArn"):
        yield "EFS with IAM authorization needs jobRoleArn"
    if point and efs.get("rootDirectory", "/") != "/":
        yield "EFS with an access point takes no rootDirectory but /"


def _s3files(files: Mapping[str, Any], properties: Mapping[str, Any]) -> Iterator[str]:
    if not files:
        return
    if not properties.get("jobRoleArn"):
        yield "a volume of S3 Files needs jobRoleArn"
    if files.get("accessPointArn") and files.get("rootDirectory", "/") != "/":
        yield "S3 Files with an access point takes no rootDirectory but /"


def _secrets(properties: Mapping[str, Any]) -> Iterator[str]:
    secrets = properties.get("secrets", [])
    if (secrets or properties.get("repositoryCredentials")) and not properties.get(
        "executionRoleArn"
    ):
        yield "secrets and repositoryCredentials need executionRoleArn"
    plain = {variable.get("name") for variable in properties.get("environment", [])}
    for secret in secrets:
        if secret["name"].startswith(limits.RESERVED_ENVIRONMENT_PREFIX):
            yield f"a secret's name may not start with {limits.RESERVED_ENVIRONMENT_PREFIX}"
        if secret["name"] in plain:
            yield f"{secret['name']} is in environment and in secrets"


def _limits(properties: Mapping[str, Any]) -> Iterator[str]:
    for limit in properties.get("ulimits", []):
        if -1 < limit["hardLimit"] < limit["softLimit"]:
            yield f"ulimit {limit['name']}: softLimit is above hardLimit"
    linux = properties.get("linuxParameters", {})
    for tmpfs in linux.get("tmpfs", []):
        if tmpfs["size"] < 1:
            yield f"tmpfs {tmpfs['containerPath']}: size must be at least 1 MiB"
    if linux.get("sharedMemorySize", 1) < 1:
        yield "sharedMemorySize must be at least 1 MiB"
    if "swappiness" in linux and linux["swappiness"] not in range(101):
        yield "swappiness must be between 0 and 100"
