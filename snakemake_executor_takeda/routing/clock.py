"""Time of day, weekdays and time zones of a route's conditions."""

from __future__ import annotations

import re
import zoneinfo
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Any

from snakemake_executor_takeda.nearest import nearest

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_FULL_NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAY_MINUTES = 24 * 60
_WINDOW = re.compile(r"\s*([0-9]{1,2}):([0-9]{2})\s*-\s*([0-9]{1,2}):([0-9]{2})\s*")
HOW_TO_TELL_TIME = 'write the time of day as "20:00-06:00", several with commas'
HOW_TO_TELL_DAYS = 'write days as "mon-fri" or "sat, sun"'


@dataclass(frozen=True)
class Hours:
    """Parts of a day, each from its first minute up to its end: `20:00-06:00` goes over midnight."""

    windows: tuple[tuple[int, int], ...]
    """Minutes since midnight."""

    def holds(self, moment: datetime) -> bool:
        minute = moment.hour * 60 + moment.minute
        for start, end in self.windows:
            if start <= minute < end if start < end else minute >= start or minute < end:
                return True
        return False

    def __str__(self) -> str:
        return ", ".join(f"{_clock(start)}-{_clock(end)}" for start, end in self.windows)


@dataclass(frozen=True)
class Weekdays:
    """Days of the week, Monday being 0."""

    days: tuple[int, ...]

    def holds(self, moment: datetime) -> bool:
        return moment.weekday() in self.days

    def __str__(self) -> str:
        return ", ".join(DAYS[day] for day in self.days)


def parse_hours(value: Any) -> Hours:
    """`"20:00-06:00"`, `"00:00-06:00, 20:00-24:00"`. Raises ValueError saying how it is written."""
    if isinstance(value, Hours):
        return value
    windows = []
    for part in value.split(",") if isinstance(value, str) else ("",):
        match = _WINDOW.fullmatch(part)
        if match is None:
            raise ValueError(f"{HOW_TO_TELL_TIME} (the run time in minutes is `runtime`)")
        start, end = _minutes(match[1], match[2]), _minutes(match[3], match[4])
        if start == end:
            raise ValueError(
                f"{part.strip()} begins as it ends: {HOW_TO_TELL_TIME}; a whole day is 00:00-24:00"
            )
        if start == _DAY_MINUTES:
            raise ValueError("a day begins at 00:00; 24:00 is only its end")
        windows.append((start, end))
    return Hours(tuple(windows))


def parse_weekdays(value: Any) -> Weekdays:
    """`mon`, `"mon-fri"`, `"fri-mon, wed"`, `[sat, sun]`. Raises ValueError saying how it is written."""
    if isinstance(value, Weekdays):
        return value
    texts = value if isinstance(value, list | tuple) else [value]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(HOW_TO_TELL_DAYS)
    days: set[int] = set()
    for part in ",".join(texts).split(","):
        first, dash, last = part.partition("-")
        start = _day(first)
        end = _day(last) if dash else start
        days |= {(start + step) % 7 for step in range((end - start) % 7 + 1)}
    return Weekdays(tuple(sorted(days)))


@lru_cache
def zone(name: str) -> tzinfo:
    """A time zone by its IANA name. Raises ValueError naming the nearest one."""
    if name.upper() in ("UTC", "Z", "ETC/UTC"):
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        pass
    known = zoneinfo.available_timezones()
    if not known:
        raise ValueError(
            "this machine has no time zones but UTC: install tzdata (`pip install tzdata`)"
        )
    of_city = [one for one in known if one.lower().endswith(f"/{name.lower()}")]
    near = min(of_city, key=lambda one: (len(one), one), default=None) or nearest(name, known)
    raise ValueError(
        "no such time zone. " + (f"Did you mean {near}?" if near else "Write it as Europe/Berlin.")
    )


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _minutes(hours: str, minutes: str) -> int:
    total = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or total > _DAY_MINUTES:
        raise ValueError(f"{hours}:{minutes} is no time of day: it is 00:00 to 24:00")
    return total


def _day(text: str) -> int:
    word = text.strip().lower()
    for names in (DAYS, _FULL_NAMES):
        if word in names:
            return names.index(word)
    near = nearest(word, (*DAYS, *_FULL_NAMES))
    hint = f" Did you mean {near}?" if near else ""
    raise ValueError(f"{text.strip()!r} is no day of the week: {HOW_TO_TELL_DAYS}.{hint}")
