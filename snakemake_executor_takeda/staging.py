"""Files to S3: many at once, in parts, checked, and gone on with where an earlier try was ended.

What of a large file is in S3 already is known by S3 itself: the parts of its unfinished upload, each with a
checksum, are compared with the file. No record is kept here that could be wrong.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PART_BYTES = 16 * 2**20
MOST_PARTS = 10_000
"""Of one object; https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html."""
SCHEME = "s3://"


@dataclass(frozen=True)
class Upload:
    """A file and where it goes."""

    path: Path
    bucket: str
    key: str
    size: int
    modified_ns: int
    replaces: bool
    """Whether an object that is there may be replaced."""

    @property
    def uri(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}"

    @property
    def part_bytes(self) -> int:
        """Whole MiB, so that no more than 10,000 parts are needed."""
        least = -(-self.size // MOST_PARTS)
        return max(PART_BYTES, -(-least // 2**20) * 2**20)

    def is_as_it_was(self) -> bool:
        facts = self.path.stat()
        return (facts.st_size, facts.st_mtime_ns) == (self.size, self.modified_ns)


@dataclass
class Progress:
    """What has come of the uploads; safe across threads."""

    moved: Callable[[int], None]
    """Called with the bytes of each part that is in S3."""
    sent_bytes: int = 0
    found_bytes: int = 0
    """Of parts that an earlier try had sent."""
    already_there: list[str] = field(default_factory=list)
    """Objects that somebody else has put there meanwhile."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, count: int, *, was_there: bool = False) -> None:
        with self._lock:
            if was_there:
                self.found_bytes += count
            else:
                self.sent_bytes += count
            self.moved(count)


def uploads_of(found: Mapping[str, Path], *, replaces: bool) -> Iterator[Upload]:
    """Of URIs and what is to be there: a directory's files go below its URI. Raises TakedaError."""
    for uri, path in sorted(found.items()):
        bucket, _, key = uri.removeprefix(SCHEME).partition("/")
        if not uri.startswith(SCHEME) or not bucket or not key:
            raise TakedaError(f"{path}: {uri} is no object in S3: only `s3://…` can be staged")
        files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
        for file in files:
            below = f"/{file.relative_to(path).as_posix()}" if path.is_dir() else ""
            facts = file.stat()
            name = f"{key.rstrip('/')}{below}"
            yield Upload(file, bucket, name, facts.st_size, facts.st_mtime_ns, replaces)


def changed_since(s3: S3Client, uploads: list[Upload], threads: int) -> list[Upload]:
    """Those whose object has another size, was written before the file was, or is not there."""

    def is_other(one: Upload) -> bool:
        from botocore.exceptions import ClientError

        from snakemake_executor_takeda.backends.aws import error_code

        try:
            found = s3.head_object(Bucket=one.bucket, Key=one.key)
        except ClientError as error:
            if error_code(error) in ("404", "NoSuchKey"):
                return True
            raise
        # S3's times are of whole seconds.
        written_s = int(found["LastModified"].timestamp())
        return found["ContentLength"] != one.size or one.modified_ns // 10**9 > written_s

    with ThreadPoolExecutor(threads) as pool:
        return [
            one for one, other in zip(uploads, pool.map(is_other, uploads), strict=True) if other
        ]


def upload_all(s3: S3Client, uploads: list[Upload], progress: Progress, threads: int) -> None:
    """All of them. What an exception or Ctrl-C leaves behind, the next call goes on with. Raises
    TakedaError, or what S3 answers."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="takeda-stage")
    try:
        small = [
            pool.submit(_whole, s3, one, progress) for one in uploads if one.size <= PART_BYTES
        ]
        # One after the other: after an end in the middle most files are whole.
        for one in uploads:
            if one.size > PART_BYTES:
                _in_parts(s3, one, progress, pool)
        _raise_first(small)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _raise_first(futures: list[Future[Any]]) -> None:
    done, _ = wait(futures, return_when=FIRST_EXCEPTION)
    for future in done:
        future.result()


def _whole(s3: S3Client, one: Upload, progress: Progress) -> None:
    body = one.path.read_bytes()
    _check_unchanged(one)
    with _unless_there(one, progress):
        s3.put_object(
            Bucket=one.bucket, Key=one.key, Body=body, ChecksumAlgorithm="SHA256", **_condition(one)
        )
        progress.add(len(body))


def _in_parts(s3: S3Client, one: Upload, progress: Progress, pool: ThreadPoolExecutor) -> None:
    upload_id, known = _unfinished(s3, one)
    if upload_id is None:
        upload_id = s3.create_multipart_upload(
            Bucket=one.bucket, Key=one.key, ChecksumAlgorithm="SHA256"
        )["UploadId"]
    count = -(-one.size // one.part_bytes)
    futures = [
        pool.submit(_part, s3, one, upload_id, number, known=known.get(number), progress=progress)
        for number in range(1, count + 1)
    ]
    try:
        _raise_first(futures)
    except BaseException:
        for future in futures:
            future.cancel()
        raise
    _check_unchanged(one)
    with _unless_there(one, progress):
        s3.complete_multipart_upload(
            Bucket=one.bucket,
            Key=one.key,
            UploadId=upload_id,
            MultipartUpload={"Parts": [future.result() for future in futures]},
            **_condition(one),
        )


def _part(
    s3: S3Client,
    one: Upload,
    upload_id: str,
    number: int,
    *,
    known: Mapping[str, Any] | None,
    progress: Progress,
) -> Any:
    with one.path.open("rb") as file:
        file.seek((number - 1) * one.part_bytes)
        body = file.read(one.part_bytes)
    sha256 = base64.b64encode(hashlib.sha256(body).digest()).decode()
    if known and known["Size"] == len(body) and _is_same(known, body, sha256):
        progress.add(len(body), was_there=True)
        etag = known["ETag"]
    else:
        answer = s3.upload_part(
            Bucket=one.bucket,
            Key=one.key,
            UploadId=upload_id,
            PartNumber=number,
            Body=body,
            ChecksumSHA256=sha256,
        )
        progress.add(len(body))
        etag = answer["ETag"]
    return {"PartNumber": number, "ETag": etag, "ChecksumSHA256": sha256}


def _is_same(known: Mapping[str, Any], body: bytes, sha256: str) -> bool:
    """By the checksum; an S3 that keeps none for parts has the MD5 as their ETag."""
    if "ChecksumSHA256" in known:
        return bool(known["ChecksumSHA256"] == sha256)
    md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
    return bool(known["ETag"].strip('"') == md5)


def _unfinished(s3: S3Client, one: Upload) -> tuple[str | None, dict[int, Mapping[str, Any]]]:
    """The newest upload of the object that was begun and not ended, with its parts."""
    pages = s3.get_paginator("list_multipart_uploads").paginate(Bucket=one.bucket, Prefix=one.key)
    begun = [
        (upload["Initiated"], upload["UploadId"])
        for page in pages
        for upload in page.get("Uploads", ())
        if upload["Key"] == one.key
    ]
    if not begun:
        return None, {}
    _, upload_id = max(begun)
    parts = s3.get_paginator("list_parts").paginate(
        Bucket=one.bucket, Key=one.key, UploadId=upload_id
    )
    known = {part["PartNumber"]: part for page in parts for part in page.get("Parts", ())}
    return upload_id, known  # type: ignore[return-value]


def _check_unchanged(one: Upload) -> None:
    if not one.is_as_it_was():
        raise TakedaError(
            f"{one.path} was changed while it was uploaded: say the same command again"
        )


def _condition(one: Upload) -> dict[str, Any]:
    return {} if one.replaces else {"IfNoneMatch": "*"}


@contextmanager
def _unless_there(one: Upload, progress: Progress) -> Iterator[None]:
    """Notes an object that somebody else has put there meanwhile, and goes on."""
    from botocore.exceptions import ClientError

    from snakemake_executor_takeda.backends.aws import error_code

    try:
        yield
    except ClientError as error:
        if error_code(error) != "PreconditionFailed":
            raise
        progress.already_there.append(one.uri)
