"""An emulated HealthOmics in the test's own process, asked as boto3 asks it, without an engine."""

from __future__ import annotations

import io
import json
import threading
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from snakemake_executor_takeda.sandbox.faults import parse
from snakemake_executor_takeda.sandbox.injecting import Faults
from snakemake_executor_takeda.sandbox.omics import service
from snakemake_executor_takeda.sandbox.omics.supervisor import Supervisor
from snakemake_executor_takeda.sandbox.rest_json import Request, Router, service_model
from snakemake_executor_takeda.sandbox.services import Context

ROLE = "arn:aws:iam::123456789012:role/takeda-sandbox"
WDL = """version 1.0
workflow w { input { String who = "you" } call t { input: who = who } output { File o = t.o } }
task t { input { String who } command <<< echo ~{who} >>> output { File o = stdout() } }
"""


def packed(**files: str) -> bytes:
    """A zip; `main__wdl` is `main.wdl`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "."), text)
    return buffer.getvalue()


def wait_for(condition: Callable[[], Any], seconds: float = 120) -> Any:
    """What `condition` gives once it is true. Fails after a time that no machine needs."""
    deadline, pause = time.monotonic() + seconds, 0.01
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(pause)
        pause = min(0.2, 1.25 * pause)  # asking costs what the runs need
    return found


class Bus:
    """EventBridge as a list."""

    has_rules = True

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def put(self, events: Sequence[Any]) -> None:
        self.events.extend(events)


class Engine:
    """Stands in for the processes of runs: a run goes on until it is told to end."""

    def __init__(self) -> None:
        self.running: list[str] = []
        """Names of the runs that go on, in the order they began."""
        self.began: list[str] = []
        self._may_end = threading.Semaphore(0)
        self.is_open = False

    def end(self, count: int = 1) -> None:
        for _ in range(count):
            self._may_end.release()

    def execute(self, supervisor: Any, run_id: str, stop: threading.Event) -> None:
        run = supervisor._store.get("run", run_id)
        supervisor._set(run_id, "RUNNING", only_from=("STARTING",), startTime=time.time())
        name = run.get("name", "")
        self.began.append(name)
        self.running.append(name)
        while not stop.is_set() and not self.is_open:
            # A hundred threads that look 200 times a second are a core's work.
            if self._may_end.acquire(timeout=min(0.2, 0.005 * len(self.running))):
                break
        self.running.remove(name)
        if not supervisor._closing:
            supervisor._end(run_id, "CANCELLED" if stop.is_set() else "COMPLETED")


class Omics:
    """`omics.call("StartRun", …)` answers as boto3 does; `error` gives code and message instead."""

    def __init__(self, folder: Path, engine: Engine, monkeypatch: Any) -> None:
        self.folder, self.engine, self.bus = folder, engine, Bus()
        self.faults = Faults()
        for module in ("runs", "caches"):
            monkeypatch.setattr(
                f"snakemake_executor_takeda.sandbox.omics.{module}.bucket_exists",
                lambda context, uri: "missing" not in uri,
            )

        def execute(supervisor: Any, run_id: str, stop: threading.Event) -> None:
            engine.execute(supervisor, run_id, stop)

        monkeypatch.setattr(Supervisor, "_execute", execute)
        self.start()

    def start(self) -> None:
        context = Context(
            state_dir=self.folder,
            database=self.folder / "state.sqlite",
            services_url="",
            moto_url="http://127.0.0.1:9",
            events=self.bus,
            faults=self.faults,
        )
        self._service = service(context)
        self._service.start()
        self._router = Router([self._service])

    def stop(self) -> None:
        self._service.stop()

    def set_fault(self, word: str, **selectors: Any) -> None:
        self.faults.set(parse([word], **selectors))

    def answer(self, operation: str, params: dict[str, Any]) -> tuple[int, str, dict[str, Any]]:
        """HTTP status, error code and body, after the wire's own validation."""
        from botocore.serialize import create_serializer

        shape = service_model("omics").operation_model(operation)
        if "requestId" in shape.input_shape.required_members:
            params = {"requestId": f"{operation}-{time.monotonic_ns()}", **params}
        sent = create_serializer("rest-json", False).serialize_to_request(params, shape)
        path, _, query = sent["url_path"].partition("?")
        query = urlencode(sent["query_string"], doseq=True)
        body = sent["body"] if isinstance(sent["body"], bytes) else b""
        response = self._router.answer(Request(sent["method"], path, query, {}, body))
        found = json.loads(response.body or b"{}")
        return response.status, response.headers.get("x-amzn-ErrorType", ""), found

    def call(self, operation: str, **params: Any) -> dict[str, Any]:
        status, code, body = self.answer(operation, params)
        assert status < 300, f"{code}: {body}"
        return body

    def error(self, operation: str, **params: Any) -> tuple[str, str]:
        status, code, body = self.answer(operation, params)
        assert status >= 400, body
        return code, str(body["message"])

    # What tests do again and again.

    def workflow(self, source: str = WDL, **more: Any) -> str:
        made = self.call("CreateWorkflow", definitionZip=packed(main__wdl=source), **more)
        workflow_id = str(made["id"])
        wait_for(lambda: self.call("GetWorkflow", id=workflow_id)["status"] == "ACTIVE")
        return workflow_id

    def start_run(self, workflow_id: str, **more: Any) -> dict[str, Any]:
        request = {
            "workflowId": workflow_id,
            "roleArn": ROLE,
            "outputUri": "s3://bucket/runs",
            "storageType": "DYNAMIC",
            **more,
        }
        return self.call("StartRun", **request)

    def run_status(self, run_id: str) -> str:
        return str(self.call("GetRun", id=run_id)["status"])

    def batch(self, workflow_id: str, names: Sequence[str], **default: Any) -> str:
        made = self.call("StartRunBatch", **self.batch_request(workflow_id, names, **default))
        return str(made["id"])

    def batch_request(
        self, workflow_id: str, names: Sequence[str], **default: Any
    ) -> dict[str, Any]:
        return {
            "batchName": "cohort",
            "defaultRunSetting": {
                "workflowId": workflow_id,
                "roleArn": ROLE,
                "outputUri": "s3://bucket/runs",
                "storageType": "DYNAMIC",
                **default,
            },
            "batchRunSettings": {
                "inlineSettings": [{"runSettingId": name, "name": name} for name in names]
            },
        }

    def batch_status(self, batch_id: str) -> str:
        return str(self.call("GetBatch", batchId=batch_id)["status"])
