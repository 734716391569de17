"""A project that is well, and `takeda doctor` asked about it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from aws_stand_in import StandIn

from snakemake_executor_takeda.cli import main

ROLE = "arn:aws:iam::123456789012:role/takeda-sandbox"
CONFIG = {
    "executor": "takeda",
    "takeda-routing": "routing.yaml",
    "default-storage-provider": "s3",
    "default-storage-prefix": "s3://takeda-sandbox/doctor",
    "shared-fs-usage": "none",
}


@dataclass
class Project:
    """A profile in a folder of its own. What tests break is its `config`, its `policy`, or the world."""

    folder: Path
    capsys: pytest.CaptureFixture[str]
    config: dict[str, Any] = field(default_factory=lambda: dict(CONFIG))
    policy: dict[str, Any] = field(default_factory=dict)

    def target(self, name: str) -> dict[str, Any]:
        words: dict[str, Any] = self.policy["targets"][name]
        return words

    def ask(self, *words: str, status: int | None = None) -> dict[str, Any]:
        """The facts of `takeda doctor --json`."""
        profile = self.folder / "profile"
        profile.mkdir(exist_ok=True)
        (profile / "config.yaml").write_text(yaml.safe_dump(self.config))
        (profile / "routing.yaml").write_text(yaml.safe_dump(self.policy))
        ended = main(["doctor", "--json", "--profile", "profile", *words])
        facts: dict[str, Any] = json.loads(self.capsys.readouterr().out)
        assert ended == (1 if facts["findings"] else 0)
        assert status is None or ended == status
        return facts


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Project:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)
    return Project(tmp_path, capsys)


@pytest.fixture(scope="session")
def _stand_in() -> Iterator[StandIn]:
    server = StandIn()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def stand_in(_stand_in: StandIn) -> StandIn:
    """Nobody asks it before a test leads some services there."""
    _stand_in.reset()
    return _stand_in


@pytest.fixture
def on_sandbox(
    project: Project,
    stand_in: StandIn,
    sandbox_env: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> Project:
    """Batch, HealthOmics, S3, ECR and logs of the sandbox; identity, policies and quotas of the stand-in."""
    for service in ("STS", "IAM", "SERVICE_QUOTAS"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", stand_in.url)
    stand_in.images["/v2/lab/worker/manifests/1.0"] = 200
    project.policy = {
        "version": 1,
        "targets": {
            "spot": {
                "backend": "batch",
                "queue": "takeda-sandbox-spot",
                "capacity": "spot",
                "instances": ["c7i"],
                "image": f"{stand_in.host}/lab/worker:1.0",
                "job_role_arn": ROLE,
                "limits": {"threads": 4, "mem_mb": 16000},
            },
            "omics": {
                "backend": "healthomics",
                "role_arn": f"{ROLE}-omics",
                "output_uri": "s3://takeda-sandbox/omics",
            },
        },
        "routes": [{"when": {"handoff": True}, "to": "omics"}],
        "default": "spot",
    }
    return project
