"""Workflows that are no files of this machine: Ready2Run ids and git repositories."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_takeda.backends.healthomics import ready2run, repositories
from snakemake_executor_takeda.backends.healthomics.definitions import Definitions, prepare
from snakemake_executor_takeda.backends.healthomics.mistakes import Mistakes
from snakemake_executor_takeda.backends.healthomics.repositories import Place, Repositories, parse
from snakemake_executor_takeda.values import File, NamedFiles, TakedaError
from tests.healthomics.conftest import job
from tests.healthomics.omics_in_process import Wire
from tests.sandbox.omics_client import Engine, Omics

LINES = "ready2run:1000001"
WORKFLOW = "version 1.0\nworkflow w { input { Int n } output { Int m = n } }\n"
OUTPUTS = {"m": ["s3://b/m.json"]}


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Wire, Definitions]]:
    omics = Omics(tmp_path, Engine(), monkeypatch)
    wire = Wire(omics)
    yield wire, Definitions((tmp_path,), ready2run.Known(wire.client).of)
    omics.stop()


def test_ready2run_takes_what_its_template_names(known: tuple[Wire, Definitions]) -> None:
    wire, definitions = known
    rule = replace(
        job(LINES, outputs={"table": ["s3://b/lines.txt"]}),
        inputs=(NamedFiles("text", (File("in.txt", "s3://b/in.txt"),), False),),
    )
    for _ in range(2):
        prepared = prepare(rule, definitions)
    assert prepared.parameters == {"text": "s3://b/in.txt"}
    assert prepared.package is None
    assert prepared.used == ("s3://b/in.txt",)
    assert dict(wire.calls) == {"GetWorkflow": 1}, "it is asked about once"


def test_all_that_does_not_fit_ready2run_is_told(known: tuple[Wire, Definitions]) -> None:
    _, definitions = known
    rule = job(LINES, inputs={"txt": ["s3://b/in.txt"]}, outputs={}, params={"f": {1}})
    with pytest.raises(Mistakes) as caught:
        prepare(rule, definitions)
    text = str(caught.value)
    assert "has no parameter `txt` Did you mean `text`?" in text
    assert "needs `text`" in text
    assert "Snakefile:12" in text


@pytest.mark.parametrize(
    ("handoff", "words"),
    [
        ("ready2run:", "named by its number"),
        ("ready2run:x", "named by its number"),
        ("ready2run:4711", "no Ready2Run workflow 4711"),
    ],
)
def test_no_such_ready2run(known: tuple[Wire, Definitions], handoff: str, words: str) -> None:
    with pytest.raises(TakedaError, match=words):
        prepare(job(handoff, outputs={}), known[1])


def named(name: str | None, *paths: str, directory: bool = False) -> NamedFiles:
    files = tuple(File(path, f"s3://b/{path}", directory) for path in paths)
    return NamedFiles(name, files, len(paths) > 1)


def test_ready2run_outputs_match_by_their_own_names() -> None:
    workflow = ready2run.Ready2Run("7", "n", {}, {})
    produced = {
        "out/vcf/a.vcf": "s3://r/7/out/vcf/a.vcf",
        "out/old/a.vcf": "s3://r/7/out/old/a.vcf",
        "out/qc/x/1.txt": "s3://r/7/out/qc/x/1.txt",
        "out/b.txt": "s3://r/7/out/b.txt",
    }

    def match(*outputs: NamedFiles) -> list[str]:
        return [one.source for one in workflow.match_outputs(outputs, produced, "Snakefile:1", {})]

    assert match(named("vcf", "res/a.vcf")) == ["s3://r/7/out/vcf/a.vcf"]
    assert match(named(None, "res/b.txt")) == ["s3://r/7/out/b.txt"]
    assert match(named("qc", "res/any", directory=True)) == ["s3://r/7/out/qc/"]
    assert match(named("q", "res/qc", directory=True)) == ["s3://r/7/out/qc/"]
    with pytest.raises(TakedaError, match=r"made 2 files named a\.vcf\. It made .*out/b\.txt"):
        match(named(None, "res/a.vcf"))
    with pytest.raises(TakedaError, match=r"made no file named c\.vcf"):
        match(named("vcf", "res/c.vcf"))
    with pytest.raises(TakedaError, match="made no folder named none"):
        match(named("none", "res/some", directory=True))


def test_a_repository_is_read_from_the_words() -> None:
    good = "git+https://github.com/o/n.git@v1.2#path/main.wdl"
    assert parse(good, "") == Place("https://github.com/o/n.git", "v1.2", "path/main.wdl")
    assert parse("git+https://github.com/o/n@v1", "").path == ""
    ssh = parse("git+ssh://git@github.com/o/n@feature/x#main.wdl", "")
    assert ssh == Place("ssh://git@github.com/o/n", "feature/x", "main.wdl")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("git+ext::sh -c id@v1#main.wdl", "has to begin with"),
        ("git+https://h/o/n#main.wdl", "revision is missing"),
        ("git+https://h/o/n@#main.wdl", "no tag, branch or commit"),
        ("git+https://h/o/n@--upload-pack=id#main.wdl", "no tag, branch or commit"),
        ("git+https://h/o/n@a..b#main.wdl", "no tag, branch or commit"),
        ("git+https://h/o/n@v1:x#main.wdl", "no tag, branch or commit"),
        ("git+ssh://-oProxyCommand=id/o/n@v1#main.wdl", "may begin with -"),
        ("git+ssh://git@-oProxyCommand=id/o/n@v1#main.wdl", "may begin with -"),
        ("git+file://h/--upload-pack=id@v1#main.wdl", "may begin with -"),
        ("git+https://user:secret@h/o/n@v1#main.wdl", "a password"),
        ("git+https:///n@v1#main.wdl", "names no host"),
        ("git+https://h/o/n x@v1#main.wdl", "a space"),
        ("git+https://h/o/n@v1#../main.wdl", "inside the repository"),
        ("git+https://h/o/n@v1#/etc/main.wdl", "inside the repository"),
        ("git+https://h/o/n@v1#a/../../main.wdl", "inside the repository"),
        ("git+https://h/o/n@v1#.git/main.wdl", "does not lie in .git"),
    ],
)
def test_what_is_no_repository_or_would_be_an_option(words: str, why: str) -> None:
    with pytest.raises(TakedaError, match=why.replace(".", r"\.")) as caught:
        parse(words, "Snakefile:3")
    assert str(caught.value).startswith("Snakefile:3: ")
    assert "write git+https://" in str(caught.value)


def git(folder: Path, *words: str) -> str:
    person = {
        f"GIT_{one}_{what}": "x@y" for one in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    return subprocess.run(
        ["git", *words],
        cwd=folder,
        env={**os.environ, **person},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    folder = tmp_path / "remote"
    (folder / "flows").mkdir(parents=True)
    (folder / "flows" / "main.wdl").write_text(WORKFLOW)
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "one")
    git(folder, "tag", "v1")
    return folder


def test_a_hand_off_from_a_repository(remote: Path, tmp_path: Path) -> None:
    definitions = Definitions((tmp_path / "work",))
    words = f"git+file://{remote}@v1#flows/main.wdl"
    prepared = prepare(job(words, outputs=OUTPUTS, params={"n": 2}), definitions)
    assert prepared.parameters == {"n": 2}
    assert prepared.package is not None
    assert prepared.package.name == "takeda-w"
    # A commit that is here needs no network.
    commit = git(remote, "rev-parse", "v1")
    (remote / ".git").rename(tmp_path / "gone")
    again = prepare(
        job(f"git+file://{remote}@{commit}#flows/main.wdl", outputs=OUTPUTS, params={"n": 2}),
        Definitions((tmp_path / "work",)),
    )
    assert again.package == prepared.package


def test_a_branch_stays_the_same_within_a_run(remote: Path, tmp_path: Path) -> None:
    clones = Repositories(tmp_path / "clones")
    place = Place(f"file://{remote}", "main", "flows/main.wdl")
    first = clones.file(place, "")
    (remote / "flows" / "main.wdl").write_text(WORKFLOW + "# newer\n")
    git(remote, "commit", "--quiet", "-am", "two")
    assert clones.file(place, "") == first
    newer = Repositories(tmp_path / "clones").file(place, "")
    assert newer != first
    assert newer.read_text().endswith("# newer\n")
    assert not list((tmp_path / "clones").rglob(".git"))


@pytest.mark.parametrize(
    ("revision", "path", "words"),
    [
        ("v9", "flows/main.wdl", r"at v9 cannot be fetched: .*v9.*Check URL and revision"),
        ("v1", "flows/other.wdl", r"at v1 has no file flows/other\.wdl"),
    ],
)
def test_what_a_repository_does_not_have(
    remote: Path, tmp_path: Path, revision: str, path: str, words: str
) -> None:
    with pytest.raises(TakedaError, match=words):
        Repositories(tmp_path / "clones").file(Place(f"file://{remote}", revision, path), "S:1")


def test_a_link_that_leads_out_of_the_repository(remote: Path, tmp_path: Path) -> None:
    (remote / "flows" / "secret.wdl").symlink_to("/etc/passwd")
    git(remote, "add", ".")
    git(remote, "commit", "--quiet", "-m", "link")
    with pytest.raises(TakedaError, match=r"flows/secret\.wdl .* leads out of the repository"):
        Repositories(tmp_path / "clones").file(
            Place(f"file://{remote}", "main", "flows/main.wdl"), "S:1"
        )


def test_git_is_given_nothing_to_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Any] = []

    def run(words: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
        seen.append((words, more["env"]))
        return subprocess.CompletedProcess(words, 1, "", "no")

    monkeypatch.setattr(repositories.subprocess, "run", run)
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    with pytest.raises(TakedaError):
        Repositories(tmp_path).file(Place("https://h/o/n", "v1", "main.wdl"), "S:1")
    ((words, environment),) = seen
    assert "core.hooksPath=/dev/null" in words
    assert environment["GIT_TERMINAL_PROMPT"] == "0"
    assert "ext" not in environment["GIT_ALLOW_PROTOCOL"]
    assert "GIT_DIR" not in environment
