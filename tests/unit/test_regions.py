"""AWS_REGION is heeded, as AWS's own tools heed it: by commands and by runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from snakemake_executor_takeda.assembly import aws_region
from snakemake_executor_takeda.cli import main
from snakemake_executor_takeda.regions import heed_aws_region
from snakemake_executor_takeda.settings import ExecutorSettings


@pytest.fixture(autouse=True)
def _no_region(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        # set first, so that what the code sets is taken back
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))


def test_the_default_region_counts_where_both_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    heed_aws_region()
    assert aws_region() == "us-west-2"


def test_a_run_heeds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert aws_region() is None
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    ExecutorSettings()
    assert aws_region() == "eu-central-1"


def test_a_command_heeds_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert main(["prices", "show", "c7i.large"]) == 0
    assert "eu-west-1" in capsys.readouterr().out
