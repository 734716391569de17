"""Where one job goes, and why: a pure function of the job and the policy."""

from __future__ import annotations

from collections.abc import Mapping

from snakemake_executor_takeda.nearest import nearest
from snakemake_executor_takeda.routing.conditions import is_handoff
from snakemake_executor_takeda.routing.mistakes import did_you_mean
from snakemake_executor_takeda.routing.policy import HEALTHOMICS, Policy, Route
from snakemake_executor_takeda.values import JobSpec, Placement, TakedaError, Target

NARROWING = ("backend", "capacity", "instance_type")
"""Resources by which a rule narrows the choice of targets; `target` settles it."""

CAPACITIES = ("spot", "on-demand")


class _Unlisted(str):
    """An instance type that no target lists. Those may have it that find it out themselves."""


class PlacementError(TakedaError):
    """A job that no target may take; the message names rule, line and what to change."""


def place(job: JobSpec, policy: Policy) -> Placement:
    """The target of a job, with the reasons in the order in which they told.

    The rule's own `target` settles it. Else its `backend`, `capacity` and `instance_type`, and whether
    it is a hand-off, say which targets fit. The first matching route wins whose target fits, or has a
    fallback that does; then the default in the same way; then the first target that fits what the
    rule asks. Raises PlacementError.
    """
    resources = job.resources
    handoff = is_handoff(job)
    wants = _wants(job, policy)
    if resources.get("target"):
        return _named(job, policy, str(resources["target"]), wants, handoff)
    reasons = _narrowed(job, policy, wants) if wants else []

    for route in policy.routes:
        for condition in route.conditions:
            if not condition.test(job):
                break
        else:
            because = ", ".join(condition.explain(job) for condition in route.conditions)
            matched = f"{route.label} matched: {because}"
            if route.to is None:
                _check_needed(job, policy, route, wants, because)
                continue
            target = _first_fit(route.to, policy, wants, handoff)
            if target is not None:
                return Placement(target, (*reasons, matched, *_instead(route.to, target)))
            first = policy.targets[route.to]
            if first.backend == HEALTHOMICS and not handoff and not _refusal(first, wants):
                raise PlacementError(
                    f"{_who(job)}: {matched}, which leads to {first.name}, but that is a "
                    "HealthOmics target and runs hand-offs only. Add `handoff: true` to the route's "
                    'conditions, or set handoff="…/main.wdl" on the rule.'
                )
            reasons.append(f"{matched}, but passed over: {_misfit(first, wants, handoff)}")

    return _without_route(job, policy, wants, handoff, reasons)


def fallback_of(job: JobSpec, target: Target, policy: Policy) -> str | None:
    """Where a job may go when `target` fails it: the first of the fallbacks that fits what the rule
    asks. A rule that names its target has no other."""
    if target.fallback is None or job.resources.get("target"):
        return None
    wants = _wants(job, policy)
    found = _first_fit(target.fallback, policy, wants, is_handoff(job))
    return found.name if found else None


def _wants(job: JobSpec, policy: Policy) -> dict[str, str]:
    """What the rule asks of its target, by resource."""
    wants = {word: str(job.resources[word]) for word in NARROWING if job.resources.get(word)}
    kind = wants.pop("instance_type", None)
    if kind:
        named = job.resources.get("target")
        asked = (t for t in policy.targets.values() if not _refusal(t, wants))
        lists = any(_has_instance(t, kind) for t in asked if named in (None, "", t.name))
        wants["instance_type"] = kind if lists else _Unlisted(kind)
    return wants


def _named(
    job: JobSpec, policy: Policy, name: str, wants: Mapping[str, str], handoff: bool
) -> Placement:
    """The target that the rule itself names."""
    target = policy.targets.get(name)
    if target is None:
        raise PlacementError(
            f"{_who(job)}: target={name!r} is not in {policy.source}. "
            f"{did_you_mean(name, policy.targets, 'Targets there')}"
        )
    why = _misfit(target, wants, handoff)
    if why is not None:
        raise PlacementError(
            f"{_who(job)}: it asks target={name!r}, but {why}. Name another target, or remove what "
            "contradicts it."
        )
    return Placement(target, (f"rule asks target={name}",))


def _narrowed(job: JobSpec, policy: Policy, wants: Mapping[str, str]) -> list[str]:
    """What each word leaves to choose from. Raises PlacementError for one that leaves nothing."""
    reasons = []
    for word, value in wants.items():
        fitting = [t.name for t in policy.targets.values() if not _refusal(t, {word: value})]
        if not fitting:
            raise PlacementError(f"{_who(job)}: {word}={value!r}: {_unknown(word, value, policy)}")
        reasons.append(f"rule asks {word}={value}: narrows to {', '.join(fitting)}")
    return reasons


def _unknown(word: str, value: str, policy: Policy) -> str:
    none_has = f"no target of {policy.source} has it"
    if word == "backend":
        near = nearest(value, {t.backend for t in policy.targets.values()})
        return f"{none_has}. " + (f"Did you mean {near}?" if near else f"{policy.remedy(value)}.")
    if word == "capacity":
        if value not in CAPACITIES:
            return did_you_mean(value, CAPACITIES, "Capacities")
        return f"{none_has}. Put `capacity: {value}` on a target of your routing policy."
    near = nearest(value, {i for t in policy.targets.values() for i in t.instances})
    return (
        f"{none_has}. "
        + (f"Did you mean {near}? " if near else "")
        + "Put it into `instances` of the target of your routing policy that has it"
        + (", or let a Slurm target choose its partitions: it looks at the nodes' features.")
    )


def _check_needed(
    job: JobSpec, policy: Policy, route: Route, wants: Mapping[str, str], because: str
) -> None:
    """Raises PlacementError for a job that needs a backend without target, unless the rule itself
    asks for another."""
    if wants.get("backend", route.needs) == route.needs:
        raise PlacementError(
            f"{_who(job)}: {because}, and there is no target for such jobs. "
            f"{policy.remedy(route.needs)}."
        )


def _without_route(
    job: JobSpec, policy: Policy, wants: Mapping[str, str], handoff: bool, reasons: list[str]
) -> Placement:
    if policy.default is not None:
        target = _first_fit(policy.default, policy, wants, handoff)
        if target is not None:
            return Placement(target, (*reasons, "default", *_instead(policy.default, target)))
    if wants or handoff:
        for target in policy.targets.values():
            if _misfit(target, wants, handoff) is None:
                what = "a hand-off" if handoff else "what the rule asks"
                return Placement(target, (*reasons, f"{target.name} is the first to fit {what}"))
    raise PlacementError(_no_target(job, policy, wants, handoff))


def _no_target(job: JobSpec, policy: Policy, wants: Mapping[str, str], handoff: bool) -> str:
    asked = " and ".join(f"{word}={value!r}" for word, value in wants.items())
    hand_off_targets = [t for t in policy.targets.values() if t.backend == HEALTHOMICS]
    if handoff and not hand_off_targets:
        return f"{_who(job)}: it is a hand-off and needs HealthOmics. {policy.remedy(HEALTHOMICS)}."
    if handoff:
        names = ", ".join(t.name for t in hand_off_targets)
        return (
            f"{_who(job)}: it is a hand-off, which only HealthOmics runs ({names}), and that does not "
            f"go with {asked}. Remove that or `handoff`."
        )
    if wants:
        whys = "; ".join(
            _misfit(t, wants, handoff) or "" for t in list(policy.targets.values())[:8]
        )
        return (
            f"{_who(job)}: no target of {policy.source} fits {asked}: {whys}. "
            "Change the rule's resources, or add such a target."
        )
    if policy.default is None:
        return f"{_who(job)}: there is no target for such jobs. {policy.remedy('batch')}."
    return (
        f"{_who(job)}: no route takes it, and the default {policy.default} is a HealthOmics target, "
        f"which runs hand-offs only. Name another default in {policy.source}, or set "
        'handoff="…/main.wdl" on the rule.'
    )


def _first_fit(name: str, policy: Policy, wants: Mapping[str, str], handoff: bool) -> Target | None:
    """This target or the first of its fallbacks that fits, so that a job which asks for On-Demand
    gets the On-Demand sibling of the target that its route names."""
    step: str | None = name
    while step is not None:
        target = policy.targets[step]
        if (target.backend == HEALTHOMICS) is handoff and not (wants and _refusal(target, wants)):
            return target
        step = target.fallback
    return None


def _instead(name: str, target: Target) -> tuple[str, ...]:
    return () if target.name == name else (f"{target.name} is the fallback of {name} that fits",)


def _misfit(target: Target, wants: Mapping[str, str], handoff: bool) -> str | None:
    """Why a target may not take a job that asks this, None if it may."""
    if handoff and target.backend != HEALTHOMICS:
        return f"hand-offs run on HealthOmics only and {target.name} is {target.backend}"
    if not handoff and target.backend == HEALTHOMICS:
        return f"{target.name} is HealthOmics and runs hand-offs only (rules with handoff=)"
    return _refusal(target, wants)


def _refusal(target: Target, wants: Mapping[str, str]) -> str | None:
    """Why a target is not what a rule asks by `backend`, `capacity` or `instance_type`."""
    for word, value in wants.items():
        if word == "backend" and target.backend != value:
            return f"{target.name} is {target.backend}, not {value}"
        if word == "capacity" and target.capacity != value:
            return f"{target.name} is {target.capacity or 'of no stated capacity'}, not {value}"
        if word == "instance_type" and not _has_instance(target, value):
            has = ", ".join(target.instances) or "none"
            return f"{target.name} does not have {value} (its instances: {has})"
    return None


def _has_instance(target: Target, instance_type: str) -> bool:
    """A target lists types (`c7i.4xlarge`) or families (`c7i`), or finds out what there is."""
    if isinstance(instance_type, _Unlisted):
        return not target.instances and getattr(target.options, "finds_instances", False)
    family = instance_type.partition(".")[0]
    return instance_type in target.instances or family in target.instances


def _who(job: JobSpec) -> str:
    """The job as the user knows it."""
    if job.is_group:
        return f"group {job.rule} (rules {', '.join(job.rules)})"
    return f"rule {job.rule}" + (f" ({job.source_line})" if job.source_line else "")
