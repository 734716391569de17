"""The operations of HealthOmics that the sandbox has, and their life cycle."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from botocore.model import ListShape, StructureShape

from snakemake_executor_takeda.sandbox.omics import definitions, parameters
from snakemake_executor_takeda.sandbox.omics.definitions import invalid
from snakemake_executor_takeda.sandbox.omics.storage import sandbox_s3
from snakemake_executor_takeda.sandbox.omics.store import Record, Store
from snakemake_executor_takeda.sandbox.omics.supervisor import ENDED, Supervisor
from snakemake_executor_takeda.sandbox.rest_json import service_model
from snakemake_executor_takeda.sandbox.services import Context, Handler, ServiceError
from snakemake_executor_takeda.values import TakedaError

_CREATING_SECONDS = 0.2
_MAX_PAGE = 100
_RUN_MEMBERS = [
    "roleArn",
    "name",
    "cacheId",
    "cacheBehavior",
    "priority",
    "parameters",
    "storageCapacity",
    "logLevel",
    "tags",
    "retentionMode",
    "storageType",
    "networkingMode",
    "scratchStorageMode",
    "outputUriPrefixMode",
]


class OmicsService:
    """See `services.Service`. Definitions and run directories lie below `omics/` of the state."""

    model_name = "omics"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._store = Store(context.database)
        self._definitions = context.state_dir / "omics" / "definitions"
        self._definitions.mkdir(parents=True, exist_ok=True)
        self._supervisor = Supervisor(context, self._store)
        # Parsing holds Python's lock anyway: one at a time answers just as fast.
        self._parser = ThreadPoolExecutor(1, thread_name_prefix="omics parse")
        self._creating = threading.Lock()
        self._members, self._item_members = _answer_members()
        self.handlers: Mapping[str, Handler] = {
            "CreateWorkflow": self._create_workflow,
            "GetWorkflow": self._get_workflow,
            "ListWorkflows": self._list_workflows,
            "DeleteWorkflow": self._delete_workflow,
            "CreateWorkflowVersion": self._create_version,
            "GetWorkflowVersion": self._get_version,
            "ListWorkflowVersions": self._list_versions,
            "DeleteWorkflowVersion": self._delete_version,
            "StartRun": self._start_run,
            "GetRun": self._get_run,
            "ListRuns": self._list_runs,
            "CancelRun": self._cancel_run,
            "DeleteRun": self._delete_run,
            "ListRunTasks": self._list_tasks,
            "GetRunTask": self._get_task,
            "ListTagsForResource": self._list_tags,
            "TagResource": self._tag,
            "UntagResource": self._untag,
        }

    def start(self) -> None:
        for kind in ("workflow", "version"):
            for body in self._store.records(kind):
                if body["status"] == "CREATING":
                    self._parser.submit(self._check_definition, kind, body["_key"])
        self._supervisor.start()

    def stop(self) -> None:
        self._supervisor.stop()
        self._parser.shutdown(wait=True, cancel_futures=True)
        self._store.close()

    def facts(self) -> Mapping[str, Any]:
        counts: dict[str, int] = {}
        for run in self._store.records("run"):
            counts[run["status"]] = counts.get(run["status"], 0) + 1
        return {"runs": counts, "workflows": len(self._store.records("workflow"))}

    # Workflows.

    def _create_workflow(self, params: dict[str, Any]) -> Mapping[str, Any]:
        definitions.check_request(params)

        def create() -> str:
            workflow_id = self._store.new_id("workflow")
            body = self._definition_body(params, f"workflow/{workflow_id}", workflow_id)
            body |= {"id": workflow_id, "type": "PRIVATE"}
            if name := params.get("name"):
                body["name"] = name
            self._store.insert("workflow", workflow_id, body)
            self._parser.submit(self._check_definition, "workflow", workflow_id)
            return workflow_id

        key = self._once("CreateWorkflow", params, create)
        return self._view("CreateWorkflow", self._need("workflow", key, f"workflow {key}"))

    def _create_version(self, params: dict[str, Any]) -> Mapping[str, Any]:
        definitions.check_request(params)
        workflow_id, name = params["workflowId"], params["versionName"]
        workflow = self._need("workflow", workflow_id, f"workflow {workflow_id}")
        if workflow["status"] != "ACTIVE":
            raise _conflict(f"workflow {workflow_id} is {workflow['status']}")
        key = f"{workflow_id}/{name}"

        def create() -> str:
            if self._store.get("version", key) is not None:
                raise _conflict(f"workflow {workflow_id} has a version {name}")
            body = self._definition_body(params, f"workflow/{workflow_id}/version/{name}", key)
            body |= {"workflowId": workflow_id, "versionName": name, "type": "PRIVATE"}
            self._store.insert("version", key, body, parent=workflow_id)
            self._parser.submit(self._check_definition, "version", key)
            return key

        self._once("CreateWorkflowVersion", params, create)
        return self._view("CreateWorkflowVersion", self._need("version", key, f"version {name}"))

    def _definition_body(self, params: Mapping[str, Any], arn: str, key: str) -> Record:
        packed = params.get("definitionZip")
        if packed is None:
            packed = self._fetch_definition(params["definitionUri"])
        place = self._definitions / uuid.uuid4().hex
        place.mkdir()
        (place / "definition.zip").write_bytes(packed)
        wanted = ("description", "parameterTemplate", "tags", "storageType", "storageCapacity")
        return {
            "arn": self._arn(arn),
            "uuid": str(uuid.uuid4()),
            "status": "CREATING",
            "engine": params.get("engine", "WDL"),
            "main": params.get("main"),
            "digest": hashlib.sha256(packed).hexdigest(),
            "creationTime": time.time(),
            "_key": key,
            "_place": str(place),
            **{name: params[name] for name in wanted if name in params},
        }

    def _fetch_definition(self, uri: str) -> bytes:
        from botocore.exceptions import ClientError

        from snakemake_executor_takeda.backends.aws import split_s3_uri

        try:
            bucket, key = split_s3_uri(uri)
            body = sandbox_s3(self._context).get_object(Bucket=bucket, Key=key)["Body"]
            return body.read()
        except (TakedaError, ClientError) as error:
            raise invalid(f"definitionUri {uri} cannot be read: {error}") from None

    def _check_definition(self, kind: str, key: str) -> None:
        """CREATING → ACTIVE or FAILED."""
        time.sleep(_CREATING_SECONDS)
        body = self._store.get(kind, key)
        if body is None:
            return
        place = Path(body["_place"])
        files = place / "files"
        try:
            shutil.rmtree(files, ignore_errors=True)
            files.mkdir()
            definitions.unpack((place / "definition.zip").read_bytes(), files)
            main, implied = definitions.inspect(files, body["main"])
        except TakedaError as error:
            message = " ".join(str(error).replace(str(files), "").split())
            self._store.update(kind, key, status="FAILED", statusMessage=message[:4000])
            return
        except Exception as error:  # noqa: BLE001 - who created it must hear of it
            message = f"the sandbox broke: {type(error).__name__}: {error}"
            self._store.update(kind, key, status="FAILED", statusMessage=message)
            return
        template = body.get("parameterTemplate") or implied
        self._store.update(
            kind, key, status="ACTIVE", main=main, parameterTemplate=template or None
        )

    def _get_workflow(self, params: dict[str, Any]) -> Mapping[str, Any]:
        return self._view(
            "GetWorkflow", self._need("workflow", params["id"], f"workflow {params['id']}")
        )

    def _get_version(self, params: dict[str, Any]) -> Mapping[str, Any]:
        name = params["versionName"]
        body = self._need("version", f"{params['workflowId']}/{name}", f"workflow version {name}")
        return self._view("GetWorkflowVersion", body)

    def _list_workflows(self, params: dict[str, Any]) -> Mapping[str, Any]:
        if params.get("type") == "READY2RUN":
            return {"items": []}
        return self._page("ListWorkflows", params, "workflow", filters=["name"])

    def _list_versions(self, params: dict[str, Any]) -> Mapping[str, Any]:
        workflow_id = params["workflowId"]
        self._need("workflow", workflow_id, f"workflow {workflow_id}")
        return self._page("ListWorkflowVersions", params, "version", workflow_id)

    def _delete_workflow(self, params: dict[str, Any]) -> None:
        workflow_id = params["id"]
        self._need("workflow", workflow_id, f"workflow {workflow_id}")
        for version in self._store.records("version", workflow_id):
            self._forget_definition("version", version)
        self._forget_definition("workflow", self._need("workflow", workflow_id, ""))

    def _delete_version(self, params: dict[str, Any]) -> None:
        name = params["versionName"]
        key = f"{params['workflowId']}/{name}"
        self._forget_definition("version", self._need("version", key, f"workflow version {name}"))

    def _forget_definition(self, kind: str, body: Mapping[str, Any]) -> None:
        self._store.delete(kind, body["_key"])
        in_use = any(
            run["_definition"].startswith(body["_place"]) and run["status"] not in ENDED
            for run in self._store.records("run")
        )
        if not in_use:
            shutil.rmtree(body["_place"], ignore_errors=True)

    # Runs.

    def _start_run(self, params: dict[str, Any]) -> Mapping[str, Any]:
        definition = self._definition_of(params)
        parameters.check_run(params, definition.get("parameterTemplate") or {})
        self._check_bucket(params["outputUri"])

        def create() -> str:
            run_id = self._store.new_id("run")
            body = {name: params[name] for name in _RUN_MEMBERS if name in params}
            body |= {
                "id": run_id,
                "arn": self._arn(f"run/{run_id}"),
                "uuid": str(uuid.uuid4()),
                "status": "PENDING",
                "workflowId": params["workflowId"],
                "workflowType": "PRIVATE",
                "workflowVersionName": params.get("workflowVersionName"),
                "workflowName": self._workflow_name(params["workflowId"]),
                "digest": definition["digest"],
                "outputUri": params["outputUri"],
                "runOutputUri": f"{params['outputUri'].rstrip('/')}/{run_id}",
                "startedBy": f"arn:aws:iam::{self._context.account_id}:root",
                "creationTime": time.time(),
                "storageType": params.get("storageType", "STATIC"),
                "logLocation": {
                    "engineLogStream": f"run/{run_id}/engine",
                    "runLogStream": f"run/{run_id}",
                },
                "_definition": str(Path(definition["_place"], "files", definition["main"])),
            }
            self._store.insert("run", run_id, body)
            self._supervisor.launch(run_id)
            return run_id

        key = self._once("StartRun", params, create)
        body = self._store.get("run", key)
        if body is None:
            raise _conflict(f"the run {key} of this requestId was deleted")
        return self._view("StartRun", body)

    def _definition_of(self, params: Mapping[str, Any]) -> Record:
        if params.get("workflowType") == "READY2RUN" or params.get("runId"):
            raise invalid("the sandbox starts runs of private workflows only")
        for name in ("runGroupId", "cacheId"):
            if params.get(name):
                raise ServiceError(
                    "ResourceNotFoundException", f"the sandbox has no {name} {params[name]}"
                )
        if params.get("storageType") == "DYNAMIC" and params.get("storageCapacity"):
            raise invalid("storageCapacity is for STATIC storage only")
        if "workflowId" not in params:
            raise invalid("workflowId is required")
        workflow_id = params["workflowId"]
        body = self._need("workflow", workflow_id, f"workflow {workflow_id}")
        if version := params.get("workflowVersionName"):
            body = self._need("version", f"{workflow_id}/{version}", f"workflow version {version}")
        if body["status"] != "ACTIVE":
            raise _conflict(f"the workflow is {body['status']}, not ACTIVE")
        return body

    def _workflow_name(self, workflow_id: str) -> str | None:
        return (self._store.get("workflow", workflow_id) or {}).get("name")

    def _check_bucket(self, uri: str) -> None:
        from botocore.exceptions import ClientError

        bucket = uri.removeprefix("s3://").partition("/")[0]
        try:
            sandbox_s3(self._context).head_bucket(Bucket=bucket)
        except ClientError:
            raise invalid(f"the bucket of outputUri {uri} does not exist") from None

    def _get_run(self, params: dict[str, Any]) -> Mapping[str, Any]:
        return self._view("GetRun", self._need("run", params["id"], f"run {params['id']}"))

    def _list_runs(self, params: dict[str, Any]) -> Mapping[str, Any]:
        return self._page("ListRuns", params, "run", newest_first=True, filters=["name", "status"])

    def _cancel_run(self, params: dict[str, Any]) -> None:
        run_id = params["id"]
        self._need("run", run_id, f"run {run_id}")

        def stopping(run: Record) -> bool | None:
            if run["status"] in ENDED:
                raise _conflict(f"run {run_id} is {run['status']}")
            run["status"] = "STOPPING"
            return None

        self._store.change("run", run_id, stopping)
        self._supervisor.cancel(run_id)

    def _delete_run(self, params: dict[str, Any]) -> None:
        run_id = params["id"]
        run = self._need("run", run_id, f"run {run_id}")
        if run["status"] not in ENDED:
            raise _conflict(f"run {run_id} is {run['status']}; cancel it first")
        for task in self._store.records("task", run_id):
            self._store.delete("task", f"{run_id}/{task['taskId']}")
        self._store.delete("run", run_id)
        shutil.rmtree(self._supervisor.directory(run_id), ignore_errors=True)

    def _list_tasks(self, params: dict[str, Any]) -> Mapping[str, Any]:
        run_id = params["id"]
        self._need("run", run_id, f"run {run_id}")
        return self._page("ListRunTasks", params, "task", run_id, filters=["status"])

    def _get_task(self, params: dict[str, Any]) -> Mapping[str, Any]:
        task_id = params["taskId"]
        body = self._need("task", f"{params['id']}/{task_id}", f"task {task_id}")
        return self._view("GetRunTask", body)

    # Tags.

    def _list_tags(self, params: dict[str, Any]) -> Mapping[str, Any]:
        kind, key = self._by_arn(params["resourceArn"])
        return {"tags": (self._store.get(kind, key) or {}).get("tags", {})}

    def _tag(self, params: dict[str, Any]) -> None:
        kind, key = self._by_arn(params["resourceArn"])
        self._store.change(
            kind, key, lambda body: body.update(tags={**body.get("tags", {}), **params["tags"]})
        )

    def _untag(self, params: dict[str, Any]) -> None:
        kind, key = self._by_arn(params["resourceArn"])
        gone = set(params["tagKeys"])
        self._store.change(
            kind,
            key,
            lambda body: body.update(
                tags={k: v for k, v in body.get("tags", {}).items() if k not in gone}
            ),
        )

    def _by_arn(self, arn: str) -> tuple[str, str]:
        match arn.removeprefix(self._arn("")).split("/"):
            case ["workflow", workflow_id, "version", version]:
                kind, key = "version", f"{workflow_id}/{version}"
            case ["workflow" | "run" as word, number]:
                kind, key = word, number
            case _:
                raise ServiceError("ResourceNotFoundException", f"{arn} does not exist")
        self._need(kind, key, arn)
        return kind, key

    # What all share.

    def _once(self, operation: str, params: Mapping[str, Any], create: Callable[[], str]) -> str:
        """Create once per requestId; the same token with another request is a conflict."""
        digest = hashlib.sha256(
            json.dumps(
                {name: value for name, value in params.items() if name != "requestId"},
                sort_keys=True,
                default=lambda value: hashlib.sha256(value).hexdigest(),
            ).encode()
        ).hexdigest()
        with self._creating:
            token = f"{params['requestId']}"
            earlier_digest, earlier = self._store.remember(operation, token, digest, "")
            if earlier_digest != digest:
                raise _conflict(f"the requestId {token} belongs to another request")
            if earlier:
                return earlier
            try:
                key = create()
            except ServiceError:
                self._store.forget(operation, token)
                raise
            self._store.fulfil(operation, token, key)
            return key

    def _need(self, kind: str, key: str, words: str) -> Record:
        body = self._store.get(kind, key)
        if body is None:
            raise ServiceError("ResourceNotFoundException", f"{words} does not exist")
        return body

    def _view(self, operation: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return {name: body[name] for name in self._members[operation] if name in body}

    def _page(
        self,
        operation: str,
        params: Mapping[str, Any],
        kind: str,
        parent: str | None = None,
        *,
        newest_first: bool = False,
        filters: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Tokens name the last item shown, and stay good while the list grows at either end."""
        after = _number(params.get("startingToken"))
        kept = [
            (number, body)
            for number, body in self._store.numbered(kind, parent, newest_first=newest_first)
            if (after is None or (number < after if newest_first else number > after))
            and all(params.get(name) in (None, body.get(name)) for name in filters)
        ]
        size = min(params.get("maxResults") or _MAX_PAGE, _MAX_PAGE)
        shown = kept[:size]
        members = self._item_members[operation]
        page: dict[str, Any] = {
            "items": [{k: v for k, v in body.items() if k in members} for _, body in shown]
        }
        if len(kept) > size:
            page["nextToken"] = base64.urlsafe_b64encode(b"n%d" % shown[-1][0]).decode()
        return page

    def _arn(self, resource: str) -> str:
        return f"arn:aws:omics:{self._context.region}:{self._context.account_id}:{resource}"


def _answer_members() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """By operation: the members of its answer, and those of an item where it answers a list."""
    model = service_model("omics")
    members: dict[str, set[str]] = {}
    item_members: dict[str, set[str]] = {}
    for name in model.operation_names:
        shape = model.operation_model(name).output_shape
        if shape is None:
            continue
        members[name] = set(shape.members)
        items = shape.members.get("items")
        if isinstance(items, ListShape) and isinstance(items.member, StructureShape):
            item_members[name] = set(items.member.members)
    return members, item_members


def _conflict(message: str) -> ServiceError:
    return ServiceError("ConflictException", message)


def _number(token: str | None) -> int | None:
    if token is None:
        return None
    try:
        text = base64.urlsafe_b64decode(token.encode()).decode()
        return int(text.removeprefix("n"))
    except (binascii.Error, ValueError):
        raise invalid("startingToken is not one that this operation gave") from None
