"""A proxy before the sandbox that writes down who calls what, and what IAM would ask for each call.

Who it is, is told by the access key: the controller, the jobs and HealthOmics' own engine get one each.
"""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote

from snakemake_executor_takeda.sandbox.rest_json import Request, Router
from snakemake_executor_takeda.sandbox.services import ACCOUNT_ID, REGION

_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/\d+/([\w-]+)/([\w-]+)/aws4_request")
_EMULATED = ("batch", "omics")


@dataclass(frozen=True)
class Call:
    role: str
    """The access key that signed it."""
    service: str
    operation: str
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    status: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    """What the path of a call to Batch or HealthOmics names."""


@dataclass(frozen=True)
class Need:
    """One permission that a call asks for."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)


def allowed(policy: Mapping[str, Any], need: Need) -> bool:
    """As IAM decides about one action on one resource. Knows the conditions that our policies have."""
    return any(
        any(fnmatchcase(need.action.lower(), one.lower()) for one in statement["Action"])
        and any(fnmatchcase(need.resource, one) for one in statement["Resource"])
        and all(
            kind == "StringEquals" and need.context.get(key) in _listed(wanted)
            for kind, pairs in statement.get("Condition", {}).items()
            for key, wanted in pairs.items()
        )
        for statement in policy["Statement"]
        if statement["Effect"] == "Allow"
    )


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


class Recorder(ThreadingHTTPServer):
    """Passes requests on to the sandbox. `calls` grows while it runs."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.calls: list[Call] = []
        self.real_key = ""
        self.ports = (0, 0)
        """Of the emulated services, and of moto."""
        self._router = Router([_Named(name) for name in _EMULATED])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def by(self, role: str) -> list[Call]:
        return [call for call in self.calls if call.role == role]

    def told(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Call:
        """Who asks for what. Raises ValueError for an unsigned request, or an unknown one."""
        found = _CREDENTIAL.search(headers.get("authorization", ""))
        if found is None:
            raise ValueError(f"nobody signed {method} {path}")
        role, _, service = found.groups()
        place, _, query = path.partition("?")
        labels: Mapping[str, str] = {}
        if service in _EMULATED:
            route = self._router.find(Request(method, place, query, headers, body))
            if route is None:
                raise ValueError(f"no operation: {method} {path}")
            operation = route[0].call.operation
            labels = {name: unquote(value) for name, value in route[1].items()}
        elif service == "s3":
            operation = s3_operation(method, place, query, headers)
        else:
            operation = headers["x-amz-target"].rpartition(".")[2]
        return Call(role, service, operation, method, place, query, headers, body, labels=labels)


class _Named:
    """Enough of a service for the router: its model's name."""

    def __init__(self, name: str) -> None:
        self.model_name = name
        self.handlers: Mapping[str, Any] = {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Recorder

    def setup(self) -> None:
        super().setup()
        self._upstream: dict[int, http.client.HTTPConnection] = {}

    def finish(self) -> None:
        super().finish()
        for connection in self._upstream.values():
            connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""

    def _serve(self) -> None:
        assert "Transfer-Encoding" not in self.headers, "chunked requests are not passed on"
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = self.server.told(self.command, self.path, headers, body)
        port = self.server.ports[0 if call.service in _EMULATED else 1]
        passed = {name: value for name, value in headers.items() if name != "expect"}
        passed["authorization"] = passed["authorization"].replace(
            f"Credential={call.role}/", f"Credential={self.server.real_key}/"
        )
        connection = self._upstream.setdefault(port, http.client.HTTPConnection("127.0.0.1", port))
        connection.request(self.command, self.path, body, passed)
        answer = connection.getresponse()
        content = answer.read()
        self.server.calls.append(Call(**{**vars(call), "status": answer.status}))
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        if answer.getheader("Content-Length") is None and answer.status not in (204, 304):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve


def s3_operation(method: str, path: str, query: str, headers: Mapping[str, str]) -> str:
    """The operation of a path-style request. Raises ValueError for one that is not known here."""
    words = parse_qs(query, keep_blank_values=True)
    bucket, _, key = path.lstrip("/").partition("/")
    of_key = {
        "GET": "GetObject",
        "HEAD": "HeadObject",
        "DELETE": "AbortMultipartUpload" if "uploadId" in words else "DeleteObject",
        "POST": "CreateMultipartUpload" if "uploads" in words else "CompleteMultipartUpload",
        "PUT": ("UploadPart" if "partNumber" in words else "PutObject")
        if "x-amz-copy-source" not in headers
        else ("UploadPartCopy" if "partNumber" in words else "CopyObject"),
    }
    of_bucket = {
        "GET": "ListObjectsV2" if "list-type" in words else "ListObjects",
        "HEAD": "HeadBucket",
        "PUT": "CreateBucket",
        "DELETE": "DeleteBucket",
        "POST": "DeleteObjects" if "delete" in words else "",
    }
    plain = {
        "list-type",
        "prefix",
        "delimiter",
        "marker",
        "max-keys",
        "encoding-type",
        "start-after",
    }
    plain |= {"continuation-token", "fetch-owner", "delete", "x-id"}
    if not key and set(words) - plain:
        raise ValueError(f"an unknown call of S3: {method} {path}?{query}")
    found = (of_key if key else of_bucket).get(method) if bucket else None
    if not found:
        raise ValueError(f"an unknown call of S3: {method} {path}?{query}")
    return found


_S3_ACTIONS = {
    "GetObject": "GetObject",
    "HeadObject": "GetObject",
    "DeleteObject": "DeleteObject",
    "AbortMultipartUpload": "AbortMultipartUpload",
    "CreateBucket": "CreateBucket",
    "DeleteBucket": "DeleteBucket",
    **dict.fromkeys(("HeadBucket", "ListObjects", "ListObjectsV2"), "ListBucket"),
    **dict.fromkeys(("PutObject", "CreateMultipartUpload", "UploadPart"), "PutObject"),
    **dict.fromkeys(("CompleteMultipartUpload", "CopyObject", "UploadPartCopy"), "PutObject"),
}
_BULK = {
    "TerminateJobs": "TerminateJob",
    "CancelJobs": "CancelJob",
    "DeleteMessageBatch": "DeleteMessage",
}
"""Calls without an action of their own."""
_OF_JOBS = frozenset({"TerminateJob", "TerminateJobs", "CancelJob", "CancelJobs"})
_ON_NOTHING = frozenset(
    {
        *("DescribeJobs", "DescribeJobQueues", "DescribeJobDefinitions", "ListJobs"),
        *("DescribeComputeEnvironments", "ListWorkflows", "ListRuns", "ListBatch"),
        "CreateWorkflow",
    }
)
"""Operations of Batch and HealthOmics whose action knows no resources."""


def needs(call: Call) -> Iterator[Need]:
    """The permissions that AWS asks for. Raises KeyError for an operation that is not known here."""
    if call.service == "s3":
        yield from _s3_needs(call)
        return
    body = json.loads(call.body) if call.body else {}
    action = f"{call.service}:{_BULK.get(call.operation, call.operation)}"
    where = f"arn:aws:{call.service}:{REGION}:{ACCOUNT_ID}"
    if call.service == "sqs":
        name = body.get("QueueName") or body["QueueUrl"].rpartition("/")[2]
        yield Need(action, f"{where}:{name}")
        return
    if call.service == "logs":
        group, stream = body["logGroupName"], body["logStreamName"]
        yield Need(action, f"{where}:log-group:{group}:log-stream:{stream}")
        return
    if call.operation in _ON_NOTHING:
        yield Need(action, "*")
    elif call.service == "batch":
        yield from (Need(action, resource) for resource in _batch_resources(call, body, where))
    else:
        yield from (Need(action, resource) for resource in _omics_resources(call, body, where))
    if body.get("tags") or body.get("defaultRunSetting", {}).get("tags"):
        yield Need(f"{call.service}:TagResource", f"{where}:{_made_by(call.operation)}/1")
    for role, service in _passed(call, body):
        yield Need("iam:PassRole", role, {"iam:PassedToService": service})


def _s3_needs(call: Call) -> Iterator[Need]:
    bucket, _, key = unquote(call.path).lstrip("/").partition("/")
    if call.operation == "DeleteObjects":
        for one in re.findall(r"<Key>(.*?)</Key>", call.body.decode()):
            yield Need("s3:DeleteObject", f"arn:aws:s3:::{bucket}/{one}")
        return
    place = f"{bucket}/{key}" if key else bucket
    yield Need(f"s3:{_S3_ACTIONS[call.operation]}", f"arn:aws:s3:::{place}")
    if call.operation in ("CopyObject", "UploadPartCopy"):
        source = unquote(call.headers["x-amz-copy-source"]).lstrip("/")
        yield Need("s3:GetObject", f"arn:aws:s3:::{source}")


def _batch_resources(call: Call, body: Mapping[str, Any], where: str) -> list[str]:
    if call.operation == "RegisterJobDefinition":
        return [f"{where}:job-definition/{body['jobDefinitionName']}"]
    if call.operation == "SubmitJob":
        definition = body["jobDefinition"]
        if not definition.startswith("arn:"):
            definition = f"{where}:job-definition/{definition}"
        return [_queue(body["jobQueue"], where), definition]
    if call.operation == "GetJobQueueSnapshot":
        return [_queue(body["jobQueue"], where)]
    if call.operation in _OF_JOBS:
        return [f"{where}:job/{one}" for one in body.get("jobs") or [body["jobId"]]]
    raise KeyError(call.operation)


def _queue(name: str, where: str) -> str:
    return name if name.startswith("arn:") else f"{where}:job-queue/{name}"


def _omics_resources(call: Call, body: Mapping[str, Any], where: str) -> list[str]:
    if call.operation in ("StartRun", "StartRunBatch"):
        setting = body.get("defaultRunSetting", body)
        account = "" if setting.get("workflowType") == "READY2RUN" else ACCOUNT_ID
        return [f"arn:aws:omics:{REGION}:{account}:workflow/{setting['workflowId']}"]
    kind = {
        "GetRun": "run",
        "CancelRun": "run",
        "ListRunTasks": "run",
        "GetRunTask": "run",
        "GetBatch": "runBatch",
        "ListRunsInBatch": "runBatch",
        "CancelRunBatch": "runBatch",
    }.get(call.operation)
    if kind is None and "Workflow" not in call.operation:
        raise KeyError(call.operation)
    name = next(iter(call.labels.values()), "1")
    return [f"{where}:{kind or 'workflow'}/{name}"]


def _made_by(operation: str) -> str:
    """The kind of resource that gets the tags of a call."""
    kinds = {"SubmitJob": "job", "StartRun": "run", "StartRunBatch": "runBatch"}
    return kinds.get(operation, "workflow")


def _passed(call: Call, body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Roles that a call hands on, and to whom."""
    if call.operation == "RegisterJobDefinition":
        container = body.get("containerProperties", {})
        for name in ("jobRoleArn", "executionRoleArn"):
            if name in container:
                yield container[name], "ecs-tasks.amazonaws.com"
    elif call.operation in ("StartRun", "StartRunBatch"):
        yield body.get("defaultRunSetting", body)["roleArn"], "omics.amazonaws.com"
