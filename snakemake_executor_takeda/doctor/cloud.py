"""How AWS is asked: a client for each service and Region, and what its refusals mean for a checkup."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from snakemake_executor_takeda.backends import aws
from snakemake_executor_takeda.doctor.findings import NotTold
from snakemake_executor_takeda.values import TakedaError

T = TypeVar("T")

_NO_SUCH_CALL = frozenset(
    {
        "InvalidAction",
        "NotImplemented",
        "UnknownOperation",
        "UnknownOperationException",
    }
)
_POLICIES = "the policies of infrastructure/iam (--for doctor) have it"


class Once(Generic[T]):
    """An answer that several checkups need: asked for by the first of them, kept for all."""

    def __init__(self, ask: Callable[[], T]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._answer: list[T] = []
        self._error: BaseException | None = None

    def __call__(self) -> T:
        with self._lock:
            if self._error is not None:
                raise self._error
            if not self._answer:
                try:
                    self._answer.append(self._ask())
                except BaseException as error:
                    self._error = error
                    raise
            return self._answer[0]


class Cloud:
    """Clients for one visit. `region` is None for AWS's own setting."""

    def __init__(self, region: str | None = None) -> None:
        self._region = region
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """Raises TakedaError where region or profile is missing."""
        with self._lock:
            if service not in self._clients:
                # S3 keeps to AWS's own setting, as a run does.
                region = None if service == "s3" else self._region
                self._clients[service] = aws.client(service, max_attempts=2, region=region)
            return self._clients[service]

    @property
    def region(self) -> str:
        """The Region of the targets. Raises TakedaError where none is set."""
        return str(self.client("sts").meta.region_name)

    def is_emulated(self, service: str) -> bool:
        """Whether somebody else than AWS answers for a service."""
        import botocore.session

        return aws.endpoint_overridden(botocore.session.get_session(), service)


@contextmanager
def asking(service: str, action: str, *, needed: bool = False) -> Iterator[None]:
    """Around a call. What the service will not or cannot tell is NotTold; where a run makes the same call
    (`needed`), to be denied is a TakedaError. Other refusals pass through as ClientError."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        with aws.readable_errors(service):
            yield
    except ResponseParserError as error:
        raise NotTold(f"{action}: {service} gave no answer that can be read") from error
    except ClientError as error:
        code, status = aws.error_code(error), aws.http_status(error)
        said = f"{code}: {aws.error_message(error)}"
        if code in _NO_SUCH_CALL or (status in (404, 405, 501) and code in ("", str(status))):
            if service == "s3":
                raise
            raise NotTold(f"{action}: there is no such call where {service} answers") from error
        if aws.is_throttling(error) or status >= 500:
            said = said if len(said) < 200 else code
            raise NotTold(
                f"{action}: {service} does not tell now ({said})", "run it again"
            ) from error
        if not aws.is_denied(error):
            raise
        if needed:
            raise TakedaError(
                f"{action} is not allowed ({said}). Add it to the policy of who runs Snakemake: "
                "infrastructure/iam/policies.py controller prints one"
            ) from error
        raise NotTold(f"{action} is not allowed", f"allow it: {_POLICIES}") from error
    except BotoCoreError as error:
        raise TakedaError(f"{action}: {error}") from error
