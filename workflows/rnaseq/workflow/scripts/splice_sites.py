"""Splice sites of an annotation, as hisat2 reads them: the exons' bases on both sides, counted from 0."""

import itertools
import re
from pathlib import Path
from typing import Any


def sites(gtf: str) -> list[tuple[str, int, int, str]]:
    exons: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
    for line in gtf.splitlines():
        if line.startswith("#"):
            continue
        contig, _, feature, start, end, _, strand, _, words = line.split("\t")
        transcript = re.search(r'transcript_id "([^"]+)"', words)
        if feature == "exon" and transcript:
            exons.setdefault((contig, strand, transcript[1]), []).append((int(start), int(end)))
    found = set()
    for (contig, strand, _), places in exons.items():
        places.sort()
        for (_, end), (start, _) in itertools.pairwise(places):
            found.add((contig, end - 1, start - 1, strand))
    return sorted(found)


def main(snakemake: Any) -> None:
    lines = ("\t".join(map(str, site)) for site in sites(Path(snakemake.input[0]).read_text()))
    Path(snakemake.output[0]).write_text("".join(f"{line}\n" for line in lines))


if "snakemake" in globals():
    main(globals()["snakemake"])
