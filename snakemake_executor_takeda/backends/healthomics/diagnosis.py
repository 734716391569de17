"""Puts a run that did not complete into words: kind, reasons, failing tasks, last log lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends.healthomics.failures import classify
from snakemake_executor_takeda.values import FailureKind, Outcome

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_omics import OmicsClient

LOG_GROUP = "/aws/omics/WorkflowLog"
MAX_TASKS_SHOWN = 3
LOG_TAIL_LINES = 20


def diagnose(omics: OmicsClient, logs: CloudWatchLogsClient, run: Mapping[str, Any]) -> Outcome:
    """The outcome of a run (GetRun's answer) whose status is FAILED, CANCELLED or DELETED."""
    detail = run_facts(run)
    wall_seconds = wall_time(run)
    if run["status"] != "FAILED":
        return Outcome(
            FailureKind.USER if run["status"] == "CANCELLED" else FailureKind.LOST,
            reason=f"run {run['id']} was {run['status'].lower()}; it saved no outputs",
            wall_seconds=wall_seconds,
            detail=detail,
        )
    tasks = _failed_tasks(omics, run["id"])
    reason = str(run.get("failureReason") or "")
    kind, advice = classify(reason, [str(task.get("failureReason") or "") for task in tasks])
    said = [": ".join(filter(None, (reason, _one_line(run.get("statusMessage")))))]
    said += [
        f"task {task['name']}: "
        + (
            ": ".join(
                filter(None, (task.get("failureReason"), _one_line(task.get("statusMessage"))))
            )
            or "failed"
        )
        for task in tasks
    ]
    stream = f"run/{run['id']}/task/{tasks[0]['taskId']}" if tasks else f"run/{run['id']}/engine"
    return Outcome(
        kind,
        reason="; ".join(filter(None, said)) or "the run failed",
        log_tail=log_tail(logs, stream),
        log_location=f"CloudWatch Logs {LOG_GROUP}, stream {stream}",
        advice=advice,
        wall_seconds=wall_seconds,
        detail=detail,
    )


def run_facts(run: Mapping[str, Any]) -> dict[str, Any]:
    """What the event log keeps of a run."""
    return {
        "run_id": run["id"],
        "uuid": run.get("uuid"),
        "workflow_id": run.get("workflowId"),
        "workflow_version": run.get("workflowVersionName"),
        "run_output_uri": run.get("runOutputUri"),
    }


def wall_time(run: Mapping[str, Any]) -> float | None:
    if run.get("startTime") and run.get("stopTime"):
        return float((run["stopTime"] - run["startTime"]).total_seconds())
    return None


def log_tail(logs: CloudWatchLogsClient, stream: str) -> tuple[str, ...]:
    """The last lines of a log stream; empty where there is none, or none that we may read."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        events = logs.get_log_events(
            logGroupName=LOG_GROUP,
            logStreamName=stream,
            limit=LOG_TAIL_LINES,
            startFromHead=False,
        )["events"]
    except (ClientError, BotoCoreError):
        return ()  # The outcome stands without it, and says where the log would be.
    return tuple(str(event.get("message", "")).rstrip() for event in events)


def _failed_tasks(omics: OmicsClient, run_id: str) -> list[Mapping[str, Any]]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        items = omics.list_run_tasks(id=run_id, status="FAILED")["items"][:MAX_TASKS_SHOWN]
        return [omics.get_run_task(id=run_id, taskId=item["taskId"]) for item in items]
    except (ClientError, BotoCoreError):
        return []  # Likewise.


def _one_line(text: Any) -> str:
    return " ".join(str(text or "").split())
