"""A backend for tests: a task that asks for less than 4,000 MB runs out of memory; others wait for a file
`go` before they end. What each was sent with is written down."""

from instant_backend import InstantBackend, Options

from snakemake_executor_takeda.values import FailureKind, Outcome, Update

ENOUGH_MB = 4000


class HungryBackend(InstantBackend):
    def __init__(self, targets, context):
        super().__init__(targets, context)
        self._go = context.workdir / "go"

    def poll(self, active):
        for one in active:
            if one.submission.tasks[0].job.shape.mem_mb < ENOUGH_MB:
                for task_id in one.open_task_ids:
                    yield Update(task_id, Outcome(FailureKind.OUT_OF_MEMORY, "too little"))
            elif self._go.exists():
                yield from super().poll([one])


class _Factory:
    options_model = Options
    shape_key_resources = frozenset()

    def __call__(self, targets, context):
        return HungryBackend(targets, context)


backend = _Factory()
"""What the entry point names."""
