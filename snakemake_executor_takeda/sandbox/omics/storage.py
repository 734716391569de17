"""The sandbox's own S3, seen from inside the daemon."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from snakemake_executor_takeda.sandbox.services import Context

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def sandbox_s3(context: Context) -> S3Client:
    """A client that never reaches beyond this sandbox, whatever the daemon's own environment says."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=context.moto_url,
        region_name=context.region,
        aws_access_key_id=context.environment.get("AWS_ACCESS_KEY_ID", "sandbox"),
        aws_secret_access_key=context.environment.get("AWS_SECRET_ACCESS_KEY", "sandbox"),
        config=Config(s3={"addressing_style": "path"}),
    )


def bucket_exists(context: Context, uri: str) -> bool:
    from botocore.exceptions import ClientError

    bucket = uri.removeprefix("s3://").partition("/")[0]
    try:
        sandbox_s3(context).head_bucket(Bucket=bucket)
    except ClientError:
        return False
    return True


def remove(context: Context, uris: Iterable[str]) -> None:
    """Delete objects; one that is not there is no error. Raises ClientError."""
    from snakemake_executor_takeda.backends.aws import split_s3_uri

    s3 = sandbox_s3(context)
    for uri in uris:
        bucket, key = split_s3_uri(uri)
        s3.delete_object(Bucket=bucket, Key=key)
