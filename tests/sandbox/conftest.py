"""A Batch emulator per test, in the test's own process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_client import Batch

from snakemake_executor_takeda.sandbox import processes


@pytest.fixture
def make_batch(tmp_path: Path) -> Iterator[Callable[..., Batch]]:
    """Makes emulators over one state folder; all are stopped, and nothing may be left."""
    made: list[Batch] = []

    def make(**options: Any) -> Batch:
        made.append(Batch(tmp_path, **options))
        return made[-1]

    try:
        yield make
    finally:
        for batch in made:
            batch.stop()
        left = processes.end_marked(0.0, **{processes.MARK: str(tmp_path)})
    assert left == 0


@pytest.fixture
def batch(make_batch: Callable[..., Batch]) -> Batch:
    return make_batch()
