"""CPUs and GPUs that several processes share: what a HealthOmics run group allows its runs' tasks."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from WDL.runtime.error import Terminated

from snakemake_executor_takeda.sandbox import processes
from snakemake_executor_takeda.sandbox.wdl_run import GROUP_LIMITS, GROUP_VARIABLE

_POLL_SECONDS = 0.1


class Allowance:
    """A group's folder, or none: then everything is allowed."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    @classmethod
    def of_environment(cls) -> Allowance:
        named = os.environ.get(GROUP_VARIABLE)
        return cls(Path(named) if named else None)

    @contextmanager
    def taken(self, cpus: int, gpus: int, stop: Callable[[], bool]) -> Iterator[None]:
        """Wait until the group has so many left, then hold them. Raises Terminated when stopped.

        A task that asks for more than the whole group allows gets the whole group.
        """
        if self._folder is None:
            yield
            return
        claim = self._folder / f"{uuid4().hex}.json"
        while not self._try(claim, cpus, gpus):
            if stop():
                raise Terminated(quiet=True)
            time.sleep(_POLL_SECONDS)
        try:
            yield
        finally:
            claim.unlink(missing_ok=True)

    def _try(self, claim: Path, cpus: int, gpus: int) -> bool:
        assert self._folder is not None
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            limits = json.loads((self._folder / GROUP_LIMITS).read_text())
            taken = [
                _living(path) for path in self._folder.glob("*.json") if path.name != GROUP_LIMITS
            ]
            wanted = {"cpus": cpus, "gpus": gpus}
            for name, limit in (("cpus", limits.get("maxCpus")), ("gpus", limits.get("maxGpus"))):
                if limit is not None:
                    wanted[name] = min(wanted[name], limit)
                    if wanted[name] + sum(one.get(name, 0) for one in taken) > limit:
                        return False
            pid = os.getpid()
            claim.write_text(
                json.dumps({**wanted, "pid": pid, "ticks": processes.start_ticks(pid)})
            )
            return True


def _living(path: Path) -> dict[str, Any]:
    """A claim, or nothing where whoever made it is gone."""
    claim: dict[str, Any] = json.loads(path.read_text())
    if processes.is_running(claim["pid"], claim["ticks"]):
        return claim
    path.unlink(missing_ok=True)
    return {}
