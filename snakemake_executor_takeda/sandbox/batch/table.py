"""All jobs and the rules of their states: dependencies, arrays' parents, retries. No process, no I/O."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator

from snakemake_executor_takeda.sandbox.batch.jobs import (
    WAITING,
    Ending,
    Job,
    Status,
    with_children,
)
from snakemake_executor_takeda.sandbox.batch.multinode import is_main
from snakemake_executor_takeda.sandbox.batch.retrying import is_retried
from snakemake_executor_takeda.sandbox.batch.submission import set_dependencies
from snakemake_executor_takeda.sandbox.batch.views import attempt_detail

DEPENDENT_FAILED = "Dependent Job failed"
CHILD_FAILED = "Array Child Job failed"


class Table:
    """Everything here is called with `lock` held, but for what says otherwise."""

    def __init__(
        self,
        clock_ms: Callable[[], int],
        before_change: Callable[[Job], None] = lambda job: None,
        after_move: Callable[[Job], None] = lambda job: None,
    ) -> None:
        """`before_change` is told of a job that is about to change, `after_move` of one that has a
        new status."""
        self.lock = threading.RLock()
        self.before_change = before_change
        self._after_move = after_move
        self._clock_ms = clock_ms
        self._jobs: dict[str, Job] = {}
        self._fresh: deque[Job] = deque()
        self._runnable: dict[str, deque[Job]] = {}
        self._dependents: dict[str, list[Job]] = {}
        self._changed: dict[str, Job] = {}

    def load(self, jobs: Iterable[Job]) -> None:
        """Take in the jobs of an earlier life."""
        for job in jobs:
            self._jobs[job.job_id] = job
            if job.is_parent:
                job.summary = Counter(child.status for child in job.children)
            if job.status.is_final:
                continue
            set_dependencies(job, self._jobs.get)
            for one in with_children(job):
                one.waits_for = {other for other in one.waits_for if not self._has_succeeded(other)}
            self._await(job)
            self._fresh.append(job)

    def add(self, job: Job) -> None:
        """A job just submitted, dependencies set."""
        self._jobs[job.job_id] = job
        for one in with_children(job):
            if one.waits_for:
                one.waits_for = {other for other in one.waits_for if not self._has_succeeded(other)}
        self._await(job)
        self._fresh.append(job)

    def find(self, job_id: str) -> Job | None:
        """A job or, by `parent:index`, a child, or, by `job#index`, a node."""
        name, mark, index = job_id.partition("#" if "#" in job_id else ":")
        job = self._jobs.get(name)
        if job is None or not index:
            return job
        if (mark == "#") != job.is_multinode:
            return None
        if not index.isdecimal() or int(index) >= len(job.children):
            return None
        return job.children[int(index)]

    def jobs(self) -> Iterator[Job]:
        """All but children, the oldest first."""
        yield from self._jobs.values()

    def leaves(self, job: Job) -> list[Job]:
        """What really runs: the job itself, or an array's children."""
        return list(job.children) if job.is_parent else [job]

    def every_leaf(self) -> Iterator[Job]:
        for job in self._jobs.values():
            yield from self.leaves(job)

    def runnable(self, queue_arn: str) -> deque[Job]:
        """The jobs that wait for room, in order; those no longer RUNNABLE are to be skipped."""
        return self._runnable.setdefault(queue_arn, deque())

    def take_changed(self) -> list[Job]:
        """Jobs that changed since the last call. Takes the lock itself."""
        with self.lock:
            changed = list(self._changed.values())
            self._changed.clear()
            return changed

    def advance(self) -> None:
        """SUBMITTED jobs go on to PENDING or RUNNABLE."""
        while self._fresh:
            job = self._fresh.popleft()
            doomed = any(self._has_failed(other) for other in job.waits_for)
            for one in self.leaves(job):
                if one.status not in (Status.SUBMITTED, Status.PENDING, Status.RUNNABLE):
                    continue
                if doomed or any(self._has_failed(other) for other in one.waits_for):
                    self.fail(one, DEPENDENT_FAILED)
                elif job.waits_for or one.waits_for:
                    self._move_quietly(one, Status.PENDING)
                else:
                    self._make_runnable(one)
            if job.is_parent and not job.status.is_final:
                self.move(job, Status.PENDING)

    def move(self, job: Job, status: Status) -> None:
        """To another status that is not final."""
        self._move_quietly(job, status)
        self._changed[job.job_id] = job
        if status is Status.RUNNING and job.is_node and is_main(job) and job.parent is not None:
            job.parent.started_at = job.started_at
            self.move(job.parent, status)

    def explain(self, job: Job, reason: str | None) -> None:
        """Say why a RUNNABLE job does not start."""
        if job.status_reason != reason:
            self.before_change(job)
            job.status_reason = reason
            self._changed[job.job_id] = job

    def fail(self, job: Job, reason: str) -> None:
        """End a job that is not running; if it is of several nodes, with them."""
        for one in with_children(job) if job.is_multinode else [job]:
            self.before_change(one)
            one.status_reason, one.stopped_at = reason, self._clock_ms()
        self._finish(job, Status.FAILED)

    def end_attempt(self, job: Job, ending: Ending) -> None:
        """An attempt is over: success, another attempt, or failure."""
        self.before_change(job)
        number = job.attempt
        now = self._clock_ms()
        job.exit_code, job.reason = ending.exit_code, ending.reason
        job.attempts = [*job.attempts, attempt_detail(job, ending.status_reason, now)]
        job.status_reason = ending.status_reason
        if ending.succeeded:
            self._finish(job, Status.SUCCEEDED)
        elif is_retried(ending, number, job.spec.attempts, job.spec.evaluate_on_exit):
            self._changed[job.job_id] = job
            self._make_runnable(job)
        else:
            self._finish(job, Status.FAILED)

    def start_nodes(self, job: Job) -> None:
        """The attempt of a job of several nodes begins: all of them are about to start."""
        self.before_change(job)
        job.exit_code = job.reason = job.started_at = job.status_reason = None
        for node in job.children:
            self.before_change(node)
            node.ending = None
            self.move(node, Status.STARTING)
        self.move(job, Status.STARTING)

    def end_node(self, node: Job, ending: Ending) -> None:
        """A node's attempt is over; once all nodes' are, the main node's end is the job's."""
        parent = node.parent
        if parent is None or parent.spec.node_properties is None:
            return
        self.before_change(node)
        now = self._clock_ms()
        node.ending = ending
        node.exit_code, node.reason = ending.exit_code, ending.reason
        node.status_reason, node.stopped_at = ending.status_reason, now
        node.attempts = [*node.attempts, attempt_detail(node, ending.status_reason, now)]
        self.move(node, Status.SUCCEEDED if ending.succeeded else Status.FAILED)
        main = parent.children[parent.spec.node_properties["mainNode"]]
        if main.ending is not None and all(one.status.is_final for one in parent.children):
            self.end_attempt(parent, main.ending)

    def forget(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            self._jobs.pop(job.job_id, None)

    def _finish(self, job: Job, status: Status) -> None:
        self.before_change(job)
        job.stopped_at = self._clock_ms()
        self.move(job, status)
        for dependent in self._dependents.pop(job.job_id, []):
            self._dependency_ended(dependent, job)
        parent = job.parent
        if parent is None or parent.status.is_final:
            return
        if parent.summary[Status.SUCCEEDED] + parent.summary[Status.FAILED] == len(parent.children):
            if parent.summary[Status.FAILED]:
                self.before_change(parent)
                if not parent.is_terminated:
                    parent.status_reason = CHILD_FAILED
                self._finish(parent, Status.FAILED)
            else:
                self._finish(parent, Status.SUCCEEDED)

    def _dependency_ended(self, job: Job, other: Job) -> None:
        if job.status.is_final:
            return
        if other.status is Status.FAILED:
            for one in self.leaves(job):
                if not one.status.is_final:
                    self.fail(one, DEPENDENT_FAILED)
            return
        job.waits_for.discard(other.job_id)
        if job.status is Status.SUBMITTED:
            return  # `advance` comes to it
        for one in self.leaves(job):
            waits = one.waits_for or (one.parent.waits_for if one.parent else None)
            if one.status is Status.PENDING and not waits:
                self._make_runnable(one)

    def _await(self, job: Job) -> None:
        for one in with_children(job):
            for other in one.waits_for:
                self._dependents.setdefault(other, []).append(one)

    def _has_succeeded(self, job_id: str) -> bool:
        job = self.find(job_id)
        return job is not None and job.status is Status.SUCCEEDED

    def _has_failed(self, job_id: str) -> bool:
        job = self.find(job_id)
        return job is None or job.status is Status.FAILED

    def _make_runnable(self, job: Job) -> None:
        self.before_change(job)
        job.runnable_at = self._clock_ms()
        self._move_quietly(job, Status.RUNNABLE)
        self.runnable(job.spec.queue_arn).append(job)

    def _move_quietly(self, job: Job, status: Status) -> None:
        """Without a row in the database: a restart finds the way to this status again by itself."""
        if job.status is status:
            return
        self.before_change(job)
        if job.is_multinode and (status in WAITING or status.is_final):
            for node in job.children:
                if status in WAITING or not node.status.is_final:
                    node.status = status
                    self._changed[node.job_id] = node
        parent = job.parent
        if parent is not None:
            self.before_change(parent)
            parent.summary[job.status] -= 1
            parent.summary[status] += 1
            parent.summary_at = self._clock_ms()
        job.status = status
        self._after_move(job)
