"""Every Python example in docs/sandbox.md, run against a sandbox."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "sandbox.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), flags=re.M | re.S)
SAID = [
    "SUCCEEDED COMPLETED\n",
    "SUCCEEDED hello from child 2\n",
    "RUNNABLE STARTING RUNNING SUCCEEDED\n",
    "COMPLETED Hello, HealthOmics\n\n",
]


def test_the_page_has_examples() -> None:
    assert len(EXAMPLES) == len(SAID)
    assert len(EXAMPLES[0].splitlines()) == 10


@pytest.mark.sandbox
@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example(number: int, sandbox_env: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EXAMPLES[number]],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **sandbox_env},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == SAID[number]
