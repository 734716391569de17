"""Fixtures that all tests share: a sandbox of the session's own, on free ports."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest_plugins = ["fixtures_slurm", "fixtures_slurmrestd", "fixtures_pyslurm"]


def pytest_configure() -> None:
    """What a shell starts with `&` ignores Ctrl-C, and so would all that the tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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

    It holds nothing else: merge it with what a child process needs besides. A test that asks for
    it has it in its own environment, too.
    """
    from snakemake_executor_takeda.sandbox import control

    return control.environment(sandbox_dir)


@pytest.fixture(autouse=True)
def _region_stays() -> Iterator[None]:
    """A command gives AWS's clients the Region that they do not read themselves, for its own process."""
    before = os.environ.get("AWS_DEFAULT_REGION")
    yield
    if before is None:
        os.environ.pop("AWS_DEFAULT_REGION", None)
    else:
        os.environ["AWS_DEFAULT_REGION"] = before


@pytest.fixture(autouse=True)
def _variables_of_the_sandbox(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test that asks for `sandbox_env` also has it in its own environment, and only that test."""
    if "sandbox_env" in request.fixturenames:
        from snakemake_executor_takeda.sandbox.variables import FOREIGN

        for name in FOREIGN:
            monkeypatch.delenv(name, raising=False)
        for name, value in request.getfixturevalue("sandbox_env").items():
            monkeypatch.setenv(name, value)
