"""AWS_REGION for botocore: AWS's other tools read it, botocore reads AWS_DEFAULT_REGION only."""

from __future__ import annotations

import os


def heed_aws_region() -> None:
    """For all clients of this process, those of others too. AWS_DEFAULT_REGION counts where both are set."""
    if region := os.environ.get("AWS_REGION"):
        os.environ.setdefault("AWS_DEFAULT_REGION", region)
