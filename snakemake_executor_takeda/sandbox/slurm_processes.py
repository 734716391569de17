"""Processes of a sandboxed Slurm: which are ours, by a mark in their environment, and ending them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

MARK = "TAKEDA_SANDBOX_SLURM"
"""Set in the daemons' environment and in every job's. Unlike a process id, a session or a parent it
survives daemons that die, and it can't be mistaken for another process that got a used id."""


@dataclass(frozen=True)
class Process:
    """A living process of this cluster."""

    pid: int
    name: str
    """The command's name, at most 15 characters: `slurmctld`, `slurmstepd`, `python3`."""


def members(home: Path) -> list[Process]:
    """Every living process (daemon, step or job) of the cluster whose home this is."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            stat = (entry / "stat").read_text(errors="replace")
            name, _, rest = stat.partition("(")[2].rpartition(")")
            if rest.split()[0] not in "ZX" and _is_ours(entry, name, home):
                found.append(Process(int(entry.name), name))
        except OSError:  # ended meanwhile, or somebody else's
            continue
    return found


def _is_ours(entry: Path, name: str, home: Path) -> bool:
    if f"{MARK}={home}".encode() in (entry / "environ").read_bytes().split(b"\0"):
        return True
    # slurmstepd wipes its environment (seen in 24.11), but works where its slurmd keeps its log.
    if name != "slurmstepd":
        return False
    return (entry / "cwd").readlink().is_relative_to(home)


def send(processes: Iterable[Process], number: signal.Signals) -> None:
    """Signal each process; one that has ended meanwhile is no error."""
    for process in processes:
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            continue


def wait_until(condition: Callable[[], bool], seconds: float, every: float = 0.05) -> bool:
    """Look at `condition` until it holds; False when it did not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(every)
    return True


def end_all(home: Path, seconds: float) -> list[Process]:
    """End all members: a polite SIGTERM for half the time, then SIGKILL. Returns what is left."""
    send(members(home), signal.SIGTERM)
    if wait_until(lambda: not members(home), seconds / 2):
        return []

    def killed() -> bool:
        # Again and again: a process may have forked between the look and the signal.
        left = members(home)
        send(left, signal.SIGKILL)
        return not left

    wait_until(killed, seconds / 2)
    return members(home)
