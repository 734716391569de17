"""Fixture `real_pyslurm`: pyslurm itself, where it is built for the session's Slurm 24.11 and can be loaded.

docs/slurm.md says how: with that Slurm's root over this machine's /usr, for its library needs its libc.
"""

from __future__ import annotations

import importlib
import os
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pytest

FITS = "24.11."


@pytest.fixture(scope="session")
def _is_pyslurm_here() -> None:
    try:
        installed = version("pyslurm")
    except PackageNotFoundError:
        pytest.skip("pyslurm is not installed: it is built by hand, for one Slurm (docs/slurm.md)")
    if not installed.startswith(FITS):
        pytest.skip(f"pyslurm {installed} does not fit Slurm {FITS}x of the tests")


@pytest.fixture(scope="session")
def real_pyslurm(_is_pyslurm_here: None, slurm_2411: dict[str, str]) -> tuple[dict[str, str], Any]:
    """The variables that lead to the cluster, and the module, which was loaded with them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in slurm_2411.items():
            patch.setenv(name, value)
        assert os.environ["SLURM_CONF"]  # without one, to load it ends the process
        try:
            return slurm_2411, importlib.import_module("pyslurm")
        except ImportError as error:
            pytest.skip(f"pyslurm is installed, but can't be loaded: {error}")
