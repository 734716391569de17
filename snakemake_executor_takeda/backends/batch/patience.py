"""The calls at start: those that AWS is too busy for are waited out, as SubmitJob's are."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from snakemake_executor_takeda.backends import aws
from snakemake_executor_takeda.backends.batch import api
from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

T = TypeVar("T")

PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0)
"""At most this long before each further try, and at least half of it: a minute in all."""
SAID_AFTER = 3
"""Tries after which the user is told why nothing happens."""

_log = logging.getLogger(__name__)


def patiently(
    service: str, call: Callable[[], T], *, sleep: Callable[[float], object] = time.sleep
) -> T:
    """What `call` returns; it is made again while `service` is too busy (throttling, 5xx).

    Raises TakedaError where that lasts, or the set-up lacks something, and ClientError for any other
    refusal.
    """
    from botocore.exceptions import ClientError

    for tries, pause_s in enumerate((*PAUSES_S, None), 1):
        try:
            with aws.readable_errors(service):
                return call()
        except ClientError as error:
            if not api.is_passing(error):
                raise
            what = f"{error.operation_name}: {aws.error_code(error)}: {aws.error_message(error)}"
            if pause_s is None:
                raise TakedaError(
                    f"{service} was too busy to answer, {tries} times within a minute ({what}): run "
                    "again later, or see what else of the account uses up its calls"
                ) from error
            if tries == SAID_AFTER:
                _log.warning("%s is busy and asked again for up to a minute (%s)", service, what)
            sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 - no secret
    raise AssertionError("the last try returns or raises")


def role_needs(error: ClientError, rights: str) -> str:
    """A sentence about the role, only where it is what the refusal is about; else empty."""
    return f". The role needs {rights}" if aws.is_denied(error) else ""
