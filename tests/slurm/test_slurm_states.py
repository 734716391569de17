"""Each state of Slurm, with and without the task's own record, means what it should."""

import pytest
from slurm_builders import sighting, submission, target

from snakemake_executor_takeda.backends.slurm.records import ExitRecord
from snakemake_executor_takeda.backends.slurm.states import Doubt, Verdict, verdict_of
from snakemake_executor_takeda.values import FailureKind, Outcome, Shape

TASK = submission().tasks[0]
SPOT_TASK = submission(on=target("spot")).tasks[0]
GOOD = ExitRecord(0, 2.5, "node-1", 1000)
BAD = ExitRecord(3, 2.5, "node-1", 1000)


def kind_of(verdict):
    return verdict.outcome.kind if verdict else None


@pytest.mark.parametrize(
    ("state", "kind", "kind_on_spot"),
    [
        ("NODE_FAIL", FailureKind.NODE_FAILURE, FailureKind.INTERRUPTED),
        ("BOOT_FAIL", FailureKind.NODE_FAILURE, FailureKind.INTERRUPTED),
        ("LAUNCH_FAILED", FailureKind.NODE_FAILURE, FailureKind.INTERRUPTED),
        ("PREEMPTED", FailureKind.INTERRUPTED, FailureKind.INTERRUPTED),
        ("TIMEOUT", FailureKind.TIMEOUT, FailureKind.TIMEOUT),
        ("DEADLINE", FailureKind.TIMEOUT, FailureKind.TIMEOUT),
        ("OUT_OF_MEMORY", FailureKind.OUT_OF_MEMORY, FailureKind.OUT_OF_MEMORY),
        ("CANCELLED", FailureKind.USER, FailureKind.USER),
        ("REVOKED", FailureKind.LOST, FailureKind.LOST),
        ("FAILED", FailureKind.CONFIGURATION, FailureKind.CONFIGURATION),
    ],
)
def test_slurm_says_why_a_task_failed(state, kind, kind_on_spot):
    without_record = verdict_of(TASK, sighting(state), None)
    assert kind_of(without_record) == kind
    assert without_record.doubt == Doubt.UNRECORDED
    assert kind_of(verdict_of(SPOT_TASK, sighting(state), None)) == kind_on_spot
    # the command was ended by Slurm and left its record in time: Slurm's word counts, at once
    if state != "FAILED":
        assert verdict_of(TASK, sighting(state), BAD).doubt is None
        assert kind_of(verdict_of(TASK, sighting(state), BAD)) == kind


@pytest.mark.parametrize(
    "state",
    [
        "PENDING",
        "RUNNING",
        "COMPLETING",
        "CONFIGURING",
        "REQUEUED",
        "REQUEUE_HOLD",
        "SUSPENDED",
        "RESIZING",
        "SIGNALING",
        "STAGE_OUT",
        "EXPEDITING",
        "SPECIAL_EXIT",
        "",
        "A_NEW_WORD",
    ],
)
def test_a_state_that_is_no_end_ends_nothing(state):
    assert verdict_of(TASK, sighting(state), None) is None
    # with a record of failure only after waiting for Slurm's word
    assert verdict_of(TASK, sighting(state), BAD).doubt == Doubt.UNSETTLED


@pytest.mark.parametrize("state", ["RUNNING", "COMPLETING", "COMPLETED", "TIMEOUT", None])
def test_a_record_of_success_is_the_last_word(state):
    seen = sighting(state) if state else None
    assert verdict_of(TASK, seen, GOOD) == Verdict(Outcome(exit_code=0, wall_seconds=2.5))


def test_a_command_that_failed_by_itself():
    outcome = verdict_of(TASK, sighting("FAILED", reason="NonZeroExitCode"), BAD).outcome
    assert outcome.kind == FailureKind.USER
    assert outcome.exit_code == 3
    assert outcome.reason == "FAILED (NonZeroExitCode)"
    assert outcome.wall_seconds == 2.5


def test_completed_without_record_is_success_only_after_doubt():
    verdict = verdict_of(TASK, sighting("COMPLETED", wall_seconds=9.0), None)
    assert verdict == Verdict(Outcome(exit_code=0, wall_seconds=9.0), Doubt.UNRECORDED)


def test_nothing_seen_is_no_end():
    assert verdict_of(TASK, None, None) is None


@pytest.mark.parametrize("reason", ["BadConstraints", "PartitionTimeLimit", "InvalidQOS"])
def test_a_task_that_can_never_start(reason):
    verdict = verdict_of(TASK, sighting("PENDING", reason=reason), None)
    assert verdict.doubt == Doubt.HOPELESS
    assert verdict.outcome.kind == FailureKind.CONFIGURATION
    assert reason in verdict.outcome.reason
    assert verdict_of(TASK, sighting("RUNNING", reason=reason), None) is None


@pytest.mark.parametrize("reason", ["Resources", "Priority", "JobHeldUser", "BeginTime", "None"])
def test_a_task_that_waits_its_turn(reason):
    assert verdict_of(TASK, sighting("PENDING", reason=reason), None) is None


def test_advice_names_rule_and_present_value():
    task = submission(shape=Shape(mem_mb=4000, runtime_min=30)).tasks[0]
    assert "rule align; it is 30 min" in verdict_of(task, sighting("TIMEOUT"), None).outcome.advice
    assert (
        "rule align; it is 4000" in verdict_of(task, sighting("OUT_OF_MEMORY"), None).outcome.advice
    )
    killed = ExitRecord(137, 1.0, "", None)
    assert "mem_mb" in verdict_of(task, sighting("FAILED"), killed).outcome.advice
