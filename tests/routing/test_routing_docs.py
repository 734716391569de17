"""docs/routing.md: every word is in it, and every example works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from routing_models import TARGETS, job, load

from snakemake_executor_takeda.assembly import backend_factories
from snakemake_executor_takeda.cli import main
from snakemake_executor_takeda.routing.conditions import When
from snakemake_executor_takeda.routing.policy import load_policy
from snakemake_executor_takeda.routing.policy_file import (
    LimitsEntry,
    PolicyFile,
    RouteEntry,
    TargetEntry,
)
from snakemake_executor_takeda.routing.router import NARROWING, PlacementError, place
from snakemake_executor_takeda.values import TakedaError

PAGE = (Path(__file__).parents[2] / "docs" / "routing.md").read_text(encoding="utf-8")
POLICIES = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def rows(heading: str) -> dict[str, str]:
    """First word → example of the table below a heading."""
    section = re.split(r"^#+ ", PAGE.split(f"# {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[
        0
    ]
    cells = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return {first.strip(" `"): last.strip(" `") for first, *_, last in cells[1:]}


@pytest.mark.parametrize(
    ("heading", "words"),
    [
        ("The file", set(PolicyFile.model_fields)),
        ("Words of a target", set(TargetEntry.model_fields)),
        ("Words of a route", set(RouteEntry.model_fields)),
        ("Conditions", {*When.model_fields, "any other word"}),
        ("What a rule can ask for", {"target", *NARROWING, "handoff"}),
    ],
)
def test_every_word_is_in_its_table(heading: str, words: set[str]) -> None:
    assert set(rows(heading)) == words


SITE = """\
version: 1
targets:
  spot: {backend: batch, queue: q, capacity: spot, instances: [c7i, m7i]}
  gpu:  {backend: batch, queue: gpu, instances: [g6.xlarge]}
default: spot
"""


@pytest.mark.parametrize("number", range(len(POLICIES)))
def test_policies_load(tmp_path: Path, number: int) -> None:
    path = tmp_path / "routing.yaml"
    path.write_text(POLICIES[number], encoding="utf-8")
    (tmp_path / "site.yaml").write_text(SITE, encoding="utf-8")
    models = {name: factory.options_model for name, factory in backend_factories().items()}
    environ = {"OMICS_ROLE_ARN": "arn:aws:iam::123456789012:role/omics"}
    policy = load_policy(path, models, environ)
    assert policy.targets and not policy.warnings


def test_there_are_policies_to_load() -> None:
    assert len(POLICIES) >= 3


@pytest.mark.parametrize("example", rows("Conditions").values())
def test_conditions_load(tmp_path: Path, example: str) -> None:
    to = "omics" if "handoff" in example else "hpc-efa"
    text = f"{TARGETS}routes: [{{when: {{{example}}}, to: {to}}}]\ndefault: batch-od"
    policy = load(tmp_path, text)
    assert policy.routes[0].conditions and not policy.warnings


@pytest.mark.parametrize("example", rows("Words of a target").values())
def test_words_of_a_target_load(tmp_path: Path, example: str) -> None:
    word = "" if example.startswith("backend") else f", {example}"
    text = (
        f"version: 1\ntargets: {{hpc: {{backend: slurm}}, a: {{backend: slurm{word}}}}}\ndefault: a"
    )
    assert load(tmp_path, text).targets["a"].backend == "slurm"


def test_the_words_of_file_and_route_make_a_policy(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("version: 1\n", encoding="utf-8")
    assert load(tmp_path, "\n".join(rows("The file").values())).default == ("hpc",)
    route = ", ".join(rows("Words of a route").values())
    text = f"version: 1\ntargets: {{hpc: {{backend: slurm}}}}\nroutes: [{{{route}}}]\ndefault: hpc"
    assert len(load(tmp_path, text).routes[0].conditions) == 2


@pytest.mark.parametrize("example", rows("What a rule can ask for").values())
def test_resources_place(tmp_path: Path, example: str) -> None:
    name, value = re.fullmatch(r'(\w+)="(.+)"', example).groups()
    policy = load(tmp_path, TARGETS + "default: batch-spot")
    assert place(job(resources={name: value}), policy).reasons


def test_the_mistakes_shown_are_the_mistakes_told(tmp_path: Path) -> None:
    text = """\
version: 1
targets:
  batch-spot: {backend: batch, queue: spot}
  batch-od: {backend: batch, queue: od, capcity: on-demand}
routes:
  - {when: {rul: "x_*"}, to: batch-od}
  - {when: {mpi: true}, to: bach-od}
default: batch-spot
"""
    with pytest.raises(TakedaError) as caught:
        load(tmp_path, text)
    assert str(caught.value).replace(f"{tmp_path}/", "") in PAGE


def test_the_reason_shown_is_the_reason_given(tmp_path: Path) -> None:
    policy = load(tmp_path, POLICIES[0].replace("${OMICS_ROLE_ARN}", "arn"))
    (reason,) = place(job("train_gnn", shape={"gpus": 1}), policy).reasons
    assert reason.replace(f"{tmp_path}/", "") in PAGE


def test_the_reasons_shown_for_several_targets_are_those_given(tmp_path: Path) -> None:
    (text,) = (text for text in POLICIES if "fastest}" in text)
    policy = load(tmp_path, text)
    reasons = place(job("md_long"), policy).reasons
    assert "\n".join(reasons).replace(f"{tmp_path}/", "") in PAGE


def test_the_refusal_shown_is_the_one_told(tmp_path: Path) -> None:
    text = """\
version: 1
targets:
  cluster: {backend: slurm, limits: {mem_mb: 256000}}
  big: {backend: slurm, limits: {mem_mb: 2000000}}
default: cluster
"""
    large = job("assemble", shape={"mem_mb": 900_000}, source_line="Snakefile:12")
    with pytest.raises(PlacementError) as caught:
        place(large, load(tmp_path, text))
    assert str(caught.value) in PAGE


def test_the_command_shown_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = re.findall(r"^takeda (policy explain .*)$", PAGE, re.MULTILINE)
    path = tmp_path / "routing.yaml"
    path.write_text(POLICIES[0].replace("${OMICS_ROLE_ARN}", "arn:aws:iam::123456789012:role/o"))
    assert main([str(path) if word == "routing.yaml" else word for word in line.split()]) == 0
    assert "→ batch-gpu" in capsys.readouterr().out


def test_every_limit_is_in_its_table() -> None:
    assert all(f"`{word}`" in PAGE for word in LimitsEntry.model_fields)
