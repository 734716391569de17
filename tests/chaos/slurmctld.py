"""The controller daemon of a sandboxed Slurm, stopped and started again as in an update."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from snakemake_executor_takeda.sandbox.slurm_processes import members, wait_until
from snakemake_executor_takeda.sandbox.slurm_programs import Programs

PATIENCE_SECONDS = 30.0


class Slurmctld:
    """It saves its state at the end, and goes on from it."""

    def __init__(self, sandbox: Path) -> None:
        self._home = sandbox.resolve() / "slurm"
        self._programs = Programs(self._home)

    def stop(self) -> None:
        """Raises RuntimeError where it does not end."""
        for pid in self._pids():
            os.kill(pid, signal.SIGTERM)
        if not wait_until(lambda: not self._pids(), PATIENCE_SECONDS):
            raise RuntimeError("slurmctld does not end")

    def start(self) -> None:
        """Raises RuntimeError where it does not answer."""
        self._programs.run("slurmctld")
        if not wait_until(
            lambda: self._programs.ask("squeue", "--noheader") is not None, PATIENCE_SECONDS
        ):
            raise RuntimeError("slurmctld does not answer")

    def _pids(self) -> list[int]:
        return [process.pid for process in members(self._home) if process.name == "slurmctld"]
