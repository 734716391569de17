"""The largest job that a target must hold, as far as policy and user tell, and who says so. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from snakemake_executor_takeda.routing.conditions import parse_comparison
from snakemake_executor_takeda.values import ANY_LAUNCHER, Shape

if TYPE_CHECKING:
    from snakemake_executor_takeda.routing.policy import Policy, Route
    from snakemake_executor_takeda.values import Target

NUMBERS = ("threads", "mem_mb", "disk_mb", "gpu", "nodes", "tasks", "tasks_per_node", "runtime")
ASKED = "--largest"


@dataclass(frozen=True)
class Wanted:
    """One number of the largest job."""

    value: int
    said_by: str
    """`limits of routing.yaml:4`, `route 2 (routing.yaml:9)` or `--largest`."""


@dataclass(frozen=True)
class Largest:
    """What the largest job on a target asks for. It need not be one job: each number is the largest."""

    numbers: Mapping[str, Wanted] = field(default_factory=dict)
    """By the rule's word: `mem_mb`. What nobody says is not in it."""
    gpu_model: str | None = None
    mpi_by: str = ""
    """Who says that MPI jobs come here; empty where nobody does."""

    @property
    def is_known(self) -> bool:
        return bool(self.numbers)

    def number(self, word: str, default: int) -> int:
        wanted = self.numbers.get(word)
        return wanted.value if wanted else default

    def shape(self, *, mpi: bool = False) -> Shape:
        """As a job asks for it."""
        numbers = {word: wanted.value for word, wanted in self.numbers.items()}
        nodes = numbers.get("nodes", 1)
        return Shape(
            cpus=numbers.get("threads", 1),
            mem_mb=numbers.get("mem_mb"),
            disk_mb=numbers.get("disk_mb"),
            gpus=numbers.get("gpu", 0),
            gpu_model=self.gpu_model,
            runtime_min=numbers.get("runtime"),
            nodes=nodes,
            tasks=numbers.get("tasks", nodes),
            tasks_per_node=numbers.get("tasks_per_node"),
            mpi=ANY_LAUNCHER if mpi else None,
        )

    def told(self, *words: str) -> str:
        """`mem_mb=768000 (limits of routing.yaml:4)` of these words, or of all."""
        chosen = {w: one for w, one in self.numbers.items() if not words or w in words}
        return ", ".join(f"{word}={one.value} ({one.said_by})" for word, one in chosen.items())


def largest_of(target: Target, policy: Policy, asked: Mapping[str, int | float | str]) -> Largest:
    """By the target's `limits`, by the conditions of routes that lead to it alone, and by `asked`."""
    numbers: dict[str, Wanted] = {}
    for word, wanted in (*_of_limits(target), *_of_routes(target, policy), *_of_user(asked)):
        if word not in numbers or wanted.value > numbers[word].value:
            numbers[word] = wanted
    models = target.limits.gpu_model
    # Several models are a choice, no demand.
    model = asked.get("gpu_model") or (models[0] if len(models) == 1 else None)
    has_gpus = "gpu" in numbers and numbers["gpu"].value > 0
    return Largest(
        numbers, str(model) if model and has_gpus else None, _mpi_by(target, policy, asked)
    )


def with_shape(largest: Largest, shape: Shape, said_by: str) -> Largest:
    """The same with what one job asks for, where that is more."""
    asked: dict[str, int | None] = {
        "threads": shape.cpus,
        "mem_mb": shape.mem_mb,
        "disk_mb": shape.disk_mb,
        "gpu": shape.gpus or None,
        "nodes": shape.nodes if shape.nodes > 1 else None,
        "tasks": shape.tasks if shape.mpi else None,
        "tasks_per_node": shape.tasks_per_node,
        "runtime": shape.runtime_min,
    }
    more = {word: Wanted(value, said_by) for word, value in asked.items() if value is not None}
    mpi_by = largest.mpi_by or (said_by if shape.mpi else "")
    return merged(largest, Largest(more, shape.gpu_model, mpi_by))


def merged(one: Largest, other: Largest) -> Largest:
    """Of each number the larger, of equal ones the first's."""
    numbers = dict(one.numbers)
    for word, wanted in other.numbers.items():
        if word not in numbers or wanted.value > numbers[word].value:
            numbers[word] = wanted
    return Largest(numbers, one.gpu_model or other.gpu_model, one.mpi_by or other.mpi_by)


def _of_limits(target: Target) -> Iterator[tuple[str, Wanted]]:
    of_backend = getattr(target.options, "limits", None)
    own = of_backend(target.capacity) if of_backend else None
    for word in NUMBERS:
        value = getattr(target.limits, word, None)
        # What a backend knows by itself, such as Fargate's sizes, nobody has asked for.
        if value is not None and value != getattr(own, word, None):
            yield word, Wanted(value, f"`limits` of {target.source or target.name}")


def _of_routes(target: Target, policy: Policy) -> Iterator[tuple[str, Wanted]]:
    for route in _leading_to(target, policy):
        for condition in route.conditions:
            if condition.word in NUMBERS and (least := _least(condition.wanted)):
                yield condition.word, Wanted(least, route.label)


def _of_user(asked: Mapping[str, int | float | str]) -> Iterator[tuple[str, Wanted]]:
    for word in NUMBERS:
        if word in asked:
            yield word, Wanted(int(asked[word]), ASKED)


def _mpi_by(target: Target, policy: Policy, asked: Mapping[str, int | float | str]) -> str:
    if asked.get("mpi"):
        return ASKED
    for route in _leading_to(target, policy):
        for condition in route.conditions:
            if condition.word == "mpi" and condition.wanted.lower() in ("true", "set"):
                return route.label
    if "mpi" in getattr(target.options, "model_fields_set", ()):
        return f"`mpi` of {target.source or target.name}"
    return f"`efa` of {target.source or target.name}" if target.efa else ""


def _leading_to(target: Target, policy: Policy) -> Iterator[Route]:
    """Routes with this one target: of several, another may take what this does not hold."""
    return (route for route in policy.routes if route.to == (target.name,))


def _least(comparison: str) -> int | None:
    """The least whole number that passes; None where it is not bounded from below."""
    try:
        tests = parse_comparison(comparison).tests
    except ValueError:
        return None
    bounds = [
        math.floor(bound) + 1 if sign == ">" else math.ceil(bound)
        for sign, bound in tests
        if sign in (">", ">=", "=")
    ]
    return max(bounds, default=0) or None
