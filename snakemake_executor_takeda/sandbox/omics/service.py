"""The HealthOmics that the sandbox has: its parts, put together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from snakemake_executor_takeda.sandbox.omics.base import Base
from snakemake_executor_takeda.sandbox.omics.batches import Batches
from snakemake_executor_takeda.sandbox.omics.caches import RunCaches
from snakemake_executor_takeda.sandbox.omics.groups import RunGroups
from snakemake_executor_takeda.sandbox.omics.runs import Runs
from snakemake_executor_takeda.sandbox.omics.store import Record
from snakemake_executor_takeda.sandbox.omics.supervisor import Supervisor
from snakemake_executor_takeda.sandbox.omics.tagging import Tagging
from snakemake_executor_takeda.sandbox.omics.workflows import Workflows
from snakemake_executor_takeda.sandbox.services import Context, Handler


class OmicsService:
    """See `services.Service`. Definitions and run directories lie below `omics/` of the state."""

    model_name = "omics"

    def __init__(self, context: Context) -> None:
        self._base = base = Base.of(context)
        self._supervisor = Supervisor(
            context, base.store, base.events, base.mishaps, on_end=self._run_ended
        )
        self._workflows = Workflows(base)
        caches = RunCaches(base)
        runs = Runs(base, self._workflows, caches, self._supervisor)
        self._batches = Batches(base, runs)
        groups = RunGroups(base, self._supervisor)
        parts = (self._workflows, runs, groups, caches, self._batches, Tagging(base))
        self.handlers: Mapping[str, Handler] = {
            name: self._limited(name, handler)
            for part in parts
            for name, handler in part.handlers.items()
        }

    def start(self) -> None:
        self._workflows.start()
        self._supervisor.start()
        self._batches.start()

    def stop(self) -> None:
        self._batches.stop()
        self._supervisor.stop()
        self._workflows.stop()
        self._base.store.close()

    def facts(self) -> Mapping[str, Any]:
        counts: dict[str, int] = {}
        for run in self._base.store.records("run"):
            counts[run["status"]] = counts.get(run["status"], 0) + 1
        return {
            "runs": counts,
            "workflows": self._base.store.count("workflow"),
            "batches": self._base.store.count("batch"),
        }

    def _run_ended(self, run: Record) -> None:
        self._batches.run_ended(run)

    def _limited(self, operation: str, handler: Handler) -> Handler:
        def answer(params: dict[str, Any]) -> Mapping[str, Any] | None:
            self._base.quotas.check(operation)
            return handler(params)

        return answer
