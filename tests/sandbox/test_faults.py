"""Faults: their words, which job or call they fall on, and how often."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_takeda.sandbox.faults import Fault, Target, from_json, parse
from snakemake_executor_takeda.sandbox.injecting import CallFault, Faults, Subject
from snakemake_executor_takeda.values import TakedaError


def subject(number: int, rule: str | None = None, name: str = "j", queue: str = "q") -> Subject:
    return Subject(f"id-{number}", Target(name=name, rule=rule, queue=queue))


def hits(faults: Faults, kind: str, subjects: list[Subject]) -> list[bool]:
    return [faults.hit(kind, one) is not None for one in subjects]


def test_words_become_faults() -> None:
    assert parse(["spot-reclaim=0.3", "latency=2"], rule="align", seed=7) == [
        Fault("spot-reclaim", 0.3, "absent", rule="align", seed=7),
        Fault("latency", 2.0, rule="align", seed=7),
    ]
    (blocked,) = parse(["blocked-queue:MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT=1"])
    assert blocked.variant == "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT"
    assert from_json(blocked.to_json()) == blocked


@pytest.mark.parametrize(
    ("word", "selectors", "says"),
    [
        ("spot-reclam=0.3", {}, "no fault 'spot-reclam'. Did you mean spot-reclaim?"),
        ("zzz=0.3", {}, "Faults: latency, throttling, server-error"),
        ("out-of-memory:13=0.3", {}, "no variant '13'. Did you mean 137?"),
        ("image-pull:deny=1", {}, "no variant 'deny'. Did you mean denied?"),
        ("timeout:x=1", {}, "timeout has no variants: leave out :x"),
        ("throttling=30", {}, "give a rate from 0 to 1, such as 0.3"),
        ("throttling=nan", {}, "give a rate from 0 to 1"),
        ("latency=-1", {}, "give seconds from 0 to 3600"),
        ("throttling", {}, "the amount is missing: write, for example, throttling=0.3"),
        ("latency=fast", {}, "'fast' is not a number: write, for example, latency=0.05"),
        ("timeout=1", {"call": "SubmitJob"}, "goes with latency, throttling, server-error"),
        ("timeout=1", {"times": 0}, "give at least 1"),
    ],
)
def test_a_mistake_is_said_with_its_fix(word: str, selectors: dict[str, Any], says: str) -> None:
    with pytest.raises(TakedaError, match=re.escape(says)):
        parse([word], **selectors)


def test_a_rate_is_kept_and_a_seed_decides() -> None:
    jobs = [Subject("array", Target(name="j"), index=index) for index in range(2000)]
    drawn = []
    for seed in (7, 7, 8):
        faults = Faults()
        faults.set(parse(["timeout=0.3"], seed=seed))
        drawn.append(hits(faults, "timeout", jobs))
        assert 520 <= sum(drawn[-1]) <= 680
        assert faults.facts()["injected"] == {"timeout": sum(drawn[-1])}
    assert drawn[0] == drawn[1] != drawn[2]


def test_jobs_of_one_name_are_told_apart_whatever_their_ids() -> None:
    first, second = Faults(), Faults()
    for faults in (first, second):
        faults.set(parse(["timeout=0.5"]))
    one = hits(first, "timeout", [subject(number) for number in range(100)])
    other = hits(second, "timeout", [subject(number + 500) for number in range(100)])
    assert one == other
    assert 30 < sum(one) < 70


def test_the_number_comes_from_the_submission_not_from_the_start() -> None:
    drawn = []
    for order in ([0, 1, 2, 3, 4, 5, 6, 7], [7, 3, 5, 0, 1, 6, 2, 4]):
        faults = Faults()
        faults.set(parse(["timeout=0.5"]))
        for number in range(8):
            faults.note(subject(number))
        found = {n: faults.hit("timeout", subject(n)) is not None for n in order}
        drawn.append([found[number] for number in range(8)])
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 2


def test_another_attempt_is_another_draw() -> None:
    faults = Faults()
    faults.set(parse(["timeout=0.5"]))
    found = hits(
        faults, "timeout", [Subject("a", Target(name="j"), attempt=n) for n in range(1, 50)]
    )
    assert len(set(found)) == 2


@pytest.mark.parametrize(
    ("selector", "falls", "spares"),
    [
        ({"rule": "align"}, subject(1, rule="align"), subject(2, rule="sort")),
        ({"rule": "align"}, subject(1, rule="align"), subject(2)),
        ({"job": "takeda-a*"}, subject(1, name="takeda-ab"), subject(2, name="other")),
        ({"queue": "spot"}, subject(1, queue="spot"), subject(2, queue="ondemand")),
    ],
)
def test_selectors(selector: dict[str, str], falls: Subject, spares: Subject) -> None:
    faults = Faults()
    faults.set(parse(["timeout=1"], **selector))
    assert faults.hit("timeout", spares) is None
    assert faults.hit("timeout", falls) is not None
    assert faults.facts()["injected"] == {"timeout": 1}


def test_faults_add_up_and_the_same_again_is_replaced() -> None:
    faults = Faults()
    faults.set(parse(["timeout=1"], rule="a"))
    faults.set(parse(["timeout=1"], rule="b"))
    faults.set(parse(["timeout=0"], rule="a", seed=3))
    assert [(f["rule"], f["amount"]) for f in faults.facts()["faults"]] == [("b", 1), ("a", 0)]
    assert faults.hit("timeout", subject(1, rule="a")) is None
    assert faults.hit("timeout", subject(2, rule="b")) is not None
    faults.clear(["latency"])
    assert len(faults.facts()["faults"]) == 2
    faults.clear()
    assert faults.facts() == {"faults": [], "injected": {}}


def test_times_bounds_and_withdrawing_gives_back() -> None:
    faults = Faults()
    faults.set(parse(["timeout=1"], times=2))
    assert hits(faults, "timeout", [subject(n) for n in range(4)]) == [True, True, False, False]
    faults.set(parse(["timeout=1"], times=2, seed=1))
    hit = faults.hit("timeout", subject(1))
    assert hit is not None
    faults.withdraw(hit)
    assert faults.facts()["injected"] == {"timeout": 0}


def test_a_key_is_counted_once() -> None:
    faults = Faults()
    faults.set(parse(["blocked-queue=1"]))
    for _ in range(3):
        assert faults.hit("blocked-queue", subject(1), key="id-1") is not None
    assert faults.facts()["injected"] == {"blocked-queue": 1}


def test_calls_by_operation_and_number() -> None:
    drawn = []
    for _ in range(2):
        faults = Faults()
        faults.set(parse(["throttling=0.4"], call="Submit*"))
        calls = []
        for _ in range(100):
            spared = faults.on_call("ListJobs", lambda: Target(operation="ListJobs"))
            assert spared == CallFault()
            calls.append(faults.on_call("SubmitJob", lambda: Target(operation="SubmitJob")))
        drawn.append([call is not None and call.refused is not None for call in calls])
    assert drawn[0] == drawn[1]
    assert 25 < sum(drawn[0]) < 55


def test_the_longest_latency_counts_and_refusal_comes_before_a_lost_answer() -> None:
    faults = Faults()
    faults.set(parse(["latency=0.1", "latency=2", "throttling=1", "lost-answer=1"]))
    faults.set(parse(["latency=0.5"], call="SubmitJob"))
    call = faults.on_call("SubmitJob", lambda: Target(operation="SubmitJob"))
    assert call is not None
    assert call.seconds == 2
    assert call.refused is not None
    assert call.lost is None


def test_faults_and_counts_are_kept_in_the_database(tmp_path: Path) -> None:
    faults = Faults(tmp_path / "state.sqlite")
    faults.set(parse(["timeout=1"], rule="align", seed=7))
    faults.hit("timeout", subject(1, rule="align"))
    faults.save()
    again = Faults(tmp_path / "state.sqlite")
    assert again.facts() == faults.facts()
    assert again.facts()["injected"] == {"timeout": 1}
    again.clear()
    assert Faults(tmp_path / "state.sqlite").facts()["faults"] == []
