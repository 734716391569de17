"""Batches of runs: one call, then runs that are submitted one after the other as quotas allow."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from snakemake_executor_takeda.sandbox.constraints import problems
from snakemake_executor_takeda.sandbox.omics import limits
from snakemake_executor_takeda.sandbox.omics.answers import conflict, invalid, one_filter
from snakemake_executor_takeda.sandbox.omics.base import Base
from snakemake_executor_takeda.sandbox.omics.runs import Runs
from snakemake_executor_takeda.sandbox.omics.storage import sandbox_s3
from snakemake_executor_takeda.sandbox.omics.store import Record
from snakemake_executor_takeda.sandbox.omics.supervisor import ENDED
from snakemake_executor_takeda.sandbox.rest_json import service_model
from snakemake_executor_takeda.sandbox.services import Handler, ServiceError
from snakemake_executor_takeda.values import TakedaError

_TERMINAL: Final = frozenset(
    {"PROCESSED", "FAILED", "CANCELLED", "RUNS_DELETED", "RUNS_DELETE_FAILED"}
)
_CANCELLABLE: Final = ("PENDING", "SUBMITTING", "INPROGRESS")
_UNFINISHED: Final = ("CREATING", "PENDING", "SUBMITTING", "STOPPING", "RUNS_DELETING")
_CREATING_SECONDS = 0.1
_RUN_STATES: Final = (
    *("PENDING", "STARTING", "RUNNING", "STOPPING"),
    *("COMPLETED", "DELETED", "FAILED", "CANCELLED"),
)
_SUBMISSIONS: Final = {
    "SUCCESS": "successfulStartSubmissionCount",
    "FAILED": "failedStartSubmissionCount",
    "CANCEL_SUCCESS": "successfulCancelSubmissionCount",
    "CANCEL_FAILED": "failedCancelSubmissionCount",
    "DELETE_SUCCESS": "successfulDeleteSubmissionCount",
    "DELETE_FAILED": "failedDeleteSubmissionCount",
}


class Batches:
    """A thread a batch does what takes time; it goes on where it was after a restart."""

    def __init__(self, base: Base, runs: Runs) -> None:
        self._context = base.context
        self._store = base.store
        self._answers = base.answers
        self._requests = base.requests
        self._events = base.events
        self._quotas = base.quotas
        self._runs = runs
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._submitting = threading.Lock()
        """Held while a run is submitted, so that a cancel sees all of them."""
        self._threads: list[threading.Thread] = []
        self.handlers: Mapping[str, Handler] = {
            "StartRunBatch": self._start,
            "GetBatch": self._get,
            "ListBatch": self._list,
            "ListRunsInBatch": self._list_runs,
            "CancelRunBatch": self._cancel,
            "DeleteRunBatch": self._delete_runs,
            "DeleteBatch": self._delete,
        }

    def start(self) -> None:
        """Take up what an earlier life left."""
        work = {"STOPPING": self._stop_runs, "RUNS_DELETING": self._remove_runs}
        for batch in self._store.records("batch"):
            if batch["status"] in _UNFINISHED:
                self._spawn(work.get(batch["status"], self._submit), batch["id"])
            elif batch["status"] == "INPROGRESS":
                self._settle(batch["id"])

    def stop(self) -> None:
        self._closing.set()
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join()

    def run_ended(self, run: Mapping[str, Any]) -> None:
        """A run has ended, and perhaps its batch with it."""
        if batch_id := run.get("batchId"):
            self._settle(batch_id)

    def _start(self, params: dict[str, Any]) -> Mapping[str, Any]:
        default, settings = params["defaultRunSetting"], params["batchRunSettings"]
        if default.get("workflowType") == "READY2RUN":
            raise invalid("batches of runs are not supported with Ready2Run workflows")
        inline = settings.get("inlineSettings")
        etag = None if inline is not None else self._etag(settings["s3UriSettings"])
        # An output location may come with each run only.
        self._runs.check({**_any_output(default, inline), **_of_run(default)})

        def create() -> str:
            batch_id = self._store.new_id("batch")
            body: Record = {
                "id": batch_id,
                "arn": self._answers.arn(f"runBatch/{batch_id}"),
                "uuid": str(uuid.uuid4()),
                "name": params.get("batchName"),
                "tags": params.get("tags"),
                "status": "CREATING",
                "totalRuns": len(inline or ()),
                "defaultRunSetting": default,
                "workflowId": default["workflowId"],
                "runGroupId": default.get("runGroupId"),
                "creationTime": time.time(),
                "_inline": inline,
                "_s3": settings.get("s3UriSettings"),
                "_etag": etag,
                "_done": {},
            }
            body["createdAt"] = body["creationTime"]
            body = {name: value for name, value in body.items() if value is not None}
            self._store.insert("batch", batch_id, body)
            self._events.batch(body, {})
            self._spawn(self._submit, batch_id)
            return batch_id

        key = self._requests.once("StartRunBatch", params, create)
        body = self._need(key)
        return self._answers.view("StartRunBatch", body)

    def _need(self, batch_id: str) -> Record:
        return self._answers.need("batch", batch_id, f"run batch {batch_id}")

    def _get(self, params: dict[str, Any]) -> Mapping[str, Any]:
        body = self._need(params["batchId"])
        submissions, runs = self._counts(body)
        answer = self._answers.view("GetBatch", body)
        return {**answer, "submissionSummary": submissions, "runSummary": runs}

    def _counts(self, batch: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
        """GetBatch's submissionSummary and runSummary."""
        rows = self._store.records("batchrun", batch["id"])
        submissions = dict.fromkeys(_SUBMISSIONS.values(), 0)
        for row in rows:
            if row.get("_started") is not None:
                submissions[_SUBMISSIONS["SUCCESS" if row["_started"] else "FAILED"]] += 1
            if row["submissionStatus"] not in ("SUCCESS", "FAILED"):
                submissions[_SUBMISSIONS[row["submissionStatus"]]] += 1
        submissions["pendingStartSubmissionCount"] = max(0, batch["totalRuns"] - len(rows))
        runs = {f"{state.lower()}RunCount": 0 for state in _RUN_STATES}
        found = self._store.records("run", batch["id"])
        for run in found:
            runs[f"{run['status'].lower()}RunCount"] += 1
        started = submissions["successfulStartSubmissionCount"]
        runs["deletedRunCount"] += max(0, started - len(found))
        return submissions, runs

    def _list(self, params: dict[str, Any]) -> Mapping[str, Any]:
        filters = ("status", "name", "runGroupId")
        one_filter(params, filters)
        rows = self._store.numbered("batch", newest_first=True)
        return self._answers.page("ListBatch", params, rows, newest_first=True, filters=filters)

    def _list_runs(self, params: dict[str, Any]) -> Mapping[str, Any]:
        filters = ("submissionStatus", "runSettingId", "runId")
        one_filter(params, filters)
        batch_id = params["batchId"]
        self._need(batch_id)
        rows = self._store.numbered("batchrun", batch_id)
        return self._answers.page("ListRunsInBatch", params, rows, filters=filters)

    def _cancel(self, params: dict[str, Any]) -> Mapping[str, Any]:
        self._begin(params["batchId"], "STOPPING", _CANCELLABLE, self._stop_runs)
        return {}

    def _delete_runs(self, params: dict[str, Any]) -> Mapping[str, Any]:
        allowed = ("PROCESSED", "CANCELLED")
        self._begin(params["batchId"], "RUNS_DELETING", allowed, self._remove_runs)
        return {}

    def _begin(
        self, batch_id: str, status: str, allowed: Sequence[str], work: Callable[[str], None]
    ) -> None:
        self._need(batch_id)
        if not self._move(batch_id, status, allowed):
            now = self._need(batch_id)["status"]
            raise conflict(f"run batch {batch_id} is {now}, not {' or '.join(allowed)}")
        self._spawn(work, batch_id)

    def _delete(self, params: dict[str, Any]) -> None:
        batch_id = params["batchId"]
        status = self._need(batch_id)["status"]
        if status not in _TERMINAL:
            raise conflict(f"run batch {batch_id} is {status}")
        for row in self._store.records("batchrun", batch_id):
            self._store.delete("batchrun", row["_key"])
        self._store.delete("batch", batch_id)

    # What takes time.

    def _spawn(self, work: Callable[[str], None], batch_id: str) -> None:
        thread = threading.Thread(
            target=work, args=(batch_id,), name=f"omics batch {batch_id}", daemon=True
        )
        with self._lock:
            if self._closing.is_set():
                return
            self._threads = [one for one in self._threads if one.is_alive()]
            self._threads.append(thread)
            thread.start()

    def _submit(self, batch_id: str) -> None:
        self._closing.wait(_CREATING_SECONDS)
        self._move(batch_id, "PENDING", ("CREATING",))
        batch = self._store.get("batch", batch_id)
        if batch is None or self._closing.is_set():
            return
        try:
            settings = self._settings(batch)
        except TakedaError as error:
            self._move(
                batch_id, "FAILED", ("PENDING",), failureReason=str(error), failedTime=time.time()
            )
            return
        self._store.update("batch", batch_id, totalRuns=len(settings))
        self._move(batch_id, "SUBMITTING", ("PENDING",))
        self._note_started(batch_id)
        known = {row["runSettingId"] for row in self._store.records("batchrun", batch_id)}
        for setting in settings:
            if setting["runSettingId"] in known:
                continue
            if not self._may_call(batch_id, "StartRun", "SUBMITTING"):
                return
            with self._submitting:
                if self._need(batch_id)["status"] != "SUBMITTING":
                    return
                self._submit_one(batch, setting)
        if self._move(batch_id, "INPROGRESS", ("SUBMITTING",), submittedTime=time.time()):
            self._settle(batch_id)

    def _note_started(self, batch_id: str) -> None:
        """The rows of runs that were started just before an earlier life ended."""
        for run in self._store.records("run", batch_id):
            key = f"{batch_id}/{run['_setting']}"
            if self._store.get("batchrun", key) is None:
                row = self._started_row(key, run["_setting"], run["id"], run["uuid"])
                self._store.insert("batchrun", key, row, parent=batch_id)

    def _started_row(self, key: str, setting_id: str, run_id: str, run_uuid: str) -> Record:
        return {
            "runSettingId": setting_id,
            "runId": run_id,
            "runInternalUuid": run_uuid,
            "runArn": self._answers.arn(f"run/{run_id}"),
            "submissionStatus": "SUCCESS",
            "_started": True,
            "_key": key,
        }

    def _submit_one(self, batch: Mapping[str, Any], setting: Mapping[str, Any]) -> None:
        setting_id = setting["runSettingId"]
        key = f"{batch['id']}/{setting_id}"
        own = {"batchId": batch["id"], "_setting": setting_id}
        try:
            begun = self._runs.begin(_merged(batch["defaultRunSetting"], setting) | own)
            run_id, _, run_uuid = begun.partition("/")
            row = self._started_row(key, setting_id, run_id, run_uuid)
        except ServiceError as error:
            row = {
                "runSettingId": setting_id,
                "submissionStatus": "FAILED",
                "submissionFailureReason": error.code,
                "submissionFailureMessage": error.message,
                "_started": False,
                "_key": key,
            }
        self._store.insert("batchrun", key, row, parent=batch["id"])

    def _stop_runs(self, batch_id: str) -> None:
        """Those that were not submitted never start; those that were are cancelled."""
        batch = self._store.get("batch", batch_id)
        if batch is None:
            return
        with self._submitting:
            rows = self._store.records("batchrun", batch_id)
        for row in rows:
            run = self._store.get("run", row.get("runId", ""))
            if run is None or run["uuid"] != row["runInternalUuid"] or run["status"] in ENDED:
                continue
            if not self._may_call(batch_id, "CancelRun", "STOPPING"):
                return
            self._do(row, "CANCEL", self._runs.cancel)
        known = {row["runSettingId"] for row in rows}
        try:
            left = [one for one in self._settings(batch) if one["runSettingId"] not in known]
        except TakedaError:
            left = []
        for setting in left:
            key = f"{batch_id}/{setting['runSettingId']}"
            never = {
                "runSettingId": setting["runSettingId"],
                "submissionStatus": "CANCEL_SUCCESS",
                "_key": key,
            }
            self._store.insert("batchrun", key, never, parent=batch_id)
        self._settle(batch_id)

    def _remove_runs(self, batch_id: str) -> None:
        failed = False
        for row in self._store.records("batchrun", batch_id):
            if not row.get("runId") or row["submissionStatus"].startswith("DELETE"):
                continue
            if not self._may_call(batch_id, "DeleteRun", "RUNS_DELETING"):
                return
            failed |= not self._do(row, "DELETE", self._runs.delete)
        status = "RUNS_DELETE_FAILED" if failed else "RUNS_DELETED"
        self._move(batch_id, status, ("RUNS_DELETING",))

    def _do(self, row: Mapping[str, Any], word: str, act: Callable[[str], None]) -> bool:
        try:
            act(row["runId"])
        except ServiceError as error:
            said = {
                "submissionStatus": f"{word}_FAILED",
                "submissionFailureReason": error.code,
                "submissionFailureMessage": error.message,
            }
            self._store.update("batchrun", row["_key"], **said)
            return False
        self._store.update("batchrun", row["_key"], submissionStatus=f"{word}_SUCCESS")
        return True

    def _may_call(self, batch_id: str, operation: str, status: str) -> bool:
        """Wait for the quota; False where the batch is no more in this status, or the sandbox ends."""
        while True:
            batch = self._store.get("batch", batch_id)
            if self._closing.is_set() or batch is None or batch["status"] != status:
                return False
            seconds = self._quotas.seconds_until(operation)
            if not seconds:
                return True
            self._closing.wait(min(seconds, 1.0))

    def _settle(self, batch_id: str) -> None:
        """End a batch all whose runs have ended."""
        if any(run["status"] not in ENDED for run in self._store.records("run", batch_id)):
            return
        self._move(batch_id, "PROCESSED", ("INPROGRESS",), processedTime=time.time())
        batch = self._store.get("batch", batch_id)
        if batch is not None and batch["status"] == "STOPPING":
            told = len(self._store.records("batchrun", batch_id))
            if told >= batch["totalRuns"]:
                self._move(batch_id, "CANCELLED", ("STOPPING",), processedTime=time.time())

    def _move(self, batch_id: str, status: str, only_from: Sequence[str], **more: Any) -> bool:
        def change(batch: Record) -> bool | None:
            if batch["status"] not in only_from:
                return False
            batch.update(status=status, **more)
            moved.append(batch)
            return None

        moved: list[Record] = []
        self._store.change("batch", batch_id, change)
        for batch in moved:
            submissions, runs = self._counts(batch)
            self._events.batch(batch, {**submissions, **runs})
        return bool(moved)

    def _etag(self, uri: str) -> str:
        from botocore.exceptions import ClientError

        from snakemake_executor_takeda.backends.aws import split_s3_uri

        try:
            bucket, key = split_s3_uri(uri)
            return str(sandbox_s3(self._context).head_object(Bucket=bucket, Key=key)["ETag"])
        except (TakedaError, ClientError) as error:
            raise invalid(f"s3UriSettings {uri} cannot be read: {error}") from None

    def _settings(self, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The settings of all runs, checked. Raises TakedaError with the batch's failureReason."""
        settings = batch.get("_inline") or self._from_s3(batch)
        if len(settings) > limits.BATCH_RUNS:
            raise TakedaError(
                f"Batch has {len(settings)} runs but {limits.BATCH_RUNS} runs is the max."
            )
        distinct = len({one["runSettingId"] for one in settings})
        if distinct != len(settings):
            raise TakedaError(
                f"Expected {len(settings)} unique runSettingIds but there were {distinct}"
            )
        return list(settings)

    def _from_s3(self, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        from botocore.exceptions import ClientError

        from snakemake_executor_takeda.backends.aws import split_s3_uri

        bucket, key = split_s3_uri(batch["_s3"])
        try:
            found = sandbox_s3(self._context).get_object(Bucket=bucket, Key=key)
        except ClientError as error:
            raise TakedaError(f"s3UriSettings {batch['_s3']} cannot be read: {error}") from None
        if found["ETag"] != batch["_etag"]:
            raise TakedaError(
                f"Expected s3UriConfigs etag: {batch['_etag']} but was: {found['ETag']}. "
                "s3UriConfigs have changed since calling StartRunBatch"
            )
        try:
            settings = json.loads(found["Body"].read())
        except ValueError:
            raise TakedaError("Invalid JSON format in run configurations") from None
        shape = service_model("omics").shape_for("InlineSetting")
        if not isinstance(settings, list) or not settings:
            raise TakedaError("Invalid JSON format in run configurations: no array of settings")
        for one in settings:
            wrong = problems(one, shape) if isinstance(one, dict) else ["it is no object"]
            if wrong:
                raise TakedaError(f"Invalid run configuration {json.dumps(one)[:200]}: {wrong[0]}")
        return settings


def _of_run(default: Mapping[str, Any]) -> dict[str, Any]:
    """The default setting as StartRun has it."""
    run = {name: value for name, value in default.items() if name != "outputBucketOwnerId"}
    if "runTags" in run:
        run["tags"] = run.pop("runTags")
    return run


def _merged(default: Mapping[str, Any], setting: Mapping[str, Any]) -> dict[str, Any]:
    run = _of_run(default)
    own = {"name", "outputUri", "priority", "engineSettings"}
    run |= {name: value for name, value in setting.items() if name in own}
    for name, word in (("parameters", "parameters"), ("runTags", "tags")):
        if name in setting:
            run[word] = {**run.get(word, {}), **setting[name]}
    if "outputUri" not in run:
        raise invalid("neither the run nor defaultRunSetting has an outputUri")
    return run


def _any_output(
    default: Mapping[str, Any], inline: Sequence[Mapping[str, Any]] | None
) -> dict[str, Any]:
    """An output location to check the rest of the setting with, where one is known yet."""
    for one in (default, *(inline or ())):
        if "outputUri" in one:
            return {"outputUri": one["outputUri"]}
    return {}
