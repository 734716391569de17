"""The chain through the event log: how each line names the one before. The format is docs/audit.md."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

SEED = hashlib.sha256(b"takeda events 1").hexdigest()
"""What the first line of a file names in place of a line before."""
RESUMED = "resumed"
"""The event of a line that takes the chain up after a line that is not of it."""


@dataclass(frozen=True)
class Head:
    """Where a chain ends: the number of its last line and that line's hash."""

    seq: int
    sha256: str


START = Head(0, SEED)


def digest(line: bytes) -> str:
    """The hash of a line, its line end included, as `sha256sum` of it prints."""
    return hashlib.sha256(line).hexdigest()


def event_of(line: bytes) -> Mapping[str, Any] | None:
    """The event that a line holds; None where it is not one of the chain, such as half a line."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    if not isinstance(event, dict):
        return None
    # True is an int, too.
    if type(event.get("seq")) is not int or type(event.get("previous")) is not str:
        return None
    return event


def last_line(file: BinaryIO) -> bytes:
    """The last line of a file, with what ends it, if anything does; empty for an empty file."""
    end = file.seek(0, 2)
    size = 4096
    while True:
        start = max(0, end - size)
        file.seek(start)
        # Read once more what is there: a file may be open for appending elsewhere.
        found = file.read(end - start)
        cut = found.rfind(b"\n", 0, len(found) - 1)
        if cut >= 0 or start == 0:
            return found[cut + 1 :]
        size *= 8


def whole(file: BinaryIO) -> tuple[int, str]:
    """How many lines a file has, one that nothing ends among them, and the hash of all of it, with a
    line end at its end."""
    file.seek(0)
    sha256, lines, last = hashlib.sha256(), 0, b"\n"
    while block := file.read(1 << 20):
        sha256.update(block)
        lines += block.count(b"\n")
        last = block[-1:]
    if last != b"\n":
        sha256.update(b"\n")
        lines += 1
    return lines, sha256.hexdigest()
