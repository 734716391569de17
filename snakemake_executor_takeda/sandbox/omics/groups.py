"""The operations about run groups. What a group allows is honoured by the supervisor and its runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from snakemake_executor_takeda.sandbox.omics.answers import conflict
from snakemake_executor_takeda.sandbox.omics.base import Base
from snakemake_executor_takeda.sandbox.omics.store import Record
from snakemake_executor_takeda.sandbox.omics.supervisor import ENDED, Supervisor
from snakemake_executor_takeda.sandbox.services import Handler

_LIMITS = ("maxCpus", "maxRuns", "maxDuration", "maxGpus")


class RunGroups:
    def __init__(self, base: Base, supervisor: Supervisor) -> None:
        self._store = base.store
        self._answers = base.answers
        self._requests = base.requests
        self._supervisor = supervisor
        self.handlers: Mapping[str, Handler] = {
            "CreateRunGroup": self._create,
            "GetRunGroup": self._get,
            "ListRunGroups": self._list,
            "UpdateRunGroup": self._update,
            "DeleteRunGroup": self._delete,
        }

    def _create(self, params: dict[str, Any]) -> Mapping[str, Any]:
        def create() -> str:
            group_id = self._store.new_id("group")
            body = {name: params[name] for name in ("name", "tags", *_LIMITS) if name in params}
            body |= {
                "id": group_id,
                "arn": self._answers.arn(f"runGroup/{group_id}"),
                "creationTime": time.time(),
            }
            self._store.insert("group", group_id, body)
            return group_id

        key = self._requests.once("CreateRunGroup", params, create)
        return self._answers.view("CreateRunGroup", self._need(key))

    def _need(self, group_id: str) -> Record:
        return self._answers.need("group", group_id, f"run group {group_id}")

    def _get(self, params: dict[str, Any]) -> Mapping[str, Any]:
        return self._answers.view("GetRunGroup", self._need(params["id"]))

    def _list(self, params: dict[str, Any]) -> Mapping[str, Any]:
        return self._answers.page(
            "ListRunGroups", params, self._store.numbered("group"), filters=["name"]
        )

    def _update(self, params: dict[str, Any]) -> None:
        self._need(params["id"])
        members = {name: params[name] for name in ("name", *_LIMITS) if name in params}
        self._store.update("group", params["id"], **members)
        self._supervisor.limits_changed(params["id"])

    def _delete(self, params: dict[str, Any]) -> None:
        group_id = params["id"]
        self._need(group_id)
        for run in self._store.records("run"):
            if run.get("runGroupId") == group_id and run["status"] not in ENDED:
                raise conflict(f"run {run['id']} of run group {group_id} is {run['status']}")
        self._store.delete("group", group_id)
