"""Why no type of a target can hold a job, and which one would."""

from __future__ import annotations

import pytest

from snakemake_executor_takeda.routing.instances import Host, Instance, Instances
from snakemake_executor_takeda.routing.instances_feasibility import (
    fargate_lack,
    lack,
    nearest_instance,
    omics_lack,
    unknown_gpu,
)
from snakemake_executor_takeda.routing.instances_packing import Need, fits
from snakemake_executor_takeda.routing.prices import (
    PriceBook,
    Source,
    packaged_regions,
    price_book,
)

GIB = 1024


@pytest.fixture
def book(tmp_path):
    return price_book("us-east-1", tmp_path)


@pytest.mark.parametrize(
    ("need", "words", "kinds", "said", "nearest"),
    [
        (
            Need(4, 200 * GIB),
            ("c7i.4xlarge", "c7i.large"),
            ("memory",),
            "200 GiB of memory on a node: the largest, c7i.4xlarge, gives jobs 30 of its 32 GiB",
            "r7i.8xlarge",
        ),
        (
            Need(300, GIB),
            ("optimal",),
            ("cpus",),
            "300 CPUs on a node: the largest, c7i.48xlarge, has 192",
            "c8i.96xlarge",
        ),
        (
            Need(8, 32 * GIB, 1, "A100"),
            ("g5", "g4dn"),
            ("gpu",),
            "1 GPU of model A100: there is A10G, T4",
            "p4d.24xlarge",
        ),
        (
            Need(8, 32 * GIB, 1),
            ("c7i", "m7i"),
            ("gpu",),
            "1 GPU: c7i, m7i have none",
            "g4dn.4xlarge",
        ),
        (
            Need(8, 24 * GIB, 2, "t4"),
            ("g4dn.xlarge", "g4dn.2xlarge"),
            ("gpu",),
            "2 GPUs of model t4 on a node: the most, g4dn.xlarge, has 1",
            "g4dn.12xlarge",
        ),
        (
            Need(32, 32 * GIB, nodes=2, whole_nodes=True, efa=True),
            ("c7i.8xlarge",),
            ("efa",),
            "EFA: none of c7i has it",
            "c7i.48xlarge",
        ),
        (
            Need(4, 4 * GIB, architecture="arm64"),
            ("c7i", "m7i"),
            ("architecture",),
            "arm64: c7i, m7i are x86_64",
            "c6g.xlarge",
        ),
        (
            Need(64, 200 * GIB),
            ("c7i.16xlarge", "r7i.8xlarge"),
            ("together",),
            "no one type of c7i.16xlarge, r7i.8xlarge has 64 CPUs and 200 GiB at once",
            "m7i.16xlarge",
        ),
        (
            Need(64, 100 * GIB),
            ("hpc7a",),
            ("region",),
            "hpc7a is not to be had in us-east-1",
            "c6a.16xlarge",
        ),
        (
            Need(64, 40_000 * GIB),
            ("r7i",),
            ("memory",),
            "40,000 GiB of memory",
            None,
        ),
    ],
)
def test_what_is_missing_and_what_would_do(book, need, words, kinds, said, nearest):
    found = lack(need, words, book)
    assert found.kinds == kinds
    assert said in "; ".join(found.missing)
    assert (found.nearest and found.nearest.name) == nearest
    if nearest:
        assert f"{nearest} would hold it: {found.nearest.vcpus} vCPUs" in found.text
        assert fits(need, (nearest,), book)
    else:
        assert "would hold it" not in found.text


def test_all_that_is_missing_is_said(book):
    found = lack(Need(600, 9000 * GIB, 1, "h100", efa=True), ("c7i.large",), book)
    assert found.kinds == ("cpus", "memory", "gpu", "efa")
    assert found.text.count(";") == 3


@pytest.mark.parametrize(
    ("need", "words"),
    [
        (Need(), ("c7i",)),
        (Need(2, 8192), ("m7i.large",)),  # a run lowers the memory to what it can give
        (Need(4, 900 * GIB), ()),  # a target that lists none
        (Need(4, 900 * GIB), ("c7i", "z99")),  # nobody knows what a z99 has
    ],
)
def test_a_job_is_not_refused_for_what_is_not_known(book, need, words):
    assert lack(need, words, book) is None


def test_a_region_without_prices_refuses_nothing_for_it(tmp_path):
    book = price_book("ap-south-1", tmp_path)
    assert lack(Need(), ("hpc7a",), book) is None
    assert lack(Need(1, 9 * GIB), ("m7i.large",), book).nearest.name == "r7i.large"


def test_slurm_and_batch_differ_by_the_agent(book):
    need = Need(2, int(8 * GIB * 0.95))
    assert lack(need, ("m7i",), book, Host.SLURM) is None
    assert fits(need, ("m7i.large",), book, Host.SLURM)
    assert (
        fits(need, ("m7i.large", "m7i.xlarge"), book, Host.BATCH)[0].instance.name == "m7i.xlarge"
    )


@pytest.mark.parametrize("region", packaged_regions())
def test_the_nearest_type_is_one_of_the_region_that_holds_the_job(region, tmp_path):
    book = price_book(region, tmp_path)
    for need in (Need(4, 30 * GIB), Need(4, 8 * GIB, 1), Need(32, 8 * GIB, efa=True)):
        found = nearest_instance(need, book, Host.BATCH)
        assert book.offers(found.name)
        assert found.architecture == "x86_64"
        assert not found.name.startswith("hpc")
        assert fits(need, (found.name,), book)


def test_hpc_types_are_near_for_jobs_with_their_own_nodes_only(tmp_path):
    book = price_book("us-east-2", tmp_path)
    need = Need(96, 300 * GIB, nodes=4, whole_nodes=True, efa=True)
    assert nearest_instance(need, book, Host.SLURM).name == "hpc6a.48xlarge"
    need = Need(96, 300 * GIB, efa=True)
    assert not nearest_instance(need, book, Host.BATCH).name.startswith("hpc")


def test_the_nearest_has_no_gpu_for_nothing_and_is_to_be_had():
    ones = [
        Instance("g9.large", 4, 16 * GIB, 1, "L4", 22_888),
        Instance("a9.large", 4, 16 * GIB),
        Instance("b9.large", 4, 16 * GIB),
        Instance("d9.large", 4, 16 * GIB),
    ]
    prices = {"g9.large": 0.1, "a9.large": 0.3, "b9.large": 0.2}
    table = Instances({one.name: one for one in ones})
    book = PriceBook("xx-made-1", table, Source("2026-01-01", "made up"), prices)
    assert nearest_instance(Need(), book, Host.BATCH).name == "b9.large"
    assert nearest_instance(Need(gpus=1), book, Host.BATCH).name == "g9.large"
    unpriced = PriceBook("xx-made-1", table, book.ec2, {"d9.large": None, "a9.large": 0.3})
    assert nearest_instance(Need(), unpriced, Host.BATCH).name == "a9.large"
    only_unpriced = PriceBook("xx-made-1", table, book.ec2, {"d9.large": None})
    assert nearest_instance(Need(), only_unpriced, Host.BATCH).name == "d9.large"


@pytest.mark.parametrize(
    ("need", "kinds", "said"),
    [
        (Need(1, GIB, gpus=1), ("gpu",), "Fargate has no GPUs"),
        (Need(1, GIB, nodes=2), ("nodes",), "2 nodes: a task of Fargate is on one"),
        (Need(1, GIB, efa=True), ("efa",), "Fargate has no EFA"),
        (Need(33, GIB), ("cpus",), "33 CPUs: Fargate's largest task has 32 vCPU"),
        (
            Need(1, 250 * GIB),
            ("memory",),
            "250 GiB of memory: Fargate's largest task has 244 GiB",
        ),
    ],
)
def test_why_not_fargate(book, need, kinds, said):
    found = fargate_lack(need, book)
    assert found.kinds == kinds
    assert found.missing == (said,)
    assert found.nearest is not None


@pytest.mark.parametrize(
    ("need", "kinds", "said"),
    [
        (Need(8, GIB, 1, "a100"), ("gpu",), "1 GPU of model a100: there is A10G, L4, L40S, T4"),
        (Need(8, GIB, 8), ("gpu",), "8 GPUs on a node: the most, omics.g4dn.12xlarge, has 4"),
        (Need(1, GIB, nodes=2), ("nodes",), "2 nodes: a task of HealthOmics is on one"),
        (Need(1, GIB, architecture="arm64"), ("architecture",), "HealthOmics runs x86_64 only"),
        (Need(200, GIB), ("cpus",), "200 CPUs: the largest, omics.r.48xlarge, has 192"),
        (
            Need(1, 1600 * GIB),
            ("memory",),
            "1,600 GiB of memory: the largest, omics.r.48xlarge, has 1,536 GiB",
        ),
        (
            Need(100, 200 * GIB, 1),
            ("together",),
            "no one omics.* type has 100 CPUs, 200 GiB and 1 GPU at once",
        ),
    ],
)
def test_why_not_healthomics(book, need, kinds, said):
    found = omics_lack(need, book)
    assert (found.kinds, found.missing, found.nearest) == (kinds, (said,), None)


def test_what_they_can_run_has_no_lack(book):
    assert fargate_lack(Need(), book) is None
    assert omics_lack(Need(), book) is None


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("a1000", "did you mean A100?"),
        ("quadro", "there are A100, A10G"),
        ("nvidia-tesla-t4", None),
        ("A100-80GB", None),
    ],
)
def test_a_gpu_that_nobody_has(book, model, said):
    found = unknown_gpu(model, book)
    assert (said in found) if said else found is None
