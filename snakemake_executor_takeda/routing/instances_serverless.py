"""Where nobody names an instance: a job as a task of Fargate or HealthOmics, its size and its price. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

from snakemake_executor_takeda.routing.instances import Instance, packaged_document
from snakemake_executor_takeda.routing.instances_packing import WORTH_SAYING, Need, count
from snakemake_executor_takeda.routing.prices import OmicsPrices, PriceBook

_GIB = 1024

FARGATE_MEM_MIB: Mapping[int, tuple[int, ...]] = {
    1: tuple(range(2 * _GIB, 8 * _GIB + 1, _GIB)),
    2: tuple(range(4 * _GIB, 16 * _GIB + 1, _GIB)),
    4: tuple(range(8 * _GIB, 30 * _GIB + 1, _GIB)),
    8: tuple(range(16 * _GIB, 60 * _GIB + 1, 4 * _GIB)),
    16: tuple(range(32 * _GIB, 120 * _GIB + 1, 8 * _GIB)),
    32: (60 * _GIB, 120 * _GIB, 244 * _GIB),
}
"""Legal memory by vCPU, by the model of Batch's API; the fractions of a vCPU are left out, as a rule asks
for whole threads."""

FARGATE_MIN_SECONDS = 60
OMICS_MIN_SECONDS = 60
"""A task of either is paid for at least this long."""
STATIC, DYNAMIC = "STATIC", "DYNAMIC"
"""Kinds of run storage of HealthOmics."""
STATIC_STORAGE_GIB = 1200
"""The least that static run storage of HealthOmics has, and is paid for."""


@dataclass(frozen=True, slots=True)
class FargateFit:
    """A job as a task of Fargate."""

    vcpus: int
    mem_mib: int
    on_demand_usd_per_hour: float | None
    spot_usd_per_hour: float | None
    """An estimate: there is no API for it."""
    idle_cpus: float
    idle_memory: float
    reasons: tuple[str, ...] = ()

    def usd_per_hour(self, capacity: str | None) -> float | None:
        return self.spot_usd_per_hour if capacity == "spot" else self.on_demand_usd_per_hour


@dataclass(frozen=True, slots=True)
class OmicsFit:
    """A task of HealthOmics, which has an instance to itself."""

    instance: Instance
    usd_per_hour: float | None
    idle_cpus: float
    idle_memory: float
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OmicsInstance:
    """A type of HealthOmics, and where it is to be had."""

    shape: Instance
    only_in_regions: frozenset[str]
    """Empty for every Region that has HealthOmics."""


@cache
def omics_instances() -> tuple[OmicsInstance, ...]:
    """From small to large: by vCPUs, then by memory, without GPUs first, so that the first that holds a
    task is the one that HealthOmics takes. Its guide: 8 vCPUs and 64 GiB run on omics.r.2xlarge."""
    rows = packaged_document()["healthomics"]["rows"]
    ones = (OmicsInstance(Instance(*row[:6]), frozenset(row[6])) for row in rows)
    return tuple(sorted(ones, key=_size))


def _size(one: OmicsInstance) -> tuple[int, int, int]:
    return one.shape.vcpus, one.shape.memory_mib, one.shape.gpus


def fargate_size(cpus: int, mem_mib: int) -> tuple[int, int] | None:
    """The least legal pair of vCPU and MiB with at least this much of both; None where there is none."""
    for legal_cpus, memories in FARGATE_MEM_MIB.items():
        if legal_cpus >= cpus:
            for legal_mib in memories:
                if legal_mib >= mem_mib:
                    return legal_cpus, legal_mib
    return None


@lru_cache(maxsize=8192)
def fargate_fit(need: Need, book: PriceBook) -> FargateFit | None:
    """The least legal size of a Fargate task that holds the job; None where there is none, for a job
    with GPUs, EFA or several nodes among others."""
    if need.gpus or need.nodes > 1 or need.efa:
        return None
    size = fargate_size(need.cpus, need.mem_mib)
    if size is None:
        return None
    vcpus, mem_mib = size
    full = _fargate_usd(need, book, vcpus, mem_mib)
    idle_cpus, idle_memory = 1 - need.cpus / vcpus, 1 - need.mem_mib / mem_mib
    reasons = []
    if (vcpus, mem_mib) != (need.cpus, need.mem_mib):
        reasons.append(
            f"asks for {count(need.cpus, 'CPU')} and {need.mem_mib:,} MiB: Fargate's next size is "
            f"{vcpus} vCPU with {mem_mib // 1024} GiB"
        )
    return FargateFit(
        vcpus,
        mem_mib,
        full,
        None if full is None else full * book.fargate_spot_share,
        idle_cpus,
        idle_memory,
        tuple(reasons),
    )


def _fargate_usd(need: Need, book: PriceBook, vcpus: int, mem_mib: int) -> float | None:
    prices = book.fargate
    if prices is None:
        return None
    cpu: float | None = prices.usd_per_vcpu_hour
    gib: float | None = prices.usd_per_gib_hour
    if need.architecture == "arm64":
        cpu, gib = prices.arm64_usd_per_vcpu_hour, prices.arm64_usd_per_gib_hour
    return None if cpu is None or gib is None else vcpus * cpu + mem_mib / 1024 * gib


def omics_in(region: str) -> tuple[OmicsInstance, ...]:
    """The types of HealthOmics in a Region, from small to large."""
    return tuple(
        one for one in omics_instances() if not one.only_in_regions or region in one.only_in_regions
    )


@lru_cache(maxsize=8192)
def omics_fit(need: Need, book: PriceBook) -> OmicsFit | None:
    """The smallest omics.* type that holds a task, which is the one HealthOmics takes; None where there
    is none. The service looks at the nominal memory, of which it keeps 5 % for its agents."""
    if need.nodes > 1 or need.efa or need.architecture == "arm64":
        return None
    for candidate in omics_in(book.region):
        one = candidate.shape
        if (
            need.cpus <= one.vcpus
            and need.mem_mib <= one.memory_mib
            and need.gpus <= one.gpus
            and (not need.gpus or one.has_gpu(need.gpu_model))
        ):
            price = book.healthomics.usd_per_hour.get(one.name) if book.healthomics else None
            idle = 1 - need.cpus / one.vcpus, 1 - need.mem_mib / one.memory_mib
            return OmicsFit(one, price, *idle, reasons=_omics_advice(one, *idle))
    return None


def _omics_advice(one: Instance, idle_cpus: float, idle_memory: float) -> tuple[str, ...]:
    if idle_cpus < WORTH_SAYING and idle_memory < WORTH_SAYING:
        return ()
    return (
        f"leaves {idle_cpus:.0%} of {one.name}'s vCPUs and {idle_memory:.0%} of its memory idle: "
        "a task of HealthOmics has its instance to itself",
    )


def omics_storage_usd(prices: OmicsPrices, kind: str, gib: float, hours: float) -> float | None:
    """What the storage of a run costs, `STATIC` for what is set aside (1,200 GiB at least) or `DYNAMIC`
    for what is used; None where the price is not known."""
    if kind == STATIC:
        each, gib = prices.static_storage_usd_per_gib_hour, max(gib, STATIC_STORAGE_GIB)
    else:
        each = prices.dynamic_storage_usd_per_gib_hour
    return None if each is None else each * gib * hours


def omics_task_usd(usd_per_hour: float, seconds: float) -> float:
    """What a task costs that runs so long: a minute at least."""
    return usd_per_hour * max(seconds, OMICS_MIN_SECONDS) / 3600
