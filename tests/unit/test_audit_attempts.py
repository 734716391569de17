"""The submissions of a job and what was decided after each, from its events; docs/audit.md shows them."""

import json
import re
from pathlib import Path

import pytest

from snakemake_executor_takeda.audit.attempts import Sent, decision, sent
from snakemake_executor_takeda.audit.history import histories
from snakemake_executor_takeda.cli import main
from snakemake_executor_takeda.events import NO_JOB, EventLog, about
from snakemake_executor_takeda.values import JobSpec, Shape, Target

PAGE = (Path(__file__).parents[2] / "docs/audit.md").read_text(encoding="utf-8")
FULL = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"
GONE = "Host EC2 (instance i-0a1b) terminated."


def event(name, time=0, *, target="spot", external_id=None, attempt=1, job=7, **detail):
    return {
        "time": f"2026-11-22T02:00:{time:02}.000+00:00",
        "event": name,
        "run_id": "r1",
        "job_id": job,
        "rule": "align",
        "wildcards": {"sample": "A"},
        "attempt": attempt,
        "target": target,
        "backend": "batch",
        "external_id": external_id,
        "detail": detail,
    }


STORY = [
    event("placed", 0, reasons=["default"]),
    event("submitted", 1, external_id="j:1", submission="j", tasks=2),
    event("started", 2, external_id="j:1"),
    event("interrupted", 3, external_id="j:1", kind="interrupted", reason=GONE),
    event("resubmitted", 3, target="od", reason="sent again after: interrupted once on spot"),
    event("interrupted", 4, target="od", kind="no_capacity", reason=FULL),
    event(
        "resubmitted",
        4,
        target="od",
        reason="sent again after: no capacity, try 1 of 20",
        delay_seconds=12.4,
    ),
    event("submitted", 5, target="od", external_id="k", tasks=1),
    event(
        *("failed", 6),
        **{"target": "od", "external_id": "k", "kind": "user", "reason": "no genome"},
        **{"exit_code": 2, "wall_seconds": 3.0, "log": "group:stream"},
    ),
    event("placed", 7, attempt=2, reasons=["default"]),
    event("submitted", 8, attempt=2, external_id="l", tasks=1),
    event("reattached", 9, attempt=2, external_id="l"),
    event("succeeded", 10, attempt=2, external_id="l"),
]


def moment(time):
    return event("", time)["time"]


def test_each_submission_is_told_with_its_end_and_what_was_decided():
    first, second, third, last = sent(STORY)
    assert first == Sent(
        number=1,
        attempt=1,
        target="spot",
        backend="batch",
        placed_at=moment(0),
        external_id="j:1",
        submitted_at=moment(1),
        started_at=moment(2),
        ended_at=moment(3),
        result="failed",
        kind="interrupted",
        reason=GONE,
        decided="sent again to od: interrupted once on spot",
    )
    assert (second.target, second.external_id, second.submitted_at) == ("od", None, None)
    assert second.decided == "sent again to od in 12 s: no capacity, try 1 of 20"
    assert (third.kind, third.decided) == ("user", "reported to Snakemake")
    assert (last.number, last.attempt, last.external_id) == (4, 2, "l")
    assert (last.result, last.kind, last.decided) == ("succeeded", None, None)


@pytest.mark.parametrize("length", range(len(STORY) + 1))
def test_a_story_that_goes_on_is_told_as_far_as_it_is(length):
    told = sent(STORY[:length])
    assert len(told) == sum(one["event"] in ("placed", "resubmitted") for one in STORY[:length])
    assert [one.number for one in told] == list(range(1, len(told) + 1))
    assert all(one.ended_at for one in told[:-1])


def test_a_job_that_was_given_up_says_why():
    why = "on od it was repeated 2 times (`lost` of `retry`)"
    failed = event("failed", kind="lost", reason="gone", given_up=why)
    assert decision(failed) == f"reported to Snakemake: {why}"
    assert decision(event("started")) is None


def test_what_begins_in_the_middle_or_was_cancelled_is_told():
    (one,) = sent([event("reattached", external_id="j"), event("cancelled", 1)])
    assert (one.external_id, one.result, one.ended_at) == ("j", "cancelled", moment(1))


def test_a_job_keeps_its_history_where_a_restart_numbers_it_anew():
    after = [{**one, "job_id": 4} for one in STORY[9:]]
    other = {**STORY[0], "job_id": 4, "wildcards": {"sample": "B"}}
    ours, theirs = histories([*STORY[:9], other, *after])
    assert [len(ours.sent), len(theirs.sent)] == [4, 1]
    assert ours.title == "align (sample=A), job 4 of run r1"
    assert histories([*STORY, other], job_id="7")[0].events == STORY
    groups = [{**STORY[0], "job_id": name, "wildcards": {}} for name in ("g1", "g2", "g1")]
    assert [len(one.events) for one in histories(groups)] == [2, 1]
    assert histories([event("run", job=None)], job_id="None") == []


def write(folder):
    """The log of STORY as a run writes it."""
    log = EventLog(folder / "events.jsonl", "r1")
    log.write("run", NO_JOB, None, None, {})
    for one in STORY:
        job = about(JobSpec(7, "align", {"sample": "A"}, one["attempt"], Shape(), {}))
        target = Target(one["target"], "batch")
        log.write(one["event"], job, target, one["external_id"], one["detail"])
    log.close()
    return str(folder / "events.jsonl")


def test_the_command_gives_them_as_json(tmp_path, capsys):
    assert main(["audit", "show", write(tmp_path), "--json"]) == 0
    run, job = json.loads(capsys.readouterr().out)
    assert run["sent"] == []
    assert [(one["target"], one["kind"]) for one in job["sent"]] == [
        ("spot", "interrupted"),
        ("od", "no_capacity"),
        ("od", "user"),
        ("spot", None),
    ]
    assert len(job["events"]) == len(STORY)


def test_the_history_that_the_page_shows_is_the_one_told(tmp_path, capsys):
    assert main(["audit", "show", write(tmp_path), "--job", "7"]) == 0
    (shown,) = re.findall(r"^\$ takeda audit show --job 7\n(.*?)^```", PAGE, re.M | re.S)
    said = re.sub(r"^  \S+ \S+  ", "  ", capsys.readouterr().out, flags=re.M)
    assert re.sub(r"^  \S+ \S+  ", "  ", shown, flags=re.M) == said


def test_the_page_names_what_the_json_holds():
    section = PAGE.split("## What happened to a job\n")[1].split("\n## ")[0]
    named = set(re.findall(r"`(\w+)`", section))
    assert set(Sent.__dataclass_fields__) <= named
