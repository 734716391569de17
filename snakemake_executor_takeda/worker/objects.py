"""Reads and writes objects, in a file or in S3, for the worker on the node."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.backends.aws import split_s3_uri


def read_range(location: str, start: int, end: int) -> bytes:
    """Bytes from `start` up to, not with, `end` of a path or `s3://` URI."""
    if location.startswith("s3://"):
        store, key = _open(location)
        return bytes(store.get_range(key, start=start, end=end))
    with Path(location).open("rb") as file:
        file.seek(start)
        return file.read(end - start)


def read(location: str) -> bytes:
    """The whole of a path or `s3://` URI."""
    if location.startswith("s3://"):
        store, key = _open(location)
        return bytes(store.get(key).bytes())
    return Path(location).read_bytes()


def read_if_there(location: str) -> bytes | None:
    """The whole of a path or `s3://` URI; None where there is none."""
    if not location.startswith("s3://"):
        path = Path(location)
        return path.read_bytes() if path.exists() else None
    from obstore.exceptions import NotFoundError

    try:
        return read(location)
    except (FileNotFoundError, NotFoundError):
        return None


def write(location: str, content: bytes) -> None:
    """Make or replace a path or `s3://` URI; whoever sees it sees all of it."""
    if location.startswith("s3://"):
        store, key = _open(location)
        store.put(key, content)
        return
    path = Path(location)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)


def _open(uri: str) -> tuple[Any, str]:
    # obstore costs a tenth of boto3's start-up, and the worker starts once per task.
    from obstore.store import S3Store

    bucket, key = split_s3_uri(uri)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    options: dict[str, Any] = {}
    if endpoint:
        options = {
            "endpoint": endpoint,
            "client_options": {"allow_http": endpoint.startswith("http://")},
        }
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region:
        options["region"] = region
    return S3Store(bucket, **options), key
