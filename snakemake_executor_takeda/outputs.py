"""Are a finished job's outputs in S3? Snakemake ends the whole run where it trusts and finds none."""

from __future__ import annotations

import shutil
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from snakemake_executor_takeda.backends.aws import error_code, http_status, split_s3_uri
from snakemake_executor_takeda.values import File

PARALLEL_CALLS = 8
"""Less than the connections that a boto3 client keeps, 10."""
FEWEST_TO_LIST = 8
"""Up to here one HEAD each is cheaper than to read a listing."""
MOST_LISTED_PER_HIT = 25
"""So many entries of a listing cost about what one HEAD does (2 ms of CPU)."""
LISTING_PAGE = 1000
MISSING = "missing"


class S3Object(NamedTuple):
    """What a look tells of an object."""

    etag: str | None
    version: str | None
    """None where the bucket keeps no versions, and where a listing told, which names none."""
    bytes: int | None


class OutputCheck:
    """Listings show most outputs of an array, 1,000 a call. What they do not show is asked for: one HEAD
    per output, several at a time."""

    def __init__(self, s3: Any) -> None:
        self._s3 = s3
        self._found: dict[str, S3Object] = {}
        self._pool = ThreadPoolExecutor(PARALLEL_CALLS, thread_name_prefix="takeda-outputs")

    def problems(self, outputs: Iterable[File]) -> dict[File, str]:
        """Those that are not there, and those that S3 did not tell about, with a word of why.

        Files outside S3 count as there: Snakemake looks for them.
        """
        files = {file for file in outputs if file.uri and file.uri.startswith("s3://")}
        left = files - self._shown(files)
        found = zip(left, self._pool.map(self._problem, left), strict=True)
        return {file: problem for file, problem in found if problem}

    def found(self, uri: str) -> S3Object | None:
        """What the looks so far told of an object; asks for nothing."""
        return self._found.get(uri)

    def fetch_directory(self, directory: File) -> None:
        """Copy a directory from S3 to the path at which Snakemake on this machine expects it. All of it
        is there, or nothing, whenever this process is killed."""
        bucket, key = split_s3_uri(str(directory.uri))
        prefix = f"{key.rstrip('/')}/"
        place = Path(directory.path)
        root = place.with_name(f".{place.name}.takeda")
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for item in (item for page in pages for item in page.get("Contents", ())):
            relative = PurePosixPath(item["Key"].removeprefix(prefix))
            if item["Key"].endswith("/") or relative.is_absolute() or ".." in relative.parts:
                continue
            path = root / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            self._s3.download_file(bucket, item["Key"], str(path))
        if place.is_dir():
            shutil.rmtree(place)
        root.replace(place)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _shown(self, files: Iterable[File]) -> set[File]:
        """Those that listings show. They are consistent: what they show is there."""
        by_bucket: defaultdict[str, dict[str, File]] = defaultdict(dict)
        for file in files:
            # A directory() has no key of its own.
            if not file.is_directory:
                bucket, key = split_s3_uri(str(file.uri))
                by_bucket[bucket][key] = file
        return {
            by_key[key]
            for bucket, by_key in by_bucket.items()
            for key in self._listed(bucket, sorted(by_key))
        }

    def _listed(self, bucket: str, keys: Sequence[str]) -> set[str]:
        """Those of these sorted keys that a listing shows which leaps from one to the next, as long as
        they lie close enough together. Whether it may be read at all is left to the HEADs to say."""
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        found: set[str] = set()
        start = 0
        while len(keys) - start >= FEWEST_TO_LIST:
            try:
                page = self._s3.list_objects_v2(
                    Bucket=bucket,
                    Prefix=_common_start(keys[start], keys[-1]),
                    StartAfter=_just_before(keys[start]),
                    MaxKeys=min(LISTING_PAGE, MOST_LISTED_PER_HIT * (len(keys) - start)),
                )
            except (BotoCoreError, ClientError, ResponseParserError):
                break
            items = {item["Key"]: item for item in page.get("Contents", ())}
            listed = list(items)
            hits = items.keys() & set(keys[start:])
            for key in hits:
                self._note(f"s3://{bucket}/{key}", items[key], items[key].get("Size"))
            found |= hits
            if not page.get("IsTruncated") or not listed:
                break
            if len(listed) > MOST_LISTED_PER_HIT * len(hits):
                break
            start = bisect_right(keys, listed[-1], lo=start)
        return found

    def _problem(self, file: File) -> str | None:
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        try:
            return None if self._exists(file) else MISSING
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            return str(error)

    def _exists(self, file: File) -> bool:
        from botocore.exceptions import ClientError

        bucket, key = split_s3_uri(str(file.uri))
        try:
            told = self._s3.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if http_status(error) != 404 and error_code(error) not in ("404", "NoSuchKey"):
                raise
        else:
            self._note(str(file.uri), told, told.get("ContentLength"))
            return True
        # A directory() exists in S3 where any key lies below it.
        listing = self._s3.list_objects_v2(Bucket=bucket, Prefix=f"{key.rstrip('/')}/", MaxKeys=1)
        return bool(listing.get("KeyCount"))

    def _note(self, uri: str, told: Mapping[str, Any], size: int | None) -> None:
        etag = str(told.get("ETag", "")).strip('"') or None
        version = told.get("VersionId")
        self._found[uri] = S3Object(etag, None if version == "null" else version, size)


def _common_start(one: str, other: str) -> str:
    length = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    return one[:length]


def _just_before(key: str) -> str:
    """A text that S3's order, by code points, has just before the key. No character that a request could
    not hold is made up."""
    last = key[-1:]
    return f"{key[:-1]}{chr(ord(last) - 1)}~" if "!" < last <= "~" else key[:-1]
