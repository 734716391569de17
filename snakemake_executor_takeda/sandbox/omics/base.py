"""What every part of the emulated HealthOmics works with."""

from __future__ import annotations

from dataclasses import dataclass

from snakemake_executor_takeda.sandbox.omics.answers import Answers
from snakemake_executor_takeda.sandbox.omics.events import Events
from snakemake_executor_takeda.sandbox.omics.idempotency import Requests
from snakemake_executor_takeda.sandbox.omics.mishaps import Mishaps
from snakemake_executor_takeda.sandbox.omics.quotas import Quotas
from snakemake_executor_takeda.sandbox.omics.store import Store
from snakemake_executor_takeda.sandbox.services import Context


@dataclass(frozen=True)
class Base:
    context: Context
    store: Store
    answers: Answers
    requests: Requests
    mishaps: Mishaps
    quotas: Quotas
    events: Events

    @classmethod
    def of(cls, context: Context) -> Base:
        store = Store(context.database)
        mishaps = Mishaps(context.faults)
        return cls(
            context,
            store,
            Answers(context, store),
            Requests(store),
            mishaps,
            Quotas(context.faults),
            Events(context, mishaps),
        )
