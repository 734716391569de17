"""The chaos harness's short form: one round of kills, on all three backends."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from tests.chaos.pipelines import PIPELINES
from tests.chaos.rounds import Settings, run_round

SEED = 15117
"""It kills early: as the first answer is lost, and after the second success."""
KILLS = 2
pytestmark = [pytest.mark.sandbox, pytest.mark.slurm]


@pytest.fixture
def settings(
    sandbox_env: dict[str, str],
    slurm_env: dict[str, str],
    sandbox_dir: Path,
    slurm_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Settings:
    for name, value in slurm_env.items():
        monkeypatch.setenv(name, value)
    return Settings(PIPELINES["small"], sandbox_dir, slurm_dir, length_seconds=20)


def test_killed_controllers_lose_nothing_and_do_nothing_twice(
    settings: Settings, tmp_path: Path
) -> None:
    one = run_round(settings, SEED, tmp_path / "round", exactly=KILLS)
    assert one.ended_badly == []
    verdict = asdict(one.verdict)
    assert verdict == {
        "tasks": 17,
        **{"lost": (), "duplicated": (), "orphaned": (), "wrong": ()},
    }
    assert len(one.kills) == KILLS
    assert one.executions >= verdict["tasks"]
