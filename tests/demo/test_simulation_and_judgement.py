"""The simulated outbreak agrees with itself, and the judge sees every kind of mistake."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest
from judge import accuracy, called_snps, read_alignment, snp_distances, true_snps
from simulate import Pace, Sampled, sample, spread
from trees import Tree, parse_newick

PACE = Pace(within_hall_days=4, between_halls_days=16, sampling_days=5, snps_per_day=1.2)
ANCESTOR = "".join(random.Random(0).choices("ACGT", k=50_000))


def simulate(seed: int) -> tuple[list, Sampled]:
    rng = random.Random(seed)
    cases = spread(rng, ["A", "B", "C"], 5, PACE)
    return cases, sample(rng, ANCESTOR, cases, PACE)


def depths(tree: Tree, above: float = 0.0) -> dict[str, float]:
    here = above + tree.length
    found = {tree.name: here} if tree.is_tip else {}
    for child in tree.children:
        found |= depths(child, here)
    return found


def test_one_seed_is_one_outbreak() -> None:
    assert simulate(3) == simulate(3)
    assert simulate(3) != simulate(4)


@pytest.mark.parametrize("seed", range(5))
def test_every_infection_comes_from_an_earlier_one(seed: int) -> None:
    cases, _ = simulate(seed)
    seen: dict[str, float] = {}
    for case in cases:
        assert case.day_sampled > case.day_infected
        if seen:
            assert seen[case.infected_by] < case.day_infected
        else:
            assert case.infected_by is None
        seen[case.name] = case.day_infected
    assert sorted(seen) == [f"{hall}{n}" for hall in "ABC" for n in range(1, 6)]


@pytest.mark.parametrize("seed", range(5))
def test_genomes_have_the_substitutions_that_the_true_tree_counts(seed: int) -> None:
    cases, sampled = simulate(seed)
    counted = depths(sampled.tree)
    assert sorted(counted) == sorted(sampled.genomes) == sorted(case.name for case in cases)
    differing = {
        name: sum(a != b for a, b in zip(genome, ANCESTOR, strict=True))
        for name, genome in sampled.genomes.items()
    }
    # A site that was hit twice counts twice in the tree and at most once in the genome.
    assert all(counted[name] - 4 <= differing[name] <= counted[name] for name in counted)
    assert max(differing.values()) > 10


def write_vcf(path: Path, rows: list[str]) -> Path:
    head = [
        "##fileformat=VCFv4.2",
        "#CHROM POS ID REF ALT QUAL FILTER INFO FORMAT x y".replace(" ", "\t"),
    ]
    with gzip.open(path, "wt") as vcf:
        vcf.write("\n".join([*head, *(row.replace(" ", "\t") for row in rows)]) + "\n")
    return path


def test_genotypes_are_read_as_called(tmp_path: Path) -> None:
    vcf = write_vcf(
        tmp_path / "calls.vcf.gz",
        ["c 3 . A G 50 PASS . GT:DP 1:9 0:8", "c 7 . C T,G 50 PASS . DP:GT 9:2 1:."],
    )
    assert called_snps(vcf) == {("x", 3, "G"), ("x", 7, "G")}


def test_the_judge_counts_found_missed_and_false_calls() -> None:
    truth = true_snps("AAAA", {"x": "GAAT", "y": "GAAA"})
    assert truth == {("x", 1, "G"), ("x", 4, "T"), ("y", 1, "G")}
    called = frozenset({("x", 1, "G"), ("y", 1, "C"), ("unknown", 2, "T")})
    tree = parse_newick("((a:1,b:1):1,(c:1,d:1):1);")
    other = parse_newick("((a:1,c:1):1,(b:1,d:1):1);")
    result = accuracy(tree, other, truth, called)
    assert result["snps"] == {
        "true_sites": 2, "called_sites": 1, "true": 3, "found": 1, "missed": 2, "false": 1
    }  # fmt: skip
    assert result["tree"] == {
        "robinson_foulds": 2, "robinson_foulds_max": 2,
        "true_splits": 1, "inferred_splits": 1, "shared_splits": 0,
    }  # fmt: skip


def test_distances_leave_unknown_bases_out(tmp_path: Path) -> None:
    path = tmp_path / "alignment.phy"
    path.write_text("3 5\na ACGTA\nb ACGTC\nc NGNTN\n")
    found = snp_distances(read_alignment(path))
    assert found["a", "b"] == found["b", "a"] == 1
    assert found["a", "c"] == 1
    assert found["b", "c"] == 1
    assert found["a", "a"] == 0
