"""Says who holds a port."""

from __future__ import annotations

import errno
from pathlib import Path

_LISTEN = "0A"


def occupied(port: int, option: str, error: OSError) -> str:
    """One message for a port that cannot be taken."""
    if error.errno == errno.EACCES:
        return f"port {port} is reserved to root: give another with {option} (0 takes any free one)"
    if error.errno != errno.EADDRINUSE:
        return f"port {port} of 127.0.0.1 cannot be used: {error.strerror or error}; try {option} 0"
    who = holder(port)
    by = f" by {who}" if who else ""
    return f"port {port} is in use{by}: give another with {option} (0 takes any free one)"


def holder(port: int) -> str | None:
    """`name (pid 123)` of a process that listens on this port, as far as this user may know."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not sockets:
        return None
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(link.readlink()) in sockets for link in (entry / "fd").iterdir()):
                return f"{(entry / 'comm').read_text().strip()} (pid {entry.name})"
        except OSError:
            continue
    return None


def _listening_inodes(port: int) -> set[str]:
    found = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(fields[9])
    return found
