"""Where a job goes, and why; and what is said where nothing fits. Without Slurm."""

from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.slurm.cluster import Cluster, Gres, NodeGroup, cluster_of
from snakemake_executor_takeda.backends.slurm.facts import (
    PartitionFacts,
    read_nodes,
    read_partitions,
)
from snakemake_executor_takeda.backends.slurm.features import allows, names_in
from snakemake_executor_takeda.backends.slurm.fitting import Wish, deciding_options, fit
from snakemake_executor_takeda.backends.slurm.request import JobRequest
from snakemake_executor_takeda.values import FailureKind

DATA = Path(__file__).parent / "data"
ALL = ()
"""The choice is left to us, from all partitions."""


@pytest.fixture(scope="module")
def cloud():
    folder = DATA / "22.05"
    nodes = read_nodes((folder / "cloud_nodes.txt").read_text())
    partitions = read_partitions((folder / "cloud_partitions.txt").read_text())
    return cluster_of(nodes, partitions, {})


def request(nodes=1, **words):
    return JobRequest("takeda-align-1", "/project", "/project/log", nodes=nodes, **words)


def fitted(cluster, *, choices=ALL, instances=(), efa=False, **words):
    return fit(request(**words), Wish("align", choices, instances, efa), cluster)


def refused(cluster, **words):
    with pytest.raises(SubmissionError) as error:
        fitted(cluster, **words)
    assert error.value.kind == FailureKind.CONFIGURATION
    assert "rule align" in error.value.reason
    return error.value.reason


def site(**partitions):
    """A cluster that is no cloud: nodes of 32 CPUs and 128,000 MiB in each partition."""
    names = frozenset(partitions)
    return Cluster(
        {name: PartitionFacts(name, total_nodes=4, **facts) for name, facts in partitions.items()},
        (NodeGroup("n1", 4, 4, 32, 128_000, names),),
    )


# The smallest that fits.


@pytest.mark.parametrize(
    ("words", "partition"),
    [
        ({}, "cpu"),
        ({"cpus_per_task": 4, "mem_mb": 7000}, "cpu"),
        ({"cpus_per_task": 8}, "spot"),
        ({"mem_mb": 8000}, "spot"),
        ({"mem_mb": 62_260}, "cpu"),
        ({"cpus_per_task": 65}, "efa"),
        ({"gpus": 1}, "gpu"),
        ({"gpus": 1, "gpu_model": "a10g"}, "gpu"),
        ({"gres": "gpu:t4:1"}, "gpu"),
        ({"nodes": None, "ntasks": 300, "constraint": "mixed|hpc"}, "spot"),
        ({"nodes": None, "ntasks": 330, "constraint": "mixed|hpc"}, "efa"),
        ({"nodes": 12, "ntasks": 12}, "cpu"),
        ({"constraint": "hpc"}, "efa"),
        ({"account": "lab", "cpus_per_task": 40}, "cpu"),
    ],
)
def test_the_smallest_that_fits(cloud, words, partition):
    assert fitted(cloud, **words).request.partition == partition


def test_the_reason_says_what_was_compared(cloud):
    (reason,) = fitted(cloud, cpus_per_task=8, choices=("short", "spot")).reasons
    assert reason == (
        "partition spot has the smallest nodes that fit (mixed: 16 CPUs, 62259 MB); "
        "short has nodes of at most 4 CPUs, and it asks 8 on one"
    )


def test_only_named_choices_are_looked_at(cloud):
    assert fitted(cloud, choices=("efa", "spot")).request.partition == "spot"
    assert fitted(cloud, choices=("efa",)).request.partition == "efa"


def test_equals_go_to_the_default_then_by_time():
    cluster = site(
        debug={"max_time_min": 30},
        main={"is_default": True, "max_time_min": 1440},
        long={"max_time_min": 20_000},
        longer={},
    )
    assert fitted(cluster).request.partition == "main"
    assert fitted(cluster, runtime_min=10).request.partition == "main"
    assert fitted(cluster, runtime_min=2000).request.partition == "long"
    # Among those that a target names, the tighter limit; without a runtime, the widest.
    assert fitted(cluster, choices=("main", "debug"), runtime_min=10).request.partition == "debug"
    assert fitted(cluster, choices=("long", "longer")).request.partition == "longer"


def test_a_cpu_job_does_not_take_gpus():
    cluster = Cluster(
        {name: PartitionFacts(name, total_nodes=1) for name in ("gpu", "cpu")},
        (
            NodeGroup("g", 1, 1, 8, 32_000, frozenset({"gpu"}), (Gres("gpu", "t4", 1),)),
            NodeGroup("c", 1, 1, 64, 256_000, frozenset({"cpu"})),
        ),
    )
    assert fitted(cluster).request.partition == "cpu"
    assert fitted(cluster, gpus=1).request.partition == "gpu"


def test_what_is_down_is_chosen_last(cloud):
    reason = fitted(cloud, gpus=4).reasons[0]
    assert "too few of its nodes are available at present (InsufficientInstanceCapacity)" in reason
    cluster = site(a={}, b={})
    groups = (
        NodeGroup("a1", 2, 0, 4, 8000, frozenset("a"), trouble="disk"),
        NodeGroup("b1", 2, 2, 64, 8000, frozenset("b")),
    )
    partitions = {name: PartitionFacts(name, total_nodes=2) for name in "ab"}
    cluster = Cluster(partitions, groups)
    assert fitted(cluster).request.partition == "b"


def test_partitions_for_others_are_chosen_last():
    cluster = site(
        vip={"allow_accounts": ("chief",)}, main={"max_time_min": 60}, off={"state": "DOWN"}
    )
    assert fitted(cluster, runtime_min=10).request.partition == "main"
    assert fitted(cluster, runtime_min=100).request.partition in ("vip", "off")
    assert fitted(cluster, runtime_min=100, account="Chief").request.partition == "vip"


def test_a_limit_itself_is_within_it():
    cluster = site(a={"max_time_min": 60, "max_nodes": 2, "min_nodes": 2})
    words = {"partition": "a", "runtime_min": 60, "nodes": 2, "ntasks": 2, "choices": None}
    assert fitted(cluster, **words).request.partition == "a"
    assert "runs jobs for at most 1 h" in refused(cluster, **words | {"runtime_min": 61})
    assert "at most 2 nodes" in refused(cluster, **words | {"nodes": 3, "ntasks": 3})
    assert "at least 2 nodes" in refused(cluster, **words | {"nodes": 1, "ntasks": 1})


def test_a_hidden_partition_is_chosen_last():
    assert fitted(site(a={"is_hidden": True}, b={})).request.partition == "b"


def test_unnamed_is_the_clusters_default(cloud):
    assert fitted(cloud, choices=None).request.partition == "cpu"
    assert "it asks 100" in refused(cloud, choices=None, cpus_per_task=100)
    assert fitted(replace(cloud, partitions={}), choices=None).request.partition is None


# What is named.


def test_a_named_partition_stays(cloud):
    found = fitted(cloud, choices=None, partition="spot")
    assert found.request.partition == "spot"
    assert found.reasons == ("partition spot is named",)


def test_of_several_that_are_named_all_that_fit(cloud):
    found = fitted(cloud, choices=None, partition="short, spot,cpu", runtime_min=60)
    assert found.request.partition == "spot,cpu"
    assert "not short, which runs jobs for at most 30 min" in found.reasons[1]


# What does not fit.


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            {"partition": "short", "runtime_min": 60},
            "runs jobs for at most 30 min, and it asks runtime=60 min",
        ),
        ({"partition": "efa", "runtime_min": 3000}, "at most 48 h"),
        ({"partition": "short", "mem_mb": 9000}, "at most 7782 MB on a node, and it asks 9000"),
        ({"partition": "short", "mem_mb_per_cpu": 4000, "cpus_per_task": 2}, "it asks 8000"),
        ({"partition": "short", "cpus_per_task": 5}, "at most 4 CPUs, and it asks 5"),
        ({"partition": "short", "nodes": 9, "ntasks": 9}, "has 8 nodes that fit, and it asks 9"),
        (
            {"partition": "efa", "nodes": 5, "ntasks": 5},
            "gives a job at most 4 nodes, and it asks 5",
        ),
        (
            {"partition": "efa", "nodes": None, "ntasks": 385},
            "can't hold 385 ranks of 1 CPUs on 4 nodes",
        ),
        ({"partition": "efa", "nodes": 2, "ntasks": 4, "tasks_per_node": 97}, "it asks 97 on one"),
        ({"partition": "cpu", "gpus": 1}, "has no GPUs"),
        ({"partition": "gpu", "gpus": 5}, "has at most 4 gpu on a node, and it asks 5"),
        ({"partition": "gpu", "gpus": 2, "gpu_model": "t4"}, "has at most 1 gpu:t4 on a node"),
        ({"partition": "cpu", "gpus": 1, "gpu_model": "t4"}, "has no GPUs"),
        ({"partition": "cpu", "gres": "shard:1"}, "has no shard"),
        ({"partition": "gpu", "gpus": 1, "gpu_model": "t4", "cpus_per_task": 8}, "together"),
        ({"partition": "lab", "account": "other"}, "is for account lab, phylo, not other"),
        ({"partition": "lab", "qos": "low"}, "is closed for qos low"),
        ({"partition": "lab", "mem_mb": 200_000}, "gives jobs at most 100000 MB on a node"),
        ({"partition": "cpu", "constraint": "small&big"}, "has no nodes with small&big"),
        ({"partition": "cpu", "constraint": "efa"}, "has no nodes with efa"),
        ({"mem_mb": 600_000}, "at most 498074 MB on a node, and it asks 600000"),
        ({"cpus_per_task": 128}, "at most 96 CPUs"),
    ],
)
def test_what_does_not_fit_says_what_is_missing(cloud, words, text):
    choices = None if "partition" in words else ALL
    assert text in refused(cloud, choices=choices, **words)


@pytest.mark.parametrize("state", ["DRAIN", "INACTIVE"])
def test_a_partition_that_is_closed_for_a_while_is_lack_of_capacity(state):
    cluster = site(a={"state": state}, b={"max_time_min": 60})
    with pytest.raises(
        SubmissionError, match=f"is a, which takes no jobs: it is {state}"
    ) as closed:
        fitted(cluster, runtime_min=61)
    assert closed.value.kind == FailureKind.NO_CAPACITY
    with pytest.raises(SubmissionError) as mistaken:
        fitted(cluster, choices=None, partition="b", runtime_min=61)
    assert mistaken.value.kind == FailureKind.CONFIGURATION


def test_the_nearest_is_the_one_that_lacks_least(cloud):
    assert "the nearest of 7 is cpu, which" in refused(cloud, mem_mb=600_000)
    assert "the nearest of 7 is efa" in refused(cloud, cpus_per_task=128)
    text = refused(cloud, cpus_per_task=64, runtime_min=100_000, gpus=1)
    assert "the nearest of 7 is gpu, which runs jobs for at most 24 h" in text


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({"partition": "sport"}, "no partition 'sport'. Did you mean 'spot'"),
        ({"partition": "zzz"}, "It has: cpu, efa, gpu"),
        ({"constraint": "smal"}, "no feature 'smal'. Did you mean 'small'"),
        ({"gpus": 1, "gpu_model": "a100"}, "no GPU model 'a100'. Did you mean 'a10g'"),
        ({"gpus": 1, "gpu_model": "zz"}, "It has: a10g, t4"),
    ],
)
def test_unknown_words_name_the_nearest(cloud, words, text):
    choices = None if "partition" in words else ALL
    assert text in refused(cloud, choices=choices, **words)


def test_a_gpu_model_is_spelled_as_the_cluster_does(cloud):
    found = fitted(cloud, gpus=1, gpu_model="A10G")
    assert found.request.gpu_model == "a10g"
    assert "GPU model A10G is a10g here" in found.reasons


def test_a_qos_may_lift_a_partitions_limits():
    cluster = site(a={"max_time_min": 60, "max_nodes": 1})
    assert fitted(cluster, runtime_min=100, nodes=2, ntasks=2, qos="long").request.partition == "a"


def test_nodes_that_are_not_shown_are_left_to_slurm():
    cluster = site(a={}, b={})
    hidden = replace(cluster.partitions["b"], total_nodes=100)
    cluster = replace(cluster, partitions={**cluster.partitions, "b": hidden})
    assert fitted(cluster).request.partition == "a"
    assert fitted(cluster, cpus_per_task=500).request.partition == "b"
    assert fitted(cluster, constraint="unseen").request.partition == "b"


# Instance types, EFA, constraints.


@pytest.mark.parametrize(
    ("words", "partition", "constraint"),
    [
        # All nodes of the partition are of that type: nothing to add.
        ({"instances": ("hpc7a.48xlarge",)}, "efa", None),
        ({"instances": ("c7i",), "choices": ("cpu",)}, "cpu", "c7i.xlarge"),
        ({"instances": ("c7i", "r7i.16xlarge"), "choices": ("cpu",)}, "cpu", None),
        ({"instances": ("g5", "g6")}, "gpu", "g5.12xlarge"),
        # By the name of the compute resource, where the type isn't told.
        ({"instances": ("mixed",)}, "spot", None),
        ({"instances": ("m7i",), "choices": ("spot",)}, "spot", None),
        ({"efa": True}, "efa", None),
        ({"instances": ("g5",), "constraint": "dynamic"}, "gpu", "dynamic"),
        (
            {"instances": ("r7i",), "constraint": "dynamic", "choices": ("cpu",)},
            "cpu",
            "dynamic&r7i.16xlarge",
        ),
        (
            {"instances": ("c7i", "c8i"), "constraint": "static|dynamic", "choices": ("cpu",)},
            "cpu",
            "(static|dynamic)&c7i.xlarge",
        ),
    ],
)
def test_constraints_for_instances_and_efa(cloud, words, partition, constraint):
    found = fitted(cloud, **words).request
    assert (found.partition, found.constraint) == (partition, constraint)


def test_several_types_in_a_resource_are_named_by_the_resource():

    partitions = {"q": PartitionFacts("q", total_nodes=8)}
    groups = (
        NodeGroup(
            "ish",
            4,
            4,
            8,
            9000,
            frozenset("q"),
            (),
            frozenset({"dynamic", "c7i4xlarge"}),
            "c7i4xlarge",
        ),
        NodeGroup("r", 4, 4, 8, 9000, frozenset("q"), (), frozenset({"dynamic", "r"}), "r"),
        NodeGroup(
            "x", 4, 4, 8, 9000, frozenset("q"), (), frozenset({"dynamic", "r7i.large", "x"}), "x"
        ),
    )

    cluster = Cluster({"q": replace(partitions["q"], total_nodes=12)}, groups)
    assert fitted(cluster, instances=("c7i.4xlarge",)).request.constraint == "c7i4xlarge"
    # Named by nothing: the resources whose types are not told may have it.
    assert fitted(cluster, instances=("m7i.large",)).request.constraint == "c7i4xlarge|r"
    assert fitted(cluster, instances=("r7i",)).request.constraint == "r7i.large"


def test_instances_and_efa_that_are_not_there(cloud):
    assert "has no p5 (it has hpc7a.48xlarge)" in refused(
        cloud, instances=("p5",), choices=("efa",)
    )
    assert "no nodes with EFA" in refused(cloud, efa=True, choices=("cpu",))


def test_on_a_site_without_such_features_they_are_nothing_to_go_by():
    cluster = site(a={})
    found = fitted(cluster, instances=("c7i",), efa=True).request
    assert (found.partition, found.constraint) == ("a", None)


@pytest.mark.parametrize(
    ("constraint", "names"),
    [
        ("efa", ["efa"]),
        ("a&b|c", ["a", "b", "c"]),
        ("[rack1*2&(a|b)*4]", ["rack1", "a", "b"]),
        ("c7i.xlarge", ["c7i.xlarge"]),
    ],
)
def test_names_in_a_constraint(constraint, names):
    assert names_in(constraint) == names


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        (None, True),
        ("a", True),
        ("a&b", True),
        ("a,b", True),
        ("a&c", False),
        ("c|d", False),
        ("c|a", True),
        ("(c|a)&d", True),
        ("[c*1&d*2]", False),
    ],
)
def test_whether_a_node_may_take_part(constraint, expected):
    assert allows(constraint, {"a", "b"}) is expected


# Memory that is not given out, and words of the user's own.


def test_memory_that_is_not_given_out(cloud):
    shared = replace(cloud, schedules_memory=False)
    found = fitted(shared, mem_mb=4000)
    assert found.request.mem_mb == 4000
    assert "memory is not given out on this cluster: jobs on a node share it" in found.reasons
    assert not any("memory" in reason for reason in fitted(shared).reasons)
    untold = Cluster(
        {"a": PartitionFacts("a", total_nodes=1)},
        (NodeGroup("n", 1, 1, 8, 1, frozenset("a")),),
        schedules_memory=False,
    )
    found = fitted(untold, mem_mb=4000)
    assert found.request.mem_mb is None
    assert found.request.partition == "a"


@pytest.mark.parametrize(
    ("extra", "found"),
    [
        (("--nice=5", "--mail-type=END", "-xnode-1"), []),
        (("--mem=5G",), ["--mem"]),
        (("-pgpu", "--constraint=a"), ["-p", "--constraint"]),
        (("--exclusive",), ["--exclusive"]),
        (("--comment=--mem",), []),
    ],
)
def test_options_that_decide(extra, found):
    assert deciding_options(extra) == found


def test_options_of_ones_own_leave_all_to_slurm(cloud):
    found = fitted(cloud, choices=None, partition="short", runtime_min=900, extra=("--time=5",))
    assert found.request.partition == "short"
    assert found.reasons == ("--time is set by hand: Slurm alone decides what fits",)
