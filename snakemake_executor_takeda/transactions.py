"""A transaction of SQLite on a connection that several threads share."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def transaction(db: sqlite3.Connection, lock: threading.Lock) -> Iterator[sqlite3.Connection]:
    """Committed at the end; undone where something is thrown."""
    with lock:
        db.execute("begin immediate")
        try:
            yield db
            db.execute("commit")
        except BaseException:
            # A full disk may have ended the transaction already.
            if db.in_transaction:
                db.execute("rollback")
            raise
