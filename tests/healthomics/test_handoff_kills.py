"""A controller that dies between StartRun and the ledger's confirmation: the short form of `kill_run.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.healthomics.kill_run import Trial, kill_until

SEED = 20261121


@pytest.mark.sandbox
def test_a_killed_controller_starts_one_run(
    sandbox_env: dict[str, str],
    sandbox_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TAKEDA_SANDBOX_DIR", str(sandbox_dir))
    kills = kill_until(Trial(tmp_path, SEED), times=2)
    assert [one.runs for one in kills] == [1] * len(kills)
