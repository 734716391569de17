"""The table of failure reasons in docs/handoff.md: equal to the code, and to what runs on the sandbox say."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_executor_takeda.backends.healthomics.failures import REASONS
from snakemake_executor_takeda.sandbox import control
from snakemake_executor_takeda.sandbox.faults import OMICS_REASONS
from tests.healthomics.conftest import Cloud, Controller, job

PAGE = Path(__file__).parents[2] / "docs" / "handoff.md"
WDL = """version 1.0
workflow w { call t output { File o = t.o } }
task t { command <<< echo began >&2 >>> output { File o = stdout() } }
"""


def table() -> dict[str, tuple[str, str]]:
    """Kind and advice by reason, as the page has them."""
    rows = re.findall(r"^\| `([A-Z_]+)` \| `(\w+)` \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    return {reason: (kind, advice) for reason, kind, advice in rows}


def test_the_page_says_what_the_code_does() -> None:
    assert table() == {
        reason: (str(verdict.kind), verdict.advice) for reason, verdict in REASONS.items()
    }
    assert set(REASONS) == set(OMICS_REASONS), "a reason of the user guide without a word for it"


@pytest.mark.sandbox
def test_runs_that_fail_so_say_so(
    cloud: Cloud,
    controllers: Callable[..., Controller],
    tmp_path: Path,
    sandbox_dir: Path,
) -> None:
    (tmp_path / "w.wdl").write_text(WDL)
    controller = controllers(tmp_path, start_runs_per_second=100)
    active = {}
    try:
        for reason in REASONS:
            rule = f"fails_with_{reason}"
            control.set_faults(sandbox_dir, f"omics-failure:{reason}=1", rule=rule)
            one = job("w.wdl", outputs={"o": [cloud.uri(f"results/{reason}")]})
            active[reason] = controller.submit(replace(one, rule=rule))
        outcomes = controller.finish(list(active.values()))
    finally:
        control.clear_faults(sandbox_dir)
    said = {reason: outcomes[one.accepted.external_id] for reason, one in active.items()}
    assert {reason: (str(one.kind), one.advice) for reason, one in said.items()} == table()
    for reason, one in said.items():
        assert one.reason.startswith(reason), one
        assert one.log_location.startswith("CloudWatch Logs /aws/omics/WorkflowLog, stream run/")
