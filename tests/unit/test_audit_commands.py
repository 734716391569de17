"""`takeda audit`: what it prints of a log, and the crates it makes of one."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from snakemake_executor_takeda.audit import facts, identity
from snakemake_executor_takeda.cli import main
from snakemake_executor_takeda.events import NO_JOB, EventLog, about
from snakemake_executor_takeda.ledger import Ledger
from snakemake_executor_takeda.outputs import S3Object
from snakemake_executor_takeda.values import ANY_LAUNCHER, File, JobSpec, Shape, Target

SPOT, ON_DEMAND = Target("spot", "batch"), Target("od", "batch")
IMAGE = "quay.io/bio/samtools:1.9@sha256:" + "ab" * 32
VALIDATOR = Path(sys.prefix) / "rocrate-validator/bin/python"


def job(number, rule, **wildcards):
    return about(JobSpec(number, rule, wildcards, 1, Shape(), {}))


def write_run(folder, run_id, *, is_ended=True):
    """The log and the ledger of a run: one job that was lost once, one that failed."""
    state = folder / ".snakemake/takeda"
    state.mkdir(parents=True, exist_ok=True)
    snakefile = folder / "Snakefile"
    snakefile.write_text("rule all:\n    input: 'x'\n")
    log, ledger = EventLog(state / "events.jsonl", run_id), Ledger(state / "ledger.sqlite", run_id)
    begun = {
        "who": "ann@head",
        "versions": {"takeda": "0.1.0", "snakemake": "9.27.1"},
        "workflow": {**identity.file_facts(snakefile), "commit": "c0" * 20, "changed": True},
        "workdir": str(folder),
    }
    log.write("run", NO_JOB, None, None, begun)
    one, other = job(1, "align", sample="A 1"), job(2, "call")
    inputs = [{"uri": "s3://b/in put#1.fq"}, {"path": "data/ü.fa"}]
    asked = {"resources": {"cpus": 2, "mem_mb": 4000}, "container": IMAGE, "inputs": inputs}
    log.write("placed", one, SPOT, None, {"reasons": ["default"], **asked})
    log.write("submitted", one, SPOT, "j:1", {"submission": "j", "tasks": 2})
    log.write("started", one, SPOT, "j:1", {})
    lost = {"kind": "interrupted", "reason": "Host EC2 (instance i-1) terminated."}
    log.write("interrupted", one, SPOT, "j:1", lost)
    again = {"reason": "sent again after: interrupted 3 times on spot", "delay_seconds": 12.3}
    log.write("resubmitted", one, ON_DEMAND, None, again)
    log.write("submitted", one, ON_DEMAND, "k", {"submission": "k", "tasks": 1})
    used = {"wall_seconds": 65.0, "cpu_seconds": 61.0, "max_rss_kib": 2_000_000}
    made = [{"uri": "s3://b/out.bam", "etag": "e7a6", "version": "v3", "bytes": 12}]
    log.write("succeeded", one, ON_DEMAND, "k", {**used, "outputs": made})
    log.write("placed", other, SPOT, None, {"reasons": ["route 1"], "inputs": made})
    log.write("failed", other, SPOT, "m", {"kind": "user", "reason": "no genome", "exit_code": 2})
    if is_ended:
        told = {"status": "ended", "wall_seconds": 70.0, "totals": dict(log.counts)}
        log.write("run_end", NO_JOB, None, None, told)
        ledger.note_end_of_event_log(log.sync())
    log.close()
    ledger.close()
    return state / "events.jsonl"


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path, "r1")
    return tmp_path


def takeda(capsys, *words):
    status = main(["audit", *words])
    return status, capsys.readouterr()


def test_a_log_in_order(project, capsys):
    status, said = takeda(capsys, "verify")
    lines = said.out.splitlines()
    assert (status, lines[0]) == (0, "the ledger knows its end after 1 run")
    assert lines[1] == ".snakemake/takeda/events.jsonl: 11 lines, none changed, removed or inserted"
    number, sha256 = lines[2].removeprefix("end of the log: ").split(":")
    assert (number, len(sha256)) == ("11", 64)


def test_what_was_done_to_a_log_is_told(project, capsys):
    log = project / ".snakemake/takeda/events.jsonl"
    _, before = takeda(capsys, "verify", "--json")
    head = json.loads(before.out)["head"]
    lines = log.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b"j:1", b"j:2")
    log.write_bytes(b"".join(lines[:6] + lines[7:]))
    status, said = takeda(capsys, "verify")
    assert status == 1
    assert "line 4 was changed: line 5 holds another hash of it" in said.out
    assert "line 7 was removed, after line 6 of this file" in said.out
    assert "2 problems in 10 lines" in said.out
    status, said = takeda(capsys, "verify", str(log), "--json")
    problems = [(one["kind"], one["last_line"]) for one in json.loads(said.out)["problems"]]
    assert (status, problems) == (1, [("changed", 4), ("removed", 6)])
    log.write_bytes(b"".join(lines[:3]))
    status, said = takeda(capsys, "verify")
    assert status == 1
    assert "the log once ended with a line 11 that is not here, 8 more than there are" in said.out
    log.with_name("ledger.sqlite").unlink()
    status, said = takeda(capsys, "verify")
    assert status == 0
    assert "there is no ledger beside it: whether lines are cut off at the end is not" in said.out
    assert takeda(capsys, "verify", "--head", head)[0] == 1


# Root may write whatever the modes say: without this capability it may not (prctl(2), capabilities(7)).
NO_RIGHTS_OF_ROOT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(24, 1)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_a_log_that_lies_where_nobody_may_write_is_looked_at_with_its_ledger(project):
    """As on a disk that is mounted read-only, where SQLite cannot make its files beside the ledger."""
    state = project / ".snakemake/takeda"
    takeda = Path(sys.executable).with_name("takeda")
    command = [sys.executable, "-c", NO_RIGHTS_OF_ROOT, takeda, "audit", "verify"]
    for path in (*state.iterdir(), state):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        done = [subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)]
        assert not list(state.glob("ledger.sqlite-*"))
        # Only the ledger knows that a line is gone at the end.
        log = state / "events.jsonl"
        log.chmod(0o644)
        log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))
        done += [subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)]
    finally:
        state.chmod(0o755)
    assert done[0].returncode == 0, done[0].stdout + done[0].stderr
    assert done[1].returncode == 1, done[1].stdout + done[1].stderr


def test_a_ledger_that_is_none_is_told(project, capsys):
    (project / ".snakemake/takeda/ledger.sqlite").write_bytes(b"no database" * 1000)
    status, said = takeda(capsys, "verify")
    assert status == 0
    assert "ledger.sqlite cannot be read (file is not a database)" in said.out


def test_a_log_that_is_not_there_is_told_without_a_traceback(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in (["verify"], ["show"], ["export", "--ro-crate", "c"]):
        status, said = takeda(capsys, *words)
        assert status == 1
        assert said.err.startswith("takeda: cannot read .snakemake/takeda/events.jsonl: No such")


def test_the_history_of_a_job_is_told_in_sentences(project, capsys):
    status, said = takeda(capsys, "show", "--rule", "al*")
    lines = said.out.splitlines()
    assert status == 0
    assert lines[0] == "align (sample=A 1), job 1 of run r1"
    assert [line[23:] for line in lines[1:]] == [
        f"placed on spot: default; it asks for 2 CPUs, 4,000 MB of memory; its container is {IMAGE}; "
        "it reads s3://b/in put#1.fq, data/ü.fa",
        "sent to spot (batch) as j:1, with 1 other",
        "started",
        "failed on spot (j:1), interrupted: Host EC2 (instance i-1) terminated.",
        "sent again to od in 12 s: interrupted 3 times on spot",
        "sent to od (batch) as k",
        "succeeded after 1 min 05 s; it used 1 min 01 s of CPU time and at most 2,048 MB; "
        "it made s3://b/out.bam (version v3)",
    ]
    _, said = takeda(capsys, "show", "--job", "2")
    assert said.out.splitlines()[-1].endswith(
        "failed on spot (m), user, exit code 2: no genome; reported to Snakemake"
    )


def test_all_is_told_where_nothing_is_asked_for(project, capsys):
    _, said = takeda(capsys, "show")
    assert (
        "run r1\n" in said.out and "job 1 of run r1" in said.out and "job 2 of run r1" in said.out
    )
    assert "ann@head begins it with takeda 0.1.0 and Snakemake 9.27.1" in said.out
    assert f"at commit {'c0' * 20} with changes of its own" in said.out
    assert "it ends after 1 min 10 s: 1 succeeded, 1 failed, 1 resubmitted" in said.out
    _, said = takeda(capsys, "show", "--json")
    assert [one["job_id"] for one in json.loads(said.out)] == [None, 1, 2]


def test_what_no_job_fits_is_told(project, capsys):
    status, said = takeda(capsys, "show", "--rule", "algin", "--run", "r1")
    assert status == 1
    assert "tells of no job of rule algin, run r1" in said.err


def test_a_history_from_a_changed_log_comes_with_a_warning(project, capsys):
    log = project / ".snakemake/takeda/events.jsonl"
    log.write_bytes(log.read_bytes().replace(b"no genome", b"no reason"))
    status, said = takeda(capsys, "show", "--job", "2")
    assert (status, said.err) == (
        0,
        "takeda: the log is not as it was written: see `takeda audit verify`\n",
    )


# RO-Crates.


def crate_of(folder):
    graph = json.loads((folder / "ro-crate-metadata.json").read_text())["@graph"]
    return {entity["@id"]: entity for entity in graph}


def test_a_crate_tells_of_the_run_and_its_jobs(project, capsys):
    status, said = takeda(capsys, "export", "--ro-crate", "crate")
    assert (status, said.out) == (0, "crate: run r1 with 2 jobs\n")
    crate = crate_of(project / "crate")
    root, run, align, call = (crate[one] for one in ("./", "#run-r1", "#job-r1-1", "#job-r1-2"))
    assert {one["@id"] for one in root["conformsTo"]} >= {
        "https://w3id.org/ro/wfrun/process/0.5",
        "https://w3id.org/ro/wfrun/workflow/0.5",
    }
    assert crate["Snakefile"]["version"] == f"{'c0' * 20}, with changes"
    assert run["instrument"] == root["mainEntity"] == {"@id": "Snakefile"}
    assert run["agent"] == align["agent"] == {"@id": "#ann@head"}
    # What a job made and another read is neither an input nor an output of the run.
    data = (project / "data/ü.fa").as_uri()
    assert run["object"] == [{"@id": "s3://b/in%20put%231.fq"}, {"@id": data}]
    assert "result" not in run
    assert align["result"] == {"@id": "s3://b/out.bam"} == call["object"]
    assert crate["s3://b/out.bam"]["version"] == "v3"
    assert align["actionStatus"].endswith("CompletedActionStatus")
    assert call["actionStatus"].endswith("FailedActionStatus") and call["error"] == "no genome"
    assert align["identifier"] == "k" and "default" in align["description"]
    image = crate[align["containerImage"]["@id"]]
    assert (image["registry"], image["name"], image["tag"]) == ("quay.io", "bio/samtools", "1.9")
    assert image["sha256"] == "ab" * 32
    log = project / ".snakemake/takeda/events.jsonl"
    assert (project / "crate/events.jsonl").read_bytes() == log.read_bytes()
    assert (project / "crate/Snakefile").read_bytes() == (project / "Snakefile").read_bytes()


def test_a_crate_is_zipped_where_its_name_says_so_and_is_of_the_run_that_is_asked_for(
    project, capsys
):
    write_run(project, "r2", is_ended=False)
    status, said = takeda(capsys, "export", "--ro-crate", "new/run.zip", "--run", "r1")
    assert (status, said.out) == (0, "new/run.zip: run r1 with 2 jobs\n")
    with zipfile.ZipFile("new/run.zip") as file:
        assert set(file.namelist()) == {"Snakefile", "events.jsonl", "ro-crate-metadata.json"}
    status, said = takeda(capsys, "export", "--ro-crate", "crate")
    assert (status, said.out) == (0, "crate: run r2 with 2 jobs\n")
    assert crate_of(project / "crate")["#run-r2"]["actionStatus"].endswith("FailedActionStatus")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ro-crate", "there"], "there is there already: name a new directory"),
        (["--ro-crate", "c", "--run", "r9"], "tells of no run r9: there are r1"),
        (["--ro-crate", "c", "--snakefile", "gone"], "there is no Snakefile gone"),
        (["--ro-crate", "c", "--snakefile", "other"], "other is not as the run had it"),
    ],
)
def test_a_crate_that_cannot_be_made(project, capsys, words, said):
    (project / "there").mkdir()
    (project / "other").write_text("rule all:\n")
    status, told = takeda(capsys, "export", *words)
    assert status == 1 and said in told.err
    assert not (project / "c").exists()


def test_without_the_library_the_extra_is_named(project, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "rocrate", None)
    monkeypatch.setitem(sys.modules, "rocrate.rocrate", None)
    status, said = takeda(capsys, "export", "--ro-crate", "c")
    assert status == 1
    assert "pip install 'snakemake-executor-plugin-takeda[rocrate]'" in said.err


def test_the_communitys_validator_takes_a_crate_and_not_what_is_none(project, capsys):
    if not VALIDATOR.exists():
        pytest.skip(f"there is no {VALIDATOR}: `make setup` makes it")
    takeda(capsys, "export", "--ro-crate", "crate")
    takeda(capsys, "export", "--ro-crate", "crate.zip")
    takeda(capsys, "export", "--ro-crate", "bad")
    metadata = project / "bad/ro-crate-metadata.json"
    text = metadata.read_text()
    instrument = '"instrument": {\n                "@id": "#rule-align"'
    assert instrument in text
    metadata.write_text(text.replace(instrument, instrument.replace("#rule-align", "#nobody")))
    script = Path(__file__).with_name("validate_crate.py")
    done = subprocess.run(
        [VALIDATOR, script, "REQUIRED", "crate", "crate.zip", "bad"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    good, zipped, bad = json.loads(done.stdout)
    assert (good, zipped) == ([], [])
    assert any("MUST have an instrument" in message for _, message in bad)


# What is written down.


def test_files_are_told_with_what_is_known_of_them():
    known = {"s3://b/1": S3Object("e", None, 7)}
    those = [File("a", "s3://b/1"), File("b", "s3://b/2"), File("c", None)]
    assert facts.files(those, known.get) == [
        {"uri": "s3://b/1", "etag": "e", "bytes": 7},
        {"uri": "s3://b/2"},
        {"path": "c"},
    ]


def test_what_is_asked_for_is_told_without_the_launcher():
    shape = Shape(cpus=2, mem_mb=10, nodes=2, tasks=4, mpi="mpirun -x TOKEN=secret")
    assert facts.asked(shape) == {"cpus": 2, "mem_mb": 10, "nodes": 2, "tasks": 4}
    assert facts.asked(Shape(mpi=ANY_LAUNCHER)) == {"cpus": 1}


def git(folder, *words):
    identity_of = ["-c", "user.name=x", "-c", "user.email=x@y.z"]
    subprocess.run(["git", "-C", folder, *identity_of, *words], check=True, capture_output=True)


def test_the_commit_of_a_workflow_and_whether_its_files_differ(tmp_path):
    git(tmp_path, "init")
    (tmp_path / "Snakefile").write_text("a")
    assert identity.asked_for_commit(tmp_path)() == {"commit": None}
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "one")
    git(tmp_path, "tag", "v1")
    clean = identity.asked_for_commit(tmp_path)()
    assert len(clean["commit"]) == 40 and clean["changed"] is False
    (tmp_path / "other").write_text("git does not keep it")
    assert identity.asked_for_commit(tmp_path)() == clean
    (tmp_path / "Snakefile").write_text("b")
    assert identity.asked_for_commit(tmp_path)() == {**clean, "changed": True}


def test_without_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert identity.asked_for_commit(tmp_path)() == {"commit": None}


def test_a_file_that_cannot_be_read_is_told_by_its_name(tmp_path):
    assert identity.file_facts(tmp_path / "none") == {"path": str(tmp_path / "none")}
