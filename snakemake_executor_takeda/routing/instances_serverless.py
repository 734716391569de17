"""Where nobody names an instance: Fargate's sizes of a task, and the omics.* types of HealthOmics. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from snakemake_executor_takeda.routing.instances import Instance, packaged_document

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

STATIC_STORAGE_GIB = 1200
"""The least that static run storage of HealthOmics has, and is paid for."""


@dataclass(frozen=True, slots=True)
class OmicsInstance:
    """A type of HealthOmics, and where it is to be had."""

    shape: Instance
    only_in_regions: frozenset[str]
    """Empty for every Region that has HealthOmics."""


@cache
def omics_instances() -> tuple[OmicsInstance, ...]:
    """From small to large: by vCPUs, then by memory, so that the first that holds a task is the one that
    HealthOmics takes. Its guide: 8 vCPUs and 64 GiB run on omics.r.2xlarge."""
    rows = packaged_document()["healthomics"]["rows"]
    ones = (OmicsInstance(Instance(*row[:6]), frozenset(row[6])) for row in rows)
    return tuple(sorted(ones, key=lambda one: (one.shape.vcpus, one.shape.memory_mib)))


def fargate_size(cpus: int, mem_mib: int) -> tuple[int, int] | None:
    """The least legal pair of vCPU and MiB with at least this much of both; None where there is none."""
    for legal_cpus, memories in FARGATE_MEM_MIB.items():
        if legal_cpus >= cpus:
            for legal_mib in memories:
                if legal_mib >= mem_mib:
                    return legal_cpus, legal_mib
    return None
