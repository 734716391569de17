"""The HTTP server in front of the emulated services: one port, 127.0.0.1 only, keep-alive."""

from __future__ import annotations

import fnmatch
import hmac
import json
import re
import socket
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from snakemake_executor_takeda.nearest import nearest
from snakemake_executor_takeda.sandbox import faults
from snakemake_executor_takeda.sandbox.faults import RULE_TAG, Fault, Target
from snakemake_executor_takeda.sandbox.injecting import Faults
from snakemake_executor_takeda.sandbox.rest_json import (
    Request,
    Response,
    Route,
    Router,
    error_response,
    internal_error,
    internal_error_code,
)
from snakemake_executor_takeda.sandbox.services import ServiceError
from snakemake_executor_takeda.values import TakedaError

STATUS_PATH = "/_takeda/status"
"""Answers facts about the sandbox to its owner (header `x-takeda-key`)."""
FAULTS_PATH = "/_takeda/faults"
"""Answers the faults that are set; a POST of `{"set": [fault, …]}` or `{"clear": [word, …]}` first
changes them."""

_LOOPBACK_HOST = re.compile(r"(127\.0\.0\.1|localhost|([\w-]+\.)+localhost)(:\d+)?")
MAX_BODY_BYTES = 256 * 2**20


class ApiCalls:
    """How often each operation of each service was called, since the state folder exists."""

    def __init__(self, counts: Mapping[str, Mapping[str, int]]) -> None:
        self._lock = threading.Lock()
        self._counts = {service: Counter(operations) for service, operations in counts.items()}

    def add(self, service: str, operation: str) -> None:
        with self._lock:
            self._counts.setdefault(service, Counter())[operation] += 1

    def counts(self) -> dict[str, dict[str, int]]:
        with self._lock:
            return {service: dict(sorted(found.items())) for service, found in self._counts.items()}


class Gate:
    """Who may call: only clients with this sandbox's access key.

    A request can start any program, at once or by what it puts where jobs read, so neither another user
    of the machine nor a web page in a browser may make one: the key is known only to the owner of the
    state folder.
    """

    def __init__(self, access_key: str) -> None:
        self._access_key = access_key

    def check(self, request: Request) -> None:
        """Raises ServiceError for anybody else."""
        if not _LOOPBACK_HOST.fullmatch(request.headers.get("host", "")):
            raise ServiceError(
                "AccessDeniedException",
                "the sandbox answers to 127.0.0.1 and localhost only",
                status=403,
            )
        key = _signer(request) or request.headers.get("x-takeda-key", "")
        if not hmac.compare_digest(key.encode(), self._access_key.encode()):
            raise ServiceError(
                "UnrecognizedClientException",
                "the access key is not this sandbox's: use the variables that `takeda sandbox env` prints",
                status=403,
            )


def _signer(request: Request) -> str:
    """The access key that a request is signed with, in its header or as a presigned URL."""
    found = re.search(r"Credential=([^/,\s]+)/", request.headers.get("authorization", ""))
    if found:
        return found.group(1)
    words = parse_qs(request.query)
    for name in ("X-Amz-Credential", "AWSAccessKeyId"):
        if name in words:
            return words[name][0].partition("/")[0]
    return ""


class Front:
    """Every request's way: may it, which operation, count, answer."""

    def __init__(
        self,
        router: Router,
        gate: Gate,
        calls: ApiCalls,
        status: Callable[[], Mapping[str, Any]],
        faults: Faults,
    ) -> None:
        self._router = router
        self._gate = gate
        self._calls = calls
        self._status = status
        self._faults = faults

    def answer(self, request: Request) -> Response | None:
        """None where the connection is to be closed without an answer."""
        try:
            self._gate.check(request)
            if request.path == STATUS_PATH:
                return _page(self._status())
            if request.path == FAULTS_PATH:
                return _page(self._change_faults(request))
        except ServiceError as error:
            return error_response(error)
        found = self._router.find(request)
        if found is None:
            return self._answer(request)
        return self._answer_or_fault(request, found[0])

    def _answer_or_fault(self, request: Request, route: Route) -> Response | None:
        operation = route.call.operation
        self._calls.add(route.call.service, operation)
        fault = self._faults.on_call(operation, lambda: _named(operation, request))
        if fault is None:
            return self._answer(request)
        time.sleep(fault.seconds)
        if fault.refused is not None:
            return _refusal(fault.refused, route)
        response = self._answer(request)
        if fault.lost is None:
            return response
        return None if fault.lost.variant == "closed" else _broken(route, 500)

    def _answer(self, request: Request) -> Response:
        try:
            return self._router.answer(request)
        except Exception as error:  # noqa: BLE001 - the caller gets it, as AWS would say it
            traceback.print_exc()
            text = f"the sandbox broke: {type(error).__name__}: {error}"
            return internal_error(request, self._router, text)

    def _change_faults(self, request: Request) -> Mapping[str, Any]:
        if request.method == "POST":
            try:
                wanted = json.loads(request.body)
                new = [faults.from_json(value) for value in wanted.get("set", [])]
                names = [faults.kind_of(name).name for name in wanted.get("clear", [])]
                for fault in new:
                    self._check_call(fault)
            except (TakedaError, ValueError) as error:
                raise ServiceError("BadFault", str(error)) from None
            if "clear" in wanted:
                self._faults.clear(names)
            if new:
                self._faults.set(new)
        return self._faults.facts()

    def _check_call(self, fault: Fault) -> None:
        known = self._router.operations()
        if fault.call is None or fnmatch.filter(known, fault.call):
            return
        near = nearest(fault.call, known)
        raise TakedaError(
            f"--call {fault.call}: the sandbox has no such operation"
            + (f". Did you mean {near}?" if near else "")
        )


def _page(facts: Mapping[str, Any]) -> Response:
    return Response(200, {"Content-Type": "application/json"}, json.dumps(facts).encode())


def _named(operation: str, request: Request) -> Target:
    """What a call names. Only SubmitJob and StartRun are about one job of a name."""
    if operation not in ("SubmitJob", "StartRun"):
        return Target(operation=operation)
    try:
        body = json.loads(request.body)
        if operation == "StartRun":
            tags = body.get("tags", {})
            return Target(name=body.get("name"), rule=tags.get(RULE_TAG), operation=operation)
        return Target(
            name=body.get("jobName"),
            rule=body.get("tags", {}).get(RULE_TAG),
            queue=body.get("jobQueue", "").rpartition("/")[2],
            operation=operation,
        )
    except (ValueError, AttributeError):  # the service says what is wrong with it
        return Target(operation=operation)


def _refusal(fault: Fault, route: Route) -> Response:
    """throttling or server-error, in the service's own words."""
    if fault.kind == "server-error":
        return _broken(route, int(fault.variant))
    # what Batch answers is not in its model; boto3 takes either word for throttling
    return error_response(ServiceError(fault.variant, "Too Many Requests", status=429))


def _broken(route: Route, status: int) -> Response:
    code = internal_error_code(route.model.service_model)
    return error_response(ServiceError(code, "the sandbox fails on purpose", status=status))


class HttpServer(ThreadingHTTPServer):
    """Serves a front on 127.0.0.1. Port 0 takes any free one; `server_port` tells which."""

    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = True

    def __init__(self, port: int) -> None:
        """Binds at once, so that an occupied port is known early. Raises OSError."""
        self.front: Front | None = None
        super().__init__(("127.0.0.1", port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer looks its own name up in the DNS here, which can take seconds
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: HttpServer

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are counted, not logged."""

    def _serve(self) -> None:
        path, _, query = self.path.partition("?")
        length = self.headers.get("Content-Length") or "0"
        size = int(length) if length.isdecimal() else MAX_BODY_BYTES + 1
        response: Response | None
        if size > MAX_BODY_BYTES:
            self.close_connection = True
            error = ServiceError(
                "RequestEntityTooLargeException", "the request is too large", status=413
            )
            response = error_response(error)
        else:
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, path, query, headers, self.rfile.read(size))
            assert self.server.front is not None
            response = self.server.front.answer(request)
        if response is None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._send(response)

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if response.status != 204:
            self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        self.wfile.write(response.body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve
