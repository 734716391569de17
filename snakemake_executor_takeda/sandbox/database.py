"""How the emulators open the sandbox's one SQLite database."""

from __future__ import annotations

import sqlite3
from pathlib import Path


def connect(database: Path, schema: str) -> sqlite3.Connection:
    """A connection for all threads of one service, which guards it by a lock of its own.

    What was written survives the daemon's death, if not a power cut.
    """
    connection = sqlite3.connect(database, check_same_thread=False, isolation_level=None)
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = normal")
    connection.execute("pragma busy_timeout = 10000")
    connection.executescript(schema)
    return connection
