"""Fixture `slurm_env`: a real Slurm of the test session's own, registered by the top conftest."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def slurm_dir() -> Iterator[Path]:
    """The state folder of a running Slurm with four nodes, ended and deleted with the session."""
    from snakemake_executor_takeda.sandbox import slurm

    if missing := slurm.missing_packages():
        reason = f"no Slurm here: {', '.join(missing)} not found; install {set(missing.values())}"
        if os.environ.get("CI"):
            pytest.fail(f"CI must have a Slurm. {reason}")
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="takeda-slurm-test-"))
    try:
        slurm.up(folder, nodes=4)
        yield folder
    finally:
        slurm.down(folder)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def slurm_env(slurm_dir: Path) -> dict[str, str]:
    """The variables that lead Slurm's commands to the session's cluster: merge them with others."""
    from snakemake_executor_takeda.sandbox import slurm

    return slurm.environment(slurm_dir)
