"""`takeda handoff init`: a workflow's signature as a rule, or one message for what is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from snakemake_executor_takeda.cli import main

DATA = Path(__file__).parent / "data"
SOURCE = """version 1.0
struct Sample { String id  File bam }
workflow call_variants {
  meta { description: "Calls   variants." }
  parameter_meta { ploidy: "copies of each chromosome" }
  input {
    File reference
    Array[File]+ bams
    File? mask
    Pair[File, File] reads
    Sample sample
    Int ploidy
    String mode = "fast"
    Array[String] regions = ["a", "b"]
    String prefix = "~{mode}-x"
    Int count
  }
  call t
  output {
    File vcf = reference
    Array[File] parts = bams
    File? log = mask
    Int number = 1
    Map[String, Int] counts = {}
    Pair[File, File] ends = reads
    Sample same = sample
  }
}
task t { input { Int threads = 1 } command { } }
"""

EXPECTED = """# Calls variants.
rule call_variants:
    input:
        "path/to/sample.bam",  # in `sample`
        reference="path/to/reference",  # File
        bams=["path/to/bams1"],  # Array[File]+
        # mask="path/to/mask",  # File?
        reads=["path/to/reads1", "path/to/reads2"],  # Pair[File,File]
    output:
        vcf="results/call_variants/vcf",  # File
        parts=directory("results/call_variants/parts"),  # Array[File]; or list as many files as it makes, in order
        log=directory("results/call_variants/log"),  # File?; has the file, or none
        number="results/call_variants/number.txt",  # Int
        counts="results/call_variants/counts.json",  # Map[String,Int]
        ends=["results/call_variants/ends/left", "results/call_variants/ends/right"],  # Pair[File,File]
        same=directory("results/call_variants/same"),  # Sample
    params:
        sample={'id': ..., 'bam': 'path/to/sample.bam'},  # Sample; its files by the paths under input:
        ploidy=...,  # Int: copies of each chromosome
        # mode='fast',  # String = "fast"
        # regions=['a', 'b'],  # Array[String] = ["a", "b"]
        # prefix=...,  # String = "~{mode}-x"
        count_=...,  # Int
    # Inputs of its calls may be set as params, too: t__threads (Int)
    resources:
        handoff=f"{workflow.basedir}/call.wdl",
    threads: 2
    shell:
        "takeda handoff run-local {resources.handoff:q} --cores {threads} "
        "--input reference={input.reference:q} "
        "--input bams={input.bams:q} "
        # "--input mask={input.mask:q} "
        "--input reads={input.reads:q} "
        "--param sample={params.sample:q} "
        "--param ploidy={params.ploidy:q} "
        # "--param mode={params.mode:q} "
        # "--param regions={params.regions:q} "
        # "--param prefix={params.prefix:q} "
        "--param count_={params.count_:q} "
        "--output vcf={output.vcf:q} "
        "--output-dir parts={output.parts:q} "
        "--output-dir log={output.log:q} "
        "--output number={output.number:q} "
        "--output counts={output.counts:q} "
        "--output ends={output.ends:q} "
        "--output-dir same={output.same:q} "
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "call.wdl").write_text(SOURCE)
    return tmp_path


def init(*arguments: str) -> int:
    return main(["handoff", "init", *arguments])


def test_a_rule_from_the_signature(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init("call.wdl") == 0
    assert capsys.readouterr() == (EXPECTED, "")


def test_values_of_a_json_file_are_filled_in(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {
        "call_variants.reference": "s3://genomes/ref.fa",
        "call_variants.bams": ["a.bam"],
        "call_variants.reads": {"left": "1.fq", "right": "2.fq"},
        "call_variants.sample": {"id": "s", "bam": "s.bam"},
        "call_variants.prefix": "{wild}",
        "call_variants.t.threads": 4,
        "call_variants.mode": None,
        "##": "a comment",
    }
    (here / "inputs.json").write_text(json.dumps(values))
    assert init("call.wdl", "--inputs", "inputs.json", "--rule", "mine", "--threads", "8") == 0
    lines = [line.strip().split("  #")[0] for line in capsys.readouterr().out.splitlines()]
    wanted = [
        "rule mine:",
        'reference=storage.s3("s3://genomes/ref.fa"),',
        'bams=["a.bam"],',
        'reads=["1.fq", "2.fq"],',
        "sample={'id': 's', 'bam': 's.bam'},",
        "# mode='fast',",
        "prefix=lambda wildcards: '{wild}',",
        "t__threads=4,",
        "threads: 8",
        '"--param t__threads={params.t__threads:q} "',
    ]
    assert [line for line in lines if line in wanted] == wanted
    assert lines.index('"s.bam",') < lines.index('reference=storage.s3("s3://genomes/ref.fa"),')


def test_the_signature_as_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init("call.wdl", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["name"], found["language"], found["version"]) == ("call_variants", "WDL", "1.0")
    assert {one["name"]: one["kind"] for one in found["inputs"]}["sample"] == "mixed"
    assert next(one for one in found["inputs"] if one["name"] == "mode")["default"] == '"fast"'
    assert found["nested"][0]["name"] == "t.threads"
    assert [one["required"] for one in found["outputs"]] == [True, True, False, *[True] * 4]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("tasks.wdl", "version 1.0\ntask t { command { } }\n", "holds no workflow, only tasks"),
        ("structs.wdl", "version 1.0\nstruct S { Int n }\n", "holds no workflow"),
        ("broken.wdl", "version 1.0\nworkflow {\n", "broken.wdl:2"),
        ("main.xyz", "", "is no workflow that can be handed off: name a .wdl"),
        ("old.wdl", "version 0.9\nworkflow w { }\n", "old.wdl: unknown WDL version 0.9"),
    ],
)
def test_what_is_no_workflow(
    here: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, words: str
) -> None:
    (here / name).write_text(text)
    assert init(name) == 1
    found = capsys.readouterr()
    assert found.out == ""
    assert words in found.err


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ('{"call_variants.ploidy": "x"}', "`ploidy` wants Int, not 'x'"),
        ('{"call_variants.ploydy": 1}', "Did you mean `ploidy`?"),
        ("[1]", "is no JSON object"),
        ("{", "is no JSON: line 1"),
    ],
)
def test_wrong_values(
    here: Path, capsys: pytest.CaptureFixture[str], values: str, words: str
) -> None:
    (here / "inputs.json").write_text(values)
    assert init("call.wdl", "--inputs", "inputs.json") == 1
    assert words in capsys.readouterr().err


def test_a_workflow_that_gives_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "none.wdl").write_text("version 1.0\nworkflow w { input { Int n } }\n")
    assert init("none.wdl") == 0
    assert "workflow w has no outputs, and so its rule makes nothing" in capsys.readouterr().err


def test_what_healthomics_does_not_run_is_said_beside_the_rule(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "new.wdl").write_text("version 1.2\nworkflow w { output { Int n = 1 } }\n")
    assert init("new.wdl") == 0
    found = capsys.readouterr()
    assert "rule w:" in found.out
    assert "is WDL 1.2; HealthOmics runs 1.0, 1.1, development" in found.err


STRUCTS = """version 1.0
struct Info { File? notes  Int lane }
struct Sample { String id  Array[File] bams  Info info  Map[String, Info] more }
workflow w {
  input { Array[Sample] samples  Info? other  Array[Info] infos = [] }
  output { Int n = 1 }
}
"""


def test_members_of_structs_are_there_to_fill_in(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "w.wdl").write_text(STRUCTS)
    assert init("w.wdl") == 0
    said = capsys.readouterr().out
    info = "{'notes': None, 'lane': ...}"
    assert (
        "        samples=[{'id': ..., 'bams': ['path/to/samples.bams'], "
        f"'info': {info}, 'more': {{'key': {info}}}}}],"
    ) in said
    assert f"        # other={info}," in said
    assert "        # infos=[]," in said
    assert '    input:\n        "path/to/samples.bams",  # in `samples`\n    output:' in said


DEFAULTS = {
    "w.wdl": 'version 1.0\nworkflow w {\n input { String fmt = "{sample}_x" }\n'
    " output { String made = fmt }\n}\n",
    "main.nf": "params.fmt = '{sample}_x'\nworkflow { }\n",
    "w.cwl": "cwlVersion: v1.2\nclass: CommandLineTool\nbaseCommand: [touch, made]\n"
    "inputs: {fmt: {type: string, default: '{sample}_x'}}\n"
    "outputs: {made: {type: File, outputBinding: {glob: made}}}\n",
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_default_with_braces_is_no_wildcard(
    here: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    if name.endswith("cwl"):
        pytest.importorskip("cwltool", reason="cwltool is not installed: pip install '.[cwl]'")
    (here / name).write_text(DEFAULTS[name])
    assert init(name, "--rule", "mine") == 0
    rule = capsys.readouterr().out
    assert "fmt=lambda wildcards: '{sample}_x'," in rule
    # It is taken as it stands, also where the comment becomes a param.
    (here / "Snakefile").write_text(rule.replace("# fmt=", "fmt=").replace("# params:", "params:"))
    assert main(["handoff", "check"]) == 0, capsys.readouterr()


def test_what_a_cwl_enum_may_be(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cwltool", reason="cwltool is not installed: pip install '.[cwl]'")
    (here / "e.cwl").write_text(
        "cwlVersion: v1.2\nclass: CommandLineTool\nbaseCommand: [touch, made]\ninputs:\n"
        "  mode: {type: {type: enum, symbols: [is, bwtsw]}}\n"
        "  other: {type: ['null', {type: enum, symbols: [is, bwtsw]}]}\n"
        "outputs: {made: {type: File, outputBinding: {glob: made}}}\n"
    )
    assert init("e.cwl") == 0
    said = capsys.readouterr().out
    assert "mode=...,  # is|bwtsw\n" in said
    assert "# other=...,  # is|bwtsw, optional\n" in said


def test_where_a_pipelines_files_belong_is_said(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "main.nf").write_text(DEFAULTS["main.nf"])
    assert init("main.nf", "--rule", "mine") == 0
    assert "# What is a file belongs under input:, by the same name" in capsys.readouterr().out
    assert init("call.wdl") == 0
    assert "# What is a file belongs" not in capsys.readouterr().out
