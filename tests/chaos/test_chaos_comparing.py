"""The comparison finds what it is for: a task lost, one that ran twice, a job nobody knows, a wrong file."""

from __future__ import annotations

import json
from dataclasses import replace

from snakemake_executor_takeda.sandbox.executions import Execution
from tests.chaos.comparing import Ledger, LedgerTask, Services, compare

WANTED = {"align": 2, "tree": 1, "call": 1}


def execution(backend: str, external_id: str, succeeded: bool | None = True) -> Execution:
    ended = None if succeeded is None else 2.0
    return Execution(backend, external_id, 1, "", 1.0, ended, succeeded, "")


def task(
    number: int, backend: str, rule: str, external_id: str | None, **wildcards: str
) -> LedgerTask:
    return LedgerTask(
        f"r-t{number}", backend, rule, json.dumps(wildcards), "succeeded", external_id
    )


TASKS = (
    task(1, "batch", "align", "a:0", sample="x"),
    task(2, "batch", "align", "a:1", sample="y"),
    task(3, "slurm", "tree", "7_0"),
    task(4, "healthomics", "call", "123"),
)
LEDGER = Ledger(
    TASKS,
    frozenset({("batch", "a"), ("slurm", "7"), *((t.backend, str(t.external_id)) for t in TASKS)}),
)
RAN = (
    execution("batch", "a:0"),
    execution("batch", "a:1", succeeded=False),
    execution("batch", "a:1"),
    execution("slurm", "7_0"),
    execution("healthomics", "123"),
)
JOBS = frozenset({("batch", "a:0"), ("batch", "a:1"), ("slurm", "7_0"), ("healthomics", "123")})
SERVICES = Services(RAN, JOBS)


def test_a_failed_attempt_before_a_success_is_no_fault() -> None:
    verdict = compare(WANTED, SERVICES, LEDGER)
    assert verdict.is_good
    assert verdict.tasks == 4


def test_a_task_that_never_ran_is_lost() -> None:
    ledger = replace(LEDGER, tasks=TASKS[1:])
    services = replace(SERVICES, executions=RAN[1:], jobs=JOBS - {("batch", "a:0")})
    verdict = compare(WANTED, services, ledger)
    assert verdict.lost == ("align: 1 of 2 tasks ran to success",)
    assert not (verdict.duplicated or verdict.orphaned)


def test_a_success_that_only_the_ledger_knows_is_lost() -> None:
    services = replace(SERVICES, executions=RAN[:-1])
    verdict = compare(WANTED, services, LEDGER)
    assert verdict.lost == (
        "call: 0 of 1 tasks ran to success",
        "call: succeeded for the ledger, not for healthomics 123",
    )


def test_a_task_whose_end_the_ledger_misses_is_lost() -> None:
    for state in ("intent", "accepted"):
        ledger = replace(LEDGER, tasks=(*TASKS[:3], replace(TASKS[3], state=state)))
        (said,) = compare(WANTED, SERVICES, ledger).lost
        assert said == f"call: its end is not in the ledger ({state}, r-t4)"


def test_a_task_that_two_jobs_ran_to_success_is_duplicated() -> None:
    again = task(5, "batch", "align", "b", sample="x")
    ledger = Ledger((*TASKS, again), LEDGER.external_ids | {("batch", "b")})
    services = replace(SERVICES, executions=(*RAN, execution("batch", "b")))
    verdict = compare(WANTED, services, ledger)
    assert verdict.duplicated == (
        'align {"sample": "x"} ran to success 2 times: batch a:0, batch b',
    )
    assert not (verdict.lost or verdict.orphaned)


def test_one_job_that_ran_to_success_twice_is_duplicated() -> None:
    services = replace(SERVICES, executions=(*RAN, execution("slurm", "7_0")))
    assert len(compare(WANTED, services, LEDGER).duplicated) == 1


def test_a_job_that_the_ledger_does_not_know_is_orphaned_even_where_it_never_ran() -> None:
    services = replace(
        SERVICES,
        executions=(*RAN, execution("slurm", "8_0", succeeded=False)),
        jobs=JOBS | {("healthomics", "124")},
    )
    assert compare(WANTED, services, LEDGER).orphaned == (
        "healthomics 124 is not in the ledger",
        "slurm 8_0 is not in the ledger",
    )


def test_a_child_whose_task_is_not_said_is_orphaned() -> None:
    services = replace(SERVICES, executions=(*RAN, execution("batch", "a:2")))
    (said,) = compare(WANTED, services, LEDGER).orphaned
    assert said == "batch a:2 ran, and the ledger does not say which task it was"


def test_a_job_that_is_left_running_is_orphaned() -> None:
    services = replace(SERVICES, left=frozenset({("batch", "a:1")}))
    assert compare(WANTED, services, LEDGER).orphaned == ("batch a:1 still runs or waits",)


def test_an_execution_that_goes_on_counts_as_one_that_may_succeed() -> None:
    again = task(5, "slurm", "tree", "9")
    ledger = Ledger((*TASKS, again), LEDGER.external_ids | {("slurm", "9")})
    services = replace(SERVICES, executions=(*RAN, execution("slurm", "9", succeeded=None)))
    assert len(compare(WANTED, services, ledger).duplicated) == 1


def test_a_wrong_output_is_told() -> None:
    verdict = compare(WANTED, SERVICES, LEDGER, ["work/report.txt is not there"])
    assert verdict.wrong == ("work/report.txt is not there",)
    assert not verdict.is_good
