"""Estimates, chains, warnings and reasons of a plan, from values."""

from __future__ import annotations

from dataclasses import replace

import pytest

from snakemake_executor_takeda.planning.advice import warnings_of
from snakemake_executor_takeda.planning.estimates import estimate, of_healthomics, usd_of_usage
from snakemake_executor_takeda.planning.history import Past
from snakemake_executor_takeda.planning.plan import Row, ends_of, words_of
from snakemake_executor_takeda.planning.reasons import why_not
from snakemake_executor_takeda.planning.words import dollars, size, span
from snakemake_executor_takeda.routing.deciding import decide
from snakemake_executor_takeda.routing.market import Offer
from snakemake_executor_takeda.routing.policy import Policy
from snakemake_executor_takeda.routing.prices import OmicsPrices, Source
from snakemake_executor_takeda.values import JobSpec, Shape, Target

OFFER = Offer(usd_per_hour=0.4, on_demand_usd_per_hour=1.0, spot_usd_per_hour=0.4)
PRICES = OmicsPrices(Source("2026-01-01", ""), {"omics.c.large": 0.36}, 0.0001, 0.0005)


def test_history_comes_before_runtime_and_pays_for_what_was_lost() -> None:
    past = Past(jobs=4, mean_seconds=1800, longest_seconds=3600, lost_part=0.5)
    of_past = estimate(Shape(runtime_min=600), OFFER, past)
    assert (of_past.basis, of_past.seconds) == ("history", 1800)
    assert of_past.usd == of_past.usd_spot == pytest.approx(0.4 * 0.75)
    assert of_past.usd_on_demand == pytest.approx(0.5), "nothing is lost On-Demand"


def test_without_history_runtime_is_the_longest_and_without_both_nothing_is_known() -> None:
    of_rule = estimate(Shape(runtime_min=30), OFFER, None)
    assert (of_rule.basis, of_rule.seconds, of_rule.usd) == ("runtime", 1800, pytest.approx(0.2))
    nobody = estimate(Shape(), OFFER, None)
    assert (nobody.basis, nobody.seconds, nobody.usd) == ("unknown", None, None)


def test_a_hand_off_costs_what_its_runs_were_billed_on_average() -> None:
    bills = ({"omics.c.large": 3600.0, "STATIC": 1200.0}, {"omics.c.large": 7200.0})
    one = of_healthomics(Past(2, 100, 150, usage=bills), PRICES)
    assert one.usd == pytest.approx((0.36 + 0.12 + 0.72) / 2)
    assert one.usd_spot is None
    assert usd_of_usage({"omics.m.huge": 1.0}, PRICES) is None, "no price is no price"
    assert of_healthomics(Past(2, 100, 150), PRICES).usd is None, "no bill is no bill"


def test_the_longest_chain_waits_for_its_slowest_branch() -> None:
    seconds = {"a": 5.0, "b": 1.0, "c": 7.0, "d": 2.0}
    after = {"d": ("b", "c"), "c": ("a",), "b": ("a",), "a": ()}
    assert ends_of(after, seconds.__getitem__) == {"a": 5, "b": 6, "c": 12, "d": 14}


def test_a_chain_of_any_length_is_followed() -> None:
    after = {n: (n - 1,) if n else () for n in range(20_000, -1, -1)}
    assert max(ends_of(after, lambda _: 1.0).values()) == 20_001


SHAPE = Shape()
SPOT = Target("spot", "batch", "spot")
ROW = Row("align", 1, "spot", "batch", "spot", basis="history", seconds_each=3600.0)


def codes(
    row: Row, *, past: Past | None = None, shape: Shape = SHAPE, shared: int = 0
) -> list[str]:
    return [one.code for one in warnings_of(row, SPOT, shape, OFFER, past, shared_bytes=shared)]


def test_nothing_is_said_of_an_ordinary_rule() -> None:
    assert codes(ROW) == []


def test_twenty_hours_on_spot_are_said_and_not_on_demand() -> None:
    assert codes(replace(ROW, seconds_each=20 * 3600)) == ["spot"]
    assert codes(ROW, past=Past(9, 3600, 20 * 3600)) == ["spot"], "the longest one tells"
    assert codes(replace(ROW, seconds_each=20 * 3600, capacity="on-demand")) == []


def test_three_gb_for_each_of_five_thousand_jobs() -> None:
    row = replace(ROW, jobs=5000, input_bytes_each=3e9)
    assert codes(row) == ["input"]
    (one,) = warnings_of(row, SPOT, Shape(), OFFER, None, shared_bytes=2_900_000_000)
    assert "15.0 TB" in one.text
    assert "2.9 GB are the same" in one.text
    assert "image" in one.fix
    assert codes(replace(row, jobs=5)) == []


def test_many_short_jobs_are_better_grouped_if_history_says_so() -> None:
    row = replace(ROW, jobs=2000, seconds_each=12.0)
    assert codes(row) == ["short"]
    assert codes(replace(row, basis="runtime")) == []


def test_a_runtime_that_history_comes_near() -> None:
    assert codes(ROW, past=Past(9, 3600, 6900), shape=Shape(runtime_min=120)) == ["limit"]
    assert codes(ROW, past=Past(9, 3600, 3700), shape=Shape(runtime_min=120)) == []


def test_no_time_at_all() -> None:
    row = replace(ROW, basis="unknown", seconds_each=None)
    assert codes(row) == ["time"]
    assert codes(replace(row, backend="healthomics")) == []


def test_figures_in_words() -> None:
    assert [dollars(usd) for usd in (None, 0, 0.00001, 0.0042, 1.2, 12345.6)] == [
        *("?", "$0", "<$0.0001", "$0.0042", "$1.20", "$12,346")
    ]
    assert [span(seconds) for seconds in (7.2, 600, 605, 7200, 7800, 7.2e6)] == [
        *("7.2 s", "10 min", "10 min 05 s", "2 h", "2 h 10 min", "2,000 h")
    ]
    assert [size(count) for count in (12, 1500, 3e9, 2.5e15)] == [
        "12 B",
        "1.5 kB",
        "3.0 GB",
        "2500.0 TB",
    ]
    shape = Shape(cpus=2, mem_mb=16000, runtime_min=60, nodes=2, tasks=8, mpi="srun")
    assert words_of(shape) == "2 nodes, 8 × 2 CPUs, 16,000 MB, at most 60 min"


def test_why_not_of_targets_that_a_route_chooses_from() -> None:
    def told(**prices: float) -> str:
        targets = {
            name: Target(name, "batch", usd_per_cpu_hour=usd) for name, usd in prices.items()
        }
        policy = Policy(targets, (), tuple(targets), "p", lambda _: "", choose="cheapest")
        job = JobSpec(1, "r", {}, 1, Shape(), {}, rules=("r",))
        return why_not(decide(job, policy), policy)

    assert told(a=1.0, b=2.5, c=9.0) == "not b: it costs 2.5 times as much"
    assert told(a=1.0, b=1.0) == "not b: it costs the same, and comes later"
    assert told(a=1.0) == ""
