"""The environment variables with which any AWS client talks to a sandbox."""

from __future__ import annotations

import os
from collections.abc import Mapping

from snakemake_executor_takeda.sandbox.services import REGION

OWN_SERVICES = ("BATCH", "OMICS")
"""What the sandbox emulates itself; moto answers for the rest."""
MOTO_SERVICES = (
    *(
        "S3",
        "SQS",
        "SNS",
        "EVENTBRIDGE",
        "CLOUDWATCH",
        "CLOUDWATCH_LOGS",
        "IAM",
        "STS",
        "EC2",
        "ECS",
    ),
    *("ECR", "CLOUDFORMATION", "SECRETS_MANAGER", "SSM", "PRICING", "RESOURCE_GROUPS_TAGGING_API"),
)
"""Named one by one for clients that do not know AWS_ENDPOINT_URL; the names are botocore's."""
FOREIGN = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN")
"""What must not be set beside ours: it would send real credentials to the sandbox."""


def client_variables(services_url: str, moto_url: str, access_key: str) -> dict[str, str]:
    """Everything a client needs. No service is left that could reach the real AWS."""
    variables = {"AWS_ENDPOINT_URL": moto_url}
    variables |= {f"AWS_ENDPOINT_URL_{name}": services_url for name in OWN_SERVICES}
    variables |= {f"AWS_ENDPOINT_URL_{name}": moto_url for name in MOTO_SERVICES}
    return variables | {
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": "takeda-sandbox-not-a-secret",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        # the omics model puts `workflows-` before the host's name, which 127.0.0.1 can not bear
        "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
        "AWS_EC2_METADATA_DISABLED": "true",
        # for clients in Rust (object_store), which refuse http otherwise
        "AWS_ALLOW_HTTP": "true",
        **_no_proxy(os.environ),
    }


def _no_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """Keeps a site's proxy out of the way to 127.0.0.1."""
    known = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    hosts = [host for host in known.split(",") if host]
    hosts += [host for host in ("127.0.0.1", "localhost") if host not in hosts]
    return dict.fromkeys(("NO_PROXY", "no_proxy"), ",".join(hosts))
