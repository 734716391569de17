"""Where one job goes, and why, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from snakemake_executor_takeda.routing.asking import NARROWING, refusal
from snakemake_executor_takeda.routing.conditions import is_handoff
from snakemake_executor_takeda.routing.deciding import (
    ANY,
    DEFAULT,
    NAMED,
    Candidate,
    Decision,
    Step,
    because,
    decide,
    fallback_of,
)
from snakemake_executor_takeda.routing.policy import Policy
from snakemake_executor_takeda.routing.refusing import PlacementError
from snakemake_executor_takeda.values import JobSpec, Placement

__all__ = ["NARROWING", "PlacementError", "fallback_of", "place", "reasons_of"]


def place(job: JobSpec, policy: Policy, at: datetime | None = None) -> Placement:
    """The target of a job, with the reasons in the order in which they told; see `decide`.

    `at` is the moment of the placement, now if it is left out. Raises PlacementError.
    """
    decision = decide(job, policy, at)
    if decision.refused:
        raise decision.refused
    target = decision.target
    assert target is not None
    return Placement(target, tuple(reasons_of(decision, policy)))


def reasons_of(decision: Decision, policy: Policy) -> Iterator[str]:
    """What told in a decision, without the routes whose conditions did not hold."""
    settled = decision.steps and (
        decision.steps[-1].route.locked or decision.steps[-1].route.label == NAMED
    )
    if not settled:
        yield from _narrowed(policy, decision.wants)
    for step in decision.steps:
        if step.failed is not None or (step.taken is None and not step.route.conditions):
            continue
        if step.taken is None:
            if step.candidates:
                yield f"{_label(step, decision)}, but passed over: {step.candidates[0].why_not()}"
            continue
        yield _label(step, decision)
        if step.route.label == ANY:
            continue
        for asked in step.sets_aside:
            yield f"the rule's {asked} is set aside, as the route is locked"
        yield from _chosen(step, step.taken)


def _label(step: Step, decision: Decision) -> str:
    label = step.route.label
    assert step.taken or step.route.conditions
    if label == DEFAULT:
        return label
    if label == NAMED:
        return f"rule asks target={step.route.to[0]}"
    if label == ANY and step.taken:
        what = "a hand-off" if is_handoff(decision.job) else "what the rule asks"
        return f"{step.taken.target.name} is the first to fit {what}"
    return f"{label} matched: {because(step.route, decision.job, decision.at)}"


def _chosen(step: Step, taken: Candidate) -> Iterator[str]:
    """Why this one of a step's targets, and why not the others."""
    fitting = [one for one in step.candidates if one.fits]
    if len(fitting) > 1:
        others = ", ".join(_with_figures(one, step.route.choose) for one in fitting)
        yield f"{taken.target.name} is the {step.route.choose} of {others}"
    if taken.target.name != taken.listed:
        yield f"{taken.target.name} is the fallback of {taken.listed} that fits"
    for one in step.candidates:
        # What a rule asks has been said; with one target to lead to, that says it all.
        if one.lacks or (one.misfit and len(step.route.to) > 1):
            yield one.why_not()


def _with_figures(one: Candidate, choose: str) -> str:
    offer = one.offer
    figures = []
    if choose == "cheapest" and offer.usd_per_hour is None:
        figures.append("no price, spot" if one.is_spot else "no price")
    elif choose == "cheapest":
        figures.append(f"{offer.usd_per_hour:.4g} USD/h")
    if offer.speed is not None:
        figures.append(f"speed {offer.speed:g}")
    elif choose == "fastest":
        figures.append("speed not known")
    if offer.instance:
        figures.append(offer.instance)
    return f"{one.target.name} ({', '.join(figures)})"


def _narrowed(policy: Policy, wants: Mapping[str, str]) -> Iterator[str]:
    """What each word of the rule leaves to choose from."""
    for word, value in wants.items():
        fitting = [t.name for t in policy.targets.values() if not refusal(t, {word: value})]
        yield f"rule asks {word}={value}: narrows to {', '.join(fitting)}"
