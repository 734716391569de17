"""Conditions on the moment at which a job is placed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from routing_models import job, load

from snakemake_executor_takeda.routing import clock
from snakemake_executor_takeda.routing.clock import parse_hours, parse_weekdays
from snakemake_executor_takeda.routing.policy import Policy
from snakemake_executor_takeda.routing.router import place


def policy_with(tmp_path: Path, when: str, more: str = "") -> Policy:
    text = "version: 1\ntargets: {a: {backend: slurm}, b: {backend: slurm}}\ndefault: a\n"
    return load(tmp_path, f"{text}{more}\nroutes: [{{when: {{{when}}}, to: b}}]\n")


HOLDS = [
    # Condition, moment in UTC, whether it holds. The 3rd of July 2026 is a Friday.
    ("time: 20:00-06:00", "2026-07-03T19:59", False),
    ("time: 20:00-06:00", "2026-07-03T20:00", True),
    ("time: 20:00-06:00", "2026-07-03T23:59", True),
    ("time: 20:00-06:00", "2026-07-03T00:00", True),
    ("time: 20:00-06:00", "2026-07-03T05:59", True),
    ("time: 20:00-06:00", "2026-07-03T06:00", False),
    ("time: '8:00 - 12:00'", "2026-07-03T08:00", True),
    ("time: '8:00 - 12:00'", "2026-07-03T12:00", False),
    ("time: '00:00-06:00, 20:00-24:00'", "2026-07-03T23:59", True),
    ("time: '00:00-06:00, 20:00-24:00'", "2026-07-03T00:00", True),
    ("time: '00:00-06:00, 20:00-24:00'", "2026-07-03T12:00", False),
    ("time: 08:00-00:00", "2026-07-03T23:59", True),
    ("time: 08:00-00:00", "2026-07-03T00:00", False),
    ("weekday: fri", "2026-07-03T12:00", True),
    ("weekday: Friday", "2026-07-03T12:00", True),
    ("weekday: mon-fri", "2026-07-03T23:59", True),
    ("weekday: mon-fri", "2026-07-04T00:00", False),
    ("weekday: fri-mon", "2026-07-04T00:00", True),
    ("weekday: fri-mon", "2026-07-07T00:00", False),
    ("weekday: 'sat, sun'", "2026-07-05T12:00", True),
    ("weekday: [sat, sun]", "2026-07-05T12:00", True),
    ("weekday: [sat, mon-tue]", "2026-07-05T12:00", False),
    # In the night after Friday it is Saturday.
    ("time: 20:00-06:00, weekday: fri", "2026-07-04T02:00", False),
    # Berlin is two hours ahead in July, and one in January.
    ("time: 20:00-06:00, timezone: Europe/Berlin", "2026-07-03T18:00", True),
    ("time: 20:00-06:00, timezone: Europe/Berlin", "2026-01-03T18:00", False),
    ("weekday: sat, timezone: Asia/Tokyo", "2026-07-03T15:00", True),
]


@pytest.mark.parametrize(("when", "moment", "holds"), HOLDS)
def test_time_and_weekday(tmp_path: Path, when: str, moment: str, holds: bool) -> None:
    policy = policy_with(tmp_path, when)
    at = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    assert policy.needs_time
    assert place(job(), policy, at).target.name == ("b" if holds else "a")


def test_the_reason_tells_the_moment_and_its_zone(tmp_path: Path) -> None:
    policy = policy_with(tmp_path, "time: 20:00-06:00, weekday: mon-fri", "timezone: Europe/Berlin")
    (reason,) = place(job(), policy, datetime(2026, 7, 3, 19, 30, tzinfo=UTC)).reasons
    assert reason.endswith(
        "time is 21:30 Europe/Berlin (20:00-06:00), weekday is fri Europe/Berlin (mon, tue, wed, thu, fri)"
    )


def test_a_policy_without_such_conditions_does_not_look_at_the_clock(tmp_path: Path) -> None:
    assert not policy_with(tmp_path, "mpi: true").needs_time


def test_without_a_moment_it_is_now(tmp_path: Path) -> None:
    now = policy_with(tmp_path, "time: 00:00-24:00")
    assert place(job(), now).target.name == "b"


@pytest.mark.parametrize(
    ("value", "shown"),
    [("8:00-12:00", "08:00-12:00"), ("0:00-6:00,20:00-24:00", "00:00-06:00, 20:00-24:00")],
)
def test_hours_are_shown_as_they_are_compared(value: str, shown: str) -> None:
    assert str(parse_hours(value)) == shown
    assert parse_hours(parse_hours(value)) == parse_hours(value)


@pytest.mark.parametrize(
    "value",
    ["", "20-6", "20:00", "20:60-21:00", "24:00-06:00", "8:00-25:00", "8:00-9:00,", 8, None],
)
def test_no_hours(value: object) -> None:
    with pytest.raises(ValueError, match=r"time of day|24:00 is only its end"):
        parse_hours(value)


@pytest.mark.parametrize("value", ["", "mon-", "mo", "mon..fri", 1, [], [1], None])
def test_no_days(value: object) -> None:
    with pytest.raises(ValueError, match="write days as"):
        parse_weekdays(value)


def test_zones_that_this_machine_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoneinfo.available_timezones", set)
    with pytest.raises(ValueError, match="install tzdata"):
        clock.zone("Europe/Nowhere")
    assert clock.zone("utc") is UTC


@pytest.mark.parametrize("name", ["../etc/passwd", "/etc/passwd", "Europe", "", "Europe/Berlin\0"])
def test_what_is_no_zone(name: str) -> None:
    with pytest.raises(ValueError, match="no such time zone"):
        clock.zone(name)
