"""What a run produced against what the rule wants."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from snakemake_executor_takeda.backends.healthomics import outputs, wdl
from snakemake_executor_takeda.values import File, NamedFiles, TakedaError

PRODUCED = {
    "words.table": "s3://runs/1/out/table/table.txt",
    "words.counts": ["s3://runs/1/out/counts/0/a.counts", "s3://runs/1/out/counts/1/b.counts"],
    "words.digest_file": None,
    "words.words": 4,
}


@pytest.fixture(scope="module")
def workflow() -> wdl.Workflow:
    return wdl.load(Path(__file__).parent / "data" / "words.wdl")


def wanted(name: str | None, *paths: str, directory: bool = False) -> NamedFiles:
    return NamedFiles(name, tuple(File(p, None, directory) for p in paths), len(paths) > 1)


def test_files_and_arrays_match_by_name(workflow: wdl.Workflow) -> None:
    found = outputs.match_outputs(
        workflow, [wanted("counts", "x", "y"), wanted("table", "t")], PRODUCED
    )
    assert [(one.source.rpartition("/")[2], one.target.path) for one in found] == [
        ("a.counts", "x"),
        ("b.counts", "y"),
        ("table.txt", "t"),
    ]


def test_an_array_may_fill_a_directory(workflow: wdl.Workflow) -> None:
    found = outputs.match_outputs(workflow, [wanted("counts", "d", directory=True)], PRODUCED)
    assert [one.member for one in found] == ["a.counts", "b.counts"]
    twice = {**PRODUCED, "words.counts": ["s3://r/0/a", "s3://r/1/a"]}
    found = outputs.match_outputs(workflow, [wanted("counts", "d", directory=True)], twice)
    assert [one.member for one in found] == ["0/a", "1/a"]
    none = outputs.match_outputs(
        workflow, [wanted("counts", "d", directory=True)], {**PRODUCED, "words.counts": []}
    )
    assert none == (outputs.Delivery("", File("d", None, True), ".empty", content=b""),)


@pytest.mark.parametrize(
    ("named", "words"),
    [
        (wanted("tabel", "t"), "no output `tabel`. Did you mean `table`?"),
        (wanted("words", "t", "u"), "`words` is Int, a value: give it one file"),
        (wanted("words", "t", directory=True), "`words` is Int, a value: give it one file"),
        (wanted("table", "t", "u"), "is one File, but the rule lists 2 files"),
        (wanted("digest_file", "t"), "left output `digest_file` empty"),
        (wanted("counts", "x", "y", "z"), "wants 3 file(s) of output `counts`, the run made 2"),
        (wanted("table", "t", directory=True), "do not mark t with directory()"),
        (wanted(None, "t"), "name the rule's outputs"),
    ],
)
def test_mismatches_are_told(workflow: wdl.Workflow, named: NamedFiles, words: str) -> None:
    with pytest.raises(TakedaError) as caught:
        outputs.match_outputs(workflow, [named], PRODUCED, "Snakefile:9")
    assert str(caught.value).startswith("Snakefile:9: ")
    assert words in str(caught.value)


def test_a_mismatch_lists_what_was_produced(workflow: wdl.Workflow) -> None:
    with pytest.raises(TakedaError) as caught:
        outputs.match_outputs(workflow, [wanted("counts", "x")], PRODUCED)
    assert 'table: "s3://runs/1/out/table/table.txt"' in str(caught.value)


def test_a_lone_unnamed_output_takes_the_lone_file(tmp_path: Path) -> None:
    path = tmp_path / "one.wdl"
    path.write_text(
        "version 1.0\nworkflow w { input { File f  Int n = 1 } output { File o = f  Int m = n } }"
    )
    found = outputs.match_outputs(wdl.load(path), [wanted(None, "x")], {"w.o": "s3://r/o"})
    assert found == (outputs.Delivery("s3://r/o", File("x", None)),)


def test_a_directory_output(tmp_path: Path) -> None:
    path = tmp_path / "dir.wdl"
    path.write_text(
        "version development\nworkflow w { input { Directory d } output { Directory o = d } }"
    )
    workflow = wdl.load(path)
    found = outputs.match_outputs(
        workflow, [wanted("o", "results", directory=True)], {"w.o": "s3://r/out/o/d"}
    )
    assert found[0].is_directory
    with pytest.raises(TakedaError, match=r"mark results with directory\(\)"):
        outputs.match_outputs(workflow, [wanted("o", "results")], {"w.o": "s3://r/out/o/d"})


TYPES = """version 1.1
struct Sample { String id  File text  Array[File] parts  Int? n }
workflow w {
  input { Sample sample  File? f  Array[Array[File]] groups = []  Pair[File, File] reads }
  output {
    Int n = 1
    Float? rate = 0.5
    String s = "x y"
    Array[String] names = ["a"]
    Array[Array[Int]] table = [[1]]
    Map[String, Int] weights = {}
    Map[String, Array[Int]] series = {}
    Sample result = sample
    File? maybe = f
    Array[Array[File]] grouped = groups
    Pair[File, File] ends = reads
    Map[String, File] named = {}
  }
}
"""


@pytest.fixture(scope="module")
def types(tmp_path_factory: pytest.TempPathFactory) -> wdl.Workflow:
    path = tmp_path_factory.mktemp("types") / "types.wdl"
    path.write_text(TYPES)
    return wdl.load(path)


@pytest.mark.parametrize(
    ("name", "value", "path", "written"),
    [
        ("n", 3, "n.txt", "3\n"),
        ("n", 3, "n.json", "3\n"),
        ("rate", None, "rate.txt", ""),
        ("rate", None, "rate.json", "null\n"),
        ("s", "x y", "s.txt", "x y\n"),
        ("s", "é", "s.json", '"é"\n'),
        ("names", ["a", "b"], "names.txt", "a\nb\n"),
        ("table", [[1, 2], [3]], "table.tsv", "1\t2\n3\n"),
        ("weights", {"x": 1}, "w.tsv", "x\t1\n"),
        ("series", {"x": [1]}, "s.json", '{\n  "x": [\n    1\n  ]\n}\n'),
    ],
)
def test_values_are_written(
    types: wdl.Workflow, name: str, value: object, path: str, written: str
) -> None:
    (found,) = outputs.match_outputs(types, [wanted(name, path)], {f"w.{name}": value})
    assert found.content == written.encode()


def test_a_struct_with_files_fills_a_directory(types: wdl.Workflow) -> None:
    value = {"id": "i", "text": "s3://r/t.txt", "parts": ["s3://r/a", "s3://r/b"], "n": None}
    found = outputs.match_outputs(
        types, [wanted("result", "d", directory=True)], {"w.result": value}
    )
    assert [one.member for one in found] == ["text/t.txt", "parts/a", "parts/b", "result.json"]
    assert json.loads(found[-1].content or b"") == {
        **{"id": "i", "text": "text/t.txt", "parts": ["parts/a", "parts/b"], "n": None}
    }


def test_files_of_compound_values_may_be_listed(types: wdl.Workflow) -> None:
    produced = {
        "w.ends": {"left": "s3://r/1", "right": "s3://r/2"},
        "w.grouped": [["s3://r/a"], [], ["s3://r/b"]],
        "w.named": {"x": "s3://r/x"},
    }
    found = outputs.match_outputs(
        types,
        [wanted("ends", "l", "r"), wanted("grouped", "a", "b"), wanted("named", "x")],
        produced,
    )
    assert [one.source for one in found] == [f"s3://r/{name}" for name in ("1", "2", "a", "b", "x")]


def test_an_optional_file_fills_a_directory_or_leaves_it_empty(types: wdl.Workflow) -> None:
    target = wanted("maybe", "d", directory=True)
    (found,) = outputs.match_outputs(types, [target], {"w.maybe": "s3://r/f"})
    assert (found.source, found.member) == ("s3://r/f", "f")
    (found,) = outputs.match_outputs(types, [target], {"w.maybe": None})
    assert (found.member, found.content) == (".empty", b"")
    with pytest.raises(TakedaError, match=r"left output `maybe` empty; .*mark x with directory"):
        outputs.match_outputs(types, [wanted("maybe", "x")], {"w.maybe": None})


@pytest.mark.parametrize(
    ("named", "words"),
    [
        (wanted("series", "s.txt"), "no text form: name its file series.json"),
        (wanted("result", "r.json"), "holds files: mark r.json with directory()"),
    ],
)
def test_what_has_no_form_is_told_before(
    types: wdl.Workflow, named: NamedFiles, words: str
) -> None:
    with pytest.raises(TakedaError) as caught:
        outputs.check_outputs(types, [named])
    assert words in str(caught.value)


def test_a_key_that_leads_elsewhere_is_refused(types: wdl.Workflow) -> None:
    with pytest.raises(TakedaError, match="is no file name"):
        outputs.match_outputs(
            types, [wanted("named", "d", directory=True)], {"w.named": {"../x": "s3://r/x"}}
        )
