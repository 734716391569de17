"""The sandbox is reached from this machine only, and only with its key."""

from __future__ import annotations

import http.client
import os
import stat
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from snakemake_executor_takeda.sandbox import control, record

LISTENS = "0A"
LOOPBACK = "0100007F"


def children(pid: int) -> list[int]:
    """The process, and all that it started."""
    found = [pid]
    for one in found:
        for path in Path(f"/proc/{one}/task").glob("*/children"):
            found += map(int, path.read_text().split())
    return found


def listening(pids: list[int]) -> dict[str, str]:
    """Addresses, as /proc/net has them, on which these processes listen, by socket."""
    links = [link for pid in pids for link in Path(f"/proc/{pid}/fd").iterdir()]
    own = {str(link.readlink()) for link in links if link.is_symlink()}
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENS and f"socket:[{fields[9]}]" in own:
                found[fields[9]] = fields[1].rpartition(":")[0]
    return found


@pytest.fixture(scope="module")
def found(sandbox_dir):
    return control.running(sandbox_dir)


@pytest.mark.sandbox
def test_every_socket_is_on_loopback(found):
    sockets = listening(children(found.pid))
    assert len(sockets) == 2, "Batch with HealthOmics, and moto"
    assert set(sockets.values()) == {LOOPBACK}


def test_a_socket_that_is_not_would_be_seen():
    import socket

    with socket.create_server(("", 0)):
        assert "00000000" in listening([os.getpid()]).values()


@pytest.mark.sandbox
def test_the_state_folder_is_its_owners(sandbox_dir):
    assert stat.S_IMODE(sandbox_dir.stat().st_mode) == 0o700
    for name in ("sandbox.json", "access-key.json"):
        assert stat.S_IMODE((sandbox_dir / name).stat().st_mode) == 0o600


def asked(port: int, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    words = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, f"/{record.BUCKET}/manifests/x", headers=words)
    answer = connection.getresponse()
    answer.read()
    return answer


def signed(key: str) -> str:
    return f"AWS4-HMAC-SHA256 Credential={key}/20260101/us-east-1/s3/aws4_request"


@pytest.mark.sandbox
@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE", "OPTIONS"])
def test_s3_asks_for_the_key(found, method):
    """Jobs run what lies in S3: whoever may write there may run programs."""
    for headers in (
        {},
        {"Authorization": signed("AKIAOTHER")},
        {"Authorization": signed(found.access_key), "Host": "evil.example"},
        {"Origin": "https://evil.example"},
    ):
        answer = asked(found.moto_port, method, **headers)
        assert answer.status == 403
        assert answer.getheader("Access-Control-Allow-Origin") is None


@pytest.mark.sandbox
def test_who_has_the_key_gets_in(found):
    answer = asked(found.moto_port, Authorization=signed(found.access_key))
    assert answer.status == 404


@pytest.mark.sandbox
def test_a_presigned_url_is_a_key(found, sandbox_env):
    s3 = boto3.client("s3", config=Config(s3={"addressing_style": "path"}))
    s3.put_object(Bucket=record.BUCKET, Key="doors/x", Body=b"hello")
    url = s3.generate_presigned_url("get_object", {"Bucket": record.BUCKET, "Key": "doors/x"})
    connection = http.client.HTTPConnection("127.0.0.1", found.moto_port, timeout=30)
    connection.request("GET", url.partition(str(found.moto_port))[2])
    assert connection.getresponse().read() == b"hello"


@pytest.mark.sandbox
@pytest.mark.parametrize(
    ("service", "call"),
    [("s3", "list_buckets"), ("sqs", "list_queues"), ("sts", "get_caller_identity")],
)
def test_clients_can_read_why_they_are_refused(sandbox_env, service, call):
    client = boto3.client(service, aws_access_key_id="AKIAOTHER", aws_secret_access_key="x")
    with pytest.raises(ClientError, match="takeda sandbox env") as refused:
        getattr(client, call)()
    assert refused.value.response["Error"]["Code"] == "UnrecognizedClientException"


@pytest.mark.sandbox
@pytest.mark.parametrize("length", ["-1", "x", "99999999999999"])
def test_a_length_that_is_none(found, length):
    connection = http.client.HTTPConnection("127.0.0.1", found.services_port, timeout=30)
    connection.putrequest("POST", "/v1/submitjob")
    connection.putheader("Content-Length", length)
    connection.endheaders()
    assert connection.getresponse().status == 413
