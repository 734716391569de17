"""The library: each core with two groups, in a fixed order, cut into the chunks that docking jobs take."""

import itertools
from pathlib import Path
from typing import Any


def ligands(table: str) -> list[tuple[str, str]]:
    """SMILES and name of all that the building blocks give. A core has places `{0}` and `{1}`."""
    rows = [line.split("\t") for line in table.splitlines()[1:]]
    cores = [(name, smiles) for kind, name, smiles in rows if kind == "core"]
    groups = [(name, smiles) for kind, name, smiles in rows if kind == "group"]
    # neighbours in the list differ in all three, so that the first few are a fair choice
    both = sorted(
        itertools.product(range(len(groups)), repeat=2),
        key=lambda one: (one[0] * 7 + one[1] * 11) % 31,
    )
    return [
        (
            core.format(groups[first][1], groups[second][1]),
            f"{name}-{groups[first][0]}-{groups[second][0]}",
        )
        for first, second in both
        for name, core in cores
    ]


def main(snakemake: Any) -> None:
    wanted = snakemake.params.n_ligands
    every = ligands(Path(snakemake.input[0]).read_text())
    if wanted > len(every):
        raise SystemExit(f"n_ligands is {wanted}, and the building blocks give {len(every)}")
    chunks = len(snakemake.output)
    for number, path in enumerate(map(Path, snakemake.output)):
        mine = every[number:wanted:chunks]
        path.write_text("".join(f"{smiles} {name}\n" for smiles, name in mine))


if "snakemake" in globals():
    main(globals()["snakemake"])
