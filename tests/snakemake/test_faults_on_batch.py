"""A pipeline on a Batch that keeps failing: all outputs right, nothing twice, each attempt explained.

The checks are those of `benchmarks/faults.py`, which runs every fault; these are the ones with the most
parts of the project in them.
"""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "faults.py"


@pytest.mark.sandbox
@pytest.mark.parametrize(
    "case", ["spot, exit code 143", "blocked queue", "events lost", "all at once"]
)
def test_nothing_is_lost_or_done_twice(case):
    command = [sys.executable, SCRIPT, case, "--jobs", "8", "--seed", "3", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
