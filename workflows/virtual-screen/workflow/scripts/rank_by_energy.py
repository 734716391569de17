"""The hits by their mean interaction energy with the receptor in the simulation, the best first."""

from pathlib import Path
from statistics import fmean
from typing import Any


def mean_energy(xvg: str) -> float:
    """kJ/mol: the two terms of each step added up, the mean of the second half of the steps."""
    steps = [
        sum(map(float, line.split()[1:]))
        for line in xvg.splitlines()
        if line.strip() and line[0] not in "#@"
    ]
    return fmean(steps[len(steps) // 2 :])


def main(snakemake: Any) -> None:
    docked = [
        line.split("\t") for line in Path(snakemake.input.docking).read_text().splitlines()[1:]
    ]
    energies = [mean_energy(Path(path).read_text()) for path in snakemake.input.energies]
    rows = sorted(
        (energy, name, score) for energy, (_, name, score) in zip(energies, docked, strict=False)
    )
    lines = [f"{name}\t{score}\t{energy:.1f}" for energy, name, score in rows]
    Path(snakemake.output[0]).write_text("\n".join(["ligand\tscore\tenergy", *lines]) + "\n")


if "snakemake" in globals():
    main(globals()["snakemake"])
