"""docs/doctor.md: the example is what the command prints, and every check is in the table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from snakemake_executor_takeda.cli import build_parser, main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/doctor.md").read_text(encoding="utf-8")
CODE = "".join(
    path.read_text(encoding="utf-8")
    for path in (
        *sorted((ROOT / "snakemake_executor_takeda/doctor").glob("*.py")),
        ROOT / "snakemake_executor_takeda/cli/doctor.py",
    )
)


@pytest.mark.sandbox
def test_the_example(
    project: Any, sandbox_env: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    (policy,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (shown,) = re.findall(r"^```console\n\$ (.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    command, _, wanted = shown.partition("\n")
    (project.folder / "aws").mkdir()
    (project.folder / "aws/routing.yaml").write_text(policy)
    (project.folder / "aws/config.yaml").write_text(yaml.safe_dump(project.config))
    assert main(command.split()[1:]) == 1
    printed = capsys.readouterr().out
    before, after = wanted.split("…\n")
    assert printed.startswith(before)
    assert printed.endswith(after)


def test_every_check_is_in_the_table_and_no_other() -> None:
    named = set(re.findall(r"Checkup\(\s*\"([^\"]+)\"", CODE))
    for kind in ("job", "execution", "healthomics"):
        named |= {f"{kind} role", f"{kind} role's rights"}
    table = PAGE.partition("| check | what |")[2].partition("\n\n")[0]
    rows = [row.split("|")[1] for row in table.splitlines()[2:]]
    assert {name.strip() for cell in rows for name in cell.split(",")} == named


def test_every_option_is_in_the_page() -> None:
    table = PAGE.partition("| option |")[2].partition("\n\n")[0]
    documented = set(re.findall(r"^\| `(--[\w-]+)", table, re.MULTILINE))
    (commands,) = [a for a in build_parser()._actions if a.dest == "command"]
    doctor = commands.choices["doctor"]  # type: ignore[index, call-overload]
    assert documented == {word for a in doctor._actions for word in a.option_strings} - {
        *("-h", "--help")
    }


def test_the_rights_are_those_of_the_policies() -> None:
    actions = yaml.safe_load((ROOT / "infrastructure/iam/actions.yaml").read_text())
    wanted = {
        action
        for statement in actions["roles"]["controller"]["statements"]
        if statement["feature"] == "doctor"
        for action in statement["actions"]
    }
    section = PAGE.partition("## Rights\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(\w+:\w+)`", section)) == wanted
