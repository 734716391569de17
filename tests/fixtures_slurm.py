"""Real Slurms of the test session's own, registered by the top conftest: `slurm_env`, this machine's, and
`slurm_2411`, a newer one with accounting and slurmrestd out of another root file system. `slurm_way` is the
client through which a test speaks to one of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

MAKE_ROOT = Path(__file__).parents[1] / "scripts" / "make-slurm-root"
on_both_slurms = pytest.mark.parametrize("slurm_way", ["22.05", "24.11"], indirect=True)
"""A test that uses `slurm_env` runs on this machine's Slurm, and on the newer one, by commands."""
on_old_and_rest = pytest.mark.parametrize("slurm_way", ["22.05", "24.11-rest"], indirect=True)
"""Likewise by commands on this machine's, and through slurmrestd on the newer one: each version and each
client once, for whole runs, which take long. Contract tests run `on_every_slurm`."""
on_every_slurm = pytest.mark.parametrize(
    "slurm_way", ["22.05", "24.11", "24.11-rest"], indirect=True
)
"""A test that uses `slurm_env` and gives its targets the words of `slurm_way` runs through each client."""


@dataclass(frozen=True)
class Way:
    """How a test speaks to a cluster."""

    environment: dict[str, str]
    """The variables that lead Slurm's commands there."""
    words: dict[str, str]
    """What each target says of its client."""

    @property
    def is_rest(self) -> bool:
        return self.words.get("client") == "rest"

    def write_policy(self, path: Path, text: str) -> None:
        """A routing policy whose Slurm targets are reached in this way."""
        policy = yaml.safe_load(text)
        on_slurm = (one for one in policy["targets"].values() if one["backend"] == "slurm")
        for target in on_slurm:
            target.update(self.words)
        path.write_text(yaml.safe_dump(policy))


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
def slurm_way(request: pytest.FixtureRequest) -> Way:
    """This machine's Slurm by its commands; with `on_both_slurms` and `on_every_slurm` others, too."""
    from snakemake_executor_takeda.sandbox import slurm

    version, _, client = getattr(request, "param", "22.05").partition("-")
    if version == "22.05":
        return Way(slurm.environment(request.getfixturevalue("slurm_dir")), {})
    environment = request.getfixturevalue("slurm_2411")
    return Way(environment, request.getfixturevalue("rest_words") if client == "rest" else {})


@pytest.fixture(scope="session")
def rest_words(slurm_2411_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a target says to be reached through the slurmrestd of `slurm_2411`."""
    from snakemake_executor_takeda.sandbox import slurm

    rest = slurm.rest(slurm_2411_dir)
    token = tmp_path_factory.mktemp("token") / "token"
    token.touch(mode=0o600)
    token.write_text(rest.token)
    return {"client": "rest", "rest_url": rest.url, "jwt_file": str(token)}


@pytest.fixture(scope="session")
def slurm_env(slurm_way: Way) -> dict[str, str]:
    """The variables that lead Slurm's commands to the session's cluster: merge them with others."""
    return slurm_way.environment


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
