"""One row for each unit: the numbers of `samtools stats` that one looks at first."""

from pathlib import Path
from typing import Any

COLUMNS = ("raw total sequences", "reads mapped", "reads properly paired", "error rate")


def numbers(text: str) -> dict[str, str]:
    rows = (line.split("\t") for line in text.splitlines() if line.startswith("SN\t"))
    return {row[1].rstrip(":"): row[2] for row in rows}


def main(snakemake: Any) -> None:
    lines = ["\t".join(["unit", *COLUMNS])]
    for path in map(Path, snakemake.input):
        found = numbers(path.read_text())
        lines.append("\t".join([path.stem, *(found[name] for name in COLUMNS)]))
    Path(snakemake.output[0]).write_text("\n".join(lines) + "\n")


if "snakemake" in globals():
    main(globals()["snakemake"])
