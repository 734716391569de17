"""EventBridge's events of HealthOmics: a workflow, a run, a task or a batch has a new status."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Mapping
from typing import Any

from snakemake_executor_takeda.sandbox.injecting import Subject
from snakemake_executor_takeda.sandbox.omics.mishaps import Mishaps, subject
from snakemake_executor_takeda.sandbox.services import Context

_VERSION = "1.0.0"


class Events:
    """Publishes changes of status while some rule of EventBridge could want them."""

    def __init__(self, context: Context, mishaps: Mishaps) -> None:
        self._context = context
        self._bus = context.events
        self._mishaps = mishaps

    def workflow(self, body: Mapping[str, Any]) -> None:
        """A workflow, or a version of one."""
        whose = Subject(body["uuid"], subject(body).target, status=body["status"])
        detail = {
            "workflowId": body.get("workflowId", body.get("id")),
            "workflowName": body.get("name"),
            "workflowVersionName": body.get("versionName"),
        }
        self._put("Workflow Status Change", whose, body, detail)

    def run(self, run: Mapping[str, Any]) -> None:
        detail = {**_of_run(run), "runOutputUri": run["runOutputUri"]}
        self._put("Run Status Change", subject(run, run["status"]), run, detail)

    def task(self, run: Mapping[str, Any], task: Mapping[str, Any]) -> None:
        whose = Subject(run["uuid"], subject(run).target, status=task["taskId"] + task["status"])
        detail = {**_of_run(run), "name": task["name"]}
        detail |= {"runArn": run["arn"], "runUuid": run["uuid"]}
        arn = {"arn": self._task_arn(task["taskId"]), "status": task["status"]}
        self._put("Task Status Change", whose, arn, detail)

    def batch(self, batch: Mapping[str, Any], counts: Mapping[str, int]) -> None:
        """`counts` are those of GetBatch's two summaries."""
        detail: dict[str, Any] = {
            "batchId": batch["id"],
            "batchName": batch.get("name"),
            "workflowId": batch["defaultRunSetting"]["workflowId"],
        }
        if batch["status"] == "FAILED":
            detail |= {
                "failureReason": "VALIDATION_EXCEPTION",
                "failureMessage": batch.get("failureReason"),
            }
        else:
            detail["totalRuns"] = str(batch["totalRuns"])
            detail |= {name: str(count) for name, count in counts.items()}
        whose = Subject(batch["uuid"], subject(batch).target, status=batch["status"])
        self._put("RunBatch Status Change", whose, batch, detail)

    def _task_arn(self, task_id: str) -> str:
        return f"arn:aws:omics:{self._context.region}:{self._context.account_id}:task/{task_id}"

    def _put(
        self, kind: str, whose: Subject, body: Mapping[str, Any], detail: Mapping[str, Any]
    ) -> None:
        if self._bus is None or not self._bus.has_rules:
            return
        said = {
            "omicsVersion": _VERSION,
            "arn": body["arn"],
            "status": body["status"],
            "uuid": body.get("uuid"),
            **detail,
        }
        event = {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": kind,
            "source": "aws.omics",
            "account": self._context.account_id,
            "time": time.time(),
            "region": self._context.region,
            "resources": [body["arn"]],
            "detail": {name: value for name, value in said.items() if value is not None},
        }
        for seconds in self._mishaps.delays_of_event(whose):
            if seconds:
                late = threading.Timer(seconds, self._bus.put, [[event]])
                late.daemon = True
                late.start()
            else:
                self._bus.put([event])


def _of_run(run: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "runId": run["id"],
        "runName": run.get("name"),
        "workflowId": run.get("workflowId"),
        "workflowName": run.get("_workflow_name"),
    }
