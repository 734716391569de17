"""`takeda plan` and `takeda why` on pipelines as they are."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_takeda.cli import main
from snakemake_executor_takeda.ledger import Ledger
from snakemake_executor_takeda.values import (
    Accepted,
    FailureKind,
    JobSpec,
    Outcome,
    Shape,
    Submission,
    Target,
    Task,
)

POLICY = """
version: 1
targets:
  spot: {backend: batch, queue: q1, capacity: spot, instances: [c7i, m7i], region: us-east-1, fallback: od}
  od: {backend: batch, queue: q2, capacity: on-demand, instances: [c7i, m7i], region: us-east-1}
  hpc: {backend: slurm, partition: efa}
routes:
  - {when: {mpi: true}, to: hpc}
  - {when: {rule: "call_*"}, to: od}
default: spot
"""
PIPELINE = """
SAMPLES = ["A", "B", "C"]
print("parsed")
localrules: report
rule all:
    input: "report.txt"
rule trim:
    input: "data/{s}.fq"
    output: "trim/{s}.fq"
    threads: 2
    resources: mem_mb=4000, runtime=30
    shell: "cp {input} {output}"
rule call_variants:
    input: "trim/{s}.fq"
    output: "call/{s}.vcf"
    resources: mem_mb=2000, runtime=60
    shell: "cp {input} {output}"
rule simulate:
    input: expand("call/{s}.vcf", s=SAMPLES)
    output: "sim.txt"
    resources: mpi="mpirun", tasks=8, runtime=10
    shell: "touch {output}"
rule report:
    input: "sim.txt"
    output: "report.txt"
    shell: "touch {output}"
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "routing.yaml").write_text(POLICY)
    (tmp_path / "Snakefile").write_text(PIPELINE)
    (tmp_path / "data").mkdir()
    for sample in "ABC":
        (tmp_path / "data" / f"{sample}.fq").write_text("ACGT" * 100)
    return tmp_path


def planned(capsys: pytest.CaptureFixture[str], *argv: str, status: int = 0) -> dict[str, Any]:
    assert main(["plan", "--json", "--takeda-routing", "routing.yaml", *argv]) == status
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def rows_of(plan: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["rule"]: row for row in plan["rules"]}


def test_each_rule_has_its_place_reason_time_and_cost(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = planned(capsys)
    rows = rows_of(plan)
    assert list(rows) == ["trim", "call_variants", "simulate", "report"], (
        "in the order of the steps"
    )
    assert {rule: row["jobs"] for rule, row in rows.items()} == {
        **{"trim": 3, "call_variants": 3, "simulate": 1, "report": 1}
    }
    assert {rule: row["target"] for rule, row in rows.items()} == {
        **{"trim": "spot", "call_variants": "od", "simulate": "hpc", "report": "this machine"}
    }
    trim = rows["trim"]
    assert trim["why"] == "default"
    assert trim["why_not"].startswith("not od: route 2 (routing.yaml:9)")
    assert rows["call_variants"]["why_not"].startswith("not hpc: route 1 (routing.yaml:8)")
    assert (trim["basis"], trim["seconds_each"], trim["seconds"]) == ("runtime", 1800, 5400)
    assert trim["instance"] in ("c7i.large", "m7i.large")
    assert 0 < trim["usd"] == trim["usd_spot"] < trim["usd_on_demand"]
    assert rows["simulate"]["usd"] is None, "of a cluster's nodes nothing is said"
    totals = plan["totals"]
    assert totals["chain_seconds"] == (30 + 60 + 10) * 60
    assert totals["usd"] == pytest.approx(trim["usd"] + rows["call_variants"]["usd"])
    assert totals["without_price"] == 1


def test_nothing_is_run_and_nothing_stays(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planned(capsys)
    left = {path.name for path in project.rglob("*") if path.is_file()}
    assert left == {"routing.yaml", "Snakefile", "A.fq", "B.fq", "C.fq"}


def test_history_tells_the_time_once_there_is_one(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = Target("spot", "batch", "spot")
    job = JobSpec(1, "trim", {}, 1, Shape(), {}, rules=("trim",))
    state = project / ".snakemake" / "takeda"
    state.mkdir(parents=True)
    ledger = Ledger(state / "ledger.sqlite", "r1")
    seconds = {"t1": 100.0, "t2": 300.0, "t3": 40.0, "t4": 5000.0}
    tasks = tuple(Task(name, job, target) for name in seconds)
    submission = Submission("s1", "s1", target, tasks)
    ledger.intend(submission)
    ledger.accept(submission, Accepted("x", {name: name for name in seconds}))
    ledger.end({name: Outcome(wall_seconds=seconds[name]) for name in ("t1", "t2")})
    ledger.end({"t3": Outcome(FailureKind.INTERRUPTED, reason="Spot", wall_seconds=40.0)})
    ledger.end({"t4": Outcome(FailureKind.USER, reason="exit 1", wall_seconds=5000.0)})
    ledger.close()

    trim = rows_of(planned(capsys))["trim"]
    assert (trim["basis"], trim["history_jobs"], trim["seconds_each"]) == ("history", 2, 200)
    per_hour = trim["usd_on_demand"] / (3 * 200 / 3600)
    assert trim["usd_spot"] == pytest.approx(0.4 * per_hour * 3 * (200 * 1.1) / 3600, rel=0.01)


def test_what_no_target_takes_is_refused_with_the_remedy(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = planned(capsys, "--set-resources", "trim:mem_mb=900000", status=1)
    trim = rows_of(plan)["trim"]
    assert (trim["target"], plan["refused"]) == (None, 3)
    assert "mem_mb" in trim["problem"] or "memory" in trim["problem"]
    assert rows_of(plan)["call_variants"]["target"] == "od", "the others are planned all the same"


def test_what_comes_after_a_checkpoint_is_said_to_be_unknown(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "Snakefile").write_text(
        "rule all:\n    input: 'end.txt'\n"
        "checkpoint split:\n    output: directory('parts')\n    shell: 'mkdir {output}'\n"
        "def parts(w):\n    return checkpoints.split.get().output[0]\n"
        "rule end:\n    input: parts\n    output: 'end.txt'\n    shell: 'touch {output}'\n"
    )
    plan = planned(capsys)
    assert rows_of(plan)["split"]["target"] == "spot"
    assert any("checkpoint split" in note for note in plan["notes"])


def test_a_group_is_one_job(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(capsys, "--groups", "trim=g", "--group-components", "g=3")
    (row,) = (row for row in plan["rules"] if row["jobs"] == 1 and row["target"] == "spot")
    assert row["rule"].startswith("g")
    assert "trim" not in rows_of(plan)


def test_the_terminal_has_table_reasons_and_totals(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--takeda-routing", "routing.yaml"]) == 0
    said = capsys.readouterr()
    assert "trim → spot: default. Not od: route 2" in said.out
    assert (
        "8 jobs, 1 of them on this machine, 4 h 40 min of work, 1 h 40 min from the first"
        in said.out
    )
    assert "parsed" not in said.out, "what the Snakefile prints goes elsewhere"


def test_nothing_to_do(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "Snakefile").write_text("rule all:\n    input: 'data/A.fq'\n")
    assert main(["plan", "--takeda-routing", "routing.yaml"]) == 0
    assert "nothing to do" in capsys.readouterr().out


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows, self.scripts = 0, 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.rows += tag == "tr"
        self.scripts += tag == "script"


def test_the_page_needs_nothing_else_and_escapes_what_is_not_ours(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = project / "<script>.yaml"
    hostile.write_text(POLICY)
    argv = ["plan", "--html", "plan.html", "--takeda-routing", hostile.name]
    assert main(argv) == 0
    page = _Page()
    page.feed((project / "plan.html").read_text())
    assert (page.rows, page.scripts) == (5, 0)
    assert "http" not in (project / "plan.html").read_text()


def test_a_mistake_is_said_by_who_finds_it(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "-s", "Snakefle"]) == 1
    assert 'Snakefile "Snakefle" not found' in capfd.readouterr().err
    (project / "data" / "A.fq").unlink()
    assert main(["plan", "--takeda-routing", "routing.yaml"]) == 1
    assert "data/A.fq" in capfd.readouterr().err
    assert main(["plan"]) == 1
    assert "--takeda-routing" in capfd.readouterr().err


def test_another_command_does_not_take_snakemakes_arguments(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["status", "--cores"])
    assert "unrecognized arguments: --cores" in capsys.readouterr().err


def test_why_tells_each_route_and_target(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["why", "trim", "--takeda-routing", "routing.yaml"]) == 0
    said = capsys.readouterr().out
    assert "and 2 more jobs, as the policy is now" in said
    assert "no   mpi is not set" in said
    assert "→ spot" in said
    assert main(["why", "--json", "call/B.vcf", "--takeda-routing", "routing.yaml"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["now"]
    assert (one["target"], one["wildcards"], one["jobs"]) == ("od", {"s": "B"}, 1)


def test_why_of_what_is_not_there_names_the_nearest(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["why", "trm", "--takeda-routing", "routing.yaml"]) == 1
    assert "did you mean trim?" in capsys.readouterr().err


def test_why_of_a_refused_job_ends_with_1(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [
        "why",
        "trim",
        "--takeda-routing",
        "routing.yaml",
        "--set-resources",
        "trim:mem_mb=900000",
    ]
    assert main(argv) == 1
    assert "→ refused: rule trim" in capsys.readouterr().out


def test_why_tells_of_the_last_run_without_a_pipeline(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = project / ".snakemake" / "takeda"
    state.mkdir(parents=True)
    event = {"time": "2026-01-01T00:00:00Z", "event": "placed", "run_id": "r1", "job_id": 7}
    event |= {"rule": "trim", "wildcards": {"s": "A"}, "attempt": 1, "target": "spot"}
    event |= {"backend": "batch", "external_id": None, "detail": {"reasons": ["default"]}}
    (state / "events.jsonl").write_text(json.dumps(event) + "\n")
    (project / "Snakefile").unlink()
    assert main(["why", "7"]) == 0
    assert "job 7 of run r1" in capsys.readouterr().out
    assert main(["why", "trim", "--last-run"]) == 0
    assert "default" in capsys.readouterr().out


S3 = ("--default-storage-provider", "s3", "--default-storage-prefix", "s3://a-bucket/here")


def test_without_credentials_one_word_is_said_and_offline_needs_none(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    nowhere = str(project / "nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", nowhere)
    monkeypatch.setenv("AWS_CONFIG_FILE", nowhere)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    argv = ["--takeda-routing", "routing.yaml", *S3, "--shared-fs-usage", "none"]
    assert main(["plan", *argv]) == 1
    said = capsys.readouterr().err
    assert "no AWS credentials for s3" in said and "--offline" in said
    assert len(said.splitlines()) == 2, "and what the Snakefile prints"

    plan = planned(capsys, "--offline", *argv[2:])
    assert rows_of(plan)["trim"]["jobs"] == 3
    assert plan["unstaged"]["files"] == 3


def test_a_page_that_cannot_be_written_is_said_before_anything(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("nowhere/plan.html", "data"):
        assert main(["plan", "--html", name, "--takeda-routing", "routing.yaml"]) == 1
        said = capsys.readouterr()
        assert f"cannot write {project / name}" in said.err and "parsed" not in said.err
