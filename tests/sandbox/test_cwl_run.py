"""CWL on this machine: cores, streams, failures, the end of all tasks by a signal, run groups."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_takeda.backends.healthomics import cwl
from snakemake_executor_takeda.sandbox import processes
from snakemake_executor_takeda.sandbox.cwl_run import run_workflow
from snakemake_executor_takeda.sandbox.plain_path import plain
from snakemake_executor_takeda.sandbox.wdl_run import (
    GROUP_LIMITS,
    GROUP_VARIABLE,
    WorkflowFailed,
)
from tests.healthomics.conftest import wait_for

pytest.importorskip("cwltool", reason="cwltool is not installed: pip install '.[cwl]'")

SCATTER = """cwlVersion: v1.2
class: Workflow
requirements: {ScatterFeatureRequirement: {}}
inputs: {words: 'string[]'}
outputs: {said: {type: 'File[]', outputSource: say/said}}
steps:
  say:
    scatter: word
    in: {word: words}
    out: [said]
    run: say.cwl
"""
SAY = """cwlVersion: v1.2
class: CommandLineTool
hints: {ResourceRequirement: {coresMin: 64, ramMin: 9000000}}
baseCommand: COMMAND
inputs: {word: {type: string, inputBinding: {position: 1}}}
stdout: said.txt
STREAMoutputs: {said: stdout}
"""


def run(path: Path, command: str, stream: str = "", **more: Any) -> dict[str, Any]:
    """Both words by a command; as many tasks."""
    (path / "say.cwl").write_text(SAY.replace("COMMAND", command).replace("STREAM", stream))
    (path / "main.cwl").write_text(SCATTER)
    return run_workflow(cwl.load(path / "main.cwl"), {"words": ["a b", "c"]}, path / "run", **more)


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(one.read_text()) for one in sorted(path.glob("run/call-*/task.json"))]


def test_a_task_that_asks_for_more_than_there_is_gets_all(tmp_path: Path) -> None:
    found = run(tmp_path, "[echo]", cores=1)
    assert [Path(one["location"]).read_text() for one in found["said"]] == ["a b\n", "c\n"]
    first, second = sorted(records(tmp_path), key=lambda one: one["started"])
    assert (first["cpus"], first["memory_bytes"], first["exit_code"]) == (64, 9000000 << 20, 0)
    assert first["ended"] <= second["started"]


def test_streams_of_a_task(tmp_path: Path) -> None:
    run(tmp_path, '[sh, -c, "echo out; echo err >&2"]', "stderr: own.txt\n")
    for folder in tmp_path.glob("run/call-*"):
        assert (folder / "stderr.txt").read_text() == "err\n"
        assert not (folder / "stdout.txt").exists()


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(WorkflowFailed) as failed:
        run(tmp_path, "[no-such-program]")
    assert failed.value.exit_code == 127
    assert failed.value.log_tail == ("no-such-program: No such file or directory",)


def test_tasks_see_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    found = run(tmp_path, "[sh, -c, env]")
    assert "AWS_" not in Path(found["said"][0]["location"]).read_text()


def test_a_signal_ends_tasks_and_what_they_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    def interrupt() -> None:
        wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 2)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, f'[sh, -c, "sleep 1000 & echo $! $$ >> {pids}; wait"]', cores=1)
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before
    for pid in pids.read_text().split():
        wait_for(lambda pid=pid: not processes.is_running(int(pid)))
    (record,) = records(tmp_path)  # The other task never began.
    assert (record["cancelled"], record["exit_code"]) == (True, 143)


def test_tasks_share_what_a_run_group_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = tmp_path / "group"
    group.mkdir()
    (group / GROUP_LIMITS).write_text('{"maxCpus": 1}')
    monkeypatch.setenv(GROUP_VARIABLE, str(group))
    run(tmp_path, "[echo]", cores=100)
    first, second = sorted(records(tmp_path), key=lambda one: one["started"])
    assert first["ended"] <= second["started"]
    assert [path.name for path in group.glob("*.json")] == [GROUP_LIMITS]


def test_a_plain_path_is_what_tasks_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd, temporary = tmp_path / "a é", tmp_path / "plain"
    odd.mkdir()
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    (odd / "in.txt").write_text("x")
    (odd / "see.cwl").write_text(SEE)
    with plain(odd) as link:
        given = {"one": {"class": "File", "location": str(odd / "in.txt")}}
        found = run_workflow(cwl.load(odd / "see.cwl"), given, link / "run")
        said = Path(found["said"]["location"]).read_text().split()
        assert (odd / "run/out/said.txt").is_file()
        # Moved there, not copied.
        assert [path.name for path in (odd / "run").rglob("said.txt")] == ["said.txt"]
    assert len(said) == 5
    assert all(one.startswith(f"{temporary}/takeda-run-") for one in said)
    assert list(temporary.iterdir()) == []


SEE = """cwlVersion: v1.2
class: CommandLineTool
requirements: {ShellCommandRequirement: {}, InlineJavascriptRequirement: {}}
inputs: {one: File}
arguments:
- {shellQuote: false, valueFrom: "pwd; echo $HOME $TMPDIR $(inputs.one.path) $(runtime.outdir)"}
stdout: said.txt
outputs: {said: stdout}
"""


def test_names_of_files_may_have_spaces_as_in_wdl(tmp_path: Path) -> None:
    (tmp_path / "a x.fq").write_text("x\n")
    (tmp_path / "cat.cwl").write_text(CAT)
    given = {"one": {"class": "File", "location": str(tmp_path / "a x.fq")}}
    found = run_workflow(cwl.load(tmp_path / "cat.cwl"), given, tmp_path / "run")
    assert Path(found["said"]["location"]).name == "a x.fq"


CAT = """cwlVersion: v1.2
class: CommandLineTool
baseCommand: cat
inputs: {one: {type: File, inputBinding: {}}}
stdout: $(inputs.one.basename)
outputs: {said: stdout}
"""


def test_a_job_that_cannot_be_made_says_why(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "main.cwl").write_text(SCATTER)
    bad = SAY.replace("COMMAND", "[echo]").replace("STREAM", LISTING)
    (tmp_path / "say.cwl").write_text(bad)
    with pytest.raises(WorkflowFailed, match=r"on step 'say'; Cannot make .* cannot start with"):
        run_workflow(cwl.load(tmp_path / "main.cwl"), {"words": ["a"]}, tmp_path / "run")
    (tmp_path / "say.cwl").write_text(bad.replace("../x", "$(inputs.nowhere.path)"))
    with pytest.raises(WorkflowFailed) as failed:
        run_workflow(cwl.load(tmp_path / "main.cwl"), {"words": ["a"]}, tmp_path / "other")
    assert failed.value.reason.count("inputs does not contain key 'nowhere'") == 1
    assert capfd.readouterr().err == ""


LISTING = """requirements: {InitialWorkDirRequirement: {listing: [{entryname: ../x, entry: a}]}}
"""
