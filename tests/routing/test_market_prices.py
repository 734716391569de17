"""The table of instances and prices as a market of the router."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from routing_models import job, load

from snakemake_executor_takeda.routing.market import RememberingMarket
from snakemake_executor_takeda.routing.market_prices import PriceMarket, with_prices
from snakemake_executor_takeda.routing.policy import Policy
from snakemake_executor_takeda.routing.prices import price_book
from snakemake_executor_takeda.routing.router import PlacementError, place

POLICY = """\
version: 1
targets:
  od:      {backend: batch, queue: o, capacity: on-demand, instances: [c7i, m7i]}
  spot:    {backend: batch, queue: s, capacity: spot, instances: [c7i, m7i]}
  fargate: {backend: batch, queue: f, platform: FARGATE}
  hpc:     {backend: slurm, instances: [hpc7a.96xlarge]}
  own:     {backend: slurm}
default: [od, spot, fargate, hpc, own]
choose: cheapest
"""


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    book = price_book("us-east-2", tmp_path)
    return replace(
        load(tmp_path, POLICY), market=RememberingMarket(PriceMarket(lambda target: book))
    )


def test_spot_is_cheapest_and_every_price_is_told(policy: Policy) -> None:
    placement = place(job(shape={"cpus": 2, "mem_mb": 4000}), policy)
    assert placement.target.name == "spot"
    reason = placement.reasons[1]
    assert reason.startswith("spot is the cheapest of od (")
    assert reason.count(" USD/h") == 4
    assert "c7i.large" in reason
    assert "Fargate" in reason
    assert "hpc7a.96xlarge" in reason
    assert "own (no price)" in reason


def test_a_job_larger_than_all_instances_is_refused_with_the_type_that_would_do(
    policy: Policy,
) -> None:
    big = replace(policy, default=("od",))
    with pytest.raises(PlacementError) as caught:
        place(job(shape={"mem_mb": 2_000_000}), big)
    said = str(caught.value)
    assert (
        "no target of `default` can hold it: od: 1,863 GiB of memory on a node: the largest" in said
    )
    # A cluster says itself what its nodes hold.
    assert "hpc may, as it is not known what it has: name it in `default`" in said


def test_the_region_is_the_targets_own_or_that_of_the_run(policy: Policy) -> None:
    small = job(shape={"cpus": 2, "mem_mb": 4000})
    reasons = {
        region: place(small, with_prices(policy, lambda region=region: region)).reasons[1]
        for region in ("us-east-2", "eu-central-1", None)
    }
    assert len(set(reasons.values())) == 3
    assert "no price" in reasons[None]
    assert "USD" not in reasons[None]


def test_a_type_that_is_not_had_in_a_region_is_no_reason_to_refuse(policy: Policy) -> None:
    """hpc7a is in few Regions, and may come to others."""
    targets = {"od": replace(policy.targets["od"], instances=("hpc7a.96xlarge",))}
    there = with_prices(replace(policy, targets=targets, default=("od",)), lambda: "eu-central-1")
    assert place(job(shape={"cpus": 2}), there).target.name == "od"


def test_nothing_is_refused_of_what_is_not_known(policy: Policy, tmp_path: Path) -> None:
    unknown = PriceMarket(lambda target: None)
    blind = replace(policy, default=("od",), market=unknown)
    assert place(job(shape={"mem_mb": 2_000_000}), blind).target.name == "od"
    elsewhere = load(tmp_path, POLICY.replace("[c7i, m7i]", "[zz9.large]"))
    book = price_book("us-east-2", tmp_path)
    market = PriceMarket(lambda target: book)
    elsewhere = replace(elsewhere, default=("od",), market=market)
    assert place(job(shape={"mem_mb": 2_000_000}), elsewhere).target.name == "od"
