"""Reads and writes objects, in a file or in S3, for the worker on the node."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.backends.aws import split_s3_uri
from snakemake_executor_takeda.full_disks import is_full
from snakemake_executor_takeda.worker import credentials

_METADATA = ("/latest/api/token", "/latest/meta-data/", "169.254.170.")
"""Where obstore asks for credentials when nothing else has any."""
_LONGEST_REASON = 300


class Unreachable(Exception):
    """Something that the run left for this node, or wants of it, is out of reach; one line on what and
    why."""

    def __init__(self, message: str, *, for_space: bool = False) -> None:
        """`for_space`: there is no room for it."""
        super().__init__(message)
        self.for_space = for_space


def read_range(location: str, start: int, end: int) -> bytes:
    """Bytes from `start` up to, not with, `end` of a path or `s3://` URI. Raises Unreachable."""
    with _readable("read", location):
        if location.startswith("s3://"):
            store, key = _open(location)
            return bytes(store.get_range(key, start=start, end=end))
        with Path(location).open("rb") as file:
            file.seek(start)
            return file.read(end - start)


def read(location: str) -> bytes:
    """The whole of a path or `s3://` URI. Raises Unreachable."""
    with _readable("read", location):
        return _read(location)


def read_if_there(location: str) -> bytes | None:
    """The whole of a path or `s3://` URI; None where there is none. Raises Unreachable."""
    with _readable("read", location):
        try:
            return _read(location)
        except FileNotFoundError:
            return None


def write(location: str, content: bytes) -> None:
    """Make or replace a path or `s3://` URI; whoever sees it sees all of it. Raises Unreachable."""
    with _readable("write", location):
        if location.startswith("s3://"):
            store, key = _open(location)
            store.put(key, content)
            return
        path = Path(location)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def _read(location: str) -> bytes:
    if location.startswith("s3://"):
        store, key = _open(location)
        return bytes(store.get(key).bytes())
    return Path(location).read_bytes()


def _open(uri: str) -> tuple[Any, str]:
    # obstore costs a tenth of boto3's start-up, and the worker starts once per task.
    from obstore.store import S3Store

    bucket, key = split_s3_uri(uri)
    environ = os.environ
    found = credentials.of_files() if credentials.may_be_in_files(environ) else None
    endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    if found:
        endpoint = endpoint or found.endpoint_url
    options: dict[str, Any] = {}
    if endpoint:
        options = {
            "endpoint": endpoint,
            "client_options": {"allow_http": endpoint.startswith("http://")},
        }
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    if found:
        region = region or found.region
    if region:
        options["region"] = region
    if found and found.provider:
        options["credential_provider"] = found.provider
    return S3Store(bucket, **options), key


@contextmanager
def _readable(verb: str, location: str) -> Iterator[None]:
    """Turn errors of storage and credentials, which obstore tells in dozens of lines, into one line."""
    try:
        yield
    except OSError as error:
        raise Unreachable(
            f"cannot {verb} {location}: {error.strerror or _first_line(error)}",
            for_space=is_full(error),
        ) from None
    except Exception as error:
        if not _is_of_storage(error):
            raise
        raise Unreachable(f"cannot {verb} {location}: {_reason(error)}") from None


def _is_of_storage(error: Exception) -> bool:
    # By name: what was never imported has not been thrown.
    modules = {"obstore.exceptions": "BaseError", "botocore.exceptions": "BotoCoreError"}
    return any(
        module in sys.modules and isinstance(error, getattr(sys.modules[module], name))
        for module, name in modules.items()
    )


def _reason(error: Exception) -> str:
    text = _first_line(error)
    if any(place in text for place in _METADATA):
        return "no AWS credentials on this node"
    return text


def _first_line(error: Exception) -> str:
    text = (str(error).strip() or repr(error)).splitlines()[0]
    return text.removeprefix("Generic S3 error: ")[:_LONGEST_REASON]
