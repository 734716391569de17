"""Simulate the outbreak: who infected whom, the genomes that were sampled, and the true tree.

Everything is drawn from `random.Random(seed).random()`, whose sequence is the same on every
Python version, so that one seed is one outbreak on every machine.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trees import Tree, collapse, write_newick

TRANSITIONS = {"A": "G", "G": "A", "C": "T", "T": "C"}
TRANSVERSIONS = {"A": "CT", "G": "CT", "C": "AG", "T": "AG"}
SHARE_OF_TRANSITIONS = 2 / 3


@dataclass(frozen=True)
class Pace:
    """Means of the waiting times that are drawn, in days, and the rate of change."""

    within_hall_days: float
    """From one infection to the next in the same hall."""
    between_halls_days: float
    """From an infection to its spread into a hall that was clean."""
    sampling_days: float
    """From infection to the sample that is sequenced."""
    snps_per_day: float


@dataclass(frozen=True)
class Case:
    """One fermenter in which phage was found."""

    name: str
    hall: str
    infected_by: str | None
    """None for the index case."""
    day_infected: float
    day_sampled: float


@dataclass(frozen=True)
class Sampled:
    """The true tree, with substitutions as branch lengths, and the genome of each of its tips."""

    tree: Tree
    genomes: Mapping[str, str]


def waiting_days(rng: random.Random, mean: float) -> float:
    """Exponential above a fifth of the mean: no infection is found or passed on at once."""
    return mean * (0.2 - 0.8 * math.log(1.0 - rng.random()))


def pick(rng: random.Random, items: Sequence[Any]) -> Any:
    return items[int(rng.random() * len(items))]


def spread(rng: random.Random, halls: Sequence[str], per_hall: int, pace: Pace) -> list[Case]:
    """Who infected whom and when, in order of infection; cases are numbered within their hall."""
    draft: list[tuple[float, str, int | None]] = []  # day, hall, index of the infector
    for number, hall in enumerate(halls):
        infector = int(rng.random() * len(draft)) if number else None
        day = 0.0
        if infector is not None:
            day = draft[infector][0] + waiting_days(rng, pace.between_halls_days)
        members = [len(draft)]
        draft.append((day, hall, infector))
        for _ in range(per_hall - 1):
            infector = pick(rng, members)
            day = draft[infector][0] + waiting_days(rng, pace.within_hall_days)
            members.append(len(draft))
            draft.append((day, hall, infector))
    by_day = sorted(range(len(draft)), key=lambda index: draft[index][0])
    counted = dict.fromkeys(halls, 0)
    names: dict[int, str] = {}
    cases = []
    for index in by_day:
        day, hall, infector = draft[index]
        counted[hall] += 1
        names[index] = f"{hall}{counted[hall]}"
        infected_by = None if infector is None else names[infector]
        sampled = day + waiting_days(rng, pace.sampling_days)
        cases.append(Case(names[index], hall, infected_by, day, sampled))
    return cases


def mutate(rng: random.Random, genome: str, expected: float) -> tuple[str, int]:
    """Apply a Poisson number of substitutions; returns the genome and how many there were."""
    count, product, limit = 0, rng.random(), math.exp(-expected)
    while product > limit:
        count += 1
        product *= rng.random()
    bases = list(genome)
    for _ in range(count):
        site = int(rng.random() * len(bases))
        base = bases[site]
        is_transition = rng.random() < SHARE_OF_TRANSITIONS
        bases[site] = TRANSITIONS[base] if is_transition else pick(rng, TRANSVERSIONS[base])
    return "".join(bases), count


def sample(rng: random.Random, ancestor: str, cases: Sequence[Case], pace: Pace) -> Sampled:
    """Evolve one lineage per case, and split it at each infection and at the sample."""
    infected = {case.name: [c for c in cases if c.infected_by == case.name] for case in cases}
    genomes: dict[str, str] = {}

    def lineage(case: Case, day: float, genome: str, left: Sequence[Case]) -> Tree:
        """The subtree of this case from `day` on, with the infections it still has to pass on."""
        end = left[0].day_infected if left else case.day_sampled
        is_sampled_first = case.name not in genomes and (not left or case.day_sampled <= end)
        end = case.day_sampled if is_sampled_first else end
        genome, count = mutate(rng, genome, (end - day) * pace.snps_per_day)
        if is_sampled_first:
            genomes[case.name] = genome
            tip = Tree(case.name)
            if not left:
                return Tree(case.name, count)
            return Tree("", count, None, (tip, lineage(case, end, genome, left)))
        heir, later = left[0], left[1:]
        branches = [lineage(heir, end, genome, infected[heir.name])]
        if later or case.name not in genomes:
            branches.append(lineage(case, end, genome, later))
        if len(branches) == 1:  # sampled before its last infection: nothing else is seen of it
            return Tree(branches[0].name, count + branches[0].length, None, branches[0].children)
        return Tree("", count, None, tuple(branches))

    index = cases[0]
    tree = lineage(index, index.day_infected, ancestor, infected[index.name])
    return Sampled(tree, genomes)


def read_fasta(path: Path) -> str:
    """The only sequence of a FASTA file."""
    lines = path.read_text().splitlines()
    return "".join(line for line in lines if not line.startswith(">")).upper()


def write_fasta(path: Path, name: str, sequence: str) -> None:
    lines = (sequence[start : start + 60] for start in range(0, len(sequence), 60))
    path.write_text(f">{name}\n" + "\n".join(lines) + "\n")


def main(job: Any) -> None:
    """Write each isolate's genome, the cases as a table, and the true tree with its outgroup."""
    settings = job.params.outbreak
    pace = Pace(**settings["pace"])
    rng = random.Random(settings["seed"])  # noqa: S311  (a simulation, not a secret)
    ancestor = read_fasta(Path(job.input.reference))
    cases = spread(rng, settings["halls"], settings["fermenters_per_hall"], pace)
    sampled = sample(rng, ancestor, cases, pace)

    for path in map(Path, job.output.genomes):
        write_fasta(path, path.stem, sampled.genomes[path.stem])
    header = "case\thall\tinfected_by\tday_infected\tday_sampled\n"
    rows = (
        f"{c.name}\t{c.hall}\t{c.infected_by or ''}\t{c.day_infected:.2f}\t{c.day_sampled:.2f}\n"
        for c in cases
    )
    Path(job.output.cases).write_text(header + "".join(rows))
    # A branch without a substitution left no trace: even the true tree can't resolve it.
    tree = collapse(sampled.tree, shorter_than=0.5)
    whole = Tree("", 0.0, None, (Tree(job.params.outgroup), tree))
    Path(job.output.tree).write_text(write_newick(whole))


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (Snakemake's `script:` provides it)
