"""One row for each unit: pairs of reads given, kept after trimming, aligned, and counted to a gene."""

import json
import re
from pathlib import Path
from typing import Any


def row(trimmed: str, flagstat: str, counted: str) -> list[int]:
    summary = json.loads(trimmed)["summary"]
    given = summary["before_filtering"]["total_reads"] // 2
    kept = summary["after_filtering"]["total_reads"] // 2
    (aligned,) = re.findall(r"^(\d+) \+ \d+ properly paired", flagstat, re.MULTILINE)
    (assigned,) = re.findall(r"^Assigned\t(\d+)", counted, re.MULTILINE)
    return [given, kept, int(aligned) // 2, int(assigned)]


def main(snakemake: Any) -> None:
    lines = ["unit\tgiven\tkept\taligned\tcounted"]
    given = (snakemake.input.trimmed, snakemake.input.flagstat, snakemake.input.counts)
    for name, *paths in zip(snakemake.params.names, *given, strict=True):
        numbers = row(*(Path(path).read_text() for path in paths))
        lines.append("\t".join([name, *map(str, numbers)]))
    Path(snakemake.output[0]).write_text("\n".join(lines) + "\n")


if "snakemake" in globals():
    main(globals()["snakemake"])
