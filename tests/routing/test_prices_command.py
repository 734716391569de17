"""`takeda prices`: what it shows, and what it asks of AWS, with answers in place of AWS."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import boto3
import pytest
from botocore.stub import ANY, Stubber
from test_prices_answers import EC2, described, product

from snakemake_executor_takeda.cli import main, prices_refresh
from snakemake_executor_takeda.routing.prices import cache_file, price_book

PAGE = (Path(__file__).parents[2] / "docs" / "prices.md").read_text(encoding="utf-8")
NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    for word in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(word, raising=False)
    price_book.cache_clear()
    yield
    price_book.cache_clear()


class Aws:
    """Clients whose answers are given, each call checked against botocore's model."""

    def __init__(self):
        self.stubs = {}
        self.regions = {}

    def client(self, service, *, region=None, **_):
        self.regions[service] = region
        return self[service].client

    def __getitem__(self, service):
        if service not in self.stubs:
            client = boto3.client(
                service,
                region_name="us-east-1",
                aws_access_key_id="k",
                aws_secret_access_key="s",
            )
            self.stubs[service] = Stubber(client)
            self.stubs[service].activate()
        return self.stubs[service]

    def products(self, *pages, service, **filters):
        """Pages of one GetProducts, as it is asked for."""
        for number, page in enumerate(pages):
            asked = [
                {"Type": "TERM_MATCH", "Field": field, "Value": value}
                for field, value in filters.items()
            ]
            request = {"ServiceCode": service, "Filters": asked}
            if number:
                request["NextToken"] = str(number)
            answer = {"PriceList": page}
            if number + 1 < len(pages):
                answer["NextToken"] = str(number + 1)
            self["pricing"].add_response("get_products", answer, request)

    def refuse(self, service, call, times=1, code="AccessDeniedException"):
        for _ in range(times):
            self[service].add_client_error(call, code, f"User u is not authorized: {call}", 400)

    def all_asked(self):
        for stub in self.stubs.values():
            stub.assert_no_pending_responses()


@pytest.fixture
def aws(monkeypatch):
    one = Aws()
    monkeypatch.setattr(prices_refresh.aws, "client", one.client)
    return one


def answer_prices(aws, region="eu-central-1"):
    linux = {word: value for word, value in EC2.items() if word != "instanceType"}
    aws.products(
        [product(0.1, **EC2)],
        [product(0.2, **(EC2 | {"instanceType": "c7i.xlarge"}))],
        service="AmazonEC2",
        regionCode=region,
        **linux,
    )
    aws.products(
        [
            product(0.05, usagetype="EUC1-Fargate-vCPU-Hours:perCPU"),
            product(0.006, usagetype="EUC1-Fargate-GB-Hours"),
        ],
        service="AmazonECS",
        regionCode=region,
    )
    aws.products(
        [product(0.3, resourceType="omics.m.xlarge")], service="AmazonOmics", regionCode=region
    )


def answer_ec2(aws):
    for number in (1, 2):
        answer = {"InstanceTypes": [described(f"z9{number}.large")]}
        if number == 1:
            answer["NextToken"] = "more"
        request = {"NextToken": "more"} if number == 2 else {}
        aws["ec2"].add_response("describe_instance_types", answer, request)
    history = [
        {
            "InstanceType": "c7i.large",
            "AvailabilityZone": "a",
            "SpotPrice": "0.03",
            "Timestamp": NOW,
        }
    ]
    aws["ec2"].add_response(
        "describe_spot_price_history",
        {"SpotPriceHistory": history},
        {"ProductDescriptions": ["Linux/UNIX"], "StartTime": ANY},
    )


def test_a_refresh_asks_page_by_page_and_is_taken_from_then_on(aws, capsys):
    before = price_book("eu-central-1").on_demand_usd("c7i.large")
    answer_prices(aws)
    answer_ec2(aws)
    assert main(["prices", "refresh", "--region", "eu-central-1"]) == 0
    aws.all_asked()
    assert aws.regions == {"pricing": "eu-central-1", "ec2": "eu-central-1"}
    said = capsys.readouterr().out
    for line in ("EC2 On-Demand: 2 types", "Fargate: 2 prices", "HealthOmics: 1 types"):
        assert line in said
    assert f"written to {cache_file('eu-central-1')}" in said
    book = price_book("eu-central-1")
    assert before != book.on_demand_usd("c7i.large") == 0.1
    assert (book.spot_usd("c7i.large").usd_per_hour, book.fargate.usd_per_vcpu_hour) == (0.03, 0.05)
    assert book.healthomics.usd_per_hour == {"omics.m.xlarge": 0.3}
    assert {"z91.large", "z92.large", "c7i.large"} <= book.instances.by_name.keys()
    today = datetime.now(UTC).date().isoformat()
    assert {book.ec2.date, book.spot_source.date, book.instances.date} <= {
        today,
        NOW.date().isoformat(),
    }
    assert "GetProducts for eu-central-1" in book.ec2.text


@pytest.mark.parametrize(
    ("region", "endpoint"),
    [
        ("us-west-2", "us-east-1"),
        ("eu-west-3", "eu-central-1"),
        ("ap-northeast-1", "ap-south-1"),
        ("ca-central-1", "us-east-1"),
    ],
)
def test_the_pricing_api_is_asked_where_it_is(aws, region, endpoint):
    answer_prices(aws, region)
    answer_ec2(aws)
    prices_refresh.refresh(region)
    assert aws.regions == {"pricing": endpoint, "ec2": region}


def test_what_is_not_allowed_is_named_and_the_rest_is_kept(aws, capsys):
    answer_prices(aws)
    aws.refuse("ec2", "describe_instance_types", code="UnauthorizedOperation")
    aws.refuse("ec2", "describe_spot_price_history", code="UnauthorizedOperation")
    assert main(["prices", "refresh", "--region", "eu-central-1"]) == 1
    said = capsys.readouterr()
    assert "ec2:DescribeSpotPriceHistory is not allowed" in said.err
    assert "Spot prices stay estimates" in said.err
    assert "ec2:DescribeInstanceTypes is not allowed" in said.err
    book = price_book("eu-central-1")
    assert book.on_demand_usd("c7i.large") == 0.1
    assert book.spot_usd("c7i.large").is_estimate


def test_where_nothing_is_allowed_the_actions_are_named(aws, capsys):
    aws.refuse("pricing", "get_products", 3)
    aws.refuse("ec2", "describe_instance_types", code="UnauthorizedOperation")
    aws.refuse("ec2", "describe_spot_price_history", code="UnauthorizedOperation")
    assert main(["prices", "refresh", "--region", "eu-central-1"]) == 1
    said = capsys.readouterr().err
    for action in (
        "pricing:GetProducts",
        "ec2:DescribeInstanceTypes",
        "ec2:DescribeSpotPriceHistory",
    ):
        assert f"{action} is not allowed" in said
    assert "Add these actions to the IAM policy" in said
    assert not cache_file("eu-central-1").exists()


def test_another_refusal_is_told_in_the_services_words(aws, capsys):
    aws.refuse("pricing", "get_products", code="InvalidParameterException")
    assert main(["prices", "refresh", "--region", "eu-central-1"]) == 1
    assert (
        "pricing:GetProducts for eu-central-1: InvalidParameterException" in capsys.readouterr().err
    )


def test_a_region_without_anything(aws, capsys):
    linux = {word: value for word, value in EC2.items() if word != "instanceType"}
    for service, words in (("AmazonEC2", linux), ("AmazonECS", {}), ("AmazonOmics", {})):
        aws.products([], service=service, regionCode="xx-made-1", **words)
    aws["ec2"].add_response("describe_instance_types", {"InstanceTypes": []})
    aws["ec2"].add_response("describe_spot_price_history", {"SpotPriceHistory": []})
    assert main(["prices", "refresh", "--region", "xx-made-1"]) == 1
    assert "is it the Region you mean?" in capsys.readouterr().err


def test_a_second_refresh_keeps_what_it_may_not_ask_again(aws):
    answer_prices(aws)
    answer_ec2(aws)
    prices_refresh.refresh("eu-central-1")
    answer_prices(aws)
    aws.refuse("ec2", "describe_instance_types", code="UnauthorizedOperation")
    aws.refuse("ec2", "describe_spot_price_history", code="UnauthorizedOperation")
    prices_refresh.refresh("eu-central-1")
    book = price_book("eu-central-1")
    assert not book.spot_usd("c7i.large").is_estimate
    assert book.instances.get("z91.large")


def test_a_folder_that_cannot_be_written_to(aws, monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    answer_prices(aws)
    answer_ec2(aws)
    assert main(["prices", "refresh", "--region", "eu-central-1"]) == 1
    assert "cannot write" in (said := capsys.readouterr().err)
    assert "XDG_CACHE_HOME" in said


def test_no_draft_is_left(aws):
    answer_prices(aws)
    answer_ec2(aws)
    prices_refresh.refresh("eu-central-1")
    assert [one.name for one in cache_file("eu-central-1").parent.iterdir()] == [
        "eu-central-1.json"
    ]


def test_a_refresh_wants_a_region(capsys):
    assert main(["prices", "refresh"]) == 1
    assert "takeda prices refresh --region eu-central-1" in capsys.readouterr().err


def test_types_are_shown(capsys):
    words = ["c7i.large", "g5.xlarge", "hpc7a", "p4d", "fargate"]
    assert main(["prices", "show", "--region", "eu-central-1", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["c7i.large", "2", "4", "-", "-", "x86_64", "0.10185", "~0.04074"]
    assert "1 × A10G" in lines[2]
    assert all("not offered" in line for line in lines[3:7])
    assert "not known" in lines[7]
    assert lines[8].startswith("fargate vCPU")
    assert lines[-1] == "eu-central-1, EC2 as of 2025-03-02; ~ is an estimate"


def test_types_of_healthomics_are_shown(capsys):
    words = ["omics.m", "omics.g5.xlarge"]
    assert main(["prices", "show", "--json", "--region", "us-east-1", *words]) == 0
    rows = {row["type"]: row for row in json.loads(capsys.readouterr().out)["prices"]}
    assert len(rows) == 11
    assert rows["omics.m.xlarge"]["on_demand_usd_per_hour"] == 0.2592
    assert rows["omics.g5.xlarge"]["on_demand_usd_per_hour"] is None


def test_the_regions_environment_says_which(capsys, monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert main(["prices", "show", "--json", "c7i.large"]) == 0
    assert json.loads(capsys.readouterr().out)["region"] == "eu-west-1"


def test_sources_of_all_regions_are_shown(capsys):
    assert main(["prices"]) == 0
    said = capsys.readouterr().out
    assert said.count("EC2 Spot: an estimate, 40% of On-Demand, Fargate 32%") == 6
    assert "HealthOmics: not known; `takeda prices refresh --region eu-west-1` asks AWS" in said
    assert main(["prices", "show", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)["regions"]
    assert facts["us-east-1"]["ec2"]["date"] == "2026-07-20"
    assert facts["us-east-1"]["spot"] is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--region", "us-est-1"], "did you mean us-east-1?"),
        (["--region", "ap-south-1"], "`takeda prices refresh --region ap-south-1` asks AWS"),
        (["--region", "frankfurt"], "such as eu-central-1"),
        (["c7j.large"], "did you mean c7i.large?"),
        (["omics.x.large"], "did you mean omics."),
        (["optimum"], "did you mean optimal?"),
    ],
)
def test_what_is_not_known_is_told_with_what_to_do(words, said, capsys):
    assert main(["prices", "show", *words]) == 1
    assert said in capsys.readouterr().err


def test_every_example_of_the_page_works(capsys):
    examples = re.findall(r"^\$ takeda (prices(?: show)?(?: .*)?)$", PAGE, re.MULTILINE)
    assert len(examples) >= 2
    for example in examples:
        if "refresh" not in example:
            assert main(example.split("  #")[0].split()) == 0, example


def test_the_page_shows_what_is_printed(capsys):
    (block,) = re.findall(
        r"^```console\n\$ takeda (prices show --region[^\n]*)\n(.*?)^```", PAGE, re.M | re.S
    )
    assert main(block[0].split()) == 0
    assert capsys.readouterr().out == block[1]


@pytest.mark.parametrize(
    "action", ["GetProducts", "DescribeInstanceTypes", "DescribeSpotPriceHistory"]
)
def test_the_page_names_the_actions(action):
    assert action in PAGE
