"""Registers packages as workflow versions: found before created, and created once."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends.aws import error_code
from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.healthomics.packaging import Package
from snakemake_executor_takeda.values import FailureKind

if TYPE_CHECKING:
    from mypy_boto3_omics import OmicsClient

_GONE = ("DELETED", "FAILED", "INACTIVE")


@dataclass(frozen=True)
class Registered:
    """A workflow version that runs can be started from."""

    workflow_id: str
    version: str


class Registry:
    """Workflows of one account and region. Remembers what it found for as long as it lives."""

    def __init__(
        self, omics: OmicsClient, *, poll_seconds: float = 1, timeout_seconds: float = 600
    ) -> None:
        self._omics = omics
        self._poll_seconds = poll_seconds
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], Registered] = {}

    def ensure(self, package: Package) -> Registered:
        """The ACTIVE version that holds exactly this content.

        Two controllers may do this at the same time: both end with the same version. Raises
        SubmissionError with the service's findings for a definition that it does not accept.
        """
        key = (package.name, package.version)
        with self._lock:
            if key not in self._known:
                workflow_id = self._workflow(package)
                self._version(workflow_id, package)
                self._known[key] = Registered(workflow_id, package.version)
            return self._known[key]

    def _workflow(self, package: Package) -> str:
        found, failed = self._named(package.name)
        if not found:
            for workflow_id in failed:
                with contextlib.suppress(
                    self._omics.exceptions.ConflictException,
                    self._omics.exceptions.ResourceNotFoundException,
                ):
                    self._omics.delete_workflow(id=workflow_id)
            found = self._create(package, failed)
        workflow_id = found[0]
        self._await_active(
            lambda: self._omics.get_workflow(id=workflow_id, type="PRIVATE"), package
        )
        return workflow_id

    def _create(self, package: Package, failed: Sequence[str]) -> list[str]:
        # A token per definition and per earlier failure: a repeated call is the same call.
        token = _token(package.name, package.version, *failed)
        created = []
        try:
            reply = self._omics.create_workflow(
                name=package.name, requestId=token, **self._definition(package)
            )
            created.append(reply["id"])
        except self._omics.exceptions.ConflictException:
            pass  # Another controller is doing the same; look for its workflow.
        # Where two were created at once, all take the older; a listing may lag behind.
        found = self._named(package.name)[0] or created
        if not found:
            raise SubmissionError(
                FailureKind.NODE_FAILURE, f"HealthOmics lists no workflow named {package.name}"
            )
        return found

    def _named(self, name: str) -> tuple[list[str], list[str]]:
        """Ids of usable and of failed workflows of this name, the oldest first, for all the same."""
        items = [
            item
            for page in self._omics.get_paginator("list_workflows").paginate(
                name=name, type="PRIVATE"
            )
            for item in page["items"]
            if item.get("name") == name
        ]
        items.sort(key=lambda item: (item["creationTime"], item["id"]))
        usable = [item["id"] for item in items if item["status"] not in _GONE]
        return usable, [item["id"] for item in items if item["status"] == "FAILED"]

    def _version(self, workflow_id: str, package: Package) -> None:
        state = self._get_version(workflow_id, package.version)
        if state is not None and state["status"] == "FAILED":
            # Versions are immutable, but what made this one fail may have been the service.
            self._omics.delete_workflow_version(workflowId=workflow_id, versionName=package.version)
            state = None
        if state is None:
            # A conflict says that it exists: another controller was faster.
            with contextlib.suppress(self._omics.exceptions.ConflictException):
                self._omics.create_workflow_version(
                    workflowId=workflow_id,
                    versionName=package.version,
                    requestId=_token(workflow_id, package.version, str(time.time_ns())),
                    **self._definition(package),
                )
        self._await_active(lambda: self._get_version(workflow_id, package.version), package)

    def _get_version(self, workflow_id: str, version: str) -> Mapping[str, Any] | None:
        from botocore.exceptions import ClientError

        try:
            return self._omics.get_workflow_version(
                workflowId=workflow_id, versionName=version, type="PRIVATE"
            )
        except ClientError as error:
            if error_code(error) == "ResourceNotFoundException":
                return None
            raise

    def _definition(self, package: Package) -> dict[str, Any]:
        definition: dict[str, Any] = {
            "engine": package.engine,
            "main": package.main,
            "definitionZip": package.definition_zip,
            "tags": {"takeda:version": package.version},
        }
        if package.parameter_template:  # An empty one is refused.
            definition["parameterTemplate"] = package.parameter_template
        return definition

    def _await_active(self, read: Callable[[], Mapping[str, Any] | None], package: Package) -> None:
        deadline = time.monotonic() + self._timeout_seconds
        while True:
            state = read() or {}
            status = state.get("status", "CREATING")
            if status == "ACTIVE":
                return
            if status != "CREATING":
                message = " ".join(str(state.get("statusMessage", "")).split())
                raise SubmissionError(
                    FailureKind.CONFIGURATION,
                    f"HealthOmics does not take {package.main}: {status}: {message}",
                    "correct the workflow; `miniwdl check` shows most findings",
                )
            if time.monotonic() > deadline:
                raise SubmissionError(
                    FailureKind.NODE_FAILURE,
                    f"{package.name} {package.version} is still {status} "
                    f"after {self._timeout_seconds:.0f} s",
                )
            time.sleep(self._poll_seconds)


def _token(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
