"""One run: takes ready jobs, hands them on, and gives Snakemake exactly one report of each."""

from __future__ import annotations

import atexit
import gc
import os
import queue
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from snakemake_executor_takeda import assembly, jobs
from snakemake_executor_takeda.audit import facts, identity
from snakemake_executor_takeda.coalescing import Coalescer
from snakemake_executor_takeda.commands.inner import InnerSnakemake, with_memory
from snakemake_executor_takeda.dispatching import Dispatcher, Ready
from snakemake_executor_takeda.events import NO_JOB, EventLog, about
from snakemake_executor_takeda.fingerprints import Fingerprints
from snakemake_executor_takeda.interrupts import one_interrupt
from snakemake_executor_takeda.ledger import RESUMED, UNFINISHED, Ledger, sent_unseen
from snakemake_executor_takeda.open_jobs import OpenJob, OpenJobs
from snakemake_executor_takeda.opening import Backends
from snakemake_executor_takeda.outputs import MISSING
from snakemake_executor_takeda.reporting.costs import Prices, cost_line
from snakemake_executor_takeda.reporting.failures import failure_text
from snakemake_executor_takeda.reporting.live import (
    Live,
    check_progress,
    handler_at_terminal,
    is_wanted,
)
from snakemake_executor_takeda.reporting.money import NOTHING, Spend
from snakemake_executor_takeda.reporting.progress import NO_TARGET, Progress
from snakemake_executor_takeda.reporting.summary import Summary
from snakemake_executor_takeda.resuming import ControllerLock, unfinished_run
from snakemake_executor_takeda.retrying import Resubmit, memory_to_ask, next_step
from snakemake_executor_takeda.takeover import Takeover
from snakemake_executor_takeda.values import (
    Accepted,
    Active,
    FailureKind,
    File,
    JobSpec,
    Outcome,
    Placement,
    Remembered,
    Shape,
    Submission,
    TakedaError,
    Target,
    Task,
    Update,
)
from snakemake_executor_takeda.watching import Lane

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.base import RunContext
    from snakemake_executor_takeda.delivery import Delivery
    from snakemake_executor_takeda.ledger import KnownRun
    from snakemake_executor_takeda.ledger_copy import LedgerCopy
    from snakemake_executor_takeda.outputs import OutputCheck, S3Object
    from snakemake_executor_takeda.owning import Ownership
    from snakemake_executor_takeda.routing.policy import Policy

CANCEL_TIMEOUT_SECONDS = 60
CANCEL_GRACE_SECONDS = 3
NOT_LEFT = "it ended well, but did not leave"


class Run:
    """`take` → Dispatcher (route, coalesce) → Lane (submit, watch) → report to the executor.

    An open job is in `_open` until its one report. Its lane sends it again or passes its outcome on to
    the one reporting thread; the dispatcher reports what never came to a lane; what throws on the way
    ends in `_rescue`.
    Raises TakedaError where policy, targets or storage do not fit; nothing is left behind then.
    """

    def __init__(self, executor: Any) -> None:
        self._executor = executor
        self._workflow = executor.workflow
        self._logger = executor.logger
        self._lock = threading.Lock()
        self._open = OpenJobs()
        self._next_key = 0
        self._lanes: dict[str, Lane] = {}
        self._closers: list[Callable[[], None]] = []
        self._outcomes: queue.SimpleQueue[tuple[OpenJob, Outcome] | None] = queue.SimpleQueue()
        self._reporter = threading.Thread(target=self._report, name="takeda-reporter", daemon=True)
        self._cancelled = False
        self._detached = False
        self._is_left = False
        """Whether something that was to be ended goes on."""
        self._closed = False
        self._fingerprints = Fingerprints()
        self._delivery: Delivery | None = None
        self._ownership: Ownership | None = None
        self._copy: LedgerCopy | None = None
        self._jobs_need_variables = False
        self._summary = Summary()
        self._progress = Progress()
        self._prices = Prices()
        self._live: Live | None = None
        self._output_check: OutputCheck | None = None
        self._began: float | None = None
        """When its first event was written."""
        self._place: Callable[[JobSpec], Placement]
        self._fallback_of: Callable[[JobSpec, Target], str | None]
        try:
            self._assemble()
        except BaseException:
            self._close_all()
            raise

    def take(self, ready_jobs: list[Any]) -> None:
        """Take ready jobs and return at once."""
        ready = []
        for job in ready_jobs:
            self._executor.run_job_pre(job)
            key = self._next_key
            self._next_key += 1
            try:
                spec = self._describe(job)
                item = Ready(key, spec, self._inner.argv(job))
            except Exception as error:  # noqa: BLE001 - whatever is thrown, this job gets its report
                outcome = Outcome(FailureKind.CONFIGURATION, reason=str(error))
                message = failure_text(None, None, outcome)
                self._executor.report_job_error(SubmittedJobInfo(job), msg=f"{message}\n")
                continue
            open_job = OpenJob(job, item, about(spec))
            if history := self._takeover.history(spec.identity):
                open_job.history = history
                if more := memory_to_ask(history, self._targets, spec.shape.mem_mb):
                    open_job.ready = item = _with_memory(item, more)
            self._open.add(open_job)
            try:
                is_under_way = self._takeover.takes(open_job)
            except Exception as error:  # noqa: BLE001 - whatever is thrown, this job gets its report
                self._rescue(open_job, error)
                continue
            if not is_under_way:
                ready.append(item)
        self._dispatcher.hand_over(ready)

    def interrupt(self) -> None:
        """Ctrl-C: as `--takeda-on-interrupt` says."""
        if self._workflow.executor_settings.on_interrupt == "detach":
            self.detach()
        else:
            self.cancel()

    def detach(self) -> None:
        """Stop sending and watching; what was sent goes on without this process, where it can."""
        with self._lock:
            self._cancelled = self._detached = True
            lanes = list(self._lanes.values())
        self._dispatcher.stop()
        for lane in lanes:
            lane.stop(cancelling=not lane.backend.outlives_controller)
        for lane in lanes:
            if lane.backend.outlives_controller:
                # What is being sent is accepted first, and written down.
                _join(lane, CANCEL_TIMEOUT_SECONDS)
            else:
                self._cancel_lane(lane)
        self._open.clear()

    def cancel(self) -> None:
        """Stop sending, then end in every backend, all at once, what was sent."""
        with self._lock:
            is_first, self._cancelled = not self._cancelled, True
            lanes = list(self._lanes.values())
        if is_first:
            # Before the first job is ended: whoever is killed from here on, its end is no failure.
            self.record(self._ledger.begin_cancelling)
        self._dispatcher.stop()
        for lane in lanes:
            lane.stop(cancelling=True)
        threads = [
            threading.Thread(target=self._cancel_lane, args=(lane,), daemon=True) for lane in lanes
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            _join(thread, CANCEL_GRACE_SECONDS + 2 * CANCEL_TIMEOUT_SECONDS)
        for open_job in self._open.clear():
            if not open_job.has_ended:
                spend = self._end_attempt(open_job, "cancelled")
                self.event("cancelled", open_job, _usd(spend))

    def close(self) -> None:
        """Say what was done, and free everything. Safe to call twice."""
        if self._closed:
            return
        with self._lock:
            lanes = list(self._lanes.values())
        if not self._cancelled:
            # Snakemake may hand over nothing of what ended in between: it sees the outputs.
            self._takeover.wait_for_ends(lanes)
        self._dispatcher.stop()
        for lane in lanes:
            lane.stop()
        _join(self._dispatcher, CANCEL_TIMEOUT_SECONDS)
        for lane in lanes:
            # After a Ctrl-C only a poll can be under way, and nobody needs its answer.
            _join(lane, CANCEL_GRACE_SECONDS if self._cancelled else CANCEL_TIMEOUT_SECONDS)
        self._outcomes.put(None)
        _join(self._reporter, CANCEL_TIMEOUT_SECONDS)
        try:
            if self._live:
                self._live.stop()
            table = self._summary.text()
            cost = cost_line(
                self._progress.ended(), lambda name: self._prices.source(self._targets[name])
            )
            if table or cost:
                self._logger.info("\n" + "\n".join(filter(None, (table, cost))) + "\n")
        finally:
            self._close_all()

    # What the lanes tell (LaneListener).

    def intended(self, submission: Submission) -> None:
        self._ledger.intend(submission)
        # Before the call: an output that a job leaves half written is marked, whoever is killed when.
        for task in submission.tasks:
            open_job = self._open.of_task(task.task_id)
            if open_job:
                self.announce(open_job)

    def accepted(self, submission: Submission, accepted: Accepted) -> None:
        self.record(lambda: self._ledger.accept(submission, accepted))
        first = submission.tasks[0]
        count = len(submission.tasks)
        self._logger.info(
            f"takeda: {count} × {first.job.rule} → {submission.target.name} "
            f"({submission.target.backend} {accepted.external_id})"
        )
        for task in submission.tasks:
            open_job = self._open.of_task(task.task_id)
            if open_job is None:
                continue
            open_job.external_id = accepted.task_external_ids[task.task_id]
            told = {"submission": accepted.external_id, "tasks": count, **accepted.detail}
            self.event("submitted", open_job, told)
            self._progress.starts(open_job.ready.key, submission.target.name)

    def refused(self, submission: Submission, outcome: Outcome) -> None:
        self.record(lambda: self._ledger.refuse(submission, outcome))
        self._settle({task.task_id: outcome for task in submission.tasks})

    def reattached(self, remembered: Remembered, accepted: Accepted) -> None:
        self._takeover.reattached(remembered, accepted)

    def absent(self, remembered: Remembered) -> None:
        self._takeover.absent(remembered)

    def started(self, update: Update) -> None:
        open_job = self._open.of_task(update.task_id)
        if open_job and not open_job.started:
            open_job.started = True
            self.event("started", open_job, update.detail)
            self._count_running(open_job)

    def waits(self, update: Update) -> None:
        open_job = self._open.of_task(update.task_id)
        if open_job:
            self.event("waiting", open_job, {"reason": update.note, **update.detail})
            self._logger.warning(f"takeda: {update.note}")

    def ended(self, updates: list[Update]) -> None:
        outcomes = {update.task_id: update.outcome or Outcome() for update in updates}
        outcomes |= self._without_outputs(outcomes)
        self.record(lambda: self._ledger.end(outcomes))
        self._takeover.keep_for_later(outcomes)
        self._settle(self._without_removed(outcomes))

    def trouble(self, message: str) -> None:
        self._logger.warning(f"takeda: {message}")

    # What a takeover needs (Duties).

    def place_at(self, open_job: OpenJob, target: Target, reason: str) -> None:
        open_job.placement = self._as_of(open_job.ready.job, Placement(target, (reason,)))
        self._progress.starts(open_job.ready.key, target.name)

    def found_ended(self, outcomes: dict[str, Outcome]) -> None:
        self._settle(self._without_removed(outcomes | self._without_outputs(outcomes)))

    def found_done(self, open_job: OpenJob, outcome: Outcome) -> None:
        assert open_job.placement is not None
        self._note_end(open_job, open_job.placement, outcome)
        self._outcomes.put((open_job, outcome))

    def found_unclaimed(
        self, task: Task, external_id: str | None, outcome: Outcome | None, *, is_absent: bool
    ) -> None:
        told: dict[str, Any]
        if is_absent or outcome is None:
            event, told = "cancelled", {"reason": "it had never reached the service"}
        elif outcome.succeeded:
            event, told = "succeeded", {"wall_seconds": outcome.wall_seconds, **outcome.detail}
        else:
            event, told = "failed", {"kind": outcome.kind, "reason": outcome.reason}
        self.record(
            lambda: self._events.write(event, about(task.job), task.target, external_id, told)
        )

    def send(self, open_jobs: Iterable[OpenJob]) -> None:
        ready = [one.ready for one in open_jobs]
        if ready and not self._cancelled:
            self._dispatcher.hand_over(ready)

    def say(self, line: str) -> None:
        self._logger.info(f"takeda: {line}")

    # From an outcome to the one report.

    def _without_outputs(self, outcomes: Mapping[str, Outcome]) -> dict[str, Outcome]:
        """The failures behind those successes that left an output out."""
        if self._output_check is None:
            return {}
        outputs: dict[str, list[File]] = {}
        for task_id, outcome in outcomes.items():
            open_job = self._open.of_task(task_id)
            if outcome.succeeded and open_job:
                outputs[task_id] = list(jobs.products(open_job.ready.job))
        wanted = [file for one in outputs.values() for file in one if file.uri]
        try:
            problems = self._output_check.problems(wanted)
        except Exception as error:  # noqa: BLE001 - whatever is thrown, these jobs get their report
            problems = dict.fromkeys(wanted, repr(error))
        failures = {}
        for task_id, files in outputs.items():
            absent = {str(file.uri): problems[file] for file in files if file in problems}
            if not absent:
                continue
            if set(absent.values()) == {MISSING}:
                failures[task_id] = replace(
                    outcomes[task_id],
                    kind=FailureKind.USER,
                    reason=f"{NOT_LEFT} {', '.join(absent)}",
                    advice="look in the job's log whether the command writes exactly these outputs",
                )
            else:
                words = "; ".join(f"{uri}: {problem}" for uri, problem in absent.items())
                reason = f"it ended well, but its outputs could not be looked up: {words}"
                # It has run well: to send it again would do it twice.
                failures[task_id] = replace(
                    outcomes[task_id], kind=FailureKind.LOST, reason=reason, permanent=True
                )
        return failures

    def _without_removed(self, outcomes: dict[str, Outcome]) -> dict[str, Outcome]:
        """Those left when jobs of an earlier controller that ended well, and whose outputs somebody has
        removed since, are sent anew."""
        left = dict(outcomes)
        for task_id, outcome in outcomes.items():
            open_job = self._open.of_task(task_id)
            if open_job is None or not self._takeover.has_inherited(task_id):
                continue
            if not (
                outcome.reason.startswith(NOT_LEFT) or self._lacks_local_outputs(open_job, outcome)
            ):
                continue
            del left[task_id]
            self._open.unlink([task_id])
            spec = open_job.ready.job
            why = "its outputs are gone, of which an earlier controller of this run had it made"
            self.say(f"{spec.rule} (job {spec.job_id}) is made again: {why}")
            open_job.placement = None
            open_job.external_id, open_job.started = None, False
            self.event("resubmitted", open_job, {"reason": why})
            self.send([open_job])
        return left

    def _lacks_local_outputs(self, open_job: OpenJob, outcome: Outcome) -> bool:
        """Of a success, on a shared file system, which may be some seconds late."""
        if not outcome.succeeded or self._output_check:
            return False
        made = [Path(file.path) for file in jobs.products(open_job.ready.job)]
        deadline = time.monotonic() + self._workflow.execution_settings.latency_wait
        while not all(map(os.path.lexists, made)):
            if time.monotonic() > deadline:
                return True
            time.sleep(0.2)
        return False

    def _settle(self, outcomes: Mapping[str, Outcome]) -> None:
        """Send again what may be, and write down what has ended; leave the reports to another thread.
        Snakemake takes up one finished job at a time, which with S3 is tens of milliseconds each, and
        keeps whoever reports waiting: the lane has other jobs to submit and to watch meanwhile."""
        for task_id, outcome in outcomes.items():
            open_job = self._open.of_task(task_id)
            if open_job is None or open_job.placement is None or self._cancelled:
                continue
            if open_job.has_ended:
                continue  # said twice; its report is on the way
            try:
                if outcome.succeeded or not self._sent_again(open_job, open_job.placement, outcome):
                    self._note_end(open_job, open_job.placement, outcome)
                    self._outcomes.put((open_job, outcome))
            except Exception as error:  # noqa: BLE001 - one job's trouble must not keep the others
                self._rescue(open_job, error)

    def _note_end(self, open_job: OpenJob, placement: Placement, outcome: Outcome) -> None:
        open_job.has_ended = True
        spend = self._end_attempt(open_job, "done" if outcome.succeeded else "failed", outcome)
        self._summary.ended(open_job.ready.job, placement, outcome, spend)
        known = {"wall_seconds": outcome.wall_seconds, **outcome.detail, **_usd(spend)}
        if outcome.succeeded:
            made = facts.files(jobs.products(open_job.ready.job), self._known_of)
            self.event("succeeded", open_job, {**known, "outputs": made})
        else:
            told = {"kind": outcome.kind, "reason": outcome.reason, "exit_code": outcome.exit_code}
            told |= {"log": outcome.log_location}
            told |= {"given_up": open_job.given_up} if open_job.given_up else {}
            self.event("failed", open_job, {**known, **told})

    def _count_running(self, open_job: OpenJob) -> None:
        if open_job.placement:
            target, shape = open_job.placement.target, open_job.ready.job.shape
            hourly = self._prices.per_hour(target, shape)
            self._progress.runs(open_job.ready.key, target.name, hourly)

    def _end_attempt(self, open_job: OpenJob, how: str, outcome: Outcome | None = None) -> Spend:
        """Counts it; → what it has cost. Without an outcome it was ended where it was."""
        key, spend = open_job.ready.key, NOTHING
        target = open_job.placement.target if open_job.placement else None
        seconds = self._progress.seconds(key)
        if target and (outcome or seconds is not None):
            outcome, shape = outcome or Outcome(), open_job.ready.job.shape
            spend = self._prices.spend(target, shape, outcome, seconds)
        self._progress.ends(key, target.name if target else NO_TARGET, how, spend)
        return spend

    def _report(self) -> None:
        """The reporting thread."""
        while (item := self._outcomes.get()) is not None:
            open_job, outcome = item
            try:
                self._report_end(open_job, outcome)
            except Exception as error:  # noqa: BLE001 - one job's trouble must not keep the others
                self._rescue(open_job, error)

    def _rescue(self, open_job: OpenJob, error: Exception) -> None:
        """Something threw on the way to a job's report: Snakemake must hear of the job all the same."""
        self._logger.error(f"takeda: a job could not be reported in full: {error!r}")
        if self._forget(open_job) and not open_job.reported:
            self._workflow.scheduler.error_callback(open_job.job)

    def _forget(self, open_job: OpenJob) -> bool:
        return self._open.forget(open_job)

    def _report_end(self, open_job: OpenJob, outcome: Outcome) -> None:
        if self._cancelled:
            return
        if outcome.succeeded:
            self._look_again(open_job)
            self._fetch_for_input_functions(open_job)
            open_job.reported = True
            self._executor.report_job_success(open_job.info())
        else:
            self._report_failure(open_job, outcome)
        self._forget(open_job)

    def _look_again(self, open_job: OpenJob) -> None:
        try:
            jobs.look_again_at_directories(open_job.job, self._workflow.dag)
        except RuntimeError as error:  # the DAG may grow while its readers are counted
            self._logger.debug(f"takeda: {error}")

    def _fetch_for_input_functions(self, open_job: OpenJob) -> None:
        """Input functions list a checkpoint's directory on this machine. Snakemake does not fetch it
        from S3: they would find nothing, and the run would go on without those jobs."""
        if not (self._output_check and getattr(open_job.job, "is_checkpoint", False)):
            return
        made = jobs.products(open_job.ready.job)
        if directories := [file for file in made if file.is_directory and file.uri]:
            for file in directories:
                self._output_check.fetch_directory(file)
            # Snakemake (9.27) does not start again where the copy is there and its mark is, too: the
            # time in between is kept short.
            jobs.take_marks_away(open_job.job, self._workflow)

    def announce(self, open_job: OpenJob) -> None:
        if open_job.announced:
            return
        open_job.announced = True
        try:
            self._executor.report_job_submission(open_job.info())
        except Exception as error:  # noqa: BLE001 - the job runs, only its mark is missing
            self._logger.warning(f"takeda: Snakemake could not note a submission: {error!r}")

    def _sent_again(self, open_job: OpenJob, placement: Placement, outcome: Outcome) -> bool:
        target, spec = placement.target, open_job.ready.job
        step = next_step(
            outcome,
            target,
            open_job.history,
            fallback=self._fallback_of(spec, target),
            interruptions=self._workflow.executor_settings.interruptions,
            mem_mb=spec.shape.mem_mb,
        )
        if not isinstance(step, Resubmit):
            open_job.given_up = step.reason
            return False
        open_job.history = open_job.history.with_failure(target.name, outcome, open_job.external_id)
        spend = self._end_attempt(open_job, "interrupted", outcome)
        told = {"kind": outcome.kind, "reason": outcome.reason, "exit_code": outcome.exit_code}
        told |= {"log": outcome.log_location}
        self.event("interrupted", open_job, {**told, **_usd(spend)})
        self._summary.sent_again(spec, placement, spend)
        self._logger.info(
            f"takeda: {spec.rule} (job {spec.job_id}): {outcome.kind}: "
            f"{outcome.reason.rstrip('.')}. "
            f"It is sent again to {step.target}{f' with {step.mem_mb} MB' if step.mem_mb else ''}."
        )
        reason = f"sent again after: {step.reason}"
        open_job.placement = self._as_of(spec, Placement(self._targets[step.target], (reason,)))
        open_job.external_id, open_job.started = None, False
        more: dict[str, Any] = {} if step.mem_mb is None else {"resources": {"mem_mb": step.mem_mb}}
        more["delay_seconds"] = round(step.delay_seconds, 1)
        self.event("resubmitted", open_job, {"reason": reason, **more})
        self._progress.waits(open_job.ready.key, step.target)
        again = replace(open_job.ready, placement=open_job.placement)
        if step.mem_mb is not None:
            again = _with_memory(again, step.mem_mb)
        open_job.ready = again
        self._dispatcher.hand_over([again], step.delay_seconds)
        return True

    def _as_of(self, spec: JobSpec, placement: Placement) -> Placement:
        """The placement, its target with the fallback that this job may go to, if any: backends give a
        job up sooner where it has one."""
        target = placement.target
        fallback = self._fallback_of(spec, target)
        if fallback == target.fallback:
            return placement
        return replace(placement, target=replace(target, fallback=fallback))

    def _report_failure(self, open_job: OpenJob, outcome: Outcome) -> None:
        target = open_job.placement.target if open_job.placement else None
        message = failure_text(
            target, open_job.external_id, outcome, open_job.history, open_job.given_up
        )
        if open_job.job.is_group():
            # Snakemake drops the message of a failed group.
            self._logger.error(message)
        self._executor.report_job_error(open_job.info(), msg=f"{message}\n")
        open_job.reported = True

    def event(
        self, event: str, open_job: OpenJob, detail: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        target = open_job.placement.target if open_job.placement else None
        external_id = open_job.external_id
        self.record(lambda: self._events.write(event, open_job.about, target, external_id, detail))

    def record(self, write: Callable[[], None]) -> None:
        """Write to ledger or event log. A full disk must not take a job's report with it."""
        try:
            write()
        except (OSError, ValueError, sqlite3.Error) as error:
            self._logger.error(f"takeda: cannot write below .snakemake/takeda: {error}")

    # What the dispatcher calls.

    def _placed(self, ready: Ready, placement: Placement) -> None:
        open_job = self._open.get(ready.key)
        if open_job is None:
            return
        open_job.placement = placement
        self._progress.waits(ready.key, placement.target.name)
        if ready.placement is None:
            told = {
                "reasons": list(placement.reasons),
                "resources": facts.asked(ready.job.shape),
                "container": ready.job.container,
                "inputs": facts.files(jobs.sources(open_job.job), self._known_of),
            }
            self.event("placed", open_job, told)

    def _known_of(self, uri: str) -> S3Object | None:
        return self._output_check.found(uri) if self._output_check else None

    def _unsendable(self, ready: Ready, error: Exception) -> None:
        open_job = self._open.get(ready.key)
        if open_job is None or self._cancelled:
            return
        outcome = Outcome(FailureKind.CONFIGURATION, reason=str(error))
        try:
            self._end_attempt(open_job, "failed", outcome)
            self.event("failed", open_job, {"kind": outcome.kind, "reason": outcome.reason})
            self._report_failure(open_job, outcome)
        except Exception as trouble:  # noqa: BLE001 - one job's trouble must not keep the others
            self._rescue(open_job, trouble)
        self._forget(open_job)

    def _send(self, submission: Submission, keys: dict[str, int]) -> None:
        self._open.link(keys)
        self.lane(submission.target.backend).submit(submission)

    # Start and end.

    def _assemble(self) -> None:
        from snakemake_executor_takeda.routing.router import fallback_of, place

        if self._workflow.remote_execution_settings.immediate_submit:
            raise TakedaError(
                "--immediate-submit is not supported: the run places, watches and ends its jobs "
                "itself. Leave the flag out."
            )
        settings = self._workflow.executor_settings
        snakefile = Path(self._workflow.main_snakefile).resolve()
        commit = identity.asked_for_commit(snakefile.parent)
        self._factories = assembly.backend_factories()
        image = assembly.container_image_of(self._workflow)
        policy = assembly.policy_of(settings, self._factories, image)
        self._targets = policy.targets
        assembly.check_on_interrupt(settings.on_interrupt)
        check_progress(settings.progress)
        self._prices = assembly.prices_of(policy, self.trouble)
        workdir = Path.cwd()
        state = workdir / ".snakemake" / "takeda"
        self._open_copy(state / "ledger.sqlite", snakefile, workdir)
        known = self._unfinished_run(state / "ledger.sqlite", workdir)
        run_id = known.run_id if known else assembly.new_run_id()
        state_dir = state / "runs" / run_id
        if known and Path(known.state_dir).is_dir():
            # Of a copy: what jobs leave behind, they leave where they were told to.
            state_dir = Path(known.state_dir)
        remote_prefix = assembly.remote_prefix_of(self._workflow, settings, run_id)
        self._place = lambda spec: self._as_of(spec, place(spec, policy))
        self._fallback_of = lambda spec, target: fallback_of(spec, target, policy)
        self._with_input_size = policy.needs_input_size
        for warning in policy.warnings:
            self._logger.warning(f"takeda: {warning}")
        self._look_at_what_is_left(state / "ledger.sqlite")
        first_jobs = self._first_jobs()
        names = {placement.target.name for _, placement in first_jobs}

        # Whatever ends the process early: variables of the run must not stay in S3.
        atexit.register(self._at_exit)
        self._open_records(state, state_dir, run_id)
        self._takeover = Takeover(self, self._ledger, self._open, self._targets, self._workflow)
        if known:
            self._takeover.remember(known, remote_prefix)
            self._jobs_need_variables = bool(self._takeover.targets)
        used = assembly.reachable(sorted(names | self._takeover.targets), self._targets)
        self._context = self._make_context(run_id, workdir, state_dir, remote_prefix, known)
        self._inner = InnerSnakemake(self._executor, state_dir)
        self._backends = Backends(
            self._factories, self._targets, self._context, self._closers.append
        )
        self._backends.open(used)
        self._backends.check_jobs(first_jobs)
        for target in used:
            # Asked before there is anything to send: the dispatcher must not wait for a service.
            self._backends.array_limit(target, Shape())
        self._dispatcher = self._make_dispatcher(run_id, policy, is_resumed=bool(known))
        # The workflow and all modules live as long as the run: what looks for garbage need not go
        # through them again and again, which costs a long run a tenth of its CPU time.
        gc.freeze()
        self._closers.append(gc.unfreeze)
        self._begin_in_ledger(workdir, state_dir, remote_prefix, policy, is_resumed=bool(known))
        self._write_start(snakefile, commit(), policy, is_resumed=bool(known))
        self._start_threads(settings.progress)
        self._closers.append(one_interrupt(lambda: self._cancelled))

    def _start_threads(self, progress: str) -> None:
        self._reporter.start()
        self._dispatcher.start()
        self._takeover.begin(self._backends)
        self._show_progress(progress)

    def _show_progress(self, said: str) -> None:
        """A table on the terminal, where there is one that wants it."""
        if not is_wanted(said, self._workflow.output_settings, os.environ):
            return
        handler = handler_at_terminal(self._logger.handlers)
        if handler:
            self._live = Live(self._progress, handler, self._logger)
            self._closers.append(self._live.stop)
            self._live.start()
        elif said == "live":
            self.trouble("--takeda-progress live: no table is shown, as stderr is no terminal")

    def _unfinished_run(self, ledger: Path, workdir: Path) -> KnownRun | None:
        """The run to go on with, if there is one. One whose jobs its user had begun to end is ended
        first, and not gone on with. Raises TakedaError."""
        known = unfinished_run(ledger, workdir)
        if known is None or known.state != "cancelling":
            return known
        from snakemake_executor_takeda.ending import RunEnder

        ender = RunEnder(workdir, known, self._targets, self._factories, self.say)
        try:
            ended = ender.end()
        finally:
            ender.close()
        if not ended.is_all:
            left = ", ".join(f"{count} on {name}" for name, count in sorted(ended.left.items()))
            why = "; ".join(one.rstrip(".") for one in ended.troubles)
            raise TakedaError(
                f"run {known.run_id} was being ended by its user, and not all of it could be ended now: "
                f"{left or 'no jobs'} may go on{f': {why}' if why else ''}. Start again "
                "when that is mended, or say `takeda cancel`"
            )
        self.say(
            f"run {known.run_id} was being ended by its user, and the rest of it is ended now: "
            f"{ended.cancelled.total()} jobs. This is a new run"
        )
        return None

    def _look_at_what_is_left(self, ledger: Path) -> None:
        """By runs that did not end by themselves, whether they are gone on with or were."""
        if sent := sent_unseen(ledger):
            jobs.look_at_what_is_left(self._workflow, sent, self._fingerprints, self.say)

    def _begin_in_ledger(
        self,
        workdir: Path,
        state_dir: Path,
        remote_prefix: str | None,
        policy: Policy,
        *,
        is_resumed: bool,
    ) -> None:
        """From now on this process and this directory have the run, everywhere that it is written."""
        if self._ownership:
            self._ownership.take(workdir)
        if self._copy:
            self._copy.hold()
        facts_of_policy = assembly.policy_facts(
            self._workflow.executor_settings, policy, has_s3=bool(remote_prefix)
        )
        if self._copy:
            facts_of_policy["ledger_copy"] = self._copy.prefix
        if is_resumed:
            facts_of_policy[RESUMED] = "yes"
        self._ledger.begin(workdir, state_dir, remote_prefix, facts_of_policy)
        if self._copy:
            self._copy.begin(self._context.run_id)
            self._ledger.follower = self._copy

    def _open_copy(self, ledger: Path, snakefile: Path, workdir: Path) -> None:
        """Where the user wants one. What it knows of a run that this directory knows nothing of is in the
        ledger then. Raises TakedaError."""
        settings = self._workflow.executor_settings
        if not settings.ledger_copy:
            return
        from snakemake_executor_takeda.ledger_copy import LedgerCopy, workflow_key

        prefix = assembly.remote_prefix_of(self._workflow, settings, "ledger")
        if prefix is None:
            raise TakedaError(
                "--takeda-ledger-copy is for runs that keep their files in S3, on which another machine "
                "can go on; this one has a shared file system, on which the ledger lies already: leave "
                "the flag out"
            )
        uri = f"{prefix}/{workflow_key(snakefile, workdir)}"
        self._copy = LedgerCopy(uri, ledger, workdir, self.trouble)
        if told := self._copy.restore():
            self.say(told)
        self._closers.append(self._copy.close)

    def _open_records(self, state: Path, state_dir: Path, run_id: str) -> None:
        """Lock, event log and ledger. Raises TakedaError."""
        try:
            state_dir.mkdir(parents=True, exist_ok=True)
            lock = ControllerLock(state / "controller.lock", run_id)
            self._closers.append(lock.release)
            self._events = EventLog(state / "events.jsonl", run_id)
            self._closers.append(self._events.close)
            if self._events.torn_bytes:
                self.say(
                    "an earlier run was ended as it wrote to events.jsonl: half a line stays there"
                )
            self._ledger = Ledger(state / "ledger.sqlite", run_id)
        except (OSError, sqlite3.Error) as error:
            raise TakedaError(f"cannot write below {state}: {error}") from error
        # Called in the opposite order.
        self._closers += [self._ledger.close, self._drop_variables, self._write_end]

    def _make_dispatcher(self, run_id: str, policy: Policy, *, is_resumed: bool) -> Dispatcher:
        settings = self._workflow.executor_settings
        last_task, last_submission = self._ledger.numbers() if is_resumed else (0, 0)
        return Dispatcher(
            run_id,
            Coalescer(settings.coalesce_seconds, settings.coalesce_max_seconds),
            place=self._place,
            placed=self._placed,
            failed=self._unsendable,
            limit=self._backends.array_limit,
            shape_tolerance=policy.shape_tolerance,
            fits=self._backends.fits,
            key_resources=self._backends.key_resources,
            send=self._send,
            last_task=last_task,
            last_submission=last_submission,
        )

    def _write_start(
        self, snakefile: Path, commit: dict[str, Any], policy: Policy, *, is_resumed: bool
    ) -> None:
        """The event of a run that may begin: who starts it, with which version of which code."""
        file = Path(self._workflow.executor_settings.routing or "")
        told = {
            "who": identity.who(),
            "versions": identity.versions(),
            "workflow": {**identity.file_facts(snakefile), **commit},
            "workdir": str(self._context.workdir),
            "policy": identity.file_facts(file.absolute()) if file.name else None,
            "policy_includes": [identity.file_facts(one.absolute()) for one in policy.files[1:]],
            "targets": {name: target.backend for name, target in policy.targets.items()},
            "is_resumed": is_resumed,
        }
        self._began = time.monotonic()
        self.record(lambda: self._events.write("run", NO_JOB, None, None, told))

    def _write_end(self) -> None:
        """The event of a run that began, and a copy of the log's end in the ledger."""
        if self._began is None:
            return
        state = self._state_at_the_end()
        self._jobs_need_variables = state in UNFINISHED
        self.record(lambda: self._ledger.finish(state))
        told = {
            "status": state,
            "wall_seconds": round(time.monotonic() - self._began, 1),
            "totals": dict(self._events.counts),
            **self._spent(),
        }
        self.record(lambda: self._events.write("run_end", NO_JOB, None, None, told))
        self.record(lambda: self._ledger.note_end_of_event_log(self._events.sync()))

    def _spent(self) -> dict[str, Any]:
        """What the attempts that ended while this controller watched have cost."""
        total = sum(self._progress.ended().values(), NOTHING)
        usd = round(total.usd, 6) if total.known else None
        return {"usd": usd, "without_usd": total.unknown}

    def _drop_variables(self) -> None:
        if self._delivery and not self._jobs_need_variables:
            self._delivery.close()

    def _state_at_the_end(self) -> str:
        """What the ledger says of a run whose controller ends."""
        with self._lock:
            lanes = list(self._lanes.values())
        under_way = Counter(
            {
                name: count
                for lane in lanes
                if lane.backend.outlives_controller
                and (name := lane.backend_name)
                and (count := sum(len(one.open_task_ids) for one in lane.active()))
            }
        )
        if self._cancelled and not self._detached:
            if left := self._takeover.left:
                self.say(
                    f"{left} jobs of an earlier controller were not taken up yet and may go on: "
                    "`takeda cancel` ends them"
                )
            return "cancelling" if self._is_left or left else "cancelled"
        if not (under_way or self._takeover.unclaimed or self._detached):
            return "ended"
        told = ", ".join(f"{count} on {name}" for name, count in sorted(under_way.items()))
        self._logger.info(
            f"takeda: jobs that go on without this process: {told or 'none'}. To come back, say the same "
            "command with --rerun-incomplete; `takeda status` shows them, `takeda cancel` ends them"
        )
        return "detached"

    def _first_jobs(self) -> list[tuple[JobSpec, Placement]]:
        """One job of each rule that will run, and where it would go.

        One is enough to find out before anything runs which targets have to be there, and what they
        would refuse; it keeps the start of a large run short.
        """
        to_run = list(self._workflow.dag.needrun_jobs())
        by_rule = {job.rule.name: job for job in to_run if not job.is_local}
        self._warn_of_local_handoffs(to_run)
        found = []
        for job in by_rule.values():
            try:
                spec = self._describe(job)
            except TakedaError:
                raise
            except Exception as error:  # noqa: BLE001 - its functions may need files not there yet
                self._logger.debug(
                    f"takeda: {job.rule.name} is looked at when its turn comes: {error}"
                )
                continue
            found.append((spec, self._place(spec)))
        return found

    def _warn_of_local_handoffs(self, to_run: Iterable[Any]) -> None:
        """One line for each rule whose hand-off Snakemake keeps from every executor."""
        local = {
            job.rule.name: job for job in to_run if job.is_local and "handoff" in job.rule.resources
        }
        for job in local.values():
            try:
                handoff = job.resources.get("handoff")
            except Exception as error:  # noqa: BLE001 - its functions may need files not there yet
                self._logger.debug(f"takeda: {job.rule.name}: {error}")
                continue
            if handoff and (why := jobs.kept_here(job)):
                self._logger.warning(
                    f"takeda: {jobs.source_line(job.rule)}: rule {job.rule.name} hands nothing off: "
                    f"Snakemake runs its shell on this machine, because {why}"
                )

    def _make_context(
        self,
        run_id: str,
        workdir: Path,
        state_dir: Path,
        remote_prefix: str | None,
        known: KnownRun | None,
    ) -> RunContext:
        from snakemake_executor_takeda.backends.base import RunContext

        sources_uri = environment_uri = None
        if remote_prefix:
            from botocore.exceptions import ClientError

            from snakemake_executor_takeda.backends.aws import (
                client,
                error_code,
                error_message,
                readable_errors,
            )
            from snakemake_executor_takeda.delivery import Delivery
            from snakemake_executor_takeda.outputs import OutputCheck
            from snakemake_executor_takeda.owning import Ownership

            s3 = client("s3")
            delivery = self._delivery = Delivery(s3, remote_prefix)
            ownership = self._ownership = Ownership(s3, remote_prefix)
            try:
                with readable_errors("s3"):
                    if known:
                        ownership.check(known, workdir)
                    sources_uri = delivery.sources(self._workflow)
                    environment_uri = delivery.environment(dict(self._executor.envvars()))
            except ClientError as error:
                raise TakedaError(
                    f"cannot write to {remote_prefix}: {error_message(error)} "
                    f"({error_code(error)}). Name a bucket that is there and that you may write to "
                    "as `default-storage-prefix` or with --takeda-staging"
                ) from error
            self._output_check = OutputCheck(s3)
            self._closers.append(self._output_check.close)
        return RunContext(
            run_id=run_id,
            workdir=workdir,
            state_dir=state_dir,
            remote_prefix=remote_prefix,
            sources_uri=sources_uri,
            environment_uri=environment_uri,
            basedir=Path(self._workflow.main_snakefile).resolve().parent,
            say=lambda line: self._logger.info(f"takeda: {line}"),
            poll_seconds=self._workflow.executor_settings.poll_seconds,
        )

    def lane(self, name: str) -> Lane:
        with self._lock:
            if self._cancelled:
                raise TakedaError("the run was cancelled")
            lane = self._lanes.get(name)
            if lane is None:
                longest = self._workflow.executor_settings.poll_seconds
                lane = Lane(name, self._backends.named(name), self, longest)
                lane.start()
                self._lanes[name] = lane
            return lane

    def _describe(self, job: Any) -> JobSpec:
        return jobs.describe(
            job, with_input_size=self._with_input_size, fingerprints=self._fingerprints
        )

    def _cancel_lane(self, lane: Lane) -> None:
        # A submission under way is accepted first; it would be an orphan otherwise. One that is stuck
        # is not waited for before the others are ended.
        ended: set[str] = set()
        for patience in (CANCEL_GRACE_SECONDS, CANCEL_TIMEOUT_SECONDS):
            lane.join(patience)
            active = [one for one in lane.active() if one.submission.submission_id not in ended]
            try:
                left = lane.backend.cancel(active)
            except Exception as error:  # noqa: BLE001 - the other lanes still cancel theirs
                self._is_left = True
                self._logger.error(f"takeda: {error}")
                return
            self._is_left = self._is_left or bool(left)
            task_ids = [
                task_id
                for one in active
                if one.accepted.external_id not in (left or ())
                for task_id in one.open_task_ids
            ]
            self.record(partial(self._ledger.cancel, task_ids))
            self._tell_cancelled(active, left or ())
            ended |= {one.submission.submission_id for one in active}
            if not lane.is_sending:
                return

    def _tell_cancelled(self, active: list[Active], left: Collection[str]) -> None:
        """What a Ctrl-C has ended, by target. Of what is left the backend itself has told."""
        counts: Counter[tuple[str, str]] = Counter()
        for one in active:
            is_left = one.accepted.external_id in left
            counts[one.submission.target.name, one.submission.target.backend] += (
                0 if is_left else len(one.open_task_ids)
            )
        lines = [
            f"cancelled {count} job{'s' if count > 1 else ''} on {target} ({backend})"
            for (target, backend), count in counts.items()
            if count
        ]
        for line in lines:
            self._logger.info(f"takeda: {line}{'' if left else '; none is left'}")

    def _at_exit(self) -> None:
        """Snakemake does not say that it has nothing to do."""
        if self._began is None:
            self._close_all()
        else:
            self.close()

    def _close_all(self) -> None:
        self._closed = True
        while self._closers:
            close = self._closers.pop()
            try:
                close()
            except Exception as error:  # noqa: BLE001 - the others are still closed
                self._logger.error(f"takeda: {error}")


def _with_memory(ready: Ready, mem_mb: int) -> Ready:
    """The same job with this memory, which its command sees as its resource too. A group's members
    keep what each of them says."""
    job = ready.job
    resources = {**job.resources, "mem_mb": mem_mb}
    if (per_cpu := jobs.memory_per_cpu(job.resources)) and job.shape.mem_mb:
        resources["mem_mb_per_cpu"] = -(-per_cpu * mem_mb // job.shape.mem_mb)
    larger = replace(job, shape=replace(job.shape, mem_mb=mem_mb), resources=resources)
    argv = ready.argv if job.is_group else with_memory(ready.argv, job.rule, mem_mb)
    return replace(ready, job=larger, argv=argv)


def _usd(spend: Spend) -> dict[str, float]:
    """Of one attempt, for its event; nothing where it is not known."""
    return {"usd": spend.usd} if spend.known else {}


def _join(thread: threading.Thread, timeout: float) -> None:
    """Wait for a thread, which may not have been started."""
    if thread.ident:
        thread.join(timeout)
