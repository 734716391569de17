"""The sandbox's moto server (S3, SQS, EventBridge, CloudWatch Logs, IAM, …), a process of its own.

Its standard input carries orders from the daemon, one JSON object a line; when it ends, however the
daemon ended, the objects in S3 are saved and this process ends too.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import queue
import signal
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from snakemake_executor_takeda.sandbox import moto_sqs
from snakemake_executor_takeda.sandbox.moto_process import KEY_VARIABLE
from snakemake_executor_takeda.sandbox.rest_json import Request
from snakemake_executor_takeda.sandbox.server import Gate
from snakemake_executor_takeda.sandbox.services import ACCOUNT_ID, REGION, ServiceError
from snakemake_executor_takeda.sandbox.snapshot import restore, save

MAX_LOG_LINES = 50_000
"""Lines of one job's log that go to CloudWatch Logs; they are kept in memory there."""
MAX_EVENT_CHARS = 60_000
"""Well below the 256 KiB that CloudWatch Logs takes for an event, whatever the encoding."""


_SAYING = threading.Lock()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="the listening socket")
    parser.add_argument("--snapshot", type=Path, required=True, help="folder that S3 is saved in")
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

    server = _make_server(args.fd)
    moto_sqs.mend()
    restore(args.snapshot)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    events: queue.SimpleQueue[list[dict[str, Any]]] = queue.SimpleQueue()
    threading.Thread(target=_deliver, args=(events,), daemon=True).start()
    _say({"ready": True})
    for line in sys.stdin:
        order = json.loads(line)
        if "events" in order:
            events.put(order["events"])
            continue
        try:
            put_log(order["group"], order["stream"], Path(order["path"]))
        finally:
            _say({"done": order["id"]})
    server.shutdown()
    save(args.snapshot)
    return 0


def put_log(group: str, stream: str, path: Path) -> None:
    """Bring a text file to CloudWatch Logs: a line an event, all at the time of the file's end."""
    from moto.logs.models import logs_backends

    backend = logs_backends[ACCOUNT_ID][REGION]
    if group not in backend.groups:
        backend.create_log_group(group, {})
    backend.ensure_log_stream(group, stream)
    now = int(time.time() * 1000)
    events: list[dict[str, Any]] = []
    left_out = 0
    if path.exists():
        with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
            for line in lines:
                if len(events) < MAX_LOG_LINES:
                    # CloudWatch Logs refuses empty messages
                    text = line.rstrip("\n").rpartition("\r")[2] or " "
                    events.append({"timestamp": now, "message": text[:MAX_EVENT_CHARS]})
                else:
                    left_out += 1
    if left_out:
        events.append({"timestamp": now, "message": f"({left_out} more lines in {path})"})
    if events:
        backend.groups[group].put_log_events(stream, events)


def put_event(event: dict[str, Any]) -> None:
    """Bring one event to the targets of the default bus's rules. (PutEvents refuses `aws.` sources.)

    What a rule's target cannot take is said on standard error, and is lost, as on AWS.
    """
    from moto.core.exceptions import JsonRESTError, ServiceException
    from moto.events.models import events_backends

    bus: Any = events_backends[ACCOUNT_ID][REGION].event_buses["default"]
    for rule in list(bus.rules.values()):
        if rule.state != "ENABLED" or not rule.event_pattern.matches_event(event):
            continue
        for target in list(rule.targets):
            try:
                _send(rule, target, event)
            except (JsonRESTError, ServiceException, NotImplementedError) as error:
                print(f"rule {rule.name}: {type(error).__name__}: {error}", file=sys.stderr)


def _send(rule: Any, target: dict[str, Any], event: dict[str, Any]) -> None:
    service, name = target["Arn"].split(":")[2], target["Arn"].rpartition(":")[2]
    if service == "sqs" and not {"InputTransformer", "SqsParameters"} & set(target):
        moment = datetime.fromtimestamp(event["time"], UTC)
        body = json.dumps({**event, "time": f"{moment:%Y-%m-%dT%H:%M:%SZ}"})
        moto_sqs.send(ACCOUNT_ID, REGION, name, body)
        return
    # moto's own way rewrites the event by text replacement, and takes milliseconds
    only = copy.copy(rule)
    only.targets = [target]
    only.send_to_targets({**event, "ingestion-time": event["time"]})


def _deliver(events: queue.SimpleQueue[list[dict[str, Any]]]) -> None:
    while True:
        for event in events.get():
            put_event(event)


class _RuleWatch:
    """Tells the daemon how many rules there are, before whoever made one has the answer."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._said = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        answer = self._application(environ, start_response)
        # a module that is not loaded yet has made no rule
        models = sys.modules.get("moto.events.models")
        if models is not None:
            bus = models.events_backends[ACCOUNT_ID][REGION].event_buses["default"]
            if len(bus.rules) != self._said:
                self._said = len(bus.rules)
                _say({"rules": self._said})
        return answer


class Guarded:
    """Lets nobody in but who the gate lets in: moto itself asks for no key, and lets any web page call."""

    def __init__(self, application: Any, gate: Gate) -> None:
        self._application = application
        self._gate = gate

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        headers = {
            "host": environ.get("HTTP_HOST", ""),
            "authorization": environ.get("HTTP_AUTHORIZATION", ""),
        }
        query = environ.get("QUERY_STRING", "")
        try:
            self._gate.check(Request(environ["REQUEST_METHOD"], "", query, headers))
        except ServiceError as error:
            kind, body = _refusal(error, is_json="HTTP_X_AMZ_TARGET" in environ)
            # without its body the connection can carry no further request
            words = [("Content-Type", kind), ("Content-Length", str(len(body)))]
            start_response("403 Forbidden", [*words, ("Connection", "close")])
            return [body]
        return self._application(environ, start_response)


def _refusal(error: ServiceError, is_json: bool) -> tuple[str, bytes]:
    """Content type and body, as clients of the one or the other protocol read them."""
    if is_json:
        said = {"__type": error.code, "message": str(error)}
        return "application/x-amz-json-1.1", json.dumps(said).encode()
    code, message = escape(error.code), escape(str(error))
    text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return "application/xml", f"<ErrorResponse>{text}</ErrorResponse>".encode()


def _make_server(fd: int) -> Any:
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    class Handler(MotoRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Requests are not logged."""

    watched = _RuleWatch(DomainDispatcherApplication(create_backend_app))
    application = Guarded(watched, Gate(os.environ.pop(KEY_VARIABLE)))
    # the socket listens already: host and port are not used
    return make_server("127.0.0.1", 0, application, threaded=True, request_handler=Handler, fd=fd)


def _say(fact: dict[str, Any]) -> None:
    with _SAYING:
        sys.stdout.write(json.dumps(fact) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
