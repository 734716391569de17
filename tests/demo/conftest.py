"""The outbreak pipeline's own modules, which live beside its Snakefile, can be imported here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / "workflows" / "outbreak"
sys.path.insert(0, str(WORKFLOW / "scripts"))


@pytest.fixture(scope="session")
def workflow() -> Path:
    return WORKFLOW


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """As after `source .venv/bin/activate`: the pipeline finds `takeda`."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path}
