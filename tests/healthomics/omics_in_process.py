"""boto3's HealthOmics client, answered by the sandbox's emulator in the test's own process: no socket,
no engine."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from typing import Any

import boto3
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError

from snakemake_executor_takeda.sandbox.rest_json import Request, Response
from tests.sandbox.omics_client import Omics


class Wire:
    """What lies between clients and the emulator: counts calls, and can lose, refuse or repeat them."""

    def __init__(self, omics: Omics) -> None:
        self.omics = omics
        self.calls: Counter[str] = Counter()
        self.lose_answers_of: dict[str, int] = {}
        """By operation, how many of its next answers are lost after the call is done."""
        self.lose_calls_of: dict[str, int] = {}
        """The same of calls that are never heard."""
        self.refuse_calls_of: dict[str, int] = {}
        """The same of calls that are refused with HTTP 429."""
        self.before: Callable[[str], None] = lambda operation: None

    def client(self) -> Any:
        client = boto3.client(
            "omics",
            endpoint_url="http://omics.invalid",
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(inject_host_prefix=False, retries={"total_max_attempts": 1}),
        )
        client.meta.events.register("before-send.omics", self._send)
        return client

    def _send(self, request: AWSPreparedRequest, event_name: str, **_: Any) -> AWSResponse:
        operation = event_name.rsplit(".", 1)[1]
        self.calls[operation] += 1
        self.before(operation)
        if self._hit(self.lose_calls_of, operation):
            raise EndpointConnectionError(endpoint_url=str(request.url))
        if self._hit(self.refuse_calls_of, operation):
            headers = {"x-amzn-ErrorType": "ThrottlingException"}
            return AWSResponse(
                str(request.url), 429, headers, _Raw(b'{"message": "Rate exceeded"}')
            )
        path, _, query = str(request.url).removeprefix("http://omics.invalid").partition("?")
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else bytes(body)
        sent = Request(str(request.method), path, query, {}, body)
        answer: Response = self.omics._router.answer(sent)
        if self._hit(self.lose_answers_of, operation):
            raise EndpointConnectionError(endpoint_url=str(request.url))
        return AWSResponse(
            str(request.url), answer.status, dict(answer.headers), _Raw(answer.body or b"")
        )

    @staticmethod
    def _hit(counts: dict[str, int], operation: str) -> bool:
        counts[operation] = counts.get(operation, 0) - 1
        return counts[operation] >= 0


class Bucket:
    """S3 as a dict, for clients and emulator alike. As with a key of KMS, each write has another ETag."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, str]] = {}
        self.writes = 0
        self.refusal: tuple[str, int] | None = None

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, IfNoneMatch: str = "") -> None:
        if self.refusal:
            raise _error(*self.refusal)
        if IfNoneMatch and Key in self.objects:
            raise _error("PreconditionFailed", 412)
        self.writes += 1
        self.objects[Key] = (Body, f'"{self.writes}"')

    def head_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        if Key not in self.objects:
            raise _error("404", 404)
        return {"ETag": self.objects[Key][1]}

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        return {
            **self.head_object(Bucket=Bucket, Key=Key),
            "Body": io.BytesIO(self.objects[Key][0]),
        }


def _error(code: str, status: int) -> ClientError:
    answer: Any = {
        "Error": {"Code": code, "Message": f"{code}, says S3"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(answer, "PutObject")


class _Raw(io.BytesIO):
    """What botocore reads an answer from."""

    def stream(self, **_: Any) -> Any:
        yield self.read()
