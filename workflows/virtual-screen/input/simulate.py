"""Makes the receptor beside it: two helices of alanine side by side, with a groove between them.

python3 input/simulate.py
"""

from __future__ import annotations

import math
from pathlib import Path

RESIDUES = 9
APART = 9.5  # Å between the helices' axes
Point = tuple[float, float, float]

# An alpha helix about the z axis: radius in Å, angle in degrees, and height in Å of each atom of a residue.
RISE, TURN = 1.5, 100.0
ATOMS = {
    "N": (1.55, -28.3, -0.87),
    "CA": (2.29, 0.0, 0.0),
    "C": (1.66, 27.2, 1.09),
    "O": (2.00, 20.5, 2.28),
    "CB": (3.31, -20.1, -0.65),
}


def helix() -> list[tuple[str, int, Point]]:
    atoms = []
    for residue in range(RESIDUES):
        for name, (radius, angle, height) in ATOMS.items():
            turned = math.radians(angle + TURN * residue)
            z = height + RISE * (residue - (RESIDUES - 1) / 2)
            atoms.append(
                (name, residue + 1, (radius * math.cos(turned), radius * math.sin(turned), z))
            )
    return atoms


def main(folder: Path = Path(__file__).parent) -> None:
    lines = []
    for chain, side, way in (("A", -APART / 2, 1), ("B", APART / 2, -1)):
        for name, residue, (x, y, z) in helix():
            # the second helix runs the other way: turned by 180° about the x axis
            place = (x + side, way * y, way * z)
            coordinates = "".join(f"{one:8.3f}" for one in place)
            lines.append(
                f"ATOM  {len(lines) + 1:5d}  {name:<3} ALA {chain}{residue:4d}    {coordinates}"
                f"  1.00  0.00           {name[0]}"
            )
        lines.append(f"TER   {len(lines) + 1:5d}      ALA {chain}{RESIDUES:4d}")
    (folder / "receptor.pdb").write_text("\n".join([*lines, "END"]) + "\n")


if __name__ == "__main__":
    main()
