"""Fixture `slurmrestd`: a real Slurm 24.11 of the test session's own, with slurmrestd before it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Slurmrestd:
    """Where it answers, and how its cluster is reached by the commands."""

    url: str
    token: str
    environment: dict[str, str]
    state_dir: Path


def slurm_root() -> Path:
    """The root file system that scripts/make-slurm-root makes, or the one that the variable names."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TAKEDA_SLURM_ROOT") or Path(cache) / "takeda/slurm-root-trixie")


@pytest.fixture(scope="session")
def slurmrestd() -> Iterator[Slurmrestd]:
    from snakemake_executor_takeda.sandbox import slurm

    root = slurm_root()
    if os.geteuid() != 0 or not (root / "usr/sbin/slurmrestd").exists():
        reason = f"no slurmrestd in {root}: as root, scripts/make-slurm-root makes one"
        if os.environ.get("CI"):
            pytest.fail(f"CI must have one. {reason}")
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="takeda-restd-"))
    try:
        environment = slurm.up(folder, nodes=4, root=root, rest=True)
        rest = slurm.rest(folder)
        yield Slurmrestd(rest.url, rest.token, environment, folder)
    finally:
        slurm.down(folder)
        shutil.rmtree(folder, ignore_errors=True)
