"""What is installed is what was locked, and `make audit` never says more than it knows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
SCRIPT = ROOT / "scripts/audit-dependencies"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_package_is_pinned_and_has_its_hashes(lock):
    text = re.sub(r"(?m)^\s*#.*\n?", "", lock.read_text()).replace("\\\n", " ")
    packages = [line for line in text.splitlines() if line.strip()]
    assert len(packages) > 10
    for package in packages:
        assert re.match(r"[\w.-]+(\[[\w,-]+\])?==\S+ .*--hash=sha256:[0-9a-f]{64}", package), (
            package
        )
    assert "://" not in text, "a lock names no registry"


def test_only_locked_files_are_installed():
    for name in ("Makefile", "scripts/make-venv"):
        text = (ROOT / name).read_text().replace("\\\n", " ")
        for line in text.splitlines():
            if "pip install" in line and "--requirement" in line:
                assert "--require-hashes" in line, line


def audited(tmp_path, body):
    tool = tmp_path / "pip-audit"
    tool.write_text(f"#!{sys.executable}\nimport sys\n{body}\n")
    tool.chmod(0o755)
    lock = tmp_path / "some.lock"
    lock.write_text("a==1\n")
    done = subprocess.run(
        [sys.executable, SCRIPT, tool, "pypi", lock], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def answering(dependencies, code=0):
    text = json.dumps({"dependencies": dependencies, "fixes": []})
    return f"open(sys.argv[sys.argv.index('--output') + 1], 'w').write({text!r})\nsys.exit({code})"


GOOD = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}
UNKNOWN = {"name": "c", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        (answering([GOOD]), 0, "1 packages, no known vulnerability"),
        (answering([GOOD, BAD], 1), 1, "b 1: PYSEC-1, mended in 2"),
        (answering([GOOD, UNKNOWN]), 2, "1 of 2 packages were not found in the database 'pypi'"),
        (answering([BAD, UNKNOWN], 1), 2, "PYSEC-1"),
        ("sys.exit('ConnectionError: no route')", 2, "not checked: the database 'pypi' cannot be"),
    ],
)
def test_what_an_audit_says(tmp_path, body, code, said):
    returned, out, err = audited(tmp_path, body)
    assert (returned, err) == (code, "")
    assert said in out
    assert ("no known vulnerability" in out) == (code == 0)
