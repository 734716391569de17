"""One task of a CWL run as a process group of its own, with a record of what it took.

Run by its path, without any package: python -I -S cwl_task.py FOLDER SPOKEN COMMAND… `FOLDER` has the
record; `SPOKEN` says which of stdout and stderr the task writes to a file of its own (`o`, `e`): the
others go to the folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RECORD = "task.json"
_POLL_SECONDS = 0.02
_GRACE_SECONDS = 5.0
_KEPT_BYTES = 1 << 16


def main(folder: Path, spoken: str, command: list[str]) -> int:
    """The command's exit status, 128 + signal for a killed one."""
    stop = _Stop()
    # Before anything else: whoever stops the run may do so at any time.
    signal.signal(signal.SIGTERM, stop.ask)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    path = folder / RECORD
    record = json.loads(path.read_text())
    record["started"] = time.time()
    _write(path, record)
    streams: dict[str, Any] = {}
    for letter, name in (("o", "stdout"), ("e", "stderr")):
        if letter not in spoken:
            streams[name] = (folder / f"{name}.txt").open("ab")
    try:
        task = subprocess.Popen(command, process_group=0, **streams)
    except OSError as error:
        (folder / "stderr.txt").write_text(f"{command[0]}: {error.strerror}\n")
        code = 127 if isinstance(error, FileNotFoundError) else 126
        _write(path, {**record, "ended": time.time(), "exit_code": code, "cancelled": False})
        return code
    while not (waited := os.wait4(task.pid, os.WNOHANG))[0]:
        if os.getppid() != parent:
            stop.ask()
        stop.pass_on(task.pid)
        time.sleep(_POLL_SECONDS)
    status, usage = os.waitstatus_to_exitcode(waited[1]), waited[2]
    _signal(task.pid, signal.SIGKILL)  # what the task left in the background
    code = status if status >= 0 else 128 - status
    if "e" in spoken:
        _keep_stderr(folder)
    record |= {"ended": time.time(), "exit_code": code, "cancelled": stop.asked is not None}
    record["cpu_seconds"] = usage.ru_utime + usage.ru_stime
    record["peak_bytes"] = usage.ru_maxrss * 1024
    _write(path, record)
    return code


class _Stop:
    """Ends the task's group: SIGTERM, and after a grace SIGKILL."""

    def __init__(self) -> None:
        self.asked: float | None = None
        self._told = False

    def ask(self, *_: object) -> None:
        self.asked = self.asked or time.monotonic()

    def pass_on(self, group: int) -> None:
        if self.asked is None:
            return
        if not self._told:
            self._told = True
            _signal(group, signal.SIGTERM)
        elif time.monotonic() - self.asked > _GRACE_SECONDS:
            _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _keep_stderr(folder: Path) -> None:
    """The end of what the task wrote to a file of its own, for its log."""
    try:
        with Path("/proc/self/fd/2").open("rb") as source:
            source.seek(0, os.SEEK_END)
            source.seek(max(0, source.tell() - _KEPT_BYTES))
            kept = source.read()
    except OSError:
        return
    (folder / "stderr.txt").write_bytes(kept)


def _write(path: Path, record: dict[str, Any]) -> None:
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(record))
    draft.replace(path)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
