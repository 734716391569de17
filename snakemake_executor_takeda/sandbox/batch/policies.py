"""Scheduling policies: kept, described and demanded by queues; the order of jobs does not follow them."""

from __future__ import annotations

import threading
from typing import Any

from snakemake_executor_takeda.sandbox.batch import limits
from snakemake_executor_takeda.sandbox.batch.paging import client_error, page
from snakemake_executor_takeda.sandbox.batch.store import Store

KIND = "policy"


class Policies:
    """All fair-share scheduling policies."""

    def __init__(self, store: Store, arn_prefix: str) -> None:
        self._store = store
        self._arn_prefix = arn_prefix
        self._lock = threading.Lock()
        self._records = {record["arn"]: record for record in store.resources(KIND)}

    def create(self, params: dict[str, Any]) -> dict[str, Any]:
        name = params["name"]
        arn = f"{self._arn_prefix}scheduling-policy/{name}"
        if not limits.RESOURCE_NAME.fullmatch(name):
            raise client_error(
                f"name {name!r} must be 1 to 128 letters, digits, hyphens and underscores"
            )
        _check(params)
        with self._lock:
            if arn in self._records:
                raise client_error(f"there is a scheduling policy {name} already")
            self._save({**params, "arn": arn})
        return {"name": name, "arn": arn}

    def update(self, params: dict[str, Any]) -> dict[str, Any]:
        _check(params)
        with self._lock:
            self._save({**self._find(params["arn"]), **params})
        return {}

    def delete(self, params: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            self._find(params["arn"])
            del self._records[params["arn"]]
            self._store.delete_resource(KIND, params["arn"])
        return {}

    def describe(self, params: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            found = [self._records[arn] for arn in params["arns"] if arn in self._records]
        return {"schedulingPolicies": found}

    def list_all(self, params: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            arns = list(self._records)
        chosen, token = page(
            arns,
            str,
            params.get("nextToken"),
            params.get("maxResults"),
            limits.DESCRIBE_PAGE,
        )
        return {"schedulingPolicies": [{"arn": arn} for arn in chosen], "nextToken": token}

    def check_exists(self, arn: str) -> None:
        """Raises ServiceError where there is no such policy."""
        with self._lock:
            self._find(arn)

    def tagged(self, arn: str) -> dict[str, Any] | None:
        return self._records.get(arn)

    def save(self, record: dict[str, Any]) -> None:
        """A policy's tags have changed."""
        with self._lock:
            self._save(record)

    def _find(self, arn: str) -> dict[str, Any]:
        record = self._records.get(arn)
        if record is None:
            raise client_error(f"there is no scheduling policy {arn!r}")
        return record

    def _save(self, record: dict[str, Any]) -> None:
        self._store.save_resource(KIND, record["arn"], record)
        self._records[record["arn"]] = record


def _check(params: dict[str, Any]) -> None:
    if "quotaSharePolicy" in params:
        raise client_error("the sandbox does not have quota shares")
    fair = params.get("fairsharePolicy", {})
    if fair.get("computeReservation", 0) not in range(100):
        raise client_error("computeReservation must be between 0 and 99")
    for one in fair.get("shareDistribution", []):
        if not limits.SHARE_IDENTIFIER.fullmatch(one["shareIdentifier"]):
            raise client_error(f"shareIdentifier {one['shareIdentifier']!r} is not valid")
