"""Old versions of registered workflows: which of them may go, and how."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_omics import OmicsClient

_UNFINISHED = ("PENDING", "STARTING", "RUNNING", "STOPPING")


@dataclass(frozen=True)
class Version:
    """A registered version of a workflow."""

    workflow_id: str
    name: str
    created: datetime
    status: str
    in_use: bool = False
    """Whether a run of it has not ended."""


def prunable(versions: Sequence[Version], keep: int) -> list[Version]:
    """The versions that go, the oldest first: all but the newest `keep`, and none with an open run."""
    newest_first = sorted(versions, key=lambda one: (one.created, one.name), reverse=True)
    return [one for one in reversed(newest_first[keep:]) if not one.in_use]


def versions_of(omics: OmicsClient, name: str) -> list[Version]:
    """All versions that were registered under this workflow name by its content. Empty where there is none."""
    workflows = [
        item["id"]
        for page in omics.get_paginator("list_workflows").paginate(name=name, type="PRIVATE")
        for item in page["items"]
        if item.get("name") == name
    ]
    used = _used(omics, set(workflows)) if workflows else set()
    return [
        Version(
            workflow_id,
            item["versionName"],
            item["creationTime"],
            item["status"],
            (workflow_id, item["versionName"]) in used,
        )
        for workflow_id in workflows
        for page in omics.get_paginator("list_workflow_versions").paginate(
            workflowId=workflow_id, type="PRIVATE"
        )
        for item in page["items"]
        # A version that someone else made is not ours to remove.
        if item["versionName"].startswith("c-")
    ]


def remove(omics: OmicsClient, version: Version) -> None:
    """Delete a version; one that is gone already is as good."""
    with contextlib.suppress(omics.exceptions.ResourceNotFoundException):
        omics.delete_workflow_version(workflowId=version.workflow_id, versionName=version.name)


def _used(omics: OmicsClient, workflows: set[str]) -> set[tuple[str, str]]:
    """Workflow and version of each open run of these workflows."""
    return {
        (item["workflowId"], item.get("workflowVersionName", ""))
        for status in _UNFINISHED
        for page in omics.get_paginator("list_runs").paginate(status=status)  # type: ignore[arg-type]
        for item in page["items"]
        if item.get("workflowId") in workflows
    }
