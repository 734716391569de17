"""A lane gives every task exactly one end, whatever its backend throws."""

import threading
from collections import Counter

import pytest

from snakemake_executor_takeda import watching
from snakemake_executor_takeda.backends.base import SubmissionDelayed, SubmissionError
from snakemake_executor_takeda.values import (
    Accepted,
    FailureKind,
    JobSpec,
    Outcome,
    Remembered,
    Shape,
    Submission,
    Target,
    Task,
    Update,
)

TARGET = Target("t", "fake")
JOB = JobSpec(1, "r", {}, 1, Shape(), {})


def submission(number, tasks):
    ids = [f"s{number}-t{n}" for n in range(tasks)]
    return Submission(f"s{number}", "name", TARGET, tuple(Task(i, JOB, TARGET) for i in ids))


class Listener:
    """Counts what it is told, and lets a test wait for a number of ends."""

    def __init__(self):
        self.ends = Counter()
        self.outcomes = {}
        self.log = []
        self._changed = threading.Condition()

    def intended(self, one):
        self.log.append(("intended", one.submission_id))

    def accepted(self, one, accepted):
        self.log.append(("accepted", one.submission_id))

    def refused(self, one, outcome):
        self._end([(task.task_id, outcome) for task in one.tasks])

    def started(self, update):
        self.log.append(("started", update.task_id))

    def ended(self, updates):
        self._end([(update.task_id, update.outcome) for update in updates])

    def waits(self, update):
        self.log.append(("waits", update.note))

    def trouble(self, message):
        self.log.append(("trouble", message))

    def _end(self, ends):
        with self._changed:
            for task_id, outcome in ends:
                self.ends[task_id] += 1
                self.outcomes[task_id] = outcome
            self._changed.notify_all()

    def wait_for(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.ends) >= count, timeout=20)


class Fake:
    """Accepts everything; each poll ends one task of each submission."""

    def submit(self, one):
        return Accepted(one.submission_id, {task.task_id: task.task_id for task in one.tasks})

    def __init__(self):
        self.cancelled = []

    def listen(self, wake):
        self.wake = wake

    def poll(self, active):
        for one in active:
            yield Update(sorted(one.open_task_ids)[0], Outcome())

    def cancel(self, active):
        self.cancelled += [one.submission.submission_id for one in active]


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr(watching, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(watching, "SHORTEST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(watching, "PATIENCE_WITH_POLL_ERRORS_SECONDS", 0.2)
    lanes = []

    def start(backend):
        listener = Listener()
        lane = watching.Lane("fake", backend, listener, longest_pause_seconds=0.001)
        lane.start()
        lanes.append(lane)
        return lane, listener

    yield start
    for lane in lanes:
        lane.stop()
        lane.join(10)
        assert not lane.is_alive()


def test_each_task_ends_once_and_nothing_stays_active(run):
    lane, listener = run(Fake())
    for number in range(5):
        lane.submit(submission(number, tasks=4))
    listener.wait_for(20)
    assert set(listener.ends.values()) == {1}
    assert lane.active() == []
    assert listener.log.index(("intended", "s3")) < listener.log.index(("accepted", "s3"))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (SubmissionError(FailureKind.NO_CAPACITY, "full"), FailureKind.NO_CAPACITY),
        (RuntimeError("boom"), FailureKind.CONFIGURATION),
    ],
)
def test_a_refused_submission_fails_its_own_tasks_only(run, error, kind):
    class Refusing(Fake):
        def submit(self, one):
            if one.submission_id == "s1":
                raise error
            return super().submit(one)

    lane, listener = run(Refusing())
    for number in range(3):
        lane.submit(submission(number, tasks=2))
    listener.wait_for(6)
    failed = {task for task, outcome in listener.outcomes.items() if not outcome.succeeded}
    assert failed == {"s1-t0", "s1-t1"}
    assert listener.outcomes["s1-t0"].kind == kind


def test_a_delayed_submission_is_sent_again_while_others_are_watched(run):
    class Full(Fake):
        tries, polls = 0, 0

        def submit(self, one):
            if one.submission_id == "s1":
                self.tries += 1
                if self.polls < 20:
                    raise SubmissionDelayed(0.001, "full" if self.tries == 1 else "")
            return super().submit(one)

        def poll(self, active):
            self.polls += 1
            yield from super().poll(active)

    backend = Full()
    lane, listener = run(backend)
    lane.submit(submission(1, tasks=2))
    lane.submit(submission(2, tasks=30))
    listener.wait_for(32)
    assert backend.tries > 1
    assert set(listener.ends.values()) == {1}
    assert listener.log.count(("intended", "s1")) == 1
    assert listener.log.count(("waits", "full")) == 1
    assert listener.log.index(("accepted", "s2")) < listener.log.index(("accepted", "s1"))


def test_what_was_delayed_is_not_sent_after_the_end(run):
    class Full(Fake):
        tries = 0

        def submit(self, one):
            self.tries += 1
            raise SubmissionDelayed(0.001)

    backend = Full()
    lane, listener = run(backend)
    lane.submit(submission(1, tasks=1))
    lane.stop()
    lane.join(10)
    tries = backend.tries
    assert not lane.is_alive()
    assert tries == backend.tries
    assert not listener.ends


def test_a_poll_that_throws_now_and_then_loses_nothing(run):
    class Flaky(Fake):
        polls = 0

        def poll(self, active):
            self.polls += 1
            if self.polls % 2:
                raise RuntimeError("flaky")
            yield from super().poll(active)

    lane, listener = run(Flaky())
    lane.submit(submission(1, tasks=5))
    listener.wait_for(5)
    assert all(outcome.succeeded for outcome in listener.outcomes.values())
    assert lane.active() == []


def test_a_poll_that_always_throws_ends_in_lost_with_its_words(run):
    class Broken(Fake):
        def poll(self, active):
            raise KeyError("no such field")

    backend = Broken()
    lane, listener = run(backend)
    lane.submit(submission(1, tasks=3))
    listener.wait_for(3)
    assert {outcome.kind for outcome in listener.outcomes.values()} == {FailureKind.LOST}
    assert "no such field" in listener.outcomes["s1-t0"].reason
    assert listener.outcomes["s1-t0"].permanent, "it may still run: a second one would be twice"
    assert backend.cancelled == ["s1"], "nothing is left running that nobody watches"
    assert [name for name, _ in listener.log].count("trouble") == 1


def test_an_end_that_was_said_before_the_last_error_counts(run, monkeypatch):
    """A success turned into a loss would run again."""
    monkeypatch.setattr(watching, "PATIENCE_WITH_POLL_ERRORS_SECONDS", 0.0)

    class Breaking(Fake):
        def poll(self, active):
            yield Update("s1-t1", Outcome())
            raise KeyError("no such field")

    lane, listener = run(Breaking())
    lane.submit(submission(1, tasks=3))
    listener.wait_for(3)
    assert set(listener.ends.values()) == {1}
    assert listener.outcomes["s1-t1"].succeeded
    assert listener.outcomes["s1-t0"].kind == FailureKind.LOST


def test_what_is_accepted_after_ctrl_c_is_ended_at_once(run):
    entered, go_on = threading.Event(), threading.Event()

    class Slow(Fake):
        def submit(self, one):
            entered.set()
            assert go_on.wait(20)
            return super().submit(one)

    backend = Slow()
    lane, _listener = run(backend)
    lane.submit(submission(1, tasks=1))
    assert entered.wait(20)
    lane.stop(cancelling=True)
    assert lane.is_sending
    go_on.set()
    lane.join(20)
    assert not lane.is_sending
    assert backend.cancelled == ["s1"]


def test_a_poll_under_way_is_no_sending(run):
    entered, go_on = threading.Event(), threading.Event()

    class Stuck(Fake):
        def poll(self, active):
            entered.set()
            assert go_on.wait(20)
            return ()

    lane, _listener = run(Stuck())
    lane.submit(submission(1, tasks=1))
    assert entered.wait(20)
    assert not lane.is_sending
    go_on.set()


def test_a_backend_that_calls_is_polled_without_waiting_for_the_pause(monkeypatch):
    """The pause between polls is an hour here: without the call the test would not end."""
    monkeypatch.setattr(watching, "FIRST_PAUSE_SECONDS", 3600)

    class Calling(Fake):
        calls = 0

        def poll(self, active):
            self.calls += 1
            return super().poll(active) if self.calls > 1 else ()

    backend, listener = Calling(), Listener()
    lane = watching.Lane("fake", backend, listener, longest_pause_seconds=3600)
    lane.start()
    lane.submit(submission(1, tasks=1))
    polled = threading.Event()
    monkeypatch.setattr(lane._pace, "nothing_happened", polled.set)
    assert polled.wait(20)
    backend.wake()
    listener.wait_for(1)
    lane.stop()
    lane.join(20)
    assert backend.calls == 2


def test_a_backend_that_cannot_listen_is_still_polled(run):
    class Deaf(Fake):
        def listen(self, wake):
            raise OSError("no ears")

    lane, listener = run(Deaf())
    lane.submit(submission(1, tasks=2))
    listener.wait_for(2)
    assert [what for name, what in listener.log if name == "trouble"] == [
        "takeda-fake: OSError('no ears')"
    ]


def test_a_note_is_told_once_and_is_neither_a_start_nor_an_end(run):
    class Waiting(Fake):
        polls = 0

        def poll(self, active):
            self.polls += 1
            if self.polls == 1:
                yield Update("s1-t0", note="the queue is disabled")
            else:
                yield from super().poll(active)

    lane, listener = run(Waiting())
    lane.submit(submission(1, tasks=1))
    listener.wait_for(1)
    assert ("waits", "the queue is disabled") in listener.log
    assert "started" not in {name for name, _ in listener.log}


@pytest.mark.parametrize(
    ("open_tasks", "longest", "pause"),
    [(0, 10.0, 0.5), (100, 10.0, 0.5), (1000, 10.0, 1.25), (10_000, 10.0, 2.5), (10_000, 1.0, 1.0)],
)
def test_the_more_tasks_are_open_the_longer_the_pause_after_an_end(open_tasks, longest, pause):
    pace = watching.Pace(longest, pause_seconds=longest)
    pace.something_happened(open_tasks)
    assert pace.pause_seconds == pause


def test_the_pause_grows_while_nothing_happens():
    pace = watching.Pace(10.0)
    for _ in range(20):
        pace.nothing_happened()
    assert pace.pause_seconds == 10.0


# What an earlier controller has sent.


class Remembering(Fake):
    """Answers `reattach` with what a test has put down, in its order."""

    def __init__(self, *answers):
        super().__init__()
        self.answers = list(answers)

    def reattach(self, remembered):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Heir(Listener):
    def reattached(self, remembered, accepted):
        self.log.append(("reattached", remembered.submission.submission_id))

    def absent(self, remembered):
        self.log.append(("absent", remembered.submission.submission_id))
        self._end([(task_id, None) for task_id in remembered.open_task_ids])


@pytest.fixture
def heir(monkeypatch):
    monkeypatch.setattr(watching, "ASKED_AGAIN_SECONDS", 0.001)
    lanes = []

    def start(*answers):
        listener, backend = Heir(), Remembering(*answers)
        lane = watching.Lane("fake", backend, listener, longest_pause_seconds=0.001)
        lane.start()
        lanes.append(lane)
        return lane, listener

    yield start
    for lane in lanes:
        lane.stop()
        lane.join(10)


def remembered(open_tasks):
    one = submission(1, tasks=3)
    return Remembered(one, None, frozenset(open_tasks), 0.0)


def test_what_is_found_is_watched_where_it_had_not_ended(heir):
    lane, listener = heir(Accepted("p", {f"s1-t{n}": f"p:{n}" for n in range(3)}))
    lane.adopt(remembered(["s1-t0", "s1-t2"]))
    listener.wait_for(2)
    assert listener.ends == {"s1-t0": 1, "s1-t2": 1}
    assert listener.log == [("reattached", "s1")]
    assert lane.active() == []


def test_what_never_arrived_is_told_once_and_not_watched(heir):
    lane, listener = heir(None)
    lane.adopt(remembered(["s1-t0"]))
    listener.wait_for(1)
    assert listener.log == [("absent", "s1")]
    assert lane.active() == []


def test_a_service_that_cannot_tell_is_asked_until_it_can(heir):
    silent = [SubmissionDelayed(0.001, "Slurm is silent")] * 3
    lane, listener = heir(*silent, OSError("stale"), Accepted("p", {"s1-t0": "p"}))
    lane.adopt(remembered(["s1-t0"]))
    listener.wait_for(1)
    assert [entry for entry in listener.log if entry[0] != "trouble"] == [("reattached", "s1")]
    told = [what for name, what in listener.log if name == "trouble"]
    assert told == ["Slurm is silent", "name: OSError('stale')"], "each once"


def test_doubt_about_one_submission_keeps_no_other_waiting(heir):
    lane, listener = heir(SubmissionDelayed(1000))
    lane.adopt(remembered(["s1-t0"]))
    lane.submit(submission(2, tasks=1))
    listener.wait_for(1)
    assert set(listener.ends) == {"s2-t0"}


def test_a_submission_that_is_left_is_polled_no_more(heir):
    class Endless(Remembering):
        def poll(self, active):
            return ()

    lane, _ = heir()
    lane.backend = Endless(Accepted("p", {"s1-t0": "p"}))
    found = []
    lane.adopt(remembered(["s1-t0"]))
    done = threading.Event()
    lane.call(lambda: (found.extend([lane.leave("s1"), lane.leave("s1")]), done.set()))
    assert done.wait(10)
    assert found[0].open_task_ids == {"s1-t0"} and found[1] is None
    assert lane.active() == []
