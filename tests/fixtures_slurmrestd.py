"""Fixture `slurmrestd`: the one of the session's Slurm 24.11 (`slurm_2411`), with a token for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Slurmrestd:
    """Where it answers, and how its cluster is reached by the commands."""

    url: str
    token: str
    environment: dict[str, str]


@pytest.fixture(scope="session")
def slurmrestd(slurm_2411_dir: Path, slurm_2411: dict[str, str]) -> Slurmrestd:
    from snakemake_executor_takeda.sandbox import slurm

    rest = slurm.rest(slurm_2411_dir)
    return Slurmrestd(rest.url, rest.token, slurm_2411)
