"""Registers packages as workflow versions: found before created, and created once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from snakemake_executor_takeda.backends.aws import (
    error_code,
    error_message,
    is_denied,
    join_s3_uri,
    split_s3_uri,
)
from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.healthomics.packaging import Package
from snakemake_executor_takeda.values import FailureKind

if TYPE_CHECKING:
    from mypy_boto3_omics import OmicsClient
    from mypy_boto3_s3 import S3Client

_GONE = ("DELETED", "FAILED", "INACTIVE")
MAX_INLINE_BYTES = 4_400_000
"""What CreateWorkflow takes as definitionZip; a larger definition comes from S3."""
_MAX_URI = 256
_CHECKERS = {
    "WDL": "`miniwdl check`",
    "NEXTFLOW": "`nextflow lint` (25.04 and later)",
    "CWL": "`cwltool --validate`",
}


@dataclass(frozen=True)
class Registered:
    """A workflow version that runs can be started from."""

    workflow_id: str
    version: str | None
    """None for the workflow's own default."""
    workflow_type: Literal["PRIVATE", "READY2RUN"] = "PRIVATE"


@dataclass(frozen=True)
class Placing:
    """What a target says of the workflows that are registered for it."""

    definition_uri: str | None = None
    """S3 prefix for definitions too large to be sent inline."""
    registry_map: Mapping[str, Any] = field(default_factory=dict)
    """`containerRegistryMap`; empty for none."""
    poll_seconds: float = 1
    timeout_seconds: float = 600

    def version_of(self, package: Package) -> str:
        """A registry map decides what runs as much as the sources do."""
        if not self.registry_map:
            return package.version
        facts = json.dumps([package.version, self.registry_map], sort_keys=True)
        return f"c-{hashlib.sha256(facts.encode()).hexdigest()[:24]}"


class Registry:
    """Workflows of one account and region. Remembers what it found for as long as it lives."""

    def __init__(
        self,
        omics: OmicsClient,
        s3: Callable[[], S3Client] | None = None,
        placing: Placing = Placing(),
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """`pause` waits for seconds; what it raises ends the waiting for a version."""
        self._omics = omics
        self._s3 = s3
        self._placing = placing
        self._pause = pause
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], Registered] = {}

    def ensure(self, package: Package) -> Registered:
        """The ACTIVE version that holds exactly this content.

        Two controllers may do this at the same time: both end with the same version. Raises
        SubmissionError with the service's findings for a definition that it does not accept.
        """
        version = self._placing.version_of(package)
        key = (package.name, version)
        with self._lock:
            if key not in self._known:
                workflow_id = self._workflow(package, version)
                self._version(workflow_id, package, version)
                self._known[key] = Registered(workflow_id, version)
            return self._known[key]

    def _workflow(self, package: Package, version: str) -> str:
        found, failed = self._named(package.name)
        if not found:
            for workflow_id in failed:
                with contextlib.suppress(
                    self._omics.exceptions.ConflictException,
                    self._omics.exceptions.ResourceNotFoundException,
                ):
                    self._omics.delete_workflow(id=workflow_id)
            found = self._create(package, version, failed)
        workflow_id = found[0]
        self._await_active(
            lambda: self._omics.get_workflow(id=workflow_id, type="PRIVATE"), package
        )
        return workflow_id

    def _create(self, package: Package, version: str, failed: Sequence[str]) -> list[str]:
        refusals = self._omics.exceptions
        # A token per definition and per earlier failure: a repeated call is the same call. Where the
        # workflow that it made was deleted since, it is spent, and the next one is used.
        for spent in ("", *"1234"):
            token = _token(package.name, version, *failed, *spent)
            created = []
            # A conflict says that another controller is doing the same; its workflow is looked for.
            with contextlib.suppress(
                refusals.ConflictException, refusals.ResourceNotFoundException
            ):
                reply = self._omics.create_workflow(
                    name=package.name, requestId=token, **self._definition(package, version)
                )
                self._omics.get_workflow(id=reply["id"], type="PRIVATE")
                created.append(reply["id"])
            # Where two were created at once, all take the older; a listing may lag behind.
            if found := self._named(package.name)[0] or created:
                return found
            self._pause(self._placing.poll_seconds)
        raise SubmissionError(
            FailureKind.NODE_FAILURE, f"HealthOmics lists no workflow named {package.name}"
        )

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

    def _version(self, workflow_id: str, package: Package, version: str) -> None:
        state = self._get_version(workflow_id, version)
        if state is not None and state["status"] == "FAILED":
            # Versions are immutable, but what made this one fail may have been the service.
            with contextlib.suppress(
                self._omics.exceptions.ConflictException,
                self._omics.exceptions.ResourceNotFoundException,
            ):
                self._omics.delete_workflow_version(workflowId=workflow_id, versionName=version)
            state = None
        if state is None:
            # A conflict says that it exists: another controller was faster.
            with contextlib.suppress(self._omics.exceptions.ConflictException):
                self._omics.create_workflow_version(
                    workflowId=workflow_id,
                    versionName=version,
                    requestId=_token(workflow_id, version, str(time.time_ns())),
                    **self._definition(package, version),
                )
        self._await_active(lambda: self._get_version(workflow_id, version), package)

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

    def _definition(self, package: Package, version: str) -> dict[str, Any]:
        definition: dict[str, Any] = {
            "engine": package.engine,
            "main": package.main,
            "tags": {"takeda:version": version},
        }
        if len(package.definition_zip) <= MAX_INLINE_BYTES:
            definition["definitionZip"] = package.definition_zip
        else:
            definition["definitionUri"] = self._upload(package)
        if package.parameter_template:  # An empty one is refused.
            definition["parameterTemplate"] = package.parameter_template
        if self._placing.registry_map:
            definition["containerRegistryMap"] = self._placing.registry_map
        return definition

    def _upload(self, package: Package) -> str:
        """Put a definition in S3, once for each content. Raises SubmissionError."""
        from botocore.exceptions import ClientError

        size = f"{package.name} has {len(package.definition_zip):,} bytes"
        if self._s3 is None or self._placing.definition_uri is None:
            raise SubmissionError(
                FailureKind.CONFIGURATION,
                f"{size}; HealthOmics takes {MAX_INLINE_BYTES:,} inline",
                "set definition_uri on the target, an S3 prefix of its region",
            )
        uri = join_s3_uri(self._placing.definition_uri, package.name, f"{package.version}.zip")
        if len(uri) > _MAX_URI:
            raise SubmissionError(
                FailureKind.CONFIGURATION,
                f"{size} and is handed over in S3, but {uri} is longer than the {_MAX_URI} characters "
                "that HealthOmics takes",
                "set a shorter definition_uri on the target",
            )
        bucket, key = split_s3_uri(uri)
        try:
            self._s3().put_object(Bucket=bucket, Key=key, Body=package.definition_zip)
        except ClientError as error:
            if not is_denied(error) and error_code(error) != "NoSuchBucket":
                raise
            raise SubmissionError(
                FailureKind.CONFIGURATION,
                f"{size} and could not be put to {uri}: {error_code(error)}: {error_message(error)}",
                "allow s3:PutObject there, or set definition_uri on the target",
            ) from error
        return uri

    def _await_active(self, read: Callable[[], Mapping[str, Any] | None], package: Package) -> None:
        deadline = time.monotonic() + self._placing.timeout_seconds
        while True:
            state = read() or {}
            status = state.get("status", "CREATING")
            if status == "ACTIVE":
                return
            if status != "CREATING":
                message = " ".join(str(state.get("statusMessage", "")).split())
                linter = _CHECKERS.get(package.engine, "a linter")
                # It is the sandbox that speaks of itself.
                advice = (
                    "mend that, then start the pipeline again; the workflow is not at fault"
                    if message.startswith("the sandbox ")
                    else f"correct the workflow; {linter} shows most findings"
                )
                raise SubmissionError(
                    FailureKind.CONFIGURATION,
                    f"HealthOmics does not take {package.main}: {status}: {message}",
                    advice,
                )
            if time.monotonic() > deadline:
                raise SubmissionError(
                    FailureKind.NODE_FAILURE,
                    f"{package.name} {self._placing.version_of(package)} is still {status} "
                    f"after {self._placing.timeout_seconds:.0f} s",
                )
            self._pause(self._placing.poll_seconds)


def _token(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
