"""What AWS answers about instance types and prices → the parts of a price file. Pure; calls are made elsewhere.

Price lists have a type under each tenancy, operating system and reservation: what is not plainly the
price that a job pays is left out, whatever was asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

from snakemake_executor_takeda.routing.instances import Instance

OMICS_STATIC, OMICS_DYNAMIC = "Run Storage", "Dynamic Run Storage"
"""`resourceType` of HealthOmics' run storage, by AWS's own aws-healthomics-tools."""
EC2_FILTERS: Mapping[str, str] = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
}
"""Attributes of what On-Demand instances of a Batch queue or a cluster are paid by."""

_FARGATE = re.compile(r"([A-Z0-9]+-)?Fargate(?P<arm>-ARM)?-(?P<what>vCPU-Hours:perCPU|GB-Hours)")


def on_demand(price_list: Iterable[str]) -> dict[str, dict[str, float]]:
    """GetProducts of AmazonEC2 → USD an hour by family and size."""
    found: dict[str, dict[str, float]] = {}
    for attributes, price in _products(price_list):
        if all(attributes.get(word) == value for word, value in EC2_FILTERS.items()):
            family, dot, size = attributes.get("instanceType", "").partition(".")
            if dot:
                found.setdefault(family, {})[size] = price
    return found


def fargate(price_list: Iterable[str]) -> dict[str, float]:
    """GetProducts of AmazonECS → the words of a `fargate` part; empty where it is not complete."""
    found = {}
    for attributes, price in _products(price_list):
        usage = _FARGATE.fullmatch(attributes.get("usagetype", ""))
        if usage:
            unit = "gib" if usage["what"] == "GB-Hours" else "vcpu"
            found[f"{'arm64_' if usage['arm'] else ''}usd_per_{unit}_hour"] = price
    complete = {"usd_per_vcpu_hour", "usd_per_gib_hour"} <= found.keys()
    return found if complete else {}


def healthomics(price_list: Iterable[str]) -> dict[str, Any]:
    """GetProducts of AmazonOmics → the words of a `healthomics` part; empty where no type is in it."""
    types, storage = {}, {}
    for attributes, price in _products(price_list):
        what = attributes.get("resourceType", "")
        if what.startswith("omics."):
            types[what] = price
        elif what in (OMICS_STATIC, OMICS_DYNAMIC):
            kind = "static" if what == OMICS_STATIC else "dynamic"
            storage[f"{kind}_storage_usd_per_gib_hour"] = price
    return {"usd_per_hour": dict(sorted(types.items())), **storage} if types else {}


def spot(history: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """DescribeSpotPriceHistory → USD an hour by family and size: the latest of each Availability Zone,
    and of those the median, as jobs run where there is capacity, not where it is cheapest."""
    latest: dict[tuple[str, str], tuple[Any, float]] = {}
    for one in history:
        key = one["InstanceType"], one["AvailabilityZone"]
        when, price = one["Timestamp"], float(one["SpotPrice"])
        if key not in latest or when > latest[key][0]:
            latest[key] = when, price
    zones: dict[str, list[float]] = {}
    for (name, _), (_, price) in latest.items():
        zones.setdefault(name, []).append(price)
    found: dict[str, dict[str, float]] = {}
    for name, prices in sorted(zones.items()):
        family, _, size = name.partition(".")
        found.setdefault(family, {})[size] = round(median(prices), 6)
    return found


def instances(described: Iterable[Mapping[str, Any]]) -> list[Instance]:
    """DescribeInstanceTypes → instance types. Burstable ones, Macs and parts of a GPU are left out:
    their hour is not worth what their size says."""
    found = (_instance(one) for one in described)
    return sorted((one for one in found if one), key=lambda one: (one.family, one.vcpus, one.name))


def _instance(one: Mapping[str, Any]) -> Instance | None:
    gpus = one.get("GpuInfo", {}).get("Gpus", [])
    if one.get("BurstablePerformanceSupported") or one["InstanceType"].startswith("mac"):
        return None
    if any(gpu.get("GpuPartitionSize", 1) < 1 for gpu in gpus):
        return None
    network = one.get("NetworkInfo", {})
    cards = network.get("NetworkCards", [])
    architectures = one.get("ProcessorInfo", {}).get("SupportedArchitectures", [])
    return Instance(
        name=one["InstanceType"],
        vcpus=one["VCpuInfo"]["DefaultVCpus"],
        memory_mib=one["MemoryInfo"]["SizeInMiB"],
        gpus=sum(gpu.get("Count", 0) for gpu in gpus),
        gpu_model=gpus[0].get("Name", "").upper() if gpus else "",
        gpu_memory_mib=gpus[0].get("MemoryInfo", {}).get("SizeInMiB", 0) if gpus else 0,
        efa_interfaces=network.get("EfaInfo", {}).get("MaximumEfaInterfaces", 1)
        if network.get("EfaSupported")
        else 0,
        architecture="arm64" if "arm64" in architectures else "x86_64",
        local_nvme_gb=one.get("InstanceStorageInfo", {}).get("TotalSizeInGB", 0),
        network_gbps=round(sum(card.get("BaselineBandwidthInGbps", 0) for card in cards), 3),
    )


def _products(price_list: Iterable[str]) -> Iterable[tuple[Mapping[str, str], float]]:
    """Attributes and On-Demand price in USD of each product that has one above nothing."""
    for text in price_list:
        one = json.loads(text)
        for term in one.get("terms", {}).get("OnDemand", {}).values():
            for dimension in term["priceDimensions"].values():
                price = float(dimension["pricePerUnit"].get("USD", 0))
                if price > 0:
                    yield one["product"].get("attributes", {}), price
