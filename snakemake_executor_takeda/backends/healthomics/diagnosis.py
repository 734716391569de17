"""Puts a run that did not complete into words: kind, reasons, failing tasks, last log lines."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends.healthomics.failures import classify
from snakemake_executor_takeda.backends.healthomics.task_table import tasks_of
from snakemake_executor_takeda.values import FailureKind, Outcome

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_omics import OmicsClient

LOG_GROUP = "/aws/omics/WorkflowLog"
MAX_TASKS_SHOWN = 3
LOG_TAIL_LINES = 20
MAX_LOG_LINES = 10_000
"""Of a stream that a rule's log gets, its last."""


def diagnose(omics: OmicsClient, logs: CloudWatchLogsClient, run: Mapping[str, Any]) -> Outcome:
    """The outcome of a run (GetRun's answer) whose status is FAILED, CANCELLED or DELETED."""
    detail = run_facts(run)
    wall_seconds = wall_time(run)
    if run["status"] != "FAILED":
        return Outcome(
            FailureKind.USER if run["status"] == "CANCELLED" else FailureKind.LOST,
            reason=f"run {run['id']} was {run['status'].lower()}; {lost_with(omics, run)}",
            wall_seconds=wall_seconds,
            detail=detail,
        )
    tasks = failed_tasks(omics, run["id"])
    reason = str(run.get("failureReason") or "")
    verdict = classify(reason, [str(task.get("failureReason") or "") for task in tasks])
    said = said_of(run, tasks)
    stream = f"run/{run['id']}/task/{tasks[0]['taskId']}" if tasks else f"run/{run['id']}/engine"
    tail = log_tail(logs, stream)
    for task in tasks[1:]:
        of_task = log_tail(logs, f"run/{run['id']}/task/{task['taskId']}")
        if of_task:
            tail = (*tail, f"-- task {task['name']}:", *of_task)
    return Outcome(
        verdict.kind,
        reason="; ".join(filter(None, said)) or "the run failed",
        log_tail=tail,
        log_location=f"CloudWatch Logs {LOG_GROUP}, stream {stream}",
        advice=verdict.advice,
        permanent=verdict.permanent,
        wall_seconds=wall_seconds,
        detail=detail,
    )


def said_of(run: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a run and its failed tasks say, each once: a run may only repeat a task."""
    reason, message = str(run.get("failureReason") or ""), _one_line(run.get("statusMessage"))
    said = []
    for task in tasks:
        own = _one_line(task.get("statusMessage"))
        if own and (message == own or _names(message, str(task["name"]))):
            message = ""
        of_task = str(task.get("failureReason") or "")
        words = _words("" if of_task == reason else of_task, own)
        said.append(f"task {task['name']}: {words or 'failed'}")
    return [_words(reason, message), *said]


def _names(message: str, task: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(task)}(?![\w-])", message) is not None


def lost_with(omics: OmicsClient, run: Mapping[str, Any]) -> str:
    """What is lost with a run that saves no outputs, and what its cache keeps."""
    from botocore.exceptions import BotoCoreError, ClientError

    words = "it saved no outputs"
    try:
        tasks = tasks_of(omics, run["id"])
    except (ClientError, BotoCoreError):
        return words  # The outcome stands without it.
    if tasks:
        done = sum(task["status"] == "COMPLETED" for task in tasks)
        lost = sum(
            (task["stopTime"] - task["startTime"]).total_seconds()
            for task in tasks
            if task.get("startTime") and task.get("stopTime")
        )
        words += f": {done} of {len(tasks)} tasks begun had completed, {lost:.0f} s of tasks' time"
        if run.get("cacheId"):
            words += f"; run cache {run['cacheId']} may have kept the completed ones"
        else:
            words += " are lost (a cache_id on the target would keep completed tasks)"
    return words


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
    return last_lines(logs, stream, LOG_TAIL_LINES)


def last_lines(logs: CloudWatchLogsClient, stream: str, count: int) -> tuple[str, ...]:
    """The same with up to 10,000 lines, or 1 MB of them, which one call gives."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        events = logs.get_log_events(
            logGroupName=LOG_GROUP,
            logStreamName=stream,
            limit=count,
            startFromHead=False,
        )["events"]
    except (ClientError, BotoCoreError):
        return ()  # The outcome stands without it, and says where the log would be.
    return tuple(str(event.get("message", "")).rstrip() for event in events)


def failed_tasks(omics: OmicsClient, run_id: str) -> list[Mapping[str, Any]]:
    """GetRunTask's answers about the first of those that failed; empty where they cannot be asked for."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        items = omics.list_run_tasks(id=run_id, status="FAILED")["items"][:MAX_TASKS_SHOWN]
        return [omics.get_run_task(id=run_id, taskId=item["taskId"]) for item in items]
    except (ClientError, BotoCoreError):
        return []  # Likewise.


def _words(reason: Any, message: Any) -> str:
    return ": ".join(filter(None, (str(reason or ""), _one_line(message))))


def _one_line(text: Any) -> str:
    return " ".join(str(text or "").split())
