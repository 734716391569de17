"""What is said of a job that no target may take: rule, line, what is missing, and the remedy. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from snakemake_executor_takeda.nearest import nearest
from snakemake_executor_takeda.routing.asking import misfit, refusal
from snakemake_executor_takeda.routing.conditions import is_handoff
from snakemake_executor_takeda.routing.mistakes import did_you_mean
from snakemake_executor_takeda.routing.policy import HEALTHOMICS
from snakemake_executor_takeda.values import JobSpec, TakedaError

if TYPE_CHECKING:
    from snakemake_executor_takeda.routing.deciding import Candidate
    from snakemake_executor_takeda.routing.policy import Policy, Route

CAPACITIES = ("spot", "on-demand")
_HANDOFF_WORD = 'set handoff="…/main.wdl" on the rule'


class PlacementError(TakedaError):
    """A job that no target may take; the message names rule, line and what to change."""


def who(job: JobSpec) -> str:
    """The job as the user knows it."""
    if job.is_group:
        return f"group {job.rule} (rules {', '.join(job.rules)})"
    return f"rule {job.rule}" + (f" ({job.source_line})" if job.source_line else "")


def check_words(job: JobSpec, policy: Policy, wants: Mapping[str, str]) -> None:
    """Raises PlacementError for a word of the rule that leaves no target to choose from."""
    for word, value in wants.items():
        if all(refusal(target, {word: value}) for target in policy.targets.values()):
            raise PlacementError(f"{who(job)}: {word}={value!r}: {_unknown(word, value, policy)}")


def no_such_target(job: JobSpec, policy: Policy, name: str) -> PlacementError:
    return PlacementError(
        f"{who(job)}: target={name!r} is not in {policy.source}. "
        f"{did_you_mean(name, policy.targets, 'Targets there')}"
    )


def contradicts(job: JobSpec, name: str, why: str) -> PlacementError:
    return PlacementError(
        f"{who(job)}: it asks target={name!r}, but {why}. Name another target, or remove what "
        "contradicts it."
    )


def locked_out(job: JobSpec, matched: str, why: str) -> PlacementError:
    return PlacementError(
        f"{who(job)}: {matched}, but {why}. A route that is locked is not passed over: change its "
        "conditions (`handoff: true` or `false`) or its `to`."
    )


def leads_to_healthomics(job: JobSpec, matched: str, name: str) -> PlacementError:
    return PlacementError(
        f"{who(job)}: {matched}, which leads to {name}, but that is a HealthOmics target and runs "
        f"hand-offs only. Add `handoff: true` to the route's conditions, or {_HANDOFF_WORD}."
    )


def no_backend(job: JobSpec, policy: Policy, route: Route, because: str) -> PlacementError:
    return PlacementError(
        f"{who(job)}: {because}, and there is no target for such jobs. "
        f"{policy.remedy(route.needs)}."
    )


def too_large(
    job: JobSpec,
    candidates: Sequence[Candidate],
    others: Sequence[Candidate],
    *,
    where: str,
    remedy: str,
) -> PlacementError:
    """`candidates` lack something for the job; of the `others` some may hold it. `where` tells whose the
    candidates are, `remedy` how another one is chosen."""
    lacking = [one for one in candidates if one.lacks]
    listed = "; ".join(f"{one.target.name}: {', '.join(map(str, one.lacks))}" for one in lacking)
    said = f"{who(job)}: {where}: {listed}."
    able = [one for one in others if one.fits]
    if able:
        missing = {lack.resource for one in lacking for lack in one.lacks}
        known = next((one for one in able if _is_known(one, missing)), None)
        name = (known or able[0]).target.name
        could = "could" if known else "may, as it is not known what it has"
        return PlacementError(
            f"{said} {name} {could}: {remedy.format(name=name)}, or lower what the rule asks."
        )
    near = min(
        (one for one in (*lacking, *others) if one.lacks and not one.misfit),
        key=lambda one: (len(one.lacks), max(lack.excess for lack in one.lacks)),
    )
    place = f" ({near.target.source})" if near.target.source else ""
    takes = [
        f"`{lack.resource}` " + (lack.most if isinstance(lack.most, str) else f"up to {lack.most}")
        for lack in near.lacks
        if not lack.text
    ]
    what = f": it takes {', '.join(takes)}" if takes else ""
    larger = f"name {near.offer.would_hold} in its `instances`, " if near.offer.would_hold else ""
    return PlacementError(
        f"{said} Nearest is {near.target.name}{place}{what}. Lower what the rule asks (in a profile: "
        f"`set-resources`), {larger}or add a target that has more."
    )


def _is_known(one: Candidate, resources: Collection[str]) -> bool:
    """Whether a target that holds a job is known to have enough of these."""
    limits = one.target.limits
    return bool(one.offer.instance) or all(
        getattr(limits, resource, None) not in (None, ()) for resource in resources
    )


def no_target(job: JobSpec, policy: Policy, wants: Mapping[str, str]) -> PlacementError:
    """No route takes it, nor the default, nor any other target."""
    asked = " and ".join(f"{word}={value!r}" for word, value in wants.items())
    hand_off_targets = [t for t in policy.targets.values() if t.backend == HEALTHOMICS]
    if is_handoff(job):
        if not hand_off_targets:
            text = f"it is a hand-off and needs HealthOmics. {policy.remedy(HEALTHOMICS)}."
        else:
            names = ", ".join(t.name for t in hand_off_targets)
            text = (
                f"it is a hand-off, which only HealthOmics runs ({names}), and that does not go with "
                f"{asked}. Remove that or `handoff`."
            )
    elif wants:
        targets = list(policy.targets.values())[:8]
        whys = "; ".join(misfit(target, wants, job) or "" for target in targets)
        text = (
            f"no target of {policy.source} fits {asked}: {whys}. Change the rule's resources, or add "
            "such a target."
        )
    elif not policy.default:
        text = f"there is no target for such jobs. {policy.remedy('batch')}."
    else:
        text = (
            f"no route takes it, and the default {', '.join(policy.default)} is a HealthOmics target, "
            f"which runs hand-offs only. Name another default in {policy.source}, or {_HANDOFF_WORD}."
        )
    return PlacementError(f"{who(job)}: {text}")


def _unknown(word: str, value: str, policy: Policy) -> str:
    none_has = f"no target of {policy.source} has it"
    if word == "backend":
        near = nearest(value, {t.backend for t in policy.targets.values()})
        return f"{none_has}. " + (f"Did you mean {near}?" if near else f"{policy.remedy(value)}.")
    if word == "capacity":
        if value not in CAPACITIES:
            return did_you_mean(value, CAPACITIES, "Capacities")
        return f"{none_has}. Put `capacity: {value}` on a target of your routing policy."
    if word == "efa":
        return f"{none_has}. Put `efa: true` on the target of your routing policy that has it."
    near = nearest(value, {i for t in policy.targets.values() for i in t.instances})
    return (
        f"{none_has}. "
        + (f"Did you mean {near}? " if near else "")
        + "Put it into `instances` of the target of your routing policy that has it"
        + (", or let a Slurm target choose its partitions: it looks at the nodes' features.")
    )
