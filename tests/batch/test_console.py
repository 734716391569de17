"""Links into the console."""

import pytest

from snakemake_executor_takeda.backends.batch.console import Console, console_of


def test_a_log_stream():
    assert Console("eu-west-1").log("/aws/batch/job", "takeda-abc/default/0a 1") == (
        "https://eu-west-1.console.aws.amazon.com/cloudwatch/home?region=eu-west-1"
        "#logsV2:log-groups/log-group/$252Faws$252Fbatch$252Fjob"
        "/log-events/takeda-abc$252Fdefault$252F0a$25201"
    )


def test_a_job_and_a_child():
    home = "https://us-east-1.console.aws.amazon.com/batch/home?region=us-east-1#jobs/detail/"
    assert Console("us-east-1").job("1-2") == f"{home}1-2"
    assert Console("us-east-1").job("1-2:37") == f"{home}1-2:37"


@pytest.mark.parametrize(
    ("region", "domain"),
    [
        ("cn-north-1", "cn-north-1.console.amazonaws.cn"),
        ("us-gov-west-1", "us-gov-west-1.console.amazonaws-us-gov.com"),
    ],
)
def test_partitions(region, domain):
    assert Console(region).job("j").startswith(f"https://{domain}/batch/")


@pytest.mark.parametrize(
    ("endpoint", "is_aws"),
    [
        ("https://batch.eu-west-1.amazonaws.com", True),
        ("https://batch.cn-north-1.amazonaws.com.cn", True),
        ("http://127.0.0.1:4610", False),
        ("https://amazonaws.com.example.org", False),
    ],
)
def test_an_endpoint_of_ones_own_has_no_console(endpoint, is_aws):
    assert console_of("eu-west-1", endpoint) == (Console("eu-west-1") if is_aws else None)
