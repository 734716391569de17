"""A rule's inputs and params against the workflow's types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from snakemake_executor_takeda.backends.healthomics import parameters, wdl
from snakemake_executor_takeda.values import File, NamedFiles, TakedaError

SOURCE = """version 1.0
struct Site { String name  Int depth }
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
  }
  output { File copy = reference }
}
"""


@pytest.fixture(scope="module")
def workflow(tmp_path_factory: pytest.TempPathFactory) -> wdl.Workflow:
    path = tmp_path_factory.mktemp("wdl") / "types.wdl"
    path.write_text(SOURCE)
    return wdl.load(path)


def files(name: str | None, *paths: str) -> NamedFiles:
    return NamedFiles(name, tuple(File(p, f"s3://b/{p}") for p in paths), len(paths) != 1)


def build(workflow: wdl.Workflow, params: Mapping[str, Any], *inputs: NamedFiles) -> dict[str, Any]:
    return parameters.build_parameters(
        workflow,
        (files("reference", "ref.fa"), *inputs),
        {"ploidy": 2, **params},
        address=lambda file: str(file.uri),
        where="Snakefile:7",
    )


def test_files_become_addresses_by_type(workflow: wdl.Workflow) -> None:
    given = build(workflow, {}, files("bams", "a.bam"), files(None, "other.txt"))
    assert given == {"reference": "s3://b/ref.fa", "bams": ["s3://b/a.bam"], "ploidy": 2}
    assert build(workflow, {}, files("mask")) == {"reference": "s3://b/ref.fa", "ploidy": 2}


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
        ("site", {"name": "s", "depth": 3}, {"name": "s", "depth": 3}),
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
        parameters.build_parameters(workflow, (), {"ploidy": 1}, address=lambda f: f.path)
