"""What an EC2 instance type's name says: vCPUs, memory, processor. Pure.

The families c, m and r have 2, 4 and 8 GiB for each vCPU in generations 5 to 8, and a size's name
gives its vCPUs; the few exceptions are named. A name that says nothing is not guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from snakemake_executor_takeda.values import Target

_GIB = 1024
_GIB_PER_VCPU = {"c": 2, "m": 4, "r": 8}
_EXCEPTIONS = {"c5n": 2.625}
_HPC = {
    "hpc6a.48xlarge": (96, 384),
    "hpc6id.32xlarge": (64, 1024),
    "hpc7a.12xlarge": (24, 768),
    "hpc7a.24xlarge": (48, 768),
    "hpc7a.48xlarge": (96, 768),
    "hpc7a.96xlarge": (192, 768),
    "hpc7g.4xlarge": (16, 128),
    "hpc7g.8xlarge": (32, 128),
    "hpc7g.16xlarge": (64, 128),
}
_FAMILY = re.compile(r"(?P<letters>[a-z]+)(?P<generation>\d+)(?P<options>[a-z]*)(-flex)?")
_SIZE = re.compile(r"(?P<times>\d*)xlarge|metal-(?P<metal>\d+)xl|large|medium")
_GRAVITON = re.compile(r"a1|[a-z]+\d+g[a-z]*")
_USABLE = 0.95
"""The part of the nominal memory that the kernel leaves: of an m4.large's 8,192 MiB 7,985 are seen."""
_AGENT_MIB = 32
"""ECS_RESERVED_MEMORY, as Batch sets it."""


@dataclass(frozen=True)
class Size:
    """An instance's nominal size."""

    vcpus: int
    memory_mib: int

    @property
    def usable_mib(self) -> int:
        """What jobs can have of the memory, estimated on the safe side."""
        return int(self.memory_mib * _USABLE) - _AGENT_MIB


def size_of(instance_type: str) -> Size | None:
    """`m7i.large` → 2 vCPUs, 8,192 MiB; None for a family or a type that this module does not know."""
    if instance_type in _HPC:
        vcpus, gib = _HPC[instance_type]
        return Size(vcpus, gib * _GIB)
    family, _, size = instance_type.partition(".")
    found = _FAMILY.fullmatch(family)
    if not found or not 5 <= int(found["generation"]) <= 8:
        return None
    gib_per_vcpu = _EXCEPTIONS.get(family, _GIB_PER_VCPU.get(found["letters"]))
    sizes = _SIZE.fullmatch(size)
    if gib_per_vcpu is None or not sizes:
        return None
    vcpus = {"medium": 1, "large": 2}.get(size) or 4 * int(sizes["times"] or sizes["metal"] or 1)
    return Size(vcpus, int(vcpus * gib_per_vcpu * _GIB))


def fitted_memory(cpus: int, mem_mib: int, instances: Iterable[str]) -> int:
    """The memory to ask for so that one of the target's instances can give it.

    Lower than asked only where every listed type is known, none can give as much as is asked, and one
    would if it kept nothing for itself: Batch would leave such a job RUNNABLE for ever.
    """
    sizes = [size_of(instance) for instance in instances]
    known = [size for size in sizes if size is not None and size.vcpus >= cpus]
    if None in sizes or any(mem_mib <= size.usable_mib for size in known):
        return mem_mib
    near = [size.usable_mib for size in known if mem_mib <= size.memory_mib]
    return max(near, default=mem_mib)


def architecture_problem(target: Target) -> str | None:
    """What is wrong if a target's `instances` and its `architecture` do not go together.

    On EC2 a job definition cannot say it: the processor is that of the queue's instances.
    """
    wanted = target.options.architecture
    if wanted is None or target.options.platform != "EC2":
        return None
    other = [one for one in target.instances if _architecture(one) != wanted]
    if not other:
        return None
    return (
        f"{target.where}: architecture {wanted}, but {_listed(other)} in `instances` "
        f"{'is' if len(other) == 1 else 'are'} {_architecture(other[0])}: on EC2 the queue's instances "
        "decide, so name the right ones, or correct `architecture`"
    )


def _architecture(instance: str) -> str:
    return "arm64" if _GRAVITON.fullmatch(instance.partition(".")[0]) else "x86_64"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
