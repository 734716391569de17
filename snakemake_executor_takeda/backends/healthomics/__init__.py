"""HealthOmics: a rule with `handoff="…"` runs as one AWS HealthOmics run.

`definitions` opens what a rule hands off and fits the rule to it; `registry` registers it; `requests` says
what a run is asked for, `starting` starts it once (`journal` remembers, `pacing` keeps to the rate,
`batches` starts many in one call); `ending` brings outputs home or explains a failure (`failures`,
`diagnosis`, `task_table`); `handoffs` puts them together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel

    from snakemake_executor_takeda.backends.base import Backend, BackendFactory, RunContext
    from snakemake_executor_takeda.doctor.asked import Asked
    from snakemake_executor_takeda.doctor.findings import Checkup
    from snakemake_executor_takeda.values import Target

__all__ = ["backend"]


class _Factory:
    """Speaks `backends.base.BackendFactory`."""

    shape_key_resources = frozenset({"handoff"})

    @cached_property
    def options_model(self) -> type[BaseModel]:
        # Not at the top: each `takeda handoff run-local` and each run of the sandbox imports this package.
        from snakemake_executor_takeda.backends.healthomics.options import HealthOmicsOptions

        return HealthOmicsOptions

    def __call__(self, targets: Sequence[Target], context: RunContext) -> Backend:
        # What reads WDL and talks to AWS is imported by a run that hands something off only.
        from snakemake_executor_takeda.backends.healthomics.handoffs import HealthOmicsBackend

        return HealthOmicsBackend(targets, context)

    def checkups(self, targets: Sequence[Target], asked: Asked) -> Iterable[Checkup]:
        """For `takeda doctor`."""
        from snakemake_executor_takeda.doctor.healthomics import checkups

        return checkups(targets, asked)


backend: BackendFactory = _Factory()
