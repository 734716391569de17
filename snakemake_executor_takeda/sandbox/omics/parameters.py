"""What StartRun refuses of a run's parameters, role and output location."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from snakemake_executor_takeda.sandbox.omics.definitions import invalid

MAX_PARAMETER_BYTES = 50_000

_ROLE = re.compile(r"arn:aws[\w-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+")
_S3_URI = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?")


def check_run(params: Mapping[str, Any], template: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises ServiceError (ValidationException)."""
    if not _ROLE.fullmatch(params["roleArn"]):
        raise invalid(f"roleArn {params['roleArn']} is not the ARN of an IAM role")
    if not _S3_URI.fullmatch(params["outputUri"]):
        raise invalid(f"outputUri {params['outputUri']} is not an S3 URI")
    if len(params.get("tags", {})) > 50:
        raise invalid("a run has at most 50 tags")
    given = params.get("parameters", {})
    if not isinstance(given, dict):
        raise invalid("parameters is not a JSON object")
    size = len(json.dumps(given).encode())
    if size > MAX_PARAMETER_BYTES:
        raise invalid(f"parameters has {size} bytes; the most is {MAX_PARAMETER_BYTES}")
    unknown = sorted(set(given) - set(template))
    if unknown:
        raise invalid(f"the workflow does not declare the parameters {', '.join(unknown)}")
    missing = sorted(
        name for name, one in template.items() if not one.get("optional") and name not in given
    )
    if missing:
        raise invalid(f"the workflow requires the parameters {', '.join(missing)}")
