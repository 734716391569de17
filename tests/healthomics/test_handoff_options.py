"""The words of a `healthomics` target, and what naming the backend costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from snakemake_executor_takeda.backends.healthomics.options import HealthOmicsOptions

GOOD = {"role_arn": "arn:aws:iam::123456789012:role/omics", "output_uri": "s3://bucket/runs/"}
PAGE = Path(__file__).parents[2] / "docs" / "handoff.md"


NAME = "snakemake_executor_takeda.backends.healthomics"


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        (
            f"import {NAME} as package; package.backend.options_model",
            ("boto3", "botocore", "WDL", "sqlite3", f"{NAME}.handoffs", f"{NAME}.definitions"),
        ),
        ("import snakemake_executor_takeda.cli", ("boto3", "botocore", "WDL", "pydantic")),
        (
            "import snakemake_executor_takeda.sandbox.omics.engine",
            ("boto3", "botocore", "WDL", "pydantic"),
        ),
    ],
    ids=["with a policy", "takeda", "a run of the sandbox"],
)
def test_what_is_started_often_imports_little(code: str, heavy: tuple[str, ...]) -> None:
    code = f"import sys; {code}; print([one for one in {heavy} if one in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"storage_capacity_gib": 1200}, "needs storage_type: STATIC"),
        ({"cache_behavior": "CACHE_ALWAYS"}, "needs cache_id"),
        ({"cache_id": "abc"}, "cache_id"),
        ({"run_group_id": "rg-1"}, "run_group_id"),
        ({"tags": {"takeda:rule": "x"}}, "are taken"),
        ({"tags": {"AWS:x": "x"}}, "are taken"),
        ({"tags": {"a": "b;c"}}, "letters, digits"),
        ({"tags": {"a": "x" * 257}}, "up to 256"),
        ({"tags": {str(n): "" for n in range(41)}}, "at most 40"),
        ({"start_runs_per_second": 0}, "greater than 0"),
        ({"definition_uri": "https://bucket"}, "no S3 URI"),
        ({"container_registry_map": {"registryMappings": [{"upstreamRegistryUrl": "x"}]}}, "ecr"),
        ({"container_registry_map": {"registries": []}}, "registries"),
    ],
)
def test_what_does_not_fit(words: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        HealthOmicsOptions.model_validate({**GOOD, **words})


def test_a_registry_map_is_written_as_aws_has_it() -> None:
    given = {
        "registryMappings": [
            {
                "upstreamRegistryUrl": "registry-1.docker.io",
                "ecrRepositoryPrefix": "docker-hub",
                "upstreamRepositoryPrefix": "library",
            }
        ]
    }
    options = HealthOmicsOptions.model_validate({**GOOD, "container_registry_map": given})
    assert options.container_registry_map.as_request() == given
    assert HealthOmicsOptions.model_validate(GOOD).container_registry_map.as_request() == {}


def test_the_page_names_every_word() -> None:
    text = PAGE.read_text()
    missing = [name for name in HealthOmicsOptions.model_fields if f"| `{name}` |" not in text]
    # It stands beside storage_type.
    assert missing == ["storage_capacity_gib"]
