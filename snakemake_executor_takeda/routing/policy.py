"""The routing policy as the router reads it, and how it is loaded from its YAML file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from snakemake_executor_takeda.routing.checking import HEALTHOMICS, Checked
from snakemake_executor_takeda.routing.conditions import Condition, conditions_of
from snakemake_executor_takeda.routing.source import read_yaml
from snakemake_executor_takeda.values import Target

__all__ = ["HEALTHOMICS", "Policy", "Route", "load_policy"]


@dataclass(frozen=True, slots=True)
class Route:
    """Jobs for which all conditions hold go to a target."""

    label: str
    """The route in messages: `route 2 (routing.yaml:14)`."""
    conditions: tuple[Condition, ...]
    to: str | None
    """None where there is no target for such jobs."""
    needs: str = ""
    """The backend that such jobs need, where `to` is None."""
    when: str = ""
    """The conditions as a policy file has them, shortened; empty without such a file."""


@dataclass(frozen=True)
class Policy:
    """Targets, routes in order of force, and the default. `load_policy` or `policy_from_settings`
    build it; every name in it is a target."""

    targets: Mapping[str, Target]
    routes: tuple[Route, ...]
    default: str | None
    """None where there is no target for jobs that no route takes."""
    source: str
    """The policy in messages: its file, or the flags it is made from."""
    remedy: Callable[[str], str]
    """Backend → what to do in order to have a target of it, an imperative without full stop."""
    warnings: tuple[str, ...] = ()
    """What looks odd but may be meant: to be shown once, at start."""
    shape_tolerance: float = 0.1
    """By what part of its own memory or run time a job may get more, to share an array."""
    needs_input_size: bool = False
    """Whether a route asks for `input_gb`, so that it pays to find out."""


def load_policy(
    path: Path, option_models: Mapping[str, type[BaseModel]], environ: Mapping[str, str]
) -> Policy:
    """Read, check and compile a policy file.

    `option_models` is the model of each backend's own words by backend. Raises TakedaError that
    lists every mistake, each with file, line, the word, the nearest valid one and what to do.
    """
    document = read_yaml(path, environ)
    checked = Checked(document, option_models)
    entry = checked.entry
    return Policy(
        targets={
            name: Target(
                name=name,
                backend=target.backend,
                capacity=target.capacity,
                instances=target.instances,
                fallback=target.fallback,
                efa=target.efa,
                options=checked.options[name],
                retry=entry.retry.rules(target.retry),
                source=f"{document.file}:{document.line(('targets', name))}",
            )
            for name, target in entry.targets.items()
        },
        routes=tuple(
            Route(
                label=f"route {number + 1} ({document.file}:{document.line(('routes', number))})",
                conditions=conditions_of(route.when),
                to=route.to,
                when=document.written(("routes", number, "when")),
            )
            for number, route in enumerate(entry.routes)
        ),
        default=entry.default,
        source=document.file,
        remedy=lambda backend: f"Add a target with `backend: {backend}` to {document.file}",
        warnings=tuple(checked.warnings),
        shape_tolerance=entry.shape_tolerance,
        needs_input_size=any(route.when.input_gb is not None for route in entry.routes),
    )
