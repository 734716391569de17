"""The demo and the three pipelines, planned under each profile, without an account."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from profile_variables import PROFILES, REQUIRED, ROOT

from snakemake_executor_takeda.planning.building import Planning, plan_of

PIPELINES = {"germline-calling": 28, "rnaseq": 23, "virtual-screen": 19}
"""Jobs of each, group jobs as one; of the first without those that come after its checkpoint."""
UNSTAGED = {"germline-calling": 8, "rnaseq": 10, "virtual-screen": 4}
# What the demo needs where there is no HealthOmics, or no place for two nodes.
BY_HAND = ("--set-resources", "call_variants:handoff=", "infer_tree:nodes=1")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copies, as planning may write beside a pipeline."""
    folder = tmp_path_factory.mktemp("pipelines")
    for name in (*PIPELINES, "outbreak"):
        ignore = shutil.ignore_patterns("results", "resources", "logs", ".snakemake", "data")
        shutil.copytree(ROOT / "workflows" / name, folder / name, ignore=ignore)
    data = folder / "outbreak" / "data"
    data.mkdir()
    for name in ("lambda_virus.fa.gz", "reads_1.fq.gz", "reads_2.fq.gz"):
        (data / name).touch()
    return folder


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)


def planned(folder: Path, monkeypatch: pytest.MonkeyPatch, profile: str, *words: str) -> Planning:
    monkeypatch.chdir(folder)
    return plan_of(["--profile", str(ROOT / "profiles" / profile), *words], offline=True)


def targets(planning: Planning) -> dict[str, str | None]:
    return {row.rule: row.target for row in planning.plan.rows}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_each_pipeline_has_a_place_under_each_profile(
    folders: Path, monkeypatch: pytest.MonkeyPatch, pipeline: str, profile: str
) -> None:
    planning = planned(folders / pipeline, monkeypatch, profile)
    assert [row.problem for row in planning.plan.refused] == []
    rows = planning.plan.rows
    assert sum(row.jobs for row in rows) == PIPELINES[pipeline]
    assert all(row.target in planning.policy.targets and row.why for row in rows)
    staged = len(planning.unstaged)
    assert staged == (0 if profile == "parallelcluster" else UNSTAGED[pipeline])
    if profile != "sandbox":
        assert planning.plan.totals.usd is not None and planning.plan.totals.usd > 0


@pytest.mark.parametrize(
    ("profile", "target"),
    [
        *(("batch-spot", "batch-od"), ("batch-ondemand", "batch-od"), ("gxp", "validated")),
        *(("parallelcluster", "hpc-efa"), ("hybrid", "hpc-efa"), ("sandbox", "hpc")),
        *(("fargate", "fargate"), ("healthomics", "fargate")),
    ],
)
def test_the_simulations_go_where_long_mpi_jobs_belong(
    folders: Path, monkeypatch: pytest.MonkeyPatch, profile: str, target: str
) -> None:
    planning = planned(folders / "virtual-screen", monkeypatch, profile)
    assert targets(planning)["md_production"] == target


@pytest.mark.parametrize(
    ("profile", "refused"),
    [
        *(("batch-spot", ["call_variants"]), ("batch-ondemand", ["call_variants"])),
        *(("fargate", ["call_variants", "infer_tree"]), ("healthomics", ["infer_tree"])),
        *(("parallelcluster", ["call_variants"]), ("hybrid", []), ("gxp", []), ("sandbox", [])),
    ],
)
def test_the_demo_is_told_what_a_profile_has_no_place_for(
    folders: Path, monkeypatch: pytest.MonkeyPatch, profile: str, refused: list[str]
) -> None:
    planning = planned(folders / "outbreak", monkeypatch, profile)
    assert [row.rule for row in planning.plan.refused] == refused
    for row in planning.plan.refused:
        reason = {"call_variants": "HealthOmics", "infer_tree": "nodes is 2, at most 1"}[row.rule]
        assert reason in str(row.problem)
    assert sum(row.jobs for row in planning.plan.rows) == 32


@pytest.mark.parametrize(
    "profile", ["batch-spot", "batch-ondemand", "fargate", "healthomics", "parallelcluster"]
)
def test_the_demo_has_a_place_with_what_the_readme_says(
    folders: Path, monkeypatch: pytest.MonkeyPatch, profile: str
) -> None:
    page = (ROOT / "profiles" / profile / "README.md").read_text()
    words = [word for word in BY_HAND if word in page]
    assert words[0] == "--set-resources" and len(words) > 1
    planning = planned(folders / "outbreak", monkeypatch, profile, *words)
    assert [row.problem for row in planning.plan.refused] == []


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_what_a_readme_sets_for_production_is_taken(
    folders: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pipeline: str
) -> None:
    _, _, after = (ROOT / "workflows" / pipeline / "README.md").read_text().partition("```yaml\n")
    refined = yaml.safe_load(after.partition("```")[0])
    hybrid = ROOT / "profiles" / "hybrid"
    shutil.copy(hybrid / "routing.yaml", tmp_path)
    config = yaml.safe_load((hybrid / "config.yaml").read_text()) | refined
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(folders / pipeline)
    planning = plan_of(["--profile", str(tmp_path)], offline=True)
    assert not planning.plan.refused
    names = {word for row in planning.plan.rows for word in row.rule.split(", ")}
    groups = refined.get("groups", {})
    assert set(groups.values()) <= names
    if pipeline == "germline-calling":
        return  # `call_variants` comes after the checkpoint
    shapes = {row.rule: " / ".join(row.shapes) for row in planning.plan.rows}
    if pipeline == "rnaseq":
        assert "8 CPUs, 24,000 MB" in shapes["reference"]
        assert shapes["unit"].startswith("16 CPUs")
    else:
        assert shapes["md_production"].startswith("2 nodes, 384 ×")
        assert targets(planning)["md_production"] == "hpc-efa"


def test_docking_jobs_are_as_many_as_the_library_needs(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "--config n_ligands={} ligands_per_job=1"
    assert words.format(5000) in (ROOT / "workflows/virtual-screen/README.md").read_text()
    folder = folders / "virtual-screen"
    planning = planned(folder, monkeypatch, "parallelcluster", *words.format(200).split())
    assert {row.rule: row.jobs for row in planning.plan.rows}["screen"] == 200


def test_no_pipeline_knows_of_an_executor() -> None:
    for name in PIPELINES:
        for path in (ROOT / "workflows" / name / "workflow").rglob("*"):
            if path.is_file():
                assert "takeda" not in path.read_text(), path
