"""What the services' own records say, held against the ledger. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from snakemake_executor_takeda.sandbox.executions import Execution

OPEN_STATES = ("intent", "accepted")
"""States of a task in the ledger that is not over."""
JobId = tuple[str, str]
"""Backend, and the id there."""


@dataclass(frozen=True)
class LedgerTask:
    """A row of the ledger's table `task`."""

    task_id: str
    backend: str
    rule: str
    wildcards: str
    """JSON."""
    state: str
    external_id: str | None

    @property
    def what(self) -> str:
        return self.rule if self.wildcards == "{}" else f"{self.rule} {self.wildcards}"


@dataclass(frozen=True)
class Ledger:
    """What the ledger knows."""

    tasks: tuple[LedgerTask, ...] = ()
    external_ids: frozenset[JobId] = frozenset()
    """Of tasks, whole submissions and hand-offs."""


@dataclass(frozen=True)
class Services:
    """What the services know, asked without this project's code."""

    executions: tuple[Execution, ...] = ()
    jobs: frozenset[JobId] = frozenset()
    """Each job, array child and run that there is, whether it ran or not."""
    left: frozenset[JobId] = frozenset()
    """Those of them that run, or wait to."""


@dataclass(frozen=True)
class Verdict:
    """A sentence for each thing that is wrong."""

    tasks: int
    """So many should have run to success."""
    lost: tuple[str, ...] = ()
    duplicated: tuple[str, ...] = ()
    orphaned: tuple[str, ...] = ()
    wrong: tuple[str, ...] = field(default=())

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.duplicated or self.orphaned or self.wrong)


def compare(
    wanted: Mapping[str, int],
    services: Services,
    ledger: Ledger,
    wrong_outputs: Iterable[str] = (),
) -> Verdict:
    """`wanted` is each rule's number of tasks. A task is a rule with its wildcards: which one a job was is
    all that is taken from the ledger; that it ran, and how it ended, is the services' word."""
    task_of: dict[JobId, LedgerTask] = {
        (task.backend, task.external_id): task for task in ledger.tasks if task.external_id
    }
    well = [
        (one.backend, one.external_id) for one in services.executions if one.succeeded is not False
    ]
    successes = Counter(
        (task.rule, task.wildcards) for job in well if (task := task_of.get(job)) is not None
    )
    return Verdict(
        tasks=sum(wanted.values()),
        lost=(
            *_not_run(wanted, successes),
            *_claimed(ledger, frozenset(well)),
            *_unsettled(ledger),
        ),
        duplicated=tuple(
            f"{rule} {wildcards} ran to success {count} times: "
            + ", ".join(
                f"{backend} {job_id}"
                for backend, job_id in well
                if (task := task_of.get((backend, job_id)))
                and (task.rule, task.wildcards) == (rule, wildcards)
            )
            for (rule, wildcards), count in sorted(successes.items())
            if count > 1
        ),
        orphaned=(*_unknown(services, ledger, task_of), *_left(services)),
        wrong=tuple(wrong_outputs),
    )


def _not_run(wanted: Mapping[str, int], successes: Counter[tuple[str, str]]) -> Iterable[str]:
    ran = Counter(rule for rule, _ in successes)
    for rule, count in wanted.items():
        if ran[rule] < count:
            yield f"{rule}: {ran[rule]} of {count} tasks ran to success"


def _claimed(ledger: Ledger, well: frozenset[JobId]) -> Iterable[str]:
    for task in ledger.tasks:
        if task.state == "succeeded" and (task.backend, task.external_id) not in well:
            yield f"{task.what}: succeeded for the ledger, not for {task.backend} {task.external_id}"


def _unsettled(ledger: Ledger) -> Iterable[str]:
    for task in ledger.tasks:
        if task.state in OPEN_STATES:
            yield f"{task.what}: its end is not in the ledger ({task.state}, {task.task_id})"


def _unknown(
    services: Services, ledger: Ledger, task_of: Mapping[JobId, LedgerTask]
) -> Iterable[str]:
    ran = {(one.backend, one.external_id) for one in services.executions}
    for backend, job_id in sorted(services.jobs | ran):
        if not _is_known((backend, job_id), ledger.external_ids):
            yield f"{backend} {job_id} is not in the ledger"
        elif (backend, job_id) in ran and (backend, job_id) not in task_of:
            yield f"{backend} {job_id} ran, and the ledger does not say which task it was"


def _is_known(job: JobId, known: frozenset[JobId]) -> bool:
    backend, job_id = job
    whole = job_id.partition({"batch": ":", "slurm": "_"}.get(backend, "\0"))[0]
    return job in known or (backend, whole) in known


def _left(services: Services) -> Iterable[str]:
    for backend, job_id in sorted(services.left):
        yield f"{backend} {job_id} still runs or waits"
