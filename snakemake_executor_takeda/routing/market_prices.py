"""The market of the table of instances and prices: what the types that a target names hold and cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from snakemake_executor_takeda.routing import instances_feasibility as table
from snakemake_executor_takeda.routing.feasibility import Lack
from snakemake_executor_takeda.routing.instances import Host
from snakemake_executor_takeda.routing.instances_packing import Need, fits, need_of
from snakemake_executor_takeda.routing.instances_serverless import fargate_fit
from snakemake_executor_takeda.routing.market import NOTHING_KNOWN, Offer, RememberingMarket
from snakemake_executor_takeda.routing.prices import price_book

if TYPE_CHECKING:
    from snakemake_executor_takeda.routing.policy import Policy
    from snakemake_executor_takeda.routing.prices import PriceBook
    from snakemake_executor_takeda.values import Shape, Target

_RESOURCES = {"cpus": "threads", "memory": "mem_mb"}
"""Kind of a lack in the table → the rule's word for it."""


class PriceMarket:
    """Prices of the Region of each target. Nothing is known of a target that names no instances.

    What is lacking is said of Batch targets only: a cluster's own nodes are looked at when a run starts.
    """

    def __init__(self, book_of: Callable[[Target], PriceBook | None]) -> None:
        """`book_of` gives the prices that hold for a target; None where its Region is not known."""
        self._book_of = book_of

    def rank(self, targets: Sequence[Target], shape: Shape) -> Sequence[Offer]:
        return [self._offer(target, shape) for target in targets]

    def _offer(self, target: Target, shape: Shape) -> Offer:
        is_fargate = getattr(target.options, "platform", None) == "FARGATE"
        book = self._book_of(target) if target.instances or is_fargate else None
        if book is None:
            return NOTHING_KNOWN
        need = need_of(shape, architecture=getattr(target.options, "architecture", None))
        if is_fargate:
            return _of_fargate(target, need, book)
        if target.backend == "batch":
            return _of_instances(target, need, book)
        # The part of its memory that a node keeps is Slurm's to say.
        return replace(_of_instances(target, need, book, Host.SLURM), lacks=(), would_hold="")


def with_prices(policy: Policy, region: Callable[[], str | None]) -> Policy:
    """The policy whose choices and refusals go by the table, too: of the Region that a target names, else
    of `region`, which is asked where a price is. Raises TakedaError, later, for what is no Region's name."""

    def book_of(target: Target) -> PriceBook | None:
        here = getattr(target.options, "region", None) or region()
        return price_book(here) if here else None

    return replace(policy, market=RememberingMarket(PriceMarket(book_of)))


def _of_instances(target: Target, need: Need, book: PriceBook, host: Host = Host.BATCH) -> Offer:
    found = fits(need, target.instances, book, host)
    if not found:
        return _lacking(table.lack(need, target.instances, book, host))
    # To a millionth of a dollar: sizes of a family cost the same for a CPU, and the smallest comes first.
    priced = [
        (round(usd, 6), fit.instance.name)
        for fit in found
        if (usd := fit.usd_per_hour(target.capacity)) is not None
    ]
    usd, name = min(priced, key=lambda one: one[0], default=(None, found[0].instance.name))
    taken = next(fit for fit in found if fit.instance.name == name)
    return Offer(
        usd_per_hour=usd,
        on_demand_usd_per_hour=taken.on_demand_usd_per_hour,
        spot_usd_per_hour=taken.spot_usd_per_hour,
        instance=name,
        advice=taken.reasons,
    )


def _of_fargate(target: Target, need: Need, book: PriceBook) -> Offer:
    task = fargate_fit(need, book)
    if task is None:
        return _lacking(table.fargate_lack(need, book))
    return Offer(
        usd_per_hour=task.usd_per_hour(target.capacity),
        on_demand_usd_per_hour=task.on_demand_usd_per_hour,
        spot_usd_per_hour=task.spot_usd_per_hour,
        instance=f"Fargate, {task.vcpus} vCPU with {task.mem_mib // 1024} GiB",
        advice=task.reasons,
    )


def _lacking(lack: table.Lack | None) -> Offer:
    # Where types can be had changes sooner than the table does: no reason to refuse a job.
    if lack is None or "region" in lack.kinds:
        return NOTHING_KNOWN
    return Offer(
        lacks=tuple(
            Lack(_RESOURCES.get(kind, kind), "", "", text)
            for kind, text in zip(lack.kinds, lack.missing, strict=True)
        ),
        would_hold=lack.nearest.name if lack.nearest else "",
    )
