"""Job definitions: registered, numbered, found by name, name:revision or ARN."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from snakemake_executor_takeda.sandbox.batch import limits
from snakemake_executor_takeda.sandbox.batch.container import check_container
from snakemake_executor_takeda.sandbox.batch.multinode import check_node_properties
from snakemake_executor_takeda.sandbox.batch.paging import client_error, page
from snakemake_executor_takeda.sandbox.batch.store import Store

KIND = "definition"
_NOT_HERE = ("eksProperties", "ecsProperties")

_IN_REASONS = limits.REASON_PATTERN, "letters, digits, periods, colons, white space"
_CONDITIONS = {
    "onStatusReason": _IN_REASONS,
    "onReason": _IN_REASONS,
    "onExitCode": (limits.EXIT_CODE_PATTERN, "digits"),
}
"""A condition of evaluateOnExit: what it must look like, and in words."""

_PROPERTIES = {"container": "containerProperties", "multinode": "nodeProperties"}
"""What a definition of this type must hold."""


def check_retry_strategy(strategy: Mapping[str, Any]) -> None:
    """Raises ServiceError for what Batch refuses in a `retryStrategy`."""
    attempts = strategy.get("attempts")
    if attempts is not None and attempts not in limits.ATTEMPTS:
        raise client_error(f"retryStrategy.attempts must be between 1 and 10, not {attempts}")
    rules = strategy.get("evaluateOnExit", [])
    if len(rules) > limits.EVALUATE_ON_EXIT_RULES:
        raise client_error(
            f"evaluateOnExit takes at most {limits.EVALUATE_ON_EXIT_RULES} rules, not {len(rules)}"
        )
    if rules and attempts is None:
        raise client_error("evaluateOnExit needs retryStrategy.attempts")
    for rule in rules:
        conditions = {name: rule[name] for name in _CONDITIONS if name in rule}
        if not conditions:
            raise client_error(
                "a rule of evaluateOnExit needs onStatusReason, onReason or onExitCode"
            )
        for name, condition in conditions.items():
            _check_condition(name, condition)


def _check_condition(name: str, text: str) -> None:
    if len(text) > limits.EVALUATE_ON_EXIT_CHARACTERS:
        raise client_error(
            f"{name} of evaluateOnExit can have {limits.EVALUATE_ON_EXIT_CHARACTERS} characters, "
            f"not {len(text)}"
        )
    if "*" in text[:-1]:
        raise client_error("in evaluateOnExit a * can only be a condition's last character")
    pattern, words = _CONDITIONS[name]
    if not pattern.fullmatch(text):
        raise client_error(f"in evaluateOnExit {name} {text!r} can hold {words} and a * at its end")


def check_timeout(timeout: Mapping[str, Any]) -> None:
    """Raises ServiceError for a timeout that is too short."""
    seconds = timeout.get("attemptDurationSeconds")
    if seconds is not None and seconds < limits.TIMEOUT_MIN_SECONDS:
        raise client_error(
            f"timeout.attemptDurationSeconds must be at least {limits.TIMEOUT_MIN_SECONDS}, not {seconds}"
        )


def _check_content(params: Mapping[str, Any], platforms: Sequence[str]) -> None:
    if params["type"] not in _PROPERTIES:
        raise client_error(f"the sandbox does not have job definitions of type {params['type']}")
    size = len(json.dumps(params))
    if size > limits.JOB_DEFINITION_BYTES:
        raise client_error(
            f"the job definition has {size} bytes; at most {limits.JOB_DEFINITION_BYTES} are allowed"
        )
    for kind, word in _PROPERTIES.items():
        if (word in params) != (kind == params["type"]):
            raise client_error(f"{word} is required for type {kind}, and for no other")
    if params["type"] == "multinode":
        if list(platforms) != ["EC2"]:
            raise client_error("jobs of several nodes run on EC2 only")
        check_node_properties(params["nodeProperties"])
    else:
        check_container(params["containerProperties"], platforms)
    check_retry_strategy(params.get("retryStrategy", {}))
    check_timeout(params.get("timeout", {}))
    check_priority(params.get("schedulingPriority"))


def check_tags(tags: Mapping[str, str]) -> None:
    """Raises ServiceError for names that are AWS's own."""
    for name in tags:
        if name.lower().startswith(limits.RESERVED_TAG_PREFIX):
            raise client_error(
                f"tag {name!r}: tags may not start with {limits.RESERVED_TAG_PREFIX}"
            )


def check_priority(priority: int | None) -> None:
    """Raises ServiceError for a scheduling priority out of bounds."""
    if priority is not None and priority not in limits.SCHEDULING_PRIORITY:
        raise client_error(f"a scheduling priority is between 0 and 9999, not {priority}")


class Definitions:
    """All revisions of all job definitions."""

    def __init__(self, store: Store, arn_prefix: str) -> None:
        """`arn_prefix` is `arn:aws:batch:<region>:<account>:`."""
        self._store = store
        self._arn_prefix = arn_prefix
        self._lock = threading.Lock()
        self._by_name: dict[str, list[dict[str, Any]]] = {}
        for record in store.resources(KIND):
            self._by_name.setdefault(record["jobDefinitionName"], []).append(record)

    def register(self, params: dict[str, Any]) -> dict[str, Any]:
        name = params["jobDefinitionName"]
        if not limits.RESOURCE_NAME.fullmatch(name):
            raise client_error(
                f"jobDefinitionName {name!r} must be 1 to 128 letters, digits, hyphens and underscores"
            )
        for word in _NOT_HERE:
            if word in params:
                raise client_error(f"the sandbox does not have {word} in job definitions")
        check_tags(params.get("tags", {}))
        platforms = params.get("platformCapabilities", ["EC2"])
        _check_content(params, platforms)
        with self._lock:
            revisions = self._by_name.setdefault(name, [])
            revision = revisions[-1]["revision"] + 1 if revisions else 1
            record = {
                **params,
                "revision": revision,
                "jobDefinitionArn": f"{self._arn_prefix}job-definition/{name}:{revision}",
                "status": "ACTIVE",
                "containerOrchestrationType": "ECS",
                "platformCapabilities": platforms,
            }
            self._store.save_resource(KIND, record["jobDefinitionArn"], record)
            revisions.append(record)
        return {
            name: record[name] for name in ("jobDefinitionName", "jobDefinitionArn", "revision")
        }

    def deregister(self, params: dict[str, Any]) -> dict[str, Any]:
        if ":" not in params["jobDefinition"].rpartition("/")[2]:
            raise client_error(
                f"name a revision of the job definition {params['jobDefinition']!r}: name:revision"
            )
        record = self._find(params["jobDefinition"])
        if record is None:
            raise client_error(f"there is no job definition {params['jobDefinition']!r}")
        with self._lock:
            record["status"] = "INACTIVE"
            self._store.save_resource(KIND, record["jobDefinitionArn"], record)
        return {}

    def describe(self, params: dict[str, Any]) -> dict[str, Any]:
        wanted: Sequence[str] | None = params.get("jobDefinitions")
        status = params.get("status")
        with self._lock:
            everything = [record for revisions in self._by_name.values() for record in revisions]
        if wanted:
            if len(wanted) > limits.DESCRIBED_JOBS:
                raise client_error(f"at most {limits.DESCRIBED_JOBS} jobDefinitions in one call")
            keys = set(wanted)
            everything = [
                record
                for record in everything
                if {
                    record["jobDefinitionArn"],
                    record["jobDefinitionName"],
                    f"{record['jobDefinitionName']}:{record['revision']}",
                }
                & keys
            ]
        elif "jobDefinitionName" in params:
            everything = [
                record
                for record in everything
                if record["jobDefinitionName"] == params["jobDefinitionName"]
            ]
        if status is not None:
            everything = [record for record in everything if record["status"] == status]
        found, token = page(
            everything,
            lambda record: str(record["jobDefinitionArn"]),
            params.get("nextToken"),
            params.get("maxResults"),
            limits.DESCRIBE_PAGE,
        )
        return {"jobDefinitions": found, "nextToken": token}

    def active(self, text: str) -> dict[str, Any]:
        """The definition that SubmitJob names; without a revision the newest active one."""
        record = self._find(text)
        if record is None or record["status"] != "ACTIVE":
            raise client_error(f"there is no active job definition {text!r}")
        return record

    def tagged(self, arn: str) -> dict[str, Any] | None:
        return self._find(arn)

    def save(self, record: dict[str, Any]) -> None:
        self._store.save_resource(KIND, record["jobDefinitionArn"], record)

    def _find(self, text: str) -> dict[str, Any] | None:
        name, _, revision = text.rpartition("/")[2].partition(":")
        with self._lock:
            revisions = self._by_name.get(name, [])
            if not revision:
                return next((r for r in reversed(revisions) if r["status"] == "ACTIVE"), None)
            return next((r for r in revisions if str(r["revision"]) == revision), None)
