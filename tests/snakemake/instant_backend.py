"""A backend for tests: every task writes its outputs and ends at once. What it was sent is written down."""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from snakemake_executor_takeda.jobs import products
from snakemake_executor_takeda.values import SUCCEEDED, Accepted, Update

ARRAY_LIMIT = 4


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InstantBackend:
    finds_its_runs = False
    outlives_controller = False

    def __init__(self, targets, context):
        self._sent = context.workdir / "sent.jsonl"

    def check(self):
        pass

    def check_job(self, job, target):
        pass

    def array_limit(self, target, shape):
        return ARRAY_LIMIT

    def listen(self, wake):
        self._wake = wake

    def submit(self, submission):
        line = [[str(task.job.job_id), task.job.shape.mem_mb] for task in submission.tasks]
        with self._sent.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self._wake()
        return Accepted(
            submission.submission_id, {task.task_id: task.task_id for task in submission.tasks}
        )

    def poll(self, active):
        for one in active:
            for task in one.submission.tasks:
                if task.task_id in one.open_task_ids:
                    for file in products(task.job):
                        Path(file.path).touch()
                    yield Update(task.task_id, SUCCEEDED)

    def reattach(self, remembered):
        return None

    def end(self, active):
        pass

    def cancel(self, active):
        pass

    def close(self):
        pass


class _Factory:
    options_model = Options
    shape_key_resources = frozenset()

    def __call__(self, targets, context):
        return InstantBackend(targets, context)


backend = _Factory()
