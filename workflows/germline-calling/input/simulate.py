"""Makes the files beside it: a small genome, and reads of a family of three whose variants are known.

python3 input/simulate.py
"""

from __future__ import annotations

import gzip
import random
from pathlib import Path

HERE = Path(__file__).parent
SEED = 7
CONTIGS = {"chr1": 3000, "chr2": 2000}
VARIANTS = 14
DEPTH = 16
READ = 100
SHORTEST, LONGEST = 200, 320  # fragments
ERROR_RATE = 0.002
UNITS = {"mother": ("lane1", "lane2"), "father": ("lane1",), "child": ("lane1",)}
SINGLE = {"father"}
COMPLEMENT = str.maketrans("ACGT", "TGCA")

Variant = tuple[str, int, str, str]  # contig, position from 1, reference, alternative


def variants(rng: random.Random, genome: dict[str, str]) -> list[Variant]:
    """Apart from each other and from the ends; two in three are SNVs, the others one base in or out."""
    found: list[Variant] = []
    for number in range(VARIANTS):
        contig = "chr1" if number < VARIANTS * 3 // 5 else "chr2"
        first = number if contig == "chr1" else number - VARIANTS * 3 // 5
        position = 300 + 290 * first
        sequence = genome[contig]
        base, following = sequence[position - 1], sequence[position]
        if number % 3:
            found.append((contig, position, base, rng.choice([b for b in "ACGT" if b != base])))
        else:
            # a base that neither neighbour has: the insertion can be written in one way only
            new = rng.choice([b for b in "ACGT" if b not in (base, following)])
            found.append((contig, position, base, base + new))
    return found


def haplotype(genome: dict[str, str], mine: list[Variant]) -> dict[str, str]:
    changed = dict(genome)
    for contig, position, ref, alt in sorted(mine, reverse=True):
        text = changed[contig]
        changed[contig] = text[: position - 1] + alt + text[position - 1 + len(ref) :]
    return changed


def read(rng: random.Random, bases: str) -> str:
    return "".join(rng.choice("ACGT") if rng.random() < ERROR_RATE else base for base in bases)


def write(path: Path, reads: list[str]) -> None:
    text = "".join(f"@{n}\n{bases}\n+\n{'I' * len(bases)}\n" for n, bases in enumerate(reads))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def main(folder: Path = HERE) -> None:
    rng = random.Random(SEED)  # noqa: S311 - simulated, not secret
    genome = {name: "".join(rng.choices("ACGT", k=size)) for name, size in CONTIGS.items()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "genome.fasta").write_text(
        "".join(f">{name}\n{sequence}\n" for name, sequence in genome.items())
    )
    known = variants(rng, genome)
    parents = {
        name: [[one for one in known if rng.random() < 0.45] for _ in range(2)]
        for name in ("mother", "father")
    }
    people = {**parents, "child": [parents["mother"][0], parents["father"][1]]}
    truth = ["\t".join(["contig", "position", "ref", "alt", *people])]
    for one in known:
        copies = [str(sum(one in side for side in sides)) for sides in people.values()]
        truth.append("\t".join([*map(str, one), *copies]))
    (folder / "truth.tsv").write_text("\n".join(truth) + "\n")
    for name, sides in people.items():
        both = [haplotype(genome, mine) for mine in sides]
        for lane in UNITS[name]:
            first, second = [], []
            pairs = sum(CONTIGS.values()) * DEPTH // (2 * READ * len(UNITS[name]))
            for number in range(pairs * (2 if name in SINGLE else 1)):
                contig = rng.choices(list(CONTIGS), weights=list(CONTIGS.values()))[0]
                source = both[number % 2][contig]
                size = rng.randint(SHORTEST, LONGEST)
                start = rng.randrange(len(source) - size)
                fragment = source[start : start + size]
                if rng.random() < 0.5:
                    fragment = fragment.translate(COMPLEMENT)[::-1]
                first.append(read(rng, fragment[:READ]))
                second.append(read(rng, fragment.translate(COMPLEMENT)[::-1][:READ]))
            if name in SINGLE:
                write(folder / f"reads/{name}-{lane}.fq.gz", first)
            else:
                write(folder / f"reads/{name}-{lane}.1.fq.gz", first)
                write(folder / f"reads/{name}-{lane}.2.fq.gz", second)


if __name__ == "__main__":
    main()
