"""Genes whose counts differ between two conditions: a likelihood ratio test on negative binomial counts.

One dispersion for all genes, by moments within the conditions; sizes of libraries by the median of ratios.
"""

from math import erfc, exp, lgamma, log, log1p, log2, sqrt
from pathlib import Path
from statistics import fmean, median
from typing import Any

PSEUDO = 0.5
LEAST_DISPERSION = 0.01


def size_factors(rows: list[list[int]]) -> list[float]:
    """One for each sample: the median, over genes that all samples have, of its share of their mean."""
    full = [row for row in rows if all(row)]
    means = [exp(fmean(map(log, row))) for row in full]
    return [
        median(row[n] / mean for row, mean in zip(full, means, strict=True))
        for n in range(len(rows[0]))
    ]


def dispersion(groups: list[list[list[float]]]) -> float:
    """The median over genes of (variance − mean) / mean², each gene's conditions by themselves."""
    found = []
    for group in groups:
        for values in group:
            mean = fmean(values)
            if mean > 0 and len(values) > 1:
                variance = sum((one - mean) ** 2 for one in values) / (len(values) - 1)
                found.append((variance - mean) / mean**2)
    return max(LEAST_DISPERSION, median(found)) if found else LEAST_DISPERSION


def log_likelihood(counts: list[int], means: list[float], spread: float) -> float:
    """Of negative binomial counts with these means and this dispersion."""
    size = 1 / spread
    return sum(
        lgamma(count + size)
        - lgamma(size)
        - lgamma(count + 1)
        - size * log1p(mean / size)
        + (count * log(mean / (mean + size)) if count else 0.0)
        for count, mean in zip(counts, means, strict=True)
    )


def adjusted(p_values: list[float]) -> list[float]:
    """False discovery rates, by Benjamini and Hochberg."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__, reverse=True)
    rates = [0.0] * len(p_values)
    least = 1.0
    for rank, number in zip(range(len(order), 0, -1), order, strict=True):
        least = min(least, p_values[number] * len(p_values) / rank)
        rates[number] = least
    return rates


def compare(
    counts: dict[str, list[int]], samples: list[str], conditions: dict[str, str], levels: list[str]
) -> list[tuple[str, float, float, float, float]]:
    """Gene, mean, log2 of its change, p, false discovery rate; the surest first."""
    columns = [[n for n, name in enumerate(samples) if conditions[name] == one] for one in levels]
    factors = size_factors(list(counts.values()))
    normal = {
        gene: [[row[n] / factors[n] for n in group] for group in columns]
        for gene, row in counts.items()
    }
    spread = dispersion([list(groups) for groups in normal.values()])
    results = []
    for gene, row in counts.items():
        used = [n for group in columns for n in group]
        observed = [row[n] for n in used]
        alike = fmean([value for group in normal[gene] for value in group]) or PSEUDO
        apart = [fmean(group) or PSEUDO for group in normal[gene]]
        null = [alike * factors[n] for n in used]
        fitted = [
            mean * factors[n] for mean, group in zip(apart, columns, strict=True) for n in group
        ]
        ratio = 2 * (
            log_likelihood(observed, fitted, spread) - log_likelihood(observed, null, spread)
        )
        change = log2((apart[0] + PSEUDO) / (apart[1] + PSEUDO))
        results.append((gene, alike, change, erfc(sqrt(max(ratio, 0.0) / 2))))
    rates = adjusted([one[3] for one in results])
    return sorted(
        ((*one, rate) for one, rate in zip(results, rates, strict=True)), key=lambda one: one[3]
    )


def main(snakemake: Any) -> None:
    header, *lines = Path(snakemake.input[0]).read_text().splitlines()
    counts = {gene: [int(one) for one in row] for gene, *row in (one.split("\t") for one in lines)}
    table = ["gene\tbaseMean\tlog2FoldChange\tpvalue\tpadj"]
    for gene, mean, change, p_value, rate in compare(
        counts,
        header.split("\t")[1:],
        dict(snakemake.params.conditions),
        list(snakemake.params.contrast),
    ):
        table.append(f"{gene}\t{mean:.1f}\t{change:.2f}\t{p_value:.2e}\t{rate:.2e}")
    Path(snakemake.output[0]).write_text("\n".join(table) + "\n")


if "snakemake" in globals():
    main(globals()["snakemake"])
