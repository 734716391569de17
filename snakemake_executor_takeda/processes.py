"""Which process it is: a pid alone is given out again, its begin on its machine is not."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True)
class Start:
    """Who does a task. It leads a process group of its own."""

    pid: int
    """0 where nobody may do it any more."""
    began: float | None
    """In clock ticks since its machine started."""
    host: str
    boot: str
    """Changes each time that the machine starts."""

    @property
    def is_here(self) -> bool:
        """Whether this machine can tell how it does."""
        return self.host == socket.gethostname()

    @property
    def is_running(self) -> bool:
        """Whether it, or a process that it has started, still runs on this machine."""
        if not self.pid or not self.is_here or self.boot != _boot():
            return False
        began = process_began(self.pid)
        # As long as its group has members, its number is not given out again.
        return began == self.began if began is not None else _has_members(self.pid)


def process_began(pid: int) -> float | None:
    """When a process of this machine began, in clock ticks since the machine started: with the pid it
    names one process. None where there is no such process."""
    fields = _stat(pid)
    return float(fields[19]) if fields and fields[0] not in "ZX" else None


def claim(folder: Path, task_id: str, *, for_nobody: bool = False) -> bool:
    """Say that this process does the task, or that nobody may. False where somebody was first, ever.
    Whoever sees the file sees all of it."""
    pid = 0 if for_nobody else os.getpid()
    start = Start(pid, process_began(pid), socket.gethostname(), _boot())
    temporary = folder / f".{task_id}.{os.getpid()}.{time.monotonic_ns()}"
    temporary.write_text(json.dumps(asdict(start)))
    try:
        os.link(temporary, folder / task_id)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    return True


def start_of(folder: Path, task_id: str) -> Start | None:
    """Who does the task, or did; None where nobody has begun."""
    with suppress(OSError):
        return Start(**json.loads((folder / task_id).read_text()))
    return None


def _stat(pid: int | str) -> list[str]:
    """From the third on, which is its state: see proc(5)."""
    try:
        # Its name may hold spaces and brackets.
        return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _has_members(group: int) -> bool:
    stats = (_stat(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit())
    return any(fields and fields[0] not in "ZX" and int(fields[2]) == group for fields in stats)


def _boot() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
