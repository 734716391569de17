"""Each condition, for jobs that meet it and jobs that do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from routing_models import job, load

from snakemake_executor_takeda.routing.conditions import parse_comparison
from snakemake_executor_takeda.routing.router import place

GROUP = {"is_group": True, "rules": ("align", "sort_bam"), "source_line": ""}

CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    # Condition, a job it takes, a job it leaves.
    ("rule: align", {"rule": "align"}, {"rule": "align_all"}),
    ("rule: 'train_*'", {"rule": "train_x"}, {"rule": "Train_x"}),
    ("rule: 1.0", {"rule": "1.0"}, {"rule": "1"}),
    ("rule: 'a[ln]?'", {"rule": "all"}, {"rule": "acl"}),
    ("rule: 'sort_*'", {"rule": "g1", **GROUP}, {"rule": "g1"}),
    ("rule: 'g*'", {"rule": "g1", **GROUP}, {"rule": "h1", **GROUP}),
    ("wildcards: {s: 'T*'}", {"wildcards": {"s": "T1"}}, {"wildcards": {"s": "N1"}}),
    ("wildcards: {s: 'T*'}", {"wildcards": {"s": "T1"}}, {"wildcards": {"t": "T1"}}),
    ("wildcards: {s: 'T*'}", {"wildcards": {"s": "T1"}}, {"rule": "g1", **GROUP}),
    ("wildcards: {s: '*', t: x}", {"wildcards": {"s": "", "t": "x"}}, {"wildcards": {"s": "1"}}),
    ("wildcards: {s: 1.50}", {"wildcards": {"s": "1.50"}}, {"wildcards": {"s": "1.5"}}),
    ("wildcards: {s: 007}", {"wildcards": {"s": "007"}}, {"wildcards": {"s": "7"}}),
    ("wildcards: {s: no}", {"wildcards": {"s": "no"}}, {"wildcards": {"s": "False"}}),
    ("wildcards: {s: true}", {"wildcards": {"s": "true"}}, {"wildcards": {"s": "True"}}),
    ("container: '*gatk*'", {"container": "docker://broad/gatk:4"}, {"container": "docker://bwa"}),
    ("container: '*'", {"container": "docker://bwa"}, {}),
    ("mpi: true", {"shape": {"mpi": "srun"}}, {}),
    ("mpi: false", {}, {"shape": {"mpi": "srun"}}),
    ("handoff: false", {}, {"resources": {"handoff": "a.wdl"}}),
    ("attempt: '>2'", {"attempt": 3}, {"attempt": 2}),
    ("attempt: 1", {"attempt": 1}, {"attempt": 2}),
    ("input_gb: '>=1.5'", {"input_bytes": 1_500_000_000}, {"input_bytes": 1_499_999_999}),
    ("input_gb: '<100'", {"input_bytes": 0}, {}),
    ("threads: '>=16'", {"shape": {"cpus": 16}}, {"shape": {"cpus": 8}}),
    ("mem_mb: '>=64000'", {"shape": {"mem_mb": 64000}}, {"shape": {"mem_mb": 63999}}),
    ("mem_mb: '<64000'", {"shape": {"mem_mb": 5}}, {}),
    ("mem_mb: '>=8000, <64000'", {"shape": {"mem_mb": 8000}}, {"shape": {"mem_mb": 64000}}),
    ("disk_mb: '>1'", {"shape": {"disk_mb": 2}}, {}),
    ("runtime: '>1200'", {"shape": {"runtime_min": 1201}}, {}),
    ("gpu: '>0'", {"shape": {"gpus": 1}}, {}),
    ("gpu: 0", {}, {"shape": {"gpus": 1}}),
    ("gpus: '>0'", {"shape": {"gpus": 1}}, {}),
    ("nodes: '>1'", {"shape": {"nodes": 2}}, {}),
    ("tasks: '>4'", {"shape": {"tasks": 5}}, {}),
    ("ntasks: '>4'", {"shape": {"tasks": 5}}, {}),
    ("tasks_per_node: '>=2'", {"shape": {"tasks_per_node": 2}}, {}),
    ("licences: '!=0'", {"resources": {"licences": 1}}, {"resources": {"licences": 0}}),
    ("licences: '!=0'", {"resources": {"licences": 1}}, {}),
    ("licences: 0.5", {"resources": {"licences": "0.50"}}, {"resources": {"licences": "half"}}),
    ("mem_mib: '>1'", {"resources": {"mem_mib": 2}}, {}),
    ("threads: '>1', mem_mb: 5", {"shape": {"cpus": 2, "mem_mb": 5}}, {"shape": {"cpus": 2}}),
]


@pytest.mark.parametrize(("condition", "taken", "left"), CASES, ids=lambda x: str(x)[:40])
def test_condition(
    tmp_path: Path, condition: str, taken: dict[str, Any], left: dict[str, Any]
) -> None:
    policy = load(
        tmp_path,
        f"""\
version: 1
targets: {{a: {{backend: slurm}}, b: {{backend: slurm}}, o: {{backend: healthomics, role_arn: r, output_uri: "s3://b"}}}}
routes:
  - {{when: {{{condition}}}, to: b}}
default: a
""",
    )
    placement = place(job(**taken), policy)
    assert placement.target.name == "b"
    assert placement.reasons[0].startswith(f"route 1 ({tmp_path}/routing.yaml:4) matched: ")
    assert place(job(**left), policy).target.name != "b"


@pytest.mark.parametrize(
    ("written", "understood"),
    [
        (4, "=4"),
        (2.5, "=2.5"),
        ("4", "=4"),
        ("== 4", "=4"),
        (" >= 64000 ", ">=64000"),
        (">1,<=8", ">1, <=8"),
        ("!=-1", "!=-1"),
        ("<.5", "<0.5"),
    ],
)
def test_comparisons(written: object, understood: str) -> None:
    assert str(parse_comparison(written)) == understood


@pytest.mark.parametrize(
    "written",
    [
        "",
        ">",
        "4 GB",
        "1e3",
        "nan",
        "inf",
        "0x10",
        "=>4",
        ">4,",
        "4 5",
        True,
        None,
        "<1, >1",
        "=1, =2",
    ],
)
def test_no_comparisons(written: object) -> None:
    with pytest.raises(ValueError, match=r"write a number|never match"):
        parse_comparison(written)


def test_large_bounds_can_hold() -> None:
    assert parse_comparison(">999999999999999999").can_hold()


EXPLAINED = [
    ("rule: 'al*'", {}, "rule align matches al*"),
    ("rule: 'sort_*'", {"rule": "g1", **GROUP}, "rule sort_bam of group g1 matches sort_*"),
    ("rule: 'g*'", {"rule": "g1", **GROUP}, "group g1 matches g*"),
    ("wildcards: {s: 'T*'}", {"wildcards": {"s": "T1"}}, "wildcard s=T1 matches T*"),
    ("container: '*bwa*'", {"container": "bwa:1"}, "container bwa:1 matches *bwa*"),
    ("mpi: true", {"shape": {"mpi": "srun"}}, "mpi is set"),
    ("mpi: false", {}, "mpi is not set"),
    ("mem_mb: '>=64000'", {"shape": {"mem_mb": 70000}}, "mem_mb is 70000 (>=64000)"),
    ("input_gb: '>1'", {"input_bytes": 2_345_678_901}, "input_gb is 2.346 (>1)"),
    (
        "mem_mb: '>5', gpu: 1",
        {"shape": {"mem_mb": 6, "gpus": 1}},
        "mem_mb is 6 (>5), gpu is 1 (=1)",
    ),
]


@pytest.mark.parametrize(("condition", "taken", "reason"), EXPLAINED, ids=lambda x: str(x)[:40])
def test_reasons_tell_value_and_condition(
    tmp_path: Path, condition: str, taken: dict[str, Any], reason: str
) -> None:
    text = f"""\
version: 1
targets: {{a: {{backend: slurm}}, b: {{backend: slurm}}}}
routes: [{{when: {{{condition}}}, to: b}}]
default: a
"""
    (said,) = place(job(**taken), load(tmp_path, text)).reasons
    assert said.split(" matched: ")[1] == reason
