"""What a run produced against what the rule wants."""

from __future__ import annotations

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
    with pytest.raises(TakedaError, match="several files named a"):
        outputs.match_outputs(workflow, [wanted("counts", "d", directory=True)], twice)


@pytest.mark.parametrize(
    ("named", "words"),
    [
        (wanted("tabel", "t"), "no output `tabel`. Did you mean `table`?"),
        (wanted("words", "t"), "`words` is Int, no file"),
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
