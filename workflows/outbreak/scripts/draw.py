"""Draw the outbreak: inferred tree, true transmissions and SNP distances, one row per isolate."""

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from judge import accuracy, called_snps, mean_depth, read_alignment, snp_distances, true_snps
from simulate import read_fasta
from trees import Tree, collapse, ladderize, parse_newick, root_at, scale

mpl.use("Agg")  # no display is needed, nor there on a server
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import Normal, Stroke

# Okabe and Ito's colours, told apart by colour-blind readers too.
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999"]
INK = "#222222"
FAINT = "#9A9A9A"
WRONG = "#C00000"
LEAST_SUPPORT_SHOWN = 50


@dataclass(frozen=True)
class Picture:
    """What is drawn: rows from top to bottom, and the colour of each."""

    rows: Sequence[str]
    colours: Mapping[str, str]
    """Isolate → colour of its hall."""
    cases: Mapping[str, Mapping[str, str]]
    """Isolate → its row of the table of cases."""

    def row(self, isolate: str) -> int:
        return self.rows.index(isolate)


def draw_tree(axes: Axes, tree: Tree, picture: Picture, true_splits: frozenset[Any]) -> None:
    """The rooted tree, branch lengths in SNPs; support where a branch is drawn."""
    everyone = frozenset(tree.tips())
    depth = max_depth(tree)

    def place(node: Tree, left: float) -> float:
        """Draw what is at and below a node whose branch starts at `left`; returns its height."""
        right = left + node.length
        if node.is_tip:
            height = float(picture.row(node.name))
            colour = picture.colours[node.name]
            axes.plot([left, right], [height, height], color=INK, lw=1.2)
            axes.plot([right, depth * 1.05], [height, height], color=FAINT, lw=0.5, ls=":")
            axes.plot(right, height, "o", color=colour, ms=6, zorder=3)
            return height
        heights = [place(child, right) for child in node.children]
        height = (min(heights) + max(heights)) / 2
        axes.plot([right, right], [min(heights), max(heights)], color=INK, lw=1.2)
        clade = frozenset(node.tips())
        if clade == everyone:
            axes.plot([right - depth * 0.04, right], [height, height], color=FAINT, lw=1.2)
            return height
        is_true = clade in true_splits
        axes.plot([left, right], [height, height], color=INK if is_true else WRONG, lw=1.2)
        if not is_true:
            axes.plot(right, height, "x", color=WRONG, ms=6, mew=1.5, zorder=3)
        if node.support is not None and node.support >= LEAST_SUPPORT_SHOWN:
            axes.annotate(
                f"{node.support:.0f}",
                (right, height),
                xytext=(-4, 2.5),
                textcoords="offset points",
                ha="right",
                fontsize=7.5,
                color=INK if is_true else WRONG,
                path_effects=[Stroke(linewidth=2.5, foreground="white"), Normal()],
                zorder=4,
            )
        return height

    place(Tree("", 0.0, None, tree.children), 0.0)
    bar = max(1, round(depth / 5 / 5) * 5)
    bottom = len(picture.rows) + 0.1
    axes.plot([0, bar], [bottom, bottom], color=INK, lw=2, clip_on=False)
    axes.text(bar / 2, bottom + 0.25, f"{bar} SNPs", ha="center", va="top", fontsize=9)
    axes.set_xlim(-depth * 0.06, depth * 1.05)
    axes.set_title("Inferred tree, with bootstrap support in %", fontsize=11, loc="left")
    axes.axis("off")


def max_depth(tree: Tree) -> float:
    return max((child.length + max_depth(child) for child in tree.children), default=0.0)


def draw_transmissions(axes: Axes, picture: Picture) -> None:
    """Who infected whom: a line from infection to sample, an arrow for each infection."""
    for isolate, case in picture.cases.items():
        row, colour = picture.row(isolate), picture.colours[isolate]
        day, sampled = float(case["day_infected"]), float(case["day_sampled"])
        heirs = [
            float(other["day_infected"])
            for other in picture.cases.values()
            if other["infected_by"] == isolate
        ]
        if heirs and max(heirs) > sampled:
            axes.plot([sampled, max(heirs)], [row, row], color=colour, lw=1.2, ls=(0, (2, 1.5)))
        axes.plot([day, sampled], [row, row], color=colour, lw=3, solid_capstyle="butt")
        axes.plot(sampled, row, "o", color=colour, ms=6, zorder=3)
        if case["infected_by"]:
            source = picture.row(case["infected_by"])
            crosses = picture.cases[case["infected_by"]]["hall"] != case["hall"]
            axes.annotate(
                "",
                (day, row),
                (day, source),
                arrowprops={
                    "arrowstyle": "-|>,head_length=0.35,head_width=0.16",
                    "color": INK if crosses else colour,
                    "lw": 1.6 if crosses else 0.9,
                    "shrinkA": 0,
                    "shrinkB": 1,
                },
                zorder=4 if crosses else 2,
            )
    axes.set_xlabel(
        "day of the outbreak  (line: infected · dot: sampled · dashed: passed on after its sample)",
        fontsize=9,
    )
    axes.tick_params(axis="x", labelsize=8)
    axes.tick_params(axis="y", length=0, pad=20)
    axes.set_yticks(range(len(picture.rows)))
    labels = axes.set_yticklabels(picture.rows, fontsize=9, fontweight="bold", ha="center")
    for label in labels:
        label.set_color(picture.colours[label.get_text()])
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    for row in range(len(picture.rows)):
        axes.axhline(row, color="#EEEEEE", lw=0.6, zorder=0)
    axes.set_title("What happened: transmissions as simulated", fontsize=11, loc="left")


def draw_distances(axes: Axes, picture: Picture, distances: Mapping[tuple[str, str], int]) -> None:
    """SNPs between each two isolates, in the tree's order on both sides."""
    rows = picture.rows
    matrix = [[distances[one, other] for other in rows] for one in rows]
    highest = max(map(max, matrix))
    axes.imshow(matrix, cmap="YlGnBu", vmin=0, vmax=highest, aspect="auto")
    for i, values in enumerate(matrix):
        for j, value in enumerate(values):
            colour = "white" if value > highest * 0.55 else INK
            axes.text(j, i, str(value), ha="center", va="center", fontsize=6.5, color=colour)
    axes.set_yticks([])
    axes.set_xticks(range(len(rows)))
    for label in axes.set_xticklabels(rows, fontsize=8, fontweight="bold", rotation=90):
        label.set_color(picture.colours[label.get_text()])
    axes.tick_params(axis="x", length=0)
    for index, isolate in enumerate(rows):
        axes.plot(
            [-0.95, -0.95], [index - 0.5, index + 0.5], color=picture.colours[isolate], lw=6,
            solid_capstyle="butt", clip_on=False,
        )  # fmt: skip
    axes.set_xlim(-0.5, len(rows) - 0.5)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title("SNP distances as called", fontsize=11, loc="left")


def draw(
    picture: Picture,
    tree: Tree,
    true_splits: frozenset[Any],
    distances: Mapping[tuple[str, str], int],
    result: Mapping[str, Any],
) -> Figure:
    """The three panels side by side, their rows aligned."""
    count = len(picture.rows)
    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(18, 2.6 + 0.285 * count), width_ratios=[1.15, 1.1, 1.15]
    )
    draw_tree(left, tree, picture, true_splits)
    draw_transmissions(middle, picture)
    draw_distances(right, picture, distances)
    for axes in (left, middle, right):
        axes.set_ylim(count - 0.5, -0.5)
    trees, snps, depths = result["tree"], result["snps"], result["mean_depth"].values()
    figure.suptitle(
        f"A phage outbreak among {count} fermenters", x=0.015, ha="left", fontsize=16,
        fontweight="bold", y=0.985,
    )  # fmt: skip
    figure.text(
        0.015,
        0.925,
        f"Mean depth {min(depths):.0f} to {max(depths):.0f}×  ·  "
        f"{snps['called_sites']} variable sites of {snps['true_sites']} found, "
        f"{snps['false']} false calls  ·  "
        f"{trees['shared_splits']} of the true tree's {trees['true_splits']} splits recovered, "
        f"Robinson-Foulds distance {trees['robinson_foulds']} of at most "
        f"{trees['robinson_foulds_max']}",
        ha="left",
        va="center",
        fontsize=11,
        color="#444444",
    )
    halls = dict.fromkeys(case["hall"] for case in picture.cases.values())
    colours = {case["hall"]: picture.colours[name] for name, case in picture.cases.items()}
    handles = [
        *(Patch(color=colours[hall], label=f"hall {hall}") for hall in sorted(halls)),
        Line2D([], [], color=INK, marker=">", lw=1.6, label="spread to another hall"),
        Line2D([], [], color=WRONG, marker="x", lw=1.2, label="split not in the true tree"),
    ]
    figure.legend(
        handles=handles, loc="upper right", ncols=len(handles), frameon=False, fontsize=10,
        bbox_to_anchor=(0.99, 0.99),
    )  # fmt: skip
    figure.subplots_adjust(left=0.015, right=0.99, top=0.86, bottom=0.075, wspace=0.1)
    return figure


def main(job: Any) -> None:
    """Read what the pipeline made, judge it, draw it, and lay the results out."""
    outgroup = job.params.outgroup
    with Path(job.input.cases).open() as table:
        cases = {row["case"]: row for row in csv.DictReader(table, delimiter="\t")}
    ancestor = read_fasta(Path(job.input.reference))
    genomes = {Path(path).stem: read_fasta(Path(path)) for path in job.input.genomes}
    true_tree = parse_newick(Path(job.input.true_tree).read_text())
    inferred = scale(parse_newick(Path(job.input.tree).read_text()), len(ancestor))
    inferred = collapse(inferred, shorter_than=0.5)  # less than half a SNP is none
    distances = snp_distances(read_alignment(Path(job.input.alignment)))
    result = accuracy(
        true_tree,
        inferred,
        true_snps(ancestor, genomes),
        called_snps(Path(job.input.vcf)),
    )
    result["mean_depth"] = {
        Path(path).name.partition(".")[0]: mean_depth(Path(path)) for path in job.input.depths
    }

    rooted = ladderize(root_at(inferred, outgroup))
    halls = sorted({case["hall"] for case in cases.values()})
    colours = {
        name: PALETTE[halls.index(case["hall"]) % len(PALETTE)] for name, case in cases.items()
    }
    picture = Picture(rooted.tips(), colours, cases)
    true_clades = frozenset(
        frozenset(node.tips()) for node in root_at(true_tree, outgroup).nodes() if not node.is_tip
    )
    draw(picture, rooted, true_clades, distances, result).savefig(job.output.figure, dpi=130)

    Path(job.output.accuracy).write_text(json.dumps(result, indent=2) + "\n")
    names = [*rooted.tips(), outgroup]
    lines = ["\t".join(["", *names])]
    lines += ["\t".join([one, *(str(distances[one, two]) for two in names)]) for one in names]
    Path(job.output.distances).write_text("\n".join(lines) + "\n")
    for name in ("vcf", "alignment", "tree", "ranks"):
        shutil.copyfile(job.input[name], job.output[name])


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (Snakemake's `script:` provides it)
