"""What a route's `when` may say, and how each condition is tested against a job."""

from __future__ import annotations

import fnmatch
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from itertools import pairwise
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, StrictBool, WithJsonSchema

from snakemake_executor_takeda.routing.clock import (
    DAYS,
    Hours,
    Weekdays,
    parse_hours,
    parse_weekdays,
    zone,
)
from snakemake_executor_takeda.values import JobSpec

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
_TEST = re.compile(r"\s*(>=|<=|==|!=|>|<|=|)\s*(-?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+))\s*")
HOW_TO_COMPARE = 'write a number, or a comparison in quotes such as ">=64000" or ">1, <=8"'


@dataclass(frozen=True)
class Comparison:
    """One or more tests of a number, all of which must hold: `>=8000, <64000`."""

    tests: tuple[tuple[str, float], ...]

    def holds(self, value: float) -> bool:
        for sign, bound in self.tests:  # noqa: SIM110 - a generator costs twice the time
            if not _OPERATORS[sign](value, bound):
                return False
        return True

    def can_hold(self) -> bool:
        """False where no number at all passes."""
        bounds = sorted({bound for _, bound in self.tests})
        between = [(low + high) / 2 for low, high in pairwise(bounds)]
        return any(self.holds(x) for x in (*bounds, *between, -math.inf, math.inf))

    def __str__(self) -> str:
        return ", ".join(f"{sign}{bound:g}" for sign, bound in self.tests)


def parse_comparison(value: Any) -> Comparison:
    """`4`, `">=64000"`, `">1, <=8"`. Raises ValueError saying how it is written."""
    if isinstance(value, Comparison):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(HOW_TO_COMPARE)
    tests = []
    for part in str(value).split(","):
        match = _TEST.fullmatch(part)
        if match is None:
            raise ValueError(f"not a comparison: {HOW_TO_COMPARE}; no units")
        sign = "=" if match[1] in ("", "==") else match[1]
        tests.append((sign, float(match[2])))
    comparison = Comparison(tuple(tests))
    if not comparison.can_hold():
        raise ValueError("no number can be all of this, so the route can never match")
    return comparison


_COMPARISON_SCHEMA = {
    "oneOf": [
        {"type": "number"},
        {"type": "string", "pattern": r"^\s*(>=|<=|==|!=|>|<|=)?\s*-?[0-9.]+(\s*,.*)?\s*$"},
    ]
}
Compared = Annotated[
    Comparison, PlainValidator(parse_comparison), WithJsonSchema(_COMPARISON_SCHEMA)
]
Glob = Annotated[str, Field(min_length=1)]
_DAY_SCHEMA = {"type": "string", "pattern": r"^[A-Za-z]{3,9}(\s*[-,]\s*[A-Za-z]{3,9})*$"}
DayHours = Annotated[
    Hours,
    PlainValidator(parse_hours),
    WithJsonSchema(
        {"type": "string", "pattern": r"^[0-9]{1,2}:[0-9]{2}\s*-\s*[0-9]{1,2}:[0-9]{2}(\s*,.*)?$"}
    ),
]
Days = Annotated[
    Weekdays,
    PlainValidator(parse_weekdays),
    WithJsonSchema(
        {"oneOf": [_DAY_SCHEMA, {"type": "array", "items": _DAY_SCHEMA, "minItems": 1}]}
    ),
]


def _zone_name(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("write a time zone as Europe/Berlin")
    zone(value)
    return value


Zone = Annotated[str, PlainValidator(_zone_name), WithJsonSchema({"type": "string"})]


class When(BaseModel):
    """Conditions of a route; all must hold. A word not listed here is a numeric resource of yours."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Compared]

    rule: Glob | None = Field(
        None,
        description="Glob on the rule's name; for a group job, on its name or any of its rules.",
    )
    wildcards: dict[str, Glob] | None = Field(
        None, description='Globs on wildcard values: {sample: "T*"}.', min_length=1
    )
    container: Glob | None = Field(None, description="Glob on the rule's container image.")
    mpi: StrictBool | None = Field(None, description="Whether the rule sets `mpi`.")
    handoff: StrictBool | None = Field(None, description="Whether the rule sets `handoff`.")
    attempt: Compared | None = Field(None, description="Snakemake's attempt, from 1.")
    input_gb: Compared | None = Field(
        None, description="Size of all input files in GB (10^9 bytes), where it is known."
    )
    threads: Compared | None = Field(None, description="CPUs of the job (of each MPI rank).")
    mem_mb: Compared | None = Field(None, description="Memory in MB.")
    disk_mb: Compared | None = Field(None, description="Disk in MB.")
    runtime: Compared | None = Field(None, description="Run time in minutes.")
    gpu: Compared | None = Field(None, description="Number of GPUs; 0 where the rule sets none.")
    nodes: Compared | None = Field(None, description="Number of nodes; 1 where the rule sets none.")
    tasks: Compared | None = Field(None, description="MPI ranks over all nodes, at least 1.")
    tasks_per_node: Compared | None = Field(None, description="MPI ranks on each node.")
    time: DayHours | None = Field(
        None, description="Time of day at which the job is placed: 20:00-06:00."
    )
    weekday: Days | None = Field(
        None, description="Day of the week on which it is: mon-fri, or [sat, sun]."
    )
    timezone: Zone | None = Field(
        None, description="Time zone of `time` and `weekday`, where it is not the policy's."
    )

    def given(self) -> dict[str, Any]:
        """The conditions that are set, by word."""
        return {word: value for word, value in self if value is not None}


TEXT_WORDS = frozenset({"rule", "container"})
"""Conditions whose value is text even where YAML reads a number."""

_Value = Callable[[JobSpec], float | None]

_VALUES: Mapping[str, _Value] = {
    "attempt": lambda job: job.attempt,
    "input_gb": lambda job: None if job.input_bytes is None else job.input_bytes / 1e9,
    "threads": lambda job: job.shape.cpus,
    "mem_mb": lambda job: job.shape.mem_mb,
    "disk_mb": lambda job: job.shape.disk_mb,
    "runtime": lambda job: job.shape.runtime_min,
    "gpu": lambda job: job.shape.gpus,
    "gpus": lambda job: job.shape.gpus,
    "nodes": lambda job: job.shape.nodes,
    "tasks": lambda job: job.shape.tasks,
    "ntasks": lambda job: job.shape.tasks,
    "tasks_per_node": lambda job: job.shape.tasks_per_node,
    "ntasks_per_node": lambda job: job.shape.tasks_per_node,
}
KNOWN_RESOURCES = frozenset(_VALUES) | {"mem_mib", "disk_mib"}
"""Numeric words that need no second look."""


CLOCK_WORDS = frozenset({"time", "weekday"})
"""Conditions on the moment at which a job is placed, rather than on the job."""

Moment = datetime | None
"""When a job is placed, with its time zone; None where no condition asks."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One compiled condition."""

    word: str
    """As in the file; `wildcards.sample` for one wildcard."""
    wanted: str
    """What the job must have, as it is compared."""
    value: Callable[[JobSpec, Moment], Any]
    """What the job has; None where it has no such value, so that the condition does not hold."""
    passes: Callable[[Any], object]
    """Whether such a value is what is wanted."""
    told: Callable[[JobSpec, Any], str]
    """Why a value of the job passes."""
    told_not: Callable[[Any], str]
    """Why it does not."""

    def test(self, job: JobSpec, at: Moment) -> bool:
        """Whether it holds; false where the job has no such value."""
        value = self.value(job, at)
        return value is not None and bool(self.passes(value))

    def explain(self, job: JobSpec, at: Moment) -> str:
        """Why it holds, for a job for which it does."""
        return self.told(job, self.value(job, at))

    def explain_not(self, job: JobSpec, at: Moment) -> str:
        """Why it does not hold, for a job for which it does not."""
        value = self.value(job, at)
        if value is None:
            return f"{self.word} is not set, or not known"
        return self.told_not(value)


def conditions_of(when: When, timezone: str = "UTC") -> tuple[Condition, ...]:
    """Compiled once, so that testing a job costs a few microseconds. `timezone` is the policy's."""
    return tuple(_compiled(when.given(), when.timezone or timezone))


def is_handoff(job: JobSpec) -> bool:
    return bool(job.resources.get("handoff"))


def _compiled(given: Mapping[str, Any], timezone: str) -> Iterator[Condition]:
    for word, value in given.items():
        match word:
            case "rule":
                yield _rule(value)
            case "wildcards":
                for name, glob in value.items():
                    yield _wildcard(name, glob)
            case "container":
                yield _container(value)
            case "mpi":
                yield _flag("mpi", value, lambda job: bool(job.shape.mpi))
            case "handoff":
                yield _flag("handoff", value, is_handoff)
            case "time":
                yield _clock("time", value, timezone)
            case "weekday":
                yield _clock("weekday", value, timezone)
            case "timezone":
                pass  # it says how the others are meant
            case _:
                yield _number(word, value)


def _glob(pattern: str) -> Callable[[str], object]:
    return re.compile(fnmatch.translate(pattern)).match


def _rule(pattern: str) -> Condition:
    """A group job goes to one place as a whole, so one member that must go there decides."""
    match = _glob(pattern)

    def told(job: JobSpec, names: tuple[str, ...]) -> str:
        if match(job.rule):
            return f"{'group' if job.is_group else 'rule'} {job.rule} matches {pattern}"
        member = next(rule for rule in names if match(rule))
        return f"rule {member} of group {job.rule} matches {pattern}"

    return Condition(
        "rule",
        pattern,
        lambda job, _: (job.rule, *job.rules) if job.is_group else (job.rule,),
        lambda names: any(map(match, names)),
        told,
        lambda names: f"rule {', '.join(names)} does not match {pattern}",
    )


def _wildcard(name: str, pattern: str) -> Condition:
    return Condition(
        f"wildcards.{name}",
        pattern,
        lambda job, _: job.wildcards.get(name),
        _glob(pattern),
        lambda _, value: f"wildcard {name}={value} matches {pattern}",
        lambda value: f"wildcard {name}={value} does not match {pattern}",
    )


def _container(pattern: str) -> Condition:
    return Condition(
        "container",
        pattern,
        lambda job, _: job.container,
        _glob(pattern),
        lambda _, image: f"container {image} matches {pattern}",
        lambda image: f"container {image} does not match {pattern}",
    )


def _flag(word: str, wanted: bool, is_set: Callable[[JobSpec], bool]) -> Condition:
    def told(value: bool) -> str:
        return f"{word} is {'set' if value else 'not set'}"

    return Condition(
        word,
        str(wanted).lower(),
        lambda job, _: is_set(job),
        lambda value: value is wanted,
        lambda _, value: told(value),
        told,
    )


def _clock(word: str, wanted: Hours | Weekdays, timezone: str) -> Condition:
    there: tzinfo = zone(timezone)

    def value(_: JobSpec, at: Moment) -> datetime | None:
        return at.astimezone(there) if at else None

    def shown(moment: datetime) -> str:
        # Not strftime's %a, which speaks the language of the machine.
        text = moment.strftime("%H:%M") if word == "time" else DAYS[moment.weekday()]
        return f"{word} is {text} {timezone}"

    return Condition(
        word,
        str(wanted),
        value,
        wanted.holds,
        lambda _, moment: f"{shown(moment)} ({wanted})",
        lambda moment: f"{shown(moment)}, not {wanted}",
    )


def _number(word: str, comparison: Comparison) -> Condition:
    value_of = _VALUES.get(word) or _resource(word)
    return Condition(
        word,
        str(comparison),
        lambda job, _: value_of(job),
        comparison.holds,
        lambda _, value: f"{word} is {_short(value)} ({comparison})",
        lambda value: f"{word} is {_short(value)}, not {comparison}",
    )


def _resource(name: str) -> _Value:
    def value_of(job: JobSpec) -> float | None:
        value = job.resources.get(name)
        if isinstance(value, str):
            try:
                return float(value)
            except ValueError:
                return None
        return value

    return value_of


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"
