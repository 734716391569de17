"""The cluster as values: partitions, nodes grouped by what a job sees of them, limits. Pure.

AWS ParallelCluster is known by its node names, `<queue>-{st,dy}-<compute resource>-<number>`, and by its
features `static|dynamic,<instance type>,<compute resource>[,efa][,gpu]`; the instance type is missing
where a compute resource has several.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.slurm.facts import NodeFacts, PartitionFacts

DEFAULT_MAX_ARRAY_SIZE = 1001
DEFAULT_MAX_JOB_COUNT = 10_000

_GONE = frozenset({"DOWN", "ERROR", "FAIL", "FUTURE"})
"""Base states of a node that takes no job."""
_CLOSED = frozenset({"DRAIN", "FAIL", "INVALID_REG", "MAINTENANCE"})
"""Flags of a node that takes no job."""
_POWER = frozenset({"POWERING_DOWN", "POWER_DOWN", "POWERED_DOWN"})
_NOT_LAUNCHED = re.compile(r"\(Code:(\w+)\)")
"""How ParallelCluster says in a node's reason what EC2 answered."""
_INSTANCE_TYPE = re.compile(
    r"[a-z][a-z0-9-]*\.(?:[0-9]*x?large|metal|nano|micro|small|medium)[\w-]*"
)
_COUNT = re.compile(r"(\d+)([KMGT]?)", re.IGNORECASE)
_THOUSANDS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


@dataclass(frozen=True)
class Gres:
    """A generic resource of a node, or one that a job asks of each node."""

    kind: str
    """`gpu`, `shard`, …"""
    model: str | None
    """`a10g`; None where it isn't said."""
    count: int


@dataclass(frozen=True)
class NodeGroup:
    """Nodes that are alike in all that a job can ask for."""

    name: str
    """The compute resource's name; the first node's where there is none."""
    nodes: int
    available: int
    """Those that can run a job, powered-down cloud nodes included."""
    cpus: int
    """Of one node, as jobs can have them."""
    mem_mib: int
    """Of one node. Slurm's default is 1: nobody has told it."""
    partitions: frozenset[str] = frozenset()
    gres: tuple[Gres, ...] = ()
    features: frozenset[str] = frozenset()
    resource: str | None = None
    """Compute resource of ParallelCluster."""
    is_dynamic: bool = False
    """Its nodes are started when jobs need them."""
    trouble: str = ""
    """Why nodes of it are not available, as Slurm has it."""

    @cached_property
    def gpus(self) -> int:
        return sum(gres.count for gres in self.gres if gres.kind == "gpu")

    @property
    def knows_memory(self) -> bool:
        return self.mem_mib > 1

    @property
    def instance_type(self) -> str | None:
        """Of ParallelCluster's features; None where there are several, or none is told."""
        return next((word for word in self.features if _INSTANCE_TYPE.fullmatch(word)), None)

    def gpus_of(self, model: str | None) -> int:
        """GPUs of this model on one node, all of them for None."""
        return sum(
            gres.count
            for gres in self.gres
            if gres.kind == "gpu" and (model is None or gres.model == model)
        )


@dataclass(frozen=True)
class Cluster:
    """What one look at the start has shown."""

    partitions: Mapping[str, PartitionFacts] = field(default_factory=dict)
    groups: tuple[NodeGroup, ...] = ()
    name: str = ""
    schedules_memory: bool = True
    """Whether memory is given out to jobs; else `--mem` only selects nodes."""
    array_limit: int | None = None
    """Most tasks of one array; None where it isn't told."""
    remembers_seconds: float | None = None
    """How long ended jobs are shown at least; None where it isn't told, or for ever."""

    @cached_property
    def default_partition(self) -> PartitionFacts | None:
        return next((one for one in self.partitions.values() if one.is_default), None)

    @cached_property
    def features(self) -> frozenset[str]:
        return frozenset().union(*(group.features for group in self.groups))

    @cached_property
    def instance_types(self) -> frozenset[str]:
        """Those that features tell of."""
        return frozenset(group.instance_type for group in self.groups if group.instance_type)

    @cached_property
    def is_parallelcluster(self) -> bool:
        return any(group.resource for group in self.groups)

    @cached_property
    def gpu_models(self) -> frozenset[str]:
        return frozenset(
            gres.model
            for group in self.groups
            for gres in group.gres
            if gres.kind == "gpu" and gres.model
        )

    def groups_of(self, partition: str) -> tuple[NodeGroup, ...]:
        return self._groups.get(partition, ())

    def hides_nodes(self, partition: PartitionFacts) -> bool:
        """Whether nodes of it are not shown: those of a cloud are not while they are powered down,
        unless `PrivateData=cloud` is set (slurm.conf)."""
        seen = sum(group.nodes for group in self.groups_of(partition.name))
        return seen < partition.total_nodes

    @cached_property
    def _groups(self) -> dict[str, tuple[NodeGroup, ...]]:
        return {
            name: tuple(group for group in self.groups if name in group.partitions)
            for name in self.partitions
        }


def cluster_of(
    nodes: Iterable[NodeFacts],
    partitions: Iterable[PartitionFacts],
    settings: Mapping[str, str],
) -> Cluster:
    """The values of what a client has read. `settings` are slurm.conf's, by name."""
    parameters = settings.get("SelectTypeParameters", "CR_CPU_MEMORY").upper()
    return Cluster(
        partitions={facts.name: facts for facts in partitions},
        groups=groups_of(nodes),
        name=settings.get("ClusterName", ""),
        schedules_memory="MEMORY" in parameters,
        array_limit=array_limit_of(settings) if "MaxArraySize" in settings else None,
        remembers_seconds=_number(settings, "MinJobAge", 0) or None,
    )


def array_limit_of(settings: Mapping[str, str]) -> int:
    """Most tasks of one array: below MaxArraySize, MaxJobCount and the scheduler's own limit."""
    limits = [
        _number(settings, "MaxArraySize", DEFAULT_MAX_ARRAY_SIZE) - 1,
        _number(settings, "MaxJobCount", DEFAULT_MAX_JOB_COUNT) - 1,
    ]
    if match := re.search(r"max_array_tasks=(\d+)", settings.get("SchedulerParameters", "")):
        limits.append(int(match[1]))
    return max(1, min(limits))


def groups_of(nodes: Iterable[NodeFacts]) -> tuple[NodeGroup, ...]:
    """Nodes that differ in nothing but number and state, together."""
    alike: dict[tuple[object, ...], list[NodeFacts]] = {}
    for node in nodes:
        resource, _ = _resource(node)
        key = (node.partitions, node.cpus, node.memory_mib, node.features, node.gres, resource)
        alike.setdefault(key, []).append(node)
    return tuple(_group(members) for members in alike.values())


def is_available(node: NodeFacts) -> bool:
    """Whether it can run a job, now or once it is powered up."""
    base, flags = node.states[0] if node.states else "UNKNOWN", frozenset(node.states[1:])
    if base in _GONE or flags & _CLOSED:
        return False
    if "NOT_RESPONDING" in flags and "POWERING_UP" not in flags:
        return False
    # Powered down when it was idle, it comes back; when it could not be launched, it does not.
    return not (flags & _POWER and _NOT_LAUNCHED.search(node.reason))


def read_gres(words: Iterable[str]) -> tuple[Gres, ...]:
    """`gpu:a10g:4` → a Gres. What is not understood is left out."""
    found = []
    for word in words:
        kind, *rest = word.split(":")
        count = 1
        if rest and (match := _COUNT.fullmatch(rest[-1])):
            count = int(match[1]) * _THOUSANDS[match[2].upper()]
            rest.pop()
        models = [part for part in rest if part != "no_consume"]
        if kind and len(models) <= 1:
            found.append(Gres(kind, models[0] if models else None, count))
    return tuple(found)


def _number(settings: Mapping[str, str], name: str, default: int) -> int:
    """Of `300 sec`, too."""
    value = settings.get(name, "").split()
    return int(value[0]) if value and value[0].isdigit() else default


def _group(members: Sequence[NodeFacts]) -> NodeGroup:
    first = members[0]
    resource, is_dynamic = _resource(first)
    lost = [node for node in members if not is_available(node)]
    return NodeGroup(
        name=resource or first.name,
        nodes=len(members),
        available=len(members) - len(lost),
        cpus=first.cpus,
        mem_mib=first.memory_mib,
        partitions=frozenset(first.partitions),
        gres=read_gres(first.gres),
        features=frozenset(first.features),
        resource=resource,
        is_dynamic=is_dynamic or "CLOUD" in first.states,
        trouble=next((_trouble(node) for node in lost if node.reason), ""),
    )


def _trouble(node: NodeFacts) -> str:
    code = _NOT_LAUNCHED.search(node.reason)
    return code[1] if code else node.reason


def _resource(node: NodeFacts) -> tuple[str | None, bool]:
    """The compute resource of a node of ParallelCluster, and whether it is a dynamic one."""
    for queue in node.partitions:
        match = re.fullmatch(rf"{re.escape(queue)}-(st|dy)-(.+)-\d+", node.name)
        if match:
            return match[2], match[1] == "dy"
    return None, False
