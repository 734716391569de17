"""What a run left, by path, and the outputs of a rule that names them by globs."""

from __future__ import annotations

import pytest

from snakemake_executor_takeda.backends.healthomics.produced_files import (
    match,
    mistakes,
    patterns_of,
    read_patterns,
)
from snakemake_executor_takeda.values import UNKNOWN, File, NamedFiles, TakedaError
from tests.healthomics.conftest import job

PRODUCED = {
    path: f"s3://r/{path}"
    for path in (
        *("variants/b.vcf.gz", "variants/a.vcf.gz", "variants/a.vcf.gz.tbi", "multiqc/report.html"),
        *("multiqc/data/general.txt", "qc/a/stats.txt", "qc/b/stats.txt", "run.json"),
    )
}


def output(name: str | None, *paths: str, directory: bool = False) -> NamedFiles:
    return NamedFiles(name, tuple(File(one, None, directory) for one in paths), len(paths) > 1)


def places(named: NamedFiles, *globs: str) -> list[tuple[str, str]]:
    """Where from and where to of each delivery."""
    patterns = {named.name or "": globs} if globs else {}
    return [
        (
            one.source.removeprefix("s3://r/"),
            one.target.path + (f"/{one.member}" if one.member else ""),
        )
        for one in match([named], PRODUCED, "Snakefile:1", patterns)
    ]


def test_a_file_by_its_glob() -> None:
    assert places(output("vcf", "x.vcf"), "variants/b*.gz") == [("variants/b.vcf.gz", "x.vcf")]
    assert places(output("x", "x"), "multiqc/*") == [("multiqc/report.html", "x")]
    assert places(output("x", "x"), "**/general.txt") == [("multiqc/data/general.txt", "x")]
    assert places(output("x", "x"), "**/run.json") == [("run.json", "x")]
    assert places(output("x", "x"), "multiqc/*.{html,htm}") == [("multiqc/report.html", "x")]
    assert places(output("x", "x"), "qc/[!b]/stats.tx?") == [("qc/a/stats.txt", "x")]


def test_several_files_of_one_glob_are_told_apart_by_their_names() -> None:
    """Never by the order of a listing: a sample would have another's file, unseen."""
    named = output("vcf", "out/b.vcf.gz", "out/a.vcf.gz")
    assert places(named, "variants/*.gz") == [
        ("variants/b.vcf.gz", "out/b.vcf.gz"),
        ("variants/a.vcf.gz", "out/a.vcf.gz"),
    ]
    assert places(output("q", "1", "2"), "qc/b/*", "qc/a/*") == [
        ("qc/b/stats.txt", "1"),
        ("qc/a/stats.txt", "2"),
    ]
    with pytest.raises(TakedaError, match=r"the names of the 2 files .* \(1, 2\); give a list"):
        places(output("q", "1", "2"), "variants/*.gz")
    with pytest.raises(TakedaError, match=r"the names of the 2 files that match qc/\*/stats\.txt"):
        places(output("q", "x/stats.txt", "y/stats.txt"), "qc/*/stats.txt")


@pytest.mark.parametrize(
    ("glob", "members"),
    [
        ("multiqc", ["data/general.txt", "report.html"]),
        ("multiqc/", ["data/general.txt", "report.html"]),
        ("qc/*", ["a/stats.txt", "b/stats.txt"]),
        ("qc/*/stats.txt", ["a/stats.txt", "b/stats.txt"]),
        ("variants/*.tbi", ["a.vcf.gz.tbi"]),
        ("*.json", ["run.json"]),
        (".", sorted(PRODUCED)),
        ("**", sorted(PRODUCED)),
    ],
)
def test_a_directory_has_what_lies_below_its_glob(glob: str, members: list[str]) -> None:
    globs = read_patterns({"d": glob})["d"]
    found = places(output("d", "out", directory=True), *globs)
    assert [to for _, to in found] == [f"out/{member}" for member in members]
    assert all(source.endswith(to.removeprefix("out/")) for source, to in found)


def test_without_a_glob_names_decide() -> None:
    assert places(output(None, "results/report.html")) == [
        ("multiqc/report.html", "results/report.html")
    ]
    assert places(output("b", "results/stats.txt")) == [("qc/b/stats.txt", "results/stats.txt")]
    assert places(output("multiqc", "x", directory=True)) == [("multiqc/", "x")]
    with pytest.raises(
        TakedaError, match=r"made 2 files named stats\.txt\. It made qc/a/stats\.txt"
    ):
        places(output(None, "results/stats.txt"))


def test_what_is_missing_lists_the_nearest_first() -> None:
    with pytest.raises(TakedaError) as caught:
        places(output("r", "x"), "multiqc/raport.html")
    assert str(caught.value).startswith(
        "Snakefile:1: multiqc/raport.html matches no file of the run, the rule wants 1. It made "
        "multiqc/report.html, "
    )
    with pytest.raises(TakedaError, match="nothing that matches none"):
        places(output("r", "x", directory=True), "none")
    with pytest.raises(TakedaError, match="It made nothing"):
        match([output("r", "x")], {}, "", {"r": ("*",)})


@pytest.mark.parametrize(
    "given",
    [{"a": "/x"}, {"a": "[b-a]"}, {"a": "../x"}, {"a": "s3://b/x"}, {"a": 1}, "x", 3, {"a": []}],
)
def test_what_is_no_glob(given: object) -> None:
    with pytest.raises(TakedaError, match="handoff_outputs wants globs by output name"):
        read_patterns(given)


def test_globs_of_a_rule_and_before_a_run() -> None:
    rule = job("p", outputs={"a": ["s3://b/1", "s3://b/2"]}, params={"handoff_outputs": UNKNOWN})
    assert patterns_of(rule) == {}
    patterns = read_patterns("{'a': ['x', 'y', 'z'], 'aa': 'x'}")
    assert [str(one) for one in mistakes(rule.outputs, "S:1", patterns)] == [
        "S:1: handoff_outputs has 3 globs for the 2 file(s) of output `a`: one for all, or one for each",
        "S:1: handoff_outputs names `aa`, which is no output of the rule. Did you mean `a`?",
    ]
