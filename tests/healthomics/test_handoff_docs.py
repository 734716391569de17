"""The examples of docs/handoff.md, run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from snakemake_executor_takeda.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "handoff.md"


def block(language: str, marker: str) -> str:
    found = [
        text
        for text in re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
        if marker in text
    ]
    assert len(found) == 1
    return str(found[0])


def test_the_example_runs_with_plain_snakemake(tmp_path: Path) -> None:
    (tmp_path / "call.wdl").write_text(block("wdl", "workflow call"))
    (tmp_path / "Snakefile").write_text(block("python", "rule call"))
    work = tmp_path / "elsewhere"
    (work / "aligned").mkdir(parents=True)
    for number, sample in enumerate("abc"):
        (work / "aligned" / f"{sample}.bam").write_text("x" * (number + 1))
    binaries = str(Path(sys.executable).parent)
    done = subprocess.run(
        [f"{binaries}/snakemake", "-c2", "--snakefile", "../Snakefile"],
        cwd=work,
        env={**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (work / "calls/all.vcf").read_text() == "##ploidy=1\n1\n2\n3\n"
    assert (work / "calls/c.depth").read_text() == "3\n"


def test_a_changed_workflow_is_seen_by_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "call.wdl").write_text(block("wdl", "workflow call"))
    # What the rule runs is not at issue; that a run of it can go without the workflow saves seconds.
    rule = block("python", "hashlib").partition("    shell:")[0] + "    shell: 'touch {output}'\n"
    (tmp_path / "Snakefile").write_text(rule)
    (tmp_path / "aligned").mkdir()
    (tmp_path / "aligned/a.bam").write_text("x")

    def said(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return done.stdout + done.stderr

    said("snakemake", "-c1")
    assert "Nothing to be done" in said("snakemake", "-c1", "-n")
    with (tmp_path / "call.wdl").open("a") as file:
        file.write("# changed\n")
    assert "Params have changed" in said("snakemake", "-c1", "-n")
    monkeypatch.chdir(tmp_path)
    assert main(["handoff", "check"]) == 0
