"""The plugin's Executor: Snakemake's interface on one side, a Run on the other."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

from snakemake_interface_common.exceptions import ApiError
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

if TYPE_CHECKING:
    from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo


class Executor(RemoteExecutor):
    """Thin: Snakemake imports this module at every start, on every node."""

    def __post_init__(self) -> None:
        # Whatever is there by now, Snakemake's modules and the workflow, stays until the end: what looks
        # for garbage need not go through it again and again. `Run` thaws it.
        gc.freeze()
        from snakemake_executor_takeda.run import Run
        from snakemake_executor_takeda.values import TakedaError

        try:
            self._run = Run(self)
        except TakedaError as error:
            # Snakemake prints an ApiError as one message; of others it shows where they were raised.
            raise ApiError(f"takeda: {error}") from None

    def run_jobs(self, jobs: list[Any]) -> None:
        """Take ready jobs and return at once."""
        self._run.take(jobs)

    def run_job(self, job: Any) -> None:
        """One job; Snakemake itself calls `run_jobs`."""
        self._run.take([job])

    def cancel(self) -> None:
        """Snakemake calls this on Ctrl-C and on a fatal error, in the handler of that exception."""
        if isinstance(sys.exception(), (KeyboardInterrupt, SystemExit)):
            self._run.interrupt()
        else:
            self._run.cancel()
        self.shutdown()

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """End everything: the run knows better than Snakemake's list what is under way."""
        self._run.cancel()

    def shutdown(self) -> None:
        self._run.close()
        super().shutdown()

    # The base class's own polling thread would abort the run on any exception and hold the exit
    # back by one pause. A run watches for itself, so that thread ends at once.
    async def _wait_for_jobs(self) -> None:
        return

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> Any:
        """Part of the interface; never called."""
        for job_info in active_jobs:
            yield job_info
