"""What the HealthOmics tests share: a bucket with inputs, clients, and ways to make a job."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_takeda.backends.base import RunContext, SubmissionDelayed
from snakemake_executor_takeda.values import (
    Active,
    File,
    JobSpec,
    NamedFiles,
    Outcome,
    Shape,
    Submission,
    Target,
    Task,
)

DATA = Path(__file__).parent / "data"
ROLE = "arn:aws:iam::123456789012:role/takeda-sandbox"
TEXTS = {"one": "a b c a\n", "two": "b c c d\n"}


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """What `condition` gives once it is true. Fails after a time that no machine needs."""
    deadline, pause = time.monotonic() + seconds, 0.02
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(pause)
        pause = min(0.2, 1.25 * pause)  # asking costs what the runs need
    return found


@dataclass
class Cloud:
    """A sandbox as a test sees it."""

    s3: Any
    omics: Any
    bucket: str

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    def text(self, key: str) -> str:
        return str(self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read().decode())

    def keys(self, prefix: str = "") -> list[str]:
        listing = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        return [item["Key"] for item in listing.get("Contents", [])]

    def run_status(self, run_id: str) -> str:
        return str(self.omics.get_run(id=run_id)["status"])


@cache
def clients(variables: frozenset[tuple[str, str]]) -> tuple[Any, Any]:
    """For S3 and HealthOmics; building them is a third of a second's work."""
    import boto3

    session = boto3.Session()
    return session.client("s3"), session.client("omics")


def make_cloud() -> Cloud:
    variables = frozenset(one for one in os.environ.items() if one[0].startswith("AWS_"))
    cloud = Cloud(*clients(variables), f"test-{uuid.uuid4().hex[:12]}")
    cloud.s3.create_bucket(Bucket=cloud.bucket)
    for name, text in TEXTS.items():
        cloud.s3.put_object(Bucket=cloud.bucket, Key=f"in/{name}.txt", Body=text.encode())
    return cloud


@pytest.fixture
def cloud(sandbox_env: dict[str, str]) -> Cloud:
    return make_cloud()


@dataclass
class Controller:
    """A backend as the executor would drive it."""

    backend: Any
    target: Target

    def submission(self, job: JobSpec) -> Submission:
        task_id = f"t-{uuid.uuid4().hex[:8]}"
        task = Task(task_id, job, self.target)
        return Submission(f"s-{task_id}", "name", self.target, (task,))

    def submit(self, job: JobSpec) -> Active:
        submission = self.submission(job)

        def accepted() -> Any:
            # As a lane does: what the rate of StartRun puts off is handed over again.
            with contextlib.suppress(SubmissionDelayed):
                return self.backend.submit(submission)
            return None

        ids = frozenset({submission.tasks[0].task_id})
        return Active(submission, wait_for(accepted), ids)

    def finish(self, active: Sequence[Active]) -> dict[str, Outcome]:
        """Poll until all have ended: outcomes by run id."""
        open_ids = {one.submission.tasks[0].task_id: one.accepted.external_id for one in active}
        outcomes: dict[str, Outcome] = {}

        def poll() -> bool:
            left = [a for a in active if a.submission.tasks[0].task_id in open_ids]
            for update in self.backend.poll(left):
                if update.outcome is not None:
                    outcomes[open_ids.pop(update.task_id)] = update.outcome
            return not open_ids

        wait_for(poll)
        return outcomes

    def run(self, job: JobSpec) -> tuple[str, Outcome]:
        active = self.submit(job)
        return active.accepted.external_id, self.finish([active])[active.accepted.external_id]


@pytest.fixture
def controllers(cloud: Cloud, tmp_path: Path) -> Iterator[Callable[..., Controller]]:
    """Makes controllers that share nothing but the cloud; `basedir` holds the Snakefile."""
    from snakemake_executor_takeda.backends.healthomics import backend

    made: list[Controller] = []

    def make(basedir: Path = DATA, **options: Any) -> Controller:
        target = Target(
            "omics",
            "healthomics",
            options=backend.options_model.model_validate(
                {
                    "role_arn": ROLE,
                    "output_uri": cloud.uri("runs"),
                    "registration_poll_seconds": 0.05,
                    **options,
                }
            ),
        )
        context = RunContext(
            run_id=f"run-{uuid.uuid4().hex[:8]}",
            workdir=tmp_path,
            state_dir=tmp_path,
            remote_prefix=cloud.uri(".takeda"),
            sources_uri=None,
            environment_uri=None,
            basedir=basedir,
        )
        made.append(Controller(backend([target], context), target))
        return made[-1]

    yield make
    for controller in made:
        controller.backend.close()


def words_job(cloud: Cloud, counts: Sequence[str] = ("one", "two"), **params: Any) -> JobSpec:
    """A rule that hands `words.wdl` off."""
    return job(
        "words.wdl",
        inputs={"texts": [cloud.uri(f"in/{name}.txt") for name in TEXTS]},
        outputs={
            "table": [cloud.uri("results/table.txt")],
            "counts": [cloud.uri(f"results/{name}.counts") for name in counts],
        },
        params={"label": "hi", **params},
    )


def job(
    handoff: str,
    *,
    inputs: Mapping[str, Sequence[str]] | None = None,
    outputs: Mapping[str, Sequence[str]],
    params: Mapping[str, Any] | None = None,
    attempt: int = 1,
) -> JobSpec:
    def named(files: Mapping[str, Sequence[str]]) -> tuple[NamedFiles, ...]:
        return tuple(
            NamedFiles(name, tuple(File(f".snakemake/{uri[5:]}", uri) for uri in uris), True)
            for name, uris in files.items()
        )

    return JobSpec(
        job_id=1,
        rule="call_words",
        wildcards={"cohort": "a"},
        attempt=attempt,
        shape=Shape(),
        resources={"handoff": handoff},
        inputs=named(inputs or {}),
        outputs=named(outputs),
        params=params or {},
        source_line="Snakefile:12",
        rules=("call_words",),
    )
