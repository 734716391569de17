"""The routing policy as the router reads it, and how it is loaded from its YAML file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from snakemake_executor_takeda.routing.checking import HEALTHOMICS, Checked
from snakemake_executor_takeda.routing.conditions import CLOCK_WORDS, Condition, conditions_of
from snakemake_executor_takeda.routing.including import read_policy
from snakemake_executor_takeda.routing.market import Market
from snakemake_executor_takeda.routing.policy_file import (
    Choose,
    PolicyFile,
    TargetEntry,
)
from snakemake_executor_takeda.routing.source import Document
from snakemake_executor_takeda.values import UNLIMITED, Target

__all__ = ["HEALTHOMICS", "Policy", "Route", "load_policy"]


@dataclass(frozen=True, slots=True)
class Route:
    """Jobs for which all conditions hold go to a target, one of several."""

    label: str
    """The route in messages: `route 2 (routing.yaml:14)`."""
    conditions: tuple[Condition, ...]
    to: tuple[str, ...]
    """Empty where there is no target for such jobs."""
    choose: Choose = "first"
    locked: bool = False
    """Tried before all others; a rule's own words lead nowhere else."""
    needs: str = ""
    """The backend that such jobs need, where `to` is empty."""
    when: str = ""
    """The conditions as a policy file has them, shortened; empty without such a file."""


@dataclass(frozen=True)
class Policy:
    """Targets, routes in order of force, and the default. `load_policy` or `policy_from_settings`
    build it; every name in it is a target."""

    targets: Mapping[str, Target]
    routes: tuple[Route, ...]
    """Those that are locked before the others."""
    default: tuple[str, ...]
    """Empty where there is no target for jobs that no route takes."""
    source: str
    """The policy in messages: its file, or the flags it is made from."""
    remedy: Callable[[str], str]
    """Backend → what to do in order to have a target of it, an imperative without full stop."""
    choose: Choose = "first"
    """Which target of `default` takes a job."""
    warnings: tuple[str, ...] = ()
    """What looks odd but may be meant: to be shown once, at start."""
    shape_tolerance: float = 0.1
    """By what part of its own memory or run time a job may get more, to share an array."""
    needs_input_size: bool = False
    """Whether a route asks for `input_gb`, so that it pays to find out."""
    needs_time: bool = False
    """Whether a route asks for `time` or `weekday`, so that a placement is one at a moment."""
    timezone: str = "UTC"
    files: tuple[Path, ...] = ()
    """The policy's own file and all that it includes."""
    market: Market | None = None
    """What is known of instances and prices, beside what the targets say themselves."""


def load_policy(
    path: Path, option_models: Mapping[str, type[BaseModel]], environ: Mapping[str, str]
) -> Policy:
    """Read, check and compile a policy file and what it includes.

    `option_models` is the model of each backend's own words by backend. Raises PolicyMistakes that
    lists every mistake, each with file, line, the word, the nearest valid one and what to do.
    """
    joined = read_policy(path, environ)
    document = joined.document
    checked = Checked(document, option_models)
    entry = checked.entry
    return Policy(
        targets={
            name: _target(name, target, entry, checked.options[name], document)
            for name, target in entry.targets.items()
        },
        routes=tuple(
            Route(
                label=f"route {document.number(position)} ({document.place(('routes', position))}"
                f"{', locked' if route.locked else ''})",
                conditions=conditions_of(route.when, entry.timezone),
                to=route.to,
                choose=route.choose or entry.choose,
                locked=route.locked,
                when=document.written(("routes", position, "when")),
            )
            for position, route in enumerate(entry.routes)
        ),
        default=entry.default,
        source=document.file,
        remedy=lambda backend: f"Add a target with `backend: {backend}` to {document.file}",
        choose=entry.choose,
        warnings=tuple(checked.warnings),
        shape_tolerance=entry.shape_tolerance,
        needs_input_size=any(route.when.input_gb is not None for route in entry.routes),
        needs_time=any(CLOCK_WORDS & route.when.given().keys() for route in entry.routes),
        timezone=entry.timezone,
        files=joined.files,
    )


def _target(
    name: str, entry: TargetEntry, policy: PolicyFile, options: BaseModel, document: Document
) -> Target:
    of_backend = getattr(options, "limits", None)
    limits = of_backend(entry.capacity) if of_backend else UNLIMITED
    return Target(
        name=name,
        backend=entry.backend,
        capacity=entry.capacity,
        instances=entry.instances,
        fallback=entry.fallback,
        efa=entry.efa,
        options=options,
        retry=policy.retry.rules(entry.retry),
        limits=entry.limits.limits(limits) if entry.limits else limits,
        usd_per_cpu_hour=entry.usd_per_cpu_hour,
        usd_per_gpu_hour=entry.usd_per_gpu_hour,
        speed=entry.speed,
        source=str(document.place(("targets", name))),
    )
