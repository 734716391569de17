"""Simulates transcripts, how much of each is in a sample, and paired reads of them, from one seed."""

import csv
import gzip
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BASES = "ACGT"
_COMPLEMENT = str.maketrans(BASES, BASES[::-1])


def transcripts(rng: random.Random, number: int, bases: Sequence[int]) -> dict[str, str]:
    """Random sequences by name, `bases` the least and the most of one."""
    return {
        f"tx{one:02d}": "".join(rng.choices(BASES, k=rng.randint(*bases)))
        for one in range(1, number + 1)
    }


def shares(
    rng: random.Random, names: Sequence[str], conditions: Sequence[str], changed: int, fold: float
) -> dict[str, dict[str, float]]:
    """By condition the share of each transcript's molecules; the first condition is the base.

    The first `changed` transcripts are `fold` times as many in all other conditions.
    """
    base = {name: rng.uniform(1, 10) for name in names}
    found = {}
    for number, condition in enumerate(conditions):
        many = {
            name: value * (fold if number and at < changed else 1)
            for at, (name, value) in enumerate(base.items())
        }
        total = sum(many.values())
        found[condition] = {name: value / total for name, value in many.items()}
    return found


def pair(
    rng: random.Random, sequence: str, fragment: int, length: int, error_rate: float
) -> tuple[str, str]:
    """Both ends of a piece of a transcript, the second as its other strand."""
    start = rng.randrange(len(sequence) - fragment + 1)
    piece = sequence[start : start + fragment]
    ends = (piece[:length], piece[::-1].translate(_COMPLEMENT)[:length])
    return tuple(
        "".join(rng.choice(BASES) if rng.random() < error_rate else base for base in end)
        for end in ends
    )


def write_reads(paths: Sequence[Path], pairs: Sequence[tuple[str, str]]) -> None:
    for mate, path in enumerate(paths):
        with path.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as stream:
            for number, ends in enumerate(pairs, 1):
                end = ends[mate]
                stream.write(f"@r{number}/{mate + 1}\n{end}\n+\n{'I' * len(end)}\n".encode())


def main(job: Any) -> None:
    settings: Mapping[str, Any] = job.params.simulation
    samples: Mapping[str, str] = job.params.samples
    rng = random.Random(settings["seed"])  # noqa: S311 - a simulation
    sequences = transcripts(rng, settings["transcripts"], settings["transcript_bases"])
    conditions = list(dict.fromkeys(samples.values()))
    truth = shares(rng, list(sequences), conditions, settings["changed"], settings["fold"])
    Path(job.output.transcripts).write_text(
        "".join(f">{name}\n{sequence}\n" for name, sequence in sequences.items())
    )
    reads = iter([Path(path) for path in job.output.reads])
    rows = []
    fragment, length = settings["fragment"], settings["read_length"]
    for sample, condition in samples.items():
        # A long transcript gives more fragments than a short one of as many molecules.
        weights = [
            truth[condition][name] * (len(sequence) - fragment + 1)
            for name, sequence in sequences.items()
        ]
        drawn = rng.choices(list(sequences.values()), weights, k=settings["pairs"])
        paths = [next(reads), next(reads)]
        write_reads(
            paths, [pair(rng, one, fragment, length, settings["error_rate"]) for one in drawn]
        )
        rows.append([sample, condition, *(path.name for path in paths)])
    with Path(job.output.sheet).open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(
            [["sample", "condition", "fastq_1", "fastq_2"], *rows]
        )
    with Path(job.output.truth).open("w", newline="") as stream:
        table = csv.writer(stream, delimiter="\t", lineterminator="\n")
        table.writerow(["transcript", *samples])
        for name in sequences:
            table.writerow([name, *(f"{truth[one][name]:.6f}" for one in samples.values())])


if "snakemake" in globals():
    main(globals()["snakemake"])
