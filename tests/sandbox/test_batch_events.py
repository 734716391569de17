"""`Batch Job State Change`: one event for each new status, as a bus gets them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from batch_client import Batch


class Bus:
    """What a rule for all of Batch's events would get."""

    def __init__(self, has_rules: bool = True) -> None:
        self.has_rules = has_rules
        self.got: list[Mapping[str, Any]] = []

    def put(self, events: Sequence[Mapping[str, Any]]) -> None:
        self.got += events

    def statuses(self, job_id: str) -> list[str]:
        details = [event["detail"] for event in self.got]
        return [detail["status"] for detail in details if detail["jobId"] == job_id]


def run(make_batch: Callable[..., Batch], bus: Bus, *faults: str, size: int = 20) -> str:
    """An array of that size, to its end, and all its events."""
    batch = make_batch(events=bus)
    if faults:
        batch.faults(*faults, seed=7)
    job = batch.submit("true", size=size, tags={"takeda:rule": "align"})
    batch.until(job)
    batch.stop()
    return job


LIFE = ["RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED"]


def test_each_status_is_an_event_but_the_first(make_batch: Callable[..., Batch]) -> None:
    bus = Bus()
    job = run(make_batch, bus, size=3)
    assert bus.statuses(job) == ["PENDING", "SUCCEEDED"]
    assert [bus.statuses(f"{job}:{index}") for index in range(3)] == [LIFE] * 3
    assert len({event["id"] for event in bus.got}) == len(bus.got) == 14
    last = next(e for e in bus.got if e["detail"]["jobId"] == f"{job}:2" and _ended(e))
    assert last["source"] == "aws.batch"
    assert last["detail-type"] == "Batch Job State Change"
    assert last["resources"] == [last["detail"]["jobArn"]]
    detail = last["detail"]
    assert detail["jobName"] == "j"
    assert detail["jobQueue"].endswith(":job-queue/q")
    assert detail["arrayProperties"] == {"index": 2}
    assert detail["tags"] == {"takeda:rule": "align"}
    assert detail["container"]["exitCode"] == 0
    assert detail["attempts"][0]["container"]["logStreamName"]


def _ended(event: Mapping[str, Any]) -> bool:
    return event["detail"]["status"] in ("SUCCEEDED", "FAILED")


def test_a_retried_attempt_is_runnable_again(make_batch: Callable[..., Batch]) -> None:
    bus = Bus()
    batch = make_batch(events=bus)
    job = batch.submit("false", retryStrategy={"attempts": 2})
    batch.until(job)
    batch.stop()
    assert bus.statuses(job) == [*LIFE[:3], *LIFE[:3], "FAILED"]


def test_without_a_rule_nothing_is_made(make_batch: Callable[..., Batch]) -> None:
    bus = Bus(has_rules=False)
    run(make_batch, bus)
    assert bus.got == []


def test_lost_events(make_batch: Callable[..., Batch]) -> None:
    bus = Bus()
    run(make_batch, bus, "lost-events=1")
    assert bus.got == []


def test_some_events_are_lost_and_the_seed_says_which(make_batch: Callable[..., Batch]) -> None:
    seen = []
    for _ in range(2):
        bus = Bus()
        job = run(make_batch, bus, "lost-events=0.3")
        found = {(e["detail"]["jobId"].removeprefix(job), e["detail"]["status"]) for e in bus.got}
        seen.append(found)
        assert 40 <= len(found) <= 75
    assert seen[0] == seen[1]


def test_duplicate_events(make_batch: Callable[..., Batch]) -> None:
    bus = Bus()
    run(make_batch, bus, "duplicate-events=1", size=5)
    counts = Counter(event["id"] for event in bus.got)
    assert set(counts.values()) == {2}
    assert len(counts) == 22


def test_disordered_events(make_batch: Callable[..., Batch]) -> None:
    bus = Bus()
    job = run(make_batch, bus, "disordered-events=1")
    lives = [bus.statuses(f"{job}:{index}") for index in range(20)]
    assert all(sorted(life) == sorted(LIFE) for life in lives)
    assert any(life != LIFE for life in lives)
