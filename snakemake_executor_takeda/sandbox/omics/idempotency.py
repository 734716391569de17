"""Idempotent requests: one requestId makes one thing, however often it is sent."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from snakemake_executor_takeda.sandbox.omics.answers import conflict
from snakemake_executor_takeda.sandbox.omics.store import Store
from snakemake_executor_takeda.sandbox.services import ServiceError


class Requests:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()

    def once(self, operation: str, params: Mapping[str, Any], create: Callable[[], str]) -> str:
        """The key that `create` gave, now or when this token first came.

        Raises ServiceError (ConflictException) where the same token came with another request.
        """
        digest = hashlib.sha256(
            json.dumps(
                {name: value for name, value in params.items() if name != "requestId"},
                sort_keys=True,
                default=lambda value: hashlib.sha256(value).hexdigest(),
            ).encode()
        ).hexdigest()
        with self._lock:
            token = str(params["requestId"])
            earlier_digest, earlier = self._store.remember(operation, token, digest, "")
            if earlier_digest != digest:
                raise conflict(f"the requestId {token} belongs to another request")
            if earlier:
                return earlier
            try:
                key = create()
            except ServiceError:
                self._store.forget(operation, token)
                raise
            self._store.fulfil(operation, token, key)
            return key
