"""A job's shape on an instance: does it fit, how many, what it costs, what lies idle."""

from __future__ import annotations

import dataclasses

import pytest

from snakemake_executor_takeda.routing.instances import Host, Instance, Instances
from snakemake_executor_takeda.routing.instances_packing import Need, fits, need_of, usd
from snakemake_executor_takeda.routing.instances_serverless import (
    fargate_fit,
    omics_fit,
    omics_storage_usd,
    omics_task_usd,
)
from snakemake_executor_takeda.routing.prices import PriceBook, Source, price_book
from snakemake_executor_takeda.values import Shape


@pytest.fixture
def book(tmp_path):
    """us-east-1 as the package has it: prices of AWS's page, July 2026."""
    return price_book("us-east-1", tmp_path)


@pytest.mark.parametrize(
    ("shape", "need"),
    [
        (Shape(), Need(1, 2048)),
        (Shape(cpus=4, mem_mb=8000), Need(4, 7630)),
        (Shape(cpus=4, mem_mb=8000, gpus=2, gpu_model="t4"), Need(4, 7630, 2, "t4")),
        (
            Shape(cpus=2, mem_mb=1049, tasks=8, mpi="srun"),
            Need(16, 1001, whole_nodes=True),
        ),
        (
            Shape(cpus=1, mem_mb=1049, nodes=2, tasks=96, mpi="srun", gpus=3),
            Need(48, 1001, 2, None, 2, whole_nodes=True),
        ),
        (
            Shape(cpus=1, mem_mb=1049, nodes=3, tasks=96, tasks_per_node=36, mpi="srun"),
            Need(36, 1001, nodes=3, whole_nodes=True),
        ),
        (Shape(cpus=2, tasks=8, mem_mb=1049), Need(2, 1001)),
    ],
)
def test_a_shape_asks_of_each_node(shape, need):
    assert need_of(shape) == need


@pytest.mark.parametrize(
    ("need", "words", "type_", "jobs", "share", "price"),
    [
        # Half of a c7i.large ($0.08925) by its CPUs.
        (Need(1, 1024), ("c7i",), "c7i.large", 2, 0.5, 0.5 * 0.08925),
        # By memory: 3,584 of the 3,858 MiB that jobs can have.
        (Need(1, 3584), ("c7i.large",), "c7i.large", 1, 3584 / 3859, 3584 / 3859 * 0.08925),
        (Need(2, 3000), ("c7i",), "c7i.large", 1, 1.0, 0.08925),
        # 31,096 MiB of an m7i.2xlarge ($0.4032) for two of 14,000.
        (Need(4, 14_000), ("m7i.2xlarge",), "m7i.2xlarge", 2, 0.5, 0.2016),
        # The smallest of a family whose sizes cost the same.
        (Need(8, 14_000), ("r7i",), "r7i.2xlarge", 1, 1.0, 0.5292),
        # c6i is cheaper than c7i, m6i and r6i.
        (Need(2, 3000), ("optimal",), "c6i.large", 1, 1.0, 0.085),
        # One of the four T4 of a g4dn.12xlarge ($3.912).
        (Need(4, 14_000, 1), ("g4dn.12xlarge",), "g4dn.12xlarge", 4, 0.25, 0.978),
        (Need(4, 14_000, 1), ("g4dn",), "g4dn.xlarge", 1, 1.0, 0.526),
        (Need(4, 14_000, 1, "a10g"), ("g4dn", "g5"), "g5.xlarge", 1, 1.0, 1.006),
        # Whole nodes: two hpc7g.16xlarge at $1.6832.
        (
            Need(64, 100_000, nodes=2, whole_nodes=True, efa=True),
            ("hpc7g.16xlarge",),
            "hpc7g.16xlarge",
            1,
            1.0,
            2 * 1.6832,
        ),
        (Need(8, 1000, whole_nodes=True), ("c5.9xlarge",), "c5.9xlarge", 1, 1.0, 1.53),
        # Memory of the c7g.medium ($0.0363) would be too little.
        (Need(1, 3000, architecture="arm64"), ("c7i", "c7g"), "c7g.large", 1, 3000 / 3859, 0.0564),
    ],
)
def test_a_job_pays_for_its_part(book, need, words, type_, jobs, share, price):
    best = fits(need, words, book)[0]
    assert (best.instance.name, best.jobs) == (type_, jobs)
    assert best.share == pytest.approx(share, rel=1e-3)
    assert best.on_demand_usd_per_hour == pytest.approx(price, rel=1e-3)
    assert best.spot_usd_per_hour == pytest.approx(price * 0.4, rel=1e-3)
    assert best.spot_is_estimate
    assert best.usd_per_hour("spot") == best.spot_usd_per_hour
    assert best.usd_per_hour(None) == best.usd_per_hour("on-demand") == best.on_demand_usd_per_hour


@pytest.mark.parametrize(
    "need",
    [
        Need(3, 1000),
        Need(1, 3859 + 1),
        Need(1, 1000, gpus=1),
        Need(1, 1000, efa=True),
        Need(1, 1000, architecture="arm64"),
    ],
)
def test_what_does_not_fit_has_no_fit(book, need):
    assert fits(need, ("c7i.large", "c7i.metal-99xl"), book) == ()


def test_a_family_of_another_region_has_no_fit(book):
    assert fits(Need(), ("hpc7a",), book) == ()


@pytest.mark.parametrize(
    ("need", "words", "reasons"),
    [
        (
            Need(1, 3584),
            ("c7i.large",),
            "memory wastes 50% of c7i.large's vCPUs: m7i.large would hold 2, at $0.0504 an hour for a "
            "job instead of $0.0829",
        ),
        (Need(2, 3000), ("c7i",), None),
        (
            Need(2, 1000),
            ("r7i.large",),
            "CPUs waste 94% of r7i.large's memory: c7i.large would hold 1, at $0.0892 an hour for a "
            "job instead of $0.1323",
        ),
        (Need(2, 1000), ("c7i.large",), None),
        (
            Need(2, 8192),
            ("m7i.large",),
            "gets 7,750 of 8,192 MiB: the instance keeps the rest for itself",
        ),
        (Need(4, 4000), ("g4dn.xlarge",), "g4dn.xlarge has 1 GPU, and the job asks for none"),
        (
            Need(16, 4000, whole_nodes=True),
            ("c6i.32xlarge",),
            "uses 16 of 128 vCPUs of c6i.32xlarge, and pays for all of them",
        ),
    ],
)
def test_waste_is_told_with_what_would_not_waste(book, need, words, reasons):
    best = fits(need, words, book)[0]
    assert best.reasons == ((reasons,) if reasons else ())


@pytest.mark.parametrize(("price", "named"), [(0.16, True), (0.17, False), (0.2, False)])
def test_another_type_is_named_where_it_saves_a_tenth(price, named):
    """A job takes 93 % of the c9x.large, $0.0929, and half of the m9x.large."""
    ones = [Instance("c9x.large", 2, 4096), Instance("m9x.large", 2, 8192)]
    table = Instances({one.name: one for one in ones})
    source = Source("2026-01-01", "made up")
    one = PriceBook("xx-made-1", table, source, {"c9x.large": 0.1, "m9x.large": price})
    (said,) = fits(Need(1, 3584), ("c9x",), one)[0].reasons
    assert said.startswith("memory wastes 50% of c9x.large's vCPUs")
    assert ("m9x.large would hold 2" in said) is named


def test_waste_is_of_a_full_instance(book):
    best = fits(Need(3, 9000), ("m7i.2xlarge",), book)[0]
    assert (best.jobs, best.idle_cpus) == (2, pytest.approx(0.25))
    assert best.idle_memory == pytest.approx(1 - 18_000 / (int(32_768 * 0.95) - 32))


def test_slurm_keeps_less_than_batch(book):
    need = Need(2, int(4096 * 0.95))
    assert fits(need, ("c7i.large",), book, Host.SLURM)[0].share == 1
    assert fits(need, ("c7i",), book, Host.BATCH)[0].instance.name != "c7i.large"


def made_up(prices):
    ones = [
        Instance("a.small", 2, 8192),
        Instance("a.large", 4, 16_384),
        Instance("b.large", 4, 16_384),
        Instance("n.large", 4, 16_384),
    ]
    return PriceBook(
        "xx-made-1",
        Instances({one.name: one for one in ones}),
        Source("2026-01-01", "made up"),
        prices,
        spot={"b.large": 0.07},
        spot_share=0.5,
    )


def test_types_without_a_price_come_last_and_are_not_guessed_at():
    one = made_up({"a.small": 0.2, "a.large": 0.4, "b.large": 0.3, "n.large": None})
    found = fits(Need(1, 1000), ("a", "b", "n"), one)
    assert [fit.instance.name for fit in found] == ["b.large", "a.small", "a.large", "n.large"]
    assert found[-1].on_demand_usd_per_hour is None
    assert found[-1].spot_usd_per_hour is None


def test_spot_is_asked_history_or_a_share():
    one = made_up({"a.small": 0.2, "b.large": 0.3})
    b, a = fits(Need(2, 1000), ("a", "b"), one)
    assert (b.spot_usd_per_hour, b.spot_is_estimate) == (pytest.approx(0.035), False)
    assert (a.spot_usd_per_hour, a.spot_is_estimate) == (pytest.approx(0.1), True)


def test_without_any_prices_the_smallest_is_first():
    found = fits(Need(1, 1000), ("a", "b"), made_up(None))
    assert [fit.instance.name for fit in found] == ["a.small", "a.large", "b.large"]


@pytest.mark.parametrize(
    ("need", "size", "price"),
    [
        # AWS's page: $0.04048 a vCPU, $0.004445 a GiB; $0.03238 and $0.00356 on arm64.
        (Need(1, 2048), (1, 2048), 0.04048 + 2 * 0.004445),
        (Need(3, 5000), (4, 8192), 4 * 0.04048 + 8 * 0.004445),
        (Need(1, 2048, architecture="arm64"), (1, 2048), 0.03238 + 2 * 0.00356),
        (Need(1, 2048, gpus=1), None, None),
        (Need(1, 2048, nodes=2), None, None),
        (Need(64, 2048), None, None),
    ],
)
def test_a_task_of_fargate(book, need, size, price):
    fit = fargate_fit(need, book)
    assert (fit and (fit.vcpus, fit.mem_mib)) == size
    if fit:
        assert fit.on_demand_usd_per_hour == pytest.approx(price)
        assert fit.spot_usd_per_hour == fit.usd_per_hour("spot") == pytest.approx(price * 0.32)


def test_rounding_up_on_fargate_is_told(book):
    assert fargate_fit(Need(3, 5000), book).reasons == (
        "asks for 3 CPUs and 5,000 MiB: Fargate's next size is 4 vCPU with 8 GiB",
    )
    assert fargate_fit(Need(1, 2048), book).reasons == ()


def test_fargate_without_prices_has_a_size(tmp_path):
    fit = fargate_fit(Need(), price_book("ap-south-1", tmp_path))
    assert (fit.vcpus, fit.on_demand_usd_per_hour, fit.spot_usd_per_hour) == (1, None, None)


@pytest.mark.parametrize(
    ("need", "type_", "price"),
    [
        # The guide's own example.
        (Need(8, 65_536), "omics.r.2xlarge", 8 * 2.7216 / 32),
        (Need(1, 1024), "omics.c.large", 2 * 0.918 / 16),
        (Need(4, 16_384), "omics.m.xlarge", 0.2592),
        (Need(16, 32_768), "omics.c.4xlarge", 0.918),
        (Need(32, 262_144), "omics.r.8xlarge", 2.7216),
        (Need(4, 16_385), "omics.r.xlarge", 4 * 2.7216 / 32),
        (Need(4, 16_000, 1, "nvidia-tesla-t4"), "omics.g4dn.xlarge", None),
        (Need(4, 16_000, 4), "omics.g4dn.12xlarge", None),
    ],
)
def test_a_task_of_healthomics_has_the_smallest_type(book, need, type_, price):
    fit = omics_fit(need, book)
    assert fit.instance.name == type_
    assert fit.usd_per_hour == (price if price is None else pytest.approx(price))


def test_large_types_of_healthomics_are_in_two_regions(book, tmp_path):
    need = Need(100, 1024)
    assert omics_fit(need, book).instance.name == "omics.c.32xlarge"
    assert omics_fit(need, price_book("eu-central-1", tmp_path)) is None


def test_waste_of_healthomics_is_told(book):
    (told,) = omics_fit(Need(1, 15_000), book).reasons
    assert "50% of omics.r.large's vCPUs" in told


def test_storage_of_a_run(book):
    prices = book.healthomics
    # 1,200 GiB are paid for at least: a public measurement of 13 minutes came to $0.049.
    assert omics_storage_usd(prices, "STATIC", 10, 12.8 / 60) == pytest.approx(0.0491, abs=1e-4)
    assert omics_storage_usd(prices, "STATIC", 2400, 1) == pytest.approx(2400 * 0.0001918)
    assert omics_storage_usd(prices, "DYNAMIC", 10, 2) == pytest.approx(20 * 0.000411)
    unknown = dataclasses.replace(prices, dynamic_storage_usd_per_gib_hour=None)
    assert omics_storage_usd(unknown, "DYNAMIC", 10, 2) is None


def test_a_task_is_paid_for_a_minute_at_least():
    assert omics_task_usd(0.6, 7) == pytest.approx(0.01)
    assert omics_task_usd(0.6, 3600) == pytest.approx(0.6)


def test_amounts_in_words():
    assert [usd(0.05), usd(12.3), usd(1234.5), usd(None)] == [
        "$0.0500",
        "$12.30",
        "$1,234.50",
        "no known price",
    ]


def test_a_shape_is_worked_out_once(book):
    fits.cache_clear()
    for number in range(10_000):
        fits(Need(1 + number % 20, 1000), ("optimal", "m7i"), book)
    assert (fits.cache_info().misses, fits.cache_info().hits) == (20, 9_980)
