"""What an hour costs in a Region: EC2, Fargate, HealthOmics. Read from files; no service is asked.

Two files can say it: `prices.json` of the package, and one that `takeda prices refresh` wrote for the
Region. Of each part the newer one is taken. What neither has is None, never a guess; only Spot is
estimated, and says so.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.nearest import nearest
from snakemake_executor_takeda.plain_data import parse_json
from snakemake_executor_takeda.routing.instances import Instance, Instances, packaged
from snakemake_executor_takeda.values import TakedaError

PRICES = Path(__file__).with_name("prices.json")
FORMAT = 1
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")


@dataclass(frozen=True, slots=True)
class Source:
    """Where figures come from."""

    date: str
    """ISO 8601, of the figures, not of the file."""
    text: str


@dataclass(frozen=True, slots=True)
class Spot:
    """A Spot price."""

    usd_per_hour: float
    is_estimate: bool
    """True where it is a share of the On-Demand price, as nobody has asked the Spot history."""


@dataclass(frozen=True, slots=True)
class FargatePrices:
    """Linux on x86_64, and on arm64 where that is known. A task pays for its vCPUs and its GiB."""

    source: Source
    usd_per_vcpu_hour: float
    usd_per_gib_hour: float
    arm64_usd_per_vcpu_hour: float | None = None
    arm64_usd_per_gib_hour: float | None = None


@dataclass(frozen=True, slots=True)
class OmicsPrices:
    """Private workflows of HealthOmics: each task by its type, each run by its storage."""

    source: Source
    usd_per_hour: Mapping[str, float]
    static_storage_usd_per_gib_hour: float | None = None
    dynamic_storage_usd_per_gib_hour: float | None = None


@dataclass(frozen=True, eq=False)
class PriceBook:
    """The prices of one Region. Compared by identity, so that it can be part of a cache's key."""

    region: str
    instances: Instances
    ec2: Source | None = None
    """None where nothing is known of EC2 in this Region."""
    on_demand: Mapping[str, float | None] | None = None
    """Type → USD an hour, Linux, shared tenancy; None for a type without a known price."""
    spot_source: Source | None = None
    spot: Mapping[str, float] | None = None
    fargate: FargatePrices | None = None
    healthomics: OmicsPrices | None = None
    spot_share: float = 1.0
    fargate_spot_share: float = 1.0

    def offers(self, instance_type: str) -> bool:
        """Whether the Region has a type. True where nobody knows."""
        return not self.on_demand or instance_type in self.on_demand

    def on_demand_usd(self, instance_type: str) -> float | None:
        """USD an hour; None where it is not known."""
        return (self.on_demand or {}).get(instance_type)

    def spot_usd(self, instance_type: str) -> Spot | None:
        """From the Spot history where it was asked, else a share of the On-Demand price."""
        if self.spot and instance_type in self.spot:
            return Spot(self.spot[instance_type], is_estimate=False)
        full = self.on_demand_usd(instance_type)
        return None if full is None else Spot(full * self.spot_share, is_estimate=True)


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """`takeda/prices` in `$XDG_CACHE_HOME` or `~/.cache`."""
    base = environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "takeda" / "prices"


def cache_file(region: str, folder: Path | None = None) -> Path:
    """Where the prices of a Region are kept. Raises TakedaError for what is no Region's name."""
    if not _REGION.fullmatch(region):
        near = nearest(region, packaged_regions())
        hint = f"did you mean {near}?" if near else "write it as AWS does, such as eu-central-1"
        raise TakedaError(f"{region!r} is no name of an AWS Region: {hint}")
    return (folder or cache_dir()) / f"{region}.json"


def packaged_regions() -> tuple[str, ...]:
    """The Regions that the package has prices of."""
    return tuple(_packaged()["regions"])


@cache
def price_book(region: str, folder: Path | None = None) -> PriceBook:
    """The prices of a Region; without any where neither the package nor a refresh knows it.

    `folder` is None for the user's cache. Read once in a process. Raises TakedaError for what is no
    Region's name, and for a file that cannot be read.
    """
    ours = _packaged()
    file = cache_file(region, folder)
    theirs = _read(file) if file.is_file() else {}
    known = {**ours["regions"].get(region, {})}
    try:
        for part, fresh in theirs.get("region", {}).items():
            if part not in known or fresh["date"] >= known[part]["date"]:
                known[part] = fresh
        return _book(region, known, theirs.get("shapes"), ours["spot_share"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(file, f"{type(error).__name__}: {error}") from error


def _book(
    region: str,
    known: Mapping[str, Any],
    shapes: Mapping[str, Any] | None,
    share: Mapping[str, Any],
) -> PriceBook:
    table = packaged()
    if shapes and shapes["date"] >= table.date:
        table = table.with_types(
            [Instance(*row) for row in shapes["rows"]], shapes["date"], shapes["source"]
        )
    ec2, spot = known.get("ec2"), known.get("spot")
    return PriceBook(
        region=region,
        instances=table,
        ec2=_source(ec2) if ec2 else None,
        on_demand=_by_type(ec2["on_demand_usd_per_hour"]) if ec2 else None,
        spot_source=_source(spot) if spot else None,
        spot=_by_type(spot["usd_per_hour"]) if spot else None,
        fargate=_fargate(known["fargate"]) if "fargate" in known else None,
        healthomics=_healthomics(known["healthomics"]) if "healthomics" in known else None,
        spot_share=share["ec2"],
        fargate_spot_share=share["fargate"],
    )


def _source(part: Mapping[str, Any]) -> Source:
    return Source(part["date"], part["source"])


def _by_type(families: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return _prices(
        {
            f"{family}.{size}": price
            for family, sizes in families.items()
            for size, price in sizes.items()
        }
    )


def _prices(by_name: Mapping[str, Any]) -> dict[str, Any]:
    """Raises ValueError for what is no price."""
    for name, price in by_name.items():
        if price is not None and (type(price) not in (int, float) or price < 0):
            raise ValueError(f"{name}: {price!r} is no price")
    return dict(by_name)


def _fargate(part: Mapping[str, Any]) -> FargatePrices:
    prices = _prices({word: value for word, value in part.items() if word.endswith("_hour")})
    return FargatePrices(_source(part), **prices)


def _healthomics(part: Mapping[str, Any]) -> OmicsPrices:
    storage = _prices({word: value for word, value in part.items() if word.endswith("_gib_hour")})
    return OmicsPrices(_source(part), _prices(part["usd_per_hour"]), **storage)


@cache
def _packaged() -> Mapping[str, Any]:
    document: Mapping[str, Any] = json.loads(PRICES.read_text(encoding="utf-8"))
    return document


def _read(file: Path) -> Mapping[str, Any]:
    try:
        document = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(file, str(error)) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise _unreadable(file, f'it is no JSON object with "format": {FORMAT}')
    return document


def _unreadable(file: Path, why: str) -> TakedaError:
    return TakedaError(
        f"cannot use the prices of {file}: {why}. Delete it, or write it anew with "
        f"`takeda prices refresh --region {file.stem}`"
    )


def merged(
    file: Path, region: Mapping[str, Any], shapes: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What to write: the parts that were asked for now, and those that the file had besides.

    A file that cannot be read has none."""
    try:
        before: Mapping[str, Any] = _read(file) if file.is_file() else {}
    except TakedaError:
        before = {}
    return {
        "format": FORMAT,
        "shapes": shapes or before.get("shapes"),
        "region": {**before.get("region", {}), **region},
    }
