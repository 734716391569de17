"""The threat page names tests and files that there are, and every threat has one or the other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text()
THREATS = PAGE.partition("## Threats")[2].partition("\n## ")[0]
ROWS = [row for row in THREATS.splitlines() if row.startswith("| ")][1:]


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(tests/[\w/]+\.py::\w+)`", PAGE))))
def test_a_test_that_is_named_exists(name):
    path, function = name.split("::")
    tree = ast.parse((ROOT / path).read_text())
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_threat_names_its_code_and_what_shows_it():
    assert len(ROWS) > 15
    for row in ROWS:
        _, threat, done, code, shown, _, _ = row.split("|")
        assert threat.strip() and done.strip(), row
        assert "`tests/" in shown or "](" in shown, row
        for name in re.findall(r"`([^`]+)`", code):
            places = (ROOT / name, ROOT / "snakemake_executor_takeda" / name)
            assert any(place.exists() for place in places), name


def test_the_example_is_one_that_works(policies, capsys, monkeypatch):
    words = re.search(r"\$ infrastructure/iam/(policies\.py .*)", PAGE)
    assert words
    monkeypatch.setattr("sys.argv", words[1].split())
    assert policies.main() == 0
    assert "${" not in capsys.readouterr().out
