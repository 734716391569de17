"""Of copies of a directory, one goes on with a run."""

from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from snakemake_executor_takeda.ledger import KnownRun
from snakemake_executor_takeda.owning import Ownership
from snakemake_executor_takeda.values import TakedaError

PREFIX = "s3://bucket/project/.takeda/run"
KNOWN = KnownRun(
    "run", "detached", "/original", "/original/state", PREFIX, "elsewhere", 1, None, 0.0, None
)


@pytest.fixture
def s3(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="bucket")
        yield client


def test_of_two_at_the_same_moment_one_goes_on(s3):
    one, other = Ownership(s3, PREFIX), Ownership(s3, PREFIX)
    one.check(KNOWN, Path("/a"))
    other.check(KNOWN, Path("/b"))
    one.take(Path("/a"))
    with pytest.raises(TakedaError, match=r"/a on .* goes on with this run at the same moment"):
        other.take(Path("/b"))


def test_a_directory_goes_on_again_and_again(s3):
    for _ in range(3):
        one = Ownership(s3, PREFIX)
        one.check(KNOWN, Path("/a"))
        one.take(Path("/a"))
    with pytest.raises(TakedaError, match="was gone on with in /a"):
        Ownership(s3, PREFIX).check(KNOWN, Path("/b"))
