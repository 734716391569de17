"""`takeda handoff` with workflows from elsewhere, and with all languages in one Snakefile."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_takeda.backends import aws
from snakemake_executor_takeda.cli import main

WDL = """version 1.0
workflow count {
  input { File text  Int least = 1 }
  call lines { input: text = text }
  output { File made = lines.out }
}
task lines {
  input { File text }
  command <<< wc -l < ~{text} >>>
  output { File out = stdout() }
}
"""
CWL = """cwlVersion: v1.2
class: CommandLineTool
baseCommand: [wc, -l]
inputs:
  text: {type: File, inputBinding: {position: 1}}
  least: {type: int, default: 1}
stdout: made.txt
outputs: {made: stdout}
"""
NEXTFLOW = """params.text = null
params.least = 1
process LINES {
    publishDir params.outdir
    input: path text
    output: path 'made.txt'
    script: 'wc -l < $text > made.txt'
}
workflow { LINES(Channel.fromPath(params.text)) }
"""


@pytest.fixture
def repository(tmp_path: Path) -> str:
    """The address of a repository with a tag, without what comes after #."""
    place = tmp_path / "repository"
    (place / "flows").mkdir(parents=True)
    (place / "flows/count.wdl").write_text(WDL)

    def git(*words: str) -> None:
        own = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", *own, *words], cwd=place, check=True, capture_output=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "a")
    git("tag", "v1")
    (tmp_path / "work").mkdir()
    return f"git+file://{place}@v1"


def test_init_and_run_local_take_what_a_rule_names(
    repository: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path / "work")
    named = f"{repository}#flows/count.wdl"
    assert main(["handoff", "init", named]) == 0
    rule = capsys.readouterr().out
    assert f"handoff={json.dumps(named)}," in rule
    assert "takeda handoff run-local {resources.handoff:q}" in rule
    Path("text").write_text("1\n2\n")
    assert (
        main(["handoff", "run-local", named, "--input", "text", "text", "--output", "made", "o"])
        == 0
    )
    assert Path("o").read_text().strip() == "2"


def test_a_file_that_a_repository_lacks_is_told(
    repository: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path / "work")
    assert main(["handoff", "init", f"{repository}#flows/other.wdl"]) != 0
    assert "at v1 has no file flows/other.wdl" in capsys.readouterr().err


class Asked:
    """HealthOmics, as far as `get_workflow` goes."""

    class exceptions:
        class ResourceNotFoundException(Exception):
            pass

    def get_workflow(self, **given: Any) -> dict[str, Any]:
        if given != {"id": "9500764", "type": "READY2RUN"}:
            raise self.exceptions.ResourceNotFoundException
        template = {"fastq_1": {"description": "reads"}, "note": {"optional": True}}
        return {"name": "Align a-b", "parameterTemplate": template}


def test_init_asks_for_a_ready2run_workflow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(aws, "client", lambda *_, **__: Asked())
    assert main(["handoff", "init", "ready2run:9500764"]) == 0
    rule = capsys.readouterr().out
    assert rule.startswith("rule Align_a_b:")
    assert "fastq_1=...,  # reads" in rule
    assert 'handoff="ready2run:9500764",' in rule
    assert main(["handoff", "init", "ready2run:7"]) != 0
    assert "this region has no Ready2Run workflow 7" in capsys.readouterr().err


def test_a_ready2run_workflow_does_not_run_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["handoff", "run-local", "ready2run:9500764", "--output", "a", "b"]) != 0
    assert "runs on HealthOmics only" in capsys.readouterr().err


def test_a_snakefile_with_all_languages_is_checked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cwltool", reason="cwltool is not installed: pip install '.[cwl]'")
    (tmp_path / "a.wdl").write_text(WDL)
    (tmp_path / "b.cwl").write_text(CWL)
    (tmp_path / "c.nf").write_text(NEXTFLOW)
    (tmp_path / "Snakefile").write_text(
        "\n".join(
            f'rule {name}:\n    input: text="in.txt"\n    output: made="{name}/made.txt"\n'
            f'    params: leest=1, least="many"\n    resources: handoff="{file}"\n    shell: "true"\n'
            for name, file in (("one", "a.wdl"), ("two", "b.cwl"), ("three", "c.nf"))
        )
    )
    monkeypatch.chdir(tmp_path)
    assert main(["handoff", "check", "--json"]) == 1
    found = {one["rule"]: one for one in json.loads(capsys.readouterr().out)["handoffs"]}
    assert [(one["handoff"], one["line"]) for one in found.values()] == [
        ("a.wdl", 1),
        ("b.cwl", 8),
        ("c.nf", 15),
    ]
    for one in found.values():
        said = {mistake["name"]: mistake["message"] for mistake in one["mistakes"]}
        assert "`least`" in said["leest"], said
    for rule, wanted in (("one", "Int"), ("two", "int")):
        (mistake,) = (one for one in found[rule]["mistakes"] if one["name"] == "least")
        assert mistake["expected"] == wanted
        assert f"wants {wanted}, not 'many'" in mistake["message"]
