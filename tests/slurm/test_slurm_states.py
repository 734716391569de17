"""Each state of Slurm, with and without the task's own record, means what it should."""

from dataclasses import replace

import pytest
from slurm_builders import sighting, submission, target

from snakemake_executor_takeda.backends.slurm.records import ExitRecord
from snakemake_executor_takeda.backends.slurm.states import (
    RUNNING,
    WAITING,
    Doubt,
    Place,
    Verdict,
    hopeless,
    verdict_of,
)
from snakemake_executor_takeda.values import FailureKind, Outcome, Shape
from snakemake_executor_takeda.worker.exits import (
    NO_MODULES,
    NODE_LOST,
    NODES_UNFIT,
    UNREACHABLE,
)

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
        ("BOOT_FAIL", FailureKind.NO_CAPACITY, FailureKind.NO_CAPACITY),
        ("RECONFIG_FAIL", FailureKind.NODE_FAILURE, FailureKind.INTERRUPTED),
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


def test_a_job_that_another_cluster_has_taken_is_not_sent_again():
    assert verdict_of(TASK, sighting("REVOKED"), None).outcome.permanent
    assert not verdict_of(TASK, sighting("NODE_FAIL"), None).outcome.permanent


@pytest.mark.parametrize(
    ("state", "phase"),
    [
        ("PENDING", "waits again"),
        ("REQUEUED", "waits again"),
        ("REQUEUE_FED", "waits again"),
        ("REQUEUE_HOLD", "waits again"),
        ("RESV_DEL_HOLD", "waits again"),
        ("SPECIAL_EXIT", "waits again"),
        ("EXPEDITING", "waits again"),
        ("CONFIGURING", "boots"),
        ("RUNNING", "runs"),
        ("COMPLETING", "runs"),
        ("RESIZING", "runs"),
        ("SUSPENDED", "runs"),
        ("STOPPED", "runs"),
        ("SIGNALING", "runs"),
        ("STAGE_OUT", "runs"),
        ("", "unknown"),
        ("A_NEW_WORD", "unknown"),
    ],
)
def test_a_state_that_is_no_end_ends_nothing(state, phase):
    assert verdict_of(TASK, sighting(state), None) is None
    assert (state in RUNNING) == (phase == "runs")
    assert (state in WAITING) == phase.startswith("waits")
    with_failure = verdict_of(TASK, sighting(state), BAD)
    if phase in ("waits again", "boots"):
        assert with_failure is None, "the record is of an earlier run: Slurm starts it again"
    else:
        # only after waiting for Slurm's word
        assert with_failure.doubt == Doubt.UNSETTLED


@pytest.mark.parametrize(
    ("state", "code", "doubt"),
    [
        # Slurm takes minutes to see that the node is gone: SlurmdTimeout
        ("COMPLETING", NODE_LOST, Doubt.PARTIAL),
        ("COMPLETING", 1, Doubt.UNSETTLED),
        ("RUNNING", NODE_LOST, Doubt.UNSETTLED),
        (None, NODE_LOST, Doubt.UNSETTLED),
    ],
)
def test_a_node_that_a_worker_missed_is_believed_before_slurm_sees_it(state, code, doubt):
    seen = sighting(state) if state else None
    assert verdict_of(TASK, seen, replace(BAD, exit_code=code)).doubt == doubt


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("TimeLimit", FailureKind.TIMEOUT),
        ("OutOfMemory", FailureKind.OUT_OF_MEMORY),
        ("NodeDown", FailureKind.NODE_FAILURE),
        ("NonZeroExitCode", FailureKind.USER),
    ],
)
def test_an_epilog_that_takes_minutes_does_not_hide_why_it_ended(reason, kind):
    assert kind_of(verdict_of(TASK, sighting("COMPLETING", reason=reason), BAD)) == kind
    assert verdict_of(TASK, sighting("COMPLETING", reason=reason), None) is None


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
    outcome = hopeless(TASK, sighting("PENDING", reason=reason))
    assert outcome.kind == FailureKind.CONFIGURATION
    assert reason in outcome.reason
    assert hopeless(TASK, sighting("RUNNING", reason=reason)) is None


@pytest.mark.parametrize("reason", ["Resources", "Priority", "JobHeldUser", "BeginTime", "None"])
def test_a_task_that_waits_its_turn(reason):
    assert hopeless(TASK, sighting("PENDING", reason=reason)) is None
    assert verdict_of(TASK, sighting("PENDING", reason=reason), None) is None


@pytest.mark.parametrize(
    ("code", "kind", "kind_on_spot"),
    [
        (NODE_LOST, FailureKind.NODE_FAILURE, FailureKind.INTERRUPTED),
        (NODES_UNFIT, FailureKind.CONFIGURATION, FailureKind.CONFIGURATION),
        (1, FailureKind.USER, FailureKind.USER),
    ],
)
def test_the_workers_own_words_on_its_nodes(code, kind, kind_on_spot):
    record = ExitRecord(code, 2.5, "node-1", None)
    assert kind_of(verdict_of(TASK, sighting("FAILED"), record)) == kind
    assert kind_of(verdict_of(SPOT_TASK, sighting("FAILED"), record)) == kind_on_spot


def test_a_task_killed_with_its_worker_is_taken_for_short_of_memory():
    outcome = verdict_of(TASK, sighting("FAILED", exit_code=137), None).outcome
    assert outcome.kind == FailureKind.OUT_OF_MEMORY
    assert "SIGKILL" in outcome.reason


@pytest.mark.parametrize("state", ["NODE_FAIL", "TIMEOUT", "PREEMPTED", "OUT_OF_MEMORY"])
def test_slurms_own_exit_code_of_what_it_ended_says_nothing(state):
    """NODE_FAIL is 0:1 in scontrol and 1:0 in sacct."""
    assert verdict_of(TASK, sighting(state, exit_code=1), None).outcome.exit_code is None


def test_advice_names_rule_and_present_value():
    task = submission(shape=Shape(mem_mb=4000, runtime_min=30)).tasks[0]
    assert "rule align; it is 30 min" in verdict_of(task, sighting("TIMEOUT"), None).outcome.advice
    assert (
        "rule align; it is 4000" in verdict_of(task, sighting("OUT_OF_MEMORY"), None).outcome.advice
    )
    killed = ExitRecord(137, 1.0, "", None)
    assert "mem_mb" in verdict_of(task, sighting("FAILED"), killed).outcome.advice


@pytest.mark.parametrize(
    ("code", "reason", "advice"),
    [
        (NO_MODULES, "modules", "openmpi/9"),
        (UNREACHABLE, "could not reach", "credentials"),
        (127, "could not be started", "`python`"),
        (126, "could not be started", "`python`"),
        (1, "without leaving a record", "do they see the run's directory"),
    ],
)
def test_a_worker_that_left_no_record_says_by_its_code_what_was_missing(code, reason, advice):
    on = target(modules=["openmpi/9"])
    task = submission(on=on).tasks[0]
    verdict = verdict_of(task, sighting("FAILED", exit_code=code), None)
    assert verdict.outcome.kind == FailureKind.CONFIGURATION
    assert reason in verdict.outcome.reason
    assert advice in verdict.outcome.advice


def test_from_afar_the_question_is_of_s3():
    outcome = verdict_of(
        TASK, sighting("FAILED", exit_code=1), None, Place("s3://b/run", "can they read s3://b/run")
    ).outcome
    assert "can they read s3://b/run?" in outcome.advice
    assert "directory" not in outcome.advice
