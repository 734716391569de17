"""Records that must survive odd text and a full disk, and a table that must not misread names."""

import json
import os
import resource
import signal
import sqlite3

import pytest

from snakemake_executor_takeda.events import EventLog, about
from snakemake_executor_takeda.ledger import Ledger, last_run
from snakemake_executor_takeda.reporting.summary import Summary
from snakemake_executor_takeda.values import (
    Accepted,
    FailureKind,
    JobSpec,
    Outcome,
    Placement,
    Shape,
    Submission,
    Target,
    Task,
)

TARGET = Target("t", "fake")
NOT_UTF8 = os.fsdecode(b"caf\xe9")


def job(**changes):
    return JobSpec(1, changes.get("rule", "r"), changes.get("wildcards", {}), 1, Shape(), {})


def submission(number, tasks=1, **changes):
    spec = job(**changes)
    ids = [f"s{number}-t{n}" for n in range(tasks)]
    return Submission(f"s{number}", "n", TARGET, tuple(Task(i, spec, TARGET) for i in ids))


def states(path):
    with sqlite3.connect(path) as db:
        return dict(db.execute("select task_id, state from task").fetchall())


def test_the_ledger_follows_a_task_and_takes_any_text(tmp_path):
    ledger = Ledger(tmp_path / "l.sqlite", "run")
    one = submission(1, tasks=3, rule=NOT_UTF8, wildcards={"n": NOT_UTF8})
    ledger.intend(one)
    assert set(states(tmp_path / "l.sqlite").values()) == {"intent"}
    ledger.accept(one, Accepted("p", {task.task_id: "p:0" for task in one.tasks}))
    ledger.end({"s1-t0": Outcome(), "s1-t1": Outcome(FailureKind.USER, reason=NOT_UTF8)})
    ledger.cancel(["s1-t2"])
    ledger.close()
    assert states(tmp_path / "l.sqlite") == {
        "s1-t0": "succeeded",
        "s1-t1": "failed",
        "s1-t2": "cancelled",
    }


def test_the_ledger_keeps_what_a_task_used_also_in_a_file_of_an_older_version(tmp_path):
    ledger = Ledger(tmp_path / "l.sqlite", "run")
    ledger.close()
    with sqlite3.connect(tmp_path / "l.sqlite") as db:
        db.execute("alter table task drop column detail")
        db.execute("pragma user_version = 1")
    ledger = Ledger(tmp_path / "l.sqlite", "run")
    ledger.intend(submission(1))
    facts = {"nodes": "node-[1-2]", "cpu_seconds": 7.5, "max_rss_kib": 2048}
    ledger.end({"s1-t0": Outcome(wall_seconds=4.0, detail=facts)})
    ledger.close()
    with sqlite3.connect(tmp_path / "l.sqlite") as db:
        ((detail,),) = db.execute("select detail from task").fetchall()
        assert db.execute("pragma user_version").fetchone() == (5,)
    assert json.loads(detail) == {"wall_seconds": 4.0, **facts}


def test_a_run_of_an_older_version_can_be_cancelled(tmp_path):
    ledger = Ledger(tmp_path / "l.sqlite", "run")
    ledger.begin(tmp_path, tmp_path / "state", None, {"routing": "r.yaml"})
    ledger.close()
    with sqlite3.connect(tmp_path / "l.sqlite") as db:
        ((table,),) = db.execute("select sql from sqlite_master where name = 'run'").fetchall()
        db.execute("alter table run rename to newer")
        db.execute(table.replace("'cancelling', ", ""))
        db.execute("insert into run select * from newer")
        db.execute("drop table newer")
        db.execute("pragma user_version = 4")
    before = last_run(tmp_path / "l.sqlite")
    ledger = Ledger(tmp_path / "l.sqlite", "run")
    assert last_run(tmp_path / "l.sqlite") == before
    ledger.begin_cancelling()
    ledger.close()
    assert last_run(tmp_path / "l.sqlite").state == "cancelling"


def test_after_a_full_disk_the_ledger_goes_on(tmp_path):
    ledger = Ledger(tmp_path / "l.sqlite", "run")
    ledger.intend(submission(0))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    full = (tmp_path / "l.sqlite-wal").stat().st_size + 100
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (full, limits[1]))
        for number in (1, 2):
            with pytest.raises(sqlite3.Error):
                ledger.intend(submission(number, tasks=50))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, previous)
    ledger.intend(submission(3))
    ledger.close()
    assert set(states(tmp_path / "l.sqlite")) == {"s0-t0", "s3-t0"}


def test_an_event_is_one_json_object_a_line_whatever_its_text(tmp_path):
    log = EventLog(tmp_path / "e.jsonl", "run")
    log.write(
        "failed",
        about(job(wildcards={"n": NOT_UTF8})),
        TARGET,
        "id",
        {"reason": "a\nb", "log": "x"},
    )
    log.write("placed", about(job()), None, None, {})
    log.close()
    first, second = map(json.loads, (tmp_path / "e.jsonl").read_text().splitlines())
    assert first["wildcards"]["n"] == NOT_UTF8
    assert first["detail"] == {"reason": "a\nb", "log": "x"}
    assert (first["target"], second["target"]) == ("t", None)


def test_the_table_takes_names_as_they_are_and_targets_that_only_lost_jobs():
    summary = Summary()
    assert summary.text() == ""
    placement = Placement(TARGET, ("route [/x] matched",))
    summary.sent_again(job(), Placement(Target("spot", "batch"), ("default",)))
    summary.ended(job(rule="g[/b]"), placement, Outcome(wall_seconds=65))
    summary.ended(job(rule="g[/b]"), placement, Outcome(FailureKind.USER, wall_seconds=5))
    text = summary.text()
    assert "g[/b]" in text and "route [/x] matched" in text
    assert "2 (1 failed)" in text and "1 min 10 s (1 min 05 s)" in text
    assert "0 (1 sent again)" in text


def test_the_lines_below_the_table_tell_what_was_used_of_what_was_asked_for():
    summary, placement = Summary(), Placement(TARGET, ("default",))
    spec = JobSpec(1, "align", {}, 1, Shape(cpus=4, mem_mb=8000), {})
    used = {"cpu_seconds": 30.0, "max_rss_kib": 3_125_000}
    summary.ended(spec, placement, Outcome(wall_seconds=10.0, detail=used))
    summary.ended(spec, placement, Outcome(wall_seconds=10.0, detail={"cpu_seconds": 10.0}))
    summary.ended(spec, placement, Outcome(FailureKind.USER, wall_seconds=1e6, detail=used))
    summary.ended(job(rule="count"), placement, Outcome(wall_seconds=10.0))
    lines = summary.text().splitlines()
    assert lines[-1] == "align on t used 50 % of its CPUs and at most 3,200 of 8,000 MB (40 %)"
    assert not any(line.startswith("count on") for line in lines)


def test_the_table_counts_the_other_reasons():
    def text(*reasons):
        summary = Summary()
        for reason in reasons:
            summary.ended(job(), Placement(TARGET, (reason,)), Outcome())
        return summary.text()

    assert "a (and 1 other reason)" in text("a", "a", "b")
    assert "a (and 2 other reasons)" in text("a", "a", "b", "c")
