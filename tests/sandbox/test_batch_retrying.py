"""`retryStrategy` and `evaluateOnExit`, rule by rule."""

from __future__ import annotations

import pytest

from snakemake_executor_takeda.sandbox.batch.jobs import Ending
from snakemake_executor_takeda.sandbox.batch.retrying import is_retried

SPOT = Ending("Host EC2 (instance i-0123) terminated.")
OOM = Ending(
    "Essential container in task exited",
    137,
    "OutOfMemoryError: Container killed due to memory usage",
)
EXIT_1 = Ending("Essential container in task exited", 1)
SPOT_ONLY = [
    {"onStatusReason": "Host EC2*", "action": "RETRY"},
    {"onReason": "*", "action": "EXIT"},
]


@pytest.mark.parametrize(
    ("ending", "attempt", "attempts", "rules", "expected"),
    [
        (EXIT_1, 1, 1, [], False),
        (EXIT_1, 1, 2, [], True),
        (EXIT_1, 2, 2, [], False),
        (SPOT, 1, 3, SPOT_ONLY, True),
        (SPOT, 3, 3, SPOT_ONLY, False),
        (EXIT_1, 1, 3, SPOT_ONLY, False),
        (OOM, 1, 3, SPOT_ONLY, False),
        (OOM, 1, 3, [{"onReason": "OutOfMemory*", "action": "exit"}], False),
        # the action in any case, the conditions exactly
        (OOM, 1, 3, [{"onReason": "outofmemory*", "action": "exit"}], True),
        # no rule matches: retried
        (EXIT_1, 1, 3, [{"onExitCode": "2", "action": "EXIT"}], True),
        (EXIT_1, 1, 3, [{"onExitCode": "1*", "action": "EXIT"}], False),
        # all conditions of a rule must hold
        (OOM, 1, 3, [{"onExitCode": "137", "onReason": "Cannot*", "action": "EXIT"}], True),
        (OOM, 1, 3, [{"onExitCode": "137", "onReason": "Out*", "action": "EXIT"}], False),
        # an absent exit code matches no number
        (SPOT, 1, 3, [{"onExitCode": "1", "action": "EXIT"}], True),
        (Ending("enough", 143, can_retry=False), 1, 3, [], False),
    ],
)
def test_is_retried(
    ending: Ending, attempt: int, attempts: int, rules: list[dict[str, str]], expected: bool
) -> None:
    assert is_retried(ending, attempt, attempts, rules) is expected
