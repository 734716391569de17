"""Workflows and files of others: what they may not reach, and that they end in one clear error."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from snakemake_executor_takeda.backends.healthomics import input_json
from snakemake_executor_takeda.backends.healthomics.definitions import Definitions, open_definition
from snakemake_executor_takeda.backends.slurm.partition_file import read_partition_file
from snakemake_executor_takeda.plain_data import parse_json, parse_yaml
from snakemake_executor_takeda.routing.source import read_yaml
from snakemake_executor_takeda.sandbox.omics import limits
from snakemake_executor_takeda.sandbox.omics.definitions import unpack
from snakemake_executor_takeda.values import TakedaError

SECRET = "aws_secret_access_key = hush"
WDL = "version 1.0\nworkflow w {{ call t }}\ntask t {{ command <<< {} >>> }}\n"


def laughs(levels: int = 9) -> str:
    """Some 200 bytes of YAML that stand for 10 ** levels values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


# ---- YAML and JSON

DEEP = "[" * 3_000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (laughs(), "more than .* values once its aliases"),
        ("a: &a [*a]", "nested deeper|too deep|aliases"),
        (DEEP, "nested"),
        ("x" * 20_000_000, "larger than"),
        ("version: !!python/object/apply:os.system [touch pwned]", "tag"),
        ("version: 1\ntargets: {a: {backend: !!python/name:os.system }}\ndefault: a", "tag"),
    ],
)
def test_a_policy_that_is_no_policy(tmp_path, monkeypatch, text, said):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "routing.yaml"
    path.write_text(text)

    def read():
        document = read_yaml(path, {})
        document.problems.raise_any()

    with pytest.raises(TakedaError, match=said) as refused:
        read()
    assert len(str(refused.value)) < 1000
    assert not Path("pwned").exists()


@pytest.mark.parametrize("text", [laughs(), "a: &a [*a]", "a: &a {b: *a}", DEEP])
def test_yaml_is_bounded(text):
    with pytest.raises(ValueError, match=r"nested too deeply|values once its aliases"):
        parse_yaml(text)


def test_aliases_as_people_use_them():
    assert parse_yaml("a: &x [1, 2]\nb: *x") == {"a": [1, 2], "b": [1, 2]}


def test_json_is_bounded():
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json(DEEP)


@pytest.mark.parametrize("text", [laughs(), DEEP, "!!python/object/apply:os.system [touch pwned]"])
def test_a_partition_file_of_others(tmp_path, text):
    path = tmp_path / "partitions.yaml"
    path.write_text(text)
    with pytest.raises(TakedaError, match="can't be read"):
        read_partition_file(path)


@pytest.mark.parametrize(("name", "text"), [("i.yml", laughs()), ("i.yml", DEEP), ("i.json", DEEP)])
def test_a_file_of_inputs_of_others(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(TakedaError, match="cannot be read"):
        input_json.read(name, "w", (tmp_path,))


# ---- workflows


def test_a_wdl_nested_beyond_reason(tmp_path):
    path = tmp_path / "deep.wdl"
    path.write_text(f"version 1.0\nworkflow w {{ Int x = {'[' * 5000}1{']' * 5000} }}\n")
    with pytest.raises(TakedaError, match="nested too deeply"):
        open_definition(path)


@pytest.mark.parametrize("place", ["https://evil.example/t.wdl", "http://169.254.169.254/latest"])
def test_a_wdl_that_imports_from_the_network(tmp_path, place):
    path = tmp_path / "main.wdl"
    path.write_text(f'version 1.0\nimport "{place}" as other\nworkflow w {{ }}\n')
    with pytest.raises(TakedaError, match="network"):
        open_definition(path)


CWL = """cwlVersion: v1.2
class: CommandLineTool
baseCommand: "true"
inputs:
  x: {type: File, default: {class: File, location: PLACE}}
outputs: []
"""


@pytest.fixture
def _cwltool():
    pytest.importorskip("cwltool", reason="cwltool is not installed: pip install '.[cwl]'")


@pytest.mark.usefixtures("_cwltool")
def test_a_cwl_that_is_a_bomb(tmp_path):
    path = tmp_path / "main.cwl"
    path.write_text(CWL.replace("PLACE", "x") + laughs())
    with pytest.raises(TakedaError, match="values once its aliases"):
        open_definition(path)


@pytest.mark.usefixtures("_cwltool")
@pytest.mark.parametrize("place", ["file:///etc/hostname", "/etc/hostname"])
def test_a_cwl_that_refers_to_elsewhere(tmp_path, place):
    path = tmp_path / "main.cwl"
    path.write_text(CWL.replace("PLACE", place))
    with pytest.raises(TakedaError):
        open_definition(path).package({})


@pytest.mark.usefixtures("_cwltool")
def test_a_cwl_directory_with_a_link_that_leads_out(tmp_path):
    (tmp_path / "secret").write_text(SECRET)
    flow = tmp_path / "flow"
    (flow / "data").mkdir(parents=True)
    (flow / "data/x").symlink_to(tmp_path / "secret")
    text = CWL.replace("type: File", "type: Directory").replace("class: File", "class: Directory")
    (flow / "main.cwl").write_text(text.replace("PLACE", "data"))
    with pytest.raises(TakedaError, match=r"x is a link that leads out of .*data"):
        open_definition(flow / "main.cwl").package({})


def test_a_nextflow_pipeline_with_a_link_that_leads_out(tmp_path):
    (tmp_path / "secret").write_text(SECRET)
    flow = tmp_path / "flow"
    flow.mkdir()
    (flow / "main.nf").write_text("workflow { }\n")
    (flow / "inside.txt").symlink_to("main.nf")
    open_definition(flow)
    (flow / "notes.txt").symlink_to("../secret")
    with pytest.raises(TakedaError, match=r"notes\.txt is a link that leads out of .*flow"):
        open_definition(flow)


@pytest.fixture
def repository(tmp_path):
    """A function that commits files and returns the address without what comes after #."""

    def make(files: dict[str, str]) -> str:
        place = tmp_path / "repository"
        for name, text in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(text)
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "a"], ["tag", "v1"]):
            subprocess.run(["git", *identity, *words], cwd=place, check=True, capture_output=True)
        return f"git+file://{place}@v1"

    return make


def climbing(tmp_path: Path) -> str:
    """From a clone below the working directory to a file of this machine."""
    clone = tmp_path / "work/.snakemake/takeda/repositories/0123456789abcdef" / ("0" * 40)
    return os.path.relpath(tmp_path / "private", clone / "flows")


def test_a_repositorys_wdl_may_not_leave_it(tmp_path, repository):
    (tmp_path / "work").mkdir()
    (tmp_path / "private").mkdir()
    (tmp_path / "private/t.wdl").write_text(f"version 1.0\ntask t {{ command <<< {SECRET} >>> }}\n")
    main = f'version 1.0\nimport "{climbing(tmp_path)}/t.wdl" as o\nworkflow w {{ call o.t }}\n'
    named = f"{repository({'flows/main.wdl': main})}#flows/main.wdl"
    with pytest.raises(TakedaError, match=r"refers to .*private/t\.wdl, which lies outside"):
        Definitions((tmp_path / "work",)).named(named, "Snakefile:1")


@pytest.mark.usefixtures("_cwltool")
def test_a_repositorys_cwl_may_not_leave_it(tmp_path, repository):
    (tmp_path / "work").mkdir()
    (tmp_path / "private").mkdir()
    (tmp_path / "private/credentials").write_text(SECRET)
    main = CWL.replace("PLACE", f"{climbing(tmp_path)}/credentials")
    named = f"{repository({'flows/main.cwl': main})}#flows/main.cwl"
    with pytest.raises(TakedaError, match=r"refers to .*private/credentials, which lies outside"):
        Definitions((tmp_path / "work",)).named(named, "Snakefile:1")


def test_a_repositorys_own_files_are_its_own(tmp_path, repository):
    (tmp_path / "work").mkdir()
    task = "version 1.0\ntask t { command <<< true >>> }\n"
    main = 'version 1.0\nimport "../lib/t.wdl" as o\nworkflow w { call o.t }\n'
    named = repository({"flows/main.wdl": main, "lib/t.wdl": task})
    found = Definitions((tmp_path / "work",)).named(f"{named}#flows/main.wdl", "Snakefile:1")
    assert found.name == "w"


# ---- zips, where they are read: the sandbox


def packed(*entries: tuple[str | zipfile.ZipInfo, bytes], **how: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **how) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "/etc/x", "\\x", "..\\x", "C:\\x", "a/..", "./../x", "..", "/"],
)
def test_a_zip_that_leaves_its_directory(tmp_path, name):
    inside = tmp_path / "inside"
    inside.mkdir()
    with pytest.raises(TakedaError, match=r"unsafe path|no readable zip"):
        unpack(packed((name, b"x")), inside)
    assert [path.name for path in tmp_path.rglob("*")] == ["inside"]


def test_a_zip_with_a_link_makes_none(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    unpack(packed((link, b"/etc"), ("link2", b"x")), tmp_path)
    assert not (tmp_path / "link").is_symlink()
    with pytest.raises(TakedaError):
        unpack(packed(("link/passwd", b"x")), tmp_path)


def test_a_zip_that_is_a_bomb(tmp_path):
    with pytest.raises(TakedaError, match="larger than 100 MiB"):
        unpack(packed(("a", bytes(101 << 20)), compression=zipfile.ZIP_DEFLATED), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_zip_that_lies_about_its_size(tmp_path):
    """It says 5 bytes and holds 50 MiB: no more than it says is ever unpacked."""
    bomb = bytearray(packed(("a", bytes(50 << 20)), compression=zipfile.ZIP_DEFLATED))
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", bomb, bomb.index(mark) + offset, 5)
    with pytest.raises(TakedaError, match="no readable zip"):
        unpack(bytes(bomb), tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 5


def test_a_zip_of_too_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "DEFINITION_FILES", 10)
    with pytest.raises(TakedaError, match="more than 10 files"):
        unpack(packed(*((str(n), b"") for n in range(11))), tmp_path)


def test_zips_that_cannot_be_read(tmp_path):
    with_password = bytearray(packed(("a", b"x")))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        with_password[with_password.index(mark) + offset] |= 1
    broken = bytearray(packed(("a", os.urandom(1000)), compression=zipfile.ZIP_DEFLATED))
    broken[40:60] = bytes(20)
    for content in (b"", b"PK", b"x" * 1000, bytes(with_password), bytes(broken)):
        with pytest.raises(TakedaError, match="no readable zip"):
            unpack(content, tmp_path)


# ---- files that a run leaves in S3


def test_a_directory_in_s3_stays_in_its_place(tmp_path):
    """A job may write any key below its directory's prefix."""
    from snakemake_executor_takeda.outputs import OutputCheck
    from snakemake_executor_takeda.values import File

    keys = ["d/ok", "d/../../escaped", "d//etc/x", "d/a/../../../escaped", "d/"]

    class S3:
        def get_paginator(self, _):
            return self

        def paginate(self, **_):
            return [{"Contents": [{"Key": key} for key in keys]}]

        def download_file(self, bucket, key, path):
            Path(path).write_text(key)

    check = OutputCheck(S3())
    check.fetch_directory(File(str(tmp_path / "here/d"), "s3://b/d", is_directory=True))
    check.close()
    written = [
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()
    ]
    assert written == ["here/d/ok"]


# ---- the environment


@pytest.mark.parametrize(
    "value", ["a=b=c", "two\nlines", "$(touch pwned)", "'\"; touch pwned", "ünï"]
)
def test_a_variable_reaches_a_task_as_it_is(tmp_path, value):
    """As delivered with `envvars:`: as JSON, never through a shell."""
    variables = tmp_path / "environment.json"
    variables.write_text(json.dumps({"TOKEN": value}))
    code = "import os, pathlib; pathlib.Path('seen').write_text(os.environ['TOKEN'])"
    entry = {"task_id": "t", "argv": [sys.executable, "-c", code], "workdir": str(tmp_path)}
    entry |= {"environment_uri": str(variables), "sources_uri": None}
    from snakemake_executor_takeda.worker.__main__ import _run

    assert _run(entry, None) == 0
    assert (tmp_path / "seen").read_text() == value
    assert not (tmp_path / "pwned").exists()


# ---- what is shown

OBEYED = "\x1b]0;renamed\x07 \x1b[2Jgone \x9b31m\r\x08 é\ttab"


def test_what_a_job_prints_is_not_obeyed():
    from snakemake_executor_takeda.reporting.failures import failure_text
    from snakemake_executor_takeda.values import FailureKind, Outcome

    outcome = Outcome(FailureKind.USER, reason=f"said {OBEYED}", log_tail=(OBEYED, "second"))
    text = failure_text(None, None, outcome)
    assert not [letter for letter in text if not letter.isprintable() and letter not in "\n\t"]
    assert "é\ttab" in text and "second" in text


def test_what_the_log_of_events_tells_is_not_obeyed(tmp_path, capsys):
    from snakemake_executor_takeda.cli import main

    log = tmp_path / "events.jsonl"
    common = {"run_id": "r", "job_id": 1, "rule": "a", "wildcards": {"x": OBEYED}, "attempt": 1}
    common |= {"time": "2026-01-01T00:00:00.000+00:00", "target": "t", "external_id": None}
    events = [
        common | {"event": "placed", "detail": {"reasons": ["default"]}},
        common | {"event": "failed", "detail": {"kind": "user", "reason": OBEYED}},
    ]
    log.write_text("".join(f"{json.dumps(event)}\n" for event in events))
    assert main(["audit", "show", str(log)]) == 0
    out = capsys.readouterr().out
    assert "gone" in out
    assert not [letter for letter in out if not letter.isprintable() and letter not in "\n\t"]
