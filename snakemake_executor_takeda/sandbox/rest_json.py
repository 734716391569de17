"""The rest-json protocol from the server's side, driven by botocore's own service models.

Requests become an operation's members, answers and errors become what unmodified AWS clients read.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import uuid
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

from botocore.model import ListShape, MapShape, Shape, StructureShape

from snakemake_executor_takeda.sandbox.constraints import problems
from snakemake_executor_takeda.sandbox.services import Service, ServiceError

if TYPE_CHECKING:
    from botocore.model import OperationModel, ServiceModel


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    """As sent, percent-escapes and all, without the query."""
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""
    body: bytes = b""


@dataclass(frozen=True)
class Response:
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Call:
    """A request that found its operation."""

    service: str
    operation: str


current_request: ContextVar[Request] = ContextVar("current_request")
"""The request a handler is called for; what it needs beyond its members, such as the body's size."""


class Route:
    """One operation of one service: how to recognise it, read its input and write its answer."""

    def __init__(self, service: Service, model: OperationModel) -> None:
        self.service = service
        self.model = model
        self.call = Call(service.model_name, model.name)
        uri = model.http["requestUri"].split("?")[0]
        parts = re.split(r"\{([^}]+)\}", uri)
        self.literal_length = sum(len(part) for part in parts[::2])
        self._pattern = re.compile(
            "".join(
                re.escape(part) if number % 2 == 0 else _group(part)
                for number, part in enumerate(parts)
            )
            + "/?"
        )

    def match(self, path: str) -> dict[str, str] | None:
        """The URI's labels, still quoted, or None."""
        found = self._pattern.fullmatch(path)
        return None if found is None else found.groupdict()

    def answer(self, request: Request, labels: Mapping[str, str]) -> Response:
        handler = self.service.handlers.get(self.model.name)
        if handler is None:
            raise ServiceError(
                "NotImplemented",
                f"the sandbox does not have {self.model.name} of {self.service.model_name}",
                status=501,
            )
        params = self._read(request, labels)
        token = current_request.set(request)
        try:
            output = handler(params)
        finally:
            current_request.reset(token)
        return self._write(dict(output or {}))

    @cached_property
    def _validation_code(self) -> str:
        names = {shape.name for shape in self.model.service_model.error_shapes}
        return "ValidationException" if "ValidationException" in names else "ClientException"

    def _read(self, request: Request, labels: Mapping[str, str]) -> dict[str, Any]:
        shape = self.model.input_shape
        if shape is None:
            return {}
        payload = shape.serialization.get("payload")
        body: Any = {}
        if payload is None and request.body:
            try:
                body = json.loads(request.body)
            except ValueError as error:
                raise ServiceError(
                    "SerializationException", f"the body is not JSON: {error}"
                ) from None
            if not isinstance(body, dict):
                raise ServiceError("SerializationException", "the body is not a JSON object")
        query = parse_qs(request.query, keep_blank_values=True)
        params: dict[str, Any] = {}
        for name, member in shape.members.items():
            place = member.serialization.get("location")
            wire = member.serialization.get("name", name)
            if name == payload:
                value: Any = (
                    request.body
                    if member.type_name == "blob"
                    else json.loads(request.body or b"{}")
                )
            elif place == "uri":
                value = _from_text(member, unquote(labels[_identifier(wire)]))
            elif place == "querystring":
                value = _from_query(member, query.get(wire))
            elif place == "header":
                value = _from_text(member, request.headers.get(wire.lower()))
            else:
                value = _from_json(member, body.get(wire))
            if value is not None:
                params[name] = value
        found = problems(params, shape)
        if found:
            noun = "error" if len(found) == 1 else "errors"
            raise ServiceError(
                self._validation_code,
                f"{len(found)} validation {noun} detected: {'; '.join(found)}",
            )
        return params

    def _write(self, output: dict[str, Any]) -> Response:
        status = int(self.model.http.get("responseCode", 200))
        headers: dict[str, str] = {}
        shape = self.model.output_shape
        if shape is None:
            if output:
                raise TypeError(f"{self.model.name} answers nothing, not {sorted(output)}")
            return Response(status, headers, b"" if status == 204 else b"{}")
        body: dict[str, Any] = {}
        payload = shape.serialization.get("payload")
        raw: bytes | None = None
        _refuse_unknown(output, shape)
        for name, member in shape.members.items():
            value = output.get(name)
            if value is None:
                continue
            place = member.serialization.get("location")
            wire = member.serialization.get("name", name)
            if name == payload and member.type_name == "blob":
                raw = value
            elif place == "header":
                headers[wire] = str(value)
            elif place == "statusCode":
                status = int(value)
            else:
                body[wire] = to_json(member, value)
        if raw is not None:
            return Response(status, {"Content-Type": "application/octet-stream", **headers}, raw)
        return _json_response(status, headers, body)


class Router:
    """All operations of all services behind one address."""

    def __init__(self, services: Iterable[Service]) -> None:
        self._by_method: dict[str, list[Route]] = {}
        for service in services:
            model = service_model(service.model_name)
            unknown = set(service.handlers) - set(model.operation_names)
            if unknown:
                raise ValueError(f"{service.model_name} has no operations {sorted(unknown)}")
            for name in model.operation_names:
                route = Route(service, model.operation_model(name))
                self._by_method.setdefault(route.model.http["method"], []).append(route)
        for routes in self._by_method.values():
            # `/run/{id}/cancel` before `/run/{id}`, a literal segment before a label
            routes.sort(key=lambda route: -route.literal_length)

    def find(self, request: Request) -> tuple[Route, dict[str, str]] | None:
        """The operation asked for, or None. A signed request finds only its own service's."""
        signed_for = _signing_name(request)
        for route in self._by_method.get(request.method, ()):
            if signed_for is not None and signed_for != route.service.model_name:
                continue
            labels = route.match(request.path)
            if labels is not None:
                return route, labels
        return None

    def operations(self) -> list[str]:
        """All operations that are answered, by name."""
        routes = (route for routes in self._by_method.values() for route in routes)
        return sorted({r.model.name for r in routes if r.model.name in r.service.handlers})

    def answer(self, request: Request) -> Response:
        """The answer to any request, errors included. A bug in a handler raises."""
        found = self.find(request)
        try:
            if found is None:
                raise ServiceError(
                    "UnknownOperationException",
                    f"the sandbox knows no operation {request.method} {request.path}",
                    status=404,
                )
            route, labels = found
            return route.answer(request, labels)
        except ServiceError as error:
            return error_response(error, None if found is None else found[0].model.service_model)


@cache
def service_model(name: str) -> ServiceModel:
    """botocore's model of a service: a tenth of a second's work to read."""
    import botocore.session

    return botocore.session.get_session().get_service_model(name)


def error_response(error: ServiceError, model: ServiceModel | None = None) -> Response:
    """How a rest-json service says this error."""
    status = error.status
    if status is None and model is not None:
        for shape in model.error_shapes:
            if shape.name == error.code:
                status = shape.metadata.get("error", {}).get("httpStatusCode")
    headers = {"x-amzn-ErrorType": error.code}
    return _json_response(status or 400, headers, {"message": error.message, **error.members})


def internal_error(request: Request, router: Router, text: str) -> Response:
    """What a service answers when it broke; boto3 retries it."""
    found = router.find(request)
    model = None if found is None else found[0].model.service_model
    code = internal_error_code(model)
    return error_response(ServiceError(code, text, status=500), model)


def internal_error_code(model: ServiceModel | None) -> str:
    """The service's word for an error of its own."""
    names = {shape.name for shape in model.error_shapes} if model else set()
    return "InternalServerException" if "InternalServerException" in names else "ServerException"


def to_json(shape: Shape, value: Any) -> Any:
    """A member as the wire has it."""
    if isinstance(shape, StructureShape) and not shape.is_document_type:
        _refuse_unknown(value, shape)
        return {
            member.serialization.get("name", name): to_json(member, value[name])
            for name, member in shape.members.items()
            if value.get(name) is not None
        }
    if isinstance(shape, ListShape):
        return [to_json(shape.member, item) for item in value]
    if isinstance(shape, MapShape):
        return {str(key): to_json(shape.value, item) for key, item in value.items()}
    if shape.type_name == "blob":
        return base64.b64encode(value).decode()
    return _timestamp(shape, value) if shape.type_name == "timestamp" else value


def _timestamp(shape: Shape, value: datetime | float) -> str | float:
    when = value if isinstance(value, datetime) else datetime.fromtimestamp(value, UTC)
    if shape.serialization.get("timestampFormat", "unixTimestamp") == "iso8601":
        return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return when.timestamp()


def _refuse_unknown(output: Mapping[str, Any], shape: StructureShape) -> None:
    unknown = set(output) - set(shape.members)
    if unknown:
        raise TypeError(f"{shape.name} has no members {sorted(unknown)}")


def _json_response(status: int, headers: Mapping[str, str], body: Mapping[str, Any]) -> Response:
    text = b"" if status == 204 else json.dumps(body).encode()
    return Response(
        status,
        {"Content-Type": "application/json", "x-amzn-RequestId": str(uuid.uuid4()), **headers},
        text,
    )


def _from_json(shape: Shape, value: Any) -> Any:
    """The member as handlers get it. What has the wrong type stays, for the validation to name."""
    if isinstance(shape, StructureShape) and isinstance(value, dict) and not shape.is_document_type:
        return {
            name: _from_json(member, value[wire])
            for name, member in shape.members.items()
            if value.get(wire := member.serialization.get("name", name)) is not None
        }
    if isinstance(shape, ListShape) and isinstance(value, list):
        return [_from_json(shape.member, item) for item in value]
    if isinstance(shape, MapShape) and isinstance(value, dict):
        return {key: _from_json(shape.value, item) for key, item in value.items()}
    return _scalar_from_json(shape, value)


def _scalar_from_json(shape: Shape, value: Any) -> Any:
    if shape.type_name == "blob" and isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error:
            raise ServiceError("SerializationException", "a blob is not base64") from None
    if shape.type_name == "timestamp" and isinstance(value, str | int | float):
        return _to_datetime(value)
    return value


def _from_text(shape: Shape, text: str | None) -> Any:
    if text is None:
        return None
    try:
        if shape.type_name in ("integer", "long"):
            return int(text)
        if shape.type_name in ("float", "double"):
            return float(text)
    except ValueError:
        raise ServiceError("SerializationException", f"{text!r} is not a number") from None
    if shape.type_name == "boolean":
        return text.lower() == "true"
    if shape.type_name == "timestamp":
        return _to_datetime(text)
    return text


def _from_query(shape: Shape, values: list[str] | None) -> Any:
    if not values:
        return None
    if isinstance(shape, ListShape):
        return [_from_text(shape.member, value) for value in values]
    return _from_text(shape, values[-1])


def _to_datetime(value: str | float) -> datetime:
    try:
        if isinstance(value, str):
            return datetime.fromisoformat(value)
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError):
        raise ServiceError("SerializationException", f"{value!r} is not a timestamp") from None


def _signing_name(request: Request) -> str | None:
    """The service in a signature's credential scope: `…/20260101/us-east-1/batch/aws4_request`."""
    found = re.search(
        r"Credential=[^/,]+/\d+/[^/,]+/([^/,]+)/aws4_request",
        request.headers.get("authorization", ""),
    )
    return found.group(1) if found else None


def _identifier(label: str) -> str:
    return label.rstrip("+")


def _group(label: str) -> str:
    return f"(?P<{_identifier(label)}>{'.+' if label.endswith('+') else '[^/]+'})"
