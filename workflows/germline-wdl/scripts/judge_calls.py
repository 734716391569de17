"""Compare calls with the truth: variants found, missed and false, and genotypes, for each sample."""

import gzip
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Site = tuple[str, int, str, str]
Calls = Mapping[str, Mapping[Site, str]]
"""Genotype by sample and site; sites that a sample does not vary at are left out."""


def read_vcf(path: Path) -> dict[str, dict[Site, str]]:
    """One alternative allele a line, as `bcftools norm --multiallelics -any` leaves them."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data).decode()
    samples: list[str] = []
    calls: dict[str, dict[Site, str]] = {}
    for line in text.splitlines():
        if line.startswith("##"):
            continue
        fields = line.split("\t")
        if line.startswith("#"):
            samples = fields[9:]
            calls = {sample: {} for sample in samples}
            continue
        site = (fields[0], int(fields[1]), fields[3], fields[4])
        place = fields[8].split(":").index("GT")
        for sample, value in zip(samples, fields[9:], strict=True):
            alleles = sorted(value.split(":")[place].replace("|", "/").split("/"))
            if "1" in alleles:
                calls[sample][site] = "/".join(alleles)
    return calls


def judge(truth: Calls, called: Calls) -> dict[str, Any]:
    """Figures for people and programs, over all samples of the truth."""
    counts = dict.fromkeys(("true", "found", "missed", "false", "right_genotype"), 0)
    for sample, sites in truth.items():
        mine = called.get(sample, {})
        found = sites.keys() & mine.keys()
        counts["true"] += len(sites)
        counts["found"] += len(found)
        counts["missed"] += len(sites.keys() - mine.keys())
        counts["false"] += len(mine.keys() - sites.keys())
        counts["right_genotype"] += sum(sites[site] == mine[site] for site in found)
    return counts


def known_variants(table: str, truth: Calls) -> dict[str, int]:
    """How many of the known variants that the family has were found, and of those that it has not."""
    there = {site for sites in truth.values() for site in sites}
    found = {True: 0, False: 0}
    total = {True: 0, False: 0}
    for line in table.splitlines():
        _, contig, position, ref, alt, word = line.split("\t")
        is_there = (contig, int(position), ref, alt) in there
        total[is_there] += 1
        found[is_there] += word == "found"
    return {
        "known_in_family": total[True],
        "known_found": found[True],
        "known_in_nobody": total[False],
        "known_found_in_nobody": found[False],
    }


def main(job: Any) -> None:
    """Write the figures; exit with a reason where too few variants were found."""
    truth = read_vcf(Path(job.input.truth))
    counts = judge(truth, read_vcf(Path(job.input.vcf)))
    (table,) = Path(job.input.known).glob("*.tsv")
    counts |= known_variants(table.read_text(), truth)
    told = f"known variants found: {counts['known_found']} of {counts['known_in_family']}"
    least = job.params.least_found
    if counts["known_found"] < least * counts["known_in_family"]:
        sys.exit(f"{told}, less than the share {least} that config.yaml asks for (least_found)")
    Path(job.output.accuracy).write_text(json.dumps(counts, indent=2) + "\n")
    Path(job.output.vcf).write_bytes(Path(job.input.vcf).read_bytes())
    print(told, file=sys.stderr)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (Snakemake's `script:` provides it)
