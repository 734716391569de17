"""Brings what a run left in S3 to the rule's own outputs, without passing through this machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends.aws import (
    error_code,
    is_denied,
    join_s3_uri,
    split_s3_uri,
)
from snakemake_executor_takeda.backends.healthomics.definition import Delivery
from snakemake_executor_takeda.values import File, TakedaError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# The documentation names both.
_OUTPUT_LISTS = ("logs/outputs.json", "logs/output.json")
# One CopyObject takes up to 5 GiB and needs no parts to be put together again.
_MULTIPART_FROM_BYTES = 1 << 30
_PART_BYTES = 256 << 20
_MISSING = "missing"
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
        try:
            produced = json.loads(body)
        except ValueError as error:
            raise TakedaError(f"{name} below {run_output_uri} is no JSON: {error}") from error
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


def deliver(
    s3: S3Client, deliveries: Sequence[Delivery], go_on: Callable[[], None] = lambda: None
) -> None:
    """Copy each within S3; a directory has nothing else then. Raises TakedaError for what the run named but
    did not leave. `go_on` is called again and again, from any thread, and ends it by what it raises."""
    directories: dict[str, set[str]] = {}
    for one in deliveries:
        if one.target.uri is None:
            raise TakedaError(f"output {one.target.path} has no place in S3")
        target = one.target.uri if one.member is None else join_s3_uri(one.target.uri, one.member)
        written = {target}
        go_on()
        if one.content is not None:
            bucket, key = split_s3_uri(target)
            s3.put_object(Bucket=bucket, Key=key, Body=one.content)
        elif one.is_directory:
            written = _copy_tree(s3, one.source, target, go_on)
        else:
            _copy(s3, one.source, target, go_on)
        if one.is_directory or one.member is not None:
            directories.setdefault(one.target.uri.rstrip("/") + "/", set()).update(written)
    sources = [one.source for one in deliveries]
    for directory, written in directories.items():
        # Were a run's own folder below it, nothing there could be told to be old.
        if not any(source.startswith(directory) for source in sources):
            _remove_others(s3, directory, written)


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


def _copy(s3: S3Client, source: str, target: str, go_on: Callable[[], None]) -> None:
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
            Callback=lambda _: go_on(),
            Config=TransferConfig(
                multipart_threshold=_MULTIPART_FROM_BYTES, multipart_chunksize=_PART_BYTES
            ),
        )
    except ClientError as error:
        if error_code(error) in ("404", "NoSuchKey"):
            raise TakedaError(f"the run lists {source}, but it is not there") from error
        raise


def _copy_tree(s3: S3Client, source: str, target: str, go_on: Callable[[], None]) -> set[str]:
    """→ the URIs of what was written."""
    bucket, prefix = split_s3_uri(source.rstrip("/") + "/")
    written = set()
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", []):
            go_on()
            copy = join_s3_uri(target, item["Key"][len(prefix) :])
            _copy(s3, f"s3://{bucket}/{item['Key']}", copy, go_on)
            written.add(copy)
    if not written:
        raise TakedaError(f"the run lists the directory {source}, but nothing is in it")
    return written


def _remove_others(s3: S3Client, directory: str, kept: Collection[str]) -> None:
    """What an earlier run left in a directory. Raises TakedaError where it stays."""
    bucket, prefix = split_s3_uri(directory)
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        old = [one["Key"] for one in page.get("Contents", [])]
        old = [key for key in old if f"s3://{bucket}/{key}" not in kept]
        if not old:
            continue
        reply = s3.delete_objects(
            Bucket=bucket, Delete={"Objects": [{"Key": key} for key in old], "Quiet": True}
        )
        for trouble in reply.get("Errors", []):
            raise TakedaError(
                f"what an earlier run left in {directory} cannot be removed: "
                f"{trouble.get('Key')}: {trouble.get('Code')}; allow s3:DeleteObject there"
            )


def input_tags(
    s3: S3Client, read: Collection[str], beside: Collection[str] = ()
) -> list[tuple[str, str]]:
    """URI and ETag of each object that may be asked for; a directory has one for all that lies in it.

    Of `read`, what the run is told to read, a directory's URI ends with `/`, and one that is missing is a
    TakedaError; of `beside` neither. Raises ClientError and botocore's connection errors where S3 does not
    say: without the tag it would be another request.
    """
    from concurrent.futures import ThreadPoolExecutor

    others = [uri for uri in dict.fromkeys(beside) if uri not in read and f"{uri}/" not in read]
    if not read and not others:
        return []
    with ThreadPoolExecutor(16, thread_name_prefix="takeda-etags") as pool:
        found = [
            *pool.map(lambda uri: (uri, _etag(s3, uri)), read),
            *pool.map(lambda uri: (uri, _tag_of_any(s3, uri)), others),
        ]
    return [(uri, tag) for uri, tag in found if tag]


def _etag(s3: S3Client, uri: str) -> str | None:
    tag = _tree_tag(s3, uri) if uri.endswith("/") else _object_tag(s3, uri)
    if tag == _MISSING:
        below = ": nothing lies below it" if uri.endswith("/") else ""
        raise TakedaError(f"input {uri} is not there{below}")
    return tag


def _tag_of_any(s3: S3Client, uri: str) -> str | None:
    """Of an object or a directory, whichever it is; None where it is neither."""
    tag = _object_tag(s3, uri)
    if tag == _MISSING:
        tag = _tree_tag(s3, uri.rstrip("/") + "/")
    return None if tag == _MISSING else tag


def _object_tag(s3: S3Client, uri: str) -> str | None:
    """None where we may not look: the run's role may read what we may not."""
    from botocore.exceptions import ClientError

    bucket, key = split_s3_uri(uri)
    try:
        reply: Mapping[str, Any] = s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error_code(error) in ("404", "NoSuchKey", "NoSuchBucket"):
            return _MISSING
        if is_denied(error):
            return None
        raise
    return str(reply["ETag"])


def _tree_tag(s3: S3Client, uri: str) -> str | None:
    """One tag over names and ETags of all that lies in a directory; None as above."""
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
        if is_denied(error):
            return None
        if error_code(error) != "NoSuchBucket":
            raise
    return _MISSING if empty else digest.hexdigest()


def write_log(s3: S3Client, log: File, workdir: Path, text: str) -> None:
    """Put a rule's log where Snakemake looks for it: in S3, or below the working directory."""
    body = text.encode(errors="replace")
    if log.uri is not None and log.uri.startswith("s3://"):
        bucket, key = split_s3_uri(log.uri)
        s3.put_object(Bucket=bucket, Key=key, Body=body)
        return
    path = workdir / log.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
