"""A rule's inputs and params against the workflow's types."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_takeda.backends.healthomics import parameters, wdl
from snakemake_executor_takeda.backends.healthomics.files import LocalFiles, RuleFiles
from snakemake_executor_takeda.backends.healthomics.mistakes import Mistakes
from snakemake_executor_takeda.values import UNKNOWN, File, NamedFiles, TakedaError

SOURCE = """version 1.0
struct Site { String name  Int depth  File? map }
workflow w {
  input {
    File reference
    Array[File] bams = []
    File? mask
    Int ploidy
    Float rate = 0.5
    Boolean strict = true
    String? label
    Array[Int] lengths = []
    Array[Array[String]] nested = []
    Map[String, Int] weights = {}
    Site? site
    Pair[File, File]? reads
    Pair[String, Int]? tag
    Array[Array[File]] groups = []
    Array[File]? extra
    Array[Int]+ some = [1]
    Map[String, Array[Site]] deep = {}
    Int count = 1
  }
  call t
  output { File copy = reference }
}
task t { input { Int n = 1  File? f } command { } }
"""


@pytest.fixture(scope="module")
def workflow(tmp_path_factory: pytest.TempPathFactory) -> wdl.Workflow:
    path = tmp_path_factory.mktemp("wdl") / "types.wdl"
    path.write_text(SOURCE)
    return wdl.load(path)


def files(name: str | None, *paths: str) -> NamedFiles:
    return NamedFiles(name, tuple(File(p, f"s3://b/{p}") for p in paths), len(paths) != 1)


def build(
    workflow: wdl.Workflow,
    params: Mapping[str, Any],
    *inputs: NamedFiles,
    defaults: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    given = (files("reference", "ref.fa"), *inputs)
    return parameters.build_parameters(
        workflow,
        given,
        {"ploidy": 2, **params},
        files=RuleFiles(given),
        where="Snakefile:7",
        defaults=defaults,
    )


def test_files_become_addresses_by_type(workflow: wdl.Workflow) -> None:
    given = build(workflow, {}, files("bams", "a.bam"), files(None, "other.txt"))
    assert given == {"reference": "s3://b/ref.fa", "bams": ["s3://b/a.bam"], "ploidy": 2}
    assert build(workflow, {}, files("mask")) == {"reference": "s3://b/ref.fa", "ploidy": 2}
    assert build(workflow, {}, files("extra")) == {"reference": "s3://b/ref.fa", "ploidy": 2}
    reads = build(workflow, {}, files("reads", "1.fq", "2.fq"))["reads"]
    assert reads == {"left": "s3://b/1.fq", "right": "s3://b/2.fq"}


def test_a_dot_and_a_reserved_word_have_a_spelling(workflow: wdl.Workflow) -> None:
    given = build(workflow, {"t__n": "3", "count_": 4}, files("t__f", "x"))
    assert (given["t.n"], given["count"], given["t.f"]) == (3, 4, "s3://b/x")


def test_files_inside_values_are_the_rules_own_or_in_s3(workflow: wdl.Workflow) -> None:
    given = (files("reference", "ref.fa"), files(None, "in/a.map"), files(None, "deep/in/b.map"))
    found = parameters.build_parameters(
        workflow,
        given,
        {
            "ploidy": 2,
            "site": {"name": "s", "depth": 1, "map": "in/a.map"},
            "groups": [["b.map"], ["s3://other/c", "ref.fa"]],
        },
        files=RuleFiles(given),
    )
    assert found["site"]["map"] == "s3://b/in/a.map"
    assert found["groups"] == [["s3://b/deep/in/b.map"], ["s3://other/c", "s3://b/ref.fa"]]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nowhere.map", "no input of the rule; add it under `input:` or write its S3 URI"),
        ("gs://b/x", "neither in S3 nor an input"),
        ("a.map", "may be any of the inputs"),
    ],
)
def test_a_file_in_a_value_that_no_rule_makes(
    workflow: wdl.Workflow, path: str, words: str
) -> None:
    inputs = (files(None, "x/a.map"), files(None, "y/a.map"))
    with pytest.raises(TakedaError) as caught:
        build(workflow, {"site": {"name": "s", "depth": 1, "map": path}}, *inputs)
    assert words in str(caught.value)
    assert "at .map it wants File?" in str(caught.value)


def test_directories_end_with_a_slash(tmp_path: Path) -> None:
    path = tmp_path / "d.wdl"
    path.write_text(
        "version development\nworkflow w { input { Directory d } output { Int n = 1 } }\n"
    )
    given = (files("d", "folder"),)
    found = parameters.build_parameters(wdl.load(path), given, {}, files=RuleFiles(given))
    assert found == {"d": "s3://b/folder/"}
    with pytest.raises(TakedaError, match="is no directory"):
        local = (NamedFiles("d", (File(str(path), None),), False),)
        parameters.build_parameters(wdl.load(path), local, {}, files=LocalFiles())


def test_what_the_rule_names_comes_before_input_json(workflow: wdl.Workflow) -> None:
    given = build(
        workflow,
        {"rate": 0.1},
        files("bams", "a.bam"),
        defaults={"rate": 0.9, "bams": ["s3://b/z"], "label": "j", "t.n": 7, "ploidy": 9},
    )
    assert given == {
        **{"reference": "s3://b/ref.fa", "bams": ["s3://b/a.bam"], "ploidy": 2},
        **{"rate": 0.1, "label": "j", "t.n": 7},
    }


def test_all_mistakes_are_told_at_once(workflow: wdl.Workflow) -> None:
    with pytest.raises(Mistakes) as caught:
        build(workflow, {"ploidy": "x", "ploydy": 1, "some": []}, files("mask", "a", "b"))
    assert [(one.name, one.expected) for one in caught.value.found] == [
        ("mask", "File?"),
        ("ploidy", "Int"),
        ("ploydy", ""),
        ("some", "Array[Int]+"),
    ]
    assert all(line.startswith("Snakefile:7: ") for line in str(caught.value).splitlines())


def test_what_is_not_known_yet_fits(workflow: wdl.Workflow) -> None:
    assert build(workflow, {"rate": UNKNOWN})["rate"] is UNKNOWN


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("lengths", ["1", "2"], ["1", "2"]),
        ("lengths", [""], []),
        ("label", [""], ""),
        ("label", ["None"], None),
        ("ploidy", ["None"], "None"),
        ("ploidy", ["Ellipsis"], Ellipsis),
        ("weights", ["{'x': 1}"], "{'x': 1}"),
    ],
)
def test_words_of_a_shell_command(
    workflow: wdl.Workflow, name: str, words: list[str], expected: Any
) -> None:
    assert parameters.from_words(workflow, name, words) == expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("ploidy", "2", 2),
        ("ploidy", 2.0, 2),
        ("rate", "1e-3", 0.001),
        ("rate", 3, 3.0),
        ("strict", "False", False),
        ("strict", True, True),
        ("label", 7, "7"),
        ("lengths", "5", [5]),
        ("lengths", ("1", 2), [1, 2]),
        ("nested", [["a"], ["b", 1]], [["a"], ["b", "1"]]),
        ("weights", {"x": 1}, {"x": 1}),
        ("weights", '{"x": 1}', {"x": 1}),
        ("weights", "{'x': 1}", {"x": 1}),
        ("site", {"name": "s", "depth": "3"}, {"name": "s", "depth": 3}),
        ("tag", ("a", "1"), {"left": "a", "right": 1}),
        ("tag", {"Left": "a", "Right": 1}, {"left": "a", "right": 1}),
        ("nested", "['a', 'b']", [["a", "b"]]),
        ("nested", '[["a"], ["b"]]', [["a"], ["b"]]),
        ("lengths", "[]", []),
        ("deep", {"k": [{"name": "s", "depth": 1}]}, {"k": [{"name": "s", "depth": 1}]}),
        ("mask", "s3://b/mask.bed", "s3://b/mask.bed"),
    ],
)
def test_params_are_made_fit(workflow: wdl.Workflow, name: str, value: Any, expected: Any) -> None:
    assert build(workflow, {name: value})[name] == expected


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("ploidy", "two", "Int"),
        ("ploidy", True, "Int"),
        ("ploidy", 2.5, "Int"),
        ("ploidy", [1, 2], "Int"),
        ("rate", "nan", "Float"),
        ("rate", False, "Float"),
        ("strict", "yes", "Boolean"),
        ("strict", 1, "Boolean"),
        ("label", ["a", "b"], "String"),
        ("lengths", ["1", "x"], "Array[Int]"),
        ("nested", ["a"], "Array[Array[String]]"),
        ("weights", {"x": "heavy"}, "Map[String,Int]"),
        ("site", '{"name": ', "Site"),
        ("site", {"name": "s", "depht": 1}, "Site"),
        ("site", {"name": "s"}, "Site"),
        ("tag", ["a"], "Pair[String,Int]"),
        ("some", [], "Array[Int]+"),
    ],
)
def test_misfits_name_param_type_value_and_line(
    workflow: wdl.Workflow, name: str, value: Any, wanted: str
) -> None:
    with pytest.raises(TakedaError) as caught:
        build(workflow, {name: value})
    message = str(caught.value)
    assert message.startswith(f"Snakefile:7: param `{name}` wants {wanted}")
    assert repr(value) in message


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("site", {"name": "s", "depht": 1}, "no member `depht`. Did you mean `depth`?"),
        ("site", {"name": "s"}, "it lacks `depth` (Int)"),
        ("weights", {"x": "heavy"}, "at [\"x\"] it wants Int, not 'heavy'"),
        ("deep", {"k": [{"name": "s", "depth": []}]}, 'at ["k"][0].depth it wants Int'),
        ("tag", ["a"], '{"left": …, "right": …}'),
        ("some", [], "it may not be empty"),
        ("rate", ..., "is not filled in yet"),
    ],
)
def test_a_misfit_inside_a_value_tells_where(
    workflow: wdl.Workflow, name: str, value: Any, words: str
) -> None:
    with pytest.raises(TakedaError) as caught:
        build(workflow, {name: value})
    assert words in str(caught.value)


def test_none_leaves_an_optional_input_unset(workflow: wdl.Workflow) -> None:
    assert "label" not in build(workflow, {"label": None})


@pytest.mark.parametrize(
    ("params", "inputs", "words"),
    [
        ({"ploydy": 2}, (), "no input for the param `ploydy`. Did you mean `ploidy`?"),
        ({}, (files("bam", "a"),), "no input for the input `bam`. Did you mean `bams`?"),
        ({}, (files("ploidy", "a"),), "`ploidy` names files but the workflow wants Int"),
        ({}, (files("mask", "a", "b"),), "`mask` is one File?, but 2 are given"),
        ({"mask": "x"}, (files("mask", "a"),), "given both"),
        ({"ploidy": None}, (), "needs `ploidy` (Int)"),
        ({"t__m": 1}, (), "Did you mean `t.n`?"),
        ({}, (files("reads", "a"),), "takes 2 files, left and right; 1 are given"),
        ({}, (files("groups", "a"),), "give it under `params:`"),
    ],
)
def test_wrong_names_and_shapes(
    workflow: wdl.Workflow, params: dict[str, Any], inputs: tuple[NamedFiles, ...], words: str
) -> None:
    with pytest.raises(TakedaError) as caught:
        build(workflow, params, *inputs)
    assert words in str(caught.value)


def test_a_missing_required_file_is_named(workflow: wdl.Workflow) -> None:
    with pytest.raises(TakedaError, match=r"needs `reference` \(File\)"):
        parameters.build_parameters(workflow, (), {"ploidy": 1}, files=RuleFiles(()))
