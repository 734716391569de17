"""Each submission is sent once, and waits while Slurm does not answer or has no room."""

import json
from dataclasses import replace

import pytest
from slurm_builders import TRUE, FakeSlurm, submission, target

from snakemake_executor_takeda.backends.base import SubmissionDelayed, SubmissionError
from snakemake_executor_takeda.backends.slurm.clients.base import (
    SlurmFull,
    SlurmRefused,
    SlurmSilent,
)
from snakemake_executor_takeda.backends.slurm.records import ExitRecords
from snakemake_executor_takeda.backends.slurm.request import JobRequest
from snakemake_executor_takeda.backends.slurm.submitting import SETTLING_SECONDS, Submitter
from snakemake_executor_takeda.values import FailureKind

REQUEST = JobRequest("takeda-align-1", "/project", "/log")
TIMEOUT = SlurmSilent("Socket timed out on send/recv operation")
SILENT, FULL = SlurmSilent("connect failure"), SlurmFull("its table of jobs is full")
LIMIT = SlurmRefused(
    "QOSMaxSubmitJobPerUserLimit; Batch job submission failed: Job violates accounting/QOS policy "
    "(job submit limit, user's size and/or time limits)"
)


class Bench:
    def __init__(self, folder):
        self.slurm, self.now, self.folder = FakeSlurm(), 1000.0, folder
        self.notes = []
        self.submitter = Submitter(self.slurm, ExitRecords(folder), clock=lambda: self.now)

    def send(self, sent, request=REQUEST):
        try:
            return self.submitter.send(sent, request, "#!/bin/sh\n")
        except SubmissionDelayed as delay:
            assert delay.seconds > 0
            self.notes += [delay.note] if delay.note else []
            self.pause = delay.seconds
            return None

    def wait(self):
        """Until the last one that was put off may be tried again."""
        self.now += self.pause


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_a_controller_down_for_ten_minutes_fails_nothing_and_gets_each_job_once(bench):
    many = [submission([TRUE] * 2, number=n) for n in range(20)]
    bench.slurm.submits = [SILENT] * 1000
    until = bench.now + 600
    while bench.now < until:
        assert [bench.send(one) for one in many] == [None] * 20
        bench.wait()
    asked = len(bench.slurm.calls)
    assert asked < 40, "one try a pause, whatever waits"
    assert len(bench.notes) == 1
    bench.slurm.submits = [str(n) for n in range(20)]
    ids = []
    for one in many:
        while (job_id := bench.send(one)) is None:
            bench.wait()
        ids.append(job_id)
    assert ids == [str(n) for n in range(20)]


def test_what_came_through_without_an_answer_is_found_by_its_name(bench):
    bench.slurm.submits = [SILENT]
    assert bench.send(submission()) is None
    bench.wait()
    bench.slurm.found = "42"
    assert bench.send(submission()) == "42"
    assert bench.slurm.calls == ["submit", "find"]


def test_a_call_that_hung_is_waited_for_when_the_controller_answers_again(bench):
    """It carries out what it took while it hung, perhaps after it answered the question by the name."""
    bench.slurm.submits = [TIMEOUT]
    assert bench.send(submission()) is None
    bench.wait()
    assert bench.send(submission()) is None
    bench.slurm.found = TIMEOUT
    bench.wait()
    assert bench.send(submission()) is None
    bench.slurm.found = None
    bench.wait()
    answers = bench.now
    while (job_id := bench.send(submission())) is None:
        bench.now += 1
        bench.slurm.found = "42" if bench.now - answers >= SETTLING_SECONDS - 2 else None
    assert job_id == "42"
    assert bench.slurm.calls.count("submit") == 1


def test_a_call_that_hung_and_made_no_job_is_made_again(bench):
    bench.slurm.submits = [TIMEOUT]
    assert bench.send(submission()) is None
    bench.wait()
    answers = bench.now
    while bench.send(submission()) is None:
        bench.now += 1
    assert bench.now - answers >= SETTLING_SECONDS
    assert bench.slurm.calls.count("submit") == 2


def test_what_ran_to_its_end_and_was_forgotten_is_found_by_its_record(bench):
    bench.slurm.submits = [SILENT]
    assert bench.send(submission([TRUE] * 2)) is None
    bench.wait()
    record = {"exit_code": 0, "started": 1.0, "ended": 2.0, "slurm_job_id": "43"}
    (bench.folder / "s1-t1.json").write_text(json.dumps(record))
    assert bench.send(submission([TRUE] * 2)) == "43"
    assert bench.slurm.calls == ["submit", "find"]


def test_silence_is_not_given_up_since_the_job_may_be_there(bench):
    bench.slurm.submits = [SILENT] * 10_000
    bench.slurm.found = SILENT
    on = target(fallback="od", pending_limit=1)
    until = bench.now + 24 * 3600
    while bench.now < until:
        assert bench.send(submission(on=on)) is None
        bench.wait()
    with pytest.raises(SlurmSilent):
        bench.submitter.possible_jobs()


def test_silence_does_not_count_as_lack_of_room(bench):
    sent, other = (submission(number=n, on=target(fallback="od", pending_limit=3)) for n in (1, 2))
    bench.slurm.submits = [SILENT] * 1000
    until = bench.now + 600
    while bench.now < until:
        assert bench.send(sent) is None
        assert bench.send(other) is None
        bench.wait()
    bench.slurm.submits = [FULL, FULL]
    assert bench.send(sent) is None
    assert bench.send(other) is None


def test_a_call_without_bad_nodes_excluded_that_hung_is_waited_for_too(bench):
    request = replace(REQUEST, exclude=("node-1",))
    bench.slurm.submits = [SlurmRefused("Requested node configuration is not available"), TIMEOUT]
    assert bench.send(submission(), request) is None
    bench.wait()
    assert bench.send(submission(), request) is None
    bench.slurm.found = "42"
    bench.wait()
    assert bench.send(submission(), request) == "42"
    assert bench.slurm.calls.count("submit") == 2


def test_a_question_that_is_refused_refuses_no_job(bench):
    bench.slurm.submits = [TIMEOUT]
    assert bench.send(submission()) is None
    bench.slurm.found = SlurmRefused("slurm_load_jobs error: Unspecified error")
    bench.wait()
    assert bench.send(submission()) is None
    bench.slurm.found = "42"
    bench.wait()
    assert bench.send(submission()) == "42"


@pytest.mark.parametrize("error", [FULL, LIMIT])
def test_no_room_is_waited_for_and_told_once(bench, error):
    bench.slurm.submits = [error] * 5
    sent = submission()
    for _ in range(5):
        assert bench.send(sent) is None
        bench.wait()
    assert bench.send(sent) == "7"
    bench.slurm.submits = [error]
    assert bench.send(submission(number=2)) is None
    assert len(bench.notes) == 1
    assert bench.notes[0].startswith("Slurm takes no more jobs")
    assert "after 720 min one ends as no_capacity" in bench.notes[0]


def test_no_room_is_bounded_by_the_targets_limit(bench):
    bench.slurm.submits = [FULL] * 1000
    sent = submission(on=target(fallback="od", pending_limit=3))
    until = bench.now + 180
    while bench.now < until:
        assert bench.send(sent) is None
        bench.wait()
    with pytest.raises(SubmissionError, match="no room in Slurm for") as refused:
        bench.submitter.send(sent, REQUEST, "")
    assert refused.value.kind == FailureKind.NO_CAPACITY


def test_a_limit_of_one_targets_account_holds_up_no_other(bench):
    here = submission()
    other = submission(number=2, on=replace(target(), name="other"))
    bench.slurm.submits = [LIMIT, "8"]
    with pytest.raises(SubmissionDelayed):
        bench.submitter.send(here, REQUEST, "")
    assert bench.submitter.send(other, REQUEST, "") == "8"


def test_a_partition_that_a_site_has_closed_for_a_while_is_no_mistake(bench):
    bench.slurm.submits = [SlurmRefused("Required partition not available (inactive or drain)")]
    with pytest.raises(SubmissionError) as refused:
        bench.submitter.send(submission(), REQUEST, "")
    assert refused.value.kind == FailureKind.NO_CAPACITY


def test_a_size_that_the_account_may_not_have_is_refused(bench):
    words = (
        "AssocMaxCpuPerJobLimit; Batch job submission failed: Job violates accounting/QOS policy "
    )
    bench.slurm.submits = [
        SlurmRefused(f"{words}(job submit limit, user's size and/or time limits)")
    ]
    with pytest.raises(SubmissionError) as refused:
        bench.send(submission())
    assert refused.value.kind == FailureKind.CONFIGURATION


def test_nodes_that_failed_are_taken_back_where_none_would_be_left(bench):
    bench.slurm.submits = [SlurmRefused("Requested node configuration is not available"), "9"]
    assert bench.send(submission(), replace(REQUEST, exclude=("node-1",))) == "9"
    assert [request.exclude for request in bench.slurm.requests] == [("node-1",), ()]


# The call of a controller that is gone.


def look(bench, sent):
    try:
        return "found", bench.submitter.find(sent)
    except SubmissionDelayed as delay:
        assert delay.seconds > 0
        bench.pause = delay.seconds
        return "delayed", str(delay)


def test_a_job_of_an_earlier_controller_is_found_by_its_name(bench):
    bench.slurm.found = "42"
    assert look(bench, submission()) == ("found", "42")
    assert bench.submitter.possible_jobs() == set(), "it is known now"


def test_that_there_is_none_is_believed_after_a_while_only(bench):
    began = bench.now
    while (answer := look(bench, submission()))[0] == "delayed":
        bench.wait()
    assert answer == ("found", None)
    assert bench.now - began >= SETTLING_SECONDS
    assert "submit" not in bench.slurm.calls


def test_a_job_that_shows_up_late_is_not_taken_as_absent(bench):
    assert look(bench, submission())[0] == "delayed"
    bench.now += SETTLING_SECONDS - 1
    bench.slurm.found = "42"
    assert look(bench, submission()) == ("found", "42")


def test_silence_is_no_answer_and_starts_the_wait_anew(bench):
    assert look(bench, submission())[0] == "delayed"
    bench.now += SETTLING_SECONDS + 1
    bench.slurm.found = TIMEOUT
    kind, words = look(bench, submission())
    assert kind == "delayed" and "does not say whether job" in words and str(TIMEOUT) in words
    bench.slurm.found = None
    assert look(bench, submission())[0] == "delayed"


def test_a_job_of_an_earlier_controller_that_slurm_forgot_is_found_by_its_record(bench):
    record = {"exit_code": 0, "started": 1.0, "ended": 2.0, "slurm_job_id": "43"}
    (bench.folder / "s1-t0.json").write_text(json.dumps(record))
    assert look(bench, submission()) == ("found", "43")


def test_a_ctrl_c_during_the_look_ends_what_turns_up(bench):
    assert look(bench, submission())[0] == "delayed"
    assert not bench.submitter.is_settled()
    bench.slurm.found = "42"
    assert bench.submitter.possible_jobs() == {"42"}
