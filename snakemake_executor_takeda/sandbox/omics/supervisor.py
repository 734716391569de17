"""Takes each run from PENDING to its end: one thread a run, one process group a run."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.sandbox import processes
from snakemake_executor_takeda.sandbox.omics import tasks
from snakemake_executor_takeda.sandbox.omics.store import Record, Store
from snakemake_executor_takeda.sandbox.services import Context

LOG_GROUP = "/aws/omics/WorkflowLog"
RUN_MARK = "TAKEDA_SANDBOX_OMICS_RUN"
ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED", "DELETED"})

_PENDING_SECONDS = 0.2
_STARTING_SECONDS = 0.2
_LOOK_SECONDS = 0.3
_LOG_PATIENCE_SECONDS = 15.0


class Supervisor:
    """Runs as many at a time as the machine has cores (at least two); the rest stays PENDING."""

    def __init__(self, context: Context, store: Store) -> None:
        self._context = context
        self._store = store
        self._slots = threading.Semaphore(max(2, os.cpu_count() or 1))
        self._lock = threading.Lock()
        self._threads: dict[str, threading.Thread] = {}
        self._stops: dict[str, threading.Event] = {}
        self._closing = False

    def start(self) -> None:
        """Take up what an earlier life left: its processes end, and their runs fail honestly."""
        for run in self._store.records("run"):
            if run["status"] in ENDED:
                continue
            processes.end_marked(**{RUN_MARK: run["uuid"]})
            if run["status"] == "PENDING":
                self.launch(run["id"])
            elif run["status"] == "STOPPING":
                self._remove_exports(run)
                self._end(run["id"], "CANCELLED")
            else:
                self._remove_exports(run)
                self._sync_tasks(run["id"], run_is_over=True)
                self._end(
                    run["id"],
                    "FAILED",
                    failureReason="SERVICE_ERROR",
                    statusMessage="the sandbox was restarted while this run was under way",
                )

    def stop(self) -> None:
        """End every process. The runs under way are reported as failed at the next start."""
        self._closing = True
        with self._lock:
            threads = list(self._threads.values())
            for event in self._stops.values():
                event.set()
        for thread in threads:
            thread.join()

    def launch(self, run_id: str) -> None:
        thread = threading.Thread(
            target=self._live, args=(run_id,), name=f"omics run {run_id}", daemon=True
        )
        with self._lock:
            if self._closing:
                return
            self._stops[run_id] = threading.Event()
            self._threads[run_id] = thread
            # Under the lock, so that `stop` never joins a thread that has not begun.
            thread.start()

    def cancel(self, run_id: str) -> None:
        with self._lock:
            stop = self._stops.get(run_id)
        if stop is not None:
            stop.set()

    def directory(self, run_id: str) -> Path:
        return self._context.state_dir / "omics" / "runs" / run_id

    def _live(self, run_id: str) -> None:
        stop = self._stops[run_id]
        try:
            with contextlib.ExitStack() as cleanup:
                waited = stop.wait(_PENDING_SECONDS) or not self._take_slot(stop, cleanup)
                if not waited:
                    self._set(run_id, "STARTING", only_from=("PENDING",))
                    waited = stop.wait(_STARTING_SECONDS)
                if not waited:
                    self._execute(run_id, stop)
                elif not self._closing:
                    self._end(run_id, "CANCELLED")
        except Exception as error:  # noqa: BLE001 - the run must end, and its client hear of it
            self._end(
                run_id,
                "FAILED",
                failureReason="SERVICE_ERROR",
                statusMessage=f"the sandbox broke: {type(error).__name__}: {error}",
            )
        finally:
            with self._lock:
                self._threads.pop(run_id, None)
                self._stops.pop(run_id, None)

    def _take_slot(self, stop: threading.Event, cleanup: contextlib.ExitStack) -> bool:
        while not self._slots.acquire(timeout=_LOOK_SECONDS):
            if stop.is_set():
                return False
        cleanup.callback(self._slots.release)
        return not stop.is_set()

    def _execute(self, run_id: str, stop: threading.Event) -> None:
        run = self._store.get("run", run_id)
        assert run is not None
        directory = self.directory(run_id)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        (directory / "request.json").write_text(
            json.dumps(
                {
                    "definition": run["_definition"],
                    "parameters": run.get("parameters", {}),
                    "run_output_uri": run["runOutputUri"],
                    "runner": "process" if self._context.runner == "stub" else self._context.runner,
                }
            )
        )
        process = processes.start(
            [sys.executable, "-P", "-m", f"{__package__}.engine", str(directory)],
            environment=self._environment(run),
            directory=directory,
            output=directory / "engine.log",
        )
        self._set(run_id, "RUNNING", only_from=("STARTING",), startTime=time.time())
        code = self._watch(run_id, process, stop)
        # Whatever a task left behind in a session of its own ends with the run.
        processes.end_marked(**{RUN_MARK: run["uuid"]})
        if stop.is_set():
            if not self._closing:
                self._remove_exports(run)
                self._finish(run_id, "CANCELLED", {})
            return
        result = _read_result(directory)
        if result is None:
            self._finish(
                run_id,
                "FAILED",
                {
                    "failureReason": "SERVICE_ERROR",
                    "statusMessage": f"the engine ended with exit status {code}; see its log",
                },
            )
        else:
            self._finish(run_id, "FAILED" if result else "COMPLETED", result)

    def _watch(
        self, run_id: str, process: subprocess.Popen[bytes], stop: threading.Event
    ) -> int | None:
        run = self._store.get("run", run_id)
        assert run is not None
        while True:
            try:
                return process.wait(_LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                self._sync_tasks(run_id, run_is_over=False)
            if stop.is_set():
                processes.end_marked(**{RUN_MARK: run["uuid"]})
                return process.wait()

    def _finish(self, run_id: str, status: str, result: Mapping[str, Any]) -> None:
        """Logs first: who hears that a run has ended may want to read them at once."""
        self._sync_tasks(run_id, run_is_over=True)
        self._publish_logs(run_id, status, result)
        self._end(run_id, status, **result)
        if status == "COMPLETED":
            # Intermediate files are HealthOmics' own; what remains is in S3 and the logs.
            shutil.rmtree(self.directory(run_id) / "run", ignore_errors=True)
            shutil.rmtree(self.directory(run_id) / "inputs", ignore_errors=True)

    def _set(self, run_id: str, status: str, *, only_from: tuple[str, ...], **more: Any) -> None:
        def change(run: Record) -> bool | None:
            if run["status"] not in only_from:
                return False
            run.update(status=status, **more)
            return None

        self._store.change("run", run_id, change)

    def _end(self, run_id: str, status: str, **more: Any) -> None:
        def change(run: Record) -> bool | None:
            if run["status"] in ENDED:
                return False
            run.update(status=status, stopTime=time.time(), **more)
            return None

        self._store.change("run", run_id, change)

    def _sync_tasks(self, run_id: str, *, run_is_over: bool) -> None:
        known = {task["_place"]: task for task in self._store.records("task", run_id)}
        for place, record in tasks.found_tasks(self.directory(run_id) / "run"):
            described = tasks.describe(record, run_is_over=run_is_over)
            if place in known:
                self._store.update("task", f"{run_id}/{known[place]['taskId']}", **described)
                continue
            task_id = self._store.new_id("task")
            body = {
                **described,
                "taskId": task_id,
                "_place": place,
                "logStream": self._log_stream(f"run/{run_id}/task/{task_id}"),
            }
            self._store.insert("task", f"{run_id}/{task_id}", body, parent=run_id)

    def _publish_logs(self, run_id: str, status: str, result: Mapping[str, Any]) -> None:
        run = self._store.get("run", run_id)
        if run is None or self._context.write_log is None or run.get("logLevel") == "OFF":
            return
        directory = self.directory(run_id)
        summary = directory / "run.log"
        summary.write_text(_summary(run, status, result))
        streams = {f"run/{run_id}": summary, f"run/{run_id}/engine": directory / "engine.log"}
        for task in self._store.records("task", run_id):
            path = directory / f"task-{task['taskId']}.log"
            tasks.write_task_log(directory / "run" / task["_place"], path)
            streams[f"run/{run_id}/task/{task['taskId']}"] = path
        left = threading.Semaphore(0)
        for stream, path in streams.items():
            self._context.write_log(LOG_GROUP, stream, path, left.release)
        deadline = time.monotonic() + _LOG_PATIENCE_SECONDS
        for _ in streams:
            left.acquire(timeout=max(0.0, deadline - time.monotonic()))

    def _log_stream(self, stream: str) -> str:
        region, account = self._context.region, self._context.account_id
        return f"arn:aws:logs:{region}:{account}:log-group:{LOG_GROUP}:log-stream:{stream}"

    def _environment(self, run: Mapping[str, Any]) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        marks = {processes.MARK: str(self._context.state_dir), RUN_MARK: run["uuid"]}
        return {**own, **self._context.environment, **marks}

    def _remove_exports(self, run: Mapping[str, Any]) -> None:
        """A cancelled or lost run exports nothing, even where it was about to."""
        from botocore.exceptions import BotoCoreError, ClientError

        from snakemake_executor_takeda.backends.aws import split_s3_uri
        from snakemake_executor_takeda.sandbox.omics.storage import sandbox_s3

        bucket, key = split_s3_uri(run["runOutputUri"])
        try:
            s3 = sandbox_s3(self._context)
            for page in s3.get_paginator("list_objects_v2").paginate(
                Bucket=bucket, Prefix=f"{key}/"
            ):
                for item in page.get("Contents", []):
                    s3.delete_object(Bucket=bucket, Key=item["Key"])
        except (ClientError, BotoCoreError) as error:
            print(f"run {run['id']}: what it exported remains: {error}", file=sys.stderr)


def _read_result(directory: Path) -> dict[str, Any] | None:
    try:
        result: dict[str, Any] = json.loads((directory / "result.json").read_text())
    except (OSError, ValueError):
        return None
    if "statusMessage" in result:
        result["statusMessage"] = " ".join(result["statusMessage"].split())
    return result


def _summary(run: Mapping[str, Any], status: str, result: Mapping[str, Any]) -> str:
    def line(when: float | None, words: str) -> str:
        moment = datetime.fromtimestamp(when or time.time(), UTC)
        return f"{moment.isoformat(timespec='milliseconds')} {words}\n"

    reason = ": ".join(filter(None, (result.get("failureReason"), result.get("statusMessage"))))
    return (
        line(run["creationTime"], f"PENDING {run.get('name', '')}")
        + line(run.get("startTime"), "RUNNING")
        + line(None, f"{status} {reason}".rstrip())
    )
