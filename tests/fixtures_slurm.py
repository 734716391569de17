"""Real Slurms of the test session's own, registered by the top conftest: `slurm_env`, this machine's, and
`slurm_2411`, a newer one with accounting and slurmrestd out of another root file system."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

MAKE_ROOT = Path(__file__).parents[1] / "scripts" / "make-slurm-root"
on_both_slurms = pytest.mark.parametrize("slurm_env", ["22.05", "24.11"], indirect=True)
"""A test of behaviour that uses `slurm_env` runs on this machine's Slurm, and on the newer one."""


@pytest.fixture(scope="session")
def slurm_dir() -> Iterator[Path]:
    """The state folder of a running Slurm with four nodes, ended and deleted with the session."""
    from snakemake_executor_takeda.sandbox import slurm

    if missing := slurm.missing_packages():
        _give_up(f"no Slurm here: {', '.join(missing)} not found; install {set(missing.values())}")
    yield from _cluster(nodes=4)


@pytest.fixture(scope="session")
def slurm_root() -> Path:
    """A root file system with Slurm 24.11: $TAKEDA_SLURM_ROOT, or the one of scripts/make-slurm-root,
    which is made when it is not there yet."""
    if named := os.environ.get("TAKEDA_SLURM_ROOT"):
        return Path(named)
    if os.geteuid() != 0:
        _give_up("no Slurm 24.11 here: only root can run one out of another root file system")
    if not shutil.which("debootstrap"):
        _give_up("no Slurm 24.11 here: install debootstrap, with which its root is made")
    made = subprocess.run([MAKE_ROOT], check=False, capture_output=True, text=True)
    if made.returncode:
        _give_up(f"no Slurm 24.11 here: {made.stderr.strip()}")
    return Path(made.stdout.strip())


@pytest.fixture(scope="session")
def slurm_2411_dir(slurm_root: Path) -> Iterator[Path]:
    """The state folder of a running Slurm 24.11 with four nodes, accounting and slurmrestd."""
    yield from _cluster(nodes=4, root=slurm_root, accounting=True, rest=True)


@pytest.fixture(scope="session")
def slurm_2411(slurm_2411_dir: Path) -> dict[str, str]:
    """The variables that lead to the commands of Slurm 24.11 and its cluster; PATH is one."""
    from snakemake_executor_takeda.sandbox import slurm

    return slurm.environment(slurm_2411_dir)


@pytest.fixture(scope="session")
def slurm_env(request: pytest.FixtureRequest) -> dict[str, str]:
    """The variables that lead Slurm's commands to the session's cluster: merge them with others.

    This machine's Slurm; with `on_both_slurms` also the newer one.
    """
    from snakemake_executor_takeda.sandbox import slurm

    if getattr(request, "param", "22.05") == "24.11":
        variables: dict[str, str] = request.getfixturevalue("slurm_2411")
        return variables
    return slurm.environment(request.getfixturevalue("slurm_dir"))


def _cluster(**setup: Any) -> Iterator[Path]:
    from snakemake_executor_takeda.sandbox import slurm

    folder = Path(tempfile.mkdtemp(prefix="takeda-slurm-test-"))
    try:
        slurm.up(folder, **setup)
        yield folder
    finally:
        slurm.down(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _give_up(reason: str) -> NoReturn:
    """Skips, or fails in CI, which must have it."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must have it: {reason}")
    pytest.skip(reason)
