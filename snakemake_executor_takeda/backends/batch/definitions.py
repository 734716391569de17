"""Target → job definition. Pure.

What differs from job to job (CPUs, memory, command, time) is overridden at submission, so a run needs
one definition per kind of target. Its name holds a hash of its content: one lookup by name finds it,
and two controllers that register it at once make two equal revisions.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends.batch.options import DEFAULT_LOG_GROUP

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.batch.options import BatchOptions

# Batch demands some at registration; every submission overrides them. A legal pair on Fargate.
_PLACEHOLDER_RESOURCES = [
    {"type": "VCPU", "value": "1"},
    {"type": "MEMORY", "value": "2048"},
]


def job_definition(options: BatchOptions) -> dict[str, Any]:
    """The arguments of RegisterJobDefinition for a job of one container."""
    return named(
        {
            "type": "container",
            "platformCapabilities": [options.platform],
            "propagateTags": True,
            "containerProperties": container_properties(options),
        }
    )


def container_properties(options: BatchOptions) -> dict[str, Any]:
    """One container of this target. No environment: what tasks need of it is in S3."""
    container: dict[str, Any] = {
        "image": options.image,
        "resourceRequirements": _PLACEHOLDER_RESOURCES,
    }
    if options.job_role_arn:
        container["jobRoleArn"] = options.job_role_arn
    if options.execution_role_arn:
        container["executionRoleArn"] = options.execution_role_arn
    if options.log_group != DEFAULT_LOG_GROUP:
        container["logConfiguration"] = {
            "logDriver": "awslogs",
            "options": {"awslogs-group": options.log_group},
        }
    return container


def named(content: dict[str, Any]) -> dict[str, Any]:
    """The content with its name, which follows from it."""
    return {"jobDefinitionName": f"takeda-{content_hash(content)}", **content}


def content_hash(content: dict[str, Any]) -> str:
    """20 hex digits of the SHA-256 of the content in canonical JSON."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:20]
