"""A job's shape on an instance type: does it fit, how many do, what an hour of it costs, what lies idle.
Pure, and quick for many jobs: a shape is worked out once.

A job pays for the part of an instance that it takes, by the scarcest of CPUs, memory and GPUs; a job
that has its nodes to itself pays for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from snakemake_executor_takeda.routing.instances import (
    DEFAULT_MEM_MIB,
    Host,
    Instance,
    fitted_memory,
)
from snakemake_executor_takeda.routing.prices import PriceBook

if TYPE_CHECKING:
    from snakemake_executor_takeda.values import Shape

WORTH_SAYING = 0.4
"""Part of an instance that has to lie idle before it is said."""
_WORTH_CHANGING = 0.1
"""Part of the price that another type has to save before it is named."""
_AS_CHEAP = 1.02
"""Prices so near are one: the smaller instance is then the better one."""
SIBLINGS = "cmr"
"""Families that differ in memory for each vCPU only: 2, 4 and 8 GiB."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a job asks of each of its nodes."""

    cpus: int = 1
    mem_mib: int = DEFAULT_MEM_MIB
    gpus: int = 0
    gpu_model: str | None = None
    nodes: int = 1
    whole_nodes: bool = False
    """It shares its nodes with nobody: jobs on several, MPI jobs, exclusive partitions."""
    efa: bool = False
    architecture: str | None = None
    """`x86_64` or `arm64`; None where any will do."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A job on an instance type. Prices are of the whole job, over all nodes; None where not known."""

    instance: Instance
    jobs: int
    """How many such jobs fit on one instance; 1 for one that has its nodes to itself."""
    share: float
    """The part of an instance that each node of the job pays for: 1 for whole nodes."""
    nodes: int
    on_demand_usd_per_hour: float | None
    spot_usd_per_hour: float | None
    spot_is_estimate: bool
    idle_cpus: float
    """Part of the vCPUs that nobody has when the instance is full of such jobs."""
    idle_memory: float
    """Likewise of the memory that jobs can have."""
    reasons: tuple[str, ...] = ()

    def usd_per_hour(self, capacity: str | None) -> float | None:
        """By the capacity of a target: `spot`, or On-Demand for everything else."""
        return self.spot_usd_per_hour if capacity == "spot" else self.on_demand_usd_per_hour


def need_of(
    shape: Shape,
    *,
    whole_nodes: bool = False,
    efa: bool = False,
    architecture: str | None = None,
    default_mem_mib: int = DEFAULT_MEM_MIB,
) -> Need:
    """What a shape asks of one node. Snakemake's MB are 10^6 bytes, AWS's MiB 2^20."""
    together = bool(shape.mpi) or shape.nodes > 1
    ranks = shape.tasks_per_node or -(-shape.tasks // shape.nodes) if together else 1
    return Need(
        cpus=shape.cpus * ranks,
        mem_mib=default_mem_mib if shape.mem_mb is None else -(-shape.mem_mb * 10**6 // 2**20),
        gpus=-(-shape.gpus // shape.nodes),
        gpu_model=shape.gpu_model,
        nodes=shape.nodes,
        whole_nodes=whole_nodes or together,
        efa=efa,
        architecture=architecture,
    )


def holds(instance: Instance, need: Need, host: Host) -> bool:
    """Whether one node of the job fits on the type."""
    return (
        need.cpus <= instance.vcpus
        and need.mem_mib <= instance.usable_mib(host)
        and need.gpus <= instance.gpus
        and (not need.gpus or instance.has_gpu(need.gpu_model))
        and (not need.efa or instance.efa_interfaces > 0)
        and need.architecture in (None, instance.architecture)
    )


@lru_cache(maxsize=8192)
def fits(
    need: Need, words: tuple[str, ...], book: PriceBook, host: Host = Host.BATCH
) -> tuple[Fit, ...]:
    """The types of a target's `instances` that hold the job, by the On-Demand price of its share, then
    those without a known price. The first is the smallest of those that cost no more than 2 % above the
    least.

    Empty where none holds it: `instances_feasibility.lack` says why. With Batch, a job that asks for all
    of the largest type's memory gets what that can give, as it does in a run.
    """
    lowered = need
    because: tuple[str, ...] = ()
    if host is Host.BATCH:
        mem_mib = fitted_memory(need.cpus, need.mem_mib, words)
        if mem_mib != need.mem_mib:
            lowered = replace(need, mem_mib=mem_mib)
            because = (
                f"gets {mem_mib:,} of {need.mem_mib:,} MiB: the instance keeps the rest for itself",
            )
    found = [
        _fit(one, lowered, book, host, because)
        for one in book.instances.meant(words).instances
        if book.offers(one.name) and holds(one, lowered, host)
    ]
    found.sort(key=_dearness)
    if found:
        best = _smallest_of_the_cheap(found)
        found.remove(best)
        found.insert(0, best)
        found[0] = replace(found[0], reasons=(*because, *_advice(found[0], lowered, book, host)))
    return tuple(found)


def _smallest_of_the_cheap(found: Sequence[Fit]) -> Fit:
    """Sizes of a family cost the same for what a job takes, but for what each host keeps for itself."""
    least = found[0].on_demand_usd_per_hour
    if least is None:
        return found[0]
    cheap = (
        fit
        for fit in found
        if fit.on_demand_usd_per_hour is not None
        and fit.on_demand_usd_per_hour <= least * _AS_CHEAP
    )
    return min(cheap, key=lambda fit: (fit.instance.vcpus, fit.instance.memory_mib, _dearness(fit)))


def _dearness(fit: Fit) -> tuple[bool, float, int, int, str]:
    price = fit.on_demand_usd_per_hour
    rounded = 0.0 if price is None else round(price, 6)
    one = fit.instance
    return price is None, rounded, one.vcpus, one.memory_mib, one.name


def _fit(one: Instance, need: Need, book: PriceBook, host: Host, because: tuple[str, ...]) -> Fit:
    usable = one.usable_mib(host)
    if need.whole_nodes:
        jobs, share = 1, 1.0
    else:
        taken = [need.cpus / one.vcpus, need.mem_mib / usable]
        fit = [one.vcpus // need.cpus, usable // need.mem_mib if need.mem_mib else one.vcpus]
        if need.gpus:
            taken.append(need.gpus / one.gpus)
            fit.append(one.gpus // need.gpus)
        jobs, share = min(fit), max(taken)
    full, spot = book.on_demand_usd(one.name), book.spot_usd(one.name)
    part = share * need.nodes
    return Fit(
        instance=one,
        jobs=jobs,
        share=share,
        nodes=need.nodes,
        on_demand_usd_per_hour=None if full is None else full * part,
        spot_usd_per_hour=None if spot is None else spot.usd_per_hour * part,
        spot_is_estimate=spot is None or spot.is_estimate,
        idle_cpus=1 - jobs * need.cpus / one.vcpus,
        idle_memory=1 - jobs * need.mem_mib / usable,
        reasons=because,
    )


def _advice(best: Fit, need: Need, book: PriceBook, host: Host) -> tuple[str, ...]:
    """What the best of a target's types wastes, and which type would not."""
    one, texts = best.instance, []
    if need.gpus == 0 and one.gpus:
        texts.append(f"{one.name} has {count(one.gpus, 'GPU')}, and the job asks for none")
    if need.whole_nodes:
        if best.idle_cpus >= WORTH_SAYING:
            texts.append(
                f"uses {need.cpus} of {one.vcpus} vCPUs of {one.name}, and pays for all of them"
            )
        return tuple(texts)
    if one.gpus:
        return tuple(texts)
    short_of_memory = best.idle_cpus >= best.idle_memory
    part = best.idle_cpus if short_of_memory else best.idle_memory
    if part < WORTH_SAYING:
        return tuple(texts)
    waste, of = ("memory wastes", "vCPUs") if short_of_memory else ("CPUs waste", "memory")
    text = f"{waste} {part:.0%} of {one.name}'s {of}"
    better = _better(best, need, book, host)
    if better:
        text += f": {better.instance.name} would hold {better.jobs}, {_saving(best, better)}"
    if better or short_of_memory:
        texts.append(text)
    return tuple(texts)


def _better(best: Fit, need: Need, book: PriceBook, host: Host) -> Fit | None:
    """The cheapest type of the same size whose family differs in memory for each vCPU only."""
    price = best.on_demand_usd_per_hour
    family, _, size = best.instance.name.partition(".")
    if price is None or family[0] not in SIBLINGS:
        return None
    others = [
        _fit(one, need, book, host, ())
        for letter in SIBLINGS
        if letter != family[0] and (one := book.instances.get(f"{letter}{family[1:]}.{size}"))
        if book.offers(one.name) and holds(one, need, host)
    ]
    priced = [fit for fit in others if fit.on_demand_usd_per_hour is not None]
    cheapest = min(priced, key=_dearness, default=None)
    if cheapest is None or _dearness(cheapest)[1] > price * (1 - _WORTH_CHANGING):
        return None
    return cheapest


def _saving(best: Fit, better: Fit) -> str:
    before, after = best.on_demand_usd_per_hour, better.on_demand_usd_per_hour
    return f"at {usd(after)} an hour for a job instead of {usd(before)}"


def usd(amount: float | None) -> str:
    """`$0.0661`, `$12.30`, and `no known price`."""
    if amount is None:
        return "no known price"
    return f"${amount:.4f}" if amount < 1 else f"${amount:,.2f}"


def count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
