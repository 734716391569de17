"""What targets offer a job, in prices and speed, and which of several offers is taken. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from snakemake_executor_takeda.routing.feasibility import Lack, cpus_of_node, gpus_of_node

if TYPE_CHECKING:
    from snakemake_executor_takeda.routing.policy_file import Choose
    from snakemake_executor_takeda.values import Shape, Target


@dataclass(frozen=True)
class Offer:
    """What a target has for one job."""

    usd_per_hour: float | None = None
    """Of the job's share of its nodes, as the target's capacity has it; None where it is not known."""
    on_demand_usd_per_hour: float | None = None
    spot_usd_per_hour: float | None = None
    speed: float | None = None
    """Of a CPU, 1 being an ordinary one; None where it is not known."""
    instance: str = ""
    """The instance type that it is about, with its price's date if there is one."""
    lacks: tuple[Lack, ...] = ()
    """What no instance of the target has; empty where the job fits one, or none is known."""
    would_hold: str = ""
    """An instance type that would have it; empty where none is known."""
    advice: tuple[str, ...] = ()
    """What the job wastes of the instance, and which one would not."""

    @property
    def usd_per_work(self) -> float | None:
        """What the work of an hour of an ordinary CPU costs: twice as fast is half as long."""
        return None if self.usd_per_hour is None else self.usd_per_hour / (self.speed or 1.0)


class Market(Protocol):
    """Who knows instances and prices. Its answers to equal questions are equal."""

    def rank(self, targets: Sequence[Target], shape: Shape) -> Sequence[Offer]:
        """An offer of each target, in the order of the targets."""


class RememberingMarket:
    """A market that is asked once for each shape and target."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._known: dict[tuple[str, Shape], Offer] = {}

    def rank(self, targets: Sequence[Target], shape: Shape) -> Sequence[Offer]:
        new = [target for target in targets if (target.name, shape) not in self._known]
        if new:
            offers = self._market.rank(new, shape)
            for target, offer in zip(new, offers, strict=True):
                self._known[target.name, shape] = offer
        return [self._known[target.name, shape] for target in targets]


NOTHING_KNOWN = Offer()


def offer_of(target: Target, shape: Shape, market: Market | None) -> Offer:
    """The market's, with what the target states itself in place of it."""
    (offer,) = market.rank((target,), shape) if market else (NOTHING_KNOWN,)
    if target.speed is not None:
        offer = replace(offer, speed=target.speed)
    if target.usd_per_cpu_hour is not None or target.usd_per_gpu_hour is not None:
        of_node = cpus_of_node(shape) * (target.usd_per_cpu_hour or 0.0)
        of_node += gpus_of_node(shape) * (target.usd_per_gpu_hour or 0.0)
        usd = of_node * shape.nodes
        return Offer(usd, usd, usd, offer.speed, lacks=offer.lacks, would_hold=offer.would_hold)
    return offer


def best(offers: Sequence[tuple[Offer, bool]], choose: Choose) -> int:
    """Position of the offer that is taken; of each it matters whether its machines are Spot.

    `cheapest`: the least for the same work, to three digits; those without a price come last, Spot before
    others.
    `fastest`: the highest speed, 1 where it is not known; others before Spot, which is interrupted.
    Equals go by their order, as does all with `first`.
    """

    def key(position: int) -> tuple[float, ...]:
        offer, is_spot = offers[position]
        if choose == "cheapest":
            cost = offer.usd_per_work
            # Types of one family differ in the fourth digit, by what each keeps for itself.
            rounded = 0.0 if cost is None else float(f"{cost:.3g}")
            return (cost is None, rounded, cost is None and not is_spot, position)
        if choose == "fastest":
            return (-(offer.speed or 1.0), is_spot, position)
        return (position,)

    return min(range(len(offers)), key=key)
