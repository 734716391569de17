"""The Slurm backend: checks targets, submits, and cancels; `watching` follows the tasks."""

from __future__ import annotations

import difflib
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.slurm.answers import task_id_of
from snakemake_executor_takeda.backends.slurm.arguments import job_request, partitions_of
from snakemake_executor_takeda.backends.slurm.clients import command_line
from snakemake_executor_takeda.backends.slurm.clients.base import (
    SlurmClient,
    SlurmFull,
    SlurmRefused,
    SlurmSilent,
)
from snakemake_executor_takeda.backends.slurm.records import ExitRecords
from snakemake_executor_takeda.backends.slurm.request import JobRequest, submission_environment
from snakemake_executor_takeda.backends.slurm.script import batch_script
from snakemake_executor_takeda.backends.slurm.watching import Watcher
from snakemake_executor_takeda.values import Accepted, FailureKind, TakedaError, submission_to_check
from snakemake_executor_takeda.worker.manifest import encode_manifest

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.base import RunContext
    from snakemake_executor_takeda.backends.slurm.options import SlurmOptions
    from snakemake_executor_takeda.values import Active, JobSpec, Shape, Submission, Target, Update

SUBMIT_PAUSES_SECONDS = (1.0, 2.0, 5.0, 10.0, 15.0)
"""Between tries to submit while the controller does not answer."""
CANCEL_KILL_SECONDS = 6.0
CANCEL_SECONDS = 40.0
_NO_ROOM = re.compile(r"submit limit|MaxSubmit|temporarily", re.IGNORECASE)
_DEFAULT_MAX_ARRAY_SIZE = 1001
_DEFAULT_MAX_JOB_COUNT = 10_000


class SlurmBackend:
    """Speaks `backends.base.Backend` for all Slurm targets of a run: one cluster."""

    def __init__(
        self,
        targets: Sequence[Target],
        context: RunContext,
        client: SlurmClient | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        self._targets = targets
        self._context = context
        self._client = client or command_line.CommandLine()
        self._exit_records = context.state_dir / "exits"
        self._logs = context.state_dir / "logs"
        self._manifests = context.state_dir / "manifests"
        self._watcher = watcher or Watcher(
            self._client, ExitRecords(self._exit_records), self._logs
        )
        self._array_limit: int | None = None
        self._cancelled = threading.Event()
        self._submitting = threading.Lock()
        self._job_ids: set[str] = set()
        """Every job this backend has started, so that cancel misses none that was just accepted."""

    def check(self) -> None:
        """Commands, controller, partitions and shared folders of every target."""
        if missing := command_line.missing_commands():
            raise TakedaError(
                f"target {self._targets[0].name} needs Slurm's commands; not found: "
                f"{', '.join(missing)}. Run on a node of the cluster, add their folder to PATH, or "
                'start one here: takeda sandbox slurm up && eval "$(takeda sandbox env)"'
            )
        if path := command_line.missing_configuration():
            raise TakedaError(
                f"SLURM_CONF names {path}, which does not exist. Is the sandbox down? "
                "Start it (takeda sandbox slurm up) or unset SLURM_CONF."
            )
        try:
            known = self._client.partitions()
        except (SlurmSilent, SlurmRefused) as error:
            raise TakedaError(
                f"target {self._targets[0].name}: Slurm's controller does not answer: {error}. "
                "`scontrol ping` says more; is SLURM_CONF right?"
            ) from error
        for target in self._targets:
            _check_partitions(target, known)
            self._check_scratch(target)
        for folder in (self._exit_records, self._logs, self._manifests):
            folder.mkdir(parents=True, exist_ok=True)

    def check_job(self, job: JobSpec, target: Target) -> None:
        submission = submission_to_check(job, target)
        request = self._request(submission, self._logs)
        try:
            self._client.check_request(request)
        except ValueError as error:
            raise _not_by_this_client(job, target, error) from error

    def array_limit(self, target: Target, shape: Shape) -> int:
        """Of the cluster: MaxArraySize and MaxJobCount, read once."""
        if self._array_limit is None:
            try:
                self._array_limit = array_limit_of(self._client.settings())
            except (SlurmSilent, SlurmRefused):
                return _DEFAULT_MAX_ARRAY_SIZE - 1
        return self._array_limit

    def listen(self, wake: Callable[[], None]) -> None:
        """Slurm tells nobody: it is asked."""

    def submit(self, submission: Submission) -> Accepted:
        options: SlurmOptions = submission.target.options
        log_dir = self._logs / submission.submission_id
        request = self._request(submission, log_dir)
        log_dir.mkdir(parents=True, exist_ok=True)
        manifest = self._manifests / submission.submission_id
        _write_private(manifest, encode_manifest(submission, self._context))
        script = batch_script(
            name=submission.name,
            python=options.python,
            manifest=manifest,
            exit_records=self._exit_records,
            scratch=self._scratch(submission.target),
        )
        with self._submitting:
            job_id = self._submit(submission, request, script)
            self._job_ids.add(job_id)
        count = len(submission.tasks)
        return Accepted(
            job_id,
            {
                task.task_id: task_id_of(job_id, index, count)
                for index, task in enumerate(submission.tasks)
            },
        )

    def poll(self, active: Sequence[Active]) -> Iterable[Update]:
        return self._watcher.poll(active)

    def cancel(self, active: Sequence[Active]) -> None:
        """One scancel for all, then a look until none is left; SIGKILL for what lingers.

        Raises TakedaError naming the jobs that are still there in the end.
        """
        self._cancelled.set()
        with self._submitting:  # a submission under way is accepted first, then cancelled with all
            ids = self._job_ids | {one.accepted.external_id for one in active}
        if not ids:
            return
        started = time.monotonic()
        killed = False
        left = sorted(ids)
        pause = 0.1
        while time.monotonic() - started < CANCEL_SECONDS:
            try:
                self._client.cancel(left)
                if killed:
                    self._client.cancel(left, kill=True)
                left = self._still_there(ids)
            except (SlurmSilent, SlurmRefused):
                pass  # what was asked to end is asked again
            else:
                if not left:
                    return
            killed = time.monotonic() - started > CANCEL_KILL_SECONDS
            time.sleep(pause)
            pause = min(2 * pause, 2.0)
        raise TakedaError(
            f"these Slurm jobs would not end: {', '.join(left)}. Look with `squeue --me`, and end "
            f"them with `scancel {' '.join(left)}`."
        )

    def close(self) -> None:
        self._client.close()

    def _request(self, submission: Submission, log_dir: Path) -> JobRequest:
        return job_request(
            submission,
            submission.target.options,
            self._context.workdir,
            log_dir,
            environment=submission_environment(os.environ),
        )

    def _submit(self, submission: Submission, request: JobRequest, script: str) -> str:
        """The job's id. After a call that may or may not have come through, the job is looked for
        by its name, which is unique, so that it is never sent twice."""
        pauses = iter(SUBMIT_PAUSES_SECONDS)
        in_doubt = False
        while True:
            if self._cancelled.is_set():
                raise SubmissionError(FailureKind.INTERRUPTED, "the run was cancelled")
            try:
                found = self._client.find(submission.name) if in_doubt else None
                return found or self._client.submit(request, script)
            except SlurmFull as error:
                raise SubmissionError(FailureKind.NO_CAPACITY, str(error)) from error
            except SlurmRefused as error:
                raise _refusal(str(error), submission.target) from error
            except SlurmSilent as error:
                in_doubt = True
                pause = next(pauses, None)
                if pause is None:
                    raise SubmissionError(
                        FailureKind.NO_CAPACITY,
                        f"Slurm's controller does not answer: {error}",
                        "`scontrol ping` says more.",
                    ) from error
                self._cancelled.wait(pause)

    def _still_there(self, ids: set[str]) -> list[str]:
        return sorted(
            {
                sighting.external_id.partition("_")[0]
                for sighting in self._client.unfinished()
                if sighting.external_id.partition("_")[0] in ids
            }
        )

    def _scratch(self, target: Target) -> Path:
        scratch: str | None = target.options.scratch
        return Path(scratch) if scratch else self._context.state_dir / "scratch"

    def _check_scratch(self, target: Target) -> None:
        scratch = self._scratch(target)
        try:
            scratch.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=scratch):
                pass
        except OSError as error:
            raise TakedaError(
                f"target {target.name}: its scratch {scratch} can't be written: {error.strerror}. "
                "Name a folder on a file system that this machine and the nodes share."
            ) from error


def array_limit_of(settings: dict[str, str]) -> int:
    """Most tasks of one array: below MaxArraySize, MaxJobCount and the scheduler's own limit."""

    def number(name: str, default: int) -> int:
        value = settings.get(name, "").split()
        return int(value[0]) if value and value[0].isdigit() else default

    limits = [
        number("MaxArraySize", _DEFAULT_MAX_ARRAY_SIZE) - 1,
        number("MaxJobCount", _DEFAULT_MAX_JOB_COUNT) - 1,
    ]
    if match := re.search(r"max_array_tasks=(\d+)", settings.get("SchedulerParameters", "")):
        limits.append(int(match[1]))
    return max(1, min(limits))


def _check_partitions(target: Target, known: Sequence[str]) -> None:
    for name in partitions_of(target.options):
        if name not in known:
            raise TakedaError(
                f"target {target.name}: the cluster has no partition {name!r}.{_nearest(name, known)}"
            )


def _not_by_this_client(job: JobSpec, target: Target, error: ValueError) -> SubmissionError:
    return SubmissionError(
        FailureKind.CONFIGURATION,
        f"rule {job.rule} on target {target.name}: {error}",
        "Leave the option out, or set `client: command-line` for the target.",
    )


def _refusal(words: str, target: Target) -> SubmissionError:
    """sbatch's own words, with what to change."""
    if _NO_ROOM.search(words):
        return SubmissionError(FailureKind.NO_CAPACITY, words)
    advice = (
        f"Change the rule's resources, or target {target.name} in the routing policy; "
        "`sinfo` and `scontrol show partition` show what the cluster has."
    )
    return SubmissionError(FailureKind.CONFIGURATION, f"sbatch: {words}", advice)


def _nearest(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" It has: {', '.join(known) or 'none'}."


def _write_private(path: Path, content: bytes) -> None:
    """All of it or nothing, and for its owner only: a manifest holds command lines."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.touch(mode=0o600)
    temporary.write_bytes(content)
    temporary.replace(path)
