"""The backend: submits hand-offs as runs, watches them with one listing, and passes on how they ended."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NoReturn

from snakemake_executor_takeda.backends import aws
from snakemake_executor_takeda.backends.base import (
    RunContext,
    SubmissionDelayed,
    SubmissionError,
)
from snakemake_executor_takeda.backends.healthomics import (
    batches,
    definitions,
    delivery,
    diagnosis,
    ready2run,
    requests,
)
from snakemake_executor_takeda.backends.healthomics.definition import Definition
from snakemake_executor_takeda.backends.healthomics.ending import Ending
from snakemake_executor_takeda.backends.healthomics.failures import refusal
from snakemake_executor_takeda.backends.healthomics.journal import Journal
from snakemake_executor_takeda.backends.healthomics.options import HealthOmicsOptions
from snakemake_executor_takeda.backends.healthomics.pacing import Looks, Slot, StartBucket
from snakemake_executor_takeda.backends.healthomics.registry import (
    Placing,
    Registered,
    Registry,
)
from snakemake_executor_takeda.backends.healthomics.starting import (
    MAX_GENERATIONS,
    MAX_LISTED_PAGES,
    Handle,
    Spent,
    Starter,
    Throttled,
    Unanswered,
    Wanted,
)
from snakemake_executor_takeda.values import (
    Accepted,
    Active,
    FailureKind,
    JobSpec,
    NamedFiles,
    Outcome,
    Remembered,
    Shape,
    Submission,
    TakedaError,
    Target,
    Task,
    Update,
)

_ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED", "DELETED"})
_STARTED = frozenset({"RUNNING", "STOPPING"})
_MAX_DELIVERY_ATTEMPTS = 5
_DELIVERY_PATIENCE_SECONDS = 2.0
_CANCEL_PATIENCE_SECONDS = 20.0
_MAX_LOSSES_TOLD = 5
_LONGEST_WAIT_SECONDS = 30.0
_UNANSWERED_TRIES = 20
"""With growing waits, about nine minutes."""
_SPENT_LOOKS = 4
"""Half a minute in all: a listing that lags behind has what was started by then."""
_MAX_SPENT = 3
_SILENCE_SECONDS = 1800.0
_NOTED_WAIT_SECONDS = 10.0
_PREPARED_AT_ONCE = 200
"""Hand-offs; each costs a question to S3 for each of its inputs."""

_REFUSED = "refused"
"""In place of a run's id."""
_IN_BATCH = re.compile(r"batch (\S+): ")
"""As Handle.external_id has it."""

_log = logging.getLogger("takeda")


@dataclass
class _Pending:
    """A submission on its way: what is left to start, across calls of `submit`."""

    tasks: tuple[Task, ...]
    wanted: dict[str, Wanted] = field(default_factory=dict)
    """By task id; a task that cannot be submitted is in `refused` instead."""
    definitions: dict[str, Definition] = field(default_factory=dict)
    """The workflow that each task was fitted to: its file may be edited while the run goes on."""
    refused: dict[str, SubmissionError] = field(default_factory=dict)
    handles: dict[str, Handle] = field(default_factory=dict)
    to_start: list[list[tuple[str, int]]] = field(default_factory=list)
    """Groups that one call starts: task ids with the generation of each."""
    is_prepared: bool = False
    is_looked_up: bool = False
    slot: Slot | None = None
    unanswered: int = 0
    spent: int = 0
    """Looks for what a spent requestId has started."""
    passed_over: int = 0
    """Generations."""
    said_waiting: bool = False


@dataclass
class _Watched:
    """An open task between two polls."""

    task: Task
    handle: Handle | None
    definition: Definition | None = None
    refusal: Outcome | None = None
    said_started: bool = False
    outcome: Future[Outcome] | None = None
    attempts: int = 0
    silent_since: float | None = None
    """By the monotonic clock: since when there is no answer about how it ended."""


class HealthOmicsBackend:
    """One run per task; workflows are registered once per content and remembered."""

    finds_its_runs = True
    outlives_controller = True

    def __init__(self, targets: Sequence[Target], context: RunContext) -> None:
        self._targets = targets
        self._context = context
        self._lock = threading.Lock()
        self._is_silent = False
        self._cancelled = threading.Event()
        """From a cancel to the next submission: what was on its way starts nothing more."""
        self._definitions = definitions.Definitions(
            (context.basedir, context.workdir), ready2run.Known(lambda: self._omics).of
        )
        self._registries: dict[str, Registry] = {}
        # The quota is the account's: targets that say different things share the lowest.
        self._bucket = StartBucket(min(self._options(one).start_runs_per_second for one in targets))
        self._looks = Looks()
        self._pending: dict[str, _Pending] = {}
        self._watched: dict[str, _Watched] = {}
        self._clients: dict[str, Any] = {}
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="takeda-omics")
        self._journal: Journal | None = None
        self._ending = Ending(
            lambda: self._omics, lambda: self._s3, lambda: self._logs, context.workdir
        )

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
        with aws.readable_errors("HealthOmics"):
            self._prepared(job, target)

    def array_limit(self, target: Target, shape: Shape) -> int:
        return batches.LIMIT if self._options(target).batch else 1

    def listen(self, wake: Callable[[], None]) -> None:
        """HealthOmics is asked."""

    def submit(self, submission: Submission) -> Accepted:
        """Each call goes as far as the service's rate allows; what is left waits for the next."""
        from botocore.exceptions import ClientError

        if submission.submission_id not in self._pending:
            self._cancelled.clear()
            self._pending[submission.submission_id] = _Pending(submission.tasks)
        pending = self._pending[submission.submission_id]
        try:
            with aws.readable_errors("HealthOmics"):
                self._advance(pending)
        except SubmissionDelayed:
            raise
        except BaseException as error:
            if not pending.handles:
                del self._pending[submission.submission_id]
                if isinstance(error, TakedaError):
                    raise SubmissionError(FailureKind.CONFIGURATION, str(error)) from error
                if isinstance(error, ClientError):
                    raise _refused(error) from error
                raise
            # Some of its runs are started, and must be watched.
            self._refuse_rest(pending, error)
        return self._accept(submission, self._pending.pop(submission.submission_id))

    def reattach(self, remembered: Remembered) -> Accepted | None:
        """`submit` finds what the journal has."""
        return None

    def poll(self, active: Sequence[Active]) -> Iterable[Update]:
        from botocore.exceptions import ClientError

        open_tasks = [
            self._watched[task_id]
            for one in active
            for task_id in sorted(one.open_task_ids)
            if task_id in self._watched
        ]
        statuses: dict[str, str] = {}
        if self._looks.is_due:
            try:
                with aws.readable_errors("HealthOmics"):
                    self._find_places(open_tasks)
                    statuses = self._statuses(_run_ids(open_tasks))
            except (TakedaError, ClientError) as error:
                if not self._is_silent:
                    self._is_silent = True
                    _log.warning(
                        "HealthOmics does not say how the runs do, asking again: %s", error
                    )
                return
            finally:
                self._looks.done()
            self._is_silent = False
        for watched in open_tasks:
            handle = watched.handle
            status = statuses.get(handle.run_id or "") if handle else None
            if handle and status in _STARTED and not watched.said_started:
                watched.said_started = True
                yield Update(watched.task.task_id, detail={"run_id": handle.run_id})
            if handle and status in _ENDED and watched.outcome is None:
                assert watched.definition is not None
                watched.outcome = self._pool.submit(
                    self._finish, handle, watched.task.job, watched.definition
                )
        yield from self._finished(open_tasks)

    def end(self, active: Active) -> None:
        """Of an earlier controller's, whose jobs have changed since."""
        handles = _handles_of_earlier([active], ())
        with aws.readable_errors("HealthOmics"), ThreadPoolExecutor(8) as pool:
            self._cancel({one for one in handles if one.batch_id is None}, pool)
            self._cancel_batches({one.batch_id for one in handles if one.batch_id})

    def cancel(self, active: Sequence[Active]) -> None:
        self._cancelled.set()
        wanted = {task_id for one in active for task_id in one.open_task_ids}
        # Of one whose outputs are being copied there is nothing to end, and its run is as good as ever.
        handles = [
            watched.handle
            for task_id, watched in self._watched.copy().items()
            if task_id in wanted and watched.handle and watched.outcome is None
        ]
        for one in list(self._pending.values()):
            handles += one.handles.values()
        handles += _handles_of_earlier(active, self._watched.keys())
        if any(not one.accepted.external_id for one in active):
            with aws.readable_errors("HealthOmics"):
                handles += self._starter.going_on()
        if not handles:
            return
        with (
            aws.readable_errors("HealthOmics"),
            ThreadPoolExecutor(8, thread_name_prefix="takeda-cancel") as pool,
        ):
            # Written down first: whoever starts the pipeline again must not wait for these runs.
            self._starter.ended(handles, "CANCELLED")
            self._cancel({one for one in handles if one.batch_id is None}, pool)
            self._cancel_batches({one.batch_id for one in handles if one.batch_id})
            statuses = self._statuses({one.run_id for one in handles if one.run_id})
            self._starter.completed(
                one for one in handles if statuses.get(one.run_id or "") == "COMPLETED"
            )
            self._tell_losses([one.run_id for one in handles if one.run_id], len(handles))

    def close(self) -> None:
        self._ending.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._journal is not None:
            self._journal.close()

    # Submitting.

    def _advance(self, pending: _Pending) -> None:
        """Raises SubmissionDelayed as long as something is left to start."""
        from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

        try:
            if not pending.is_prepared:
                self._prepare(pending)
            if not pending.is_looked_up:
                self._look_up(pending)
        except (ClientError, ConnectionError, HTTPClientError) as error:
            if isinstance(error, ClientError) and not _passes(error):
                raise
            self._delay_unanswered(pending, error, "AWS does not answer")
        while pending.to_start:
            self._await_slot(pending)
            self._start_next(pending)

    def _start_next(self, pending: _Pending) -> None:
        """One call, for the first group that is left."""
        self._pause(0.0)
        group = pending.to_start[0]
        asked = [(pending.wanted[task_id], generation) for task_id, generation in group]
        pending.slot = None
        self._bucket.sent()
        handles: Sequence[Handle | int]
        try:
            if len(asked) == 1:
                handles = [self._starter.start(*asked[0])]
            else:
                handles = self._starter.start_batch(asked)
        except Throttled as error:
            self._bucket.refused()
            _log.debug("HealthOmics takes no run at present: %s", error)
            return
        except Unanswered as error:
            self._delay_unanswered(pending, error, "HealthOmics did not answer StartRun")
        except Spent as error:
            self._after_spent(pending, error)
            return
        self._bucket.taken()
        pending.unanswered = 0
        pending.to_start.pop(0)
        for (task_id, _), handle in zip(group, handles, strict=True):
            if isinstance(handle, Handle):
                pending.handles[task_id] = handle
            else:
                self._pass_over(pending, [(task_id, handle)])

    def _pause(self, seconds: float) -> None:
        """Raises SubmissionError where all is being cancelled."""
        if self._cancelled.wait(seconds):
            raise SubmissionError(FailureKind.USER, "cancelled before it was started")

    def _after_spent(self, pending: _Pending, error: Spent) -> None:
        """Looks for what was started, then goes on with the next generation. Raises SubmissionDelayed."""
        if pending.spent < _SPENT_LOOKS:
            pending.spent += 1
            pending.is_looked_up = False
            raise SubmissionDelayed(2.0**pending.spent) from error
        if pending.passed_over >= _MAX_SPENT:
            # It is no token's conflict, but one of the workflow.
            raise SubmissionError(FailureKind.CONFIGURATION, str(error)) from error
        group = pending.to_start.pop(0)
        self._starter.pass_over((pending.wanted[task_id], number) for task_id, number in group)
        self._pass_over(pending, [(task_id, number + 1) for task_id, number in group])

    def _pass_over(self, pending: _Pending, group: list[tuple[str, int]]) -> None:
        pending.passed_over += 1
        if pending.passed_over > MAX_GENERATIONS:
            name = pending.wanted[group[0][0]].request.run_name
            raise SubmissionError(
                FailureKind.CONFIGURATION,
                f"{MAX_GENERATIONS} equal runs named {name} have failed",
                "look at them with `aws omics list-runs`; delete them or change the rule to go on",
            )
        pending.to_start.insert(0, group)

    def _prepare(self, pending: _Pending) -> None:
        """What each task asks for; a bad one does not take the others with it. Of many some at a time, since
        open runs are looked at in between."""
        from botocore.exceptions import ClientError

        begun = len(pending.wanted) + len(pending.refused)
        for task in pending.tasks[begun : begun + _PREPARED_AT_ONCE]:
            try:
                wanted, definition = self._wanted(task)
                pending.definitions[task.task_id] = definition
                pending.wanted[task.task_id] = wanted
            except SubmissionError as error:
                pending.refused[task.task_id] = error
            except TakedaError as error:
                pending.refused[task.task_id] = SubmissionError(
                    FailureKind.CONFIGURATION, str(error)
                )
            except ClientError as error:
                if _passes(error):
                    raise
                pending.refused[task.task_id] = _refused(error)
        if begun + _PREPARED_AT_ONCE < len(pending.tasks):
            raise SubmissionDelayed(0.0)
        if not pending.wanted:
            raise next(iter(pending.refused.values()))
        pending.is_prepared = True

    def _look_up(self, pending: _Pending) -> None:
        open_ids = [task_id for task_id in pending.wanted if task_id not in pending.handles]
        found = self._starter.look_up([pending.wanted[task_id] for task_id in open_ids])
        groups: dict[tuple[Registered, str], list[tuple[str, int]]] = {}
        pending.to_start = []
        for task_id, one in zip(open_ids, found, strict=True):
            if isinstance(one, Handle):
                pending.handles[task_id] = one
                continue
            request = pending.wanted[task_id].request
            if request.options.batch:
                settings = json.dumps(request.engine_settings, sort_keys=True)
                groups.setdefault((request.registered, settings), []).append((task_id, one))
            else:
                pending.to_start.append([(task_id, one)])
        pending.to_start += groups.values()
        pending.is_looked_up = True

    def _await_slot(self, pending: _Pending) -> None:
        """Raises SubmissionDelayed until it is this submission's turn."""
        if pending.slot is None:
            pending.slot = self._bucket.reserve()
        seconds = self._bucket.seconds_until(pending.slot)
        if seconds is None:
            pending.slot = self._bucket.reserve()
            seconds = self._bucket.seconds_until(pending.slot) or 0.0
        if seconds <= 0:
            return
        note = ""
        if seconds > _NOTED_WAIT_SECONDS and not pending.said_waiting:
            pending.said_waiting = True
            note = (
                f"{pending.tasks[0].job.rule}: starts in {seconds:.0f} s: HealthOmics takes "
                f"{self._bucket.per_second:g} StartRun a second (start_runs_per_second)"
            )
        raise SubmissionDelayed(seconds, note)

    def _delay_unanswered(self, pending: _Pending, error: Exception, what: str) -> NoReturn:
        """Whether there is a run now is looked up before the call is made again."""
        pending.unanswered += 1
        pending.is_looked_up = False
        if pending.unanswered > _UNANSWERED_TRIES:
            raise SubmissionError(
                FailureKind.NODE_FAILURE,
                f"{what} {pending.unanswered} times: {error}",
                "see whether HealthOmics is up in this region; the next run of the pipeline looks for "
                "what may have been started",
            ) from error
        seconds = min(2.0**pending.unanswered, _LONGEST_WAIT_SECONDS)
        raise SubmissionDelayed(
            seconds,
            f"{what}, looking again in {seconds:.0f} s: {error}" if pending.unanswered == 1 else "",
        ) from error

    def _refuse_rest(self, pending: _Pending, error: BaseException) -> None:
        if not isinstance(error, (SubmissionError, TakedaError, Exception)):
            raise error
        refused = (
            error
            if isinstance(error, SubmissionError)
            else SubmissionError(FailureKind.CONFIGURATION, str(error))
        )
        for task in pending.tasks:
            if task.task_id not in pending.handles:
                pending.refused.setdefault(task.task_id, refused)

    def _accept(self, submission: Submission, pending: _Pending) -> Accepted:
        ids: dict[str, str] = {}
        for task in submission.tasks:
            handle = pending.handles.get(task.task_id)
            refused = None
            if handle is None:
                error = pending.refused[task.task_id]
                refused = Outcome(error.kind, reason=error.reason, advice=error.advice)
            elif handle.adopted:
                _log.info(
                    "run %s already does what rule %s asks", handle.external_id, task.job.rule
                )
            self._watched[task.task_id] = _Watched(
                task, handle, pending.definitions.get(task.task_id), refused
            )
            ids[task.task_id] = handle.external_id if handle else _REFUSED
        of_batch = {one.batch_id for one in pending.handles.values() if one.batch_id}
        whole = f"batch {', '.join(sorted(of_batch))}" if of_batch else next(iter(ids.values()))
        adopted = sum(one.adopted for one in pending.handles.values())
        return Accepted(whole, ids, {"adopted": adopted} if adopted else {})

    def _wanted(self, task: Task) -> tuple[Wanted, Definition]:
        job = task.job
        options = self._options(task.target)
        prepared = self._prepared(job, task.target)
        definition = prepared.definition
        if prepared.package is None:
            assert isinstance(definition, ready2run.Ready2Run)
            registered = Registered(definition.id, None, "READY2RUN")
        else:
            registered = self._registry(task.target).ensure(prepared.package)
        request = requests.RunRequest(
            registered=registered,
            parameters=prepared.parameters,
            # All of them: those without a name are often listed in a file, or lie beside one.
            input_tags=delivery.input_tags(
                self._s3, _in_s3(prepared.used), _in_s3(_uris(job.inputs))
            ),
            job=job,
            options=options,
            engine_settings=requests.merged_settings(
                options.engine_settings, prepared.engine_settings, job.source_line, task.target.name
            ),
        )
        is_intact = partial(self._ending.is_intact, job=job, definition=definition)
        return Wanted(request, is_intact), definition

    def _prepared(self, job: JobSpec, target: Target) -> definitions.Prepared:
        """The workflow, what is registered of it, and the run's parameters. Raises TakedaError."""
        prepared = definitions.prepare(job, self._definitions)
        requests.check_size(prepared.parameters, job.source_line)
        options = self._options(target)
        if prepared.package is None and options.batch:
            raise TakedaError(
                f"{job.source_line}: Ready2Run workflows cannot be started in batches; route "
                f"{job.resources['handoff']} to a target without `batch: true`"
            )
        engine = "WDL" if prepared.package is None else prepared.package.engine
        if options.engine_settings is not None and engine != "NEXTFLOW":
            raise TakedaError(
                f"{job.source_line}: target {target.name} has engine_settings, which HealthOmics takes for "
                f"Nextflow workflows only; route {job.resources['handoff']} to a target without them"
            )
        requests.merged_settings(
            options.engine_settings, prepared.engine_settings, job.source_line, target.name
        )
        return prepared

    def _registry(self, target: Target) -> Registry:
        if target.name not in self._registries:
            options = self._options(target)
            placing = Placing(
                options.definition_uri or aws.join_s3_uri(options.output_uri, "definitions"),
                options.container_registry_map.as_request(),
                options.registration_poll_seconds,
                options.registration_timeout_seconds,
            )
            self._registries[target.name] = Registry(
                self._omics, lambda: self._s3, placing, self._pause
            )
        return self._registries[target.name]

    # Watching.

    def _find_places(self, open_tasks: Sequence[_Watched]) -> None:
        """What the batches have made of their places, one question for all places of a batch."""
        waiting: dict[str, dict[str, _Watched]] = {}
        for watched in open_tasks:
            handle = watched.handle
            if handle and handle.run_id is None and handle.batch_id and handle.setting_id:
                waiting.setdefault(handle.batch_id, {})[handle.setting_id] = watched
        for batch_id, settings in waiting.items():
            found_places = batches.places(self._omics, batch_id, settings, self._looks.counted)
            begun, refused = [], []
            for setting, found in found_places.items():
                watched = settings[setting]
                assert watched.handle is not None
                if isinstance(found, Outcome):
                    refused.append(watched.handle)
                    watched.refusal = found
                else:
                    watched.handle = replace(watched.handle, run_id=found.run_id, uuid=found.uuid)
                    begun.append(watched.handle)
            if refused:
                self._starter.ended(refused, "FAILED")
            if begun:
                self._starter.started(begun)

    def _statuses(self, wanted: set[str]) -> dict[str, str]:
        """Status by run id: one listing for all; single questions only for what it does not show."""
        statuses: dict[str, str] = {}
        if not wanted:
            return statuses
        # An account may keep ten thousands of old runs, and ours are among the newest.
        most = 100 * MAX_LISTED_PAGES + 2 * len(wanted)
        pages = self._omics.get_paginator("list_runs").paginate(
            PaginationConfig={"PageSize": 100, "MaxItems": most}
        )
        for page in self._looks.counted(pages):
            for item in page["items"]:
                if item["id"] in wanted:
                    statuses.setdefault(item["id"], item["status"])
            if len(statuses) == len(wanted):
                return statuses
        for run_id in self._looks.counted(wanted - statuses.keys()):
            run = self._starter.run(run_id, None)
            statuses[run_id] = "DELETED" if run is None else run["status"]
        return statuses

    def _finished(self, open_tasks: Sequence[_Watched]) -> Iterator[Update]:
        """Copies go on beside the polls; a short wait spares small ones another round."""
        wait(
            [one.outcome for one in open_tasks if one.outcome is not None],
            timeout=_DELIVERY_PATIENCE_SECONDS,
        )
        for watched in open_tasks:
            outcome = watched.refusal
            if outcome is None and watched.outcome is not None and watched.outcome.done():
                outcome = self._result(watched)
            if outcome is not None:
                del self._watched[watched.task.task_id]
                yield Update(watched.task.task_id, outcome)

    def _finish(self, handle: Handle, job: JobSpec, definition: Definition) -> Outcome:
        """Raises TakedaError where nothing answers, or the credentials are of no use."""
        with aws.readable_errors("AWS"):
            return self._ending.finish(self._starter, handle, job, definition)

    def _result(self, watched: _Watched) -> Outcome | None:
        """None to try again: the run has ended, but S3 or HealthOmics did not answer about it."""
        from botocore.exceptions import BotoCoreError, ClientError

        assert watched.outcome is not None
        assert watched.handle is not None
        run_id = watched.handle.run_id
        error = watched.outcome.exception()
        if error is None:
            return watched.outcome.result()
        if isinstance(error, TakedaError) or (isinstance(error, ClientError) and _passes(error)):
            return self._after_silence(watched, error)
        if not isinstance(error, (ClientError, BotoCoreError)):
            return Outcome(
                FailureKind.CONFIGURATION,
                reason=f"run {run_id} ended, but its result is of no use: "
                f"{type(error).__name__}: {error}",
            )
        watched.attempts += 1
        denied = isinstance(error, ClientError) and aws.is_denied(error)
        if not denied and watched.attempts < _MAX_DELIVERY_ATTEMPTS:
            watched.outcome = None
            return None
        return Outcome(
            FailureKind.CONFIGURATION,
            reason=f"run {run_id} ended, but its result could not be fetched: {error}",
            advice="allow reading from the target's output_uri and writing to the rule's outputs",
        )

    def _after_silence(self, watched: _Watched, error: BaseException) -> Outcome | None:
        """The result stays where it is until AWS answers, or the credentials are renewed."""
        assert watched.handle is not None
        run_id = watched.handle.run_id
        now = time.monotonic()
        if watched.silent_since is None:
            watched.silent_since = now
            _log.warning("run %s ended, but its result cannot be fetched yet: %s", run_id, error)
        if now - watched.silent_since < _SILENCE_SECONDS:
            watched.outcome = None
            return None
        return Outcome(
            FailureKind.NODE_FAILURE,
            reason=f"run {run_id} ended, but its result could not be fetched for "
            f"{_SILENCE_SECONDS / 60:.0f} min: {error}",
            advice="the next attempt finds the run, if it completed",
        )

    # Cancelling.

    def _cancel(self, handles: set[Handle], pool: ThreadPoolExecutor) -> None:
        left = {one.run_id for one in handles if one.run_id}
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

    def _cancel_batches(self, batch_ids: set[str]) -> None:
        """A batch ends with all its runs, those that are yet to be started among them."""
        deadline = time.monotonic() + _CANCEL_PATIENCE_SECONDS
        left = set(batch_ids)
        while left:
            for batch_id in sorted(left):
                with self._already_over():
                    self._omics.cancel_run_batch(batchId=batch_id)
            left = {
                one
                for one in left
                if self._omics.get_batch(batchId=one)["status"]
                in ("CREATING", "PENDING", "SUBMITTING", "INPROGRESS")
            }
            if left and time.monotonic() > deadline:
                raise TakedaError(
                    f"HealthOmics batches {', '.join(sorted(left))} could not be cancelled; "
                    "try `aws omics cancel-run-batch --batch-id …`"
                )
            if left:
                time.sleep(0.5)

    def _cancel_one(self, run_id: str) -> None:
        with self._already_over():
            self._omics.cancel_run(id=run_id)

    @contextlib.contextmanager
    def _already_over(self) -> Iterator[None]:
        refusals = self._omics.exceptions
        # What these say is that it has ended, or is ending.
        with contextlib.suppress(
            refusals.ConflictException,
            refusals.ResourceNotFoundException,
            refusals.ValidationException,
        ):
            yield

    def _tell_losses(self, run_ids: Sequence[str], total: int) -> None:
        for run_id in run_ids[:_MAX_LOSSES_TOLD]:
            run = self._starter.run(run_id, None)
            if run is not None and run["status"] in ("STOPPING", "CANCELLED"):
                lost = diagnosis.lost_with(self._omics, run)
                self._context.say(f"run {run_id} is cancelled: {lost}")
        more = total - min(len(run_ids), _MAX_LOSSES_TOLD)
        if more > 0:
            self._context.say(f"{more} more runs are cancelled; a cancelled run saves no outputs")

    # Clients, made when first used.

    @property
    def _starter(self) -> Starter:
        with self._lock:
            if self._journal is None:
                self._journal = Journal(
                    self._context.workdir / ".snakemake" / "takeda" / "ledger.sqlite"
                )
        return Starter(
            self._omics, self._once, lambda: self._s3, self._journal, self._context.run_id
        )

    @property
    def _omics(self) -> Any:
        return self._client("omics")

    @property
    def _once(self) -> Any:
        """For calls that must not be repeated without a look."""
        return self._client("omics", max_attempts=1)

    @property
    def _s3(self) -> Any:
        return self._client("s3")

    @property
    def _logs(self) -> Any:
        return self._client("logs")

    def _client(self, service: str, max_attempts: int | None = None) -> Any:
        key = f"{service}/{max_attempts}"
        with self._lock:
            if key not in self._clients:
                self._clients[key] = (
                    aws.client(service)
                    if max_attempts is None
                    else aws.client(service, max_attempts=max_attempts)
                )
            return self._clients[key]

    @staticmethod
    def _options(target: Target) -> HealthOmicsOptions:
        assert isinstance(target.options, HealthOmicsOptions)
        return target.options


def _handles_of_earlier(active: Iterable[Active], watched: Collection[str]) -> list[Handle]:
    """Of runs that an earlier controller started, and whose jobs were not handed over to this one."""
    found = []
    for one in active:
        for task_id in one.open_task_ids - set(watched):
            external_id = one.accepted.task_external_ids.get(task_id) or ""
            if batch := _IN_BATCH.match(external_id):
                found.append(Handle("", 0, batch_id=batch[1]))
            elif external_id and external_id != _REFUSED:
                found.append(Handle("", 0, run_id=external_id))
    return found


def _run_ids(open_tasks: Iterable[_Watched]) -> set[str]:
    """Runs whose status is of interest: not of those whose end is seen to already."""
    return {
        one.handle.run_id
        for one in open_tasks
        if one.handle and one.handle.run_id and one.outcome is None and one.refusal is None
    }


def _refused(error: Any) -> SubmissionError:
    code = aws.error_code(error)
    kind, advice = refusal(code)
    return SubmissionError(kind, f"{code}: {aws.error_message(error)}", advice)


def _passes(error: Any) -> bool:
    """Whether a refusal is one of the moment, which the same call need not meet again."""
    return aws.is_throttling(error) or aws.http_status(error) >= 500


def _uris(inputs: Iterable[NamedFiles]) -> Iterator[str]:
    return (file.uri for named in inputs for file in named.files if file.uri)


def _in_s3(uris: Iterable[str]) -> list[str]:
    return [uri for uri in uris if uri.startswith("s3://")]


def _bucket_trouble(error: Any) -> str:
    status = aws.http_status(error)
    return {403: "may not be accessed", 404: "does not exist"}.get(
        status, f"does not answer: {aws.error_message(error)}"
    )
