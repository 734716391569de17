"""The bucket of a run: is it there, in the right Region, and may it be written, read and cleaned?"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends import aws
from snakemake_executor_takeda.doctor.cloud import asking
from snakemake_executor_takeda.doctor.findings import Checkup, Finding, NotTold, Severity
from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

    from snakemake_executor_takeda.doctor.cloud import Cloud

BODY = b"takeda doctor was here\n"


@dataclass(frozen=True)
class Head:
    """What HeadBucket says."""

    status: int
    """200, 301, 403 or 404."""
    region: str | None


def checkups(
    cloud: Cloud,
    uri: str,
    said_in: str,
    after: tuple[Checkup, ...],
    *,
    writes: bool = True,
    strict: str = "",
) -> tuple[Checkup, ...]:
    """Of the place `uri`, which `said_in` names: that it is there, and may be used. Something is written
    only where the run itself `writes`. `strict` is a service that takes no bucket of another Region."""
    bucket, _ = aws.split_s3_uri(uri)
    look = partial(_look_at_bucket, cloud, bucket, said_in, strict)
    there = Checkup("bucket", bucket, look, after=after, vital=True)
    if not writes:
        return (there,)
    return there, Checkup("objects", bucket, partial(_write_and_read, cloud, uri), after=(there,))


def _look_at_bucket(cloud: Cloud, bucket: str, said_in: str, strict: str) -> Iterator[Finding]:
    return judged_bucket(_head(cloud, bucket), bucket, said_in, cloud.region, strict)


def _head(cloud: Cloud, bucket: str) -> Head:
    from botocore.exceptions import ClientError

    try:
        with aws.readable_errors("s3"):
            answer = cloud.client("s3").head_bucket(Bucket=bucket)
    except ClientError as error:
        status = aws.http_status(error)
        if status not in (301, 307, 400, 403, 404):
            raise NotTold(f"s3:HeadBucket: {aws.error_code(error)}", "run it again") from error
        return Head(status, _region_in(error.response))
    return Head(200, answer.get("BucketRegion") or _region_in(answer))


def _region_in(answer: Any) -> str | None:
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region: str | None = headers.get("x-amz-bucket-region")
    return region


def judged_bucket(
    head: Head, bucket: str, said_in: str, region: str, strict: str = ""
) -> Iterator[Finding]:
    """`region` is that of the targets; `strict` a service that takes no bucket of another one."""
    if head.status == 404:
        yield Finding(
            f"there is no bucket {bucket} ({said_in})",
            "the first file that is looked for or written stops the run",
            f"aws s3 mb s3://{bucket} --region {region}, or correct the name in {said_in}",
        )
    elif head.status in (400, 403):
        yield Finding(
            f"the bucket {bucket} may not be looked at ({said_in})",
            "what is missing looks forbidden, so that no run can tell which outputs are there",
            f"allow s3:ListBucket on arn:aws:s3:::{bucket}; is it a bucket of another account?",
        )
    elif head.region and head.region != region:
        yield Finding(
            f"the bucket {bucket} is in {head.region}, the targets are in {region} ({said_in})",
            f"{strict} takes no bucket of another Region"
            if strict
            else "every file crosses Regions: slower, and each GB is paid for",
            f"name a bucket in {region} in {said_in}: aws s3 mb s3://NAME --region {region}",
            Severity.FAULT if strict else Severity.WARNING,
        )


def _write_and_read(cloud: Cloud, uri: str) -> Iterator[Finding]:
    """Put a small object, read it, and delete it: what a run does with thousands."""
    bucket, prefix = aws.split_s3_uri(uri)
    key = f"{prefix.strip('/')}/doctor-{secrets.token_hex(6)}".lstrip("/")
    place = f"arn:aws:s3:::{bucket}/{key.rpartition('/')[0]}/*"
    s3 = cloud.client("s3")
    refused: list[str] = []
    is_there = _tried(
        refused, "s3:PutObject", lambda: s3.put_object(Bucket=bucket, Key=key, Body=BODY)
    )
    if is_there:
        _tried(refused, "s3:GetObject", lambda: s3.get_object(Bucket=bucket, Key=key))
        _tried(refused, "s3:DeleteObject", lambda: s3.delete_object(Bucket=bucket, Key=key))
    if refused:
        left = (
            f" The object s3://{bucket}/{key} is still there."
            if refused[-1].startswith("s3:D")
            else ""
        )
        actions = ", ".join(one.partition(" ")[0] for one in refused)
        yield Finding(
            f"s3://{bucket}/{prefix}: {'; '.join(refused)}.{left}",
            "a run stops when it brings its sources there, or leaves files behind",
            f"allow {actions} on {place} (with a KMS key of your own also kms:GenerateDataKey and "
            "kms:Decrypt): infrastructure/iam/policies.py controller",
        )


def _tried(refused: list[str], action: str, call: Any) -> bool:
    """Whether it was done; what S3 said otherwise goes to `refused`."""
    from botocore.exceptions import ClientError

    try:
        with asking("s3", action, needed=True):
            call()
    except TakedaError as error:
        cause = error.__cause__
        if not isinstance(cause, ClientError):
            raise
        refused.append(_told(action, cause))
        return False
    except ClientError as error:
        refused.append(_told(action, error))
        return False
    return True


def _told(action: str, error: ClientError) -> str:
    return f"{action} is refused ({aws.error_code(error)}: {aws.error_message(error)})"
