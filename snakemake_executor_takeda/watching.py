"""One lane per backend: a thread that submits, then watches until every task has ended."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from snakemake_executor_takeda.backends.base import SubmissionDelayed, SubmissionError
from snakemake_executor_takeda.full_disks import is_full, no_space
from snakemake_executor_takeda.values import (
    Accepted,
    Active,
    FailureKind,
    Outcome,
    Remembered,
    Submission,
    Update,
)

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.base import Backend

FIRST_PAUSE_SECONDS = 0.5
SHORTEST_PAUSE_SECONDS = 0.1
PAUSE_GROWTH = 1.25
OPEN_TASKS_A_SECOND = 800
LONGEST_BUSY_SECONDS = 2.5
"""Among thousands of tasks one ends every moment. Each look, and each time that Snakemake's scheduler is
woken, costs in proportion to their number, so that there are fewer of them the more tasks there are."""
ASKED_AGAIN_SECONDS = 5.0
"""Where it could not be found out what became of an earlier controller's submission."""
# A backend swallows a service's silence itself; what escapes it is a fault of a file system, or a
# bug, and a bug must end.
PATIENCE_WITH_POLL_ERRORS_SECONDS = 1800.0


class LaneListener(Protocol):
    """Whom a lane tells. Every task ends in exactly one `refused` or `ended`. What is remembered of an
    earlier controller is first told to be `reattached` or `absent`."""

    def intended(self, submission: Submission) -> None: ...
    def accepted(self, submission: Submission, accepted: Accepted) -> None: ...
    def refused(self, submission: Submission, outcome: Outcome) -> None: ...
    def reattached(self, remembered: Remembered, accepted: Accepted) -> None: ...
    def absent(self, remembered: Remembered) -> None: ...
    def started(self, update: Update) -> None: ...
    def waits(self, update: Update) -> None: ...
    def ended(self, updates: list[Update]) -> None: ...
    def trouble(self, message: str) -> None: ...


_Item = Submission | Remembered | Callable[[], None]


@dataclass
class Pace:
    """Pauses between polls: short after something happened, growing to `longest_seconds`."""

    longest_seconds: float
    pause_seconds: float = FIRST_PAUSE_SECONDS

    def something_happened(self, open_tasks: int = 0) -> None:
        busy = min(open_tasks / OPEN_TASKS_A_SECOND, LONGEST_BUSY_SECONDS)
        self.pause_seconds = min(max(FIRST_PAUSE_SECONDS, busy), self.longest_seconds)

    def nothing_happened(self) -> None:
        self.pause_seconds = min(self.pause_seconds * PAUSE_GROWTH, self.longest_seconds)


class Lane(threading.Thread):
    """Submissions to and polls of one backend, one after the other, away from the others'."""

    def __init__(
        self, name: str, backend: Backend, listener: LaneListener, longest_pause_seconds: float
    ) -> None:
        super().__init__(name=f"takeda-{name}", daemon=True)
        self.backend_name = name
        self.backend = backend
        self._listener = listener
        self._pace = Pace(max(SHORTEST_PAUSE_SECONDS, longest_pause_seconds))
        self._inbox: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._active: dict[str, Active] = {}
        self._delayed: list[tuple[float, Submission | Remembered]] = []
        """What the service did not take yet, or does not know yet, each with the moment to try again."""
        self._stopping = False
        self._cancelling = False
        self._nudged = False
        self._sending = False
        self._errors_since: float | None = None
        self._last_note = ""

    def submit(self, submission: Submission) -> None:
        """Send it soon; returns at once."""
        self._inbox.put(submission)

    def adopt(self, remembered: Remembered) -> None:
        """Find out what became of it, and watch it from then on; returns at once."""
        self._inbox.put(remembered)

    def call(self, duty: Callable[[], None]) -> None:
        """Do something between submissions and polls, in the lane's thread; returns at once."""
        self._inbox.put(duty)

    def leave(self, submission_id: str) -> Active | None:
        """Watch a submission no longer; None where it is not watched. In the lane's thread only."""
        with self._lock:
            return self._active.pop(submission_id, None)

    def nudge(self) -> None:
        """Poll now rather than at the end of the pause; from any thread."""
        self._nudged = True
        self._inbox.put(None)

    def stop(self, *, cancelling: bool = False) -> None:
        """End the thread after what it is doing now. What runs in the cloud is left alone, but with
        `cancelling` a submission that is accepted from now on is ended at once."""
        self._cancelling = self._cancelling or cancelling
        self._stopping = True
        self._inbox.put(None)

    @property
    def is_sending(self) -> bool:
        """Whether a submission is under way, which may be accepted even after a stop."""
        return self._sending and self.is_alive()

    def active(self) -> list[Active]:
        """What was accepted and has not ended."""
        with self._lock:
            return list(self._active.values())

    def run(self) -> None:
        next_poll = time.monotonic()
        try:
            self.backend.listen(self.nudge)
        except Exception as error:  # noqa: BLE001 - without news the lane asks, as it can always do
            self._listener.trouble(f"{self.name}: {error!r}")
        while not self._stopping:
            try:
                self._take_in(self._idle_seconds(next_poll))
                self._send_delayed()
                due = self._nudged or time.monotonic() >= next_poll
                if self._active and due and not self._stopping:
                    self._nudged = False
                    next_poll = time.monotonic() + self._pace.pause_seconds
                    self._poll()
                    next_poll = time.monotonic() + self._pace.pause_seconds
            except Exception as error:  # noqa: BLE001 - without its lane the run would hang for ever
                self._listener.trouble(f"{self.name}: {error!r}")

    def _idle_seconds(self, next_poll: float) -> float | None:
        """Until there is something to do of itself; None where there is nothing."""
        moments = [moment for moment, _ in self._delayed]
        if self._active:
            moments.append(next_poll)
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _send_delayed(self) -> None:
        """Try again what is due, in the order it came."""
        now = time.monotonic()
        for item in [item for item in self._delayed if item[0] <= now]:
            if not self._stopping:
                self._delayed.remove(item)
                if isinstance(item[1], Remembered):
                    self._reattach(item[1])
                    continue
                self._sending = True
                self._submit(item[1], again=True)
                self._sending = False

    def _take_in(self, timeout: float | None) -> None:
        try:
            item = self._inbox.get(timeout=timeout)
        except queue.Empty:
            return
        if item is None or self._stopping:
            return
        if isinstance(item, Remembered):
            self._reattach(item)
        elif isinstance(item, Submission):
            self._sending = True
            self._submit(item)
            self._sending = False
        else:
            item()

    def _reattach(self, remembered: Remembered) -> None:
        try:
            accepted = self.backend.reattach(remembered)
        except SubmissionDelayed as delay:
            self._ask_again(remembered, delay.seconds, delay.note)
            return
        except Exception as error:  # noqa: BLE001 - whatever is thrown, its jobs must not run twice
            self._ask_again(
                remembered, ASKED_AGAIN_SECONDS, f"{remembered.submission.name}: {error!r}"
            )
            return
        if accepted is None:
            self._listener.absent(remembered)
            return
        one = Active(remembered.submission, accepted, remembered.open_task_ids)
        with self._lock:
            self._active[remembered.submission.submission_id] = one
        self._pace.something_happened()
        self._listener.reattached(remembered, accepted)

    def _ask_again(self, remembered: Remembered, seconds: float, note: str) -> None:
        self._delayed.append((time.monotonic() + seconds, remembered))
        if note and note != self._last_note:
            self._last_note = note
            self._listener.trouble(note)

    def _submit(self, submission: Submission, *, again: bool = False) -> None:
        try:
            if not again:
                self._listener.intended(submission)
            accepted = self.backend.submit(submission)
        except SubmissionDelayed as delay:
            self._delayed.append((time.monotonic() + delay.seconds, submission))
            if delay.note:
                self._listener.waits(Update(submission.tasks[0].task_id, note=delay.note))
            return
        except SubmissionError as error:
            self._listener.refused(
                submission, Outcome(error.kind, reason=error.reason, advice=error.advice)
            )
            return
        except Exception as error:  # noqa: BLE001 - whatever is thrown, these tasks get their report
            self._listener.refused(submission, _not_sent(error))
            return
        one = Active(submission, accepted, frozenset(task.task_id for task in submission.tasks))
        with self._lock:
            self._active[submission.submission_id] = one
        self._pace.something_happened()
        self._listener.accepted(submission, accepted)
        if self._cancelling:
            self._end([one])

    def _poll(self) -> None:
        active = self.active()
        updates: list[Update] = []
        try:
            # What was said before an error still counts.
            for update in self.backend.poll(active):
                updates.append(update)
            self._errors_since = None
        except Exception as error:  # noqa: BLE001 - told, and turned into outcomes in the end
            reason = f"its state could not be read: {type(error).__name__}: {error}"
            if self._give_up(reason):
                self._end(active)
                said = {update.task_id for update in updates if update.outcome}
                updates += (lost for lost in _all_lost(active, reason) if lost.task_id not in said)
        ended = [update for update in updates if update.outcome]
        self._forget({update.task_id for update in ended})
        for update in updates:
            if update.note:
                self._listener.waits(update)
            elif update.outcome is None:
                self._listener.started(update)
        if ended:
            self._pace.something_happened(sum(len(one.open_task_ids) for one in self.active()))
            self._listener.ended(ended)
        else:
            self._pace.nothing_happened()

    def _give_up(self, reason: str) -> bool:
        now = time.monotonic()
        if self._errors_since is None:
            self._errors_since = now
            self._listener.trouble(f"{self.name}: a job's end may be late: {reason}")
        if now - self._errors_since < PATIENCE_WITH_POLL_ERRORS_SECONDS:
            return False
        self._errors_since = None
        return True

    def _end(self, active: list[Active]) -> None:
        try:
            self.backend.cancel(active)
        except Exception as error:  # noqa: BLE001 - told; there is nobody else to ask
            self._listener.trouble(str(error))

    def _forget(self, task_ids: set[str]) -> None:
        if not task_ids:
            return
        with self._lock:
            for submission_id, active in list(self._active.items()):
                still_open = active.open_task_ids - task_ids
                if not still_open:
                    del self._active[submission_id]
                elif len(still_open) < len(active.open_task_ids):
                    self._active[submission_id] = replace(active, open_task_ids=still_open)


def _not_sent(error: Exception) -> Outcome:
    if is_full(error):
        # Before any call: what is about to be sent is written down first.
        return Outcome(FailureKind.LOST, reason=no_space(".snakemake/takeda", "nothing was sent"))
    reason = f"could not be submitted: {type(error).__name__}: {error}"
    return Outcome(FailureKind.CONFIGURATION, reason=reason)


def _all_lost(active: list[Active], reason: str) -> list[Update]:
    # It may still run: to send it again would do it twice.
    outcome = Outcome(FailureKind.LOST, reason=reason, permanent=True)
    return [Update(task_id, outcome) for one in active for task_id in one.open_task_ids]
