"""Reading WDL files: the signature, and one clear message for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from snakemake_executor_takeda.backends.healthomics import wdl
from snakemake_executor_takeda.values import TakedaError

DATA = Path(__file__).parent / "data"


def write(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"version 1.0\n{body}\n")
    return path


def test_signature_of_a_workflow_with_imports() -> None:
    workflow = wdl.load(DATA / "words.wdl")
    assert workflow.name == "words"
    assert {name: (str(one.type), one.required) for name, one in workflow.inputs.items()} == {
        "texts": ("Array[File]+", True),
        "label": ("String", True),
        "least": ("Int", False),
        "upper": ("Boolean", False),
        "share": ("Float?", False),
    }
    assert workflow.inputs["least"].description == "drop words seen fewer times"
    assert {name: str(one.type) for name, one in workflow.outputs.items()} == {
        "table": "File",
        "counts": "Array[File]",
        "digest_file": "File",
        "words": "Int",
    }


@pytest.mark.parametrize(
    ("body", "place", "words"),
    [
        ("workflow w { call nobody }", "main.wdl:2", "nobody"),
        ("workflow w { input { Int a = } }", "main.wdl:2", ""),
        ("workflow w { input { Int a = [1] } }", "main.wdl:2", "Int"),
        ('import "lib/absent.wdl" as lib\nworkflow w { }', "main.wdl:2", "lib/absent.wdl"),
    ],
)
def test_invalid_wdl_names_file_and_line(tmp_path: Path, body: str, place: str, words: str) -> None:
    with pytest.raises(TakedaError) as caught:
        wdl.load(write(tmp_path / "main.wdl", body))
    assert place in str(caught.value)
    assert words in str(caught.value)


def test_a_mistake_in_an_import_names_the_imported_file(tmp_path: Path) -> None:
    write(tmp_path / "lib" / "tasks.wdl", "\ntask t { command { } output { File f = nothing } }")
    main = write(tmp_path / "main.wdl", 'import "lib/tasks.wdl" as lib\nworkflow w { call lib.t }')
    with pytest.raises(TakedaError, match=r"lib/tasks\.wdl:3: .*nothing"):
        wdl.load(main)


def test_imports_from_the_network_are_refused(tmp_path: Path) -> None:
    main = write(tmp_path / "main.wdl", 'import "https://example.org/x.wdl" as x\nworkflow w { }')
    with pytest.raises(TakedaError, match="on the network"):
        wdl.load(main)


def test_missing_file_and_missing_workflow(tmp_path: Path) -> None:
    with pytest.raises(TakedaError, match="no WDL file"):
        wdl.load(tmp_path / "absent.wdl")
    with pytest.raises(TakedaError, match="holds no workflow"):
        wdl.load(write(tmp_path / "main.wdl", "task t { command { } }"))
    (tmp_path / "binary.wdl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TakedaError, match="cannot be read"):
        wdl.load(tmp_path / "binary.wdl")


TASK = "task t { input { Int n  Int? m } command { echo ~{n} } }"


def test_an_open_input_of_a_call_is_named(tmp_path: Path) -> None:
    main = tmp_path / "main.wdl"
    main.write_text(f"version 1.1\nworkflow w {{ call t }}\n{TASK}\n")
    with pytest.raises(TakedaError, match=r"main\.wdl:2: .*t\.n.*allowNestedInputs"):
        wdl.load(main)


@pytest.mark.parametrize(
    ("version", "said", "required", "optional"),
    [
        ("1.0", "", {"t.n"}, {"t.m"}),
        ("1.1", "meta { allowNestedInputs: true }", {"t.n"}, {"t.m"}),
        ("1.1", "input { Int k = 1 } call t as u { input: n = k }", set(), set()),
    ],
)
def test_inputs_of_calls_where_they_may_be_set(
    tmp_path: Path, version: str, said: str, required: set[str], optional: set[str]
) -> None:
    main = tmp_path / "main.wdl"
    call = "call t" if required else ""
    main.write_text(f"version {version}\nworkflow w {{ {said} {call} }}\n{TASK}\n")
    workflow = wdl.load(main)
    assert {name for name in workflow.inputs if "." in name} == required
    assert set(workflow.nested) == optional


def test_a_sub_workflow_may_shut_its_calls(tmp_path: Path) -> None:
    sub = tmp_path / "sub.wdl"
    sub.write_text("version 1.1\nworkflow s { call t }\ntask t { input { Int? m } command { } }\n")
    main = tmp_path / "main.wdl"
    main.write_text(
        'version 1.1\nimport "sub.wdl" as lib\n'
        "workflow w { meta { allowNestedInputs: true } call lib.s }\n"
    )
    assert wdl.load(main).nested == {}
    sub.write_text(sub.read_text().replace("{ call", "{ meta { allowNestedInputs: true } call"))
    assert set(wdl.load(main).nested) == {"s.t.m"}
