"""Brings what a run left in S3 to the rule's own outputs, without passing through this machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends.aws import error_code, join_s3_uri, split_s3_uri
from snakemake_executor_takeda.backends.healthomics.definition import Delivery
from snakemake_executor_takeda.values import File, TakedaError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# The documentation names both.
_OUTPUT_LISTS = ("logs/outputs.json", "logs/output.json")
# One CopyObject takes up to 5 GiB and needs no parts to be put together again.
_MULTIPART_FROM_BYTES = 1 << 30
_PART_BYTES = 256 << 20
_BENCHMARK_COLUMNS = [
    "s",
    "h:m:s",
    "max_rss",
    "max_vms",
    "max_uss",
    "max_pss",
    "io_in",
    "io_out",
    "mean_load",
    "cpu_time",
]


def read_outputs(s3: S3Client, run_output_uri: str) -> dict[str, Any]:
    """What the run produced, keyed `Workflow.output`. Raises TakedaError where no list is found."""
    from botocore.exceptions import ClientError

    for name in _OUTPUT_LISTS:
        bucket, key = split_s3_uri(join_s3_uri(run_output_uri, name))
        try:
            body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        except ClientError as error:
            if error_code(error) not in ("NoSuchKey", "404"):
                raise
            continue
        produced = json.loads(body)
        if isinstance(produced, dict):
            return produced
    raise TakedaError(f"the run left no {' or '.join(_OUTPUT_LISTS)} below {run_output_uri}")


def all_outputs(s3: S3Client, run_output_uri: str) -> dict[str, str]:
    """The URI of every object that the run left, by its path below the run's folder, logs apart."""
    bucket, prefix = split_s3_uri(run_output_uri.rstrip("/") + "/")
    return {
        name: f"s3://{bucket}/{item['Key']}"
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for item in page.get("Contents", [])
        if (name := item["Key"][len(prefix) :]) and not name.startswith("logs/")
    }


def deliver(s3: S3Client, deliveries: Sequence[Delivery]) -> None:
    """Copy each within S3. Raises TakedaError for what the run named but did not leave."""
    for one in deliveries:
        if one.target.uri is None:
            raise TakedaError(f"output {one.target.path} has no place in S3")
        target = one.target.uri if one.member is None else join_s3_uri(one.target.uri, one.member)
        if one.content is not None:
            bucket, key = split_s3_uri(target)
            s3.put_object(Bucket=bucket, Key=key, Body=one.content)
        elif one.is_directory:
            _copy_tree(s3, one.source, target)
        else:
            _copy(s3, one.source, target)


def deliver_benchmark(s3: S3Client, uri: str, seconds: float) -> None:
    """Write the table that Snakemake expects of `benchmark:`. A run's wall time is known; what its
    tasks used is not told per run."""
    clock = f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02d}:{int(seconds) % 60:02d}"
    unknown = ["NA"] * (len(_BENCHMARK_COLUMNS) - 2)
    rows = [_BENCHMARK_COLUMNS, [f"{seconds:.4f}", clock, *unknown]]
    bucket, key = split_s3_uri(uri)
    body = "".join("\t".join(row) + "\n" for row in rows)
    s3.put_object(Bucket=bucket, Key=key, Body=body.encode())


def exists(s3: S3Client, one: Delivery) -> bool:
    """Whether what a delivery would copy is there."""
    if one.content is not None:
        return True
    bucket, key = split_s3_uri(one.source)
    prefix = key.rstrip("/") + "/" if one.is_directory else key
    listing = s3.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
    found = [item["Key"] for item in listing.get("Contents", [])]
    return bool(found) and (one.is_directory or found == [key])


def _copy(s3: S3Client, source: str, target: str) -> None:
    """One call up to _MULTIPART_FROM_BYTES; above that UploadPartCopy, part by part, side by side."""
    from boto3.s3.transfer import TransferConfig
    from botocore.exceptions import ClientError

    from_bucket, from_key = split_s3_uri(source)
    to_bucket, to_key = split_s3_uri(target)
    try:
        s3.copy(
            {"Bucket": from_bucket, "Key": from_key},
            to_bucket,
            to_key,
            Config=TransferConfig(
                multipart_threshold=_MULTIPART_FROM_BYTES, multipart_chunksize=_PART_BYTES
            ),
        )
    except ClientError as error:
        if error_code(error) in ("404", "NoSuchKey"):
            raise TakedaError(f"the run lists {source}, but it is not there") from error
        raise


def _copy_tree(s3: S3Client, source: str, target: str) -> None:
    bucket, prefix = split_s3_uri(source.rstrip("/") + "/")
    empty = True
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", []):
            empty = False
            name = item["Key"][len(prefix) :]
            _copy(s3, f"s3://{bucket}/{item['Key']}", join_s3_uri(target, name))
    if empty:
        raise TakedaError(f"the run lists the directory {source}, but nothing is in it")


def input_tags(s3: S3Client, uris: Sequence[str]) -> list[tuple[str, str]]:
    """URI and ETag of each object that may be asked for. Raises TakedaError for one that is missing."""
    from concurrent.futures import ThreadPoolExecutor

    if not uris:
        return []
    with ThreadPoolExecutor(min(16, len(uris)), thread_name_prefix="takeda-etags") as pool:
        found = pool.map(lambda uri: _etag(s3, uri), uris)
        return [(uri, tag) for uri, tag in zip(uris, found, strict=True) if tag]


def _etag(s3: S3Client, uri: str) -> str | None:
    from botocore.exceptions import ClientError

    if uri.endswith("/"):
        return _tree_tag(s3, uri)
    bucket, key = split_s3_uri(uri)
    try:
        reply: Mapping[str, Any] = s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error_code(error) in ("404", "NoSuchKey", "NoSuchBucket"):
            raise TakedaError(f"input {uri} is not there") from error
        return None  # The run's role may read what we may not.
    return str(reply["ETag"])


def _tree_tag(s3: S3Client, uri: str) -> str | None:
    """One tag over names and ETags of all that lies in a directory."""
    from botocore.exceptions import ClientError

    bucket, prefix = split_s3_uri(uri)
    digest = hashlib.sha256()
    empty = True
    try:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", []):
                empty = False
                digest.update(f"{item['Key']}\0{item['ETag']}\0".encode())
    except ClientError as error:
        if error_code(error) != "NoSuchBucket":
            return None
    if empty:
        raise TakedaError(f"input {uri} is not there: nothing lies below it")
    return digest.hexdigest()


def write_log(s3: S3Client, log: File, workdir: Path, text: str) -> None:
    """Put a rule's log where Snakemake looks for it: in S3, or below the working directory."""
    if log.uri is not None and log.uri.startswith("s3://"):
        bucket, key = split_s3_uri(log.uri)
        s3.put_object(Bucket=bucket, Key=key, Body=text.encode())
        return
    path = workdir / log.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
