"""What the security tests share: the policies, and a recorded run."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def policies() -> ModuleType:
    """infrastructure/iam/policies.py."""
    place = ROOT / "infrastructure/iam/policies.py"
    spec = importlib.util.spec_from_file_location("iam_policies", place)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """As iam_run.Recorded."""
    from iam_run import recorded_run

    with recorded_run(tmp_path_factory.mktemp("recorded")) as run:
        yield run
