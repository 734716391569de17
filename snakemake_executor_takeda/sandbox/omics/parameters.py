"""What StartRun refuses of a run's parameters, role and output location."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from snakemake_executor_takeda.sandbox.omics import limits
from snakemake_executor_takeda.sandbox.omics.answers import invalid

_ROLE = re.compile(r"arn:aws[\w-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+")
_S3_URI = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?")


def check_run(params: Mapping[str, Any]) -> None:
    """What is wrong whatever the workflow. Raises ServiceError (ValidationException)."""
    if not _ROLE.fullmatch(params["roleArn"]):
        raise invalid(f"roleArn {params['roleArn']} is not the ARN of an IAM role")
    if "outputUri" in params and not _S3_URI.fullmatch(params["outputUri"]):
        raise invalid(f"outputUri {params['outputUri']} is not an S3 URI")
    if len(params.get("tags", {})) > limits.TAGS:
        raise invalid(f"a run has at most {limits.TAGS} tags")
    given = params.get("parameters", {})
    if not isinstance(given, dict):
        raise invalid("parameters is not a JSON object")
    size = len(json.dumps(given, separators=(",", ":")).encode())
    if size > limits.PARAMETER_BYTES:
        raise invalid(f"parameters has {size} bytes; the most is {limits.PARAMETER_BYTES}")
    for name in ("configurationName", "sessionPolicy", "workflowOwnerId"):
        if params.get(name):
            raise invalid(f"the sandbox has no {name}: leave it out")
    if params.get("networkingMode") == "VPC":
        raise invalid("the sandbox has no VPC: leave networkingMode out")


def check_parameters(given: Mapping[str, Any], template: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises ServiceError for parameters that the template does not declare, or lacks."""
    unknown = sorted(set(given) - set(template))
    if unknown:
        raise invalid(f"the workflow does not declare the parameters {', '.join(unknown)}")
    lacking = sorted(
        name for name, one in template.items() if not one.get("optional") and name not in given
    )
    if lacking:
        raise invalid(f"the workflow requires the parameters {', '.join(lacking)}")
