"""EC2 instance types: what each has, which a policy's words mean, what a host keeps of its memory. Pure.

The table is `instances.json`, with its source and date in it. A type that it does not have is not
guessed at: whoever asks gets None, and can say so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache, cached_property
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("instances.json")

OPTIMAL = "optimal"
BUNDLES: Mapping[str, tuple[str, ...]] = {
    OPTIMAL: ("m6i", "c6i", "r6i", "c7i"),
    "default_x86_64": ("m6i", "c6i", "r6i", "c7i"),
    "default_arm64": ("m6g", "c6g", "r6g", "c7g"),
}
"""Words of Batch for several families, by its API reference; `optimal` is so since November 2025."""

DEFAULT_MEM_MIB = 2048
"""What jobs of Batch get where neither the rule nor Snakemake's default resources ask for memory."""

_USABLE = 0.95
_AGENT_MIB = 32
_GRAVITON = re.compile(r"a1|[a-z]+\d+g[a-z]*")
_GPU_MEMORY = re.compile(r"(?P<model>.+?)[-_ ]?(?P<gb>\d+)gb?")
_GPU_NOISE = re.compile(r"^(nvidia|tesla|geforce)[-_ ]*|[-_ ]+")


class Host(Enum):
    """What runs the jobs on an instance, and so keeps a part of its memory."""

    BATCH = "batch"
    """5 % for the kernel, which AWS Batch's guide recommends to leave (of an m4.large's 8,192 MiB 7,985
    are seen), and the 32 MiB that its image reserves for the ECS agent."""
    SLURM = "slurm"
    """5 %: ParallelCluster gives Slurm 95 % of a type's memory as RealMemory (SchedulableMemory)."""


@dataclass(frozen=True, slots=True)
class Instance:
    """An EC2 instance type."""

    name: str
    vcpus: int
    memory_mib: int
    gpus: int = 0
    gpu_model: str = ""
    """As EC2 has it: `A10G`, `T4`, `H100`; empty without a GPU."""
    gpu_memory_mib: int = 0
    """Of one GPU."""
    efa_interfaces: int = 0
    """0 where it has no Elastic Fabric Adapter."""
    architecture: str = "x86_64"
    local_nvme_gb: int = 0
    network_gbps: float = 0.0
    """What it has all the time, not the peak."""

    @property
    def family(self) -> str:
        return self.name.partition(".")[0]

    @property
    def is_metal(self) -> bool:
        return ".metal" in self.name

    def usable_mib(self, host: Host = Host.BATCH) -> int:
        """What jobs can have of the memory, estimated on the safe side."""
        return int(self.memory_mib * _USABLE) - (_AGENT_MIB if host is Host.BATCH else 0)

    def has_gpu(self, model: str | None) -> bool:
        """Whether its GPUs are of a model as people write it: `a10g`, `nvidia-t4`, `A100-80GB`."""
        if not self.gpus:
            return False
        if model is None or plain_model(model) == plain_model(self.gpu_model):
            return True
        sized = _GPU_MEMORY.fullmatch(model.strip().lower())
        return (
            sized is not None
            and plain_model(sized["model"]) == plain_model(self.gpu_model)
            and self.gpu_memory_mib >= int(sized["gb"]) * 1000 * 0.9
        )


@dataclass(frozen=True)
class Meant:
    """What words of a policy mean."""

    instances: tuple[Instance, ...]
    unknown: tuple[str, ...]
    """Words that are neither a type, nor a family, nor one of Batch's own."""


@dataclass(frozen=True, eq=False)
class Instances:
    """Instance types by name. Compared by identity, so that it can be part of a cache's key."""

    by_name: Mapping[str, Instance]
    date: str = ""
    source: str = ""
    _meanings: dict[tuple[str, ...], Meant] = field(default_factory=dict, repr=False)

    @cached_property
    def families(self) -> Mapping[str, tuple[Instance, ...]]:
        """By family, from small to large. Without bare metal: it costs what the same size costs
        without, or more, so that a family is never better off with it."""
        found: dict[str, list[Instance]] = {}
        for one in self.by_name.values():
            if not one.is_metal:
                found.setdefault(one.family, []).append(one)
        return {
            name: tuple(sorted(ones, key=lambda one: (one.vcpus, one.name)))
            for name, ones in found.items()
        }

    def get(self, name: str) -> Instance | None:
        return self.by_name.get(name)

    def meant(self, words: Sequence[str]) -> Meant:
        """The types that `c7i.4xlarge`, `c7i` or `optimal` stand for, in the order of the words."""
        key = tuple(words)
        known = self._meanings.get(key)
        if known is None:
            known = self._meanings[key] = self._look(key)
        return known

    def _look(self, words: tuple[str, ...]) -> Meant:
        found: dict[str, Instance] = {}
        unknown = []
        for word in words:
            if one := self.by_name.get(word):
                found[word] = one
                continue
            some = [
                one for name in BUNDLES.get(word, (word,)) for one in self.families.get(name, ())
            ]
            found.update((one.name, one) for one in some)
            if not some:
                unknown.append(word)
        return Meant(tuple(found.values()), tuple(unknown))

    def with_types(self, others: Iterable[Instance], date: str, source: str) -> Instances:
        """With what somebody has asked EC2 for, which comes before what the table has."""
        return Instances({**self.by_name, **{one.name: one for one in others}}, date, source)


@cache
def packaged_document() -> Mapping[str, Any]:
    """`instances.json` as it is: EC2's types, and HealthOmics'."""
    document: Mapping[str, Any] = json.loads(TABLE.read_text(encoding="utf-8"))
    return document


@cache
def packaged() -> Instances:
    """The table of the package."""
    ec2 = packaged_document()["ec2"]
    ones = (Instance(*row) for row in ec2["rows"])
    return Instances({one.name: one for one in ones}, ec2["date"], ec2["source"])


def plain_model(model: str) -> str:
    """A GPU model without what people add or leave out: `NVIDIA Tesla T4` → `t4`."""
    text = model.strip().lower()
    previous = None
    while text != previous:
        previous, text = text, _GPU_NOISE.sub("", text, count=1)
    return text


def architecture_of(word: str, table: Instances | None = None) -> str:
    """`arm64` or `x86_64`, of a type or a family; of one that the table does not have by its name, where
    Graviton has a `g` behind the generation."""
    meant = (table or packaged()).meant((word,)).instances
    if meant:
        return meant[0].architecture
    return "arm64" if _GRAVITON.fullmatch(word.partition(".")[0]) else "x86_64"


def fitted_memory(cpus: int, mem_mib: int, words: Sequence[str]) -> int:
    """The memory to ask Batch for so that one of the target's instances can give it.

    Lower than asked only where every word is a type that is known, none can give as much as is asked,
    and one would if it kept nothing for itself: Batch would leave such a job RUNNABLE for ever.
    """
    table = packaged()
    types = [table.get(word) for word in words]
    known = [one for one in types if one is not None and one.vcpus >= cpus]
    if None in types or any(mem_mib <= one.usable_mib() for one in known):
        return mem_mib
    near = [one.usable_mib() for one in known if mem_mib <= one.memory_mib]
    return max(near, default=mem_mib)
