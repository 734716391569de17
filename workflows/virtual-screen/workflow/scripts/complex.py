"""Puts a docked ligand beside the receptor: one structure and one topology for GROMACS.

The ligand's force field is a toy: Lennard-Jones by element, bonds and angles kept as they are in the pose.
"""

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# element: mass in u, sigma in nm, epsilon in kJ/mol, radius of a bond in nm
ELEMENTS = {
    "H": (1.008, 0.107, 0.066, 0.031),
    "C": (13.0, 0.340, 0.36, 0.077),
    "N": (14.007, 0.325, 0.71, 0.071),
    "O": (15.999, 0.300, 0.70, 0.066),
    "F": (18.998, 0.312, 0.26, 0.064),
    "S": (32.06, 0.356, 1.05, 0.103),
    "Cl": (35.45, 0.347, 1.11, 0.099),
}
OF_TYPE = {"A": "C", "HD": "H", "OA": "O", "NA": "N", "SA": "S"}
BOND_FORCE, ANGLE_FORCE = 250_000.0, 400.0  # kJ/mol/nm², kJ/mol/rad²


@dataclass(frozen=True)
class Atom:
    element: str
    charge: float
    place: tuple[float, float, float]  # nm


def read_pose(text: str) -> list[Atom]:
    """The atoms of a PDBQT pose; hydrogens at carbon are in their carbons, as AutoDock has it."""
    atoms = []
    for line in text.splitlines():
        if line.startswith(("ATOM", "HETATM")):
            kind = line[77:79].strip()
            x, y, z = (float(line[start : start + 8]) / 10 for start in (30, 38, 46))
            atoms.append(Atom(OF_TYPE.get(kind, kind), float(line[70:76]), (x, y, z)))
    return atoms


def bonds(atoms: list[Atom]) -> list[tuple[int, int]]:
    return [
        (one, other)
        for one, other in itertools.combinations(range(len(atoms)), 2)
        if math.dist(atoms[one].place, atoms[other].place)
        < 1.25 * (ELEMENTS[atoms[one].element][3] + ELEMENTS[atoms[other].element][3])
    ]


def angles(pairs: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    of: dict[int, list[int]] = {}
    for one, other in pairs:
        of.setdefault(one, []).append(other)
        of.setdefault(other, []).append(one)
    return [
        (one, middle, other)
        for middle, ends in of.items()
        for one, other in itertools.combinations(sorted(ends), 2)
    ]


def degrees(atoms: list[Atom], one: int, middle: int, other: int) -> float:
    a, b = (
        [x - y for x, y in zip(atoms[end].place, atoms[middle].place, strict=True)]
        for end in (one, other)
    )
    cosine = sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))


def atom_types() -> str:
    lines = [
        f"lig_{name} 0 {mass} 0.0 A {sigma} {epsilon}"
        for name, (mass, sigma, epsilon, _) in ELEMENTS.items()
    ]
    return "\n".join(["[ atomtypes ]", *lines]) + "\n\n"


def molecule(atoms: list[Atom]) -> str:
    pairs = bonds(atoms)
    surplus = sum(atom.charge for atom in atoms) / len(atoms)
    lines = ["[ moleculetype ]", "LIG 3", "", "[ atoms ]"]
    for number, atom in enumerate(atoms, start=1):
        mass = ELEMENTS[atom.element][0]
        lines.append(
            f"{number} lig_{atom.element} 1 LIG {atom.element}{number} {number} "
            f"{atom.charge - surplus:.5f} {mass}"
        )
    lines += ["", "[ bonds ]"]
    for one, other in pairs:
        length = math.dist(atoms[one].place, atoms[other].place)
        lines.append(f"{one + 1} {other + 1} 1 {length:.5f} {BOND_FORCE}")
    lines += ["", "[ angles ]"]
    for one, middle, other in angles(pairs):
        angle = degrees(atoms, one, middle, other)
        lines.append(f"{one + 1} {middle + 1} {other + 1} 1 {angle:.3f} {ANGLE_FORCE}")
    return "\n".join(lines) + "\n\n"


def join_topology(receptor: str, atoms: list[Atom]) -> str:
    """The receptor's topology with the ligand's types, its molecule, and one of it in the system."""
    head, include, rest = receptor.partition('forcefield.itp"\n')
    body, system, molecules = rest.partition("[ system ]")
    return f"{head}{include}\n{atom_types()}{body}{molecule(atoms)}{system}{molecules}LIG 1\n"


def join_structure(receptor: str, atoms: list[Atom]) -> str:
    title, number, *lines, box = receptor.splitlines()
    first = int(number)
    for count, atom in enumerate(atoms, start=1):
        x, y, z = atom.place
        name = f"{atom.element}{count}"
        lines.append(f"{1:5d}{'LIG':<5}{name:>5}{first + count:5d}{x:8.3f}{y:8.3f}{z:8.3f}")
    return "\n".join([title, str(first + len(atoms)), *lines, box]) + "\n"


def main(snakemake: Any) -> None:
    atoms = read_pose(Path(snakemake.input.ligand).read_text())
    for kind, join in (("gro", join_structure), ("top", join_topology)):
        text = Path(getattr(snakemake.input, kind)).read_text()
        Path(getattr(snakemake.output, kind)).write_text(join(text, atoms))


if "snakemake" in globals():
    main(globals()["snakemake"])
