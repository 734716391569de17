"""AWS HealthOmics' limits, as its documentation gives them: botocore's model has none of these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

DEFINITION_ZIP_BYTES: Final = 4_613_734
"""4.4 MiB, what CreateWorkflow takes inline."""
DEFINITION_BYTES: Final = 100 << 20
"""A definition in S3, and what any definition may hold unpacked."""
DEFINITION_FILES: Final = 20_000
"""The sandbox's own limit."""
README_BYTES: Final = 500 << 10
VERSIONS_PER_WORKFLOW: Final = 1000
PARAMETER_BYTES: Final = 50_000
TAGS: Final = 50
BATCH_RUNS: Final = 100_000
RUN_MINUTES: Final = 10_080
"""Longest run: 7 days. A run group's maxDuration may only be shorter."""
STATIC_GIB: Final = 1200
"""Smallest static storage; larger requests come in multiples of twice this."""

CALLS_PER_SECOND: Final[Mapping[str, float]] = {
    **dict.fromkeys(
        (
            *("CreateWorkflow", "CreateWorkflowVersion", "UpdateWorkflow", "UpdateWorkflowVersion"),
            *("DeleteWorkflow", "DeleteWorkflowVersion", "CreateRunGroup", "UpdateRunGroup"),
            *("DeleteRunGroup", "CreateRunCache", "UpdateRunCache", "DeleteRunCache"),
            *("TagResource", "UntagResource", "ListTagsForResource"),
        ),
        5.0,
    ),
    **dict.fromkeys(
        (
            *("GetWorkflow", "ListWorkflows", "GetWorkflowVersion", "ListWorkflowVersions"),
            *("GetRun", "ListRuns", "GetRunTask", "ListRunTasks", "CancelRun", "DeleteRun"),
            *("GetRunGroup", "ListRunGroups", "GetRunCache", "ListRunCaches"),
            *("GetBatch", "ListBatch", "ListRunsInBatch"),
        ),
        10.0,
    ),
}
"""Calls a second by operation. StartRun's, 0.1 to 1 by region, is what the fault `omics-quotas` says;
the calls about whole batches share the quota of the call about one run."""

SAME_QUOTA: Final[Mapping[str, str]] = {
    "StartRunBatch": "StartRun",
    "CancelRunBatch": "CancelRun",
    "DeleteRunBatch": "DeleteRun",
    "DeleteBatch": "DeleteRun",
}
