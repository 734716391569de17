"""docs/batch.md: every word of a target is in it, and every policy in it is good."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from snakemake_executor_takeda.assembly import backend_factories
from snakemake_executor_takeda.backends.batch.mounts import Mount
from snakemake_executor_takeda.backends.batch.options import RESOURCES, BatchOptions
from snakemake_executor_takeda.backends.batch.submitting import job_request
from snakemake_executor_takeda.routing.policy import load_policy
from snakemake_executor_takeda.values import JobSpec, Shape, submission_to_check

PAGE = (Path(__file__).parents[2] / "docs" / "batch.md").read_text(encoding="utf-8")
POLICIES = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def words_of_first_columns(text: str) -> set[str]:
    cells = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
    return {word for cell in cells for word in re.findall(r"`(\w+)`", cell)}


def test_every_word_of_a_target_is_in_the_page_and_no_other() -> None:
    section = PAGE.partition("## What a target may say\n")[2].partition("\n### ")[0]
    documented = words_of_first_columns(section)
    elsewhere = set(re.findall(r"`(\w+)", PAGE))
    assert documented <= set(BatchOptions.model_fields)
    assert set(BatchOptions.model_fields) <= documented | elsewhere


def test_every_word_of_a_mount_and_of_a_rule_is_in_the_page() -> None:
    section = PAGE.partition("| word of a mount |")[2].partition("\n\n")[0]
    assert words_of_first_columns(section) == set(Mount.model_fields)
    assert all(f"`{name}=" in PAGE for name in RESOURCES)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_is_good_and_can_be_submitted_to(policy: str, tmp_path: Path) -> None:
    from batch_fakes import context

    path = tmp_path / "routing.yaml"
    path.write_text(policy, encoding="utf-8")
    models = {name: factory.options_model for name, factory in backend_factories().items()}
    targets = load_policy(path, models, {}).targets.values()
    assert targets
    for target in targets:
        if target.backend == "batch":
            job = JobSpec(1, "r", {}, 1, Shape(), {})
            assert job_request(submission_to_check(job, target), context())["jobName"]
