"""What the task's processes use: CPU time of all of them, and the most memory they had together."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0
PAUSE_GROWTH = 1.5
_PROC = Path("/proc")
_PAGE_KIB = resource.getpagesize() // 1024


class Usage:
    """Looks at this process's descendants now and then, from its making until `stop`.

    A look reads two small files of each process. Short peaks between two looks are not seen, but the
    kernel tells the peak of the largest process.
    """

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._peak_kib = 0
        self._thread = threading.Thread(target=self._look_on, name="takeda-usage", daemon=True)
        self._thread.start()

    def stop(self) -> dict[str, float | int]:
        """`cpu_seconds` of all descendants that were waited for, and `max_rss_kib`."""
        self._stopped.set()
        self._thread.join()
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "cpu_seconds": round(used.ru_utime + used.ru_stime, 3),
            "max_rss_kib": max(self._peak_kib, used.ru_maxrss),
        }

    def _look_on(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._stopped.wait(pause):
            self._peak_kib = max(self._peak_kib, memory_kib(os.getpid()))
            pause = min(pause * PAUSE_GROWTH, LONGEST_PAUSE_SECONDS)


def memory_kib(pid: int) -> int:
    """Memory of all descendants of a process: what each has for itself, and what the one with most
    shares. Shared pages of the others are taken to be the same."""
    own, shared = 0, 0
    for descendant in _descendants(pid):
        try:
            fields = (_PROC / str(descendant) / "statm").read_text().split()
        except OSError:  # ended meanwhile
            continue
        resident, with_others = int(fields[1]), int(fields[2])
        own += resident - with_others
        shared = max(shared, with_others)
    return (own + shared) * _PAGE_KIB


def _descendants(pid: int) -> Iterator[int]:
    try:
        tasks = list((_PROC / str(pid) / "task").iterdir())
    except OSError:
        return
    for task in tasks:
        try:
            children = [int(child) for child in (task / "children").read_text().split()]
        except OSError:  # ended meanwhile, or a kernel that does not list children
            continue
        for child in children:
            yield child
            yield from _descendants(child)
