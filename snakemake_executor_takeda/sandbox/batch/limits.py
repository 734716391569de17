"""AWS Batch's limits, as its documentation gives them: botocore's model has none of these."""

from __future__ import annotations

import re
from typing import Final

ARRAY_SIZE: Final = range(2, 10_001)
DEPENDENCIES: Final = 20
SUBMIT_PAYLOAD_BYTES: Final = 30 * 1024
JOB_DEFINITION_BYTES: Final = 24 * 1024
ATTEMPTS: Final = range(1, 11)
EVALUATE_ON_EXIT_RULES: Final = 5
EVALUATE_ON_EXIT_CHARACTERS: Final = 512
REASON_PATTERN: Final = re.compile(r"[A-Za-z0-9.:\s]*\*?")
"""onReason and onStatusReason of evaluateOnExit: no brackets, no hyphens."""
EXIT_CODE_PATTERN: Final = re.compile(r"[0-9]*\*?")
TIMEOUT_MIN_SECONDS: Final = 60
DESCRIBED_JOBS: Final = 100
ENDED_JOBS_PER_CALL: Final = 50
"""Ids in one TerminateJobs or CancelJobs."""
LIST_PAGE: Final = 1000
LIST_PAGE_FILTERED: Final = 100
DESCRIBE_PAGE: Final = 100
"""Definitions, queues or compute environments in one page."""
SNAPSHOT_JOBS: Final = 100
JOB_QUEUES: Final = 50
COMPUTE_ENVIRONMENTS: Final = 50
ENVIRONMENTS_PER_QUEUE: Final = 3
QUEUE_PRIORITY: Final = range(0, 1001)
TIME_LIMIT_SECONDS: Final = range(600, 86_401)
"""maxTimeSeconds of a queue's jobStateTimeLimitActions."""
MEMORY_MIN_MIB: Final = 4
END_REASON_CHARACTERS: Final = 1024
"""The reason in TerminateJob and CancelJob."""
TAGS: Final = 50
RESERVED_TAG_PREFIX: Final = "aws:"
CONSUMABLES_PER_JOB: Final = 5
SCHEDULING_PRIORITY: Final = range(0, 10_000)
SHARE_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9]{1,255}\*?")
JOB_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}([:#][0-9]+)?")
"""A job, an array's child (`:index`) or a node (`#index`)."""
JOB_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
RESOURCE_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
"""Job definitions, queues and compute environments."""
RESERVED_ENVIRONMENT_PREFIX: Final = "AWS_BATCH"
EPHEMERAL_GIB: Final = range(21, 201)

_GIB: Final = 1024
FARGATE_MEMORY_MIB: Final[dict[float, frozenset[int]]] = {
    0.25: frozenset({512, 1024, 2048}),
    0.5: frozenset(range(1 * _GIB, 4 * _GIB + 1, _GIB)),
    1: frozenset(range(2 * _GIB, 8 * _GIB + 1, _GIB)),
    2: frozenset(range(4 * _GIB, 16 * _GIB + 1, _GIB)),
    4: frozenset(range(8 * _GIB, 30 * _GIB + 1, _GIB)),
    8: frozenset(range(16 * _GIB, 60 * _GIB + 1, 4 * _GIB)),
    16: frozenset(range(32 * _GIB, 120 * _GIB + 1, 8 * _GIB)),
    32: frozenset({60 * _GIB, 120 * _GIB, 244 * _GIB}),
}
"""vCPUs → the memory sizes that Fargate has with them."""
