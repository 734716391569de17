"""The cluster as values: groups of nodes, ParallelCluster's names, what counts as available, limits."""

from pathlib import Path

import pytest

from snakemake_executor_takeda.backends.slurm.cluster import (
    Gres,
    array_limit_of,
    cluster_of,
    groups_of,
    is_available,
    read_gres,
)
from snakemake_executor_takeda.backends.slurm.facts import (
    NodeFacts,
    PartitionFacts,
    read_nodes,
    read_partitions,
)

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def cloud():
    """A cluster with ParallelCluster's names and features, as Slurm 22.05 tells of it."""
    folder = DATA / "22.05"
    nodes = read_nodes((folder / "cloud_nodes.txt").read_text())
    partitions = read_partitions((folder / "cloud_partitions.txt").read_text())
    return cluster_of(nodes, partitions, {"SelectTypeParameters": "CR_CPU_MEMORY"})


def group(cloud, name, partition=None):
    return next(
        one
        for one in cloud.groups
        if one.name == name and (partition is None or partition in one.partitions)
    )


def node(*states, name="n1", reason="", **more):
    return NodeFacts(
        name, states, more.pop("cpus", 4), more.pop("memory_mib", 1000), reason=reason, **more
    )


def test_nodes_that_are_alike_are_one_group(cloud):
    assert sorted((one.name, one.nodes) for one in cloud.groups) == [
        ("big", 10),
        ("g5", 4),
        ("hpc", 8),
        ("mixed", 20),
        ("small", 2),
        ("small", 8),
        ("t4", 2),
    ]
    big = group(cloud, "big")
    assert (big.cpus, big.mem_mib, big.partitions) == (64, 498074, {"cpu", "lab", "stopped"})
    assert [one.name for one in cloud.groups_of("efa")] == ["hpc"]


def test_compute_resources_instance_types_and_kinds(cloud):
    assert cloud.is_parallelcluster
    assert group(cloud, "hpc").instance_type == "hpc7a.48xlarge"
    assert group(cloud, "mixed").instance_type is None
    assert group(cloud, "small", "short").is_dynamic
    assert cloud.instance_types == {
        "c7i.xlarge",
        "r7i.16xlarge",
        "hpc7a.48xlarge",
        "g5.12xlarge",
        "g4dn.xlarge",
    }


def test_a_queue_whose_name_looks_like_a_node(cloud):
    one = node("IDLE", name="a-dy-b-st-c-dy-1", partitions=("a-dy-b",))
    (found,) = groups_of([one])
    assert (found.resource, found.is_dynamic) == ("c-dy", False)
    (found,) = groups_of([node("IDLE", name="node-1", partitions=("hpc",))])
    assert (found.resource, found.name) == (None, "node-1")


def test_gpus(cloud):
    assert group(cloud, "g5").gres == (Gres("gpu", "a10g", 4),)
    assert cloud.gpu_models == {"a10g", "t4"}
    assert group(cloud, "g5").gpus_of("a10g") == group(cloud, "g5").gpus_of(None) == 4
    assert group(cloud, "g5").gpus_of("t4") == 0


@pytest.mark.parametrize(
    ("word", "gres"),
    [
        ("gpu", Gres("gpu", None, 1)),
        ("gpu:4", Gres("gpu", None, 4)),
        ("gpu:a100:4", Gres("gpu", "a100", 4)),
        ("gpu:no_consume:a100:4", Gres("gpu", "a100", 4)),
        ("gpu:a100", Gres("gpu", "a100", 1)),
        ("shard:2K", Gres("shard", None, 2048)),
    ],
)
def test_gres(word, gres):
    assert read_gres([word]) == (gres,)


ICE = "(Code:InsufficientInstanceCapacity)Failure when resuming nodes"


@pytest.mark.parametrize(
    ("states", "reason", "expected"),
    [
        (("IDLE",), "", True),
        (("IDLE", "CLOUD", "POWERED_DOWN"), "", True),
        (("IDLE", "CLOUD", "POWERING_DOWN"), "", True),
        (("ALLOCATED", "CLOUD", "NOT_RESPONDING", "POWERING_UP"), "", True),
        (("MIXED",), "", True),
        (("IDLE", "NOT_RESPONDING"), "", False),
        (("DOWN", "CLOUD", "POWERED_DOWN"), ICE, False),
        (("IDLE", "CLOUD", "POWERING_DOWN"), ICE, False),
        (("IDLE", "CLOUD", "POWERED_DOWN"), ICE, False),
        (("DOWN",), "", False),
        (("IDLE", "DRAIN"), "disk", False),
        (("FUTURE",), "", False),
        ((), "", True),
    ],
)
def test_what_is_available(states, reason, expected):
    assert is_available(node(*states, reason=reason)) is expected


def test_a_resource_that_could_not_be_launched_says_what_ec2_answered(cloud):
    g5 = group(cloud, "g5")
    assert (g5.nodes, g5.available, g5.trouble) == (4, 0, "InsufficientInstanceCapacity")
    # One of these is being powered down because it was idle.
    assert group(cloud, "big").available == 10


def test_partitions_and_the_default(cloud):
    assert cloud.default_partition.name == "cpu"
    assert cloud.partitions["efa"].max_time_min == 2880
    assert not any(map(cloud.hides_nodes, cloud.partitions.values()))


def test_nodes_that_are_not_shown_are_noticed():
    one = PartitionFacts("hpc", total_nodes=5)
    cluster = cluster_of([node("IDLE", partitions=("hpc",))], [one], {})
    assert cluster.hides_nodes(one)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("CR_CPU_MEMORY", True),
        ("CR_Core_Memory", True),
        ("CR_CPU", False),
        ("CR_CORE,CR_LLN", False),
    ],
)
def test_whether_memory_is_given_out(parameters, expected):
    assert cluster_of([], [], {"SelectTypeParameters": parameters}).schedules_memory is expected


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ({}, 1000),
        ({"MaxArraySize": "1001", "MaxJobCount": "10000"}, 1000),
        ({"MaxArraySize": "100001", "MaxJobCount": "10000"}, 9999),
        ({"MaxArraySize": "1001", "SchedulerParameters": "a=1,max_array_tasks=50,b"}, 50),
        ({"MaxArraySize": "0"}, 1),
        ({"MaxArraySize": "garbage"}, 1000),
    ],
)
def test_array_limit(settings, limit):
    assert array_limit_of(settings) == limit


def test_parallelcluster_as_24_11_tells_of_it():
    folder = DATA / "24.11"
    nodes = read_nodes((folder / "pcluster_nodes.txt").read_text())
    partitions = read_partitions((folder / "pcluster_partitions.txt").read_text())
    cluster = cluster_of(nodes, partitions, {"SelectTypeParameters": "CR_CPU_MEMORY"})
    assert cluster.default_partition.name == "hpc"
    assert sorted((one.name, one.nodes, one.mem_mib) for one in cluster.groups) == [
        ("c7i", 2, 7782),
        ("g6", 1, 15564),
        ("hpc7a", 1, 64000),
        ("hpc7a", 1, 64000),
        ("memory", 1, 31129),
    ]
    assert cluster.gpu_models == {"l4"}
    assert group(cluster, "memory").instance_type is None
    assert all(one.available == one.nodes for one in cluster.groups)
