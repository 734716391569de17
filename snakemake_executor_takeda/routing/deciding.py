"""Where one job goes, step by step: a pure function of job, policy and moment.

Every step is kept, so that a decision can be explained, and made again from its explanation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from snakemake_executor_takeda.routing.asking import misfit, refusal, target_asked, wants_of
from snakemake_executor_takeda.routing.conditions import Condition, Moment, is_handoff
from snakemake_executor_takeda.routing.feasibility import Lack, lacks_of
from snakemake_executor_takeda.routing.market import NOTHING_KNOWN, Offer, best, offer_of
from snakemake_executor_takeda.routing.policy import HEALTHOMICS, Policy, Route
from snakemake_executor_takeda.routing.refusing import (
    PlacementError,
    check_words,
    contradicts,
    leads_to_healthomics,
    locked_out,
    no_backend,
    no_such_target,
    no_target,
    too_large,
)
from snakemake_executor_takeda.values import JobSpec, Target

DEFAULT = "default"
"""Label of the step that takes what no route does."""
NAMED = "the rule's own target"
ANY = "any target"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A target that a step could lead to."""

    target: Target
    listed: str
    """The name in the policy by which it was reached: its own, or that of one it is a fallback of."""
    misfit: str | None
    """Why it is not what the rule asks, None if it is."""
    lacks: tuple[Lack, ...] = ()
    """What it has not got for the job, looked at where it is what the rule asks."""
    offer: Offer = NOTHING_KNOWN

    @property
    def fits(self) -> bool:
        return self.misfit is None and not self.lacks

    @property
    def is_spot(self) -> bool:
        return self.target.capacity == "spot"

    def why_not(self) -> str:
        if self.misfit is not None:
            return self.misfit
        return f"{self.target.name} cannot hold it: {', '.join(map(str, self.lacks))}"


@dataclass(frozen=True, slots=True)
class Step:
    """One route that was looked at, or what stands in for one."""

    route: Route
    failed: Condition | None = None
    """The first of its conditions that does not hold; None where all do."""
    candidates: tuple[Candidate, ...] = ()
    taken: Candidate | None = None
    sets_aside: tuple[str, ...] = ()
    """What the rule asks itself (`capacity=spot`) and a locked route does not follow."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What came of a job, and every step on the way."""

    job: JobSpec
    at: Moment
    wants: Mapping[str, str]
    steps: tuple[Step, ...]
    refused: PlacementError | None = None
    """Why no target takes it; None where the last step has `taken`."""

    @property
    def target(self) -> Target | None:
        taken = self.steps[-1].taken if self.steps and not self.refused else None
        return taken.target if taken else None


def decide(job: JobSpec, policy: Policy, at: datetime | None = None) -> Decision:
    """`at` is the moment of the placement, now if it is left out and the policy asks for it.

    Routes that are locked come first. Then the rule's own `target` settles it. Else its other words
    and whether it is a hand-off say which targets fit, and the first matching route wins that has one,
    or a fallback of one; then the default in the same way; then the first target that fits what the
    rule asks. Of several that a route names its `choose` takes one. A target that cannot hold the
    job takes none, and where all of a route cannot, the job is refused.
    """
    if policy.needs_time:
        at = at or datetime.now(UTC)
    deciding = _Deciding(job, policy, at)
    refused = None
    try:
        deciding.decide()
    except PlacementError as error:
        refused = error
    return Decision(job, at, deciding.wants, tuple(deciding.steps), refused)


def fallback_of(job: JobSpec, target: Target, policy: Policy) -> str | None:
    """Where a job may go when `target` fails it: the first of the fallbacks that fits what the rule
    asks and can hold it. A rule that names its target has no other."""
    if target.fallback is None or target_asked(job) == target.name:
        return None
    deciding = _Deciding(job, policy, None)
    # Where a locked route has set the rule's words aside, they do not tell here, either.
    wants = {} if target_asked(job) or refusal(target, deciding.wants) else deciding.wants
    chain = deciding.candidates(Route("", (), (target.fallback,)), wants)
    return next((one.target.name for one in chain if one.fits), None)


@dataclass
class _Deciding:
    """The steps of one job so far."""

    job: JobSpec
    policy: Policy
    at: Moment
    steps: list[Step] = field(default_factory=list)
    wants: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.wants = wants_of(self.job, self.policy)

    def decide(self) -> None:
        """The last step is the one that takes the job. Raises PlacementError."""
        routes = iter(self.policy.routes)
        unlocked = None
        for route in routes:
            if not route.locked:
                unlocked = route
                break
            if self._holds(route) and self._take_locked(route):
                return
        if name := target_asked(self.job):
            self._take_named(name)
            return
        if self.wants:
            check_words(self.job, self.policy, self.wants)
        if unlocked is not None and (
            self._take_routed(unlocked) or any(map(self._take_routed, routes))
        ):
            return
        self._take_without_route()

    def candidates(self, route: Route, wants: Mapping[str, str]) -> tuple[Candidate, ...]:
        """The targets of a route, each followed by its fallbacks as long as none fits, so that a job
        which asks for On-Demand gets the On-Demand sibling of the target that its route names."""
        found: list[Candidate] = []
        seen: set[str] = set()
        for name in route.to:
            step: str | None = name
            while step is not None and step not in seen:
                seen.add(step)
                target = self.policy.targets[step]
                one = self._candidate(target, name, wants, route)
                found.append(one)
                if one.fits:
                    break
                step = target.fallback
            if route.choose == "first" and found and found[-1].fits:
                break
        return tuple(found)

    def _candidate(
        self, target: Target, listed: str, wants: Mapping[str, str], route: Route
    ) -> Candidate:
        why = misfit(target, wants, self.job)
        if why is not None or target.backend == HEALTHOMICS:
            # A hand-off's sizes and prices are its workflow's own.
            return Candidate(target, listed, why)
        shape, market = self.job.shape, self.policy.market
        lacks = lacks_of(target.limits, shape)
        if market is None and route.choose == "first":
            return Candidate(target, listed, None, lacks)
        offer = offer_of(target, shape, market)
        stated = {lack.resource for lack in lacks}
        more = tuple(lack for lack in offer.lacks if lack.resource not in stated)
        return Candidate(target, listed, None, (*lacks, *more), offer)

    def _holds(self, route: Route) -> bool:
        for condition in route.conditions:
            if not condition.test(self.job, self.at):
                self.steps.append(Step(route, condition))
                return False
        return True

    def _take_locked(self, route: Route) -> bool:
        """Whether the rule's own words fit it or not."""
        asked = dict(self.wants)
        if name := target_asked(self.job):
            asked["target"] = name
        candidates = self.candidates(route, asked)
        if asked and not any(one.fits for one in candidates):
            candidates = self.candidates(route, {})
            aside = tuple(f"{word}={value}" for word, value in asked.items())
        else:
            aside = ()
        if self._take(route, candidates, aside):
            return True
        self._refuse_too_large(route, candidates)
        raise locked_out(self.job, self._matched(route), candidates[0].why_not())

    def _take_named(self, name: str) -> None:
        target = self.policy.targets.get(name)
        if target is None:
            raise no_such_target(self.job, self.policy, name)
        route = Route(NAMED, (), (name,))
        one = self._candidate(target, name, self.wants, route)
        if self._take(route, (one,)):
            return
        if one.misfit is not None:
            raise contradicts(self.job, name, one.misfit)
        self._refuse_too_large(route, (one,))

    def _take_routed(self, route: Route) -> bool:
        if not self._holds(route):
            return False
        if not route.to:
            if self.wants.get("backend", route.needs) == route.needs:
                raise no_backend(self.job, self.policy, route, self._because(route))
            self.steps.append(Step(route))
            return False
        candidates = self.candidates(route, self.wants)
        if self._take(route, candidates):
            return True
        self._refuse_too_large(route, candidates)
        listed = [self.policy.targets[name] for name in route.to]
        if not is_handoff(self.job) and all(
            target.backend == HEALTHOMICS and not refusal(target, self.wants) for target in listed
        ):
            raise leads_to_healthomics(self.job, self._matched(route), ", ".join(route.to))
        return False

    def _take_without_route(self) -> None:
        policy = self.policy
        if policy.default:
            default = Route(DEFAULT, (), policy.default, policy.choose)
            candidates = self.candidates(default, self.wants)
            if self._take(default, candidates):
                return
            self._refuse_too_large(default, candidates)
        if self.wants or is_handoff(self.job):
            anywhere = Route(ANY, (), tuple(policy.targets))
            candidates = self._all(anywhere)
            if self._take(anywhere, candidates):
                return
            self._refuse_too_large(anywhere, candidates)
        raise no_target(self.job, policy, self.wants)

    def _all(self, route: Route) -> tuple[Candidate, ...]:
        return tuple(
            self._candidate(target, name, self.wants, route)
            for name, target in self.policy.targets.items()
        )

    def _take(
        self, route: Route, candidates: Iterable[Candidate], aside: tuple[str, ...] = ()
    ) -> bool:
        candidates = tuple(candidates)
        fitting = [one for one in candidates if one.fits]
        taken = None
        if len(fitting) == 1:
            taken = fitting[0]
        elif fitting:
            taken = fitting[best([(one.offer, one.is_spot) for one in fitting], route.choose)]
        self.steps.append(Step(route, None, candidates, taken, aside))
        return taken is not None

    def _refuse_too_large(self, route: Route, candidates: tuple[Candidate, ...]) -> None:
        """Raises PlacementError where the only trouble of a target is the size of the job: another place
        would not be what the policy says."""
        if not any(one.lacks for one in candidates):
            return
        tried = {one.target.name for one in candidates}
        others = [one for one in self._all(route) if one.target.name not in tried]
        named = 'set target="{name}" on the rule'
        if route.label == NAMED:
            where, remedy = f"it asks target={route.to[0]!r}, which cannot hold it", named
        elif route.label == DEFAULT:
            where = "no target of `default` can hold it"
            remedy = f"name it in `default`, add a route to it, {named}"
        elif route.label == ANY:
            where = f"no target of {self.policy.source} that is what it asks for can hold it"
            remedy = named
        else:
            where = f"no target of {route.label} can hold it"
            remedy = f"name it in `to` of that route, {named}"
        raise too_large(self.job, candidates, others, where=where, remedy=remedy)

    def _because(self, route: Route) -> str:
        return because(route, self.job, self.at)

    def _matched(self, route: Route) -> str:
        return f"{route.label} matched: {self._because(route)}"


def because(route: Route, job: JobSpec, at: Moment) -> str:
    """Why all conditions of a route hold."""
    return ", ".join(condition.explain(job, at) for condition in route.conditions)
