"""The outbreak pipeline as a whole: its plan, its promises to the backends, and a plain run."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import boto3
import pytest
import yaml

SNAKEMAKE = (sys.executable, "-m", "snakemake")
FEW_BOOTSTRAPS = ("--config", "phylogeny={bootstraps: 20}")
"""The tree is the same; the demo itself has 100."""


def run(
    *command: str | Path, cwd: Path, env: dict[str, str], timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=env,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )


@pytest.fixture
def plan(tmp_path: Path, workflow: Path, environment: dict[str, str]) -> str:
    """What Snakemake would do, asked from a directory that has nothing to do with the project."""
    data = tmp_path / "data"
    data.mkdir()
    for name in ("lambda_virus.fa.gz", "reads_1.fq.gz", "reads_2.fq.gz"):
        (data / name).touch()
    done = run(
        *SNAKEMAKE, "-s", workflow / "Snakefile", "-n", "-c1", "--printshellcmds",
        "--config", f"data={data}", cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stderr + done.stdout


def test_plan_has_enough_isolates_and_runs_from_anywhere(plan: str, workflow: Path) -> None:
    counts = dict(
        line.split()
        for line in plan.splitlines()
        if len(line.split()) == 2 and line.split()[1].isdigit()
    )
    assert int(counts["align"]) >= 24
    assert {counts[rule] for rule in ("call_variants", "infer_tree", "draw")} == {"1"}
    assert f"run-local {workflow / 'calling' / 'main.wdl'}" in plan
    assert "mpirun -n 4 phyml-mpi" in plan


def test_the_rule_and_its_wdl_agree_on_every_name(plan: str, workflow: Path) -> None:
    import WDL

    main = WDL.load(str(workflow / "calling" / "main.wdl")).workflow
    assert main is not None
    command = plan[plan.index("takeda handoff run-local") :].split("\n\n", 1)[0].split()
    named: dict[str, set[str]] = {"--input": set(), "--param": set(), "--output": set()}
    for flag, name in itertools.pairwise(command):
        if flag in named:
            named[flag].add(name)
    # miniwdl also lists what could be overridden in a call, with a dot in its name.
    inputs = {binding.name for binding in main.available_inputs if "." not in binding.name}
    assert named["--input"] | named["--param"] == inputs
    assert named["--output"] == {binding.name for binding in main.effective_outputs}


def test_every_wdl_task_names_its_container_by_an_input(workflow: Path) -> None:
    import WDL

    document = WDL.load(str(workflow / "calling" / "main.wdl"))
    tasks = [task for imported in document.imports for task in imported.doc.tasks]
    assert len(tasks) >= 3
    assert all(str(task.runtime["container"]) == "container" for task in tasks)


def test_the_sandbox_policy_is_valid(root: Path) -> None:
    from snakemake_executor_takeda.assembly import backend_factories
    from snakemake_executor_takeda.routing.policy import load_policy

    models = {name: factory.options_model for name, factory in backend_factories().items()}
    policy = load_policy(root / "profiles" / "sandbox" / "routing.yaml", models, os.environ)
    backends = {target.backend for target in policy.targets.values()}
    assert backends == {"batch", "slurm", "healthomics"}


def test_the_sandbox_profile_points_to_its_policy_and_starts_ranks_with_srun(root: Path) -> None:
    folder = root / "profiles" / "sandbox"
    profile = yaml.safe_load((folder / "config.yaml").read_text())
    # Snakemake looks beside the profile for a value that is a file's name.
    assert (folder / profile["takeda-routing"]).is_file()
    assert profile["set-resources"] == {"infer_tree": {"mpi": "srun --mpi=pmix"}}


def results(folder: Path) -> Path:
    folder.mkdir()
    for name in ("snps.vcf.gz", "alignment.phy", "tree.nwk", "snp_distances.tsv", "accuracy.json",
                 "outbreak.png", "ranks.txt"):  # fmt: skip
        (folder / name).write_text(f"{name}\nsecond line\n")
    return folder


def test_compare_tells_the_first_difference(
    tmp_path: Path, workflow: Path, environment: dict[str, str]
) -> None:
    one, other = results(tmp_path / "one"), results(tmp_path / "other")
    (other / "ranks.txt").write_text("somewhere else\n")

    def compare(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return run(sys.executable, workflow / "compare", *arguments, cwd=tmp_path, env=environment)

    assert compare(one, other).returncode == 0
    (other / "tree.nwk").write_text("tree.nwk\nsecond tree\n")
    differing = compare(one, other)
    assert differing.returncode == 1
    assert "tree.nwk differs from byte 17 on (line 2)" in differing.stderr
    (other / "tree.nwk").unlink()
    missing = compare(one, other)
    assert missing.returncode == 1
    assert "tree.nwk is not there" in missing.stderr
    assert compare(one).returncode == 2


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, root: Path, environment: dict[str, str]
) -> Path:
    """A copy of the pipeline and its profile, with data: jobs get their sources from below it."""
    folder = tmp_path_factory.mktemp("project")
    for part in ("workflows/outbreak", "profiles/sandbox"):
        shutil.copytree(root / part, folder / part, ignore=shutil.ignore_patterns("data"))
    data = folder / "workflows/outbreak/data"
    fetched = run(root / "scripts" / "fetch-demo-data", data, cwd=folder, env=environment)
    assert fetched.returncode == 0, fetched.stderr
    return folder


@pytest.fixture(scope="module")
def plain_results(project: Path, environment: dict[str, str]) -> Path:
    snakefile = project / "workflows/outbreak/Snakefile"
    folder = project / "plain"
    done = run(
        *SNAKEMAKE, "-s", snakefile, "-c2", "-d", folder, *FEW_BOOTSTRAPS,
        cwd=project, env=environment, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return folder / "results"


@pytest.mark.sandbox
def test_a_plain_run_finds_the_outbreak(plain_results: Path) -> None:
    accuracy = json.loads((plain_results / "accuracy.json").read_text())
    snps, tree = accuracy["snps"], accuracy["tree"]
    assert snps["found"] >= 0.98 * snps["true"]
    assert snps["false"] <= 0.02 * snps["true"]
    assert tree["shared_splits"] >= 0.8 * tree["true_splits"]
    ranks = (plain_results / "ranks.txt").read_text().splitlines()
    assert [line.split(" on ")[0] for line in ranks] == [f"rank {n} of 4" for n in range(4)]
    assert (plain_results / "outbreak.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.sandbox
@pytest.mark.slurm
def test_one_run_on_three_backends_gives_what_the_plain_run_gives(
    project: Path,
    plain_results: Path,
    workflow: Path,
    environment: dict[str, str],
    sandbox_env: dict[str, str],
    sandbox_dir: Path,
    slurm_env: dict[str, str],
    slurm_dir: Path,
) -> None:
    done = run(
        *SNAKEMAKE, "--profile", "profiles/sandbox", "-s", "workflows/outbreak/Snakefile",
        *FEW_BOOTSTRAPS, cwd=project, env=environment | sandbox_env | slurm_env, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-6000:]

    lines = (project / ".snakemake/takeda/events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    placed = {event["job_id"]: event for event in events if event["event"] == "placed"}
    assert Counter(event["rule"] for event in placed.values()) == {
        "index_genome": 1,
        "align": 25,
        "call_variants": 1,
        "infer_tree": 1,
    }
    assert all(event["detail"]["reasons"] for event in placed.values())
    assert {event["rule"]: event["backend"] for event in placed.values()} == {
        "index_genome": "batch",
        "align": "batch",
        "call_variants": "healthomics",
        "infer_tree": "slurm",
    }
    ids = {event["rule"]: event["external_id"] for event in events if event["event"] == "succeeded"}

    array = boto3.client("batch").describe_jobs(jobs=[ids["align"].partition(":")[0]])["jobs"][0]
    assert (array["status"], array["arrayProperties"]["size"]) == ("SUCCEEDED", 25)
    assert boto3.client("omics").get_run(id=ids["call_variants"])["status"] == "COMPLETED"
    ranks = (project / "results/ranks.txt").read_text().splitlines()
    nodes = Counter(line.rpartition(" on ")[2] for line in ranks)
    assert len(ranks) == 4 and len(nodes) == 2

    same = run(
        workflow / "compare", project / "results", plain_results, cwd=project, env=environment
    )
    assert same.returncode == 0, same.stderr

    # What it would cost once more, against what the sandbox has metered of these very jobs.
    planned = run(
        "takeda", "plan", "--json", "--forceall",
        "--profile", "profiles/sandbox", "-s", "workflows/outbreak/Snakefile", *FEW_BOOTSTRAPS,
        cwd=project, env=environment | sandbox_env | slurm_env,
    )  # fmt: skip
    assert planned.returncode == 0, planned.stderr
    estimated = {row["rule"]: row["usd"] for row in json.loads(planned.stdout)["rules"]}
    rule_of = {event["external_id"]: event["rule"] for event in events if event["external_id"]}
    metered: Counter[str] = Counter()
    for folder in (sandbox_dir, slurm_dir):  # tests have Slurm in a folder of its own
        billed = run(
            "takeda", "sandbox", "cost", "--json", "--dir", folder, cwd=project, env=environment
        )
        for charge in json.loads(billed.stdout)["charges"]:
            if rule := rule_of.get(charge["external_id"]):
                metered[rule] += charge["usd"]
    assert set(metered) == {"index_genome", "align", "call_variants", "infer_tree"}
    total = sum(estimated[rule] for rule in metered)
    assert total == pytest.approx(metered.total(), rel=0.15), (estimated, metered)
