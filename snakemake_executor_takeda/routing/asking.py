"""What a rule asks of its target by its own resources, and whether a target is that. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from snakemake_executor_takeda.routing.conditions import is_handoff
from snakemake_executor_takeda.routing.policy import HEALTHOMICS, Policy
from snakemake_executor_takeda.values import JobSpec, Target

NARROWING = ("backend", "capacity", "instance_type", "efa")
"""Resources by which a rule narrows the choice of targets; `target` settles it."""

_NO = ("", "0", "false", "no", "off", "none")
"""What says that EFA is not asked for."""


class _Unlisted(str):
    """An instance type that no target lists. Those may have it that find it out themselves."""


def target_asked(job: JobSpec) -> str:
    """The target that the rule names itself; empty where it names none."""
    return str(job.resources.get("target") or "")


def wants_of(job: JobSpec, policy: Policy) -> dict[str, str]:
    """What the rule asks of its target, by resource."""
    resources = job.resources
    wants = {word: str(resources[word]) for word in NARROWING if resources.get(word)}
    if wants.get("efa", "").lower() in _NO:
        wants.pop("efa", None)
    kind = wants.pop("instance_type", None)
    if kind:
        named = target_asked(job)
        asked = (t for t in policy.targets.values() if not refusal(t, wants))
        lists = any(_has_instance(t, kind) for t in asked if named in ("", t.name))
        wants["instance_type"] = kind if lists else _Unlisted(kind)
    return wants


def misfit(target: Target, wants: Mapping[str, str], job: JobSpec) -> str | None:
    """Why a target may not take a job that asks this, None if it may."""
    if target.backend == HEALTHOMICS:
        if not is_handoff(job):
            return f"{target.name} is HealthOmics and runs hand-offs only (rules with handoff=)"
    elif is_handoff(job):
        return f"hand-offs run on HealthOmics only and {target.name} is {target.backend}"
    return refusal(target, wants) if wants else None


def refusal(target: Target, wants: Mapping[str, str]) -> str | None:
    """Why a target is not what a rule asks by its own words."""
    for word, value in wants.items():
        if word == "target" and target.name != value:
            return f"the rule asks target={value}"
        if word == "backend" and target.backend != value:
            return f"{target.name} is {target.backend}, not {value}"
        if word == "capacity" and target.capacity != value:
            return f"{target.name} is {target.capacity or 'of no stated capacity'}, not {value}"
        if word == "instance_type" and not _has_instance(target, value):
            has = ", ".join(target.instances) or "none"
            return f"{target.name} does not have {value} (its instances: {has})"
        if word == "efa" and not target.efa:
            return f"{target.name} has no EFA"
    return None


def _has_instance(target: Target, instance_type: str) -> bool:
    """A target lists types (`c7i.4xlarge`) or families (`c7i`), or finds out what there is."""
    if isinstance(instance_type, _Unlisted):
        return not target.instances and getattr(target.options, "finds_instances", False)
    family = instance_type.partition(".")[0]
    return instance_type in target.instances or family in target.instances
