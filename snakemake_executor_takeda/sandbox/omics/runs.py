"""The operations about runs and their tasks."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.sandbox.omics import limits, parameters
from snakemake_executor_takeda.sandbox.omics.answers import conflict, invalid
from snakemake_executor_takeda.sandbox.omics.base import Base
from snakemake_executor_takeda.sandbox.omics.caches import RunCaches
from snakemake_executor_takeda.sandbox.omics.storage import bucket_exists
from snakemake_executor_takeda.sandbox.omics.store import Record
from snakemake_executor_takeda.sandbox.omics.supervisor import ENDED, Supervisor
from snakemake_executor_takeda.sandbox.omics.workflows import Workflows
from snakemake_executor_takeda.sandbox.services import Handler

_KEPT = (
    "roleArn",
    "name",
    "cacheId",
    "runGroupId",
    "priority",
    "parameters",
    "logLevel",
    "tags",
    "networkingMode",
    "scratchStorageMode",
    "engineSettings",
    "batchId",
    "_setting",
)
_COPIED = (
    *("workflowId", "workflowType", "workflowVersionName", "name", "cacheId", "cacheBehavior"),
    *("runGroupId", "priority", "parameters", "storageCapacity", "storageType", "logLevel"),
    *("retentionMode", "engineSettings"),
)
"""What a run that duplicates another takes over where it says nothing itself."""


class Runs:
    def __init__(
        self, base: Base, workflows: Workflows, caches: RunCaches, supervisor: Supervisor
    ) -> None:
        self._context = base.context
        self._store = base.store
        self._answers = base.answers
        self._requests = base.requests
        self._events = base.events
        self._mishaps = base.mishaps
        self._workflows = workflows
        self._caches = caches
        self._supervisor = supervisor
        self.handlers: Mapping[str, Handler] = {
            "StartRun": self._start,
            "GetRun": self._get,
            "ListRuns": self._list,
            "CancelRun": lambda params: self.cancel(params["id"]),
            "DeleteRun": lambda params: self.delete(params["id"]),
            "ListRunTasks": self._list_tasks,
            "GetRunTask": self._get_task,
        }

    def _start(self, params: dict[str, Any]) -> Mapping[str, Any]:
        wanted = self._duplicated(params) if params.get("runId") else params
        # Whoever repeats a request gets the run, even if it could not be started again.
        key = self._requests.once("StartRun", params, lambda: self.begin(wanted))
        run_id, _, run_uuid = key.partition("/")
        body = self._store.get("run", run_id)
        if body is None or body["uuid"] != run_uuid:
            raise conflict(f"the run {run_id} of this requestId was deleted")
        return self._answers.view("StartRun", body)

    def _duplicated(self, params: Mapping[str, Any]) -> dict[str, Any]:
        if params.get("workflowId"):
            raise invalid("give workflowId or runId, not both")
        run = self._answers.need("run", params["runId"], f"run {params['runId']}")
        copied = {name: run[name] for name in _COPIED if run.get(name) is not None}
        return {**copied, **params}

    def check(self, params: Mapping[str, Any]) -> Record:
        """What a run's start refuses, its parameters' names apart; gives the workflow's record."""
        definition = self._workflows.runnable(params)
        parameters.check_run(params)
        if group_id := params.get("runGroupId"):
            self._answers.need("group", group_id, f"run group {group_id}")
        self._caches.check(params)
        if params.get("engineSettings") and definition["engine"] != "NEXTFLOW":
            raise invalid("engineSettings are for Nextflow workflows only")
        if "outputUri" in params and not bucket_exists(self._context, params["outputUri"]):
            raise invalid(f"the bucket of outputUri {params['outputUri']} does not exist")
        return definition

    def begin(self, params: Mapping[str, Any]) -> str:
        """Start a run; gives `id/uuid`. Raises ServiceError for what StartRun refuses."""
        definition = self.check(params)
        if definition.get("_checks_parameters", True):
            template = definition.get("parameterTemplate") or {}
            parameters.check_parameters(params.get("parameters", {}), template)
        run_id, run_uuid = self._store.new_id("run"), str(uuid.uuid4())
        storage = params.get("storageType") or definition.get("storageType") or "STATIC"
        prefix = params.get("outputUriPrefixMode", "SERVICE_DEFINED")
        base = params["outputUri"].rstrip("/")
        body: Record = {name: params[name] for name in _KEPT if name in params}
        body |= {
            "id": run_id,
            "arn": self._answers.arn(f"run/{run_id}"),
            "uuid": run_uuid,
            "status": "PENDING",
            "workflowId": params["workflowId"],
            "workflowType": params.get("workflowType", "PRIVATE"),
            "workflowVersionName": params.get("workflowVersionName"),
            "workflowName": self._workflows.name_of(params["workflowId"]),
            "workflowUuid": definition["uuid"],
            "digest": f"sha256:{definition['digest']}",
            "outputUri": params["outputUri"],
            "outputUriPrefixMode": prefix,
            "runOutputUri": base if prefix == "NONE_WITH_OVERWRITE" else f"{base}/{run_id}",
            "startedBy": f"arn:aws:iam::{self._context.account_id}:root",
            "creationTime": time.time(),
            "retentionMode": params.get("retentionMode", "RETAIN"),
            "storageType": storage,
            "storageCapacity": _capacity(storage, params, definition),
            "cacheBehavior": self._caches.behaviour(params),
            "accelerators": definition.get("accelerators"),
            "logLocation": {
                "engineLogStream": self._stream(f"run/{run_id}/engine"),
                "runLogStream": self._stream(f"run/{run_id}"),
            },
            "_engine": definition["engine"],
            "_registries": definition.get("containerRegistryMap"),
            "_definition": str(Path(definition["_place"], "files", definition["main"])),
        }
        body["_workflow_name"] = body["workflowName"]
        body = {name: value for name, value in body.items() if value is not None}
        self._store.insert("run", run_id, body, parent=params.get("batchId", ""))
        self._mishaps.note(body)
        self._events.run(body)
        self._supervisor.launch(body)
        return f"{run_id}/{run_uuid}"

    def _stream(self, stream: str) -> str:
        region, account = self._context.region, self._context.account_id
        return (
            f"arn:aws:logs:{region}:{account}:log-group:/aws/omics/WorkflowLog:log-stream:{stream}"
        )

    def _need(self, run_id: str) -> Record:
        return self._answers.need("run", run_id, f"run {run_id}")

    def _get(self, params: dict[str, Any]) -> Mapping[str, Any]:
        if params.get("export"):
            raise invalid("the sandbox exports no definitions")
        return self._answers.view("GetRun", self._need(params["id"]))

    def _list(self, params: dict[str, Any]) -> Mapping[str, Any]:
        rows = self._store.numbered("run", params.get("batchId"), newest_first=True)
        return self._answers.page(
            "ListRuns",
            params,
            rows,
            newest_first=True,
            filters=["name", "status", "runGroupId", "batchId"],
        )

    def cancel(self, run_id: str) -> None:
        self._need(run_id)

        def stopping(run: Record) -> bool | None:
            if run["status"] in ENDED:
                raise conflict(f"run {run_id} is {run['status']}")
            if run["status"] == "STOPPING":
                return False
            run["status"] = "STOPPING"
            changed.append(run)
            return None

        changed: list[Record] = []
        self._store.change("run", run_id, stopping)
        for run in changed:
            self._events.run(run)
        self._supervisor.cancel(run_id)

    def delete(self, run_id: str) -> None:
        """What it exported and logged stays; its id may come again, its uuid does not."""
        run = self._need(run_id)
        if run["status"] not in ENDED:
            raise conflict(f"run {run_id} is {run['status']}; cancel it first")
        for task in self._store.records("task", run_id):
            self._store.delete("task", f"{run_id}/{task['taskId']}")
        self._store.delete("run", run_id)
        shutil.rmtree(self._supervisor.directory(run_id), ignore_errors=True)
        self._store.free_id("run", run_id)

    def _list_tasks(self, params: dict[str, Any]) -> Mapping[str, Any]:
        run_id = params["id"]
        self._need(run_id)
        return self._answers.page(
            "ListRunTasks", params, self._store.numbered("task", run_id), filters=["status"]
        )

    def _get_task(self, params: dict[str, Any]) -> Mapping[str, Any]:
        task_id = params["taskId"]
        body = self._answers.need("task", f"{params['id']}/{task_id}", f"task {task_id}")
        return self._answers.view("GetRunTask", body)


def _capacity(storage: str, params: Mapping[str, Any], definition: Mapping[str, Any]) -> int | None:
    """GiB of a STATIC run, rounded up as HealthOmics does. DYNAMIC ignores what was asked for."""
    if storage != "STATIC":
        return None
    asked = int(params.get("storageCapacity") or definition.get("storageCapacity") or 0)
    if asked <= limits.STATIC_GIB:
        return limits.STATIC_GIB
    step = 2 * limits.STATIC_GIB
    return -(-asked // step) * step
