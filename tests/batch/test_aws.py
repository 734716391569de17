"""Clients, URIs and errors that all AWS backends share."""

import subprocess
import sys

import pytest

from snakemake_executor_takeda.backends import aws
from snakemake_executor_takeda.values import TakedaError


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_OMICS", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


def prefixes_hosts(service):
    return aws.client(service).meta.config.inject_host_prefix


def test_a_real_endpoint_keeps_its_host_prefixes():
    assert prefixes_hosts("omics")


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_OMICS"])
def test_an_endpoint_from_the_environment_gets_no_host_prefix(monkeypatch, name):
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert not prefixes_hosts("omics")
    assert prefixes_hosts("batch") == (name != "AWS_ENDPOINT_URL")
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert prefixes_hosts("omics")


def test_an_endpoint_from_the_config_file_counts_for_its_service_only(tmp_path):
    (tmp_path / "config").write_text(
        "[default]\nservices = local\n[services local]\nomics =\n  endpoint_url = http://127.0.0.1:1\n"
    )
    assert not prefixes_hosts("omics")
    assert prefixes_hosts("batch")


def test_a_missing_region_or_profile_is_said(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(TakedaError, match="nobody"):
        aws.client("batch")
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(TakedaError, match="AWS_REGION"):
        aws.client("batch")


def test_a_dead_endpoint_is_said_at_once(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    client = aws.client("batch", max_attempts=1)
    with pytest.raises(TakedaError, match="does not answer"), aws.readable_errors("AWS Batch"):
        client.describe_job_queues()


def test_a_hasty_client_neither_repeats_nor_paces():
    config = aws.client("batch", hasty=True).meta.config
    assert config.retries["mode"] == "standard"
    assert config.retries["total_max_attempts"] == 1
    assert config.read_timeout == aws.HASTY_TIMEOUT_S


def test_s3_uris_are_taken_apart_and_put_together():
    assert aws.split_s3_uri("s3://b/a/c") == ("b", "a/c")
    assert aws.split_s3_uri("s3://b") == ("b", "")
    assert aws.join_s3_uri("s3://b/a/", "c", "d") == "s3://b/a/c/d"
    for wrong in ("b/a", "s3:///a", "gs://b/a"):
        with pytest.raises(TakedaError, match="no S3 URI"):
            aws.split_s3_uri(wrong)


def test_boto3_is_not_imported_before_it_is_needed():
    code = (
        "import sys, snakemake_executor_takeda.backends.batch as b;"
        "from snakemake_executor_takeda.backends.batch import backend;"
        "sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
