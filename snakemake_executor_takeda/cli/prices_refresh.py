"""Asks AWS for the instance types and prices of a Region, as far as the credentials allow."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.backends import aws
from snakemake_executor_takeda.routing import prices_answers
from snakemake_executor_takeda.routing.instances import Instance
from snakemake_executor_takeda.routing.prices import cache_file, merged, price_book
from snakemake_executor_takeda.values import TakedaError

_PRICING_REGIONS = {"eu": "eu-central-1", "ap": "ap-south-1"}
"""The Pricing API is in three Regions, and tells of all."""


@dataclass(frozen=True)
class Refreshed:
    """What was found out, and what was not."""

    file: Path
    counts: Mapping[str, int]
    """What was written → how many figures."""
    denied: tuple[str, ...]
    """A sentence for each call that the credentials do not allow."""
    absent: tuple[str, ...]
    """What AWS has no price of in this Region."""


@dataclass(frozen=True)
class _Question:
    """One call, and what it is for."""

    action: str
    """The IAM action."""
    part: str
    ask: Callable[[], Any]
    otherwise: str
    """What the lack of it means."""


def refresh(region: str, folder: Path | None = None) -> Refreshed:
    """Ask for all that a Region has, and write it to the user's cache.

    Raises TakedaError where there are no credentials, no network, or none of the calls is allowed.
    """
    file = cache_file(region, folder)
    from botocore.exceptions import ClientError

    today = datetime.now(UTC).date().isoformat()
    found: dict[str, Any] = {}
    denied, absent = [], []
    for question in _questions(region):
        try:
            with aws.readable_errors(question.action.partition(":")[0]):
                answer = question.ask()
        except ClientError as error:
            if not aws.is_denied(error):
                raise TakedaError(
                    f"{question.action} for {region}: {aws.error_code(error)}: "
                    f"{aws.error_message(error)}"
                ) from error
            denied.append(
                f"{question.action} is not allowed ({aws.error_message(error)}): {question.otherwise}"
            )
            continue
        if answer:
            found[question.part] = answer
        else:
            absent.append(question.part)
    if not found:
        raise TakedaError(_nothing(region, denied))
    _write(file, region, found, today)
    price_book.cache_clear()
    return Refreshed(
        file=file,
        counts={part: _count(part, value) for part, value in found.items()},
        denied=tuple(denied),
        absent=tuple(absent),
    )


def _questions(region: str) -> list[_Question]:
    pricing = aws.client(
        "pricing", region=_PRICING_REGIONS.get(region.partition("-")[0], "us-east-1")
    )
    ec2 = aws.client("ec2", region=region)

    def products(service: str, words: Mapping[str, str]) -> Iterable[str]:
        filters = [
            {"Type": "TERM_MATCH", "Field": field, "Value": value}
            for field, value in {"regionCode": region, **words}.items()
        ]
        pages = pricing.get_paginator("get_products").paginate(ServiceCode=service, Filters=filters)
        return (text for page in pages for text in page["PriceList"])

    def described() -> Iterable[Mapping[str, Any]]:
        pages = ec2.get_paginator("describe_instance_types").paginate()
        return (one for page in pages for one in page["InstanceTypes"])

    def history() -> Iterable[Mapping[str, Any]]:
        pages = ec2.get_paginator("describe_spot_price_history").paginate(
            ProductDescriptions=["Linux/UNIX"], StartTime=datetime.now(UTC)
        )
        return (one for page in pages for one in page["SpotPriceHistory"])

    get_products = "pricing:GetProducts"
    as_before = "its prices stay as they were"
    return [
        _Question(
            get_products,
            "ec2",
            lambda: prices_answers.on_demand(products("AmazonEC2", prices_answers.EC2_FILTERS)),
            f"EC2: {as_before}",
        ),
        _Question(
            get_products,
            "fargate",
            lambda: prices_answers.fargate(products("AmazonECS", {})),
            f"Fargate: {as_before}",
        ),
        _Question(
            get_products,
            "healthomics",
            lambda: prices_answers.healthomics(products("AmazonOmics", {})),
            f"HealthOmics: {as_before}",
        ),
        _Question(
            "ec2:DescribeInstanceTypes",
            "shapes",
            lambda: prices_answers.instances(described()),
            "instance types that are newer than this package stay unknown",
        ),
        _Question(
            "ec2:DescribeSpotPriceHistory",
            "spot",
            lambda: prices_answers.spot(history()),
            "Spot prices stay estimates",
        ),
    ]


def _nothing(region: str, denied: list[str]) -> str:
    if not denied:
        return f"AWS has no prices in USD and no instance types for {region}: is it the Region you mean?"
    lines = "".join(f"\n  {one}" for one in denied)
    return (
        f"nothing could be asked for {region}:{lines}\nAdd these actions to the IAM policy of your user "
        'or role, with Resource "*": they read public figures only'
    )


def _write(file: Path, region: str, found: Mapping[str, Any], today: str) -> None:
    """At once or not at all. Raises TakedaError where the folder cannot be written to."""
    document = merged(
        file, _parts(region, found, today), _shapes(found.get("shapes"), region, today)
    )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=file.parent, suffix=".tmp", delete=False
        ) as draft:
            json.dump(document, draft)
        os.replace(draft.name, file)  # noqa: PTH105 - the draft's name is a string
    except OSError as error:
        raise TakedaError(
            f"cannot write {file}: {error.strerror or error}. Set XDG_CACHE_HOME to a folder of yours"
        ) from error


def _parts(region: str, found: Mapping[str, Any], today: str) -> dict[str, Any]:
    said = f"AWS Pricing API, GetProducts for {region}"
    parts: dict[str, Any] = {}
    if "ec2" in found:
        source = f"{said}: On-Demand, Linux, shared tenancy"
        prices = {"on_demand_usd_per_hour": found["ec2"]}
        parts["ec2"] = {"date": today, "source": source, **prices}
    for part in ("fargate", "healthomics"):
        if part in found:
            parts[part] = {"date": today, "source": said, **found[part]}
    if "spot" in found:
        source = f"EC2 DescribeSpotPriceHistory in {region}: median of the Availability Zones"
        parts["spot"] = {"date": today, "source": source, "usd_per_hour": found["spot"]}
    return parts


def _shapes(ones: list[Instance] | None, region: str, today: str) -> dict[str, Any] | None:
    if ones is None:
        return None
    names = [field.name for field in fields(Instance)]
    return {
        "date": today,
        "source": f"EC2 DescribeInstanceTypes in {region}",
        "columns": names,
        "rows": [[getattr(one, name) for name in names] for one in ones],
    }


def _count(part: str, value: Any) -> int:
    if part in ("ec2", "spot"):
        return sum(map(len, value.values()))
    return len(value["usd_per_hour"]) if part == "healthomics" else len(value)
