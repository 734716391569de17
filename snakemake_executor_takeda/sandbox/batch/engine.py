"""Moves jobs through their states: one thread starts, watches and ends all processes.

`Table` holds the jobs and their transitions, with no process and no clock of its own; `Engine` is the
thread that drives it.
"""

from __future__ import annotations

import heapq
import itertools
import queue
import signal
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from snakemake_executor_takeda.sandbox import processes
from snakemake_executor_takeda.sandbox.batch.capacity import Capacity, Environment, why_never
from snakemake_executor_takeda.sandbox.batch.consumables import Consumables
from snakemake_executor_takeda.sandbox.batch.container import (
    command_of,
    environment_of,
    log_group_of,
)
from snakemake_executor_takeda.sandbox.batch.endings import (
    EXITED,
    NOT_STARTED,
    host_terminated,
    timed_out,
)
from snakemake_executor_takeda.sandbox.batch.jobs import Ending, Job, Status
from snakemake_executor_takeda.sandbox.batch.mishaps import Mishap, Mishaps, subject
from snakemake_executor_takeda.sandbox.batch.multinode import (
    MAIN_NODE_ENDED,
    ONE_MACHINE,
    is_main,
    node_environment,
)
from snakemake_executor_takeda.sandbox.batch.queues import Queues
from snakemake_executor_takeda.sandbox.batch.runners import Attempt, Runner, StartFailure
from snakemake_executor_takeda.sandbox.batch.store import Execution, Store
from snakemake_executor_takeda.sandbox.batch.table import Table
from snakemake_executor_takeda.sandbox.services import Context

GRACE_SECONDS = 3.0
"""Between SIGTERM and SIGKILL. (ECS gives 30 seconds.)"""

ATTEMPT_VARIABLES = "AWS_BATCH_JOB_ID", "AWS_BATCH_JOB_ATTEMPT"
"""Together they name an attempt."""

FIRST_USUAL_SECONDS = 1.0
"""How long attempts are taken to run before one has: a fault strikes at some part of it."""


@dataclass(eq=False)
class Run:
    """An attempt under way."""

    job: Job
    attempt: Attempt
    environment_arn: str
    log_group: str
    forced: Ending | None = None
    """Why it is being ended from outside: this is how it ends, whatever the process says."""
    was_killed: bool = False
    mishap: Mishap | None = None
    """What is to befall it. An attempt that has ended before its moment ends so nonetheless."""
    ending: Ending | None = None
    """How it has ended; only its log is still on the way."""


class Engine:
    """Runs what the table says is runnable, as far as the compute environments have room."""

    def __init__(
        self,
        *,
        table: Table,
        store: Store,
        queues: Queues,
        consumables: Consumables,
        runner: Runner,
        mishaps: Mishaps,
        context: Context,
        mark: str,
        seconds_scale: float = 1.0,
    ) -> None:
        """`mark` is the value of `processes.MARK` in all that the runner starts; `seconds_scale`
        shortens job timeouts and the waits of jobStateTimeLimitActions, for tests."""
        self._table = table
        self._store = store
        self._queues = queues
        self._runner = runner
        self._mishaps = mishaps
        self._usual_seconds: dict[str, float] = {}
        """By rule, or name, of job: how long its attempts run."""
        self._context = context
        self._mark = mark
        self._scale = seconds_scale
        self._logs = context.state_dir / "logs"
        self._logs.mkdir(parents=True, exist_ok=True)
        self._instance_id = f"i-{uuid.uuid4().hex[:17]}"
        self._children: processes.Children[str] = processes.Children()
        self._runs: dict[str, Run] = {}
        self._capacity = Capacity(consumables)
        self._orders: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._looks_again: dict[str, tuple[str, int | None]] = {}
        """By queue: the job at its head whose time limit has a timer."""
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._started: list[Execution] = []
        self._ended: list[tuple[str, int, int, int | None, str]] = []
        self._stopping = False
        self._cleaning: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name="batch engine", daemon=True)
        self._cleaner = threading.Thread(target=self._clean_loop, name="batch cleaner", daemon=True)

    # from any thread

    def start(self) -> None:
        """Take up what an earlier engine left, then run."""
        self._end_orphans()
        self._cleaner.start()
        self._thread.start()
        self.wake()

    def stop(self) -> None:
        """End every process; their attempts end as if the machine went away."""
        self._order(self._stop)
        self._thread.join()
        self._cleaning.put(None)
        self._cleaner.join()
        processes.end_marked(GRACE_SECONDS, **{processes.MARK: self._mark})
        self._runner.end_left()
        self._children.close()

    def wake(self) -> None:
        """Look again: a job was submitted or ended, a queue changed."""
        self._children.wake()

    def terminate(self, job: Job, reason: str) -> None:
        """End a job in any state, its children with it. One that has ended is left as it is."""
        with self._table.lock:
            if job.is_parent and not job.status.is_final:
                self._table.before_change(job)
                job.is_terminated = True
                job.status_reason = reason
            for one in self._table.leaves(_whole(job)):
                if one.status.is_final:
                    continue
                for each in [one, *one.children]:
                    self._table.before_change(each)
                    each.is_terminated = True
                runs = self._runs_of(one)
                if not runs:
                    self._table.fail(one, reason)
                for run in runs:
                    self._force(run, Ending(reason, can_retry=False))
        self.wake()

    def cancel(self, job: Job, reason: str) -> None:
        """End a job that has not started, and those children that have not."""
        with self._table.lock:
            if job.is_parent and not job.status.is_final:
                self._table.before_change(job)
                job.is_cancelled = True
            for one in self._table.leaves(_whole(job)):
                if not self._runs_of(one) and not one.status.is_final:
                    for each in [one, *one.children]:
                        self._table.before_change(each)
                        each.is_cancelled = True
                    self._table.fail(one, reason)
        self.wake()

    # from the engine's thread

    def _loop(self) -> None:
        while not self._stopping:
            ended = [
                # outside the lock, as a runner may have to ask around
                (self._runs[job_id], *self._look_back(self._runs[job_id], returncode))
                for job_id, returncode in self._children.wait(self._seconds_to_timer())
            ]
            with self._table.lock:
                for run, code, ending in ended:
                    self._process_ended(run, code, ending)
                while not self._orders.empty():
                    self._orders.get()()
                self._fire_timers()
                self._table.advance()
                starting = [] if self._stopping else self._pick()
            for run in starting:
                self._start(run)
            self._save()

    def _pick(self) -> list[Run]:
        """What can start now. A job that does not fit holds up those behind it in its queue."""
        picked = []
        for record in self._queues.served_queues():
            environments = [
                Environment(
                    found["computeEnvironmentArn"],
                    *self._queues.capacity_of(found),
                    is_spot=self._queues.kind_of(found["computeEnvironmentArn"]) == "SPOT",
                )
                for found in self._queues.environments_of(record)
            ]
            waiting = self._table.runnable(record["jobQueueArn"])
            while waiting:
                job = waiting[0]
                if job.status is not Status.RUNNABLE:
                    waiting.popleft()
                    continue
                stuck = self._mishaps.why_stuck(job)
                place = None if stuck else self._capacity.place(job.spec, environments)
                if place is None:
                    reason = stuck or why_never(job.spec, environments)
                    self._table.explain(job, reason)
                    if self._is_given_up(job, record):
                        continue
                    break
                waiting.popleft()
                if job.is_multinode:
                    self._table.start_nodes(job)
                for one in job.children if job.is_multinode else [job]:
                    picked.append(self._prepare(one, place, record["jobQueueName"]))
        return picked

    def _runs_of(self, job: Job) -> list[Run]:
        """What runs of a job: one attempt, or one on each node."""
        found = (
            self._runs.get(one.job_id) for one in (job.children if job.is_multinode else [job])
        )
        return [run for run in found if run is not None]

    def _prepare(self, job: Job, place: Environment, queue_name: str) -> Run:
        self._capacity.take(job.spec, place.arn)
        self._table.before_change(job)
        name = place.arn.rpartition("/")[2]
        log_id = uuid.uuid4().hex
        definition = job.spec.definition_arn.rpartition("/")[2].partition(":")[0]
        prefix = f"arn:aws:ecs:{self._context.region}:{self._context.account_id}:"
        job.environment_name = name
        job.task_arn = f"{prefix}task/{name}/{log_id}"
        job.instance_arn = f"{prefix}container-instance/{name}/{self._instance_id}"
        job.log_stream = f"{definition}/default/{log_id}"
        job.exit_code = job.reason = job.started_at = job.status_reason = None
        attempt = Attempt(
            job_id=job.job_id,
            number=job.attempt,
            command=tuple(command_of(job)),
            environment={
                **self._context.environment,
                **(ONE_MACHINE if job.is_node else {}),
                **environment_of(job, name, queue_name),
                **node_environment(job),
            },
            container=job.spec.container,
            vcpus=job.spec.vcpus,
            memory_mib=job.spec.memory_mib,
            gpus=job.spec.gpus,
            log=self._logs / f"{log_id}.log",
        )
        run = Run(job, attempt, place.arn, log_group_of(job))
        run.mishap = self._mishaps.of_attempt(job, self._queues.kind_of(place.arn))
        self._runs[job.job_id] = run
        self._table.move(job, Status.STARTING)
        return run

    def _start(self, run: Run) -> None:
        if run.mishap is not None and run.mishap.never_starts:
            self._not_started(run, run.mishap.ending)
            return
        try:
            process = self._runner.start(run.attempt)
        except StartFailure as failure:
            self._not_started(run, Ending(NOT_STARTED, reason=str(failure)))
            return
        now = now_ms()
        if process is None:
            with self._table.lock:
                self._table.before_change(run.job)
                run.job.started_at, run.job.log_stream = now, None
                self._table.move(run.job, Status.RUNNING)
                self._process_ended(run, 0, Ending(EXITED, exit_code=0))
            return
        self._children.add(run.job.job_id, process)
        self._started.append(
            Execution(
                run.job.job_id,
                run.attempt.number,
                process.pid,
                processes.start_ticks(process.pid),
                now,
            )
        )
        with self._table.lock:
            self._table.before_change(run.job)
            run.job.started_at = now
            self._table.move(run.job, Status.RUNNING)
            if run.forced is not None:
                self._kill(run)
                return
            if run.job.spec.timeout_seconds is not None:
                self._after(
                    run.job.spec.timeout_seconds * self._scale,
                    lambda: self._force(run, timed_out()),
                )
            if run.mishap is not None:
                usual = self._usual_seconds.get(_like(run.job), FIRST_USUAL_SECONDS)
                self._after(run.mishap.hit.part * usual, lambda: self._strike(run))

    def _not_started(self, run: Run, ending: Ending) -> None:
        with self._table.lock:
            if run.forced is not None and run.mishap is not None:
                self._mishaps.withdraw(run.mishap)
            self._table.before_change(run.job)
            run.job.log_stream = None
            self._give_back(run)
            self._settle(run, run.forced or ending)
        self.wake()

    def _strike(self, run: Run) -> None:
        """The mishap's moment has come."""
        if (
            run.mishap is None
            or run.forced is not None
            or self._runs.get(run.job.job_id) is not run
        ):
            return
        run.forced = run.mishap.ending
        if run.mishap.is_abrupt:
            run.was_killed = True
            self._kill_hard(run)
        else:
            self._kill(run)

    def _is_given_up(self, job: Job, queue_record: Mapping[str, Any]) -> bool:
        """Act on `jobStateTimeLimitActions` for the job at the head of a queue: whether it was
        cancelled. A job's time counts from when it became RUNNABLE."""
        code = (job.status_reason or "").partition(" - ")[0]
        for action in queue_record.get("jobStateTimeLimitActions", []):
            if action["reason"] != code:
                continue
            limit = action["maxTimeSeconds"] * self._scale
            left = limit - (now_ms() - (job.runnable_at or 0)) / 1000
            if left <= 0:
                job.is_cancelled = True
                self._table.fail(job, f"Canceled by JobStateTimeLimit action due to reason: {code}")
                return True
            if self._looks_again.get(queue_record["jobQueueArn"]) != (job.job_id, job.runnable_at):
                self._looks_again[queue_record["jobQueueArn"]] = job.job_id, job.runnable_at
                self._after(left, self.wake)
        return False

    def _look_back(self, run: Run, returncode: int) -> tuple[int, Ending]:
        """The exit code, and how the attempt ended by itself."""
        code = processes.exit_code(returncode)
        try:
            reason = self._runner.look_back(run.attempt, code)
        except StartFailure as failure:
            return code, Ending(NOT_STARTED, reason=str(failure))
        return code, Ending(EXITED, exit_code=code, reason=reason)

    def _process_ended(self, run: Run, code: int, ending: Ending) -> None:
        """The process has gone: its room is free at once, the job ends when its log can be read."""
        self._give_back(run)
        if run.mishap is not None:
            if run.forced is None:
                run.forced = run.mishap.ending
            elif run.forced is not run.mishap.ending:
                self._mishaps.withdraw(run.mishap)
        elif run.forced is None:
            self._learn_length(run)
        if run.forced is None and ending.status_reason == NOT_STARTED:
            run.job.log_stream = run.job.started_at = None
        ending = run.forced or ending
        if ending.exit_code is None and not ending.can_retry:
            ending = Ending(ending.status_reason, code, ending.reason, can_retry=False)
        run.ending = ending
        self._ended.append(
            (run.job.job_id, run.attempt.number, now_ms(), code, ending.status_reason)
        )
        self._cleaning.put(lambda: self._clean(run))
        self._write_log(run, lambda: self._order(lambda: self._settle(run, ending)))

    def _learn_length(self, run: Run) -> None:
        seconds = (now_ms() - (run.job.started_at or 0)) / 1000
        like = _like(run.job)
        self._usual_seconds[like] = (self._usual_seconds.get(like, seconds) + seconds) / 2

    def _settle(self, run: Run, ending: Ending) -> None:
        if self._runs.get(run.job.job_id) is run:
            del self._runs[run.job.job_id]
            if not run.job.is_node:
                self._table.end_attempt(run.job, ending)
                return
            if is_main(run.job) and run.job.parent is not None:
                for other in self._runs_of(run.job.parent):
                    self._force(other, MAIN_NODE_ENDED)
            self._table.end_node(run.job, ending)

    def _write_log(self, run: Run, done: Callable[[], None]) -> None:
        if self._context.write_log is None or run.job.log_stream is None:
            done()
        else:
            self._context.write_log(run.log_group, run.job.log_stream, run.attempt.log, done)

    def _force(self, run: Run, ending: Ending) -> None:
        """End an attempt from outside; the first reason stands."""
        if run.forced is None and self._runs.get(run.job.job_id) is run:
            run.forced = ending
            self._order(lambda: self._kill(run))

    def _kill(self, run: Run) -> None:
        run.was_killed = True
        self._children.signal(run.job.job_id, signal.SIGTERM)
        self._after(GRACE_SECONDS, lambda: self._kill_hard(run))

    def _kill_hard(self, run: Run) -> None:
        if self._runs.get(run.job.job_id) is run:
            self._children.signal(run.job.job_id, signal.SIGKILL)
            self._cleaning.put(lambda: self._runner.stop(run.attempt))

    def _give_back(self, run: Run) -> None:
        self._capacity.give_back(run.job.spec, run.environment_arn)

    def _stop(self) -> None:
        self._stopping = True
        ending = host_terminated(self._instance_id)
        runs = list(self._runs.values())
        for number in (signal.SIGTERM, signal.SIGKILL):
            for run in runs:
                self._children.signal(run.job.job_id, number)
                if number == signal.SIGKILL:
                    self._runner.stop(run.attempt)
            deadline = time.monotonic() + GRACE_SECONDS
            while len(self._children) and time.monotonic() < deadline:
                for job_id, returncode in self._children.wait(deadline - time.monotonic()):
                    run = self._runs[job_id]
                    code = processes.exit_code(returncode)
                    self._ended.append(
                        (job_id, run.attempt.number, now_ms(), code, ending.status_reason)
                    )
                    self._runner.clean(run.attempt)
            if not len(self._children):
                break
        for run in runs:
            self._settle(run, run.ending or run.forced or ending)

    def _end_orphans(self) -> None:
        """Processes of a daemon that died: nobody can learn their exit code any more, so they are
        ended, and their attempts with them."""
        for execution in self._store.open_executions():
            if execution.start_ticks is not None and processes.is_running(
                execution.pid, execution.start_ticks
            ):
                processes.signal_group(execution.pid, signal.SIGKILL)
            self._ended.append(
                (execution.job_id, execution.attempt, now_ms(), None, "the sandbox was ended")
            )
        processes.end_marked(0.0, **{processes.MARK: self._mark})
        self._runner.end_left()
        with self._table.lock:
            for job in self._table.every_leaf():
                if job.status in (Status.STARTING, Status.RUNNING):
                    instance_id = (job.instance_arn or self._instance_id).rpartition("/")[2]
                    self._table.end_attempt(job, host_terminated(instance_id))
        self._save()

    def _clean(self, run: Run) -> None:
        if run.was_killed or run.job.is_node:
            # what left the group, such as a daemon that the job made, but not the next attempt's
            marks = {name: run.attempt.environment[name] for name in ATTEMPT_VARIABLES}
            processes.end_marked(0.0, **{processes.MARK: self._mark, **marks})
        self._runner.clean(run.attempt)

    def _clean_loop(self) -> None:
        """Deletes working directories, which can take long, away from the engine's thread."""
        while (order := self._cleaning.get()) is not None:
            order()

    def _save(self) -> None:
        changed = self._table.take_changed()
        if changed or self._started or self._ended:
            self._store.save(changed, self._started, self._ended)
            self._started, self._ended = [], []

    def _order(self, order: Callable[[], None]) -> None:
        """Have something done by the engine's thread, under the table's lock."""
        self._orders.put(order)
        self.wake()

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), action))

    def _fire_timers(self) -> None:
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2]()

    def _seconds_to_timer(self) -> float | None:
        if not self._timers:
            return None
        return max(0.0, self._timers[0][0] - time.monotonic())


def _whole(job: Job) -> Job:
    """The job of a node, as the nodes end together; any other job itself."""
    return job.parent if job.is_node and job.parent else job


def _like(job: Job) -> str:
    target = subject(job).target
    return target.rule or target.name or ""


def now_ms() -> int:
    return int(time.time() * 1000)
