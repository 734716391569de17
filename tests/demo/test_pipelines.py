"""The three pipelines of `workflows/` as they are: what they find here, and one of them on the sandbox."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import boto3
import pytest
import yaml

ROOT = Path(__file__).parents[2]
PIPELINES = ("germline-calling", "rnaseq", "virtual-screen")
GENERATED = ("results", "resources", "logs", ".snakemake")
# mpirun starts ranks as root only when it is told to; two ranks on a busy machine should not spin.
OPEN_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_mpi_yield_when_idle": "1",
}


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = found  # dataclasses look their module up
    spec.loader.exec_module(found)
    return found


def script(pipeline: str, name: str) -> ModuleType:
    return module(ROOT / "workflows" / pipeline / "workflow" / "scripts" / f"{name}.py")


def copied(pipeline: str, folder: Path) -> Path:
    """A copy under git, as a pipeline is: jobs that share no files get what git tracks."""
    copy = folder / pipeline
    ignore = shutil.ignore_patterns(*GENERATED)
    shutil.copytree(ROOT / "workflows" / pipeline, copy, ignore=ignore)
    for words in (("init", "--quiet"), ("add", ".")):
        subprocess.run(["git", *words], cwd=copy, check=True)
    return copy


def run(folder: Path, environment: dict[str, str], *words: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *(str(word) for word in words)],
        cwd=folder,
        env=environment | OPEN_MPI,
        text=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    logs = (
        "".join(path.read_text() for path in folder.glob("logs/**/*.log"))
        if done.returncode
        else ""
    )
    assert done.returncode == 0, f"{done.stderr[-4000:]}\n{logs[-4000:]}"
    return done.stderr


def rows(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        return list(csv.DictReader(lines, delimiter="\t"))


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_inputs_are_what_their_program_makes(tmp_path: Path, pipeline: str) -> None:
    folder = ROOT / "workflows" / pipeline / "input"
    module(folder / "simulate.py").main(tmp_path)
    made = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert made
    for path in made:
        kept, new = (folder / path.relative_to(tmp_path)).read_bytes(), path.read_bytes()
        if path.suffix == ".gz":  # zlib's versions differ
            kept, new = gzip.decompress(kept), gzip.decompress(new)
        assert kept == new, path.name


def test_genes_are_compared_by_their_counts() -> None:
    diffexp = script("rnaseq", "diffexp")
    counts = {f"g{n}": [20 + n, 22 + n, 40 + 2 * n, 44 + 2 * n] for n in range(10)}
    counts["up"] = [20, 22, 400, 380]
    counts["none"] = [0, 0, 0, 0]
    conditions = {"a": "x", "b": "x", "c": "y", "d": "y"}
    found = diffexp.compare(counts, list("abcd"), conditions, ["y", "x"])
    gene, _, change, p_value, rate = found[0]
    assert gene == "up" and 2.5 < change < 4 and p_value < rate < 0.001
    assert all(one[4] > 0.1 for one in found[1:]), "a library twice as large is no difference"
    assert diffexp.adjusted([0.01, 0.04, 0.03, 0.5]) == pytest.approx(
        [0.04, 0.16 / 3, 0.16 / 3, 0.5]
    )


def test_splice_sites_are_between_the_exons_of_a_transcript() -> None:
    words = 'gene_id "g"; transcript_id "{}";'
    exons = [("t1", 31, 50), ("t1", 1, 10), ("t2", 1, 10), ("t2", 31, 50), ("t3", 5, 9)]
    lines = [f"c\tx\texon\t{a}\t{b}\t.\t+\t.\t{words.format(name)}" for name, a, b in exons]
    assert script("rnaseq", "splice_sites").sites("\n".join(["#!x", *lines])) == [("c", 9, 30, "+")]


def test_a_library_has_no_ligand_twice_and_says_when_it_is_too_small(tmp_path: Path) -> None:
    library = script("virtual-screen", "enumerate_library")
    table = (ROOT / "workflows/virtual-screen/input/building_blocks.tsv").read_text()
    every = library.ligands(table)
    assert len({name for _, name in every}) == len(every) == 6250
    assert not any("{" in smiles for smiles, _ in every)


def test_the_ligand_of_a_complex_keeps_the_shape_of_its_pose() -> None:
    complex_ = script("virtual-screen", "complex")
    line = "ATOM  {:5d}  C   UNL     1    {:8.3f}{:8.3f}{:8.3f}  0.00  0.00    {:+6.3f} {:<2}"
    pose = [
        (0, 0, 0, 0.1, "C"),
        (1.5, 0, 0, 0.1, "A"),
        (1.5, 1.4, 0, -0.3, "OA"),
        (2.4, 1.7, 0, 0.2, "HD"),
    ]
    atoms = complex_.read_pose(
        "\n".join(line.format(n, *one) for n, one in enumerate(pose, start=1))
    )
    assert [one.element for one in atoms] == ["C", "C", "O", "H"]
    pairs = complex_.bonds(atoms)
    assert pairs == [(0, 1), (1, 2), (2, 3)]
    assert sorted(complex_.angles(pairs)) == [(0, 1, 2), (1, 2, 3)]
    assert complex_.degrees(atoms, 0, 1, 2) == pytest.approx(90)
    charges = [
        float(one.split()[6])
        for one in complex_.molecule(atoms).split("[ bonds ]")[0].splitlines()
        if "lig_" in one
    ]
    assert sum(charges) == pytest.approx(0, abs=1e-4)


@pytest.mark.sandbox
def test_germline_calls_are_the_truth(tmp_path: Path, environment: dict[str, str]) -> None:
    folder = copied("germline-calling", tmp_path)
    run(folder, environment, "snakemake", "-c2", "--quiet", "all")
    expected: dict[tuple[str, ...], list[str]] = {}
    for row in rows(folder / "input/truth.tsv"):
        copies = [int(row[name]) for name in ("mother", "father", "child")]
        if any(copies):
            place = (row["contig"], row["position"], row["ref"], row["alt"])
            expected[place] = [("0/0", "0/1", "1/1")[one] for one in copies]
    with gzip.open(folder / "results/tables/calls.tsv.gz", "rt") as lines:
        table = [line.rstrip("\n").split("\t") for line in lines if not line.startswith("#")]
    assert {tuple(row[:4]): row[5:8] for row in table} == expected
    assert [row["unit"] for row in rows(folder / "results/qc/summary.tsv")] == [
        *("mother-lane1", "mother-lane2", "father-lane1", "child-lane1")
    ]
    assert "heterozygous" in (folder / "results/report.html").read_text()


@pytest.mark.sandbox
def test_a_screen_ranks_its_hits_by_simulation(tmp_path: Path, environment: dict[str, str]) -> None:
    folder = copied("virtual-screen", tmp_path)
    small = ("n_ligands=2", "ligands_per_job=1", "n_hits=1")
    run(folder, environment, "snakemake", "-c2", "--quiet", "all", "--config", *small)
    docked = rows(folder / "results/docking.tsv")
    scores = [float(row["score"]) for row in docked]
    assert len(scores) == 2 and scores == sorted(scores) and scores[0] < -1
    (best,) = rows(folder / "results/ranking.tsv")
    assert best["ligand"] == docked[0]["ligand"] and float(best["energy"]) < -5
    log = (folder / "results/md/1/production.log").read_text()
    assert "Using 2 MPI processes" in log


DIFFERING = {"gene03": 1, "gene08": 1, "gene05": -1, "gene11": -1}


def judge_rnaseq(table: Path) -> None:
    found = rows(table)
    sure = {row["gene"]: float(row["log2FoldChange"]) for row in found if float(row["padj"]) < 0.01}
    assert {gene: change / abs(change) for gene, change in sure.items()} == DIFFERING
    assert len(found) == 12


@pytest.fixture(scope="module")
def rnaseq(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """Where a plain run has been, with one sample of each condition."""
    folder = copied("rnaseq", tmp_path_factory.mktemp("plain"))
    for sheet in ("samples", "units"):
        path = folder / "config" / f"{sheet}.tsv"
        kept = [line for line in path.read_text().splitlines() if line[0] not in "BD"]
        path.write_text("\n".join(kept) + "\n")
    subprocess.run(["git", "add", "config"], cwd=folder, check=True)
    snapshot = folder.with_name("as-it-is")
    shutil.copytree(folder, snapshot)
    run(folder, environment, "snakemake", "-c2", "--quiet", "all")
    return folder


RESULTS = ("counts/all.tsv", "diffexp/treated-vs-untreated.diffexp.tsv", "qc/summary.tsv")


@pytest.mark.sandbox
def test_rnaseq_finds_the_genes_that_differ(rnaseq: Path) -> None:
    judge_rnaseq(rnaseq / "results" / RESULTS[1])
    for row in rows(rnaseq / "results/qc/summary.tsv"):
        assert int(row["given"]) == 420 and int(row["counted"]) > 400


@pytest.mark.sandbox
def test_rnaseq_on_the_sandbox_gives_what_the_plain_run_gives(
    rnaseq: Path,
    tmp_path: Path,
    environment: dict[str, str],
    sandbox_env: dict[str, str],
) -> None:
    """Staged from beside the Snakefile, in the groups that its README suggests."""
    folder = rnaseq.with_name("as-it-is")
    page = (ROOT / "workflows/rnaseq/README.md").read_text().partition("```yaml\n")[2]
    groups = yaml.safe_load(page.partition("```")[0])["groups"]
    flags = [
        *("--profile", str(ROOT / "profiles" / "sandbox")),
        *("--default-storage-prefix", f"s3://takeda-sandbox/{tmp_path.name}"),
    ]
    env = environment | sandbox_env
    run(folder, env, "snakemake_executor_takeda.cli.__init__", "stage", *flags)
    run(
        folder, env, "snakemake", f"results/{RESULTS[1]}", *flags,
        "--takeda-poll-seconds", "0.5", "--max-threads", "2",
        "--groups", *(f"{rule}={group}" for rule, group in groups.items()),
    )  # fmt: skip

    lines = (folder / ".snakemake/takeda/events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    ended = Counter(one["rule"] for one in events if one["event"] == "succeeded")
    assert ended == {"reference": 2, "unit": 2, "end": 1}
    bucket = boto3.client("s3")
    for name in RESULTS[:2]:
        key = f"{tmp_path.name}/results/{name}"
        found = bucket.get_object(Bucket="takeda-sandbox", Key=key)["Body"].read()
        assert found == (rnaseq / "results" / name).read_bytes(), name
