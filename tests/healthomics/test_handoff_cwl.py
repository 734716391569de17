"""CWL documents: what is read of them, how rules are fitted to them, and what is registered."""

from __future__ import annotations

import builtins
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_takeda.backends.healthomics import cwl
from snakemake_executor_takeda.backends.healthomics.cwl_definition import CwlDefinition
from snakemake_executor_takeda.backends.healthomics.definition import Delivery
from snakemake_executor_takeda.backends.healthomics.files import LocalFiles, RuleFiles
from snakemake_executor_takeda.backends.healthomics.mistakes import Mistake
from snakemake_executor_takeda.cli import main
from snakemake_executor_takeda.values import UNKNOWN, File, NamedFiles, TakedaError

pytest.importorskip("cwltool", reason="cwltool is not installed: pip install '.[cwl]'")

TOOL = """cwlVersion: v1.2
class: CommandLineTool
baseCommand: 'true'
inputs:
INPUTS
outputs:
OUTPUTS
"""


def tool(
    tmp_path: Path, inputs: Mapping[str, str], outputs: Mapping[str, str] = {}
) -> CwlDefinition:
    """A tool whose inputs and outputs have these types, as YAML."""

    def section(named: Mapping[str, str]) -> str:
        return "\n".join(f"  {name}: {text}" for name, text in named.items()) or "  []"

    text = TOOL.replace("INPUTS", section(inputs)).replace("OUTPUTS", section(outputs))
    return definition(tmp_path, text)


def definition(
    tmp_path: Path, text: str, name: str = "align.cwl", fragment: str = ""
) -> CwlDefinition:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return CwlDefinition(cwl.load(path, fragment))


def files(name: str | None, *paths: str, directory: bool = False) -> NamedFiles:
    given = tuple(File(path, f"s3://b/{path}", directory) for path in paths)
    return NamedFiles(name, given, len(paths) != 1)


def fit(
    workflow: CwlDefinition,
    inputs: Sequence[NamedFiles] = (),
    params: Mapping[str, Any] = {},
    defaults: Mapping[str, Any] = {},
) -> tuple[dict[str, Any], list[Mistake]]:
    return workflow.parameters(
        inputs, params, files=RuleFiles(inputs), where="Snakefile:3", defaults=defaults
    )


def given(workflow: CwlDefinition, *inputs: NamedFiles, **params: Any) -> dict[str, Any]:
    found, mistakes = fit(workflow, inputs, params)
    assert mistakes == []
    return found


def refusal(workflow: CwlDefinition, *inputs: NamedFiles, **params: Any) -> str:
    _, mistakes = fit(workflow, inputs, params)
    assert len(mistakes) == 1, mistakes
    return str(mistakes[0])


def file(path: str, *beside: str, kind: str = "File") -> dict[str, Any]:
    found: dict[str, Any] = {"class": kind, "location": f"s3://b/{path}"}
    if beside:
        found["secondaryFiles"] = [file(one) for one in beside]
    return found


@pytest.mark.parametrize(
    ("written", "text", "kind", "required"),
    [
        ("File", "File", "file", True),
        ("File?", "File?", "file", False),
        ("'File[]'", "File[]", "files", True),
        ("'File[]?'", "File[]?", "files", False),
        ("Directory", "Directory", "directory", True),
        ("{type: ['null', int], default: 3}", "int?", "value", False),
        ("{type: int, default: 3}", "int", "value", False),
        (
            "{type: {type: enum, symbols: [a, b-c]}}",
            "a|b-c",
            "value",
            True,
        ),
        ("[int, string]", "[int, string]", "value", True),
        ("[File, 'File[]']", "[File, File[]]", "files", True),
        ("{type: {type: array, items: {type: array, items: File}}}", "File[][]", "mixed", True),
        (
            "{type: {type: record, fields: {id: string, bam: File?}}}",
            "{type: record, fields: {bam: File?, id: string}}",
            "mixed",
            True,
        ),
        ("{type: File, secondaryFiles: [.bai]}", "File", "files", True),
        ("Any", "Any", "value", True),
    ],
)
def test_types_are_written_as_cwl_does(
    tmp_path: Path, written: str, text: str, kind: str, required: bool
) -> None:
    (entry,) = tool(tmp_path, {"x": written}).signature().inputs
    assert (entry.type, entry.kind, entry.required) == (text, kind, required)


def test_a_signature_has_labels_defaults_and_the_files_order(tmp_path: Path) -> None:
    workflow = tool(
        tmp_path,
        {"z": "{type: int, doc: [two, lines]}", "a": "{type: string?, default: x, label: a word}"},
        {"late": "stdout", "early": "{type: File?, outputBinding: {glob: x}}"},
    )
    signature = workflow.signature()
    assert (signature.name, signature.language, signature.version) == ("align", "CWL", "v1.2")
    assert [(one.name, one.description, one.default) for one in signature.inputs] == [
        ("z", "two lines", None),
        ("a", "a word", '"x"'),
    ]
    assert [(one.name, one.required) for one in signature.outputs] == [
        ("late", True),
        ("early", False),
    ]


def test_a_file_gets_those_beside_it(tmp_path: Path) -> None:
    workflow = tool(tmp_path, {"ref": "{type: File, secondaryFiles: [.fai, ^.dict, .gzi?]}"})
    found = given(workflow, files("ref", "g/x.fa.fai", "g/x.fa", "g/x.dict"))
    assert found == {"ref": file("g/x.fa", "g/x.fa.fai", "g/x.dict")}
    with_optional = given(workflow, files("ref", "x.fa", "x.fa.fai", "x.dict", "x.fa.gzi"))
    assert [one["location"] for one in with_optional["ref"]["secondaryFiles"]][
        -1
    ] == "s3://b/x.fa.gzi"


def test_a_missing_file_beside_another_is_told(tmp_path: Path) -> None:
    workflow = tool(tmp_path, {"ref": "{type: File, secondaryFiles: [.fai, ^.dict]}"})
    assert refusal(workflow, files("ref", "x.fa", "x.fa.fai")) == (
        "Snakefile:3: input `ref` is File with secondaryFiles ^.dict: x.dict is missing; "
        "list it with x.fa"
    )
    said = refusal(workflow, files("ref", "x.fa", "x.fa.fai", "x.dict", "other"))
    assert "x.fa, other do not belong together" in said


def test_each_file_of_a_list_gets_its_own(tmp_path: Path) -> None:
    workflow = tool(tmp_path, {"bams": "{type: 'File[]', secondaryFiles: [.bai]}"})
    found = given(workflow, files("bams", "1/a.bam", "2/a.bam", "2/a.bam.bai", "1/a.bam.bai"))
    assert found == {"bams": [file("1/a.bam", "1/a.bam.bai"), file("2/a.bam", "2/a.bam.bai")]}
    assert "b.bam.bai is missing" in refusal(workflow, files("bams", "a.bam", "a.bam.bai", "b.bam"))


def test_files_in_values_are_inputs_of_the_rule(tmp_path: Path) -> None:
    record = "{type: {type: record, fields: [{name: bam, type: File, secondaryFiles: [.bai]}]}}"
    workflow = tool(tmp_path, {"sample": record})
    unnamed = files(None, "a.bam", "a.bam.bai")
    assert given(workflow, unnamed, sample={"bam": "a.bam"}) == {
        "sample": {"bam": file("a.bam", "a.bam.bai")}
    }
    said = refusal(
        workflow, files(None, "a.bam"), sample={"bam": {"class": "File", "path": "a.bam"}}
    )
    assert "; at .bam it wants File" in said
    assert "its secondaryFiles .bai: a.bam.bai is no input of the rule" in said


@pytest.mark.parametrize(
    ("written", "value", "expected"),
    [
        ("int", "8", 8),
        ("long", 5_000_000_000, 5_000_000_000),
        ("double", "0.5", 0.5),
        ("boolean", "true", True),
        ("string", 3, "3"),
        ("'int[]'", 3, [3]),
        ("'int[]'", "[1, 2]", [1, 2]),
        ("[int, string]", "8", 8),
        ("[int, string]", "eight", "eight"),
        ("[boolean, string]", True, True),
        ("['null', string, 'string[]']", ["a"], ["a"]),
        ("Any", {"a": [1]}, {"a": [1]}),
        ("Any", "['a', 1]", ["a", 1]),
        ("{type: {type: enum, symbols: [a, b-c]}}", "b-c", "b-c"),
        ("{type: {type: record, fields: {n: int, f: float?}}}", {"n": "1"}, {"n": 1}),
        ("{type: {type: array, items: {type: array, items: int}}}", [[1], []], [[1], []]),
        ("File", {"class": "File", "contents": "x"}, {"class": "File", "contents": "x"}),
        ("File", "s3://c/x", {"class": "File", "location": "s3://c/x"}),
        ("Directory", "s3://c/x", {"class": "Directory", "location": "s3://c/x/"}),
    ],
)
def test_values_become_what_their_types_say(
    tmp_path: Path, written: str, value: Any, expected: Any
) -> None:
    workflow = tool(tmp_path, {"x": written})
    assert given(workflow, x=value) == {"x": expected}
    assert fit(workflow, (), {"x": UNKNOWN})[0] == {"x": UNKNOWN}


@pytest.mark.parametrize(
    ("written", "value", "said"),
    [
        ("int", "two", "param `x` wants int, not 'two'"),
        ("int", 3_000_000_000, "int has 32 bits"),
        ("boolean", "1", "write true or false"),
        ("{type: {type: enum, symbols: [fast, slow]}}", "fest", "Did you mean `fast`?"),
        (
            "{type: {type: record, fields: {number: int}}}",
            {"numbre": 1},
            "has no field `numbre`. Did you mean `number`?",
        ),
        ("{type: {type: record, fields: {n: int}}}", {}, "it lacks `n` (int)"),
        ("'int[]'", [1, "b"], "at [1] it wants int, not 'b'"),
        ("[int, boolean]", "b", "wants [int, boolean], not 'b'"),
        ("File", {"class": "Directory", "path": "x"}, 'write {"class": "File", "location": …}'),
        ("File", "x.txt", "x.txt is no input of the rule"),
        ("File", ..., "is not filled in yet"),
    ],
)
def test_a_misfit_names_value_and_type(tmp_path: Path, written: str, value: Any, said: str) -> None:
    assert said in refusal(tool(tmp_path, {"x": written}), x=value)


def test_names_that_are_wrong_or_missing(tmp_path: Path) -> None:
    workflow = tool(tmp_path, {"min-length": "int", "text": "File"})
    assert given(workflow, files("text", "a"), min_length=3)["min-length"] == 3
    assert "has no input for the param `texts`. Did you mean `text`?" in refusal(
        workflow, files("text", "a"), min_length=3, texts=1
    )
    assert "needs `text` (File)" in refusal(workflow, min_length=3)
    assert "is one File, but 2 are given" in refusal(
        workflow, files("text", "a", "b"), min_length=3
    )
    assert "names files but the workflow wants int" in refusal(
        workflow, files("text", "a"), files("min_length", "b")
    )


def test_a_job_object_fills_what_the_rule_leaves_open(tmp_path: Path) -> None:
    workflow = tool(tmp_path, {"a": "int", "b": "File", "c": "'string[]'"})
    job = {"a": 1, "b": {"class": "File", "location": "s3://c/b"}, "c": ["x"], "cwl:tool": "x"}
    found, mistakes = fit(workflow, (), {"a": 2}, job)
    assert not mistakes
    assert found == {"a": 2, "b": {"class": "File", "location": "s3://c/b"}, "c": ["x"]}


def test_files_of_this_machine(tmp_path: Path) -> None:
    workflow = tool(tmp_path, {"bam": "{type: File, secondaryFiles: [.bai, .csi?]}"})
    (tmp_path / "a.bam").touch()
    (tmp_path / "a.bam.bai").touch()
    found, mistakes = workflow.parameters(
        (), {"bam": str(tmp_path / "a.bam")}, files=LocalFiles(), where="", defaults={}
    )
    assert not mistakes
    assert [one["location"] for one in found["bam"]["secondaryFiles"]] == [f"{tmp_path}/a.bam.bai"]


def produced(path: str, *beside: str, kind: str = "File") -> dict[str, Any]:
    found = {"class": kind, "location": f"s3://r/out/{path}", "basename": path, "size": 1}
    return {**found, "secondaryFiles": [produced(one) for one in beside]} if beside else found


def deliveries(
    workflow: CwlDefinition, outputs: Sequence[NamedFiles], found: Mapping[str, Any]
) -> tuple[Delivery, ...]:
    return workflow.match_outputs(outputs, found, "Snakefile:3", {})


def test_outputs_are_matched_by_name(tmp_path: Path) -> None:
    workflow = tool(
        tmp_path,
        {},
        {
            "the-bam": "{type: File, secondaryFiles: [.bai], outputBinding: {glob: x}}",
            "parts": "{type: 'File[]', outputBinding: {glob: x}}",
            "number": "{type: int, outputBinding: {outputEval: $(1)}}",
            "folder": "{type: Directory, outputBinding: {glob: x}}",
            "maybe": "{type: File?, outputBinding: {glob: x}}",
        },
    )
    found = {
        "the-bam": produced("x.bam", "x.bam.bai"),
        "parts": [produced("1"), produced("2")],
        "number": 3,
        "folder": produced("made", kind="Directory"),
        "maybe": None,
    }
    wanted = [
        files("the_bam", "y.bam", "y.bam.bai"),
        files("parts", "p1", "p2"),
        files("number", "n.txt"),
        files("folder", "d", directory=True),
        files("maybe", "m", directory=True),
    ]
    assert workflow.output_mistakes(wanted, "", {}) == []
    made = deliveries(workflow, wanted, found)
    assert [(one.source, one.target.path) for one in made[:4]] == [
        ("s3://r/out/x.bam", "y.bam"),
        ("s3://r/out/x.bam.bai", "y.bam.bai"),
        ("s3://r/out/1", "p1"),
        ("s3://r/out/2", "p2"),
    ]
    assert made[4].content == b"3\n"
    assert (made[5].source, made[5].is_directory) == ("s3://r/out/made", True)
    assert made[6].member == ".empty"
    (alone,) = deliveries(workflow, [files("the_bam", "y.bam")], found)
    assert (alone.source, alone.target.path) == ("s3://r/out/x.bam", "y.bam")
    gathered = deliveries(workflow, [files("the_bam", "d", directory=True)], found)
    assert [one.member for one in gathered] == ["x.bam", "x.bam.bai"]


def test_outputs_that_do_not_fit(tmp_path: Path) -> None:
    workflow = tool(
        tmp_path, {}, {"made": "stdout", "parts": "{type: 'File[]', outputBinding: {glob: x}}"}
    )

    def said(*wanted: NamedFiles) -> str:
        (mistake,) = workflow.output_mistakes(wanted, "Snakefile:3", {})
        return str(mistake)

    assert "has no output `mad`. Did you mean `made`?" in said(files("mad", "x"))
    assert "output `made` is one File, but the rule lists 2 files" in said(files("made", "x", "y"))
    assert "is no directory" in said(files("made", "x", directory=True))
    with pytest.raises(TakedaError, match=r"wants 3 file\(s\) of output `parts`, the run made 2"):
        deliveries(
            workflow, [files("parts", "a", "b", "c")], {"parts": [produced("1"), produced("2")]}
        )
    with pytest.raises(TakedaError, match="left output `made` empty"):
        deliveries(workflow, [files("made", "a")], {"made": None})


STEP = """cwlVersion: v1.2
class: Workflow
inputs: {text: File}
outputs: {made: {type: File, outputSource: step/made}}
steps:
  step:
    run: RUN
    in: {text: text}
    out: [made]
"""
PART = """cwlVersion: v1.2
class: CommandLineTool
baseCommand: [cat]
inputs:
  text: File
  script: {type: File, default: {class: File, location: scripts/do%20it.sh}}
requirements:
  InitialWorkDirRequirement: {listing: [{entryname: x, entry: {$include: included.txt}}]}
outputs: {made: stdout}
"""


def packed(workflow: CwlDefinition) -> dict[str, bytes]:
    archive = zipfile.ZipFile(io.BytesIO(workflow.package({}).definition_zip))
    return {name: archive.read(name) for name in archive.namelist()}


def project(path: Path) -> CwlDefinition:
    (path / "tools/scripts").mkdir(parents=True)
    (path / "tools/part.cwl").write_text(PART)
    (path / "tools/included.txt").write_text("included")
    (path / "tools/scripts/do it.sh").write_text("echo")
    (path / "tools/other.txt").write_text("not of it")
    return definition(path, STEP.replace("RUN", "../tools/part.cwl"), "flows/main.cwl")


def test_a_package_has_all_that_is_referred_to(tmp_path: Path) -> None:
    one, other = project(tmp_path / "one"), project(tmp_path / "two")
    package = one.package({})
    assert (package.engine, package.main, package.name) == ("CWL", "flows/main.cwl", "takeda-flows")
    assert package.parameter_template == {"text": {"description": "File", "optional": False}}
    assert sorted(packed(one)) == [
        "flows/main.cwl",
        "tools/included.txt",
        "tools/part.cwl",
        "tools/scripts/do it.sh",
    ]
    assert package == other.package({})
    (tmp_path / "two/tools/scripts/do it.sh").write_text("echo anew")
    changed = CwlDefinition(cwl.load(tmp_path / "two/flows/main.cwl")).package({})
    assert changed.version != package.version


def test_a_package_refuses_what_would_not_hold(tmp_path: Path) -> None:
    (tmp_path / "part.cwl").write_text(PART.replace("type: File, default: ", "type: File?}  # "))
    (tmp_path / "included.txt").touch()
    absolute = definition(tmp_path, STEP.replace("RUN", str(tmp_path / "part.cwl")))
    with pytest.raises(TakedaError, match="a place of this machine"):
        absolute.package({})


def test_a_default_that_is_missing_is_told(tmp_path: Path) -> None:
    (tmp_path / "part.cwl").write_text(PART)
    (tmp_path / "included.txt").touch()
    workflow = definition(tmp_path, STEP.replace("RUN", "part.cwl"))
    with pytest.raises(TakedaError, match=r"scripts/do%20it\.sh, which does not exist"):
        workflow.package({})


def test_a_file_is_given_in_the_format_that_is_declared(tmp_path: Path) -> None:
    workflow = tool(tmp_path, {"x": "{type: 'File[]', format: 'http://example.org/fasta'}"})
    (found,) = given(workflow, files("x", "a"))["x"]
    assert found == {**file("a"), "format": "http://example.org/fasta"}


GRAPH = """cwlVersion: v1.0
$graph:
- {id: main, class: CommandLineTool, baseCommand: a, inputs: {x: int}, outputs: []}
- {id: other, class: CommandLineTool, baseCommand: a, inputs: {y: int}, outputs: []}
"""


def test_one_of_several_processes_in_a_file(tmp_path: Path) -> None:
    whole = definition(tmp_path, GRAPH)
    other = definition(tmp_path, GRAPH, fragment="other")
    assert ([*whole.workflow.inputs], whole.package({}).main) == (["x"], "align.cwl")
    assert ([*other.workflow.inputs], other.name) == (["y"], "other")
    assert other.package({}).main == "align.cwl#other"
    with pytest.raises(TakedaError, match="is not valid CWL"):
        definition(tmp_path, GRAPH, fragment="none")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cwlVersion: v1.2\nclass: Workflow\n", "is not valid CWL"),
        (
            STEP.replace("RUN", "https://example.org/a.cwl"),
            "https://example.org/a.cwl, which is on the network",
        ),
        (STEP.replace("RUN", "gone.cwl"), "gone.cwl"),
        (
            STEP.replace("RUN", "{class: Operation, inputs: {text: File}, outputs: {made: File}}"),
            "Operation",
        ),
        ("cwlVersion: draft-2\nclass: Workflow\ninputs: []\noutputs: []\nsteps: []\n", "draft-2"),
        ("just: text\n", "is not valid CWL"),
        ("{", "is not valid CWL"),
    ],
)
def test_a_document_that_is_none_is_one_message(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(TakedaError) as refused:
        definition(tmp_path, text)
    assert said in str(refused.value)
    assert str(tmp_path / "align.cwl") in str(refused.value)
    assert "Traceback" not in str(refused.value)


def test_without_cwltool_the_way_out_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "cwltool":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    (tmp_path / "a.cwl").touch()
    with pytest.raises(TakedaError, match=r"pip install 'snakemake-executor-plugin-takeda\[cwl\]'"):
        cwl.load(tmp_path / "a.cwl")


RULE = """
rule call:
    input:
        text=["a.txt"],
    output:
        made="b.txt",
    params:
        level="two",
    resources:
        handoff="main.cwl",
    shell:
        "true"
"""


def test_check_names_the_rules_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = TOOL.replace("INPUTS", "  text: File\n  level: int").replace("OUTPUTS", "  made: stdout")
    (tmp_path / "main.cwl").write_text(text)
    (tmp_path / "Snakefile").write_text(RULE)
    monkeypatch.chdir(tmp_path)
    assert main(["handoff", "check"]) == 1
    assert "Snakefile:2: rule call: param `level` wants int, not 'two'" in capsys.readouterr().out


FAILING = """cwlVersion: v1.2
class: CommandLineTool
baseCommand: [sh, -c, 'echo "oh dear" >&2; exit 3']
inputs: {level: int?}
requirements: {DockerRequirement: {dockerPull: "example.org/x:1"}}
outputs: {made: {type: File, outputBinding: {glob: gone}}}
"""


def test_a_failed_task_is_shown_with_its_last_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "main.cwl").write_text(FAILING)
    monkeypatch.chdir(tmp_path)
    assert main(["handoff", "run-local", "main.cwl", "--output", "made", "out.txt"]) == 1
    said = capsys.readouterr().err
    assert "task main.cwl: the command failed with exit status 3" in said
    assert "  oh dear" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["main.cwl"]


def test_a_missing_output_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "main.cwl").write_text(FAILING.replace("exit 3", "exit 0"))
    monkeypatch.chdir(tmp_path)
    assert main(["handoff", "run-local", "main.cwl", "--output", "made", "out.txt"]) == 1
    assert "gone" in capsys.readouterr().err


def test_the_example_of_the_documentation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs/handoff.md").read_text()
    section = page[page.index("\n## CWL") :]
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows/main.cwl").write_text(section.split("```cwl\n")[1].split("```")[0])
    (tmp_path / "Snakefile").write_text(section.split("```python\n")[1].split("```")[0])
    for name in ("a.bam", "a.bam.bai", "b.bam", "b.bam.bai"):
        (tmp_path / name).write_text(name)
    monkeypatch.chdir(tmp_path)
    assert main(["handoff", "check"]) == 0
    assert "1 hand-off(s), 1 job(s): no mistakes" in capsys.readouterr().out
    words = "--input bams a.bam b.bam b.bam.bai a.bam.bai --param min_depth 20 --output depths a b"
    assert main(["handoff", "run-local", "flows/main.cwl", *words.split()]) == 0
    assert Path("a").read_text().split()[0] == "5"
