"""All ligands by Vina's score, the best first, and the poses of the best as files of their own."""

import re
from pathlib import Path
from typing import Any


def poses(text: str) -> list[tuple[float, str, str]]:
    """Score in kcal/mol, name, and the pose itself, of each model in a PDBQT file of Vina."""
    found = []
    for model in re.findall(r"^MODEL.*?^ENDMDL\n", text, re.MULTILINE | re.DOTALL):
        (score,) = re.findall(r"^REMARK VINA RESULT:\s+(\S+)", model, re.MULTILINE)
        (name,) = re.findall(r"^REMARK\s+Name = (\S+)", model, re.MULTILINE)
        found.append((float(score), name, model))
    return found


def main(snakemake: Any) -> None:
    ranked = sorted(one for path in map(Path, snakemake.input) for one in poses(path.read_text()))
    rows = [f"{rank}\t{name}\t{score}" for rank, (score, name, _) in enumerate(ranked, start=1)]
    Path(snakemake.output.table).write_text("\n".join(["rank\tligand\tscore", *rows]) + "\n")
    for (_, _, pose), path in zip(ranked, map(Path, snakemake.output.hits), strict=False):
        path.write_text(pose)


if "snakemake" in globals():
    main(globals()["snakemake"])
