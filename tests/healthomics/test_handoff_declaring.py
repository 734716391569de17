"""Small print of declaring a hand-off: what a changed line of that code would get wrong unseen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_takeda.backends.healthomics import input_json, outputs, parameters, wdl
from snakemake_executor_takeda.backends.healthomics.files import (
    LocalFiles,
    NoSuchFile,
    RuleFiles,
    look_up,
)
from snakemake_executor_takeda.backends.healthomics.mistakes import (
    Mistake,
    Mistakes,
    did_you_mean,
    refuse,
)
from snakemake_executor_takeda.values import File, NamedFiles, TakedaError

SOURCE = """version development
workflow w {
  input {
    Array[File]+? some
    Pair[File, File]? reads
    File mask = "none"
    Array[Int] lengths = []
    String label = ""
    Int number = 0
    Directory? folder
    Map[Int, String] names = {}
    Array[Directory] folders = []
  }
  output {
    Int value = number
    Array[File] many = []
    Array[Array[File]] nested = []
    Array[Directory] found = folders
    Map[String, File] named = {}
    File one = mask
    Array[File]? may = some
  }
}
"""


@pytest.fixture(scope="module")
def workflow(tmp_path_factory: pytest.TempPathFactory) -> wdl.Workflow:
    path = tmp_path_factory.mktemp("wdl") / "w.wdl"
    path.write_text(SOURCE)
    return wdl.load(path)


def files(name: str | None, *paths: str, directory: bool = False) -> NamedFiles:
    return NamedFiles(
        name, tuple(File(p, f"s3://b/{p}", directory) for p in paths), len(paths) != 1
    )


def build(workflow: wdl.Workflow, params: Mapping[str, Any], *inputs: NamedFiles) -> dict[str, Any]:
    return parameters.build_parameters(workflow, inputs, params, files=RuleFiles(inputs))


def misfit(workflow: wdl.Workflow, params: Mapping[str, Any], *inputs: NamedFiles) -> str:
    with pytest.raises(Mistakes) as caught:
        build(workflow, params, *inputs)
    return str(caught.value)


# What goes in.


def test_files_of_a_rule_are_as_many_as_the_type_takes(workflow: wdl.Workflow) -> None:
    reads = files("reads", "1", "2", "3")
    assert "takes 2 files, left and right; 3 are given" in misfit(workflow, {}, reads)
    assert build(workflow, {}, files("mask")) == {}, "its default stands in for no file"
    assert build(workflow, {}, files("some")) == {}


def test_a_list_that_may_not_be_empty(tmp_path: Path) -> None:
    path = tmp_path / "nonempty.wdl"
    path.write_text(
        "version 1.0\nworkflow w { input { Array[File]+ bams } output { Int n = 1 } }\n"
    )
    found = misfit(wdl.load(path), {}, files("bams"))
    assert "input `bams` is Array[File]+ but names no file" in found


def test_of_a_list_as_text_the_member_is_told_that_does_not_fit(workflow: wdl.Workflow) -> None:
    assert "; at [1] it wants Int, not 'x'" in misfit(workflow, {"lengths": '[1, "x"]'})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("number", "-3", -3),
        ("number", " +4 ", 4),
        ("names", {"1": "a", 2: "b"}, {"1": "a", "2": "b"}),
        ("folder", "s3://b/folder", "s3://b/folder/"),
        ("folder", "s3://b/folder/", "s3://b/folder/"),
        ("folders", ["s3://b/x", "s3://b/y/"], ["s3://b/x/", "s3://b/y/"]),
    ],
)
def test_more_params_are_made_fit(
    workflow: wdl.Workflow, name: str, value: Any, expected: Any
) -> None:
    assert build(workflow, {name: value}) == {name: expected}


@pytest.mark.parametrize(
    ("name", "value"),
    [("mask", True), ("mask", {"a": 1}), ("label", {"a", "b"}), ("label", {"a": 1})],
)
def test_more_values_that_do_not_fit(workflow: wdl.Workflow, name: str, value: Any) -> None:
    assert f"param `{name}` wants" in misfit(workflow, {name: value})


def test_a_boolean_is_no_file_though_one_has_its_name(
    workflow: wdl.Workflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "True").write_text("")
    with pytest.raises(Mistakes, match="wants File, not True"):
        parameters.build_parameters(workflow, (), {"mask": True}, files=LocalFiles())


def test_a_long_value_is_cut_in_messages(workflow: wdl.Workflow) -> None:
    found = misfit(workflow, {"number": "x" * 300})
    assert f"not '{'x' * 199}…" in found


# Files.


def test_a_rules_files_are_found_by_whole_names() -> None:
    known = RuleFiles([files(None, "in/a.map", "folder/")])
    assert known.locate("folder") == "s3://b/folder/"
    assert known.locate("./in/a.map") == "s3://b/in/a.map"
    with pytest.raises(NoSuchFile, match="no input of the rule"):
        known.locate("n/a.map")
    own = RuleFiles([NamedFiles(None, (File("own/path", "s3://other/key"),), False)])
    assert own.locate("own/path/") == "s3://other/key"


def test_without_s3_files_are_as_the_rule_names_them() -> None:
    local = [NamedFiles("d", (File("folder", None, True),), False)]
    with pytest.raises(NoSuchFile, match="folder is not in S3"):
        RuleFiles(local).locate("folder")
    known = RuleFiles(local, in_s3=False)
    assert known.locate("folder", directory=True) == "folder"
    assert list(known.used) == ["folder"]


def test_a_run_here_sees_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("")
    monkeypatch.chdir(tmp_path)
    assert LocalFiles().locate("a") == str(tmp_path / "a")
    assert look_up("x.json", [tmp_path]) is None
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "x.json").write_text("{}")
    assert look_up("x.json", [tmp_path, tmp_path / "below"]) == tmp_path / "below" / "x.json"


# input_json.


def test_input_json_that_is_nothing_or_cannot_be_read(tmp_path: Path) -> None:
    assert input_json.read("", "w", [tmp_path]) == {}
    with pytest.raises(TakedaError) as caught:
        input_json.read("x.json", "w", [tmp_path, tmp_path])
    assert str(caught.value).count(str(tmp_path)) == 1, "one place is told once"
    (tmp_path / "x.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(TakedaError, match=r"x\.json cannot be read: .*utf-8"):
        input_json.read("x.json", "w", [tmp_path])


# What comes out.


def delivered(
    workflow: wdl.Workflow, named: NamedFiles, **produced: Any
) -> list[tuple[str, str | None]]:
    values = {f"w.{name}": value for name, value in produced.items()}
    found = outputs.match_outputs(workflow, [named], values)
    return [(one.source or (one.content or b"").decode(), one.member) for one in found]


def unmatched(workflow: wdl.Workflow, *named: NamedFiles, produced: Mapping[str, Any]) -> str:
    with pytest.raises(TakedaError) as caught:
        outputs.match_outputs(workflow, list(named), produced)
    return str(caught.value)


def test_what_a_run_left_empty_is_told(workflow: wdl.Workflow) -> None:
    found = unmatched(workflow, files("value", "v.json"), produced={"w.value": None})
    assert "left output `value` empty" in found
    many = files("many", "d", directory=True)
    found = unmatched(workflow, many, produced={"w.many": None})
    assert "left output `many` empty." in found, "no hint of directory(), it is one"
    assert delivered(workflow, files("may", "d", directory=True), may=None) == [("", ".empty")]


def test_values_of_another_workflow_are_not_taken(workflow: wdl.Workflow) -> None:
    found = unmatched(workflow, files("one", "o"), produced={"other.one": "s3://r/one"})
    assert "left output `one` empty" in found


def test_a_long_value_is_cut_in_the_listing(workflow: wdl.Workflow) -> None:
    found = unmatched(workflow, files("one", "o"), produced={"w.many": ["x" * 1000]})
    assert f'  many: ["{"x" * 298}' in found
    assert "x" * 299 not in found


def test_files_and_a_directory_do_not_mix(workflow: wdl.Workflow) -> None:
    mixed = NamedFiles("many", (File("a", None), File("d", None, True)), True)
    with pytest.raises(Mistakes, match=r"list files only, or one directory\(\)"):
        outputs.check_outputs(workflow, [mixed])


def test_a_list_of_one_file_may_be_json(workflow: wdl.Workflow) -> None:
    assert delivered(workflow, files("many", "x.json"), many=["s3://r/a"]) == [("s3://r/a", None)]


def test_lists_of_lists_keep_the_outer_place_only_where_it_is_needed(
    workflow: wdl.Workflow,
) -> None:
    into = files("nested", "d", directory=True)
    found = delivered(workflow, into, nested=[["s3://r/a", "s3://r/b"], ["s3://r/c"]])
    assert [member for _, member in found] == ["0/a", "0/b", "1/c"]


def test_directories_of_a_list_have_their_names(workflow: wdl.Workflow) -> None:
    into = files("found", "d", directory=True)
    found = delivered(workflow, into, found=["s3://r/x/", "s3://r/y/"])
    assert [member for _, member in found] == ["x", "y"]


@pytest.mark.parametrize("key", ["", ".", "..", "a/b"])
def test_keys_that_are_no_file_names(workflow: wdl.Workflow, key: str) -> None:
    into = files("named", "d", directory=True)
    found = unmatched(workflow, into, produced={"w.named": {key: "s3://r/a"}})
    assert f"its key {key!r} is no file name" in found


def test_two_files_without_a_name_are_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "lone.wdl"
    path.write_text(
        "version 1.0\nworkflow w { input { Array[File] i } output { Array[File] o = i } }\n"
    )
    lone = wdl.load(path)
    outputs.check_outputs(lone, [files(None, "a")])
    with pytest.raises(Mistakes, match="name the rule's outputs as the workflow does"):
        outputs.check_outputs(lone, [files(None, "a", "b")])


# Mistakes.


def test_equal_mistakes_are_told_once() -> None:
    with pytest.raises(Mistakes) as caught:
        refuse([Mistake("a", "x"), Mistake("b"), Mistake("a", "x")])
    assert str(caught.value) == "a\nb"
    refuse([])


def test_where_there_is_no_word_none_is_named() -> None:
    assert did_you_mean("x", []) == " There are none."
    assert did_you_mean("x", ["b", "a"]) == " There are: a, b."
