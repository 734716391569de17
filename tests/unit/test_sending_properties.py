"""Whatever is handed over goes out once, in time, within limits and tolerance: random cases by seed."""

import itertools
import queue
import random

import pytest

from snakemake_executor_takeda.coalescing import Coalescer, common_shapes
from snakemake_executor_takeda.dispatching import Dispatcher, Ready
from snakemake_executor_takeda.values import JobSpec, Placement, Shape, Target

SIZES = ("mem_mb", "disk_mb", "runtime_min")
TOLERANCES = (0.0, 0.1, 0.5, 1.0)


def some_shape(chance):
    """Sizes near each other, far apart, or not given."""

    def size():
        kind = chance.random()
        if kind < 0.2:
            return None
        return chance.randint(950, 1100) if kind < 0.6 else chance.randint(1, 100_000)

    return Shape(mem_mb=size(), disk_mb=size(), runtime_min=size())


@pytest.mark.parametrize("seed", range(40))
def test_no_job_gets_more_than_the_tolerance_allows_nor_less_than_it_asks_for(seed):
    chance = random.Random(seed)
    tolerance = chance.choice(TOLERANCES)
    shapes = [some_shape(chance) for _ in range(chance.randint(1, 200))]
    common = common_shapes(shapes, tolerance)
    assert set(common) == set(shapes)
    for own, given in common.items():
        for name in SIZES:
            asked, got = getattr(own, name), getattr(given, name)
            if asked is None:
                assert got is None
            else:
                assert asked <= got <= asked * (1 + tolerance)
    for given in set(common.values()):
        members = [own for own, other in common.items() if other == given]
        for name in SIZES:
            assert getattr(given, name) in {getattr(member, name) for member in members}
    if tolerance == 0:
        assert all(own == given for own, given in common.items())


@pytest.mark.parametrize("tolerance", [0.0, 0.1])
@pytest.mark.parametrize("names", [("mem_mb",), ("disk_mb",), ("mem_mb", "disk_mb")])
def test_shapes_that_all_differ_cost_no_time_to_speak_of(names, tolerance):
    """As where memory or disk follows from the size of the input: looked at pair by pair, this many
    take minutes."""
    shapes = [Shape(**dict.fromkeys(names, 1000 + 7 * number)) for number in range(10_000)]
    assert len(common_shapes(shapes, tolerance)) == len(shapes)


@pytest.mark.parametrize("seed", range(40))
def test_the_coalescer_gives_each_item_once_within_the_limit_and_the_windows(seed):
    chance = random.Random(seed)
    idle, longest = chance.choice([(0.5, 3.0), (0.0, 0.0), (2.0, 1.0), (0.1, 10.0)])
    limits = {key: chance.choice([1, 2, 3, 10, 10_000]) for key in range(4)}
    moments = list(
        itertools.accumulate(chance.choice([0.0, 0.05, 0.4, 0.6, 4.0]) for _ in range(150))
    )
    items = [(moment, chance.randrange(4), number) for number, moment in enumerate(moments)]
    coalescer = Coalescer(idle, longest)
    out = []

    def drain(until):
        while (due := coalescer.next_due()) is not None and due <= until:
            now = max(due, last)
            batches = coalescer.due(now)
            assert batches
            out.extend((now, batch) for batch in batches)

    last = 0.0
    for moment, key, number in items:
        drain(moment)
        last = moment
        coalescer.add(key, (moment, key, number), limits[key], moment)
    drain(float("inf"))

    assert sorted(number for _, batch in out for _, _, number in batch) == list(range(150))
    for sent, batch in out:
        (key,) = {key for _, key, _ in batch}
        began, ended = batch[0][0], batch[-1][0]
        assert len(batch) <= limits[key]
        assert sent - began <= max(idle, longest) + 1e-9
        assert sent - ended <= idle + 1e-9
        # What leaves before it has been idle is full or as old as it may get.
        assert (
            len(batch) == limits[key]
            or sent - ended == pytest.approx(idle)
            or sent - began == pytest.approx(max(idle, longest))
        )


@pytest.mark.parametrize("seed", range(12))
def test_the_dispatcher_sends_each_job_once_with_its_equals(seed):
    chance = random.Random(seed)
    tolerance = chance.choice(TOLERANCES)
    limits = {"a": chance.choice([1, 3, 10_000]), "b": 7}
    targets = {name: Target(name, "fake") for name in limits}
    jobs = {
        number: JobSpec(
            number,
            chance.choice(["first", "second"]),
            {},
            1,
            some_shape(chance),
            {"lane": chance.choice(["x", "y"])},
        )
        for number in range(chance.choice([1, 10, 300]))
    }
    target_of = {number: targets[chance.choice("ab")] for number in jobs}
    sent = queue.Queue()
    dispatcher = Dispatcher(
        "run",
        Coalescer(0.002, 0.01),
        place=lambda job: Placement(target_of[job.job_id], ("by chance",)),
        placed=lambda ready, placement: None,
        failed=lambda ready, error: sent.put(error),
        limit=lambda target, shape: limits[target.name],
        shape_tolerance=tolerance,
        fits=lambda job, target: True,
        key_resources=lambda target: frozenset({"lane"}),
        send=lambda submission, keys: sent.put((submission, keys)),
    )
    dispatcher.start()
    numbers = list(jobs)
    while numbers:
        count = chance.randint(1, 50)
        delay = chance.choice([0.0, 0.0, 0.005])
        dispatcher.hand_over([Ready(n, jobs[n], (str(n),)) for n in numbers[:count]], delay)
        numbers = numbers[count:]

    seen = []
    names = set()
    while len(seen) < len(jobs):
        submission, keys = sent.get(timeout=30)
        names.add(submission.name)
        members = submission.tasks
        assert 1 <= len(members) <= limits[submission.target.name]
        assert len({task.job.shape for task in members}) == 1
        assert len({(task.job.rule, task.job.resources["lane"]) for task in members}) == 1
        for task in members:
            number = keys[task.task_id]
            seen.append(number)
            assert task.job.job_id == number and task.argv == (str(number),)
            assert task.target is submission.target is target_of[number]
            for name in SIZES:
                asked, got = getattr(jobs[number].shape, name), getattr(task.job.shape, name)
                assert got == asked or asked <= got <= asked * (1 + tolerance)
    dispatcher.stop()
    dispatcher.join(30)
    assert sorted(seen) == list(jobs)
    assert sent.empty()
