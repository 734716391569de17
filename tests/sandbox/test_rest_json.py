"""The rest-json router against botocore's own serialiser and parser: what boto3 sends and reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import botocore.parsers
import botocore.serialize
import pytest
from botocore.awsrequest import prepare_request_dict

from snakemake_executor_takeda.sandbox.rest_json import Request, Response, Router, service_model
from snakemake_executor_takeda.sandbox.services import Handler, ServiceError


def router(model_name: str, **handlers: Handler) -> Router:
    return Router([SimpleNamespace(model_name=model_name, handlers=handlers)])  # type: ignore[list-item]


def request_for(model_name: str, operation: str, params: Mapping[str, Any]) -> Request:
    """The request that boto3 would send."""
    model = service_model(model_name)
    serializer = botocore.serialize.create_serializer("rest-json", include_validation=False)
    wire = serializer.serialize_to_request(dict(params), model.operation_model(operation))
    prepare_request_dict(wire, endpoint_url="http://localhost")
    url = urlsplit(wire["url"])
    body = wire["body"] or b""
    return Request(
        wire["method"],
        url.path,
        url.query,
        {name.lower(): value for name, value in wire["headers"].items()},
        body.encode() if isinstance(body, str) else body,
    )


def parsed(model_name: str, operation: str, response: Response) -> dict[str, Any]:
    """What boto3 would return."""
    model = service_model(model_name).operation_model(operation)
    parser = botocore.parsers.create_parser("rest-json")
    wire = {
        "headers": {name.lower(): value for name, value in response.headers.items()},
        "body": response.body,
        "status_code": response.status,
    }
    result: dict[str, Any] = parser.parse(wire, model.output_shape)
    return result


def call(model_name: str, operation: str, handler: Handler, **params: Any) -> dict[str, Any]:
    response = router(model_name, **{operation: handler}).answer(
        request_for(model_name, operation, params)
    )
    return parsed(model_name, operation, response)


def test_uri_query_and_body_members_arrive() -> None:
    seen: list[dict[str, Any]] = []

    def handler(params: dict[str, Any]) -> dict[str, Any]:
        seen.append(params)
        return {"items": [], "nextToken": "t"}

    answer = call("omics", "ListRunTasks", handler, id="1234567890", maxResults=7, status="RUNNING")
    assert seen == [{"id": "1234567890", "maxResults": 7, "status": "RUNNING"}]
    assert answer["nextToken"] == "t"


def test_arn_in_the_path_is_unquoted_and_lists_in_the_query_stay_lists() -> None:
    seen: list[dict[str, Any]] = []
    arn = "arn:aws:batch:us-east-1:123456789012:job-queue/with-slash"
    call("batch", "UntagResource", seen.append, resourceArn=arn, tagKeys=["a b", "c&d"])
    assert seen == [{"resourceArn": arn, "tagKeys": ["a b", "c&d"]}]


def test_literal_paths_win_over_labels() -> None:
    routes = router("omics")
    model = service_model("omics")
    for name in model.operation_names:
        uri = model.operation_model(name).http["requestUri"]
        path = "/".join("123" if part.startswith("{") else part for part in uri.split("/"))
        found = routes.find(Request(model.operation_model(name).http["method"], path))
        assert found is not None
        assert found[0].call.operation == name


def test_blobs_timestamps_and_documents() -> None:
    seen: list[dict[str, Any]] = []
    when = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)

    def create(params: dict[str, Any]) -> dict[str, Any]:
        seen.append(params)
        return {"id": "1"}

    call("omics", "CreateWorkflow", create, definitionZip=b"\x00zip\xff", requestId="r", name="n")
    assert seen[0]["definitionZip"] == b"\x00zip\xff"
    run = call(
        "omics",
        "GetRun",
        lambda p: {"startTime": when, "parameters": {"a": [1, {"b": None}]}, "digest": None},
        id="12",
    )
    assert run["startTime"] == when
    assert run["parameters"] == {"a": [1, {"b": None}]}
    assert "digest" not in run


def test_status_codes_are_the_models() -> None:
    routes = router("omics", StartRun=lambda p: {"id": "1"}, DeleteRun=lambda p: None)
    start = {
        "roleArn": "arn:aws:iam::1:role/x" + "x" * 9,
        "requestId": "r",
        "outputUri": "s3://bucket/x",
    }
    assert routes.answer(request_for("omics", "StartRun", start)).status == 201
    assert routes.answer(request_for("omics", "DeleteRun", {"id": "1"})).status == 202


@pytest.mark.parametrize(
    ("model", "operation", "params", "code", "words"),
    [
        ("omics", "StartRun", {"requestId": "r"}, "ValidationException", "roleArn"),
        (
            "omics",
            "GetRun",
            {"id": "abc"},
            "ValidationException",
            r"regular expression pattern: [0-9]+",
        ),
        (
            "omics",
            "ListRuns",
            {"maxResults": 101},
            "ValidationException",
            "less than or equal to 100",
        ),
        (
            "omics",
            "CreateRunGroup",
            {"requestId": "r", "name": ""},
            "ValidationException",
            "length",
        ),
        (
            "omics",
            "CreateRunGroup",
            {"requestId": "r", "name": "tab\there"},
            "ValidationException",
            "name",
        ),
        ("batch", "SubmitJob", {"jobName": "j"}, "ClientException", "jobQueue"),
        ("batch", "ListJobs", {"jobQueue": "q", "jobStatus": "DONE"}, "ClientException", "enum"),
        ("batch", "DescribeJobs", {"jobs": ["a", 3]}, "ClientException", "jobs"),
    ],
)
def test_members_that_break_the_model_are_refused(
    model: str, operation: str, params: dict[str, Any], code: str, words: str
) -> None:
    routes = router(model, **{operation: lambda p: pytest.fail("was let through")})
    response = routes.answer(request_for(model, operation, params))
    assert response.status == 400
    error = parsed(model, operation, response)["Error"]
    assert error["Code"] == code
    assert words in error["Message"]


def test_error_statuses_are_the_models() -> None:
    def fail(code: str) -> Handler:
        def handler(params: dict[str, Any]) -> dict[str, Any]:
            raise ServiceError(code, "no such thing")

        return handler

    for code, status in {
        "ResourceNotFoundException": 404,
        "ConflictException": 409,
        "ThrottlingException": 429,
        "ServiceQuotaExceededException": 402,
    }.items():
        response = router("omics", GetRun=fail(code)).answer(
            request_for("omics", "GetRun", {"id": "1"})
        )
        assert (response.status, response.headers["x-amzn-ErrorType"]) == (status, code)
        assert json.loads(response.body) == {"message": "no such thing"}
    response = router("batch", ListJobs=fail("ServerException")).answer(
        request_for("batch", "ListJobs", {})
    )
    assert response.status == 500


def test_an_operation_without_a_handler_says_so() -> None:
    response = router("omics").answer(request_for("omics", "ListShares", {"resourceOwner": "SELF"}))
    assert response.status == 501
    assert json.loads(response.body) == {"message": "the sandbox does not have ListShares of omics"}


def test_an_unknown_path_and_a_body_that_is_no_json() -> None:
    routes = router("batch", ListJobs=lambda p: {"jobSummaryList": []})
    assert routes.answer(Request("POST", "/v1/nothing")).status == 404
    response = routes.answer(Request("POST", "/v1/listjobs", body=b"{"))
    assert (response.status, response.headers["x-amzn-ErrorType"]) == (
        400,
        "SerializationException",
    )


def test_members_the_model_lacks_are_a_bug_not_an_answer() -> None:
    routes = router("batch", ListJobs=lambda p: {"jobSummaryList": [], "oops": 1})
    with pytest.raises(TypeError, match="oops"):
        routes.answer(request_for("batch", "ListJobs", {}))


def test_handlers_of_unknown_operations_are_refused() -> None:
    with pytest.raises(ValueError, match="SubmitJbo"):
        router("batch", SubmitJbo=lambda p: {})
