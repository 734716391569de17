"""What is done when a run has ended: its outputs brought home and its log attached, or its failure told."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends.aws import join_s3_uri
from snakemake_executor_takeda.backends.healthomics import (
    delivery,
    diagnosis,
    produced_files,
    task_table,
)
from snakemake_executor_takeda.backends.healthomics.definition import Definition, Delivery
from snakemake_executor_takeda.backends.healthomics.starting import Handle, Starter
from snakemake_executor_takeda.values import FailureKind, JobSpec, Outcome, TakedaError

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_omics import OmicsClient
    from mypy_boto3_s3 import S3Client

_log = logging.getLogger("takeda")


class Stopped(Exception):
    """The pipeline's run ends; nobody waits for the result any more."""


class Ending:
    """Safe from several threads."""

    def __init__(
        self,
        omics: Callable[[], OmicsClient],
        s3: Callable[[], S3Client],
        logs: Callable[[], CloudWatchLogsClient],
        workdir: Path,
    ) -> None:
        self._omics = omics
        self._s3 = s3
        self._logs = logs
        self._workdir = workdir
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Let no copy go on: a process does not end before its threads do."""
        self._stopped.set()

    def _go_on(self) -> None:
        if self._stopped.is_set():
            raise Stopped

    def finish(
        self, starter: Starter, handle: Handle, job: JobSpec, definition: Definition
    ) -> Outcome:
        """How the run ended. Raises what botocore raises where a service does not answer: to be asked
        again."""
        assert handle.run_id is not None
        run = starter.run(handle.run_id, handle.uuid)
        if run is None:
            starter.ended([handle], "DELETED")
            reason = f"run {handle.run_id} was deleted while it was watched"
            return Outcome(FailureKind.LOST, reason=reason)
        outcome = self._outcome(run, job, definition)
        if run["status"] != "COMPLETED":
            starter.ended([handle], str(run["status"]))
        self._attach_log(run, job, outcome)
        return outcome

    def is_intact(self, run: Mapping[str, Any], job: JobSpec, definition: Definition) -> bool:
        """Whether what a run completed earlier has left is still all there."""
        try:
            found = self._found(run, job, definition)
            return all(delivery.exists(self._s3(), one) for one in found)
        except TakedaError:
            return False

    def _found(
        self, run: Mapping[str, Any], job: JobSpec, definition: Definition
    ) -> tuple[Delivery, ...]:
        """What of the run's outputs goes where. Raises TakedaError."""
        read = delivery.read_outputs if definition.lists_outputs else delivery.all_outputs
        return definition.match_outputs(
            job.outputs,
            read(self._s3(), _place_of(run)),
            job.source_line,
            produced_files.patterns_of(job),
        )

    def _outcome(self, run: Mapping[str, Any], job: JobSpec, definition: Definition) -> Outcome:
        if run["status"] != "COMPLETED":
            return diagnosis.diagnose(self._omics(), self._logs(), run)
        seconds = diagnosis.wall_time(run)
        s3 = self._s3()
        try:
            delivery.deliver(s3, self._found(run, job, definition), self._go_on)
            if job.benchmark and job.benchmark.uri:
                delivery.deliver_benchmark(s3, job.benchmark.uri, seconds or 0.0)
        except TakedaError as error:
            return Outcome(
                FailureKind.USER,
                reason=f"run {run['id']} completed, but {error}",
                log_location=_place_of(run),
                advice="make the rule's outputs and the workflow's agree; a retry as it is will not help",
                permanent=True,
                wall_seconds=seconds,
                detail=diagnosis.run_facts(run),
            )
        facts = {**diagnosis.run_facts(run), "usage": self._usage(run)}
        return Outcome(wall_seconds=seconds, detail=facts)

    def _usage(self, run: Mapping[str, Any]) -> dict[str, float] | None:
        """What the run is billed by, for estimates of the next ones; None where that cannot be told."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return task_table.usage(run, task_table.tasks_of(self._omics(), run["id"]))
        except (BotoCoreError, ClientError):
            return None

    def _attach_log(self, run: Mapping[str, Any], job: JobSpec, outcome: Outcome) -> None:
        """Write the rule's `log:`, where it has one: the run's facts, its tasks, and its log lines."""
        if not job.logs:
            return
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            omics, logs, run_id = self._omics(), self._logs(), run["id"]
            tasks = task_table.tasks_of(omics, run_id)
            streams = [f"run/{run_id}/engine", f"run/{run_id}"]
            streams += [
                f"run/{run_id}/task/{task['taskId']}"
                for task in tasks
                if task["status"] == "FAILED"
            ]
            lines = {
                stream: said
                for stream in streams
                if (said := diagnosis.last_lines(logs, stream, diagnosis.MAX_LOG_LINES))
            }
            text = task_table.log_of(run, tasks, lines, outcome.reason)
            delivery.write_log(self._s3(), job.logs[0], self._workdir, text)
        except (ClientError, BotoCoreError, OSError) as error:
            # The job's result does not hang on it.
            _log.warning("the log %s of run %s is missing: %s", job.logs[0].path, run["id"], error)


def _place_of(run: Mapping[str, Any]) -> str:
    """Where the run's outputs and logs are."""
    return str(run.get("runOutputUri") or join_s3_uri(run["outputUri"], run["id"]))
