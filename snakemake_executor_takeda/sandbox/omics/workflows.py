"""The operations about workflows and their versions, READY2RUN stand-ins included."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.sandbox.omics import definitions, limits, ready2run
from snakemake_executor_takeda.sandbox.omics.answers import conflict, invalid, missing
from snakemake_executor_takeda.sandbox.omics.base import Base
from snakemake_executor_takeda.sandbox.omics.storage import sandbox_s3
from snakemake_executor_takeda.sandbox.omics.store import Record
from snakemake_executor_takeda.sandbox.omics.supervisor import ENDED
from snakemake_executor_takeda.sandbox.services import Handler, ServiceError
from snakemake_executor_takeda.values import TakedaError

_CREATING_SECONDS = 0.2
_KEPT = (
    "description",
    "parameterTemplate",
    "tags",
    "storageType",
    "storageCapacity",
    "accelerators",
    "containerRegistryMap",
    "workflowBucketOwnerId",
)
_CHANGEABLE = ("name", "description", "storageType", "storageCapacity")


class Workflows:
    """Definitions lie below `omics/definitions` of the state, each in a folder of its own."""

    def __init__(self, base: Base) -> None:
        self._context = base.context
        self._store = base.store
        self._answers = base.answers
        self._requests = base.requests
        self._events = base.events
        self._mishaps = base.mishaps
        self._definitions = base.context.state_dir / "omics" / "definitions"
        self._definitions.mkdir(parents=True, exist_ok=True)
        self._closing = threading.Event()
        # Parsing holds Python's lock anyway: one at a time answers just as fast.
        self._parser = ThreadPoolExecutor(1, thread_name_prefix="omics parse")
        self.handlers: Mapping[str, Handler] = {
            "CreateWorkflow": self._create,
            "GetWorkflow": self._get,
            "ListWorkflows": self._list,
            "UpdateWorkflow": self._update,
            "DeleteWorkflow": self._delete,
            "CreateWorkflowVersion": self._create_version,
            "GetWorkflowVersion": self._get_version,
            "ListWorkflowVersions": self._list_versions,
            "UpdateWorkflowVersion": self._update_version,
            "DeleteWorkflowVersion": self._delete_version,
        }

    def start(self) -> None:
        ready2run.provide(self._store, self._definitions.parent, self._answers.arn)
        for kind in ("workflow", "version"):
            for body in self._store.records(kind):
                if body["status"] == "CREATING":
                    self._parser.submit(self._check_definition, kind, body["_key"])

    def stop(self) -> None:
        self._closing.set()
        self._parser.shutdown(wait=True, cancel_futures=True)

    def runnable(self, params: Mapping[str, Any]) -> Record:
        """The definition that a run with these members uses. Raises ServiceError."""
        if "workflowId" not in params:
            raise invalid("workflowId is required")
        workflow_id = params["workflowId"]
        kind = params.get("workflowType", "PRIVATE")
        body = self._need(workflow_id, kind)
        if version := params.get("workflowVersionName"):
            body = self._answers.need(
                "version", f"{workflow_id}/{version}", f"workflow version {version}"
            )
        if body["status"] != "ACTIVE":
            raise conflict(f"the workflow is {body['status']}, not ACTIVE")
        return body

    def name_of(self, workflow_id: str) -> str | None:
        body = self._store.get("workflow", workflow_id) or self._store.get("ready2run", workflow_id)
        return (body or {}).get("name")

    def _need(self, workflow_id: str, kind: str = "PRIVATE") -> Record:
        place = "ready2run" if kind == "READY2RUN" else "workflow"
        body = self._store.get(place, workflow_id)
        if body is None and kind == "READY2RUN":
            there = ", ".join(one["id"] for one in self._store.records("ready2run"))
            raise missing(f"Ready2Run workflow {workflow_id} (the sandbox has {there})")
        if body is None:
            raise missing(f"workflow {workflow_id}")
        return body

    def _create(self, params: dict[str, Any]) -> Mapping[str, Any]:
        definitions.check_request(params)

        def create() -> str:
            workflow_id = self._store.new_id("workflow")
            body = self._definition_body(params, f"workflow/{workflow_id}", workflow_id)
            body["id"] = workflow_id
            if name := params.get("name"):
                body["name"] = name
            self._begin("workflow", workflow_id, body)
            return workflow_id

        key = self._requests.once("CreateWorkflow", params, create)
        return self._answers.view("CreateWorkflow", self._need(key))

    def _create_version(self, params: dict[str, Any]) -> Mapping[str, Any]:
        definitions.check_request(params)
        workflow_id, name = params["workflowId"], params["versionName"]
        workflow = self._need(workflow_id)
        if workflow["status"] != "ACTIVE":
            raise conflict(f"workflow {workflow_id} is {workflow['status']}")
        key = f"{workflow_id}/{name}"

        def create() -> str:
            if self._store.get("version", key) is not None:
                raise conflict(f"workflow {workflow_id} has a version {name}")
            if self._store.count("version", workflow_id) >= limits.VERSIONS_PER_WORKFLOW:
                raise ServiceError(
                    "ServiceQuotaExceededException",
                    f"workflow {workflow_id} has {limits.VERSIONS_PER_WORKFLOW} versions, "
                    "the most there may be: delete some",
                )
            body = self._definition_body(params, f"workflow/{workflow_id}/version/{name}", key)
            body |= {"workflowId": workflow_id, "versionName": name}
            self._begin("version", key, body, parent=workflow_id)
            return key

        self._requests.once("CreateWorkflowVersion", params, create)
        body = self._answers.need("version", key, f"workflow version {name}")
        return self._answers.view("CreateWorkflowVersion", body)

    def _begin(self, kind: str, key: str, body: Record, parent: str = "") -> None:
        self._store.insert(kind, key, body, parent=parent)
        self._events.workflow(body)
        self._parser.submit(self._check_definition, kind, key)

    def _definition_body(self, params: Mapping[str, Any], arn: str, key: str) -> Record:
        packed = params.get("definitionZip")
        if packed is None:
            packed = self._fetch(params["definitionUri"])
        place = self._definitions / uuid.uuid4().hex
        place.mkdir()
        (place / "definition.zip").write_bytes(packed)
        return {
            "arn": self._answers.arn(arn),
            "uuid": str(uuid.uuid4()),
            "type": "PRIVATE",
            "status": "CREATING",
            "engine": params.get("engine"),
            "main": params.get("main"),
            "digest": hashlib.sha256(packed).hexdigest(),
            "creationTime": time.time(),
            "_key": key,
            "_place": str(place),
            "_readme": params.get("readmeMarkdown"),
            **{name: params[name] for name in _KEPT if name in params},
        }

    def _fetch(self, uri: str) -> bytes:
        from botocore.exceptions import ClientError

        from snakemake_executor_takeda.backends.aws import split_s3_uri

        try:
            bucket, key = split_s3_uri(uri)
            found = sandbox_s3(self._context).get_object(Bucket=bucket, Key=key)
            if found["ContentLength"] > limits.DEFINITION_BYTES:
                raise invalid(f"definitionUri {uri} is larger than {limits.DEFINITION_BYTES} bytes")
            return found["Body"].read()
        except (TakedaError, ClientError) as error:
            raise invalid(f"definitionUri {uri} cannot be read: {error}") from None

    def _check_definition(self, kind: str, key: str) -> None:
        """CREATING → ACTIVE or FAILED."""
        self._closing.wait(_CREATING_SECONDS)
        body = self._store.get(kind, key)
        if body is None:
            return
        if self._closing.wait(self._mishaps.creating_seconds(body)):
            return  # it is looked at after the next start
        place = Path(body["_place"])
        files = place / "files"
        try:
            shutil.rmtree(files, ignore_errors=True)
            files.mkdir()
            definitions.unpack((place / "definition.zip").read_bytes(), files)
            found = definitions.inspect(files, body["engine"], body["main"])
        except TakedaError as error:
            message = " ".join(str(error).replace(str(files), "").split())
            self._settle(kind, key, status="FAILED", statusMessage=message[:4000])
            return
        except Exception as error:  # noqa: BLE001 - who created it must hear of it
            message = f"the sandbox broke: {type(error).__name__}: {error}"
            self._settle(kind, key, status="FAILED", statusMessage=message)
            return
        template = body.get("parameterTemplate") or found.template
        self._settle(
            kind,
            key,
            status="ACTIVE",
            engine=found.engine,
            main=found.main,
            parameterTemplate=template or None,
            _checks_parameters=template is not None,
        )

    def _settle(self, kind: str, key: str, **members: Any) -> None:
        body = self._store.change(kind, key, lambda body: body.update(members))
        if body is not None:
            self._events.workflow(body)

    def _get(self, params: dict[str, Any]) -> Mapping[str, Any]:
        body = self._need(params["id"], params.get("type", "PRIVATE"))
        return self._shown("GetWorkflow", body, params)

    def _get_version(self, params: dict[str, Any]) -> Mapping[str, Any]:
        return self._shown("GetWorkflowVersion", self._need_version(params), params)

    def _shown(self, operation: str, body: Record, params: Mapping[str, Any]) -> Mapping[str, Any]:
        wanted = params.get("export", [])
        if "DEFINITION" in wanted:
            raise invalid("the sandbox exports no definitions")
        answer = self._answers.view(operation, body)
        if "README" in wanted and body.get("_readme"):
            answer["readme"] = body["_readme"]
        return answer

    def _need_version(self, params: Mapping[str, Any]) -> Record:
        name = params["versionName"]
        return self._answers.need(
            "version", f"{params['workflowId']}/{name}", f"workflow version {name}"
        )

    def _list(self, params: dict[str, Any]) -> Mapping[str, Any]:
        kind = "ready2run" if params.get("type") == "READY2RUN" else "workflow"
        return self._answers.page(
            "ListWorkflows", params, self._store.numbered(kind), filters=["name"]
        )

    def _list_versions(self, params: dict[str, Any]) -> Mapping[str, Any]:
        workflow_id = params["workflowId"]
        self._need(workflow_id, params.get("type", "PRIVATE"))
        return self._answers.page(
            "ListWorkflowVersions", params, self._store.numbered("version", workflow_id)
        )

    def _update(self, params: dict[str, Any]) -> None:
        self._need(params["id"])
        self._change("workflow", params["id"], params)

    def _update_version(self, params: dict[str, Any]) -> None:
        self._change("version", self._need_version(params)["_key"], params)

    def _change(self, kind: str, key: str, params: Mapping[str, Any]) -> None:
        """Definition, engine and template of what was made never change."""
        members = {name: params[name] for name in _CHANGEABLE if name in params}
        if "readmeMarkdown" in params:
            members["_readme"] = params["readmeMarkdown"]
        self._store.update(kind, key, **members)

    def _delete(self, params: dict[str, Any]) -> None:
        workflow_id = params["id"]
        body = self._need(workflow_id)
        for version in self._store.records("version", workflow_id):
            self._forget("version", version)
        self._forget("workflow", body)

    def _delete_version(self, params: dict[str, Any]) -> None:
        self._forget("version", self._need_version(params))

    def _forget(self, kind: str, body: Mapping[str, Any]) -> None:
        self._store.delete(kind, body["_key"])
        in_use = any(
            run["_definition"].startswith(body["_place"]) and run["status"] not in ENDED
            for run in self._store.records("run")
        )
        if not in_use:
            shutil.rmtree(body["_place"], ignore_errors=True)
