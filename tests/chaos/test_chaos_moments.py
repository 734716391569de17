"""Which moments are drawn, and how the harness knows that one has come."""

from __future__ import annotations

import random
import re
import sqlite3
import time
from collections import Counter
from pathlib import Path

from tests.chaos.__main__ import _parser, main
from tests.chaos.moments import EVENTS, Watch, draw
from tests.chaos.recording import LEDGER, read_ledger

DOCS = Path(__file__).parents[2] / "docs/chaos.md"


def test_a_seed_draws_the_same_moments_again() -> None:
    one, same, other = (
        [draw(numbers, 20) for _ in range(5)]
        for numbers in (random.Random(7), random.Random(7), random.Random(8))
    )
    assert one == same != other


def test_a_hundred_kills_are_spread_over_all_phases() -> None:
    numbers = random.Random(1)
    drawn = [draw(numbers, 20) for _ in range(100)]
    words = Counter(moment.what for moment in drawn)
    assert words.keys() >= {"began", "intent", "request", "accepted", "started", "succeeded"}
    assert 30 <= sum(moment.whole_group for moment in drawn) <= 70
    assert {moment.call for moment in drawn if moment.what == "intent"} == {"", "slow", "lost"}


def test_events_count_from_the_controllers_start_and_half_a_line_does_not(tmp_path: Path) -> None:
    log = tmp_path / EVENTS
    log.parent.mkdir(parents=True)
    log.write_text('{"event": "started"}\n{"event": "sta')
    watch = Watch(tmp_path)
    assert watch.count("started") == 0
    with log.open("a") as stream:
        stream.write('rted"}\n{"event": "started"}\n{"event": "succ')
        stream.flush()
        assert watch.count("started") == 1
        stream.write('eeded"}\n')
    assert watch.count("started") == 1
    assert watch.count("succeeded") == 1


def ledger(folder: Path) -> sqlite3.Connection:
    (folder / LEDGER).parent.mkdir(parents=True)
    db = sqlite3.connect(folder / LEDGER, isolation_level=None)
    db.execute(
        "create table submission (submission_id, backend, external_id, intent_at, answered_at)"
    )
    db.execute("create table task (task_id, submission_id, rule, wildcards, state, external_id)")
    return db


def test_intents_and_answers_are_seen_in_the_ledger_as_they_come(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    assert watch.count("intent") == 0
    db = ledger(tmp_path)
    db.execute("insert into submission values ('old', 'batch', 'x', 1, 1)")
    assert watch.count("intent") == 0
    db.execute("insert into submission values ('new', 'batch', null, ?, null)", (time.time(),))
    assert (watch.count("intent"), watch.count("accepted")) == (1, 0)
    db.execute("update submission set answered_at = ? where submission_id = 'new'", (time.time(),))
    assert watch.count("accepted") == 1
    assert watch.count("request") == 0
    watch.close()


def test_the_ledgers_ids_are_those_of_tasks_submissions_and_hand_offs(tmp_path: Path) -> None:
    assert read_ledger(tmp_path).tasks == ()
    db = ledger(tmp_path)
    db.execute("insert into submission values ('s', 'batch', 'array', 1, 1)")
    db.execute("insert into task values ('t', 's', 'align', '{}', 'intent', null)")
    db.execute("create table handoff (run_id)")
    db.execute("insert into handoff values ('123'), (null)")
    found = read_ledger(tmp_path)
    assert [(task.what, task.state, task.backend) for task in found.tasks] == [
        ("align", "intent", "batch")
    ]
    assert found.external_ids == {("batch", "array"), ("healthomics", "123")}


def test_the_harness_explains_itself_as_its_page_does() -> None:
    said = _parser().format_help()
    assert "example: python -m tests.chaos" in said
    options, documented = (
        set(re.findall(r"--[a-z][a-z-]+", text)) for text in (said, DOCS.read_text())
    )
    assert documented - options == {"--rerun-incomplete", "--unlock"}


def test_an_unknown_fault_is_refused_before_anything_is_started() -> None:
    assert main(["--faults", "throttle=0.3"]) == 2
