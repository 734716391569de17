"""What a Batch target's containers see beyond their image: volumes, memory file systems, devices. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    model_validator,
)

from snakemake_executor_takeda.backends.batch.grammar import (
    Directory,
    EfsId,
    S3FilesArn,
    one_a_line,
)


def _absolute(path: str) -> str:
    mistakes = []
    if not path.startswith("/") or not path.strip("/"):
        mistakes.append(f"{path!r} is no absolute path below /")
    if ".." in path.split("/") or any(letter in path for letter in "\0:,"):
        mistakes.append(f"{path!r}: a path here holds no `..`, colon or comma")
    one_a_line(mistakes)
    return path.rstrip("/")


ContainerPath = Annotated[str, AfterValidator(_absolute)]
"""An absolute path that is not `/` itself and does not lead upwards."""

_S3FILES_ACCESS_POINT = "/access-point/fsap-"
_KINDS = ("efs", "s3files", "host")
_RIGHTS = {"r": "READ", "w": "WRITE", "m": "MKNOD"}


class Mount(BaseModel):
    """One volume in a container: of EFS, of S3 Files, or a directory of the instance."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: ContainerPath = Field(description="Where it is seen in the container.")
    efs: EfsId | None = Field(default=None, description="Id of an EFS file system, `fs-…`.")
    s3files: S3FilesArn | None = Field(
        default=None, description="ARN of an S3 Files file system; `job_role_arn` is needed."
    )
    host: ContainerPath | None = Field(
        default=None,
        description="Directory of the EC2 instance, such as where its launch template mounts FSx.",
    )
    path: Directory | None = Field(
        default=None,
        description="Directory of the EFS or S3 Files file system; by default its root.",
    )
    access_point: str | None = Field(
        default=None, description="EFS: id, `fsap-…`; S3 Files: ARN. It sets the directory itself."
    )
    encrypted: StrictBool | None = Field(
        default=None, description="EFS: encryption on the way, unless this is false."
    )
    iam: StrictBool = Field(
        default=False, description="EFS: mount with the job's role, which may be asked for there."
    )
    read_only: StrictBool = Field(default=False, description="Whether jobs may only read it.")

    @model_validator(mode="after")
    def _words_fit_each_other(self) -> Self:
        one_a_line(list(self._mistakes()))
        return self

    def _mistakes(self) -> Iterator[str]:
        given = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            yield f"a mount has one of efs, s3files and host, not {_listed(given)}"
            return
        (kind,) = given
        unfit = [
            word
            for word, kinds in (
                ("path", ("efs", "s3files")),
                ("access_point", ("efs", "s3files")),
                ("encrypted", ("efs",)),
                ("iam", ("efs",)),
            )
            if getattr(self, word) not in (None, False) and kind not in kinds
        ]
        if unfit:
            means = "means" if len(unfit) == 1 else "mean"
            yield f"{_listed(unfit)} {means} nothing for a mount of kind {kind}: leave that out"
        if self.access_point and self.path not in (None, "/"):
            yield "an access point sets the directory itself: leave `path` out"
        if kind == "efs":
            yield from self._mistakes_of_efs()
        elif kind == "s3files":
            yield from self._mistakes_of_s3files()

    def _mistakes_of_efs(self) -> Iterator[str]:
        if self.encrypted is False and (self.iam or self.access_point):
            yield "EFS with `iam` or `access_point` has to be encrypted on the way: leave `encrypted` out"
        if self.access_point and not self.access_point.startswith("fsap-"):
            yield "`access_point` is an id of EFS: fsap-…"

    def _mistakes_of_s3files(self) -> Iterator[str]:
        if self.encrypted is False:
            yield "S3 Files is always encrypted on the way: leave `encrypted` out"
        points = f"{self.s3files}{_S3FILES_ACCESS_POINT}"
        if self.access_point and not self.access_point.startswith(points):
            yield f"`access_point` is an ARN: {points}…"

    def volume(self, name: str) -> dict[str, Any]:
        """A member of containerProperties.volumes."""
        if self.host:
            return {"name": name, "host": {"sourcePath": self.host}}
        directory: dict[str, Any] = (
            {"rootDirectory": self.path} if self.path not in (None, "/") else {}
        )
        if self.s3files:
            point = {"accessPointArn": self.access_point} if self.access_point else {}
            content = {"fileSystemArn": self.s3files, **directory, **point}
            return {"name": name, "s3filesVolumeConfiguration": content}
        authorization = {"accessPointId": self.access_point} if self.access_point else {}
        if self.iam:
            authorization["iam"] = "ENABLED"
        content = {
            "fileSystemId": self.efs,
            **directory,
            "transitEncryption": "DISABLED" if self.encrypted is False else "ENABLED",
            **({"authorizationConfig": authorization} if authorization else {}),
        }
        return {"name": name, "efsVolumeConfiguration": content}


def device(text: str) -> dict[str, Any]:
    """`/dev/fuse`, `/dev/fuse:/dev/fuse` or `/dev/fuse:/dev/fuse:rw`, as `docker run --device` has it.

    Raises ValueError for anything else.
    """
    outside, _, rest = text.partition(":")
    inside, _, rights = rest.partition(":")
    paths = [outside, *([inside] if inside else [])]
    if not all(path.startswith("/dev/") for path in paths) or set(rights) - set(_RIGHTS):
        raise ValueError(f"{text!r} is no device: write /dev/fuse or /dev/fuse:/dev/fuse:rwm")
    found: dict[str, Any] = {"hostPath": outside}
    if inside:
        found["containerPath"] = inside
    if rights:
        found["permissions"] = [_RIGHTS[letter] for letter in sorted(rights, key="rwm".index)]
    return found


def _device(text: str) -> str:
    device(text)
    return text


Device = Annotated[str, AfterValidator(_device)]


def is_within(path: str, directory: str) -> bool:
    """Whether a container's path is this directory or lies in it."""
    return PurePosixPath(path).is_relative_to(PurePosixPath(directory))


def _listed(words: list[str]) -> str:
    return " and ".join(f"`{word}`" for word in words) if words else "none"
