"""What the pages name is there: tests by path and function, pages, settings and resources."""

import ast
import re
from pathlib import Path

import pytest

from snakemake_executor_takeda.backends.batch import migrating
from snakemake_executor_takeda.backends.batch.rule_words import RULE_RESOURCES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PEERS = {name: (DOCS / name).read_text() for name in ("peers.md", "peers_slurm.md")}
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py::\w+)`", "".join(PEERS.values()))))
LINKS = [
    (page.name, link)
    for page in sorted(DOCS.glob("*.md"))
    for link in re.findall(r"\]\(([^)\s:]+\.md)(?:#[^)]*)?\)", page.read_text())
]


@pytest.mark.parametrize("name", TESTS)
def test_a_test_that_peers_names_exists(name):
    path, function = name.split("::")
    tree = ast.parse((ROOT / path).read_text())
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_a_page_that_is_linked_exists(page, link):
    assert (DOCS / link).is_file()


@pytest.mark.parametrize("page", PEERS)
def test_every_row_of_peers_names_a_test_or_a_page(page):
    rows = [line for line in PEERS[page].splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith(("| complaint", "| in its code"))]
    assert len(rows) > 30
    for row in rows:
        _, complaint, answer, shown, _ = row.split("|")
        assert complaint.strip() and answer.strip(), row
        assert "`tests/" in shown or "](" in shown, row


def test_migrating_has_every_setting_and_resource():
    text = (DOCS / "migrating.md").read_text()
    names = {*map(migrating.variable, migrating.SETTINGS), migrating.JOB_TAGS, *RULE_RESOURCES}
    assert {name for name in names if f"`{name}`" not in text} == set()
