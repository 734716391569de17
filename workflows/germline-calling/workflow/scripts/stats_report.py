"""A page with the genotypes of each sample, counted, and the table of the quality control."""

import gzip
from collections import Counter
from html import escape
from pathlib import Path
from typing import Any

KINDS = {"0/0": "as the reference", "0/1": "heterozygous", "1/1": "homozygous"}


def genotypes(table: str, samples: list[str]) -> dict[str, Counter[str]]:
    """Sample → how often each genotype; a call with several alternatives counts as `other`."""
    counts: dict[str, Counter[str]] = {sample: Counter() for sample in samples}
    for line in table.splitlines():
        if not line.startswith("#"):
            for sample, call in zip(samples, line.split("\t")[5:], strict=False):
                counts[sample][KINDS.get(call.replace("|", "/"), "other")] += 1
    return counts


def rows(table: list[list[str]]) -> str:
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in table)
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def main(snakemake: Any) -> None:
    with gzip.open(snakemake.input.calls, "rt") as lines:
        counts = genotypes(lines.read(), list(snakemake.params.samples))
    kinds = [*KINDS.values(), "other"]
    calls = [["sample", *kinds]]
    calls += [[sample, *(str(one[kind]) for kind in kinds)] for sample, one in counts.items()]
    quality = [line.split("\t") for line in Path(snakemake.input.qc).read_text().splitlines()]
    page = f"<!doctype html><title>Calls</title><h1>Calls</h1>{rows(calls)}<h1>Reads</h1>{rows(quality)}"
    Path(snakemake.output[0]).write_text(page + "\n")


if "snakemake" in globals():
    main(globals()["snakemake"])
