"""Makes the files beside it: a small genome with its genes, and reads of RNA of which it is known whose
genes differ.

    python3 input/simulate.py
"""

from __future__ import annotations

import gzip
import random
from pathlib import Path

HERE = Path(__file__).parent
SEED = 3
GENES = 12
EXONS = (320, 260)  # bases of the two exons of each gene
INTRON, BETWEEN = 180, 120
GENES_OF_CHR1 = 7
PAIRS = 420
READ = 75
SHORTEST, LONGEST = 160, 260  # fragments
ERROR_RATE = 0.002
UP, DOWN = ("gene03", "gene08"), ("gene05", "gene11")
CHANGE = 6
SAMPLES = {"A": False, "B": False, "C": True, "D": True}  # treated?
COMPLEMENT = str.maketrans("ACGT", "TGCA")


def genes(rng: random.Random) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """The genome's sequences, the transcripts' sequences, the lines of a GTF."""
    genome: dict[str, str] = {"chr1": "", "chr2": ""}
    transcripts, lines = {}, []

    def sequence(bases: int) -> str:
        return "".join(rng.choices("ACGT", k=bases))

    for number in range(1, GENES + 1):
        name = f"gene{number:02}"
        contig = "chr1" if number <= GENES_OF_CHR1 else "chr2"
        genome[contig] += sequence(BETWEEN)
        parts, places = [sequence(bases) for bases in EXONS], []
        # introns begin with GT and end with AG, by which aligners know them
        for part, following in zip(parts, ["GT" + sequence(INTRON - 4) + "AG", ""], strict=True):
            places.append((len(genome[contig]) + 1, len(genome[contig]) + len(part)))
            genome[contig] += part + following
        transcripts[name] = "".join(parts)
        words = f'gene_id "{name}"; transcript_id "{name}.1";'
        for start, end in places:
            lines.append(f"{contig}\tsimulated\texon\t{start}\t{end}\t.\t+\t.\t{words}")
    return {name: text + sequence(BETWEEN) for name, text in genome.items()}, transcripts, lines


def read(rng: random.Random, bases: str) -> str:
    return "".join(rng.choice("ACGT") if rng.random() < ERROR_RATE else base for base in bases)


def main(folder: Path = HERE) -> None:
    rng = random.Random(SEED)  # noqa: S311 - simulated, not secret
    genome, transcripts, lines = genes(rng)
    (folder / "reads").mkdir(parents=True, exist_ok=True)
    (folder / "genome.fasta").write_text(
        "".join(f">{name}\n{text}\n" for name, text in genome.items())
    )
    (folder / "annotation.gtf").write_text("\n".join(lines) + "\n")
    usual = {name: rng.uniform(6, 14) for name in transcripts}
    for sample, treated in SAMPLES.items():
        amounts = {name: amount * rng.uniform(0.9, 1.1) for name, amount in usual.items()}
        if treated:
            amounts |= {name: amounts[name] * CHANGE for name in UP}
            amounts |= {name: amounts[name] / CHANGE for name in DOWN}
        mates: tuple[list[str], list[str]] = ([], [])
        for name in rng.choices(list(amounts), weights=list(amounts.values()), k=PAIRS):
            size = rng.randint(SHORTEST, LONGEST)
            start = rng.randrange(len(transcripts[name]) - size + 1)
            fragment = transcripts[name][start : start + size]
            both = [fragment[:READ], fragment.translate(COMPLEMENT)[::-1][:READ]]
            rng.shuffle(both)
            for mate, bases in zip(mates, both, strict=True):
                mate.append(read(rng, bases))
        for number, reads in enumerate(mates, start=1):
            text = "".join(f"@{n}\n{one}\n+\n{'I' * len(one)}\n" for n, one in enumerate(reads))
            path = folder / f"reads/{sample}-lane1.{number}.fq.gz"
            path.write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main()
