"""Pages of a list, with tokens that stay good while the list grows."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

from snakemake_executor_takeda.sandbox.services import ServiceError

Item = TypeVar("Item")


def client_error(message: str) -> ServiceError:
    """How Batch refuses."""
    return ServiceError("ClientException", message)


def page(
    items: Sequence[Item],
    key: Callable[[Item], str],
    token: str | None,
    size: int | None,
    limit: int,
) -> tuple[list[Item], str | None]:
    """The items after the token's, at most `size` (and `limit`), and the next token, if any.

    `key` names an item; an item that the token names and that has gone ends the paging.
    """
    first = 0
    if token is not None:
        wanted = _decode(token)
        for number, item in enumerate(items):
            if key(item) == wanted:
                first = number + 1
                break
        else:
            first = len(items)
    last = first + min(size or limit, limit)
    found = list(items[first:last])
    return found, _encode(key(found[-1])) if found and last < len(items) else None


def _encode(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


def _decode(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise client_error("nextToken is not one that this operation gave") from None
