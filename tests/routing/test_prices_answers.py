"""Answers of AWS → the parts of a price file: what is not plainly the price of a job is left out."""

from __future__ import annotations

import json

import boto3
import moto
import pytest

from snakemake_executor_takeda.routing import prices_answers
from snakemake_executor_takeda.routing.instances import packaged

EC2 = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "instanceType": "c7i.large",
}


def product(usd, currency="USD", **attributes):
    """In the form of the Price List API."""
    dimensions = {"X.1": {"unit": "Hrs", "pricePerUnit": {currency: str(usd)}}}
    return json.dumps(
        {
            "product": {"attributes": attributes},
            "terms": {
                "OnDemand": {"X": {"priceDimensions": dimensions}},
                "Reserved": {"Y": {"priceDimensions": {"Y.1": {"pricePerUnit": {"USD": "0.01"}}}}},
            },
        }
    )


def test_on_demand_prices_are_of_shared_linux_in_use():
    answer = [
        product("0.0892500000", **EC2),
        product(0.11, **(EC2 | {"tenancy": "Dedicated"})),
        product(0.2, **(EC2 | {"operatingSystem": "Windows"})),
        product(0.3, **(EC2 | {"preInstalledSw": "SQL Web"})),
        product(0.4, **(EC2 | {"capacitystatus": "AllocatedCapacityReservation"})),
        product(0.0, **EC2),
        product(0.5, "CNY", **EC2),
        product(0.714, **(EC2 | {"instanceType": "c7i.4xlarge"})),
        product(1, **(EC2 | {"instanceType": "c7i"})),
        json.dumps({"product": {"attributes": EC2}, "terms": {"Reserved": {}}}),
    ]
    assert prices_answers.on_demand(answer) == {"c7i": {"large": 0.08925, "4xlarge": 0.714}}


def test_fargate_is_known_by_its_usage_types():
    answer = [
        product(0.04656, usagetype="EUC1-Fargate-vCPU-Hours:perCPU"),
        product(0.00511, usagetype="EUC1-Fargate-GB-Hours"),
        product(0.03725, usagetype="EUC1-Fargate-ARM-vCPU-Hours:perCPU"),
        product(0.00409, usagetype="EUC1-Fargate-ARM-GB-Hours"),
        product(9, usagetype="EUC1-Fargate-Windows-vCPU-Hours:perCPU"),
        product(9, usagetype="EUC1-Fargate-EphemeralStorage-GB-Hours"),
        product(9, usagetype="EUC1-ECS-Anywhere-Instance-hours"),
        product(9),
    ]
    assert prices_answers.fargate(answer) == {
        "usd_per_vcpu_hour": 0.04656,
        "usd_per_gib_hour": 0.00511,
        "arm64_usd_per_vcpu_hour": 0.03725,
        "arm64_usd_per_gib_hour": 0.00409,
    }


@pytest.mark.parametrize("usage", ["Fargate-vCPU-Hours:perCPU", "Fargate-ARM-GB-Hours"])
def test_half_of_fargate_is_nothing(usage):
    assert prices_answers.fargate([product(1, usagetype=usage)]) == {}


def test_healthomics_is_known_by_its_resource_types():
    answer = [
        product(0.2592, resourceType="omics.m.xlarge"),
        product(0.11475, resourceType="omics.c.large"),
        product(0.0001918, resourceType="Run Storage"),
        product(0.000411, resourceType="Dynamic Run Storage"),
        product(10, resourceType="Ready2Run"),
        product(0.005),
    ]
    assert prices_answers.healthomics(answer) == {
        "usd_per_hour": {"omics.c.large": 0.11475, "omics.m.xlarge": 0.2592},
        "static_storage_usd_per_gib_hour": 0.0001918,
        "dynamic_storage_usd_per_gib_hour": 0.000411,
    }
    assert prices_answers.healthomics(answer[2:]) == {}


def test_spot_is_the_median_of_the_latest_of_each_zone():
    def one(name, zone, when, price):
        return {
            "InstanceType": name,
            "AvailabilityZone": zone,
            "Timestamp": when,
            "SpotPrice": price,
        }

    history = [
        one("c7i.large", "a", 2, "0.030000"),
        one("c7i.large", "a", 1, "0.090000"),
        one("c7i.large", "b", 1, "0.010000"),
        one("c7i.large", "b", 2, "0.050000"),
        one("c7i.large", "c", 1, "0.034000"),
        one("c7i.metal-24xl", "a", 1, "1.5"),
        one("m7i.large", "b", 1, "0.04"),
        one("m7i.large", "a", 1, "0.05"),
    ]
    assert prices_answers.spot(history) == {
        "c7i": {"large": 0.034, "metal-24xl": 1.5},
        "m7i": {"large": 0.045},
    }


def described(name, **more):
    return {
        "InstanceType": name,
        "VCpuInfo": {"DefaultVCpus": 2},
        "MemoryInfo": {"SizeInMiB": 4096},
        "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
        **more,
    }


def gpu(**more):
    one = {"Name": "L4", "Count": 1, "MemoryInfo": {"SizeInMiB": 22888}}
    return {"Gpus": [{**one, **more}]}


@pytest.mark.parametrize(
    "one",
    [
        described("t3.large", BurstablePerformanceSupported=True),
        described("mac2.metal"),
        described("g6f.large", GpuInfo=gpu(GpuPartitionSize=0.125)),
    ],
)
def test_types_whose_hour_is_not_worth_their_size_are_left_out(one):
    assert prices_answers.instances([one]) == []


def test_types_as_ec2_describes_them():
    one, two = prices_answers.instances(
        [
            described(
                "g6.4xlarge",
                GpuInfo=gpu(GpuPartitionSize=1.0),
                InstanceStorageInfo={"TotalSizeInGB": 600},
                NetworkInfo={
                    "EfaSupported": True,
                    "EfaInfo": {"MaximumEfaInterfaces": 2},
                    "NetworkCards": [{"BaselineBandwidthInGbps": 10.0}] * 2,
                },
            ),
            described("c7g.large", ProcessorInfo={"SupportedArchitectures": ["arm64"]}),
        ]
    )
    assert (one.name, one.architecture, one.gpus, one.efa_interfaces) == (
        "c7g.large",
        "arm64",
        0,
        0,
    )
    assert (two.gpus, two.gpu_model, two.gpu_memory_mib) == (1, "L4", 22888)
    assert (two.efa_interfaces, two.local_nvme_gb, two.network_gbps) == (2, 600, 20.0)


def test_what_a_client_of_ec2_gives_is_what_the_table_has(monkeypatch):
    """moto carries EC2's own answer, of which the table was made."""
    for word in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(word, "test")
    names = [
        "c7i.large",
        "g5.12xlarge",
        "hpc7a.96xlarge",
        "p5.48xlarge",
        "m7g.16xlarge",
        "t3.large",
    ]
    with moto.mock_aws():
        ec2 = boto3.client("ec2", region_name="us-east-1")
        answer = ec2.describe_instance_types(InstanceTypes=names)["InstanceTypes"]
    found = prices_answers.instances(answer)
    assert len(found) == 5
    for one in found:
        assert one == packaged().get(one.name)
