"""The Slurm backend: checks targets, submits, and cancels; `watching` follows the tasks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.slurm import mpi
from snakemake_executor_takeda.backends.slurm.answers import task_id_of
from snakemake_executor_takeda.backends.slurm.arguments import job_request
from snakemake_executor_takeda.backends.slurm.choosing import Chooser
from snakemake_executor_takeda.backends.slurm.clients.base import (
    SlurmClient,
    SlurmRefused,
    SlurmSilent,
    SlurmUnauthorized,
)
from snakemake_executor_takeda.backends.slurm.clients.choosing import open_client
from snakemake_executor_takeda.backends.slurm.clients.command_line import CommandLine
from snakemake_executor_takeda.backends.slurm.commands import on_target
from snakemake_executor_takeda.backends.slurm.exchange import exchange_of
from snakemake_executor_takeda.backends.slurm.leftovers import Leftovers
from snakemake_executor_takeda.backends.slurm.records import log_folder
from snakemake_executor_takeda.backends.slurm.refusals import advice_on
from snakemake_executor_takeda.backends.slurm.script import batch_script
from snakemake_executor_takeda.backends.slurm.srun import Srun
from snakemake_executor_takeda.backends.slurm.submitting import Submitter
from snakemake_executor_takeda.backends.slurm.watching import Watcher
from snakemake_executor_takeda.values import Accepted, FailureKind, TakedaError, submission_to_check
from snakemake_executor_takeda.worker.manifest import encode_manifest

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.base import RunContext
    from snakemake_executor_takeda.backends.slurm.fitting import Fit
    from snakemake_executor_takeda.backends.slurm.request import JobRequest
    from snakemake_executor_takeda.values import (
        Active,
        JobSpec,
        Remembered,
        Shape,
        Submission,
        Target,
        Update,
    )

LEAST_MEM_MB = 200
"""Snakemake itself, which runs each job on its node, and the worker take some 110 MB."""
CANCEL_KILL_SECONDS = 6.0
CANCEL_SECONDS = 40.0


class SlurmBackend:
    """Speaks `backends.base.Backend` for all Slurm targets of a run: one cluster."""

    finds_its_runs = False
    outlives_controller = True

    def __init__(
        self,
        targets: Sequence[Target],
        context: RunContext,
        client: SlurmClient | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        self._targets = targets
        self._context = context
        if client is None:
            client, line = open_client(targets)
            context.say(line)
        self._client = client
        self._exchange = exchange_of(targets, context, from_afar=client.is_remote)
        self._logs = context.state_dir / "logs"
        records = self._exchange.records
        self._watcher = watcher or Watcher(
            self._client, records, self._logs, longest_pause_seconds=context.poll_seconds
        )
        self._submitter = Submitter(self._client, records)
        self._srun = Srun()
        # From afar, scratch is the nodes' own; without S3 nothing is staged.
        is_here = self._exchange.is_shared or not client.is_remote
        is_seen = bool(context.sources_uri) and is_here
        self._leftovers = Leftovers(map(self._exchange.scratch, targets) if is_seen else ())
        self._chooser = Chooser(self._client)
        self._told_memory = False
        self._cancelled = threading.Event()
        self._submitting = threading.Lock()
        self._job_ids: set[str] = set()
        """Every job this backend has started, so that cancel misses none that was just accepted."""
        self._known: set[str] = set()
        """Tasks that were sent, or may have been, by this process, or that it took up."""
        self._over: set[str] = set()
        """Tasks that are known to have ended."""

    def check(self) -> None:
        """Controller, partitions and shared folders of every target."""
        name = self._targets[0].name
        try:
            self._chooser.check(self._targets)
        except SlurmUnauthorized as error:
            raise TakedaError(f"target {name}: {error}") from error
        except (SlurmSilent, SlurmRefused) as error:
            raise TakedaError(
                f"target {name}: Slurm's controller does not answer: {error}. {self._client.advice}"
            ) from error
        if (seconds := self._chooser.cluster.remembers_seconds) is not None:
            self._watcher.remembered_for(seconds)
        self._srun.check_targets(self._targets)
        for target in self._targets:
            self._exchange.check(target)
        self._exchange.prepare()

    def check_job(self, job: JobSpec, target: Target) -> None:
        submission = submission_to_check(job, target)
        self._srun.check_job(job, target, self._context.workdir)
        if not self._exchange.is_shared:
            mpi.check_scratch(job, target)
        try:
            request = self._fit(submission, self._logs).request
        except SubmissionError as error:
            if error.kind == FailureKind.NO_CAPACITY and target.fallback:
                return  # it will go there
            raise
        try:
            self._client.check_request(request)
        except ValueError as error:
            raise self._unusable_word(job, target, error) from error
        self._chooser.check_reservation(request, job, target)
        self._tell_of_little_memory(job, target, request)

    def array_limit(self, target: Target, shape: Shape) -> int:
        """Of the cluster: MaxArraySize, MaxJobCount and `max_array_tasks`, read once; or the target's."""
        return self._chooser.array_limit(target)

    def listen(self, wake: Callable[[], None]) -> None:
        """Slurm tells nobody: it is asked."""

    def submit(self, submission: Submission) -> Accepted:
        log_dir = log_folder(self._logs, submission)
        self._chooser.look_again()
        chosen = self._fit(submission, log_dir)
        manifest = encode_manifest(on_target(submission), self._context)
        script = batch_script(
            self._exchange.on_nodes(submission),
            manifest=self._exchange.put_manifest(submission, manifest),
            exit_records=self._exchange.exit_records,
            scratch=self._exchange.scratch(submission.target),
        )
        with self._submitting:
            if self._cancelled.is_set():
                raise SubmissionError(FailureKind.INTERRUPTED, "the run was cancelled")
            self._known |= {task.task_id for task in submission.tasks}
            job_id = self._send(submission, chosen, script)
            self._job_ids.add(job_id)
        detail = {"partition": chosen.request.partition, "reasons": list(chosen.reasons)}
        return replace(_accepted(submission, job_id), detail=detail)

    def reattach(self, remembered: Remembered) -> Accepted | None:
        submission = remembered.submission
        accepted = remembered.accepted
        self._known |= remembered.open_task_ids
        if accepted is None:
            if (job_id := self._submitter.find(submission)) is None:
                return None
            accepted = _accepted(submission, job_id)
        self._job_ids.add(accepted.external_id)
        return accepted

    def poll(self, active: Sequence[Active]) -> Iterable[Update]:
        for update in self._watcher.poll(active):
            if update.outcome is not None:
                self._over.add(update.task_id)
                if not update.outcome.succeeded:
                    self._leftovers.remove(update.task_id)
            yield update

    def end(self, active: Active) -> None:
        """Raises TakedaError where it would not end in time."""
        job_id = active.accepted.external_id
        deadline = time.monotonic() + CANCEL_SECONDS
        silence = ""
        while time.monotonic() < deadline:
            try:
                self._client.cancel([job_id])
                if not self._still_there({job_id}):
                    self._over |= active.open_task_ids
                    return
            except (SlurmSilent, SlurmRefused) as error:
                silence = f" ({error})"
            time.sleep(1.0)
        raise TakedaError(
            f"Slurm job {job_id} would not end{silence}: end it with `scancel {job_id}`"
        )

    def cancel(self, active: Sequence[Active]) -> None:
        """One scancel for all, then a look until none is left; SIGKILL for what lingers.

        Raises TakedaError naming the jobs that are still there in the end.
        """
        self._cancelled.set()
        with self._submitting:  # a submission under way is accepted first, then cancelled with all
            ids = self._job_ids | {one.accepted.external_id for one in active}
        started = time.monotonic()
        left: list[str] | None = sorted(ids)
        silence = ""
        pause = 0.1
        while time.monotonic() - started < CANCEL_SECONDS:
            kills = time.monotonic() - started > CANCEL_KILL_SECONDS
            try:
                ids |= self._submitter.possible_jobs()
                left = left or sorted(ids)
                if left:
                    self._client.cancel(left)
                    if kills:
                        self._client.cancel(left, kill=True)
                    left = self._still_there(ids)
                silence = ""
            except (SlurmSilent, SlurmRefused) as error:
                silence = f" ({error})"  # what was asked to end is asked again
            else:
                if not left and self._submitter.is_settled():
                    self._over |= self._known.union(*(one.open_task_ids for one in active))
                    return
            time.sleep(pause)
            pause = min(2 * pause, 2.0)
        names = ", ".join(left or [])
        raise TakedaError(
            f"these Slurm jobs would not end{silence}: {names or 'what was being submitted'}. Look "
            f"with `squeue --me`, and end them with `scancel {' '.join(left or ['JOB'])}`."
        )

    def close(self) -> None:
        self._leftovers.close(self._over)
        self._client.close()

    def _tell_of_little_memory(self, job: JobSpec, target: Target, request: JobRequest) -> None:
        """Once: where memory is given out, it is often enforced, too."""
        mem_mb = job.shape.mem_mb
        is_asked = bool(request.mem_mb or request.mem_mb_per_cpu) and not any(
            word.startswith("--mem") for word in request.extra
        )
        if not is_asked or not mem_mb or mem_mb >= LEAST_MEM_MB:
            return
        if self._told_memory or not self._chooser.cluster.schedules_memory:
            return
        self._told_memory = True
        self._context.say(
            f"rule {job.rule} on {target.name} asks mem_mb={mem_mb}, of which Snakemake itself, "
            f"which runs each job on its node, takes some 110: ask {LEAST_MEM_MB} or more, or a "
            "cluster that enforces memory may end it"
        )

    def _send(self, submission: Submission, chosen: Fit, script: str) -> str:
        """Under the first of the accounts that Slurm takes."""
        request = chosen.request
        for account in chosen.other_accounts:
            try:
                return self._submitter.send(submission, request, script)
            except SubmissionError as error:
                if "account" not in error.reason.lower():
                    raise
                request = replace(request, account=account)
        return self._submitter.send(submission, request, script)

    def _fit(self, submission: Submission, log_dir: Path) -> Fit:
        """What is asked of Slurm, in the partition that fits. Raises SubmissionError."""
        request = job_request(
            submission,
            submission.target.options,
            self._context.workdir,
            log_dir,
            exclude=self._watcher.excluded_nodes(),
        )
        request = self._exchange.placed(request, submission)
        return self._chooser.choose(request, submission.tasks[0].job, submission.target)

    def _still_there(self, ids: set[str]) -> list[str]:
        return sorted(
            {
                sighting.external_id.partition("_")[0]
                for sighting in self._client.unfinished(ids)
                if sighting.external_id.partition("_")[0] in ids
            }
        )

    def _unusable_word(self, job: JobSpec, target: Target, error: ValueError) -> SubmissionError:
        advice = "Leave the option out, or set `client: command-line` for the target."
        if self._client.name == CommandLine.name:
            advice = advice_on("unrecognized option", target.name)
        return SubmissionError(
            FailureKind.CONFIGURATION, f"rule {job.rule} on target {target.name}: {error}", advice
        )


def _accepted(submission: Submission, job_id: str) -> Accepted:
    count = len(submission.tasks)
    return Accepted(
        job_id,
        {
            task.task_id: task_id_of(job_id, index, count)
            for index, task in enumerate(submission.tasks)
        },
    )
