"""Counts of all units put together: a row for each gene, a column for each sample."""

from collections import Counter
from pathlib import Path
from typing import Any


def counts(text: str) -> dict[str, int]:
    """Gene → reads, of a table of featureCounts: a comment, a header, and the counts in the last column."""
    rows = (line.split("\t") for line in text.splitlines()[2:])
    return {row[0]: int(row[-1]) for row in rows}


def main(snakemake: Any) -> None:
    of_sample: dict[str, Counter[str]] = {}
    for sample, path in zip(snakemake.params.samples, map(Path, snakemake.input), strict=True):
        of_sample.setdefault(sample, Counter()).update(counts(path.read_text()))
    genes = sorted(set().union(*of_sample.values()))
    lines = ["\t".join(["gene", *of_sample])]
    lines += ["\t".join([gene, *(str(one[gene]) for one in of_sample.values())]) for gene in genes]
    Path(snakemake.output[0]).write_text("\n".join(lines) + "\n")


if "snakemake" in globals():
    main(globals()["snakemake"])
