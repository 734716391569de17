"""Prices of a Region: what the package has, and what a refresh has put in its place."""

from __future__ import annotations

import json

import pytest

from snakemake_executor_takeda.routing.prices import (
    PRICES,
    cache_dir,
    cache_file,
    merged,
    packaged_regions,
    price_book,
)
from snakemake_executor_takeda.values import TakedaError

REGIONS = ("us-east-1", "us-east-2", "us-west-2", "eu-west-1", "eu-central-1", "ap-northeast-1")


def write(folder, region, **parts):
    shapes = parts.pop("shapes", None)
    file = folder / f"{region}.json"
    file.write_text(json.dumps({"format": 1, "shapes": shapes, "region": parts}))
    return file


def ec2(date, **prices):
    return {"date": date, "source": "asked", "on_demand_usd_per_hour": {"c7i": prices}}


# AWS's price pages: On-Demand, Linux.
@pytest.mark.parametrize(
    ("region", "type_", "usd"),
    [
        ("us-east-1", "c7i.large", 0.08925),
        ("us-east-1", "m5.xlarge", 0.192),
        ("us-east-1", "r6g.4xlarge", 0.8064),
        ("us-east-1", "p4d.24xlarge", 21.957642),
        ("us-east-1", "p5.48xlarge", 55.04),
        ("us-east-1", "hpc7g.16xlarge", 1.6832),
        ("us-east-2", "hpc6a.48xlarge", 2.88),
        ("us-east-2", "hpc7a.96xlarge", 7.2),
        ("us-west-2", "m6i.large", 0.096),
        ("us-west-2", "p5en.48xlarge", 63.296),
        ("eu-west-1", "m5.large", 0.107),
        ("eu-west-1", "c6i.large", 0.0912),
        ("eu-west-1", "r4.2xlarge", 0.5928),
        ("eu-central-1", "m5.large", 0.115),
        ("eu-central-1", "c5.large", 0.097),
        ("eu-central-1", "g4dn.xlarge", 0.658),
        ("eu-central-1", "r4.2xlarge", 0.6402),
        ("ap-northeast-1", "m5.large", 0.124),
        ("ap-northeast-1", "c5.large", 0.107),
        ("ap-northeast-1", "r4.2xlarge", 0.64),
        ("eu-central-1", "p4d.24xlarge", None),
    ],
)
def test_prices_that_aws_publishes(tmp_path, region, type_, usd):
    book = price_book(region, tmp_path)
    assert book.offers(type_)
    assert book.on_demand_usd(type_) == (usd if usd is None else pytest.approx(usd, rel=1e-3))


@pytest.mark.parametrize(
    ("region", "vcpu", "gib"),
    [
        ("us-east-1", 0.04048, 0.004445),
        ("eu-west-1", 0.04048, 0.004445),
        ("eu-central-1", 0.04656, 0.00511),
        ("ap-northeast-1", 0.05056, 0.00553),
    ],
)
def test_prices_of_fargate(tmp_path, region, vcpu, gib):
    prices = price_book(region, tmp_path).fargate
    assert (prices.usd_per_vcpu_hour, prices.usd_per_gib_hour) == (vcpu, gib)


def test_the_file_says_where_each_figure_is_from():
    document = json.loads(PRICES.read_text(encoding="utf-8"))
    assert packaged_regions() == REGIONS == tuple(document["regions"])
    assert document["spot_share"]["source"]
    for region in document["regions"].values():
        for part in region.values():
            assert "2020" < part["date"] < "2027"
            assert len(part["source"]) > 30


@pytest.mark.parametrize("region", REGIONS)
def test_sizes_of_a_family_cost_in_proportion(tmp_path, region):
    """A figure of another tenancy, or a slip of the pen, would stand out."""
    book = price_book(region, tmp_path)
    for family, sizes in book.instances.families.items():
        if f"{family}.".startswith(("c4.", "g", "hpc", "p5", "x8i")):
            continue  # GPUs and HPC nodes cost by themselves; c4.8xlarge and x8i.96xlarge are odd
        each = [
            price / one.vcpus
            for one in sizes
            if (price := book.on_demand_usd(one.name)) is not None
        ]
        assert not each or max(each) / min(each) < 1.02, (family, each)


@pytest.mark.parametrize("region", REGIONS[1:])
def test_a_region_is_dearer_than_the_first_by_the_same_for_all_sizes(tmp_path, region):
    first, book = price_book("us-east-1", tmp_path), price_book(region, tmp_path)
    ratios: dict[str, list[float]] = {}
    for name, price in book.on_demand.items():
        if price is not None and (base := first.on_demand_usd(name)) is not None:
            ratios.setdefault(name.partition(".")[0], []).append(price / base)
    assert sum(map(len, ratios.values())) > 600
    for family, each in ratios.items():
        assert 0.95 < min(each) <= max(each) < 1.5, family
        assert max(each) / min(each) < 1.015, family


def test_what_is_not_known_is_nothing(tmp_path):
    book = price_book("ap-south-1", tmp_path)
    assert (book.ec2, book.fargate, book.healthomics) == (None, None, None)
    assert book.on_demand_usd("c7i.large") is None
    assert book.spot_usd("c7i.large") is None
    assert book.offers("c7i.large")
    assert price_book("eu-west-1", tmp_path).healthomics is None


def test_healthomics_publishes_three_types(tmp_path):
    prices = price_book("us-east-1", tmp_path).healthomics
    published = {"omics.m.xlarge": 0.2592, "omics.c.4xlarge": 0.918, "omics.r.8xlarge": 2.7216}
    assert {name: prices.usd_per_hour[name] for name in published} == published
    assert prices.usd_per_hour["omics.c.large"] == pytest.approx(0.918 / 8)
    assert "omics.g5.xlarge" not in prices.usd_per_hour
    assert prices.static_storage_usd_per_gib_hour == 0.0001918


def test_a_newer_file_of_the_user_is_taken_part_by_part(tmp_path):
    write(
        tmp_path,
        "us-east-1",
        ec2=ec2("2026-11-01", large=0.05),
        fargate={
            "date": "2019-01-01",
            "source": "old",
            "usd_per_vcpu_hour": 9,
            "usd_per_gib_hour": 9,
        },
        spot={"date": "2026-11-02", "source": "history", "usd_per_hour": {"c7i": {"large": 0.03}}},
    )
    book = price_book("us-east-1", tmp_path)
    assert (book.ec2.date, book.on_demand_usd("c7i.large")) == ("2026-11-01", 0.05)
    assert not book.offers("m7i.large")
    assert book.fargate.usd_per_vcpu_hour == 0.04048
    assert book.spot_usd("c7i.large").usd_per_hour == 0.03
    assert not book.spot_usd("c7i.large").is_estimate
    assert book.spot_source.text == "history"
    assert book.healthomics is not None


def test_an_older_file_of_the_user_changes_nothing(tmp_path):
    write(tmp_path, "us-east-1", ec2=ec2("2020-01-01", large=0.05))
    assert price_book("us-east-1", tmp_path).on_demand_usd("c7i.large") == 0.08925


def test_a_region_that_the_package_does_not_have(tmp_path):
    write(tmp_path, "ap-south-1", ec2=ec2("2026-11-01", large=0.05, xlarge=None))
    book = price_book("ap-south-1", tmp_path)
    assert book.spot_usd("c7i.large").usd_per_hour == pytest.approx(0.02)
    assert book.spot_usd("c7i.large").is_estimate
    assert (book.offers("c7i.xlarge"), book.spot_usd("c7i.xlarge")) == (True, None)


@pytest.mark.parametrize(("date", "vcpus"), [("2026-11-01", 3), ("2020-01-01", 2)])
def test_newer_shapes_of_the_user_come_first(tmp_path, date, vcpus):
    rows = [["c7i.large", 3, 4096, 0, "", 0, 0, "x86_64", 0, 1], ["z99.large", 2, 4096]]
    write(tmp_path, "eu-west-1", shapes={"date": date, "source": "asked", "rows": rows})
    table = price_book("eu-west-1", tmp_path).instances
    assert table.get("c7i.large").vcpus == vcpus
    assert bool(table.get("z99.large")) is (vcpus == 3)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"format": 2}',
        '{"format": 1, "region": {"ec2": {}}}',
        '{"format": 1, "region": {"ec2": 7}}',
        '{"format": 1, "region": []}',
        '{"format": 1, "region": {"spot": {"date": "2027", "source": "s", "usd_per_hour": {"c7i": {"large": "0.1"}}}}}',
        '{"format": 1, "region": {"fargate": {"date": "2027", "source": "s", "usd_per_vcpu_hour": -1, "usd_per_gib_hour": 1}}}',
        '{"format": 1, "shapes": {"date": "2027"}}',
        "[" * 100_000,
    ],
)
def test_a_file_that_is_no_price_file(tmp_path, content):
    (tmp_path / "us-east-1.json").write_text(content)
    with pytest.raises(TakedaError) as raised:
        price_book("us-east-1", tmp_path)
    assert "us-east-1.json" in str(raised.value)
    assert "Delete it, or write it anew with `takeda prices refresh --region us-east-1`" in str(
        raised.value
    )


@pytest.mark.parametrize(
    ("region", "said"),
    [
        ("us-east1", "did you mean us-east-1?"),
        ("../../etc/passwd-1", "write it as AWS does, such as eu-central-1"),
        ("frankfurt", "such as eu-central-1"),
        ("", "such as eu-central-1"),
    ],
)
def test_what_is_no_name_of_a_region(region, said, tmp_path):
    with pytest.raises(TakedaError, match="no name of an AWS Region") as raised:
        price_book(region, tmp_path)
    assert said in str(raised.value)


def test_files_are_kept_where_caches_are(tmp_path):
    assert cache_dir({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "takeda" / "prices"
    assert cache_dir({}).parts[-3:] == (".cache", "takeda", "prices")
    assert cache_file("us-gov-west-1", tmp_path) == tmp_path / "us-gov-west-1.json"


def test_a_part_that_was_not_asked_for_is_kept(tmp_path):
    file = write(tmp_path, "eu-west-1", ec2=ec2("2026-01-01", large=1), shapes={"date": "a"})
    document = merged(file, {"spot": {"date": "b"}}, None)
    assert set(document["region"]) == {"ec2", "spot"}
    assert document["shapes"] == {"date": "a"}


def test_what_cannot_be_read_is_not_kept(tmp_path):
    file = tmp_path / "eu-west-1.json"
    file.write_text("{")
    assert merged(file, {"spot": {}}, None) == {"format": 1, "shapes": None, "region": {"spot": {}}}
