"""Takes each run from PENDING to its end: one thread decides which may start, one follows each."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.sandbox import processes
from snakemake_executor_takeda.sandbox.omics import caches, images, limits, manifest, tasks
from snakemake_executor_takeda.sandbox.omics.events import Events
from snakemake_executor_takeda.sandbox.omics.mishaps import Mishaps
from snakemake_executor_takeda.sandbox.omics.scheduling import (
    Waiting,
    seconds_until_due,
    startable,
)
from snakemake_executor_takeda.sandbox.omics.storage import remove
from snakemake_executor_takeda.sandbox.omics.store import Record, Store
from snakemake_executor_takeda.sandbox.services import Context
from snakemake_executor_takeda.sandbox.wdl_run import GROUP_LIMITS, GROUP_VARIABLE

LOG_GROUP = "/aws/omics/WorkflowLog"
RUN_MARK = "TAKEDA_SANDBOX_OMICS_RUN"
ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED", "DELETED"})
"""States of a run that it does not leave."""
MINUTE_SECONDS = 60.0

_CACHED_AFTER = {"CACHE_ALWAYS": ("COMPLETED", "FAILED"), caches.ON_FAILURE: ("FAILED",)}
"""A run's cache behaviour → the ends after which its tasks' outputs go to the cache."""
_PENDING_SECONDS = 0.2
_STARTING_SECONDS = 0.2
_LOOK_SECONDS = 0.3
_LOG_PATIENCE_SECONDS = 15.0


class Supervisor:
    """Runs as many at a time as the machine has cores (at least two); the rest stays PENDING."""

    def __init__(
        self,
        context: Context,
        store: Store,
        events: Events,
        mishaps: Mishaps,
        on_end: Callable[[Record], None],
    ) -> None:
        """`on_end` is told of each run that ended, by the thread that ended it."""
        self._context = context
        self._store = store
        self._events = events
        self._mishaps = mishaps
        self._on_end = on_end
        self._slots = max(2, os.cpu_count() or 1)
        self._changed = threading.Condition()
        self._waiting: dict[str, Waiting] = {}
        self._active: dict[str, str | None] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._stops: dict[str, threading.Event] = {}
        self._order = 0
        self._closing = False
        self._scheduler = threading.Thread(target=self._schedule, name="omics runs", daemon=True)

    def start(self) -> None:
        """Take up what an earlier life left: its processes end, and their runs fail honestly."""
        for run in self._store.records("run"):
            if run["status"] in ENDED:
                continue
            processes.end_marked(**{RUN_MARK: run["uuid"]})
            if run["status"] == "PENDING":
                self.launch(run)
            elif run["status"] == "STOPPING":
                self._remove_exports(run)
                self._sync_tasks(run["id"], run_is_over=True)
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
        self._scheduler.start()

    def stop(self) -> None:
        """End every process. The runs under way are reported as failed at the next start."""
        with self._changed:
            self._closing = True
            threads = list(self._threads.values())
            for event in self._stops.values():
                event.set()
            self._changed.notify_all()
        for thread in threads:
            thread.join()
        if self._scheduler.is_alive():
            self._scheduler.join()

    def launch(self, run: Mapping[str, Any]) -> None:
        """A PENDING run is to start when there is room for it."""
        pending = _PENDING_SECONDS + self._mishaps.seconds_in("PENDING", run)
        with self._changed:
            self._order += 1
            self._waiting[run["id"]] = Waiting(
                run["id"],
                self._order,
                run.get("runGroupId"),
                run.get("priority", 0),
                time.monotonic() + pending,
            )
            self._stops[run["id"]] = threading.Event()
            self._changed.notify_all()

    def cancel(self, run_id: str) -> None:
        """End a run whose status is STOPPING."""
        with self._changed:
            never_started = self._waiting.pop(run_id, None) is not None
            stop = self._stops.get(run_id)
            if stop is not None:
                stop.set()
            if never_started:
                del self._stops[run_id]
        if never_started:
            self._end(run_id, "CANCELLED")

    def limits_changed(self, group_id: str) -> None:
        """A run group allows more, or less."""
        if self._group_folder(group_id).is_dir():
            self._write_limits(group_id)
        with self._changed:
            self._changed.notify_all()

    def directory(self, run_id: str) -> Path:
        return self._context.state_dir / "omics" / "runs" / run_id

    def _schedule(self) -> None:
        with self._changed:
            while not self._closing:
                now = time.monotonic()
                for one in startable(
                    self._waiting.values(),
                    Counter(self._active.values()),
                    self._max_runs(),
                    self._slots - len(self._active),
                    now,
                ):
                    self._begin(one)
                self._changed.wait(seconds_until_due(self._waiting.values(), now))

    def _max_runs(self) -> dict[str | None, int]:
        groups = {one.group_id for one in self._waiting.values()} - {None}
        found = {group: self._store.get("group", str(group)) or {} for group in groups}
        return {group: body["maxRuns"] for group, body in found.items() if body.get("maxRuns")}

    def _begin(self, one: Waiting) -> None:
        del self._waiting[one.run_id]
        self._active[one.run_id] = one.group_id
        thread = threading.Thread(
            target=self._live, args=(one.run_id,), name=f"omics run {one.run_id}", daemon=True
        )
        self._threads[one.run_id] = thread
        thread.start()

    def _live(self, run_id: str) -> None:
        stop = self._stops[run_id]
        try:
            self._set(run_id, "STARTING", only_from=("PENDING",))
            run = self._store.get("run", run_id) or {}
            seconds = _STARTING_SECONDS + self._mishaps.seconds_in("STARTING", run)
            if not stop.wait(seconds):
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
            with self._changed:
                self._threads.pop(run_id, None)
                # a run of this id may wait again by now
                if self._stops.get(run_id) is stop:
                    del self._stops[run_id]
                self._active.pop(run_id, None)
                self._changed.notify_all()

    def _execute(self, run_id: str, stop: threading.Event) -> None:
        run = self._store.get("run", run_id)
        assert run is not None
        directory = self.directory(run_id)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        cache_id = run.get("cacheId")
        (directory / "request.json").write_text(
            json.dumps(
                {
                    "engine": run.get("_engine", "WDL"),
                    "definition": run["_definition"],
                    "parameters": run.get("parameters", {}),
                    "engine_settings": run.get("engineSettings"),
                    "run_output_uri": run["runOutputUri"],
                    "runner": "process" if self._context.runner == "stub" else self._context.runner,
                    "cache": caches.entries(self._store, cache_id) if cache_id else None,
                    "failure": self._mishaps.failure_of(run),
                    "region": self._context.region,
                }
            )
        )
        process = processes.start(
            [sys.executable, "-P", "-m", f"{__package__}.engine", str(directory)],
            environment=self._environment(run),
            directory=directory,
            output=directory / "engine.log",
        )
        self._store.note_start(run)
        self._set(run_id, "RUNNING", only_from=("STARTING",), startTime=time.time())
        longest = self._max_minutes(run)
        code = self._watch(run_id, process, stop, longest * MINUTE_SECONDS)
        # Whatever a task left behind in a session of its own ends with the run.
        processes.end_marked(**{RUN_MARK: run["uuid"]})
        result = _read_result(directory)
        if stop.is_set():
            if not self._closing:
                self._remove_exports(run)
                self._finish(run_id, "CANCELLED", {})
        elif code is None:
            self._remove_exports(run)
            says = f"Run timeout after {longest} minutes."
            failure = {"failureReason": "RUN_TIMED_OUT", "statusMessage": says}
            self._finish(run_id, "FAILED", failure)
        elif result is None:
            says = f"the engine ended with exit status {code}; see its log"
            failure = {"failureReason": "SERVICE_ERROR", "statusMessage": says}
            self._finish(run_id, "FAILED", failure)
        else:
            self._finish(run_id, "FAILED" if "failureReason" in result else "COMPLETED", result)

    def _max_minutes(self, run: Mapping[str, Any]) -> int:
        group = self._store.get("group", run.get("runGroupId", "")) or {}
        return min(limits.RUN_MINUTES, int(group.get("maxDuration", limits.RUN_MINUTES)))

    def _watch(
        self,
        run_id: str,
        process: subprocess.Popen[bytes],
        stop: threading.Event,
        longest_seconds: float,
    ) -> int | None:
        """The exit status, None where it took too long; all its processes have ended then."""
        run = self._store.get("run", run_id)
        assert run is not None
        deadline = time.monotonic() + longest_seconds
        while True:
            try:
                return process.wait(_LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                self._sync_tasks(run_id, run_is_over=False)
            if stop.is_set() or time.monotonic() > deadline:
                processes.end_marked(**{RUN_MARK: run["uuid"]})
                code = process.wait()
                return code if stop.is_set() else None

    def _finish(self, run_id: str, status: str, result: Mapping[str, Any]) -> None:
        """Logs first: who hears that a run has ended may want to read them at once."""
        directory = self.directory(run_id)
        self._sync_tasks(run_id, run_is_over=True)
        run = self._store.get("run", run_id)
        assert run is not None
        used = manifest.size_of(directory)
        changes = dict(result)
        if run["storageType"] == "DYNAMIC":
            changes["storageCapacity"] = max(1, -(-used // 2**30))
        behaviour = run.get("cacheBehavior")
        if status in _CACHED_AFTER.get(behaviour or "", ()):
            caches.keep(self._context, self._store, run, directory)
        over = {**run, **changes, "status": status, "stopTime": time.time()}
        self._publish_logs(over, used)
        self._end(run_id, status, **changes)
        if status == "COMPLETED":
            # Intermediate files are HealthOmics' own; what remains is in S3 and the logs.
            for name in ("run", "inputs", "work", "exports", tasks.CACHED):
                shutil.rmtree(directory / name, ignore_errors=True)

    def _set(self, run_id: str, status: str, *, only_from: tuple[str, ...], **more: Any) -> None:
        def change(run: Record) -> bool | None:
            if run["status"] not in only_from:
                return False
            run.update(status=status, **more)
            changed.append(run)
            return None

        changed: list[Record] = []
        self._store.change("run", run_id, change)
        for run in changed:
            self._events.run(run)

    def _end(self, run_id: str, status: str, **more: Any) -> None:
        def change(run: Record) -> bool | None:
            if run["status"] in ENDED:
                return False
            run.update(status=status, stopTime=time.time(), **more)
            ended.append(run)
            return None

        ended: list[Record] = []
        self._store.change("run", run_id, change)
        for run in ended:
            self._store.note_end(run)
            self._events.run(run)
            self._on_end(run)

    def _sync_tasks(self, run_id: str, *, run_is_over: bool) -> None:
        run = self._store.get("run", run_id)
        assert run is not None
        known = {task["_place"]: task for task in self._store.records("task", run_id)}
        for place, record in tasks.found_tasks(self.directory(run_id)):
            described = tasks.describe(record, run_is_over=run_is_over)
            task = known.get(place)
            if task is None:
                task = self._new_task(run, place, described)
            elif task["status"] == described["status"]:
                continue
            else:
                self._store.update("task", f"{run_id}/{task['taskId']}", **described)
            self._events.task(run, {**task, **described})

    def _new_task(self, run: Record, place: str, described: Record) -> Record:
        task_id = self._store.new_id("task")
        body = {**described, "taskId": task_id, "uuid": str(uuid.uuid4()), "_place": place}
        if not described["cacheHit"]:
            body["logStream"] = self._log_stream(f"run/{run['id']}/task/{task_id}")
        if image := described.get("_image"):
            account, region = self._context.account_id, self._context.region
            registries = run.get("_registries")
            body["imageDetails"] = images.details(
                image, registries, account_id=account, region=region
            )
        self._store.insert("task", f"{run['id']}/{task_id}", body, parent=run["id"])
        return body

    def _publish_logs(self, run: Mapping[str, Any], storage_bytes: int) -> None:
        if self._context.write_log is None or run.get("logLevel") == "OFF":
            return
        run_id, directory = run["id"], self.directory(run["id"])
        found = self._store.records("task", run_id)
        summary, listing = directory / "run.log", directory / "manifest.jsonl"
        summary.write_text(_summary(run, found))
        manifest.write(listing, run, found, storage_bytes)
        streams = {
            f"run/{run_id}": summary,
            f"run/{run_id}/engine": directory / "engine.log",
            f"manifest/run/{run_id}/{run['uuid']}": listing,
        }
        for task in found:
            if not task["cacheHit"]:
                path = directory / f"task-{task['taskId']}.log"
                tasks.write_task_log(directory, task, path)
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
        if group_id := run.get("runGroupId"):
            self._group_folder(group_id).mkdir(parents=True, exist_ok=True)
            self._write_limits(group_id)
            marks[GROUP_VARIABLE] = str(self._group_folder(group_id))
        return {**own, **self._context.environment, **marks}

    def _group_folder(self, group_id: str) -> Path:
        return self._context.state_dir / "omics" / "groups" / group_id

    def _write_limits(self, group_id: str) -> None:
        group = self._store.get("group", group_id) or {}
        known = {name: group[name] for name in ("maxCpus", "maxGpus") if name in group}
        draft = self._group_folder(group_id) / f"{uuid.uuid4().hex}.tmp"
        draft.write_text(json.dumps(known))
        draft.replace(self._group_folder(group_id) / GROUP_LIMITS)

    def _remove_exports(self, run: Mapping[str, Any]) -> None:
        """A cancelled or lost run exports nothing, even where it was about to."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            uris = (self.directory(run["id"]) / "exported.txt").read_text().splitlines()
            remove(self._context, uris)
        except FileNotFoundError:
            return
        except (ClientError, BotoCoreError) as error:
            print(f"run {run['id']}: what it exported remains: {error}", file=sys.stderr)


def _read_result(directory: Path) -> dict[str, Any] | None:
    try:
        result: dict[str, Any] = json.loads((directory / "result.json").read_text())
    except (OSError, ValueError):
        return None
    if "statusMessage" in result:
        result["statusMessage"] = " ".join(result["statusMessage"].split())
    return {name: value for name, value in result.items() if value is not None}


def _summary(run: Mapping[str, Any], found: list[Record]) -> str:
    """The run log: what happened when."""
    moments = [(run["creationTime"], f"PENDING {run.get('name', '')}".rstrip())]
    if run.get("startTime"):
        moments.append((run["startTime"], "RUNNING"))
    for task in found:
        words = f"task {task['taskId']} {task['name']}"
        hit = " (from the run cache)" if task["cacheHit"] else ""
        moments.append((task["startTime"], f"{words} RUNNING{hit}"))
        if task.get("stopTime"):
            moments.append((task["stopTime"], f"{words} {task['status']}"))
    moments.sort(key=lambda moment: moment[0])
    reason = ": ".join(filter(None, (run.get("failureReason"), run.get("statusMessage"))))
    moments.append((run["stopTime"], f"{run['status']} {reason}".rstrip()))
    return "".join(
        f"{datetime.fromtimestamp(when, UTC).isoformat(timespec='milliseconds')} {words}\n"
        for when, words in moments
    )
