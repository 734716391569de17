"""Files that Snakefiles and configuration name reach the jobs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from snakemake_executor_takeda.named_files import MOST_BYTES, named_files

SNAKEFILE = """
import csv
samples = list(csv.DictReader(open("samples.tsv")))
schema = 'schemas/config.yaml'
rule all:
    input: "out/made.txt", "big.txt", f"{x}.txt", "../outside.txt", "/etc/hostname", "data"
"""


@pytest.fixture
def workflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    project = tmp_path / "project"
    for name in ("samples.tsv", "sheets/units.csv", "workflow/schemas/config.yaml", "data/a.txt"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("x")
    (project / "out").mkdir()
    (project / "out/made.txt").write_text("x")
    (project / "big.txt").write_bytes(b"x" * (MOST_BYTES + 1))
    (tmp_path / "outside.txt").write_text("x")
    (project / "link.txt").symlink_to(tmp_path / "outside.txt")
    (project / "workflow/Snakefile").write_text(SNAKEFILE)
    monkeypatch.chdir(project)

    def of(prefix: str | None, made: str) -> Any:
        source = SimpleNamespace(
            get_path_or_uri=lambda secret_free: str(project / "workflow/Snakefile")
        )
        return SimpleNamespace(
            included=[source],
            config={"units": "sheets/units.csv", "more": [{"deep": "link.txt"}, 3, "nosuch"]},
            dag=SimpleNamespace(jobs=[SimpleNamespace(output=[made])]),
            storage_settings=SimpleNamespace(default_storage_prefix=prefix),
        )

    return of


def test_what_is_named_and_small_and_not_made_is_found(workflow: Any) -> None:
    found = {"samples.tsv", "sheets/units.csv", "workflow/schemas/config.yaml"}
    assert named_files(workflow("s3://b/p", "s3://b/p/out/made.txt")) == found
    assert named_files(workflow(None, "out/made.txt")) == found
    assert named_files(workflow(None, "other.txt")) == {*found, "out/made.txt"}
