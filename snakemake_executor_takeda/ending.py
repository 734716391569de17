"""Ends a run without Snakemake: what its controllers left on its way is ended in its services, and then
settled in ledger and event log."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.audit import identity
from snakemake_executor_takeda.backends.base import RunContext, SubmissionDelayed
from snakemake_executor_takeda.events import NO_JOB, EventLog, about
from snakemake_executor_takeda.ledger import KnownRun, Ledger
from snakemake_executor_takeda.resuming import ControllerLock
from snakemake_executor_takeda.values import (
    Accepted,
    Active,
    Outcome,
    Remembered,
    TakedaError,
    Target,
)

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.base import Backend, BackendFactory

ASKED_AGAIN_SECONDS = 5.0
HEARD_AFTER_SECONDS = 10.0
"""After a call that a killed controller made: a listing shows by then what came of it."""
REASON = "ended by `takeda cancel`"


@dataclass
class Ended:
    """What became of the tasks that were open; counts are of tasks, by target."""

    cancelled: Counter[str] = field(default_factory=Counter)
    had_ended: Counter[str] = field(default_factory=Counter)
    """Before they could be ended: the services knew, and no controller had asked."""
    never_sent: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    """They may go on."""
    troubles: list[str] = field(default_factory=list)
    """Why, and what to do, by backend."""

    @property
    def is_all(self) -> bool:
        return not self.left and not self.troubles


class RunEnder:
    """Controls the run, as a controller does, from its making to `close`.

    Raises TakedaError where another process controls it, or its targets are not known."""

    def __init__(
        self,
        directory: Path,
        known: KnownRun,
        targets: Mapping[str, Target],
        factories: Mapping[str, BackendFactory],
        say: Callable[[str], None],
        *,
        anyway: bool = False,
    ) -> None:
        """`anyway`: also where a target would take no new jobs."""
        self._known = known
        self._factories = factories
        self._say = say
        self._anyway = anyway
        self._writing = threading.Lock()
        self._closers = ExitStack()
        if known.remote_prefix:
            _check_owner(known, known.remote_prefix, directory)
        self._ended = Ended()
        self._settled: set[str] = set()
        """Tasks."""
        state = directory / ".snakemake" / "takeda"
        state_dir = Path(known.state_dir)
        if not state_dir.is_dir():
            state_dir = state / "runs" / known.run_id
        self._context = RunContext(
            run_id=known.run_id,
            workdir=directory,
            state_dir=state_dir,
            remote_prefix=known.remote_prefix,
            # Nothing is sent any more: that there are sources in S3 is all that matters of them.
            sources_uri=known.remote_prefix and f"{known.remote_prefix}/sources.tar.xz",
            environment_uri=None,
            basedir=directory,
            say=say,
        )
        try:
            state_dir.mkdir(parents=True, exist_ok=True)
            lock = ControllerLock(state / "controller.lock", known.run_id)
            self._closers.callback(lock.release)
            self._ledger = Ledger(state / "ledger.sqlite", known.run_id)
            self._closers.callback(self._ledger.close)
            self._events = EventLog(state / "events.jsonl", known.run_id)
            self._closers.callback(self._events.close)
            self.remembered: Sequence[Remembered] = self._ledger.remembered(targets)
        except (OSError, sqlite3.Error) as error:
            self._closers.close()
            raise TakedaError(f"cannot write below {state}: {error}") from error
        except BaseException:
            self._closers.close()
            raise

    def counts(self) -> Counter[str]:
        """Open tasks by target and backend, `hpc (slurm)`."""
        counts: Counter[str] = Counter()
        for one in self.remembered:
            target = one.submission.target
            counts[f"{target.name} ({target.backend})"] += len(one.open_task_ids)
        return counts

    def end(self) -> Ended:
        """All services at once. What has ended is written down at once: when a Ctrl-C comes, the next
        call goes on from there."""
        by_backend: dict[str, list[Remembered]] = {}
        for one in self.remembered:
            by_backend.setdefault(one.submission.target.backend, []).append(one)
        threads = [
            threading.Thread(target=self._end_of_backend, args=item, daemon=True)
            for item in by_backend.items()
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except KeyboardInterrupt:
            # What is being written is written whole; nothing more is.
            self._writing.acquire()
            raise
        self._finish()
        return self._ended

    def close(self) -> None:
        self._closers.close()

    # In a thread for each backend.

    def _end_of_backend(self, name: str, remembered: list[Remembered]) -> None:
        try:
            used = {one.submission.target.name: one.submission.target for one in remembered}
            backend = self._factories[name](list(used.values()), self._context)
            try:
                self._check(backend)
                for number, active in enumerate(self._taken_up(name, backend, remembered)):
                    # What was only just found is not looked at: a look may start what waits here.
                    open_ = self._settle_ended(backend, active) if number == 0 else active
                    self._end_active(backend, open_)
            finally:
                backend.close()
        except Exception as error:  # noqa: BLE001 - told; those of the other services are ended
            with self._writing:
                self._ended.troubles.append(
                    str(error) if isinstance(error, TakedaError) else f"{name}: {error!r}"
                )
        with self._writing:
            self._ended.left += Counter(
                one.submission.target.name
                for one in remembered
                for task_id in one.open_task_ids - self._settled
            )

    def _check(self, backend: Backend) -> None:
        """A service that does not know the target may be another account's: it would know no job either,
        and all of them would seem to have ended."""
        try:
            backend.check()
        except TakedaError as error:
            if not self._anyway:
                raise TakedaError(
                    f"{error}. Nothing was ended there, as this may be another account, region or "
                    "cluster than the run's; if it is the right one, say --anyway"
                ) from error
            self._say(str(error))

    def _taken_up(
        self, name: str, backend: Backend, remembered: Sequence[Remembered]
    ) -> Iterable[list[Active]]:
        """First all that is known to be there, then each of the rest as it is found."""
        if backend.finds_its_runs:
            # Those without an answer it finds by itself, once the service can have heard of them.
            newest = max((one.intent_at for one in remembered if not one.accepted), default=0.0)
            time.sleep(max(0.0, newest + HEARD_AFTER_SECONDS - time.time()))
            yield [_active(one, one.accepted or _unknown(one)) for one in remembered]
            return
        if not backend.outlives_controller:
            self._settle_absent(remembered)
            return
        yield [_active(one, one.accepted) for one in remembered if one.accepted]
        in_doubt = [one for one in remembered if one.accepted is None]
        if in_doubt:
            self._say(
                f"looks whether {len(in_doubt)} submission{'s' if len(in_doubt) > 1 else ''} that "
                f"{name} did not answer came through"
            )
        last_note = ""
        while in_doubt:
            found, later, pause = [], [], ASKED_AGAIN_SECONDS
            for one in in_doubt:
                try:
                    accepted = backend.reattach(one)
                except SubmissionDelayed as delay:
                    later.append(one)
                    pause = min(pause, delay.seconds)
                    if delay.note and delay.note != last_note:
                        last_note = delay.note
                        self._say(last_note)
                    continue
                if accepted is None:
                    self._settle_absent([one])
                else:
                    with self._writing:
                        self._ledger.accept(one.submission, accepted)
                    found.append(_active(one, accepted))
            yield found
            in_doubt = later
            if in_doubt:
                time.sleep(pause)

    def _end_active(self, backend: Backend, active: list[Active]) -> None:
        if not active:
            return
        left = set(backend.cancel(active) or ())
        done = [one for one in active if one.accepted.external_id not in left]
        with self._writing:
            self._ledger.cancel([i for one in done for i in one.open_task_ids], REASON)
            for one in done:
                self._settle("cancelled", one, one.open_task_ids, self._ended.cancelled)

    def _settle_ended(self, backend: Backend, active: Sequence[Active]) -> list[Active]:
        """One look first: what has ended well is not called cancelled; → what is still open."""
        outcomes: dict[str, Outcome] = {}
        try:
            for update in backend.poll(active):
                if update.outcome is not None:
                    outcomes[update.task_id] = update.outcome
        except Exception as error:  # noqa: BLE001 - they are ended all the same
            self._say(f"how the jobs do cannot be seen: {error!r}")
        with self._writing:
            self._ledger.end(outcomes)
            for one in active:
                for task_id in one.open_task_ids & outcomes.keys():
                    outcome = outcomes[task_id]
                    told = {"wall_seconds": outcome.wall_seconds, **outcome.detail}
                    if not outcome.succeeded:
                        told |= {"kind": outcome.kind, "reason": outcome.reason}
                        told |= {"exit_code": outcome.exit_code, "log": outcome.log_location}
                    event = "succeeded" if outcome.succeeded else "failed"
                    self._settle(event, one, {task_id}, self._ended.had_ended, told)
        still_open = [
            replace(one, open_task_ids=one.open_task_ids - outcomes.keys()) for one in active
        ]
        return [one for one in still_open if one.open_task_ids]

    def _settle_absent(self, remembered: Iterable[Remembered]) -> None:
        with self._writing:
            for one in remembered:
                self._ledger.never_sent(one)
                gone = _active(one, one.accepted or _unknown(one))
                self._settle("cancelled", gone, one.open_task_ids, self._ended.never_sent)

    def _settle(
        self,
        event: str,
        one: Active,
        task_ids: Collection[str],
        counts: Counter[str],
        told: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """The ledger has it; the event log follows. `_writing` is held."""
        target = one.submission.target
        for task in one.submission.tasks:
            if task.task_id in task_ids:
                external_id = one.accepted.task_external_ids.get(task.task_id) or None
                self._events.write(event, about(task.job), target, external_id, told)
        self._settled |= set(task_ids)
        counts[target.name] += len(task_ids)

    # In the end.

    def _finish(self) -> None:
        if not self._ended.left and self._context.remote_prefix:
            self._remove_variables(self._context.remote_prefix)
        state = "cancelled" if self._ended.is_all else "detached"
        self._ledger.finish(state)
        told = {
            "status": state,
            "wall_seconds": round(time.time() - self._known.began_at, 1),
            "totals": dict(self._events.counts),
            "who": identity.who(),
        }
        self._events.write("run_end", NO_JOB, None, None, told)
        self._ledger.note_end_of_event_log(self._events.sync())

    def _remove_variables(self, prefix: str) -> None:
        from botocore.exceptions import ClientError

        from snakemake_executor_takeda.backends.aws import client, error_message, readable_errors
        from snakemake_executor_takeda.delivery import remove_environment

        try:
            with readable_errors("s3"):
                remove_environment(client("s3"), prefix)
        except (ClientError, TakedaError) as error:
            why = error_message(error) if isinstance(error, ClientError) else error
            self._ended.troubles.append(
                f"the variables that the run's jobs had may still be in {prefix}/environment.json: {why}"
            )


def _check_owner(known: KnownRun, prefix: str, directory: Path) -> None:
    """Raises TakedaError where another directory has gone on with the run, or nobody can tell."""
    from botocore.exceptions import ClientError

    from snakemake_executor_takeda.backends.aws import client, error_message, readable_errors
    from snakemake_executor_takeda.owning import Ownership

    try:
        with readable_errors("s3"):
            Ownership(client("s3"), prefix).check(known, directory)
    except ClientError as error:
        raise TakedaError(f"cannot read below {prefix}: {error_message(error)}") from error


def _active(remembered: Remembered, accepted: Accepted) -> Active:
    return Active(remembered.submission, accepted, remembered.open_task_ids)


def _unknown(remembered: Remembered) -> Accepted:
    """In place of an answer that is not written down."""
    return Accepted("", {task.task_id: "" for task in remembered.submission.tasks})
