"""Why a job goes where it goes, and why not to the next best, each in one line. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snakemake_executor_takeda.routing.market import best
from snakemake_executor_takeda.routing.router import reasons_of

if TYPE_CHECKING:
    from snakemake_executor_takeda.routing.deciding import Candidate, Decision, Step
    from snakemake_executor_takeda.routing.policy import Policy


def why(decision: Decision, policy: Policy) -> str:
    return "; ".join(reasons_of(decision, policy))


def why_not(decision: Decision, policy: Policy) -> str:
    """The one that would have had it, had the last thing that told not told: another target of the same
    route, else that of the route before, else the default. Empty where there is none."""
    *before, last = decision.steps
    target = decision.target
    assert target is not None
    if second := _second(last):
        return f"not {second.target.name}: {_lost(second, last)}"
    for step in reversed(before):
        named = [name for name in step.route.to if name != target.name]
        if not named:
            continue
        where = f"not {named[0]}: {step.route.label}"
        if step.failed is not None:
            return f"{where}: {step.failed.explain_not(decision.job, decision.at)}"
        if step.candidates:
            return f"{where}: {step.candidates[0].why_not()}"
    if other := next((name for name in policy.default if name != target.name), None):
        return f"not {other}: a route comes before the default"
    return ""


def _second(step: Step) -> Candidate | None:
    """The best of a step's other candidates: those that fit come first."""
    others = [one for one in step.candidates if step.taken and one.target != step.taken.target]
    fitting = [one for one in others if one.fits]
    if not fitting:
        return others[0] if others else None
    return fitting[best([(one.offer, one.is_spot) for one in fitting], step.route.choose)]


def _lost(one: Candidate, step: Step) -> str:
    assert step.taken is not None
    if not one.fits:
        return one.why_not()
    ours, theirs = step.taken.offer, one.offer
    if step.route.choose == "cheapest" and ours.usd_per_work and theirs.usd_per_work:
        if theirs.usd_per_work <= ours.usd_per_work * 1.005:
            return "it costs the same, and comes later"
        return f"it costs {theirs.usd_per_work / ours.usd_per_work:.3g} times as much"
    if step.route.choose == "fastest" and ours.speed and theirs.speed:
        return f"it has {theirs.speed / ours.speed:.0%} of the speed"
    return f"{step.taken.target.name} is the {step.route.choose} one of {step.route.label}"
