"""S3's content over an end and a start of the sandbox."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_takeda.sandbox import snapshot


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Any:
    import boto3
    from moto import mock_aws

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    # moto's times are naive: they must not shift with the machine's zone
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    with mock_aws():
        yield boto3.client("s3", region_name="us-east-1")
    monkeypatch.undo()
    time.tzset()


def test_objects_come_back_as_they_were(s3: Any, tmp_path: Path) -> None:
    from moto.s3.models import s3_backends

    s3.create_bucket(Bucket="here")
    s3.create_bucket(
        Bucket="there", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    s3.put_object(
        Bucket="here", Key="ä/b c?", Body=b"text", Metadata={"a": "1"}, ContentType="text/x"
    )
    s3.put_object(Bucket="there", Key="same", Body=b"text")
    upload = s3.create_multipart_upload(Bucket="there", Key="parts")["UploadId"]
    etags = [
        s3.upload_part(Bucket="there", Key="parts", UploadId=upload, PartNumber=number, Body=body)[
            "ETag"
        ]
        for number, body in ((1, b"x" * 5 * 2**20), (2, b"end"))
    ]
    s3.complete_multipart_upload(
        Bucket="there",
        Key="parts",
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": n, "ETag": e} for n, e in enumerate(etags, 1)]},
    )

    def look() -> dict[str, Any]:
        found = {}
        for bucket in ("here", "there"):
            for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]:
                answer = s3.get_object(Bucket=bucket, Key=entry["Key"])
                found[bucket, entry["Key"]] = (
                    answer["Body"].read(),
                    *(answer[name] for name in ("ETag", "LastModified", "ContentType", "Metadata")),
                )
        return found

    before = look()
    assert before["there", "parts"][1].endswith('-2"')
    snapshot.save(tmp_path)
    s3.put_object(Bucket="here", Key="later", Body=b"1")
    s3_backends["123456789012"]["aws"].reset()
    assert s3.list_buckets()["Buckets"] == []
    snapshot.restore(tmp_path)
    assert look() == before
    assert s3.get_bucket_location(Bucket="there")["LocationConstraint"] == "eu-central-1"


def test_contents_that_are_no_longer_needed_go(s3: Any, tmp_path: Path) -> None:
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="k", Body=b"one")
    snapshot.save(tmp_path)
    s3.put_object(Bucket="bucket", Key="k", Body=b"two")
    snapshot.save(tmp_path)
    assert [path.read_bytes() for path in (tmp_path / "objects").iterdir()] == [b"two"]


def test_no_snapshot_is_no_error(s3: Any, tmp_path: Path) -> None:
    snapshot.restore(tmp_path)
    assert s3.list_buckets()["Buckets"] == []
