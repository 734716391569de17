"""Which partitions and nodes a sandboxed Slurm has. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PLAIN = "plain"
PARALLELCLUSTER = "parallelcluster"
LAYOUTS = (PLAIN, PARALLELCLUSTER)


@dataclass(frozen=True)
class NodeLayout:
    """One node, whatever the machine has."""

    name: str
    features: tuple[str, ...]
    cpus: int = 4
    memory_mb: int = 64_000
    gpu_type: str = ""
    """It has one GPU of this type, which is counted and not there."""


@dataclass(frozen=True)
class Partition:
    name: str
    nodes: tuple[NodeLayout, ...]


def partitions(layout: str, nodes: int) -> tuple[Partition, ...]:
    """The first is the default one. `nodes` is the number of nodes of the first."""
    return _parallelcluster(nodes) if layout == PARALLELCLUSTER else _plain(nodes)


def all_nodes(found: Sequence[Partition]) -> tuple[NodeLayout, ...]:
    """Each node once."""
    return tuple(dict.fromkeys(node for partition in found for node in partition.nodes))


def _plain(count: int) -> tuple[Partition, ...]:
    nodes = tuple(NodeLayout(f"node-{number}", ("sandbox",)) for number in range(1, count + 1))
    return Partition("hpc", nodes), Partition("spot", nodes)


def _parallelcluster(count: int) -> tuple[Partition, ...]:
    """Names and features as ParallelCluster writes them: `<queue>-{st,dy}-<resource>-<number>`, and
    `static|dynamic,[<type>,]<resource>[,efa][,gpu]`, without the type where a resource has several."""
    efa = ("hpc7a.96xlarge", "hpc7a", "efa")
    static = -(-count // 2)
    hpc = [
        *(NodeLayout(f"hpc-st-hpc7a-{n}", ("static", *efa)) for n in range(1, static + 1)),
        *(NodeLayout(f"hpc-dy-hpc7a-{n}", ("dynamic", *efa)) for n in range(1, count - static + 1)),
    ]
    spot = [
        NodeLayout("spot-dy-c7i-1", ("dynamic", "c7i.xlarge", "c7i"), memory_mb=7_782),
        NodeLayout("spot-dy-c7i-2", ("dynamic", "c7i.xlarge", "c7i"), memory_mb=7_782),
        NodeLayout("spot-dy-memory-1", ("dynamic", "memory"), memory_mb=31_129),
    ]
    g6 = ("dynamic", "g6.xlarge", "g6", "gpu")
    gpu = [NodeLayout("gpu-dy-g6-1", g6, memory_mb=15_564, gpu_type="l4")]
    return (
        Partition("hpc", tuple(hpc)),
        Partition("spot", tuple(spot)),
        Partition("gpu", tuple(gpu)),
    )
