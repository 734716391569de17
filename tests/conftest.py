"""Fixtures that all tests share: a sandbox of the session's own, on free ports."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def sandbox_dir() -> Iterator[Path]:
    """The state folder of a running sandbox, ended and deleted with the session."""
    from snakemake_executor_takeda.sandbox import control

    # not below pytest's own folders: Slurm's sockets need a short path
    folder = Path(tempfile.mkdtemp(prefix="takeda-sandbox-"))
    try:
        control.up(
            folder, control.Options(services_port=0, moto_port=0, vcpus=4, memory_mib=16_384)
        )
        yield folder
    finally:
        control.down(folder)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def sandbox_env(sandbox_dir: Path) -> dict[str, str]:
    """The variables that lead AWS clients to the session's sandbox, as `takeda sandbox env` gives them.

    It holds nothing else: merge it with what a child process needs besides.
    """
    from snakemake_executor_takeda.sandbox import control

    return control.environment(sandbox_dir)
