"""Killing a node of a sandboxed Slurm, with all that runs there."""

import contextlib
import os
import signal
from pathlib import Path


def kill_node(name, environment):
    """Its daemon, the steps, which bear no name but are the parents of its tasks, and the tasks."""
    assert all(_kill_all(name, environment))
    # again and again: one may have forked between the look and the signal
    while any(_kill_all(name, environment)):
        pass


def _kill_all(name, environment):
    """Daemon, steps and tasks that were found."""
    home = str(Path(environment["SLURM_CONF"]).parent).encode()
    daemon, steps, tasks = [], [], []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            variables = (path / "environ").read_bytes()
            words = (path / "cmdline").read_bytes().split(b"\0")
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if home not in variables:
                continue
            if words[0].endswith(b"slurmd") and name.encode() in words:
                daemon.append(int(path.name))
            elif f"SLURMD_NODENAME={name}\0".encode() in variables:
                tasks.append(int(path.name))
                if Path(f"/proc/{parent}/comm").read_text().startswith("slurmstepd"):
                    steps.append(parent)
    for pid in dict.fromkeys([*daemon, *steps, *tasks]):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return daemon, steps, tasks
