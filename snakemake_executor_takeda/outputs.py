"""Are a finished job's outputs in S3? Snakemake ends the whole run where it trusts and finds none."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from snakemake_executor_takeda.backends.aws import error_code, http_status, split_s3_uri
from snakemake_executor_takeda.values import File

PARALLEL_CALLS = 16
MISSING = "missing"


class OutputCheck:
    """One HEAD per output, several at a time."""

    def __init__(self, s3: Any) -> None:
        self._s3 = s3
        self._pool = ThreadPoolExecutor(PARALLEL_CALLS, thread_name_prefix="takeda-outputs")

    def problems(self, outputs: Iterable[File]) -> dict[File, str]:
        """Those that are not there, and those that S3 did not tell about, with a word of why.

        Files outside S3 count as there: Snakemake looks for them.
        """
        files = {file for file in outputs if file.uri and file.uri.startswith("s3://")}
        found = zip(files, self._pool.map(self._problem, files), strict=True)
        return {file: problem for file, problem in found if problem}

    def fetch_directory(self, directory: File) -> None:
        """Copy a directory from S3 to the path at which Snakemake on this machine expects it."""
        bucket, key = split_s3_uri(str(directory.uri))
        prefix = f"{key.rstrip('/')}/"
        root = Path(directory.path)
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for item in (item for page in pages for item in page.get("Contents", ())):
            relative = PurePosixPath(item["Key"].removeprefix(prefix))
            if item["Key"].endswith("/") or relative.is_absolute() or ".." in relative.parts:
                continue
            path = root / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            self._s3.download_file(bucket, item["Key"], str(path))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _problem(self, file: File) -> str | None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return None if self._exists(file) else MISSING
        except (BotoCoreError, ClientError) as error:
            return str(error)

    def _exists(self, file: File) -> bool:
        from botocore.exceptions import ClientError

        bucket, key = split_s3_uri(str(file.uri))
        try:
            self._s3.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if http_status(error) != 404 and error_code(error) not in ("404", "NoSuchKey"):
                raise
        else:
            return True
        # A directory() exists in S3 where any key lies below it.
        listing = self._s3.list_objects_v2(Bucket=bucket, Prefix=f"{key.rstrip('/')}/", MaxKeys=1)
        return bool(listing.get("KeyCount"))
