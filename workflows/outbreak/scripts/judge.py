"""How well the pipeline did: called SNPs and inferred tree against what was simulated."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trees import Tree, robinson_foulds, splits

Snp = tuple[str, int, str]
"""Sample, position from 1, base."""


def true_snps(ancestor: str, genomes: Mapping[str, str]) -> frozenset[Snp]:
    """Where the simulated genomes differ from their ancestor."""
    return frozenset(
        (name, position, base)
        for name, genome in genomes.items()
        for position, (old, base) in enumerate(zip(ancestor, genome, strict=True), start=1)
        if old != base
    )


def called_snps(vcf: Path) -> frozenset[Snp]:
    """Every haploid genotype of a VCF file that is not the reference."""
    found: set[Snp] = set()
    samples: list[str] = []
    with gzip.open(vcf, "rt") as lines:
        for line in lines:
            if line.startswith("##"):
                continue
            fields = line.rstrip("\n").split("\t")
            if line.startswith("#"):
                samples = fields[9:]
                continue
            alleles = [fields[3], *fields[4].split(",")]
            genotype = fields[8].split(":").index("GT")
            for sample, values in zip(samples, fields[9:], strict=True):
                allele = values.split(":")[genotype]
                if allele not in (".", "0"):
                    found.add((sample, int(fields[1]), alleles[int(allele)]))
    return frozenset(found)


def read_alignment(path: Path) -> dict[str, str]:
    """A sequential PHYLIP file with one line for each sequence."""
    return dict(line.split() for line in path.read_text().splitlines()[1:])


def mean_depth(coverage: Path) -> float:
    """Of the table that `samtools coverage` writes for a genome of one sequence."""
    header, row = (line.split("\t") for line in coverage.read_text().splitlines())
    return float(row[header.index("meandepth")])


def snp_distances(alignment: Mapping[str, str]) -> dict[tuple[str, str], int]:
    """Differing positions of each ordered pair, without those unknown in either."""
    names = list(alignment)
    columns = [
        column for column in zip(*alignment.values(), strict=True) if len(set(column) - {"N"}) > 1
    ]
    known = {name: "".join(column[i] for column in columns) for i, name in enumerate(names)}
    return {
        (one, other): sum(
            a != b and "N" not in (a, b) for a, b in zip(known[one], known[other], strict=True)
        )
        for one in names
        for other in names
    }


def accuracy(
    true_tree: Tree, inferred: Tree, truth: frozenset[Snp], called: frozenset[Snp]
) -> dict[str, Any]:
    """Figures for people and programs. `called` may hold samples whose truth is not known."""
    samples = {sample for sample, _, _ in truth}
    judged = frozenset(snp for snp in called if snp[0] in samples)
    distance, most = robinson_foulds(true_tree, inferred)
    return {
        "tree": {
            "robinson_foulds": distance,
            "robinson_foulds_max": most,
            "true_splits": len(splits(true_tree)),
            "inferred_splits": len(splits(inferred)),
            "shared_splits": len(splits(true_tree) & splits(inferred)),
        },
        "snps": {
            "true_sites": len({position for _, position, _ in truth}),
            "called_sites": len({position for _, position, _ in judged}),
            "true": len(truth),
            "found": len(truth & judged),
            "missed": len(truth - judged),
            "false": len(judged - truth),
        },
    }
