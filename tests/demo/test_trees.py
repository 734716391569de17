"""Newick, rooting, collapsing and the Robinson-Foulds distance."""

from __future__ import annotations

import itertools

import pytest
from trees import Tree, collapse, ladderize, parse_newick, robinson_foulds, root_at, splits
from trees import write_newick as write

UNROOTED = "((A:1,B:2)90:3,(C:4,D:5)80:6,O:7);"


def distances(tree: Tree) -> dict[frozenset[str], float]:
    """Path length between each two tips."""
    depths: dict[str, dict[int, float]] = {}

    def walk(node: Tree, above: dict[int, float]) -> None:
        here = {key: length + node.length for key, length in above.items()} | {id(node): 0.0}
        if node.is_tip:
            depths[node.name] = here
        for child in node.children:
            walk(child, here)

    walk(tree, {})
    return {
        frozenset((a, b)): min(depths[a][k] + depths[b][k] for k in depths[a].keys() & depths[b])
        for a, b in itertools.combinations(depths, 2)
    }


@pytest.mark.parametrize("text", [UNROOTED, "(A:0.5,(B:1e-06,C:2):3);", "(A:1,B:1);"])
def test_newick_survives_a_round_trip(text: str) -> None:
    assert write(parse_newick(text)) == text + "\n"


@pytest.mark.parametrize("text", ["", "(A:1,B:2)", "((A:1,B:2);", "(A:1,B:x);", "(A,B)C:1,D;"])
def test_broken_newick_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_newick(text)


@pytest.mark.parametrize("text", [UNROOTED, "((O:1,(A:1,B:2)90:3):4,(C:4,D:5)80:6);"])
@pytest.mark.parametrize("outgroup", ["A", "C", "O"])
def test_rooting_leaves_every_distance_as_it_was(text: str, outgroup: str) -> None:
    tree = parse_newick(text)
    rooted = root_at(tree, outgroup)
    assert sorted(rooted.tips()) == sorted(set(tree.tips()) - {outgroup})
    expected = {pair: d for pair, d in distances(tree).items() if outgroup not in pair}
    assert distances(rooted) == expected
    whole = Tree("", 0.0, None, (rooted, Tree(outgroup)))
    assert distances(whole) == distances(tree)


def test_support_stays_with_its_branch_when_the_root_moves() -> None:
    supports = {
        frozenset(node.tips()): node.support
        for node in root_at(parse_newick(UNROOTED), "A").nodes()
    }
    assert supports[frozenset("CDO")] == 90  # the branch between AB and the rest
    assert supports[frozenset("CD")] == 80


def test_rooting_at_an_unknown_tip_is_refused() -> None:
    with pytest.raises(ValueError, match="'X'"):
        root_at(parse_newick(UNROOTED), "X")


def test_short_inner_branches_collapse_and_their_length_is_kept() -> None:
    tree = collapse(parse_newick("((A:1,(B:1,C:0)99:0.25)98:2,D:0);"), shorter_than=0.5)
    assert write(tree) == "((A:1,B:1.25,C:0.25)98:2,D:0);\n"


def test_splits_do_not_depend_on_the_root() -> None:
    one = parse_newick("((A:1,B:1):1,(C:1,(D:1,E:1):1):1);")
    other = parse_newick("(D:1,E:1,(C:1,(B:1,A:1):1):1);")
    assert splits(one) == splits(other) == {frozenset("DE"), frozenset("CDE")}
    assert robinson_foulds(one, other) == (0, 4)


def test_robinson_foulds_counts_what_only_one_tree_has() -> None:
    one = parse_newick("((A:1,B:1):1,(C:1,(D:1,E:1):1):1);")
    assert robinson_foulds(one, parse_newick("((A:1,C:1):1,(B:1,(D:1,E:1):1):1);")) == (2, 4)
    assert robinson_foulds(one, parse_newick("(A:1,B:1,C:1,(D:1,E:1):1);")) == (1, 3)
    with pytest.raises(ValueError, match="different tips"):
        robinson_foulds(one, parse_newick("(A:1,B:1,C:1);"))


def test_ladderizing_draws_equal_trees_alike() -> None:
    one = parse_newick("((A:1,B:1):1,(C:1,(D:1,E:1):1):1);")
    other = parse_newick("(((E:1,D:1):1,C:1):1,(B:1,A:1):1);")
    assert write(ladderize(one)) == write(ladderize(other))
