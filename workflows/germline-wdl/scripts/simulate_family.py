"""Simulate a family of three: a genome, what each member inherited, and reads of it.

Everything is drawn from `random.Random(seed).random()`, whose sequence is the same on every Python
version, and compressed without times, so that one seed is one family, byte for byte.
"""

import gzip
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BASES = "ACGT"
HAPLOID = "chrM"
PARENTS = ("mother", "father")
CHILD = "child"
COMPLEMENT = str.maketrans("ACGT", "TGCA")
SHARE_OF_SNPS = 0.75
LONGEST_INDEL = 4
MARGIN = 200
"""Bases at both ends of a contig that vary in nobody: few reads reach them."""


@dataclass(frozen=True)
class Variant:
    """As VCF writes it: `ref` and `alt` begin with the base before an insertion or deletion."""

    contig: str
    position: int
    """Of the first base of `ref`, counted from 1."""
    ref: str
    alt: str


Haplotype = frozenset[Variant]
Genotypes = Mapping[str, Sequence[Haplotype]]
"""Of each member: two haplotypes, mother's and father's side; of `chrM` only the first counts."""


def pick(rng: random.Random, items: Sequence[Any]) -> Any:
    return items[int(rng.random() * len(items))]


def sequence(rng: random.Random, length: int) -> str:
    return "".join(pick(rng, BASES) for _ in range(length))


def draw_variant(rng: random.Random, contig: str, genome: str, position: int) -> Variant:
    """One that no other notation could name: an indel is as far left as it goes."""
    index = position - 1
    base = genome[index]
    others = BASES.replace(base, "")
    if rng.random() < SHARE_OF_SNPS:
        return Variant(contig, position, base, pick(rng, others))
    length = 1 + int(rng.random() * LONGEST_INDEL)
    if rng.random() < 0.5:
        inserted = sequence(rng, length - 1) + pick(rng, others)
        return Variant(contig, position, base, base + inserted)
    while genome[index + length] == base:
        length += 1
    return Variant(contig, position, genome[index : index + length + 1], base)


def draw_variants(rng: random.Random, genomes: Mapping[str, str], spacing: int) -> list[Variant]:
    """So far from each other that none hides another, in the genome's order."""
    found = []
    for contig, genome in genomes.items():
        position = MARGIN
        while (position := position + spacing // 2 + int(rng.random() * spacing)) < (
            len(genome) - MARGIN
        ):
            found.append(draw_variant(rng, contig, genome, position))
    return found


def inherit(rng: random.Random, variants: Iterable[Variant]) -> Genotypes:
    """Each variant is in one to four of the parents' haplotypes; the child has one of each parent."""
    haplotypes: list[set[Variant]] = [set(), set(), set(), set()]
    for variant in variants:
        carriers = [one for one in range(4) if rng.random() < 0.4] or [int(rng.random() * 4)]
        if variant.contig == HAPLOID:
            carriers = [0, 1] if carriers[0] < 2 else [2, 3]
        for one in carriers:
            haplotypes[one].add(variant)
    mother, father = haplotypes[:2], haplotypes[2:]
    of_mother, of_father = pick(rng, mother), pick(rng, father)
    family = {"mother": mother, "father": father, "child": [of_mother, of_father]}
    return {name: [frozenset(one) for one in both] for name, both in family.items()}


def apply(genome: str, contig: str, haplotype: Haplotype) -> str:
    for one in sorted(haplotype, key=lambda variant: -variant.position):
        if one.contig == contig:
            start = one.position - 1
            genome = genome[:start] + one.alt + genome[start + len(one.ref) :]
    return genome


def genotype(variant: Variant, haplotypes: Sequence[Haplotype]) -> str:
    """VCF's GT, without phase."""
    if variant.contig == HAPLOID:
        haplotypes = haplotypes[:1]
    return "/".join(sorted(str(int(variant in one)) for one in haplotypes))


def with_errors(rng: random.Random, read: str, rate: float) -> str:
    bases = list(read)
    for index, base in enumerate(bases):
        if rng.random() < rate:
            bases[index] = pick(rng, BASES.replace(base, ""))
    return "".join(bases)


def draw_reads(
    rng: random.Random, sources: Sequence[str], name: str, settings: Mapping[str, Any]
) -> list[tuple[str, str, str]]:
    """Name, read and mate; from all sources (haplotypes of a contig) evenly, on both strands."""
    length, fragment = settings["read_length"], settings["fragment"]
    found = []
    for source in sources:
        pairs = round(len(source) * settings["depth"] / (len(sources) * 2 * length))
        for _ in range(pairs):
            size = fragment - 40 + int(rng.random() * 81)
            start = int(rng.random() * (len(source) - size + 1))
            piece = source[start : start + size]
            if rng.random() < 0.5:
                piece = piece[::-1].translate(COMPLEMENT)
            mate = piece[::-1].translate(COMPLEMENT)
            rate = settings["error_rate"]
            first, second = (with_errors(rng, one[:length], rate) for one in (piece, mate))
            found.append((f"{name}.{len(found) + 1}", first, second))
    return found


def write_gzip(path: str, lines: Iterable[str]) -> None:
    with (
        Path(path).open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as packed,
    ):
        packed.write("".join(f"{line}\n" for line in lines).encode())


def write_fasta(path: str, genomes: Mapping[str, str]) -> None:
    lines: list[str] = []
    for contig, genome in genomes.items():
        lines.append(f">{contig}")
        lines += [genome[start : start + 60] for start in range(0, len(genome), 60)]
    Path(path).write_text("\n".join(lines) + "\n")


def write_vcf(
    path: str,
    genomes: Mapping[str, str],
    names: Mapping[Variant, str],
    family: Genotypes | None = None,
) -> None:
    """The variants by their ids; with a family, every member's genotype."""
    columns = ["CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"]
    lines = ["##fileformat=VCFv4.2"]
    lines += [f"##contig=<ID={contig},length={len(one)}>" for contig, one in genomes.items()]
    if family:
        lines.append('##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">')
        columns += ["FORMAT", *family]
    lines.append("#" + "\t".join(columns))
    for one, name in names.items():
        row = [one.contig, str(one.position), name, one.ref, one.alt, ".", ".", "."]
        if family:
            row += ["GT", *(genotype(one, both) for both in family.values())]
        lines.append("\t".join(row))
    Path(path).write_text("\n".join(lines) + "\n")


def main(job: Any) -> None:
    """Write the reference, the truth, what is known of it, and the reads of each lane."""
    settings = job.params.family
    rng = random.Random(settings["seed"])  # noqa: S311  (a simulation, not a secret)
    genomes = {name: sequence(rng, length) for name, length in settings["contigs"].items()}
    write_fasta(job.output.reference, genomes)

    drawn = draw_variants(rng, genomes, settings["bases_between_variants"])
    # Of what is known some is in nobody of this family, and some of the family's is not known.
    absent = frozenset(one for one in drawn if rng.random() < settings["share_in_nobody"])
    present = [one for one in drawn if one not in absent]
    family = inherit(rng, present)
    unknown = frozenset(one for one in present if rng.random() < settings["share_unknown"])
    ids = {one: f"known{number}" for number, one in enumerate(drawn, 1)}
    write_vcf(job.output.truth, genomes, dict.fromkeys(present, "."), family)
    write_vcf(job.output.known, genomes, {k: v for k, v in ids.items() if k not in unknown})

    reads = iter(job.output.reads)
    for sample, lanes in job.params.lanes.items():
        for lane, mates in lanes.items():
            found = []
            for contig, genome in genomes.items():
                both = family[sample][:1] if contig == HAPLOID else family[sample]
                sources = [apply(genome, contig, one) for one in both]
                name = f"{sample}.{lane}.{contig}"
                found += draw_reads(rng, sources, name, job.params.sequencing)
            quality = "I" * job.params.sequencing["read_length"]
            for mate in range(mates):
                lines = (
                    line for name, *pair in found for line in (f"@{name}", pair[mate], "+", quality)
                )
                write_gzip(next(reads), lines)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (Snakemake's `script:` provides it)
