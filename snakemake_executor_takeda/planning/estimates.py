"""What one job takes: time from history or from what its rule asks, cost from that and its place. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from snakemake_executor_takeda.routing.instances_serverless import DYNAMIC, STATIC

if TYPE_CHECKING:
    from snakemake_executor_takeda.planning.history import Past
    from snakemake_executor_takeda.routing.market import Offer
    from snakemake_executor_takeda.routing.prices import OmicsPrices
    from snakemake_executor_takeda.values import Shape

Basis = Literal["history", "runtime", "unknown"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of one job. None for what is not known."""

    seconds: float | None
    basis: Basis
    """`runtime` is the longest that the rule allows: the job may take less."""
    usd: float | None = None
    """Where it is placed."""
    usd_spot: float | None = None
    usd_on_demand: float | None = None


def estimate(shape: Shape, offer: Offer | None, past: Past | None) -> Estimate:
    """Of a job whose place has this offer, and whose rule has this past there."""
    if past is not None:
        seconds, basis, lost = past.mean_seconds, "history", past.lost_part
    elif shape.runtime_min is not None:
        seconds, basis, lost = shape.runtime_min * 60.0, "runtime", 0.0
    else:
        return Estimate(None, "unknown")
    if offer is None:
        return Estimate(seconds, basis)  # type: ignore[arg-type]
    hours = seconds * (1 + lost) / 3600
    return Estimate(
        seconds,
        basis,  # type: ignore[arg-type]
        _times(offer.usd_per_hour, hours),
        _times(offer.spot_usd_per_hour, hours),
        # What was lost is lost to Spot.
        _times(offer.on_demand_usd_per_hour, seconds / 3600),
    )


def of_healthomics(past: Past | None, prices: OmicsPrices | None) -> Estimate:
    """Of a hand-off: what its earlier runs were billed for. HealthOmics has no Spot."""
    if past is None:
        return Estimate(None, "unknown")
    bills = [usd_of_usage(usage, prices) for usage in past.usage] if prices else []
    known = [bill for bill in bills if bill is not None]
    usd = sum(known) / len(known) if known and len(known) == len(bills) else None
    return Estimate(past.mean_seconds, "history", usd, None, usd)


def usd_of_usage(usage: Mapping[str, float], prices: OmicsPrices) -> float | None:
    """What a run is billed: billed seconds by `omics.*` type, GiB hours by kind of storage. None where a price is
    not known."""
    storage = {
        STATIC: prices.static_storage_usd_per_gib_hour,
        DYNAMIC: prices.dynamic_storage_usd_per_gib_hour,
    }
    total = 0.0
    for what, amount in usage.items():
        each = storage.get(what) if what in storage else prices.usd_per_hour.get(what)
        if each is None:
            return None
        total += each * amount / (1 if what in storage else 3600)
    return total


def _times(usd_per_hour: float | None, hours: float) -> float | None:
    return None if usd_per_hour is None else usd_per_hour * hours
