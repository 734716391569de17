"""What is told of one placement: `explain`, and `takeda policy explain`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from routing_models import job, load

from snakemake_executor_takeda.cli import main
from snakemake_executor_takeda.routing.explaining import explain

POLICY = """\
version: 1
targets:
  spot: {backend: batch, queue: q, capacity: spot, fallback: od, limits: {mem_mb: 64000}}
  od: {backend: batch, queue: o, capacity: on-demand, usd_per_cpu_hour: 0.05}
  hpc: {backend: slurm, usd_per_cpu_hour: 0.02}
routes:
  - {when: {mpi: true}, to: hpc}
  - {when: {rule: "train_*", mem_mb: ">=8000", time: "20:00-06:00"}, to: [spot, hpc], choose: cheapest}
default: spot
timezone: Europe/Berlin
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("routing.yaml").write_text(POLICY, encoding="utf-8")
    return "routing.yaml"


ASK = ["--rule", "train_a", "--set", "mem_mb=70000", "threads=2", "--at", "2026-07-01T21:30"]
TOLD = """\
route 1 (routing.yaml:7) {mpi: true}
    no   mpi is not set
route 2 (routing.yaml:8) {rule: train_*, mem_mb: >=8000, time: 20:00-06:00}
    yes  rule train_a matches train_*
    yes  mem_mb is 70000 (>=8000)
    yes  time is 21:30 Europe/Berlin (20:00-06:00)
    no   spot: cannot hold it: mem_mb is 70000, at most 64000
         od, the fallback of spot
    →    hpc
→ hpc
    route 2 (routing.yaml:8) matched: rule train_a matches train_*, mem_mb is 70000 (>=8000), time is 21:30 Europe/Berlin (20:00-06:00)
    hpc is the cheapest of od (0.1 USD/h), hpc (0.04 USD/h)
    spot cannot hold it: mem_mb is 70000, at most 64000
"""


def test_the_command_tells_every_step(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "explain", file, *ASK]) == 0
    assert capsys.readouterr().out == TOLD


def test_the_command_gives_facts(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "explain", file, "--json", *ASK]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["at"] == "2026-07-01T21:30:00+02:00"
    assert (facts["target"], facts["fallback_chain"], facts["refused"]) == ("hpc", [], None)
    first, second = facts["steps"]
    assert first["conditions"] == [
        {"word": "mpi", "wanted": "true", "value": False, "holds": False, "text": "mpi is not set"}
    ]
    assert first["choices"] == []
    assert [one["value"] for one in second["conditions"]] == [["train_a"], 70000, "21:30"]
    assert [(one["target"], one["instead_of"], one["lacks"]) for one in second["choices"]] == [
        ("spot", None, ["mem_mb is 70000, at most 64000"]),
        ("od", "spot", []),
        ("hpc", None, []),
    ]


def test_a_job_that_is_refused_is_a_problem(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    ask = ["--rule", "align", "--set", "target=spot", "mem_mb=70000"]
    assert main(["policy", "explain", file, *ask]) == 1
    said = capsys.readouterr().out
    assert (
        "→ refused: rule align: it asks target='spot', which cannot hold it: spot: mem_mb is"
        in said
    )
    assert 'od may, as it is not known what it has: set target="od" on the rule' in said


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (["--set", "mem_mb"], "--set mem_mb: write it as NAME=VALUE"),
        (["--set", "threads=many"], "--set threads=many: write a whole number"),
        (["--set", "mem_mb=much"], "--set: resource mem_mb='much' is not a whole number"),
        (["--wildcards", "=x"], "--wildcards =x: write it as NAME=VALUE"),
        (["--at", "tonight"], "--at tonight: write it as 2026-07-01T21:30+02:00"),
    ],
)
def test_what_is_asked_wrongly(
    file: str, ask: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["policy", "explain", file, "--rule", "align", *ask]) == 1
    assert said in capsys.readouterr().err


def test_all_that_describes_a_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "routing.yaml"
    path.write_text(
        """\
version: 1
targets: {a: {backend: slurm}, b: {backend: slurm}}
routes:
  - {when: {wildcards: {s: T1}, attempt: 3, container: "*gatk*", input_gb: ">=1.5", licences: 2}, to: b}
default: a
""",
        encoding="utf-8",
    )
    ask = ["--rule", "x", "--wildcards", "s=T1", "--attempt", "3", "--container", "broad/gatk:4"]
    assert (
        main(["policy", "explain", str(path), *ask, "--input-gb", "1.5", "--set", "licences=2"])
        == 0
    )
    assert "→ b\n" in capsys.readouterr().out
    assert (
        main(["policy", "explain", str(path), *ask, "--input-gb", "1.4", "--set", "licences=2"])
        == 0
    )
    said = capsys.readouterr().out
    assert "no   input_gb is 1.4, not >=1.5" in said
    assert "→ a\n" in said


def test_what_the_job_does_not_have_is_told(tmp_path: Path) -> None:
    text = "version: 1\ntargets: {a: {backend: slurm}}\ndefault: a\n"
    routes = 'routes: [{when: {mem_mb: "<5", wildcards: {s: x}, container: y}, to: a}]'
    told = explain(job(), load(tmp_path, text + routes))
    assert [one.text for one in told.steps[0].conditions] == [
        "wildcards.s is not set, or not known",
        "container is not set, or not known",
        "mem_mb is not set, or not known",
    ]
