"""Answers in place of AWS what neither the sandbox nor moto can: simulated policies, quotas, a clock that is
wrong, a bucket that refuses, a registry of images. Everything is well until a test says otherwise."""

from __future__ import annotations

import json
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote

ACCOUNT = "123456789012"
_IAM = "https://iam.amazonaws.com/doc/2010-05-08/"
_STS = "https://sts.amazonaws.com/doc/2011-06-15/"


class StandIn(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reset()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def reset(self) -> None:
        self.arn = f"arn:aws:iam::{ACCOUNT}:user/ada"
        self.clock_ahead_s = 0.0
        """Of this server."""
        self.sts_refuses = ""
        """An error's code."""
        self.denied: set[tuple[str, str]] = set()
        """(end of a principal, action)"""
        self.trusted = ["ecs-tasks.amazonaws.com", "omics.amazonaws.com"]
        self.no_iam = False
        self.quotas: dict[str, float] = {}
        """By code; those that are not here are 10,000."""
        self.no_quotas = False
        self.s3_refuses: set[str] = set()
        """Methods."""
        self.objects: dict[str, bytes] = {}
        self.images: dict[str, int] = {}
        """Path of a manifest → status; 404 else."""
        self.needs_token = False
        """Of the registry."""
        self.seen: list[str] = []

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StandIn

    def log_message(self, *args: object) -> None:
        """Nothing is logged."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        if path.startswith("/v2/"):
            if self.server.needs_token and self.headers.get("Authorization") != "Bearer anybody":
                realm = f'Bearer realm="{self.server.url}/token",service="here"'
                return self._send(401, b"", challenge=realm)
            return self._send(self.server.images.get(path, 404), b"")
        if path == "/token":
            return self._send(200, b'{"token": "anybody"}', "application/json")
        if "GetServiceQuota" in self.headers.get("X-Amz-Target", ""):
            return self._quota(json.loads(body))
        if self.command == "POST" and path == "/":
            return self._query(parse_qs(body.decode()))
        return self._s3(path, body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

    def _query(self, words: dict[str, list[str]]) -> None:
        action = words["Action"][0]
        self.server.seen.append(action)
        if self.server.sts_refuses and action == "GetCallerIdentity":
            return self._send(403, _error(self.server.sts_refuses, "Signature expired"), "text/xml")
        if action == "GetCallerIdentity":
            text = f"<Arn>{self.server.arn}</Arn><UserId>A</UserId><Account>{ACCOUNT}</Account>"
            return self._xml(action, _STS, text)
        if self.server.no_iam:
            return self._send(
                403, _error("AccessDenied", "User is not authorized to perform this"), "text/xml"
            )
        if action == "GetRole":
            name = words["RoleName"][0]
            statement = {
                "Effect": "Allow",
                "Principal": {"Service": self.server.trusted},
                "Action": "sts:AssumeRole",
            }
            trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
            arn = f"arn:aws:iam::{ACCOUNT}:role/{name}"
            text = (
                f"<Role><Path>/</Path><RoleName>{name}</RoleName><RoleId>R</RoleId><Arn>{arn}</Arn>"
                "<CreateDate>2026-01-01T00:00:00Z</CreateDate>"
                f"<AssumeRolePolicyDocument>{quote(trust)}</AssumeRolePolicyDocument></Role>"
            )
            return self._xml(action, _IAM, text)
        return self._simulate(words)

    def _simulate(self, words: dict[str, list[str]]) -> None:
        def listed(name: str) -> list[str]:
            return [value[0] for key, value in words.items() if key.startswith(f"{name}.member.")]

        who = words["PolicySourceArn"][0].rpartition("/")[2]
        members = "".join(
            f"<member><EvalActionName>{action}</EvalActionName>"
            f"<EvalResourceName>{resource}</EvalResourceName><EvalDecision>"
            f"{'implicitDeny' if (who, action) in self.server.denied else 'allowed'}"
            "</EvalDecision></member>"
            for action in listed("ActionNames")
            for resource in listed("ResourceArns")
        )
        text = f"<IsTruncated>false</IsTruncated><EvaluationResults>{members}</EvaluationResults>"
        self._xml("SimulatePrincipalPolicy", _IAM, text)

    def _quota(self, asked: dict[str, str]) -> None:
        if self.server.no_quotas:
            said = {"__type": "AccessDeniedException", "Message": "not authorized"}
            return self._send(400, json.dumps(said).encode(), "application/x-amz-json-1.1")
        code = asked["QuotaCode"]
        said = {"Quota": {"QuotaCode": code, "Value": self.server.quotas.get(code, 10_000.0)}}
        return self._send(200, json.dumps(said).encode(), "application/x-amz-json-1.1")

    def _s3(self, path: str, body: bytes) -> None:
        self.server.seen.append(f"{self.command} {path}")
        if self.command in self.server.s3_refuses:
            return self._send(403, _error("AccessDenied", "Access Denied"), "application/xml")
        if self.command == "PUT":
            self.server.objects[path] = body
        if self.command == "DELETE":
            del self.server.objects[path]
            return self._send(204, b"")
        content = self.server.objects.get(path, b"") if self.command == "GET" else b""
        return self._send(200, content)

    def _xml(self, action: str, namespace: str, text: str) -> None:
        whole = f'<{action}Response xmlns="{namespace}"><{action}Result>{text}</{action}Result></{action}Response>'
        self._send(200, whole.encode(), "text/xml")

    def _send(
        self, status: int, body: bytes, kind: str = "application/octet-stream", challenge: str = ""
    ) -> None:
        self.send_response_only(status)
        self.send_header("Date", formatdate(time.time() + self.server.clock_ahead_s, usegmt=True))
        self.send_header("Content-Type", kind)
        if challenge:
            self.send_header("WWW-Authenticate", challenge)
        self.send_header("x-amz-bucket-region", "us-east-1")
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _error(code: str, message: str) -> bytes:
    text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return f"<ErrorResponse>{text}</ErrorResponse>".encode()
