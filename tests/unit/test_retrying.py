"""Outcome, history and policy → next step."""

import random
from dataclasses import replace

import pytest

from snakemake_executor_takeda.retrying import (
    HERD_SECONDS,
    LONGEST_PAUSE_SECONDS,
    Failure,
    History,
    Report,
    Resubmit,
    memory_to_ask,
    next_step,
)
from snakemake_executor_takeda.values import FailureKind, Outcome, RetryRules, Target

SPOT = Target("batch-spot", "batch")
K = FailureKind
NODE_LOST = (K.INTERRUPTED, K.NODE_FAILURE)
PLENTY = 1000


def failed(*kinds, target="batch-spot", reason="words"):
    history = History()
    for kind in kinds:
        history = history.with_failure(target, Outcome(kind, reason))
    return history


def step(kind, count=1, *, rules=None, fallback="batch-od", earlier=(), mem_mb=1000, **more):
    """What follows the failure of this kind that is the `count`th on the target."""
    more = {"interruptions": 2, "jitter": lambda: 0.0, "permanent": False} | more
    outcome = Outcome(kind, "words", permanent=more.pop("permanent"))
    target = replace(SPOT, retry=rules or RetryRules(total=PLENTY))
    history = failed(*earlier, *[kind] * (count - 1))
    return next_step(outcome, target, history, fallback=fallback, mem_mb=mem_mb, **more)


def fate(kind, rules, fallback, most=200):
    """How often it is sent again to its target, and then: the fallback's name, or `report`."""
    for count in range(1, most):
        one = step(kind, count, rules=replace(rules, total=PLENTY), fallback=fallback)
        if isinstance(one, Report):
            return count - 1, "report"
        if one.target != "batch-spot":
            return count - 1, one.target
    raise AssertionError(f"{kind} is repeated for ever")


DEFAULTS = RetryRules()
TABLE = [
    # kind, rules, repeats with a fallback, then, repeats without one (then it is reported)
    *((kind, DEFAULTS, 0, "report", 0) for kind in (K.USER, K.CONFIGURATION, K.TIMEOUT)),
    (K.OUT_OF_MEMORY, DEFAULTS, 0, "report", 0),
    (K.INTERRUPTED, DEFAULTS, 2, "batch-od", 10),
    (K.NODE_FAILURE, DEFAULTS, 2, "batch-od", 10),
    (K.NO_CAPACITY, DEFAULTS, 0, "batch-od", 20),
    (K.IMAGE, DEFAULTS, 4, "report", 4),
    (K.LOST, DEFAULTS, 2, "report", 2),
    *((kind, RetryRules(interruptions=0), 0, "batch-od", 0) for kind in NODE_LOST),
    *((kind, RetryRules(interruptions=1), 1, "batch-od", 5) for kind in NODE_LOST),
    *((kind, RetryRules(interruptions=7), 7, "batch-od", 35) for kind in NODE_LOST),
    (K.INTERRUPTED, RetryRules(interruptions=3, node_failure=1), 3, "batch-od", 15),
    (K.NODE_FAILURE, RetryRules(interruptions=3, node_failure=1), 1, "batch-od", 5),
    (K.NODE_FAILURE, RetryRules(node_failure=0), 0, "batch-od", 0),
    *((K.NO_CAPACITY, RetryRules(no_capacity=n), 0, "batch-od", n) for n in (0, 1, 3)),
    *((K.IMAGE, RetryRules(image=n), n, "report", n) for n in (0, 1, 3)),
    *((K.LOST, RetryRules(lost=n), n, "report", n) for n in (0, 1, 3)),
    *((K.TIMEOUT, RetryRules(timeout=n), n, "report", n) for n in (0, 1, 3)),
    *(
        (K.OUT_OF_MEMORY, RetryRules(memory_factor=2, memory_times=n), n, "report", n)
        for n in (0, 1, 3)
    ),
    # A kind's budget is its own.
    *(
        (kind, RetryRules(9, 9, 9, 9, 9, 9, 2.0, 9), 0, "report", 0)
        for kind in (K.USER, K.CONFIGURATION)
    ),
]


def test_every_kind_is_in_the_table():
    assert {kind for kind, *_ in TABLE} == set(FailureKind)


@pytest.mark.parametrize(("kind", "rules", "repeats", "then", "repeats_alone"), TABLE)
def test_each_kind_has_its_budget(kind, rules, repeats, then, repeats_alone):
    assert fate(kind, rules, "batch-od") == (repeats, then)
    assert fate(kind, rules, None) == (repeats_alone, "report")


def test_what_is_the_jobs_own_doing_is_reported():
    for kind in (None, K.USER, K.CONFIGURATION, K.TIMEOUT, K.OUT_OF_MEMORY):
        if kind:
            assert step(kind) == Report()
    assert next_step(
        Outcome(), SPOT, History(), fallback=None, interruptions=2, mem_mb=None
    ) == Report("")


def test_a_lost_node_is_sent_again_within_the_budget_and_the_third_goes_to_the_fallback():
    for kind in NODE_LOST:
        steps = [step(kind, count) for count in (1, 2, 3)]
        assert [one.target for one in steps] == ["batch-spot", "batch-spot", "batch-od"]
        assert steps[2].reason == f"{kind} 3 times on batch-spot"


def test_all_ways_to_lose_a_node_draw_on_one_budget_unless_they_have_two():
    lost = (K.NODE_FAILURE, K.NODE_FAILURE)
    assert step(K.INTERRUPTED, earlier=lost).target == "batch-od"
    apart = RetryRules(interruptions=1, node_failure=2)
    assert step(K.INTERRUPTED, earlier=lost, rules=apart).target == "batch-spot"
    assert step(K.NODE_FAILURE, earlier=lost, rules=apart).target == "batch-od"


def test_what_happened_on_another_target_does_not_count_but_for_the_total():
    history = failed(*[K.INTERRUPTED] * 9, target="elsewhere")
    words = {"fallback": "batch-od", "interruptions": 2, "mem_mb": None}
    outcome = Outcome(K.INTERRUPTED)
    assert next_step(outcome, SPOT, history, **words).target == "batch-spot"
    few = replace(SPOT, retry=RetryRules(total=10))
    assert next_step(outcome, few, history, **words) == Report(
        "it was sent 10 times, as often as `total` of `retry` allows"
    )


def test_the_runs_budget_of_interruptions_is_that_of_targets_without_their_own():
    assert step(K.INTERRUPTED, 4, interruptions=4).target == "batch-spot"
    assert step(K.INTERRUPTED, 5, interruptions=4).target == "batch-od"
    assert step(K.INTERRUPTED, 3, interruptions=4, rules=RetryRules(2)).target == "batch-od"


def test_no_capacity_falls_back_at_once():
    assert step(K.NO_CAPACITY) == Resubmit("batch-od", "batch-spot has no capacity")


@pytest.mark.parametrize(
    ("kind", "pauses"),
    [
        (K.NO_CAPACITY, [15, 30, 60, 120, 240, 480, 600, 600]),
        (K.IMAGE, [5, 10, 20, 40, 80, 160, 320, 600]),
        (K.LOST, [60, 120, 240, 480, 600]),
        (K.TIMEOUT, [0, 0, 0]),
    ],
)
def test_pauses_double_up_to_the_longest(kind, pauses):
    rules = RetryRules(no_capacity=9, image=9, lost=9, timeout=9)
    steps = [step(kind, n, rules=rules, fallback=None) for n in range(1, len(pauses) + 1)]
    assert [one.delay_seconds for one in steps] == pauses
    assert {one.target for one in steps} == {"batch-spot"}


@pytest.mark.parametrize("kind", sorted(set(FailureKind) - {K.USER, K.CONFIGURATION}))
def test_whatever_is_sent_again_is_scattered(kind):
    """By no more than half of its pause, or by a moment where it has none."""
    rules = RetryRules(timeout=1, memory_factor=2, memory_times=1)
    for fallback in (None, "batch-od"):
        none, half, most = (
            step(kind, rules=rules, fallback=fallback, jitter=lambda c=chance: c).delay_seconds
            for chance in (0.0, 0.5, 1.0)
        )
        if none:
            assert (half, most) == (0.75 * none, 0.5 * none)
        else:
            assert (half, most) == (HERD_SECONDS / 2, HERD_SECONDS)


def test_chance_is_used_where_none_is_given():
    target = replace(SPOT, retry=RetryRules())
    words = {"fallback": None, "interruptions": 2, "mem_mb": None}
    pauses = {
        next_step(Outcome(K.IMAGE), target, History(), **words).delay_seconds for _ in range(20)
    }
    assert len(pauses) > 1 and all(2.5 <= pause <= 5 for pause in pauses)


def test_memory_grows_by_the_factor_up_to_the_cap_and_then_retries_decide():
    rules = RetryRules(memory_factor=2.0, memory_times=3, memory_up_to_mb=6000)

    def memory(count, mem_mb):
        one = step(K.OUT_OF_MEMORY, count, rules=rules, mem_mb=mem_mb)
        return one.mem_mb if isinstance(one, Resubmit) else one.reason

    assert memory(1, 2000) == 4000
    assert memory(2, 4000) == 6000
    assert memory(3, 6000) == "it had 6000 MB, and `out_of_memory` of `retry` allows no more"
    assert memory(4, 1000) == "on batch-spot it was repeated 3 times (`out_of_memory` of `retry`)"
    assert memory(1, None) == "it asks for no `mem_mb` that could grow"


def test_an_image_that_cannot_be_pulled_is_tried_again_a_few_times():
    steps = [step(K.IMAGE, count) for count in range(1, 6)]
    assert [one.delay_seconds for one in steps[:4]] == [5, 10, 20, 40]
    assert {one.target for one in steps[:4]} == {"batch-spot"}
    assert isinstance(steps[4], Report)


def test_an_image_that_is_not_there_is_not_pulled_again():
    assert step(K.IMAGE, permanent=True) == Report()


@pytest.mark.parametrize("kind", [K.LOST, K.TIMEOUT])
def test_what_would_end_as_before_or_may_have_been_done_is_not_sent_again(kind):
    assert isinstance(step(kind, rules=RetryRules(timeout=1)), Resubmit)
    assert step(kind, rules=RetryRules(timeout=1), permanent=True) == Report()


@pytest.mark.parametrize(
    ("kind", "count", "rules", "said"),
    [
        (K.INTERRUPTED, 11, RetryRules(), "10 times (`interruptions` of `retry`)"),
        (K.NODE_FAILURE, 6, RetryRules(node_failure=1), "5 times (`node_failure` of `retry`)"),
        (K.NO_CAPACITY, 2, RetryRules(no_capacity=1), "once (`no_capacity` of `retry`)"),
        (K.IMAGE, 5, RetryRules(), "4 times (`image` of `retry`)"),
        (K.LOST, 3, RetryRules(), "2 times (`lost` of `retry`)"),
        (K.TIMEOUT, 2, RetryRules(timeout=1), "once (`timeout` of `retry`)"),
    ],
)
def test_a_spent_budget_is_told_by_its_word(kind, count, rules, said):
    one = step(kind, count, rules=rules, fallback=None)
    assert one == Report(f"on batch-spot it was repeated {said}")


def chain(chance):
    """Up to four targets, each the fallback of the one before, with budgets by chance."""
    total = chance.choice([1, 2, 5, 30, 100])
    names = [f"t{number}" for number in range(chance.randint(1, 4))]
    targets = {}
    for name, fallback in zip(names, [*names[1:], None], strict=True):
        budgets = [chance.choice([0, 1, 3, 50]) for _ in range(5)]
        own = chance.choice([None, 0, 2, 50])
        memory = (chance.choice([1.0, 1.5, 4.0]), chance.choice([0, 2, 50]), None)
        rules = RetryRules(own, *budgets, *memory, total=total)
        targets[name] = Target(name, "batch", fallback=fallback, retry=rules)
    return targets, total


@pytest.mark.parametrize("seed", range(300))
def test_whatever_happens_the_number_of_sends_is_bounded(seed):
    """Random failures on random targets: the seed is the test's number."""
    chance = random.Random(seed)
    targets, total = chain(chance)
    kinds = chance.sample(sorted(FailureKind), chance.randint(1, len(FailureKind)))
    target, history, mem_mb, sends = targets["t0"], History(), 1000, 0
    while True:
        sends += 1
        assert sends <= total
        outcome = Outcome(chance.choice(kinds), "words", permanent=chance.random() < 0.1)
        one = next_step(
            outcome,
            target,
            history,
            fallback=target.fallback,
            interruptions=chance.choice([0, 2, 100]),
            mem_mb=mem_mb,
            jitter=chance.random,
        )
        if isinstance(one, Report):
            break
        assert 0 <= one.delay_seconds <= LONGEST_PAUSE_SECONDS
        assert one.target in (target.name, target.fallback)
        history = history.with_failure(target.name, outcome)
        assert history.total == sends
        target, mem_mb = targets[one.target], one.mem_mb or mem_mb


def test_a_budget_without_end_ends_with_the_total():
    rules = RetryRules(no_capacity=10**6, total=30)
    words = {"fallback": None, "interruptions": 2, "mem_mb": None}
    target, outcome, history = replace(SPOT, retry=rules), Outcome(K.NO_CAPACITY), History()
    while isinstance(one := next_step(outcome, target, history, **words), Resubmit):
        history = history.with_failure("batch-spot", outcome)
    assert history.total + 1 == 30
    assert one == Report("it was sent 30 times, as often as `total` of `retry` allows")


def test_a_history_is_told_in_lines_like_ones_together():
    history = History().with_failure("spot", Outcome(K.INTERRUPTED, "Host EC2\n gone."), "j:1")
    for number in range(3):
        history = history.with_failure("od", Outcome(K.NO_CAPACITY, "none"), f"k{number}")
    history = history.with_failure("od", Outcome(K.LOST, "w" * 500))
    assert history.lines() == [
        "1. interrupted on spot (j:1): Host EC2 gone.",
        "2. to 4. no_capacity on od: none",
        f"5. lost on od: {'w' * 159}…",
    ]
    assert History().lines() == []
    assert Failure("spot", K.LOST).line == "lost on spot"


def test_a_history_is_made_of_a_ledgers_rows():
    lost = (1, "spot", "interrupted", "gone", "j:1", 1000)
    one = Failure("spot", K.INTERRUPTED, "gone", "j:1")
    assert History.of([]) == History()
    assert History.of([lost, lost]) == History((one, one))
    never_sent = (1, "spot", None, "it had not reached the service", None, 1000)
    assert History.of([lost, never_sent]) == History((one,))
    refused = (1, "spot", "no_capacity", None, None, None)
    assert History.of([lost, refused]).failures[1] == Failure("spot", K.NO_CAPACITY)


def test_what_was_reported_is_no_part_of_the_history():
    def row(attempt, kind):
        return attempt, "spot", kind, "", None, None

    first = [row(1, "interrupted"), row(1, "lost")]
    assert History.of([*first, row(2, "image")]).failures == (Failure("spot", K.IMAGE),)
    assert History.of([*first, row(1, "user"), row(1, "image")]).total == 1
    assert History.of([*first, row(1, "configuration")]) == History()
    # A run that goes on after a kill counts attempts from 1 again.
    assert History.of([row(1, "user"), row(2, "lost"), row(1, "image")]).total == 1


@pytest.mark.parametrize("seed", range(20))
def test_a_history_from_a_ledger_decides_as_the_one_of_before(seed):
    chance = random.Random(seed)
    repeated = sorted(set(FailureKind) - {K.USER, K.CONFIGURATION})
    told, rows = History(), []
    for number in range(chance.randint(0, 12)):
        name, kind = chance.choice(["a", "b"]), chance.choice(repeated)
        told = told.with_failure(name, Outcome(kind, f"r{number}"), f"j:{number}")
        rows.append((1, name, str(kind), f"r{number}", f"j:{number}", None))
    assert History.of(rows) == told
    assert told.total == sum(told.count(name, *FailureKind) for name in "ab")


MORE = replace(SPOT, retry=RetryRules(memory_factor=2.0, memory_times=2, total=PLENTY))


def memory_after(*rows, own=1000, to=MORE):
    """`rows`: kind and memory that was asked for."""
    history = History.of((1, "batch-spot", str(kind), "", None, mem_mb) for kind, mem_mb in rows)
    return memory_to_ask(history, {to.name: to}, own)


def test_memory_that_grew_is_asked_for_again():
    assert memory_after((K.OUT_OF_MEMORY, 1000)) == 2000
    assert memory_after((K.OUT_OF_MEMORY, 1000), (K.OUT_OF_MEMORY, 2000)) == 4000
    assert memory_after((K.OUT_OF_MEMORY, 1000), (K.INTERRUPTED, 2000)) == 2000
    assert memory_after((K.INTERRUPTED, 1000), (K.OUT_OF_MEMORY, 1000), (K.LOST, 2000)) == 2000


def test_memory_that_did_not_grow_is_the_jobs_own():
    assert memory_after() is None
    # A little more, to share an array with others, is no history.
    assert memory_after((K.INTERRUPTED, 1050)) is None
    spent = [(K.OUT_OF_MEMORY, mem_mb) for mem_mb in (1000, 2000, 4000)]
    assert memory_after(*spent) is None, "Snakemake has heard of it"
    assert memory_after((K.OUT_OF_MEMORY, 1000), to=replace(MORE, name="another")) is None
    assert memory_after((K.OUT_OF_MEMORY, None)) is None
    assert memory_after((K.OUT_OF_MEMORY, 1000), own=None) is None
    # The rule says more by now.
    assert memory_after((K.OUT_OF_MEMORY, 1000), own=8000) is None


@pytest.mark.parametrize("seed", range(50))
def test_memory_after_a_restart_is_that_of_a_run_without_one(seed):
    chance = random.Random(seed)
    rules = RetryRules(50, 50, 50, 50, 50, 50, 1.5, chance.randint(1, 6), 4000, PLENTY)
    target, history, mem_mb, rows = replace(SPOT, retry=rules), History(), 1000, []
    kinds = [K.OUT_OF_MEMORY, K.LOST, K.INTERRUPTED]
    for _ in range(8):
        outcome = Outcome(chance.choice(kinds))
        words = {"fallback": None, "interruptions": 50, "mem_mb": mem_mb}
        one = next_step(outcome, target, history, **words)
        if isinstance(one, Report):
            break
        rows.append((outcome.kind, mem_mb))
        history = history.with_failure(target.name, outcome)
        mem_mb = one.mem_mb or mem_mb
        assert (memory_after(*rows, to=target) or 1000) == mem_mb
