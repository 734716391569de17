"""Consumable resources: licences and the like, of which each job takes some while it runs."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from snakemake_executor_takeda.sandbox.batch import limits
from snakemake_executor_takeda.sandbox.batch.paging import client_error, page
from snakemake_executor_takeda.sandbox.batch.store import Store

KIND = "consumable"
_TYPES = ("REPLENISHABLE", "NON_REPLENISHABLE")
_SPENT = "spent"
"""Member of a record: what is used up for ever. Not shown."""


class Consumables:
    """All consumable resources and what the running jobs hold of them."""

    def __init__(self, store: Store, arn_prefix: str) -> None:
        self._store = store
        self._arn_prefix = arn_prefix
        self._lock = threading.RLock()
        self._records = {r["consumableResourceArn"]: r for r in store.resources(KIND)}
        self._held: Counter[str] = Counter()

    # operations

    def create(self, params: dict[str, Any]) -> dict[str, Any]:
        name = params["consumableResourceName"]
        arn = f"{self._arn_prefix}consumable-resource/{name}"
        if not limits.RESOURCE_NAME.fullmatch(name):
            raise client_error(
                f"consumableResourceName {name!r} must be 1 to 128 letters, digits, hyphens and "
                "underscores"
            )
        kind = params.get("resourceType", _TYPES[0])
        if kind not in _TYPES:
            raise client_error(f"resourceType must be {' or '.join(_TYPES)}, not {kind!r}")
        total = params.get("totalQuantity", 0)
        if total < 0:
            raise client_error("totalQuantity must not be negative")
        with self._lock:
            if arn in self._records:
                raise client_error(f"there is a consumable resource {name} already")
            self._save(
                {
                    "consumableResourceName": name,
                    "consumableResourceArn": arn,
                    "totalQuantity": total,
                    "resourceType": kind,
                    "createdAt": int(time.time() * 1000),
                    "tags": params.get("tags", {}),
                    _SPENT: 0,
                }
            )
        return {"consumableResourceName": name, "consumableResourceArn": arn}

    def update(self, params: dict[str, Any]) -> dict[str, Any]:
        quantity = params.get("quantity", 0)
        operation = params.get("operation", "SET")
        if quantity < 0:
            raise client_error("quantity must not be negative")
        with self._lock:
            record = self._find(params["consumableResource"])
            totals = {
                "SET": quantity,
                "ADD": record["totalQuantity"] + quantity,
                "REMOVE": record["totalQuantity"] - quantity,
            }
            if operation not in totals:
                raise client_error(f"operation must be SET, ADD or REMOVE, not {operation!r}")
            if totals[operation] < 0:
                raise client_error("there is not that much to remove")
            self._save({**record, "totalQuantity": totals[operation]})
            return self._shown(
                record, "consumableResourceName", "consumableResourceArn", "totalQuantity"
            )

    def delete(self, params: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            record = self._find(params["consumableResource"])
            arn = record["consumableResourceArn"]
            if self._held[arn]:
                raise client_error(f"{record['consumableResourceName']} is in use")
            del self._records[arn]
            self._store.delete_resource(KIND, arn)
        return {}

    def describe(self, params: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            record = self._find(params["consumableResource"])
            return {**self._shown(record), "tags": record["tags"]}

    def list_all(self, params: dict[str, Any]) -> dict[str, Any]:
        names = [
            value.lower()
            for one in params.get("filters", [])
            if one.get("name") == "CONSUMABLE_RESOURCE_NAME"
            for value in one.get("values", [])
        ]
        with self._lock:
            found = [
                record
                for record in self._records.values()
                if not names or _matches(record["consumableResourceName"].lower(), names)
            ]
            chosen, token = page(
                found,
                lambda record: str(record["consumableResourceArn"]),
                params.get("nextToken"),
                params.get("maxResults"),
                limits.DESCRIBE_PAGE,
            )
            wanted = (
                *("consumableResourceArn", "consumableResourceName", "totalQuantity"),
                *("inUseQuantity", "resourceType"),
            )
            shown = [self._shown(record, *wanted) for record in chosen]
        return {"consumableResources": shown, "nextToken": token}

    # what the rest of the emulator asks

    def needed(self, properties: Mapping[str, Any]) -> list[dict[str, Any]]:
        """A job's consumableResourceList, by ARN. Raises ServiceError for what does not exist."""
        wanted = properties.get("consumableResourceList", [])
        if len(wanted) > limits.CONSUMABLES_PER_JOB:
            raise client_error(
                f"at most {limits.CONSUMABLES_PER_JOB} consumable resources, not {len(wanted)}"
            )
        needed = []
        with self._lock:
            for one in wanted:
                record = self._find(one.get("consumableResource", ""))
                quantity = one.get("quantity", 1)
                if quantity < 1:
                    raise client_error(f"quantity must be at least 1, not {quantity}")
                arn = record["consumableResourceArn"]
                needed.append({"consumableResource": arn, "quantity": quantity})
        return needed

    def has_room(self, needed: Sequence[Mapping[str, Any]]) -> bool:
        """Whether all that a job needs is there now. One that was deleted is never there."""
        with self._lock:
            return all(
                (record := self._records.get(one["consumableResource"])) is not None
                and one["quantity"] <= self._available(record)
                for one in needed
            )

    def take(self, needed: Sequence[Mapping[str, Any]]) -> None:
        with self._lock:
            for one in needed:
                self._held[one["consumableResource"]] += one["quantity"]

    def give_back(self, needed: Sequence[Mapping[str, Any]]) -> None:
        """An attempt is over; what cannot be used again is spent."""
        with self._lock:
            for one in needed:
                arn = one["consumableResource"]
                self._held[arn] -= one["quantity"]
                record = self._records.get(arn)
                if record is not None and record["resourceType"] == "NON_REPLENISHABLE":
                    self._save({**record, _SPENT: record[_SPENT] + one["quantity"]})

    def tagged(self, arn: str) -> dict[str, Any] | None:
        return self._records.get(arn)

    def save(self, record: dict[str, Any]) -> None:
        """A resource's tags have changed."""
        with self._lock:
            self._save({**self._find(record["consumableResourceArn"]), "tags": record["tags"]})

    def _available(self, record: Mapping[str, Any]) -> int:
        held = self._held[record["consumableResourceArn"]]
        return max(0, int(record["totalQuantity"]) - int(record[_SPENT]) - held)

    def _shown(self, record: Mapping[str, Any], *names: str) -> dict[str, Any]:
        record = self._records[record["consumableResourceArn"]]
        shown = {name: value for name, value in record.items() if name not in (_SPENT, "tags")}
        shown["inUseQuantity"] = record[_SPENT] + self._held[record["consumableResourceArn"]]
        shown["availableQuantity"] = self._available(record)
        return {name: shown[name] for name in names} if names else shown

    def _find(self, text: str) -> dict[str, Any]:
        arn = text if text.startswith("arn:") else f"{self._arn_prefix}consumable-resource/{text}"
        record = self._records.get(arn)
        if record is None:
            raise client_error(f"there is no consumable resource {text!r}")
        return record

    def _save(self, record: dict[str, Any]) -> None:
        self._store.save_resource(KIND, record["consumableResourceArn"], record)
        self._records[record["consumableResourceArn"]] = record


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(
        name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
        for pattern in patterns
    )
