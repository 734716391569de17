"""What is new about open tasks: the tasks' own records first, then, in growing pauses, one look at the queue.

Only what neither explains is asked for: scontrol for tasks that vanished, then the accounting database
where there is one, and the nodes when one of them failed.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_executor_takeda.backends.slurm import capacity, states
from snakemake_executor_takeda.backends.slurm.accounting import Account, Accounting, database_of
from snakemake_executor_takeda.backends.slurm.answers import Sighting, expand_hosts, task_id_of
from snakemake_executor_takeda.backends.slurm.arguments import log_path
from snakemake_executor_takeda.backends.slurm.clients.base import (
    SlurmClient,
    SlurmRefused,
    SlurmSilent,
)
from snakemake_executor_takeda.backends.slurm.records import (
    ExitRecord,
    Records,
    log_folder,
    log_on_node,
    log_tail,
)
from snakemake_executor_takeda.backends.slurm.states import Doubt
from snakemake_executor_takeda.values import FailureKind, Outcome, Update

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.slurm.facts import NodeFacts
    from snakemake_executor_takeda.values import Active, Submission, Task

SILENCE_NOTICE_SECONDS = 30.0
"""A busy controller is silent for some seconds now and then."""
DATABASE_PATIENCE_SECONDS = 1800.0
"""How long a task that only the database may know of waits for a database that is down."""
JOBS_PER_POLL = 10
"""Vanished jobs that scontrol is asked for in one poll: one process each."""
CLOCKS_DIFFER_SECONDS = 10.0
FIRST_LOOK_SECONDS = 1.0
LOOK_GROWTH = 1.5
NO_ID = ""
"""Of a job whose id Slurm has given to another."""
LONGEST_DOUBT_SECONDS = 5.0
"""Between two looks at the queue while one of them left a doubt."""
LOOKS_WHILE_REMEMBERED = 3
"""At least so many while Slurm shows a task that has ended."""
OPEN_TASKS_A_PAUSE = 1000
MOST_PAUSES = 3
LONGEST_LOOK_SECONDS = 60.0
"""A look costs Slurm and this machine in proportion to the tasks: among thousands there are fewer. But
Slurm forgets what has ended after some minutes (MinJobAge)."""


@dataclass(frozen=True)
class Patience:
    """How long a doubtful sight must last, in polls and in seconds, before it is believed."""

    polls: int = 3
    seconds: Mapping[Doubt, float] = field(
        default_factory=lambda: {
            Doubt.UNRECORDED: 5.0,
            Doubt.UNSETTLED: 60.0,
            Doubt.PARTIAL: 5.0,
            Doubt.ABSENT: 30.0,
            Doubt.HOPELESS: 60.0,
        }
    )


@dataclass(frozen=True)
class _Open:
    task: Task
    submission: Submission
    external_id: str
    job_id: str
    log_folder: Path
    index: int

    @property
    def log(self) -> Path:
        return log_path(self.log_folder, self.index)


@dataclass(frozen=True)
class _End:
    """A task that has ended, as far as the queue and its record tell."""

    one: _Open
    outcome: Outcome
    record: ExitRecord | None = None
    is_by_queue: bool = False
    """Only the queue has been asked, which tells no exit code, and perhaps no nodes."""
    is_settled: bool = True
    """Slurm has said why, or nothing more is to be expected of it."""


@dataclass
class _Waiting:
    doubt: Doubt
    since: float
    polls: int = 0


class Looks:
    """When the queue is asked: soon after a submission, then in pauses that grow, whatever ends meanwhile.

    Records tell of nearly all ends, and cost no process and no work of Slurm's controller.
    """

    def __init__(self, longest_seconds: float, clock: Callable[[], float]) -> None:
        self.limit_seconds = LONGEST_LOOK_SECONDS
        """Never longer than that, whatever the number of tasks."""
        self._longest_seconds = longest_seconds
        self._clock = clock
        self._last: float | None = None
        self._pause = 0.0
        self._jobs: set[str] = set()

    def is_due(
        self, jobs: set[str], open_tasks: int, *, is_doubtful: bool, is_asked_for: bool
    ) -> bool:
        """Whether to ask now. `is_asked_for`: a record needs Slurm's word."""
        if jobs - self._jobs:
            # Submissions may go on for hours, one every second.
            share = self._longest_seconds * open_tasks / OPEN_TASKS_A_PAUSE
            self._pause = min(max(self._pause, FIRST_LOOK_SECONDS), max(share, FIRST_LOOK_SECONDS))
        self._jobs = jobs
        longest = self._longest_seconds * min(1 + open_tasks / OPEN_TASKS_A_PAUSE, MOST_PAUSES)
        pause = self._pause = min(self._pause, longest, self.limit_seconds)
        if is_doubtful:
            pause = min(pause, LONGEST_DOUBT_SECONDS)
        if is_asked_for:
            pause = min(pause, FIRST_LOOK_SECONDS)
        now = self._clock()
        if self._last is not None and now - self._last < pause:
            return False
        self._last = now
        self._pause *= LOOK_GROWTH
        return True


class Watcher:
    """Remembers between polls what it has said and what it doubts."""

    def __init__(
        self,
        client: SlurmClient,
        records: Records,
        logs: Path,
        patience: Patience | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        accounting: Accounting | None = None,
        longest_pause_seconds: float = 0.0,
    ) -> None:
        """`longest_pause_seconds`: between two looks at the queue (0: each poll is one), but three times
        that among thousands of tasks."""
        self._client = client
        self._records = records
        self._logs = logs
        self._patience = patience or Patience()
        self._clock = clock
        self._accounting = accounting
        self._tasks: dict[str, dict[str, _Open]] = {}
        """By submission and task: made once, as there may be thousands."""
        self._silent_since: float | None = None
        self._told_silence = False
        self._started: set[str] = set()
        self._nodes: dict[str, str] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._given_up: dict[str, Outcome] = {}
        """Tasks that are to be taken out of the queue, with the outcome that they get then."""
        self._cancelled: dict[str, Outcome] = {}
        """Those of them that Slurm was told to cancel: it may do so a moment after they began."""
        self._last_words: dict[str, Sighting] = {}
        """Ends without a record, which Slurm may forget before they are believed."""
        self._earlier: dict[str, float] = {}
        """When the record of an earlier run of a task was left."""
        self._pending = capacity.Pending()
        self._bad_nodes = capacity.BadNodes()
        self._looks = Looks(longest_pause_seconds, clock)

    def remembered_for(self, seconds: float) -> None:
        """How long Slurm shows a task that has ended (MinJobAge): it is looked at before."""
        share = seconds / LOOKS_WHILE_REMEMBERED
        self._looks.limit_seconds = max(FIRST_LOOK_SECONDS, min(LONGEST_LOOK_SECONDS, share))

    def excluded_nodes(self) -> tuple[str, ...]:
        """Nodes that failed twice for this run."""
        return self._bad_nodes.excluded()

    def poll(self, active: Sequence[Active]) -> Iterator[Update]:
        """Updates; between looks at the queue, and while Slurm does not answer, only successes that the
        records tell of."""
        self._tasks = {
            one.submission.submission_id: self._tasks.get(one.submission.submission_id)
            or _all_tasks(one, self._logs)
            for one in active
        }
        self._tasks |= {
            submission_id: {
                task_id: replace(one, external_id=NO_ID, job_id=NO_ID)
                for task_id, one in self._tasks[submission_id].items()
            }
            for submission_id in _replaced(active)
        }
        if self._waiting:
            self._records.refresh()
        recorded = list(self._recorded(active))
        done = [one for one, record in recorded if _is_told_by(record, one.task)]
        records = {one.task.task_id: record for one, record in recorded}
        jobs = {one.accepted.external_id for one in active}
        if not self._looks.is_due(
            jobs,
            sum(len(one.open_task_ids) for one in active),
            is_doubtful=bool(self._waiting or self._given_up),
            is_asked_for=any(self._needs_a_look(one, record) for one, record in recorded),
        ):
            yield from self._by_record(done, records)
            return
        opened = self._open_tasks(active)
        self._forget_all_but({one.task.task_id for one in opened})
        try:
            queue = self._client.queue(jobs)
        except (SlurmSilent, SlurmRefused) as error:
            yield from self._is_silent(opened, error)
            # What is not seen now must not be counted as absent.
            self._waiting.clear()
            yield from self._by_record(opened, records)
            return
        yield from self._is_heard(opened)
        queue = self._with_nodes(opened, queue)
        ends, absent = [], []
        for one in opened:
            sighting, record = self._seen(one, queue), records.get(one.task.task_id)
            if sighting is None and record is None and one.task.task_id not in self._given_up:
                absent += [one] if self._lasts(one, Doubt.ABSENT) else []
            elif isinstance(found := self._look(one, sighting, record), _End):
                ends.append(found)
            elif found is not None:
                yield found
        ends = self._with_slurms_word(self._with_details(ends), queue) + self._explained(absent)
        yield from self._ended(ends)
        yield from self._look_at_pending(opened, queue, {end.one.task.task_id for end in ends})

    def _recorded(self, active: Sequence[Active]) -> Iterator[tuple[_Open, ExitRecord]]:
        """Open tasks that have left their record. What is done here is done at each poll: nothing in it
        may cost as much as a look at each open task."""
        names = self._records.names()
        for one in active:
            tasks = self._tasks[one.submission.submission_id]
            for task_id in sorted(names & one.open_task_ids):
                if (record := self._records.read(task_id)) is not None:
                    yield tasks[task_id], record

    def _needs_a_look(self, one: _Open, record: ExitRecord) -> bool:
        """Whether Slurm has to be asked what a record means."""
        if _is_told_by(record, one.task):
            return False
        return self._earlier.get(one.task.task_id) != record.ended

    def _open_tasks(self, active: Sequence[Active]) -> list[_Open]:
        return [
            task
            for one in active
            for task_id, task in self._tasks[one.submission.submission_id].items()
            if task_id in one.open_task_ids
        ]

    # Slurm that does not answer.

    def _is_silent(self, opened: Sequence[_Open], error: Exception) -> Iterator[Update]:
        if self._silent_since is None:
            self._silent_since = self._clock()
        silent_s = self._clock() - self._silent_since
        if opened and not self._told_silence and silent_s >= SILENCE_NOTICE_SECONDS:
            self._told_silence = True
            note = (
                f"Slurm has not answered for {silent_s:.0f} s ({error}). Nothing is taken as failed; "
                f"open jobs ({len(opened)}) are looked at again once it does"
            )
            yield Update(opened[0].task.task_id, note=note)

    def _is_heard(self, opened: Sequence[_Open]) -> Iterator[Update]:
        if self._told_silence and opened and self._silent_since is not None:
            minutes = (self._clock() - self._silent_since) / 60
            note = f"Slurm answers again, after {minutes:.1f} min"
            yield Update(opened[0].task.task_id, note=note)
        self._silent_since, self._told_silence = None, False

    def _by_record(
        self, opened: Iterable[_Open], records: Mapping[str, ExitRecord]
    ) -> Iterator[Update]:
        """Those that ended well: a record of failure needs Slurm's word."""
        for one in opened:
            record = records.get(one.task.task_id)
            if outcome := states.outcome_of(one.task, None, record):
                yield self._update(_End(one, outcome, record), {})

    # What the queue shows.

    def _with_nodes(
        self, opened: Iterable[_Open], queue: dict[str, Sighting]
    ) -> dict[str, Sighting]:
        """A light query may leave out where tasks run. Of those on several nodes nobody else tells it."""
        lacking = {
            one.job_id
            for one in opened
            if _spreads(one.task)
            and one.task.task_id not in self._nodes
            and (sighting := queue.get(one.external_id)) is not None
            and not sighting.nodes
            and sighting.state not in states.WAITING
        }
        details: dict[str, Sighting] = {}
        try:
            for job_id in sorted(lacking)[:JOBS_PER_POLL]:
                details |= self._client.jobs(job_id)
        except (SlurmSilent, SlurmRefused):
            return queue  # asked again at the next look
        return queue | details

    def _seen(self, one: _Open, queue: Mapping[str, Sighting]) -> Sighting | None:
        """The task, or what is left of its array when all that waited of it was cancelled: Slurm shows
        that as one job without indices."""
        sighting = queue.get(one.external_id)
        if sighting is not None or one.external_id == one.job_id:
            return sighting
        rest = queue.get(one.job_id)
        is_cancelled = rest is not None and rest.state == "CANCELLED"
        return rest if is_cancelled and not self._has_begun(one, unseen=False) else None

    def _look(
        self, one: _Open, sighting: Sighting | None, record: ExitRecord | None
    ) -> _End | Update | None:
        task_id = one.task.task_id
        if end := self._left_the_queue(one, sighting, record):
            return end
        # squeue lists of a COMPLETING job only the nodes that it has not given back.
        is_partial = sighting is not None and sighting.state == "COMPLETING"
        if sighting is not None and sighting.nodes and not (is_partial and _spreads(one.task)):
            self._nodes[task_id] = sighting.nodes
        if sighting is not None and record is not None and _is_of_an_earlier_run(sighting, record):
            self._earlier[task_id] = record.ended
            record = None
        if sighting is not None and sighting.state in states.RUNNING and not is_partial:
            self._cancelled.pop(task_id, None)
        verdict = states.verdict_of(one.task, sighting, record, self._records.place)
        if verdict is not None:
            ends_by_us = sighting is None or sighting.state in ("COMPLETING", "CANCELLED")
            if ends_by_us and task_id in self._cancelled and not verdict.outcome.succeeded:
                return _End(one, self._cancelled[task_id])
            if is_partial and task_id not in self._nodes and verdict.doubt is None:
                verdict = replace(verdict, doubt=Doubt.PARTIAL)
            if verdict.doubt and not self._lasts(one, verdict.doubt):
                if sighting is not None and verdict.doubt == Doubt.UNRECORDED:
                    self._last_words[task_id] = sighting
                return None
            is_settled = verdict.doubt != Doubt.UNSETTLED
            return _End(one, verdict.outcome, record, is_by_queue=True, is_settled=is_settled)
        self._last_words.pop(task_id, None)
        hopeless = states.hopeless(one.task, sighting) if sighting else None
        if hopeless is None:
            self._waiting.pop(task_id, None)
        elif task_id not in self._given_up and self._lasts(one, Doubt.HOPELESS):
            self._given_up[task_id] = hopeless
        if sighting and sighting.state in states.RUNNING and task_id not in self._started:
            self._started.add(task_id)
            return Update(task_id, detail={"nodes": sighting.nodes})
        return None

    def _left_the_queue(
        self, one: _Open, sighting: Sighting | None, record: ExitRecord | None
    ) -> _End | None:
        """The end of a task that was given up, when it is out of the queue."""
        outcome = self._given_up.get(one.task.task_id)
        if outcome is None or (sighting is not None and sighting.state in states.WAITING):
            return None
        del self._given_up[one.task.task_id]
        is_out = sighting is None or sighting.state == "CANCELLED"
        # One that began a moment before goes on like any other.
        return _End(one, outcome) if is_out and record is None else None

    # What the queue does not show any more.

    def _with_details(self, ends: Sequence[_End]) -> list[_End]:
        """An end that left no record, or that Slurm has not explained, is asked for once more: exit code,
        reason and nodes say more of it, that it runs again, or that the id is another job's by now."""
        asked = sorted({end.one.job_id for end in ends if _needs_details(end)})
        details: dict[str, Sighting] = {}
        try:
            for job_id in asked[:JOBS_PER_POLL]:
                details |= self._client.jobs(job_id)
        except (SlurmSilent, SlurmRefused):
            return list(ends)
        result = []
        for end in ends:
            detail = details.get(end.one.external_id) if _needs_details(end) else None
            if detail and not _is_of(end.one, detail):
                result.append(_End(end.one, self._lost(end.one)))
                continue
            if detail and end.record and _is_of_an_earlier_run(detail, end.record):
                self._earlier[end.one.task.task_id] = end.record.ended
                self._waiting.pop(end.one.task.task_id, None)
                continue
            outcome = self._outcome_of(end.one, detail, end.record) if detail else None
            result.append(replace(end, outcome=outcome) if outcome else end)
        return result

    def _explained(self, absent: Sequence[_Open]) -> list[_End]:
        """Slurm forgets ended jobs after some minutes, and a record may come late."""
        remembered: dict[str, Sighting] = {}
        asked = sorted({one.job_id for one in absent} - {NO_ID})[:JOBS_PER_POLL]
        try:
            for job_id in asked:
                remembered |= self._client.jobs(job_id)
        except (SlurmSilent, SlurmRefused):
            return []
        ends = [_End(one, self._lost(one)) for one in absent if one.job_id == NO_ID]
        unknown = []
        for one in (one for one in absent if one.job_id in asked):
            sighting = remembered.get(one.external_id) or self._last_words.get(one.task.task_id)
            if sighting is None or not _is_of(one, sighting):
                unknown.append(one)
            elif outcome := self._outcome_of(one, sighting):
                ends.append(_End(one, outcome))
        known = {
            one.job_id
            for one in unknown
            if any(_is_of(one, sighting) for sighting in remembered.values())
        }
        return ends + self._accounted(unknown, known)

    def _accounted(self, unknown: Sequence[_Open], known: Collection[str]) -> list[_End]:
        """`known`: jobs that Slurm knows, but not these tasks of them."""
        if not unknown:
            return []
        accounts: Mapping[str, Account] = {}
        is_down = False
        try:
            accounts = self._database().tasks({one.external_id for one in unknown})
        except (SlurmSilent, SlurmRefused):
            is_down = True
        ends = []
        for one in unknown:
            account = accounts.get(one.external_id)
            outcome = self._outcome_of(one, account.sighting) if account else None
            if outcome is None and is_down and not self._has_waited(one, DATABASE_PATIENCE_SECONDS):
                continue
            if outcome is None and one.job_id in known and not self._has_begun(one, unseen=False):
                outcome = states.cancelled_in_array(one.task)
            ends.append(_End(one, outcome or self._lost(one)))
        return ends

    def _with_slurms_word(self, ends: Sequence[_End], queue: Mapping[str, Sighting]) -> list[_End]:
        """A command whose record says that it failed may have been ended by Slurm, which has forgotten
        it: the database, if there is one, says why."""
        known = queue.keys() | {NO_ID}
        ids = {
            end.one.external_id
            for end in ends
            if end.record and end.record.exit_code and end.one.external_id not in known
        }
        try:
            accounts = self._database().tasks(ids) if ids else {}
        except (SlurmSilent, SlurmRefused):
            accounts = {}
        result = []
        for end in ends:
            account = accounts.get(end.one.external_id)
            said = account and states.outcome_of(end.one.task, account.sighting, end.record)
            result.append(replace(end, outcome=said) if said else end)
        return result

    def _outcome_of(
        self, one: _Open, sighting: Sighting, record: ExitRecord | None = None
    ) -> Outcome | None:
        if sighting.nodes:
            self._nodes[one.task.task_id] = sighting.nodes
        verdict = states.verdict_of(one.task, sighting, record, self._records.place)
        return verdict.outcome if verdict else None

    def _lost(self, one: _Open) -> Outcome:
        if not self._has_begun(one, unseen=True):
            reason = "Slurm does not know the job any more, and it never began"
            return Outcome(FailureKind.NODE_FAILURE, reason)
        reason = "Slurm does not know the job any more, and it left no record"
        advice = "Was it removed, or was the controller started anew without its saved state?"
        return Outcome(FailureKind.LOST, reason, advice=advice)

    def _database(self) -> Accounting:
        if self._accounting is None:
            self._accounting = database_of(self._client)
        return self._accounting

    # Ends.

    def _ended(self, ends: Sequence[_End]) -> Iterator[Update]:
        nodes = self._nodes_of(ends)
        accounts = self._accounts_of_ranks(ends)
        for end in ends:
            if end.outcome.kind in _OF_THE_NODE:
                if end.record is None:
                    end = replace(end, outcome=self._by_node(end, nodes))  # noqa: PLW2901
                yield from self._count_failed_nodes(end, nodes)
            yield self._update(end, accounts)

    def _nodes_of(self, ends: Sequence[_End]) -> dict[str, NodeFacts]:
        """All nodes of the cluster, asked for only when some of them failed."""
        if not any(end.outcome.kind in _OF_THE_NODE for end in ends):
            return {}
        try:
            return {node.name: node for node in self._client.nodes()}
        except (SlurmSilent, SlurmRefused):
            return {}

    def _by_node(self, end: _End, nodes: Mapping[str, NodeFacts]) -> Outcome:
        if self._has_begun(end.one, unseen=False):
            return end.outcome
        hosts = self._nodes.get(end.one.task.task_id, "")
        return capacity.without_machine(end.outcome, hosts, nodes) or end.outcome

    def _count_failed_nodes(self, end: _End, nodes: Mapping[str, NodeFacts]) -> Iterator[Update]:
        # The name of a Spot node is given to another machine.
        if end.outcome.kind != FailureKind.NODE_FAILURE:
            return
        hosts = self._nodes.get(end.one.task.task_id, "")
        if not hosts and end.record is not None and not _spreads(end.one.task):
            hosts = end.record.host
        for name in self._bad_nodes.failed(capacity.failed_nodes(hosts, nodes)):
            why = nodes[name].reason if name in nodes else ""
            note = (
                f"node {name} failed {capacity.FAILURES_OF_A_NODE} times{f' ({why})' if why else ''}: "
                "no more jobs of this run are sent there"
            )
            yield Update(end.one.task.task_id, note=note)

    def _accounts_of_ranks(self, ends: Iterable[_End]) -> dict[str, Account]:
        """What the ranks used, which are no children of the task's own process."""
        ids = {end.one.external_id for end in ends if end.record and _spreads(end.one.task)}
        ids.discard(NO_ID)
        try:
            return self._database().tasks(ids) if ids else {}
        except (SlurmSilent, SlurmRefused):
            return {}

    def _update(self, end: _End, accounts: Mapping[str, Account]) -> Update:
        one, record = end.one, end.record
        nodes = self._nodes.get(one.task.task_id) or (record.host if record else "")
        log = str(one.log) if self._records.shows_logs else _log_afar(one, record, nodes)
        detail: dict[str, object] = {"log": log} if log else {}
        if nodes:
            detail["nodes"] = nodes
        if record is not None and not _spreads(one.task):
            detail |= _used(record.cpu_seconds, record.max_rss_kib)
        elif account := accounts.get(one.external_id):
            detail |= _used(account.cpu_seconds, account.max_rss_kib)
        outcome = end.outcome
        if outcome.exit_code == states.NO_LOG and record is None and not self._records.has_room():
            outcome = states.without_room(outcome, self._records.place)
        outcome = replace(outcome, detail={**outcome.detail, **detail}, log_location=log)
        if not outcome.succeeded:
            lines = record.log_tail if record and record.log_tail else log_tail(one.log)
            outcome = replace(outcome, log_tail=lines)
        return Update(one.task.task_id, outcome)

    # What waits.

    def _look_at_pending(
        self, opened: Sequence[_Open], queue: Mapping[str, Sighting], ended: set[str]
    ) -> Iterator[Update]:
        waiting: dict[str, dict[str, Sighting]] = defaultdict(dict)
        first: dict[str, _Open] = {}
        busy = set()
        for one in opened:
            sighting = queue.get(one.external_id)
            if sighting is None or one.task.task_id in ended:
                continue
            first.setdefault(one.submission.submission_id, one)
            if sighting.state in states.WAITING:
                if one.task.task_id not in self._given_up:
                    waiting[one.submission.submission_id][one.task.task_id] = sighting
            elif sighting.state not in states.ENDED:
                busy.add(one.task.target.name)
        queued = [
            capacity.Queued(first[key].submission, first[key].job_id, tasks)
            for key, tasks in waiting.items()
        ]
        for found in self._pending.look(queued, busy, self._clock()):
            if isinstance(found, Update):
                yield found
            else:
                self._given_up |= dict.fromkeys(found.task_ids, found.outcome)
        if self._given_up:
            self._take_out(opened, queue)

    def _take_out(self, opened: Sequence[_Open], queue: Mapping[str, Sighting]) -> None:
        """Cancel what was given up and still waits. It ends for us when it is seen to be out."""
        ids: set[str] = set()
        rest: dict[str, bool] = defaultdict(bool)
        for one in opened:
            sighting = queue.get(one.external_id)
            if sighting is not None and sighting.state in states.WAITING:
                is_out = one.task.task_id in self._given_up
                ids |= {one.external_id} if is_out else set()
                rest[one.job_id] |= not is_out
        whole = {job_id for job_id, keeps_some in rest.items() if not keeps_some}
        ids = {id_.partition("_")[0] if id_.partition("_")[0] in whole else id_ for id_ in ids}
        if ids:
            self._cancelled |= self._given_up
            try:
                self._client.cancel(sorted(ids), pending_only=True)
            except (SlurmSilent, SlurmRefused):
                return  # asked again at the next poll

    def _has_begun(self, one: _Open, *, unseen: bool) -> bool:
        """Whether it has; `unseen` where nobody can tell, from a machine that does not see the logs."""
        if one.task.task_id in self._started:
            return True
        # Slurm makes the log when it starts the script; its folder is made here.
        return one.log.exists() if one.log_folder.exists() else unseen

    def _lasts(self, one: _Open, doubt: Doubt) -> bool:
        """Whether the same doubtful sight has lasted long enough, this look included."""
        now = self._clock()
        waiting = self._waiting.get(one.task.task_id)
        if waiting is None or waiting.doubt != doubt:
            waiting = self._waiting[one.task.task_id] = _Waiting(doubt, now)
        waiting.polls += 1
        long_enough = now - waiting.since >= self._patience.seconds[doubt]
        return long_enough and waiting.polls >= self._patience.polls

    def _has_waited(self, one: _Open, seconds: float) -> bool:
        waiting = self._waiting.get(one.task.task_id)
        return waiting is not None and self._clock() - waiting.since >= seconds

    def _forget_all_but(self, open_ids: set[str]) -> None:
        self._started &= open_ids
        for memory in (
            self._nodes,
            self._waiting,
            self._given_up,
            self._cancelled,
            self._last_words,
            self._earlier,
        ):
            for task_id in memory.keys() - open_ids:
                del memory[task_id]


_OF_THE_NODE = frozenset(
    {FailureKind.NODE_FAILURE, FailureKind.INTERRUPTED, FailureKind.NO_CAPACITY}
)


def _needs_details(end: _End) -> bool:
    return end.is_by_queue and (end.record is None or not end.is_settled)


def _is_of(one: _Open, sighting: Sighting) -> bool:
    """Whether this is of the task's job, whose id may be another's by now."""
    is_same = sighting.external_id.partition("_")[0] == one.job_id
    return is_same and sighting.name in ("", one.submission.name)


def _used(cpu_seconds: float | None, max_rss_kib: int | None) -> dict[str, object]:
    found = {"cpu_seconds": cpu_seconds, "max_rss_kib": max_rss_kib}
    return {name: value for name, value in found.items() if value}


def _is_of_an_earlier_run(sighting: Sighting, record: ExitRecord) -> bool:
    """A task that a site has started again waits or runs beside the record of its earlier failure."""
    if record.exit_code == 0:
        return False
    if sighting.state in states.AGAIN:
        return True
    if sighting.state != "RUNNING" or sighting.wall_seconds is None:
        return False
    return time.time() - sighting.wall_seconds > record.ended + CLOCKS_DIFFER_SECONDS


def _log_afar(one: _Open, record: ExitRecord | None, nodes: str) -> str:
    """`host:path`; by its record, or where Slurm wrote it."""
    if record is not None:
        return record.log
    hosts = expand_hosts(nodes)
    return f"{hosts[0]}:{log_on_node(one.submission, one.index)}" if hosts else ""


def _is_told_by(record: ExitRecord | None, task: Task) -> bool:
    """Whether it ended well, and its record says all of it: one of several nodes names but the first."""
    return record is not None and record.exit_code == 0 and not _spreads(task)


def _spreads(task: Task) -> bool:
    return task.job.shape.nodes > 1 or task.job.shape.tasks > 1


def _replaced(active: Iterable[Active]) -> Iterator[str]:
    """Submissions whose job Slurm has forgotten, as it gave the id to a later one: a controller that is
    killed loses what it took in its last seconds, and the numbers too."""
    latest: dict[str, str] = {}
    for one in active:
        submission_id = one.submission.submission_id
        if (earlier := latest.get(one.accepted.external_id)) is not None:
            yield earlier
        latest[one.accepted.external_id] = submission_id


def _all_tasks(one: Active, logs: Path) -> dict[str, _Open]:
    """The tasks of a submission, those that have ended too, by id."""
    submission, job_id = one.submission, one.accepted.external_id
    folder = log_folder(logs, submission)
    count = len(submission.tasks)
    return {
        task.task_id: _Open(
            task, submission, task_id_of(job_id, index, count), job_id, folder, index
        )
        for index, task in enumerate(submission.tasks)
    }
