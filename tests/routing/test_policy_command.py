"""`takeda policy check`: what a policy says, or all that is wrong with it, without a run."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from snakemake_executor_takeda.cli import main
from snakemake_executor_takeda.values import Limits, RetryRules

GOOD = """\
version: 1
targets:
  spot: {backend: batch, queue: q, capacity: spot, instances: [c7i, m7i], fallback: hpc}
  hpc: {backend: slurm}
routes:
  - {when: {rule: "train_*", mem_gb: ">0"}, to: hpc}
default: spot
"""
BAD = GOOD.replace("slurm", "slrum").replace("default: spot", "default: spto")


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("routing.yaml")


def test_a_good_policy_is_shown(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy.write_text(GOOD, encoding="utf-8")
    assert main(["policy", "check", "routing.yaml"]) == 0
    said, warned = capsys.readouterr()
    assert [line.split() for line in said.splitlines()] == [
        ["target", "backend", "capacity", "instances", "fallback", "holds", "at", "most"],
        ["spot", "batch", "spot", "c7i,", "m7i", "hpc", "nodes", "1"],
        ["hpc", "slurm", "-", "-", "-", "-"],
        [],
        ["route", "when", "to"],
        ["1", "{rule:", "train_*,", "mem_gb:", ">0}", "hpc"],
        ["-", "all", "other", "jobs", "spot"],
    ]
    assert "takeda: routing.yaml:6: route 1: " in warned


def test_mistakes_are_those_of_a_run(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy.write_text(BAD, encoding="utf-8")
    assert main(["policy", "check", "routing.yaml"]) == 1
    said, wrong = capsys.readouterr()
    assert said == ""
    assert wrong.splitlines() == [
        "takeda: routing.yaml has 2 mistakes:",
        "  routing.yaml:4: target hpc: unknown backend slrum. Did you mean slurm?",
        "  routing.yaml:7: the policy: `default: spto` is no target. Did you mean spot?",
    ]


def test_facts_and_mistakes_as_json(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy.write_text(f"{GOOD}retry: {{lost: 1}}\n", encoding="utf-8")
    assert main(["policy", "check", "--json", "routing.yaml"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["targets"][0] == {
        "name": "spot",
        "backend": "batch",
        "capacity": "spot",
        "instances": ["c7i", "m7i"],
        "fallback": "hpc",
        "efa": False,
        "limits": asdict(Limits(nodes=1)) | {"gpu_model": []},
        "usd_per_cpu_hour": None,
        "usd_per_gpu_hour": None,
        "speed": None,
        "retry": asdict(RetryRules(lost=1)),
        "source": "routing.yaml:3",
    }
    assert facts["routes"] == [
        {
            "label": "route 1 (routing.yaml:6)",
            "when": "{rule: train_*, mem_gb: >0}",
            "to": ["hpc"],
            "choose": "first",
            "locked": False,
        }
    ]
    assert (facts["default"], facts["mistakes"], len(facts["warnings"])) == (["spot"], [], 1)
    assert (facts["files"], facts["timezone"]) == (["routing.yaml"], "UTC")
    for text, count in ((BAD, 2), (GOOD.replace("slurm", "slrum"), 1)):
        policy.write_text(text, encoding="utf-8")
        assert main(["policy", "check", "--json", "routing.yaml"]) == 1
        mistakes = json.loads(capsys.readouterr().out)["mistakes"]
        assert len(mistakes) == count
        assert mistakes[0] == {
            "file": "routing.yaml",
            "line": 4,
            "text": "target hpc: unknown backend slrum. Did you mean slurm?",
        }


def test_a_file_that_is_not_there_is_named(
    policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["policy", "check", "nothing.yaml"]) == 1
    assert "there is no file nothing.yaml: name a routing policy" in capsys.readouterr().err
