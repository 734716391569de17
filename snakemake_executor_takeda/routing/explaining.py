"""A placement with everything that led to it, from which it can be made again. Plain values for JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from snakemake_executor_takeda.routing.clock import DAYS
from snakemake_executor_takeda.routing.conditions import Condition, Moment
from snakemake_executor_takeda.routing.deciding import Candidate, Step, decide
from snakemake_executor_takeda.routing.policy import Policy
from snakemake_executor_takeda.routing.router import reasons_of
from snakemake_executor_takeda.values import JobSpec


@dataclass(frozen=True)
class Tested:
    """A condition, and what the job has."""

    word: str
    """As in the policy; `wildcards.sample` for one wildcard."""
    wanted: str
    value: Any
    """The names of rule (and group), a text, a number, a flag, `21:30`, `sat`; None if not known."""
    holds: bool
    text: str


@dataclass(frozen=True)
class Choice:
    """A target that a step could lead to, and why it did not."""

    target: str
    instead_of: str | None
    """The target of the policy that it is a fallback of; None where it is named itself."""
    misfit: str | None
    """Why it is not what the rule asks."""
    lacks: tuple[str, ...]
    """What it has not got for the job."""
    capacity: str | None
    usd_per_hour: float | None
    speed: float | None
    instance: str


@dataclass(frozen=True)
class Looked:
    """A route that was looked at, or what stands in for one: the rule's own target, the default."""

    label: str
    when: str
    locked: bool
    choose: str
    conditions: tuple[Tested, ...]
    choices: tuple[Choice, ...]
    """Empty where a condition does not hold."""
    sets_aside: tuple[str, ...]
    taken: str | None


@dataclass(frozen=True)
class Explanation:
    """Of one job under one policy at one moment."""

    rule: str
    wildcards: Mapping[str, str]
    attempt: int
    at: str | None
    """The moment, ISO 8601; None where the policy does not ask for it."""
    asks: Mapping[str, str]
    """What the rule asks of its target by its own resources."""
    steps: tuple[Looked, ...]
    """In the order in which they were looked at: the last one tells."""
    target: str | None
    fallback_chain: tuple[str, ...]
    """The targets that stand behind it by the policy, in order."""
    reasons: tuple[str, ...]
    refused: str | None
    """Why no target takes it."""

    def lines(self) -> Iterator[str]:
        """For a terminal."""
        for step in self.steps:
            yield step.label + (f" {step.when}" if step.when else "")
            for tested in step.conditions:
                yield f"    {'yes' if tested.holds else 'no '}  {tested.text}"
            for choice in step.choices:
                why = choice.misfit or "; ".join(f"cannot hold it: {one}" for one in choice.lacks)
                name = choice.target
                if choice.instead_of:
                    name += f", the fallback of {choice.instead_of}"
                yield f"    {_mark(step, choice)}  {name}{f': {why}' if why else ''}"
        yield f"→ {self.target}" if self.target else f"→ refused: {self.refused}"
        for reason in self.reasons:
            yield f"    {reason}"


def explain(job: JobSpec, policy: Policy, at: datetime | None = None) -> Explanation:
    """By the same steps as a run; `at` is the moment of the placement, now if it is left out."""
    decision = decide(job, policy, at)
    chain: list[str] = []
    step = decision.target.fallback if decision.target else None
    while step is not None and step not in chain:
        chain.append(step)
        step = policy.targets[step].fallback
    return Explanation(
        rule=job.rule,
        wildcards=dict(job.wildcards),
        attempt=job.attempt,
        at=decision.at.isoformat() if decision.at else None,
        asks=dict(decision.wants)
        | ({"target": str(job.resources["target"])} if job.resources.get("target") else {}),
        steps=tuple(_looked(step, job, decision.at) for step in decision.steps),
        target=decision.target.name if decision.target else None,
        fallback_chain=tuple(chain),
        reasons=tuple(reasons_of(decision, policy)) if decision.target else (),
        refused=str(decision.refused) if decision.refused else None,
    )


def _looked(step: Step, job: JobSpec, at: Moment) -> Looked:
    route = step.route
    return Looked(
        label=route.label,
        when=route.when,
        locked=route.locked,
        choose=route.choose,
        conditions=tuple(_tested(condition, job, at) for condition in route.conditions),
        choices=tuple(map(_choice, step.candidates)),
        sets_aside=step.sets_aside,
        taken=step.taken.target.name if step.taken else None,
    )


def _tested(condition: Condition, job: JobSpec, at: Moment) -> Tested:
    holds = condition.test(job, at)
    value = condition.value(job, at)
    if isinstance(value, datetime):
        value = f"{value:%H:%M}" if condition.word == "time" else DAYS[value.weekday()]
    told = condition.explain if holds else condition.explain_not
    return Tested(condition.word, condition.wanted, value, holds, told(job, at))


def _choice(one: Candidate) -> Choice:
    return Choice(
        target=one.target.name,
        instead_of=one.listed if one.listed != one.target.name else None,
        misfit=one.misfit,
        lacks=tuple(map(str, one.lacks)),
        capacity=one.target.capacity,
        usd_per_hour=one.offer.usd_per_hour,
        speed=one.offer.speed,
        instance=one.offer.instance,
    )


def _mark(step: Looked, choice: Choice) -> str:
    if choice.target == step.taken:
        return "→  "
    return "no " if choice.misfit or choice.lacks else "   "
