"""The operations about tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from snakemake_executor_takeda.sandbox.omics import limits
from snakemake_executor_takeda.sandbox.omics.answers import invalid, missing
from snakemake_executor_takeda.sandbox.omics.base import Base
from snakemake_executor_takeda.sandbox.omics.store import Record
from snakemake_executor_takeda.sandbox.services import Handler

_KINDS = {
    "workflow": "workflow",
    "run": "run",
    "runGroup": "group",
    "runCache": "cache",
    "runBatch": "batch",
}
"""A word of an ARN → the kind of record."""


class Tagging:
    def __init__(self, base: Base) -> None:
        self._store = base.store
        self._answers = base.answers
        self.handlers: Mapping[str, Handler] = {
            "ListTagsForResource": self._list,
            "TagResource": self._tag,
            "UntagResource": self._untag,
        }

    def _list(self, params: dict[str, Any]) -> Mapping[str, Any]:
        kind, key = self._by_arn(params["resourceArn"])
        return {"tags": (self._store.get(kind, key) or {}).get("tags", {})}

    def _tag(self, params: dict[str, Any]) -> None:
        def add(body: Record) -> None:
            tags = {**body.get("tags", {}), **params["tags"]}
            if len(tags) > limits.TAGS:
                raise invalid(f"a resource has at most {limits.TAGS} tags")
            body["tags"] = tags

        self._store.change(*self._by_arn(params["resourceArn"]), add)

    def _untag(self, params: dict[str, Any]) -> None:
        gone = set(params["tagKeys"])

        def take(body: Record) -> None:
            body["tags"] = {k: v for k, v in body.get("tags", {}).items() if k not in gone}

        self._store.change(*self._by_arn(params["resourceArn"]), take)

    def _by_arn(self, arn: str) -> tuple[str, str]:
        match arn.removeprefix(self._answers.arn("")).split("/"):
            case ["workflow", workflow_id, "version", version]:
                kind, key = "version", f"{workflow_id}/{version}"
            case [word, number] if word in _KINDS:
                kind, key = _KINDS[word], number
            case _:
                raise missing(arn)
        self._answers.need(kind, key, arn)
        return kind, key
