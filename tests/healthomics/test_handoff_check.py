"""`takeda handoff check`: all mistakes of a Snakefile's hand-offs, with nothing run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from snakemake_executor_takeda.cli import main

WDL = """version 1.0
workflow joint {
  input {
    Array[File]+ bams
    Int ploidy
    Float? rate
    File? mask
  }
  output {
    File vcf = bams[0]
    Int number = ploidy
  }
}
"""

SNAKEFILE = """
rule all:
    input: "calls/a.vcf", "calls/b.vcf"

rule map:
    output: "bams/{sample}.bam"
    shell: "touch {output}"

rule call:
    input:
        bams=["bams/{sample}.bam"],
        NAMED
    output:
        OUTPUT
    params:
        PARAMS
    resources: handoff=config.get("wdl", "call.wdl")
    shell: "exit 1"
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "call.wdl").write_text(WDL)
    return tmp_path


def write(
    here: Path,
    named: str = "",
    output: str = 'vcf="calls/{sample}.vcf"',
    params: str = "ploidy=2",
    more: str = "",
) -> None:
    text = SNAKEFILE.replace("NAMED", named).replace("OUTPUT", output).replace("PARAMS", params)
    (here / "Snakefile").write_text(text + more)


def check(*arguments: str) -> int:
    return main(["handoff", "check", *arguments])


def test_a_good_one(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here)
    assert check() == 0
    assert capsys.readouterr() == ("1 hand-off(s), 2 job(s): no mistakes\n", "")
    assert not (here / "calls").exists()
    # What is there already is checked, too.
    for name in ("bams/a.bam", "bams/b.bam", "calls/a.vcf", "calls/b.vcf"):
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_text("")
    assert check("Snakefile", "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)["handoffs"]
    assert (found["rule"], found["jobs"], found["mistakes"]) == ("call", 2, [])


def test_every_mistake_has_a_line_of_its_own(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(
        here,
        named='masc="m.bed",',
        output='vcf="calls/{sample}.vcf", numbr="calls/{sample}.txt"',
        params='ploidy="two", rate=lambda w: "x" if w.sample == "a" else 1',
    )
    assert check() == 1
    found = capsys.readouterr()
    place = "Snakefile:9: rule call: "
    assert found.out.splitlines() == [
        f"{place}workflow joint has no input for the input `masc`. Did you mean `mask`?",
        f"{place}param `ploidy` wants Int, not 'two'",
        f"{place}param `rate` wants Float?, not 'x' (in 1 of 2 jobs)",
        f"{place}workflow joint has no output `numbr`. Did you mean `number`?",
        "1 hand-off(s), 2 job(s): 4 mistake(s)",
    ]
    assert found.err == "takeda: inputs are missing here; only names and types were checked\n"
    assert check("--json") == 1
    (facts,) = json.loads(capsys.readouterr().out)["handoffs"]
    assert (Path(facts["file"]).name, facts["line"]) == ("Snakefile", 9)
    assert {(one["name"], one["expected"], one["jobs"]) for one in facts["mistakes"]} == {
        *(("masc", "", 2), ("ploidy", "Int", 2), ("rate", "Float?", 1), ("numbr", "", 2)),
    }


def test_input_json_beside_the_snakefile(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "more.json").write_text(
        '{"joint.ploidy": 4, "joint.mask": "a.bam", "joint.bams": ["s3://b/never"]}'
    )
    write(here, params='input_json="more.json"')
    assert check() == 1
    said = capsys.readouterr().out
    assert "input_json entry `mask` wants File?, not 'a.bam': a.bam is no input of" in said
    (here / "more.json").write_text('{"joint.ploidy": 4, "joint.mask": "s3://b/m"}')
    assert check() == 0
    write(here, params='input_json={"ploidy": 1.5}')
    assert check() == 1
    write(here, params='input_json="absent.json"')
    capsys.readouterr()
    assert check() == 1
    assert "input_json='absent.json' does not exist; looked for" in capsys.readouterr().out


def test_a_param_that_reads_a_file_to_come(here: Path) -> None:
    write(here, params="ploidy=lambda w, input: int(open(input.bams[0]).read())")
    assert check() == 0


def test_a_rule_that_no_target_needs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(
        here,
        more="\nrule other:\n    output: vcf='o.vcf'\n    resources: handoff='call.wdl'\n"
        "\nrule wild:\n    output: vcf='w/{x}.vcf'\n    resources: handoff='call.wdl'\n",
    )
    assert check() == 1
    found = capsys.readouterr()
    assert "rule other: workflow joint needs `bams` (Array[File]+), `ploidy` (Int)" in found.out
    assert "rule wild makes nothing of these targets and was not checked" in found.err
    assert f"takeda handoff check {here}/Snakefile -- FILE" in found.err
    assert check("Snakefile", "--", "w/1.vcf") == 1
    assert "rule wild: workflow joint needs" in capsys.readouterr().out


def test_config_and_working_directory(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here)
    (here / "other").mkdir()
    (here / "other" / "mine.wdl").write_text(WDL.replace("ploidy", "ploidies"))
    (here / "c.yaml").write_text("wdl: mine.wdl\n")
    flags = ("Snakefile", "--configfile", "c.yaml", "--directory", "other")
    assert check(*flags) == 1
    assert "Did you mean `ploidies`?" in capsys.readouterr().out
    assert check(*flags, "--config", "wdl=absent.wdl") == 1
    assert "handoff='absent.wdl' does not exist" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rule a:\n    output: 'x'\n    shel: 'y'\n", "Unexpected keyword shel"),
        ("rule a:\n    input: 'b'\n    output: config['x']\n", "Snakefile:3"),
        ("x = (\n", "EOF in multi-line statement"),
        ("raise ValueError('too bad')\n", "Snakefile:1: ValueError: too bad"),
    ],
)
def test_what_snakemake_refuses_is_one_message(
    here: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    (here / "Snakefile").write_text(text)
    assert check() == 1
    said = capsys.readouterr().err
    assert words in said
    assert said.startswith("takeda: ")
    assert "Traceback" not in said


def test_wrong_use(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check() == 1
    assert "Snakefile" in capsys.readouterr().err
    write(here)
    assert check("Snakefile", "--", "--no-such-flag") == 1
    assert "--no-such-flag" in capsys.readouterr().err
    (here / "Snakefile").write_text("rule a:\n    output: 'x'\n    shell: 'y'\n")
    assert check() == 0
    assert capsys.readouterr().out == "no rule hands anything off: no mistakes\n"


@pytest.mark.parametrize(
    ("named", "output", "more", "words"),
    [
        (
            'mask=local("m.bed"),',
            'vcf=local("calls/{sample}.vcf")',
            "",
            "m.bed and 1 more is marked `local()`: put the file in S3, or leave `local()` out",
        ),
        (
            "",
            'vcf="calls/{sample}.vcf"',
            "localrules: call\n",
            "it is a local rule: leave it out of `localrules`",
        ),
    ],
)
def test_a_handoff_that_snakemake_keeps_on_this_machine(
    here: Path,
    capsys: pytest.CaptureFixture[str],
    named: str,
    output: str,
    more: str,
    words: str,
) -> None:
    write(here, named=named, output=output, more=more)
    assert check("Snakefile", "--", "calls/a.vcf") == 1
    said = capsys.readouterr().out
    assert "Snakefile:9: rule call: Snakemake runs it on this machine, and not its" in said
    assert words in said


def test_an_empty_handoff_is_told_as_one(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here)
    assert check("Snakefile", "--config", "wdl=") == 0
    found = capsys.readouterr()
    assert found.out == "no rule hands anything off: no mistakes\n"
    assert "Snakefile:9: rule call: its `handoff` is empty" in found.err
    assert "makes nothing" not in found.err


CWL = """cwlVersion: v1.2
class: CommandLineTool
baseCommand: [touch, x]
inputs: {ploidy: int, bams: 'File[]'}
outputs: {vcf: {type: File, outputBinding: {glob: x}}}
"""


@pytest.mark.parametrize(("name", "language"), [("call.wdl", "WDL"), ("call.cwl", "CWL")])
def test_a_profile_is_refused_where_there_are_none(
    here: Path, capsys: pytest.CaptureFixture[str], name: str, language: str
) -> None:
    if language == "CWL":
        pytest.importorskip("cwltool", reason="cwltool is not installed: pip install '.[cwl]'")
    (here / "call.cwl").write_text(CWL)
    write(here)
    flags = ("Snakefile", "--", "--config", f"wdl={name}")
    assert check(*flags) == 0
    assert check(*flags, "--default-resources", "nextflow_profile='docker'") == 1
    assert (
        "Snakefile:9: rule call: nextflow_profile='docker' is for Nextflow pipelines, and this "
        f"hand-off is {language}, which has no profiles; leave it out"
    ) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--profile", "nowhere"), "profile directory given (nowhere), but no"),
        (("--no-such-flag",), "unrecognized arguments: --no-such-flag"),
    ],
)
def test_flags_that_snakemake_does_not_take(
    here: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], words: str
) -> None:
    write(here)
    assert check("Snakefile", "--", *flags) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"takeda: Snakemake does not take these flags: {words}")
