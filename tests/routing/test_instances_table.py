"""EC2 instance types: the table, the words of a policy, what a host keeps, models of GPUs."""

from __future__ import annotations

import json

import pytest

from snakemake_executor_takeda.routing.instances import (
    TABLE,
    Host,
    Instance,
    Instances,
    architecture_of,
    fitted_memory,
    packaged,
)
from snakemake_executor_takeda.routing.instances_serverless import (
    FARGATE_MEM_MIB,
    fargate_size,
    omics_instances,
)


# AWS's own pages of the instance types.
@pytest.mark.parametrize(
    ("name", "vcpus", "gib", "gpus", "model", "efa", "architecture"),
    [
        ("c7i.large", 2, 4, 0, "", False, "x86_64"),
        ("m5.xlarge", 4, 16, 0, "", False, "x86_64"),
        ("m4.large", 2, 8, 0, "", False, "x86_64"),
        ("r6id.24xlarge", 96, 768, 0, "", False, "x86_64"),
        ("m7g.medium", 1, 4, 0, "", False, "arm64"),
        ("m8g.metal-24xl", 96, 384, 0, "", True, "arm64"),
        ("c5n.18xlarge", 72, 192, 0, "", True, "x86_64"),
        ("c7i-flex.large", 2, 4, 0, "", False, "x86_64"),
        ("x2idn.32xlarge", 128, 2048, 0, "", True, "x86_64"),
        ("g4dn.xlarge", 4, 16, 1, "T4", False, "x86_64"),
        ("g5.48xlarge", 192, 768, 8, "A10G", True, "x86_64"),
        ("g6e.12xlarge", 48, 384, 4, "L40S", True, "x86_64"),
        ("p3.2xlarge", 8, 61, 1, "V100", False, "x86_64"),
        ("p4d.24xlarge", 96, 1152, 8, "A100", True, "x86_64"),
        ("p5.48xlarge", 192, 2048, 8, "H100", True, "x86_64"),
        ("hpc6a.48xlarge", 96, 384, 0, "", True, "x86_64"),
        ("hpc6id.32xlarge", 64, 1024, 0, "", True, "x86_64"),
        ("hpc7a.96xlarge", 192, 768, 0, "", True, "x86_64"),
        ("hpc7g.16xlarge", 64, 128, 0, "", True, "arm64"),
        ("i4i.32xlarge", 128, 1024, 0, "", True, "x86_64"),
    ],
)
def test_the_table_has_what_aws_says(name, vcpus, gib, gpus, model, efa, architecture):
    one = packaged().get(name)
    assert (one.vcpus, one.memory_mib) == (vcpus, gib * 1024)
    assert (one.gpus, one.gpu_model, one.efa_interfaces > 0) == (gpus, model, efa)
    assert one.architecture == architecture


@pytest.mark.parametrize(
    "name", ["m7i", "x2idn.large", "m7i.metal", "m99x.large", "", "m7i.", "t3.large"]
)
def test_what_is_not_in_the_table_is_not_guessed_at(name):
    assert packaged().get(name) is None


def test_the_table_says_where_it_is_from():
    document = json.loads(TABLE.read_text(encoding="utf-8"))
    for part in ("ec2", "healthomics"):
        assert document[part]["source"]
        assert document[part]["date"] > "2026"
        assert all(len(row) == len(document[part]["columns"]) for row in document[part]["rows"])
    names = [row[0] for row in document["ec2"]["rows"]]
    assert len(names) == len(set(names))


def test_every_row_is_of_a_real_shape():
    for one in packaged().by_name.values():
        assert 1 <= one.vcpus <= 1000, one
        assert one.memory_mib >= 1024 * one.vcpus, one
        assert bool(one.gpus) == bool(one.gpu_model) == bool(one.gpu_memory_mib), one
        assert one.network_gbps > 0, one


@pytest.mark.parametrize(
    ("words", "first", "families"),
    [
        (("c7i.4xlarge",), "c7i.4xlarge", {"c7i"}),
        (("c7i",), "c7i.large", {"c7i"}),
        (("optimal",), "m6i.large", {"m6i", "c6i", "r6i", "c7i"}),
        (("default_arm64",), "m6g.medium", {"m6g", "c6g", "r6g", "c7g"}),
        (("r7i.large", "c7i"), "r7i.large", {"r7i", "c7i"}),
    ],
)
def test_words_of_a_policy_are_types(words, first, families):
    meant = packaged().meant(words)
    assert meant.instances[0].name == first
    assert {one.family for one in meant.instances} == families
    assert not meant.unknown


def test_a_family_has_no_bare_metal_and_each_type_once():
    names = [one.name for one in packaged().meant(("c7i", "c7i.large", "c7i.metal-24xl")).instances]
    assert names.count("c7i.large") == 1
    assert [name for name in names if "metal" in name] == ["c7i.metal-24xl"]


def test_unknown_words_are_told():
    assert packaged().meant(("c7i", "z99", "t3.large")).unknown == ("z99", "t3.large")


def test_an_m4_large_gives_less_than_is_seen_of_it():
    """Batch's guide: 7,985 of its 8,192 MiB are seen, of which 32 are the agent's."""
    one = packaged().get("m4.large")
    assert one.usable_mib(Host.BATCH) == 7750 < 7985 - 32
    assert one.usable_mib(Host.SLURM) == 7782


@pytest.mark.parametrize(
    ("name", "model", "has"),
    [
        ("g5.xlarge", None, True),
        ("g5.xlarge", "a10g", True),
        ("g5.xlarge", "NVIDIA A10G", True),
        ("g4dn.xlarge", "nvidia-tesla-t4", True),
        ("g4dn.xlarge", "t4g", False),
        ("p4d.24xlarge", "A100-40GB", True),
        ("p4d.24xlarge", "a100_80gb", False),
        ("p4de.24xlarge", "a100_80gb", True),
        ("p5.48xlarge", "a100", False),
        ("c7i.large", None, False),
    ],
)
def test_models_of_gpus_as_people_write_them(name, model, has):
    assert packaged().get(name).has_gpu(model) is has


@pytest.mark.parametrize(
    ("word", "architecture"),
    [
        ("c7g", "arm64"),
        ("t4g.small", "arm64"),
        ("g4dn", "x86_64"),
        ("g5g", "arm64"),
        ("c99g", "arm64"),
    ],
)
def test_a_processor_is_known_of_families_too(word, architecture):
    assert architecture_of(word) == architecture


@pytest.mark.parametrize(
    ("cpus", "mib", "instances", "given"),
    [
        (2, 8192, ["m7i.large"], 7750),
        (2, 7751, ["m7i.large"], 7750),
        (2, 7750, ["m7i.large"], 7750),
        (2, 8193, ["m7i.large"], 8193),  # no instance has that, whatever it keeps
        (2, 8192, ["m7i.large", "m7i.xlarge"], 8192),  # the larger one can
        (2, 8192, ["m7i.large", "r7i"], 8192),  # a family has larger sizes
        (2, 8192, ["m7i.large", "z99.large"], 8192),  # unknown
        (4, 8192, ["m7i.large", "c7i.xlarge"], 7750),  # of those with the CPUs
        (2, 8192, [], 8192),
        (2, 16_384, ["m7i.large", "r7i.large"], 15_532),
    ],
)
def test_memory_is_lowered_only_to_what_keeps_a_job_from_waiting_for_ever(
    cpus, mib, instances, given
):
    assert fitted_memory(cpus, mib, instances) == given


def test_newer_types_come_before_the_tables():
    table = Instances({"a.large": Instance("a.large", 2, 4096)})
    more = table.with_types([Instance("a.large", 4, 4096), Instance("b.large", 2, 8192)], "d", "s")
    assert more.get("a.large").vcpus == 4
    assert set(more.families) == {"a", "b"}
    assert table.get("b.large") is None


# The table of legal pairs in Batch's API reference.
@pytest.mark.parametrize(
    ("cpus", "mib", "size"),
    [
        (1, 1, (1, 2048)),
        (1, 2049, (1, 3072)),
        (1, 8193, (2, 9216)),
        (3, 1024, (4, 8192)),
        (4, 30_721, (8, 32_768)),
        (5, 33_000, (8, 36_864)),
        (16, 32_769, (16, 40_960)),
        (17, 1, (32, 61_440)),
        (1, 130_000, (32, 249_856)),
        (33, 1024, None),
        (1, 249_857, None),
    ],
)
def test_fargate_has_a_grid(cpus, mib, size):
    assert fargate_size(cpus, mib) == size
    if size:
        assert size[1] in FARGATE_MEM_MIB[size[0]]


def test_types_of_healthomics_are_as_its_guide_has_them():
    ones = {one.shape.name: one for one in omics_instances()}
    assert len(ones) == 30 + 4 * 7 - 1
    largest = ones["omics.r.48xlarge"]
    assert (largest.shape.vcpus, largest.shape.memory_mib) == (192, 1536 * 1024)
    assert largest.only_in_regions == {"us-east-1", "us-west-2"}
    assert not ones["omics.r.24xlarge"].only_in_regions
    assert ones["omics.g5.12xlarge"].shape.gpus == 4
