"""Phylogenetic trees: read and write Newick, root, collapse, and compare by Robinson-Foulds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

Split = frozenset[str]


@dataclass(frozen=True)
class Tree:
    """A node with what hangs below it. `length` belongs to the branch that leads to the node."""

    name: str = ""
    length: float = 0.0
    support: float | None = None
    """Bootstrap support of the branch above, in the unit of the file it was read from."""
    children: tuple[Tree, ...] = ()

    @property
    def is_tip(self) -> bool:
        return not self.children

    def nodes(self) -> Iterator[Tree]:
        """This node and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.nodes()

    def tips(self) -> tuple[str, ...]:
        return tuple(node.name for node in self.nodes() if node.is_tip)


_TOKEN = re.compile(r"[(),;]|[^(),;\s]+")


def parse_newick(text: str) -> Tree:
    """Read one tree; labels of inner nodes are taken as branch support. Raises ValueError."""
    tokens = _TOKEN.findall(text)
    position = 0

    def peek() -> str:
        if position >= len(tokens):
            raise ValueError("Newick text ends in the middle of a tree")
        return tokens[position]

    def subtree() -> Tree:
        nonlocal position
        children: list[Tree] = []
        if peek() == "(":
            while peek() in "(,":
                position += 1
                children.append(subtree())
            if peek() != ")":
                raise ValueError(f"Newick text has {peek()!r} where ')' was expected")
            position += 1
        label, length = "", 0.0
        if peek() not in "(),;":
            label, _, digits = peek().partition(":")
            length = float(digits) if digits else 0.0
            position += 1
        if children:
            return Tree("", length, float(label) if label else None, tuple(children))
        return Tree(label, length)

    tree = subtree()
    if peek() != ";":
        raise ValueError(f"Newick text has {peek()!r} where ';' was expected")
    return tree


def write_newick(tree: Tree) -> str:
    """Newick with branch lengths in the shortest exact form."""

    def text(node: Tree, is_root: bool = False) -> str:
        inner = (
            "(" + ",".join(text(child) for child in node.children) + ")" if node.children else ""
        )
        support = f"{node.support:g}" if node.support is not None else ""
        return inner + node.name + support + ("" if is_root else f":{node.length:.10g}")

    return text(tree, is_root=True) + ";\n"


def collapse(tree: Tree, shorter_than: float) -> Tree:
    """Turn inner branches below a length into polytomies: no data speaks for such a branch."""
    children: list[Tree] = []
    for child in tree.children:
        kept = collapse(child, shorter_than)
        if not kept.is_tip and kept.length < shorter_than:
            children.extend(
                replace(below, length=below.length + kept.length) for below in kept.children
            )
        else:
            children.append(kept)
    return replace(tree, children=tuple(children))


def scale(tree: Tree, factor: float) -> Tree:
    """Multiply every branch length, for instance to turn substitutions per site into SNPs."""
    return replace(
        tree,
        length=tree.length * factor,
        children=tuple(scale(child, factor) for child in tree.children),
    )


def root_at(tree: Tree, outgroup: str) -> Tree:
    """The rest of the tree, rooted where the outgroup's branch joins it.

    The outgroup itself is left out; the returned root's `length` is its branch. Support stays
    with its branch, which after rerooting may lead to the node at the branch's other end.
    """

    def path_to(node: Tree) -> list[Tree] | None:
        if node.is_tip:
            return [node] if node.name == outgroup else None
        for child in node.children:
            below = path_to(child)
            if below is not None:
                return [node, *below]
        return None

    path = path_to(tree)
    if path is None:
        raise ValueError(f"the tree has no tip named {outgroup!r}")
    above: Tree | None = None
    for node, following in pairwise(path):
        siblings = tuple(child for child in node.children if child is not following)
        members = siblings if above is None else (*siblings, above)
        if len(members) == 1:
            only = members[0]
            support = only.support if only.support is not None else following.support
            above = replace(only, length=only.length + following.length, support=support)
        else:
            above = Tree("", following.length, following.support, members)
    if above is None:
        raise ValueError("the tree has a single tip")
    return above


def ladderize(tree: Tree) -> Tree:
    """Order children by size, then by name, so that equal trees are drawn alike."""
    children = sorted(
        (ladderize(child) for child in tree.children),
        key=lambda child: (len(child.tips()), min(child.tips())),
    )
    return replace(tree, children=tuple(children))


def splits(tree: Tree) -> frozenset[Split]:
    """Bipartitions of the tips by inner branches, each as the side without the first tip's name."""
    tips = frozenset(tree.tips())
    anchor = min(tips)
    found = set()
    for node in tree.nodes():
        side = frozenset(node.tips())
        if anchor in side:
            side = tips - side
        if 2 <= len(side) <= len(tips) - 2:
            found.add(side)
    return frozenset(found)


def robinson_foulds(one: Tree, other: Tree) -> tuple[int, int]:
    """Number of splits in only one of two trees, and the most there could be. Raises ValueError."""
    if sorted(one.tips()) != sorted(other.tips()):
        raise ValueError("trees of different tips cannot be compared")
    mine, theirs = splits(one), splits(other)
    return len(mine ^ theirs), len(mine) + len(theirs)
