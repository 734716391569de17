"""The manifest of a submission: one object, from which each child reads only its own entry.

Layout: a table of `count + 1` decimal offsets of 16 bytes each, then the entries, one JSON object a
line. Entry i lies between the offsets i and i + 1, so two range reads find it in 10,000.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.base import RunContext
    from snakemake_executor_takeda.values import Submission

CELL = 16


def encode_manifest(submission: Submission, context: RunContext) -> bytes:
    """All that the children of one submission need to find and run their task."""
    entries = [
        json.dumps(
            {
                "run_id": context.run_id,
                "task_id": task.task_id,
                "argv": task.argv,
                "workdir": None if context.sources_uri else str(context.workdir),
                "sources_uri": context.sources_uri,
                "environment_uri": context.environment_uri,
            },
            separators=(",", ":"),
        ).encode()
        + b"\n"
        for task in submission.tasks
    ]
    offset = CELL * (len(entries) + 1)
    cells = [offset]
    for entry in entries:
        offset += len(entry)
        cells.append(offset)
    return b"".join(b"%0*d" % (CELL, cell) for cell in cells) + b"".join(entries)


def read_entry(read_range: Callable[[int, int], bytes], index: int) -> dict[str, Any]:
    """Entry `index`, where `read_range(start, end)` gives the bytes from start up to, not with, end.

    Raises IndexError for an index past the last entry.
    """
    count = int(read_range(0, CELL)) // CELL - 1
    if not 0 <= index < count:
        raise IndexError(f"the manifest holds {count} entries; there is no entry {index}")
    cells = read_range(CELL * index, CELL * (index + 2))
    entry: dict[str, Any] = json.loads(read_range(int(cells[:CELL]), int(cells[CELL:])))
    return entry
