"""Credentials of AWS's files and profiles, which obstore does not read, by botocore's own chain."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_NAMES = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
)


@dataclass(frozen=True)
class Found:
    """What files and profiles say."""

    provider: Any
    """Gives obstore credentials, again when they are old; None where botocore finds none."""
    region: str | None
    endpoint_url: str | None
    """Of S3."""


def may_be_in_files(environ: Mapping[str, str]) -> bool:
    """Whether botocore is worth its start-up, some tenths of a second. Keys in the environment come
    first in its chain, too."""
    if environ.get("AWS_ACCESS_KEY_ID"):
        return False
    folder = Path(os.path.expanduser("~/.aws"))  # noqa: PTH111 - where there is no home, no error
    return any(environ.get(name) for name in _NAMES) or any(
        (folder / name).exists() for name in ("credentials", "config")
    )


@cache
def of_files() -> Found:
    """Looked for once in a process. Raises botocore's BotoCoreError for a profile that is not there, or
    credentials that cannot be had."""
    import botocore.session
    from obstore.auth.boto3 import Boto3CredentialProvider

    session = botocore.session.get_session()
    credentials = session.get_credentials()
    if credentials is not None:
        # What a login or a role lacks is found out now, where it can be told.
        credentials.get_frozen_credentials()
    profile = session.get_scoped_config()
    services = session.full_config.get("services", {}).get(profile.get("services"), {})
    return Found(
        Boto3CredentialProvider(session) if credentials else None,
        session.get_config_variable("region"),
        services.get("s3", {}).get("endpoint_url") or profile.get("endpoint_url"),
    )
