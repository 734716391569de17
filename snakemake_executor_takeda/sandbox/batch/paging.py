"""Pages of a list, with tokens that stay good while the list grows."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from itertools import islice
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
    *,
    is_asked: Callable[[Item], bool] = lambda item: True,
) -> tuple[list[Item], str | None]:
    """The items asked for after the token's, at most `size` (and `limit`), and the next token, if any.

    `key` names an item. The token's item need not be asked for any more, as a job's status changes
    between two pages; where it has gone altogether, the paging ends.
    """
    if size is not None and size < 1:
        raise client_error(f"maxResults must be at least 1, not {size}")
    first = 0
    if token is not None:
        wanted = _decode(token)
        for number, item in enumerate(items):
            if key(item) == wanted:
                first = number + 1
                break
        else:
            first = len(items)
    count = min(size or limit, limit)
    found = list(islice(filter(is_asked, items[first:]), count + 1))
    if len(found) > count:
        return found[:count], _encode(key(found[count - 1]))
    return found, None


def _encode(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


def _decode(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise client_error("nextToken is not one that this operation gave") from None
