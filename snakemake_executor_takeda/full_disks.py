"""A disk that is full: which errors say so, and what a user is told."""

from __future__ import annotations

import errno
import sys

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FULL_FOR_SQLITE = frozenset({"SQLITE_FULL", "SQLITE_IOERR_WRITE"})
"""The second is what SQLite makes of a quota."""

NEEDED = "free space there"


def is_full(error: BaseException) -> bool:
    """Whether a disk, or a quota on it, has no room: an error of the system's, of SQLite's, or one of the
    worker's own that says so (`Unreachable`)."""
    if getattr(error, "for_space", False):
        return True
    if isinstance(error, OSError):
        return error.errno in _FULL
    # By name: what was never imported has not been thrown, and the worker starts once per task.
    sqlite = sys.modules.get("sqlite3")
    if sqlite is None or not isinstance(error, sqlite.Error):
        return False
    return getattr(error, "sqlite_errorname", "") in _FULL_FOR_SQLITE


def no_space(where: str, so_that: str) -> str:
    """The reason of a failure, in which stands what to do: of one that is repeated no more is shown."""
    return f"no space left (disk or quota full) below {where}, so that {so_that}: {NEEDED}"
