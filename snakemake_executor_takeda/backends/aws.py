"""How backends reach AWS: clients that are built in one way, S3 URIs, and errors put into words.

boto3 is imported when the first client is made, never before.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, overload

from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from botocore.loaders import Loader
    from botocore.session import Session
    from mypy_boto3_batch import BatchClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_omics import OmicsClient
    from mypy_boto3_s3 import S3Client

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 60
HASTY_TIMEOUT_S = 8

_THROTTLING = frozenset(
    {
        "BandwidthLimitExceeded",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
_BAD_CREDENTIALS = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)

_DENIED = frozenset(
    {"AccessDenied", "AccessDeniedException", "NotAuthorized", "UnauthorizedOperation"}
)

# Building clients reads shared files and loads models; botocore does not do that thread-safely.
_building = threading.Lock()


@overload
def client(
    service: Literal["batch"],
    *,
    max_attempts: int = 8,
    region: str | None = None,
    hasty: bool = False,
) -> BatchClient: ...
@overload
def client(
    service: Literal["omics"], *, max_attempts: int = 8, region: str | None = None
) -> OmicsClient: ...
@overload
def client(
    service: Literal["s3"], *, max_attempts: int = 8, region: str | None = None
) -> S3Client: ...
@overload
def client(
    service: Literal["logs"], *, max_attempts: int = 8, region: str | None = None
) -> CloudWatchLogsClient: ...
@overload
def client(
    service: str, *, max_attempts: int = 8, region: str | None = None, hasty: bool = False
) -> Any: ...
def client(
    service: str, *, max_attempts: int = 8, region: str | None = None, hasty: bool = False
) -> Any:
    """A boto3 client with adaptive retries and bounded waits; safe to share between threads.

    `region` is None for AWS's own setting. Give `max_attempts=1` where a call must not be sent twice, 2
    where a person waits for the answer. A `hasty` one neither repeats nor paces calls, and waits for an
    answer only HASTY_TIMEOUT_S: for who has a time limit of his own.
    Raises TakedaError where the region or the profile is missing.
    """
    import boto3
    import botocore.session
    from botocore.config import Config

    with _building, readable_errors(service):
        core = botocore.session.get_session()
        core.register_component("data_loader", _loader(core.get_config_variable("data_path")))
        config = Config(
            retries={"mode": "standard", "total_max_attempts": 1}
            if hasty
            else {"mode": "adaptive", "total_max_attempts": max_attempts},
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=HASTY_TIMEOUT_S if hasty else READ_TIMEOUT_S,
            user_agent_extra="snakemake-executor-plugin-takeda",
        )
        if endpoint_overridden(core, service):
            # An endpoint given by the user has no `workflows-` or `storage-` name beside it.
            config = config.merge(Config(inject_host_prefix=False))
        return boto3.Session(botocore_session=core).client(service, region, config=config)  # type: ignore[call-overload]


@cache
def _loader(data_path: str | None) -> Loader:
    """One for all clients: the services' models are read and kept once, not once per client."""
    from botocore.loaders import create_loader

    return create_loader(data_path)


def endpoint_overridden(core: Session, service: str) -> bool:
    """True where the environment or the shared config file names this service's endpoint."""
    if os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return False
    word = core.get_service_model(service).service_id.hyphenize().replace("-", "_")
    if os.environ.get(f"AWS_ENDPOINT_URL_{word.upper()}") or os.environ.get("AWS_ENDPOINT_URL"):
        return True
    profile = core.get_scoped_config()
    services = core.full_config.get("services", {}).get(profile.get("services"), {})
    return bool(services.get(word, {}).get("endpoint_url") or profile.get("endpoint_url"))


@contextmanager
def readable_errors(service: str) -> Iterator[None]:
    """Turn what the user's set-up lacks (credentials, region, a route) into a TakedaError.

    A service's own refusals (ClientError) pass through, but for those of the credentials.
    """
    from botocore import exceptions

    try:
        yield
    except (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.CredentialRetrievalError,
        exceptions.TokenRetrievalError,
        exceptions.SSOError,
        exceptions.MetadataRetrievalError,
    ) as error:
        raise TakedaError(
            f"no AWS credentials for {service}: {error}. Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or sign in with `aws sso login`"
        ) from error
    except exceptions.NoRegionError as error:
        raise TakedaError(
            f"no AWS region for {service}: set AWS_REGION (such as eu-central-1) or `region` in the profile"
        ) from error
    except exceptions.ProfileNotFound as error:
        raise TakedaError(f"{error}: set AWS_PROFILE to a profile of ~/.aws/config") from error
    except (
        exceptions.ConnectionError,
        exceptions.HTTPClientError,
    ) as error:
        raise TakedaError(
            f"{service} does not answer: {error}. Check the network, the region, and AWS_ENDPOINT_URL"
            " where it is set (is the sandbox up?)"
        ) from error
    except exceptions.ClientError as error:
        if error_code(error) not in _BAD_CREDENTIALS:
            raise
        raise TakedaError(
            f"{service} does not accept the AWS credentials ({error_code(error)}): "
            f"{error_message(error)}. Renew them, for instance with `aws sso login`"
        ) from error


def error_code(error: ClientError) -> str:
    """The service's code, such as `AccessDeniedException`."""
    return str(error.response.get("Error", {}).get("Code", ""))


def error_message(error: ClientError) -> str:
    """The service's sentence, or what botocore made of the answer where there is none."""
    return str(error.response.get("Error", {}).get("Message") or error)


def http_status(error: ClientError) -> int:
    """0 where unknown."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_throttling(error: ClientError) -> bool:
    """True where the service refused the call only because there were too many."""
    return error_code(error) in _THROTTLING or http_status(error) == 429


def is_denied(error: ClientError) -> bool:
    """True where the role may not make the call."""
    return error_code(error) in _DENIED or http_status(error) == 403


def split_s3_uri(uri: str) -> tuple[str, str]:
    """`s3://bucket/a/b` → (`bucket`, `a/b`). Raises TakedaError for what is no S3 URI."""
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise TakedaError(f"{uri!r} is no S3 URI: write s3://bucket/prefix")
    return bucket, key


def join_s3_uri(base: str, *parts: str) -> str:
    """`s3://bucket/a/` and `b`, `c` → `s3://bucket/a/b/c`; other slashes stay as they are."""
    return "/".join([base.rstrip("/"), *parts])
