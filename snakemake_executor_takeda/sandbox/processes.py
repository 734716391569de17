"""Starts, watches and ends local processes as whole groups; no thread per process.

A process is started as the leader of a session of its own, so that its group can be signalled as a
whole, and it carries a mark in its environment by which stragglers that left the group are found.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

MARK = "TAKEDA_SANDBOX_PROCESS"
"""Set, to a value of the sandbox's own, in the environment of everything that a sandbox runs."""

Key = TypeVar("Key", bound=Hashable)


def start(
    argv: Sequence[str], *, environment: Mapping[str, str], directory: Path, output: Path
) -> subprocess.Popen[bytes]:
    """Run `argv` without a shell, in a session of its own; stdout and stderr are appended to `output`.

    `argv[0]` is looked up in the PATH of `environment`. Raises OSError when it cannot be run.
    """
    with output.open("ab") as stream:
        return subprocess.Popen(
            list(argv),
            env=dict(environment),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            close_fds=True,
        )


def exit_code(returncode: int) -> int:
    """A return code of `subprocess` as a container reports it: 128 + signal for a killed one."""
    return returncode if returncode >= 0 else 128 - returncode


def signal_group(leader: int, number: int) -> None:
    """Signal the group of a process that `start` gave; one that is gone is no error.

    Call it before the leader is reaped: until then nobody else can get its number.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def start_ticks(pid: int) -> int | None:
    """When the process began, in clock ticks since boot, None when it is gone or a zombie.

    Together with the pid it names a process for good, as pids are used again.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (OSError, ValueError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def is_running(pid: int, ticks: int | None = None) -> bool:
    """Whether the process lives and, where `ticks` is given, is still the same one."""
    if not Path("/proc/self/stat").exists():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 0)
            return True
        return False
    found = start_ticks(pid)
    return found is not None and (ticks is None or ticks == found)


def marked(**variables: str) -> list[int]:
    """Pids of this user's processes whose environment holds all these variables, but for our own."""
    wanted = [f"{name}={value}".encode() for name, value in variables.items()]
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            values = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        pid = int(entry.name)
        if pid != os.getpid() and all(text in values for text in wanted) and is_running(pid):
            found.append(pid)
    return found


def end_marked(grace_seconds: float = 3.0, **variables: str) -> int:
    """End every process that `marked` finds: SIGTERM, then SIGKILL. Returns how many there were."""
    seen: set[int] = set()
    deadline = time.monotonic() + grace_seconds
    number = signal.SIGTERM
    while pids := marked(**variables):
        if time.monotonic() >= deadline:
            number = signal.SIGKILL
        for pid in pids:
            if number == signal.SIGKILL or pid not in seen:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        seen.update(pids)
        if time.monotonic() >= deadline + grace_seconds:
            break
        time.sleep(0.02)
    return len(seen)


class Children(Generic[Key]):
    """Waits for any number of child processes, and for a wake-up call, in one thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._processes: dict[Key, subprocess.Popen[bytes]] = {}
        self._pidfds: dict[Key, int] = {}
        self._wake_reader, self._wake_writer = os.pipe()
        self._is_woken = False
        os.set_blocking(self._wake_reader, False)
        os.set_blocking(self._wake_writer, False)
        self._selector.register(self._wake_reader, selectors.EVENT_READ, None)

    def __len__(self) -> int:
        return len(self._processes)

    def add(self, key: Key, process: subprocess.Popen[bytes]) -> None:
        """Watch a process. Call it from the thread that waits."""
        self._processes[key] = process
        pidfd = _open_pidfd(process.pid)
        if pidfd is not None:
            self._pidfds[key] = pidfd
            self._selector.register(pidfd, selectors.EVENT_READ, key)

    def signal(self, key: Key, number: int) -> None:
        """Signal the process's group, if it is still watched."""
        process = self._processes.get(key)
        if process is not None:
            signal_group(process.pid, number)

    def wake(self) -> None:
        """End the current `wait`, or the next one, at once. Safe from any thread."""
        if not self._is_woken:
            self._is_woken = True
            with contextlib.suppress(BlockingIOError):
                os.write(self._wake_writer, b"x")

    def wait(self, timeout: float | None) -> list[tuple[Key, int]]:
        """Up to `timeout` seconds for processes to end: their keys and subprocess's return codes.

        What is left of an ended process's group is killed, as a container's end does.
        """
        unwatched = [key for key in self._processes if key not in self._pidfds]
        if unwatched:
            # no pidfd on this system: look 50 times a second
            timeout = 0.02 if timeout is None else min(timeout, 0.02)
        ended: list[Key] = []
        for event, _ in self._selector.select(timeout):
            if event.fd == self._wake_reader:
                with contextlib.suppress(BlockingIOError):
                    while os.read(self._wake_reader, 4096):
                        pass
                # only now: whoever calls in between is seen to after this `wait`
                self._is_woken = False
            else:
                ended.append(event.data)
        ended += [key for key in unwatched if _has_ended(self._processes[key].pid)]
        return [(key, self._reap(key)) for key in ended]

    def close(self) -> None:
        """Stop watching; the processes are left alone."""
        for pidfd in self._pidfds.values():
            os.close(pidfd)
        self._selector.close()
        os.close(self._wake_reader)
        os.close(self._wake_writer)

    def _reap(self, key: Key) -> int:
        process = self._processes.pop(key)
        pidfd = self._pidfds.pop(key, None)
        if pidfd is not None:
            self._selector.unregister(pidfd)
            os.close(pidfd)
        signal_group(process.pid, signal.SIGKILL)
        return process.wait()


def _open_pidfd(pid: int) -> int | None:
    opener = getattr(os, "pidfd_open", None)
    if opener is None:
        return None
    try:
        return int(opener(pid))
    except OSError:
        return None


def _has_ended(pid: int) -> bool:
    """Whether our child has ended; it stays unreaped, so that its group's number stays taken."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
