"""AWS Batch: arrays of tasks on job queues.

`submitting` sends (`definitions`, `shapes` and `scheduling` say what), `polling` asks (`outcomes`
reads the answers), `cancelling` ends; `batch_backend` puts them together (a module `backend` would hide the factory).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from snakemake_executor_takeda.backends.batch.options import RESOURCES, BatchOptions
from snakemake_executor_takeda.backends.batch.rule_words import RULE_RESOURCES

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.base import Backend, RunContext
    from snakemake_executor_takeda.doctor.asked import Asked
    from snakemake_executor_takeda.doctor.findings import Checkup
    from snakemake_executor_takeda.values import Target

__all__ = ["BatchOptions", "backend"]


class _Factory:
    """Speaks `backends.base.BackendFactory`."""

    options_model = BatchOptions
    shape_key_resources = RESOURCES | RULE_RESOURCES

    def __call__(self, targets: Sequence[Target], context: RunContext) -> Backend:
        from snakemake_executor_takeda.backends.batch.batch_backend import BatchBackend

        return BatchBackend(targets, context)

    def checkups(self, targets: Sequence[Target], asked: Asked) -> Iterable[Checkup]:
        """For `takeda doctor`."""
        from snakemake_executor_takeda.doctor.batch import checkups

        return checkups(targets, asked)


backend = _Factory()
