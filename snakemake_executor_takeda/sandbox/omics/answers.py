"""What all operations share: errors in HealthOmics' words, views of records, pages."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from botocore.model import ListShape, StructureShape

from snakemake_executor_takeda.sandbox.omics.store import Record, Store
from snakemake_executor_takeda.sandbox.rest_json import service_model
from snakemake_executor_takeda.sandbox.services import Context, ServiceError

_MAX_PAGE = 100


def invalid(message: str) -> ServiceError:
    return ServiceError("ValidationException", message)


def conflict(message: str) -> ServiceError:
    return ServiceError("ConflictException", message)


def missing(words: str) -> ServiceError:
    return ServiceError("ResourceNotFoundException", f"{words} does not exist")


class Answers:
    """Reads records and shows those of their members that an operation answers."""

    def __init__(self, context: Context, store: Store) -> None:
        self._context = context
        self._store = store
        self._members, self._item_members = _answer_members()

    def arn(self, resource: str) -> str:
        return f"arn:aws:omics:{self._context.region}:{self._context.account_id}:{resource}"

    def need(self, kind: str, key: str, words: str) -> Record:
        """The record. Raises ServiceError (ResourceNotFoundException) where there is none."""
        body = self._store.get(kind, key)
        if body is None:
            raise missing(words)
        return body

    def view(self, operation: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return {name: body[name] for name in self._members[operation] if name in body}

    def page(
        self,
        operation: str,
        params: Mapping[str, Any],
        rows: Sequence[tuple[int, Mapping[str, Any]]],
        *,
        newest_first: bool = False,
        filters: Sequence[str] = (),
    ) -> dict[str, Any]:
        """One page of numbered records, as `Store.numbered` gives them.

        Tokens name the last item shown, and stay good while the list grows at either end.
        """
        after = _number(params.get("startingToken"))
        kept = [
            (number, body)
            for number, body in rows
            if (after is None or (number < after if newest_first else number > after))
            and all(params.get(name) in (None, body.get(name)) for name in filters)
        ]
        size = min(params.get("maxResults") or params.get("maxItems") or _MAX_PAGE, _MAX_PAGE)
        list_name, members = self._item_members[operation]
        shown = kept[:size]
        page: dict[str, Any] = {
            list_name: [{k: v for k, v in body.items() if k in members} for _, body in shown]
        }
        if len(kept) > size:
            page["nextToken"] = base64.urlsafe_b64encode(b"n%d" % shown[-1][0]).decode()
        return page


def one_filter(params: Mapping[str, Any], names: Sequence[str]) -> None:
    """The lists of batches take one filter a call."""
    given = [name for name in names if params.get(name) is not None]
    if len(given) > 1:
        raise invalid(f"give one filter at most, not {' and '.join(given)}")


def _answer_members() -> tuple[dict[str, set[str]], dict[str, tuple[str, set[str]]]]:
    """By operation: the members of its answer, and where it answers a list, that and its items'."""
    model = service_model("omics")
    members: dict[str, set[str]] = {}
    item_members: dict[str, tuple[str, set[str]]] = {}
    for name in model.operation_names:
        shape = model.operation_model(name).output_shape
        if shape is None:
            continue
        members[name] = set(shape.members)
        for word in ("items", "runs"):
            items = shape.members.get(word)
            if isinstance(items, ListShape) and isinstance(items.member, StructureShape):
                item_members[name] = word, set(items.member.members)
    return members, item_members


def _number(token: str | None) -> int | None:
    if token is None:
        return None
    try:
        text = base64.urlsafe_b64decode(token.encode()).decode()
        return int(text.removeprefix("n"))
    except (binascii.Error, ValueError):
        raise invalid("startingToken is not one that this operation gave") from None
