"""Submits hand-offs as runs, watches them with one listing, and brings their outputs home."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from snakemake_executor_takeda.backends import aws
from snakemake_executor_takeda.backends.base import (
    Backend,
    BackendFactory,
    RunContext,
    SubmissionError,
)
from snakemake_executor_takeda.backends.healthomics import (
    definitions,
    delivery,
    diagnosis,
    runs,
)
from snakemake_executor_takeda.backends.healthomics.failures import refusal
from snakemake_executor_takeda.backends.healthomics.options import HealthOmicsOptions
from snakemake_executor_takeda.backends.healthomics.registry import Registry
from snakemake_executor_takeda.values import (
    Accepted,
    Active,
    FailureKind,
    JobSpec,
    Outcome,
    Shape,
    Submission,
    TakedaError,
    Target,
    Task,
    Update,
)

_ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED", "DELETED"})
_STARTED = frozenset({"RUNNING", "STOPPING"})
# An account may keep ten thousands of old runs, and ours are among the newest.
_MAX_LISTED_PAGES = 10
_MAX_DELIVERY_ATTEMPTS = 5
_DELIVERY_PATIENCE_SECONDS = 2.0
_CANCEL_PATIENCE_SECONDS = 20.0
_MAX_TAGGED_INPUTS = 500

_log = logging.getLogger("takeda")


@dataclass
class _Watched:
    """What a backend remembers of an open run between two polls."""

    said_started: bool = False
    outcome: Future[Outcome] | None = None
    attempts: int = 0


class HealthOmicsBackend:
    """One run per task; workflows are registered once per content and remembered."""

    def __init__(self, targets: Sequence[Target], context: RunContext) -> None:
        self._targets = targets
        self._context = context
        self._lock = threading.Lock()
        self._is_silent = False
        self._definitions = definitions.Definitions((context.basedir, context.workdir))
        self._registries: dict[tuple[float, float], Registry] = {}
        self._watched: dict[str, _Watched] = {}
        self._uuids: dict[str, str] = {}
        self._clients: dict[str, Any] = {}
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="takeda-omics")

    def check(self) -> None:
        from botocore.exceptions import ClientError

        for target in self._targets:
            options = self._options(target)
            bucket, _ = aws.split_s3_uri(options.output_uri)
            try:
                with aws.readable_errors("HealthOmics"):
                    self._omics.list_workflows(type="PRIVATE", maxResults=1)
            except ClientError as error:
                raise TakedaError(
                    f"target {target.name}: HealthOmics refuses to list workflows: "
                    f"{aws.error_code(error)}: {aws.error_message(error)}. "
                    + (refusal(aws.error_code(error))[1] or "Is it offered in this region?")
                ) from error
            try:
                with aws.readable_errors("S3"):
                    self._s3.head_bucket(Bucket=bucket)
            except ClientError as error:
                raise TakedaError(
                    f"target {target.name}: the bucket of output_uri {options.output_uri} "
                    f"{_bucket_trouble(error)}. Name a bucket of this region that you may use"
                ) from error

    def check_job(self, job: JobSpec, target: Target) -> None:
        self._prepared(job)

    def array_limit(self, target: Target, shape: Shape) -> int:
        return 1

    def listen(self, wake: Callable[[], None]) -> None:
        """HealthOmics is asked."""

    def submit(self, submission: Submission) -> Accepted:
        from botocore.exceptions import ClientError

        (task,) = submission.tasks
        try:
            with aws.readable_errors("HealthOmics"):
                started = self._start(task)
        except TakedaError as error:
            raise SubmissionError(FailureKind.CONFIGURATION, str(error)) from error
        except ClientError as error:
            code = aws.error_code(error)
            kind, advice = refusal(code)
            raise SubmissionError(kind, f"{code}: {aws.error_message(error)}", advice) from error
        with self._lock:
            self._uuids[started.run_id] = started.uuid
        if started.adopted:
            _log.info("run %s already does what rule %s asks", started.run_id, task.job.rule)
        return Accepted(started.run_id, {task.task_id: started.run_id})

    def poll(self, active: Sequence[Active]) -> Iterable[Update]:
        from botocore.exceptions import ClientError

        open_runs = {
            one.accepted.external_id: one.submission.tasks[0] for one in active if one.open_task_ids
        }
        try:
            with aws.readable_errors("HealthOmics"):
                statuses = self._statuses(set(open_runs))
        except (TakedaError, ClientError) as error:
            if not self._is_silent:
                self._is_silent = True
                _log.warning("HealthOmics does not say how the runs do, asking again: %s", error)
            return
        self._is_silent = False
        for run_id, task in open_runs.items():
            watched = self._watched.setdefault(task.task_id, _Watched())
            status = statuses.get(run_id)
            if status in _STARTED and not watched.said_started:
                watched.said_started = True
                yield Update(task.task_id, detail={"run_id": run_id})
            if status in _ENDED and watched.outcome is None:
                watched.attempts += 1
                watched.outcome = self._pool.submit(self._finish, run_id, task)
        yield from self._finished(open_runs)

    def cancel(self, active: Sequence[Active]) -> None:
        with (
            aws.readable_errors("HealthOmics"),
            ThreadPoolExecutor(8, thread_name_prefix="takeda-cancel") as pool,
        ):
            self._cancel({one.accepted.external_id for one in active if one.open_task_ids}, pool)

    def _cancel(self, left: set[str], pool: ThreadPoolExecutor) -> None:
        deadline = time.monotonic() + _CANCEL_PATIENCE_SECONDS
        while left:
            list(pool.map(self._cancel_one, sorted(left)))
            statuses = self._statuses(left)
            # STOPPING ends by itself, and may take minutes to release its instances.
            left = {
                run_id for run_id in left if statuses.get(run_id) not in {*_ENDED, "STOPPING", None}
            }
            if left and time.monotonic() > deadline:
                raise TakedaError(
                    f"HealthOmics runs {', '.join(sorted(left))} could not be cancelled; "
                    "try `aws omics cancel-run --id …`"
                )
            if left:
                time.sleep(0.5)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    # Submitting.

    def _start(self, task: Task) -> runs.StartedRun:
        job = task.job
        options = self._options(task.target)
        prepared = self._prepared(job)
        request = runs.RunRequest(
            registered=self._registry(options).ensure(prepared.package),
            parameters=prepared.parameters,
            input_tags=delivery.input_tags(self._s3, _tagged(prepared)),
            job=job,
            options=options,
        )
        return runs.start_run(
            self._omics,
            request,
            self._context.run_id,
            is_intact=lambda run: self._is_intact(run, prepared.definition, job),
        )

    def _prepared(self, job: JobSpec) -> definitions.Prepared:
        """The workflow, what is registered of it, and the run's parameters. Raises TakedaError."""
        prepared = definitions.prepare(job, self._definitions)
        runs.check_size(prepared.parameters, job.source_line)
        return prepared

    def _is_intact(
        self, run: Mapping[str, Any], definition: definitions.Definition, job: JobSpec
    ) -> bool:
        """Whether what a run completed earlier has left is still all there."""
        try:
            produced = delivery.read_outputs(self._s3, run["runOutputUri"])
            found = definition.match_outputs(job.outputs, produced, job.source_line)
            return all(delivery.exists(self._s3, one) for one in found)
        except TakedaError:
            return False

    def _registry(self, options: HealthOmicsOptions) -> Registry:
        key = (options.registration_poll_seconds, options.registration_timeout_seconds)
        if key not in self._registries:
            self._registries[key] = Registry(
                self._omics, poll_seconds=key[0], timeout_seconds=key[1]
            )
        return self._registries[key]

    # Watching.

    def _statuses(self, wanted: set[str]) -> dict[str, str]:
        """Status by run id: one listing for all; single questions only for what it does not show."""
        statuses: dict[str, str] = {}
        pages = self._omics.get_paginator("list_runs").paginate(
            PaginationConfig={"PageSize": 100, "MaxItems": 100 * _MAX_LISTED_PAGES}
        )
        for page in pages:
            for item in page["items"]:
                if item["id"] in wanted:
                    statuses.setdefault(item["id"], item["status"])
            if len(statuses) == len(wanted):
                return statuses
        for run_id in wanted - statuses.keys():
            run = self._run(run_id)
            statuses[run_id] = "DELETED" if run is None else run["status"]
        return statuses

    def _run(self, run_id: str) -> Mapping[str, Any] | None:
        """None for a run that was deleted, its id perhaps given to another since."""
        try:
            run: Mapping[str, Any] = self._omics.get_run(id=run_id)
        except self._omics.exceptions.ResourceNotFoundException:
            return None
        uuid = self._uuids.get(run_id)
        return run if uuid is None or run.get("uuid") == uuid else None

    def _finish(self, run_id: str, task: Task) -> Outcome:
        run = self._run(run_id)
        if run is None:
            return Outcome(
                FailureKind.LOST, reason=f"run {run_id} was deleted while it was watched"
            )
        if run["status"] != "COMPLETED":
            return diagnosis.diagnose(self._omics, self._logs, run)
        job = task.job
        definition = self._definitions.of(job)
        try:
            produced = delivery.read_outputs(self._s3, run["runOutputUri"])
            found = definition.match_outputs(job.outputs, produced, job.source_line)
            delivery.deliver(self._s3, found)
            if job.benchmark and job.benchmark.uri:
                seconds = diagnosis.wall_time(run) or 0.0
                delivery.deliver_benchmark(self._s3, job.benchmark.uri, seconds)
        except TakedaError as error:
            return Outcome(
                FailureKind.USER,
                reason=f"run {run_id} completed, but {error}",
                log_location=str(run["runOutputUri"]),
                advice="make the rule's outputs and the workflow's agree",
                wall_seconds=diagnosis.wall_time(run),
                detail=diagnosis.run_facts(run),
            )
        return Outcome(wall_seconds=diagnosis.wall_time(run), detail=diagnosis.run_facts(run))

    def _finished(self, open_runs: Mapping[str, Task]) -> Iterator[Update]:
        """Copies go on beside the polls; a short wait spares small ones another round."""
        futures = [w.outcome for w in self._watched.values() if w.outcome is not None]
        wait(futures, timeout=_DELIVERY_PATIENCE_SECONDS)
        for run_id, task in open_runs.items():
            watched = self._watched[task.task_id]
            if watched.outcome is None or not watched.outcome.done():
                continue
            outcome = self._result(run_id, watched)
            if outcome is not None:
                del self._watched[task.task_id]
                yield Update(task.task_id, outcome)

    def _result(self, run_id: str, watched: _Watched) -> Outcome | None:
        """None to try again: the run has ended, but S3 or HealthOmics did not answer about it."""
        from botocore.exceptions import BotoCoreError, ClientError

        assert watched.outcome is not None
        error = watched.outcome.exception()
        if error is None:
            return watched.outcome.result()
        if not isinstance(error, (ClientError, BotoCoreError)):
            return Outcome(
                FailureKind.CONFIGURATION,
                reason=f"run {run_id} ended, but its result is of no use: "
                f"{type(error).__name__}: {error}",
            )
        denied = isinstance(error, ClientError) and aws.error_code(error).startswith("AccessDenied")
        if not denied and watched.attempts < _MAX_DELIVERY_ATTEMPTS:
            watched.outcome = None
            return None
        return Outcome(
            FailureKind.CONFIGURATION,
            reason=f"run {run_id} ended, but its result could not be fetched: {error}",
            advice="allow reading from the target's output_uri and writing to the rule's outputs",
        )

    def _cancel_one(self, run_id: str) -> None:
        refusals = self._omics.exceptions
        # What these say is that it has ended, or is ending.
        with contextlib.suppress(
            refusals.ConflictException,
            refusals.ResourceNotFoundException,
            refusals.ValidationException,
        ):
            self._omics.cancel_run(id=run_id)

    # Clients, made when first used.

    @property
    def _omics(self) -> Any:
        return self._client("omics")

    @property
    def _s3(self) -> Any:
        return self._client("s3")

    @property
    def _logs(self) -> Any:
        return self._client("logs")

    def _client(self, service: str) -> Any:
        with self._lock:
            if service not in self._clients:
                self._clients[service] = aws.client(service)
            return self._clients[service]

    @staticmethod
    def _options(target: Target) -> HealthOmicsOptions:
        assert isinstance(target.options, HealthOmicsOptions)
        return target.options


def _tagged(prepared: definitions.Prepared) -> list[str]:
    """Inputs whose ETag is asked for: one cheap call each, as long as they are not thousands."""
    uris = [uri for uri in prepared.used if uri.startswith("s3://")]
    return uris if len(uris) <= _MAX_TAGGED_INPUTS else []


def _bucket_trouble(error: Any) -> str:
    status = aws.http_status(error)
    return {403: "may not be accessed", 404: "does not exist"}.get(
        status, f"does not answer: {aws.error_message(error)}"
    )


class _Factory:
    options_model: type[BaseModel] = HealthOmicsOptions
    shape_key_resources = frozenset({"handoff"})

    def __call__(self, targets: Sequence[Target], context: RunContext) -> Backend:
        return HealthOmicsBackend(targets, context)


backend: BackendFactory = _Factory()
