"""The coalescer loses nothing and holds nothing back, at any size, limit and rhythm of arrival."""

import itertools
import math

import pytest

from snakemake_executor_takeda.coalescing import Coalescer, common_shapes
from snakemake_executor_takeda.values import Shape


def run(arrivals, limit, idle=0.5, longest=3.0):
    """Play arrivals (moment, key, item) against a clock that only moves to what is due."""
    coalescer = Coalescer(idle, longest)
    out = []
    now = 0.0
    for moment, key, item in arrivals:
        while (due := coalescer.next_due()) is not None and due <= moment:
            now = max(now, due)
            out += [(now, batch) for batch in coalescer.due(now)]
        now = moment
        coalescer.add(key, item, limit, now)
    while (due := coalescer.next_due()) is not None:
        now = max(now, due)
        out += [(now, batch) for batch in coalescer.due(now)]
    return out


@pytest.mark.parametrize("jobs", [1, 2, 3, 10, 101])
@pytest.mark.parametrize("limit", [1, 2, 3, 10, 10_000])
@pytest.mark.parametrize("gap", [0.0, 0.1, 0.4, 0.6, 5.0])
def test_every_item_comes_out_once_in_time_and_within_the_limit(jobs, limit, gap):
    arrivals = [(number * gap, "shape", number) for number in range(jobs)]
    out = run(arrivals, limit)

    assert list(itertools.chain.from_iterable(batch for _, batch in out)) == list(range(jobs))
    for moment, batch in out:
        assert 1 <= len(batch) <= limit
        assert moment - batch[0] * gap <= 3.0 + 1e-9


def test_equal_items_that_arrive_together_leave_together():
    out = run([(0.0, "a", n) for n in range(1000)], limit=10_000)
    assert [len(batch) for _, batch in out] == [1000]


def test_different_keys_never_share_a_batch():
    out = run([(0.01 * n, n % 3, (n % 3, n)) for n in range(30)], limit=10_000)
    assert sorted(len(batch) for _, batch in out) == [10, 10, 10]
    assert all(len({key for key, _ in batch}) == 1 for _, batch in out)


def test_a_trickle_waits_no_longer_than_the_longest_wait():
    first_moment, first_batch = run([(0.4 * n, "a", n) for n in range(20)], limit=10_000)[0]
    assert first_moment == pytest.approx(3.0)
    assert len(first_batch) == 8


def test_a_full_group_is_due_at_once():
    coalescer = Coalescer(0.5, 3.0)
    for number in range(5):
        coalescer.add("a", number, limit=5, now=10.0)
    assert coalescer.next_due() == -math.inf
    assert coalescer.due(10.0) == [[0, 1, 2, 3, 4]]
    assert coalescer.next_due() is None


def test_what_is_not_due_yet_stays_until_it_is():
    coalescer = Coalescer(0.5, 3.0)
    coalescer.add("a", 1, limit=5, now=0.0)
    assert coalescer.due(0.1) == []
    assert coalescer.due(0.5) == [[1]]
    assert coalescer.due(60.0) == []


GIVEN = [(1000, None, 60), (1049, None, 60), (1100, None, 60), (1101, None, 60), (None, None, 60)]


def shapes_of(sizes):
    return [Shape(cpus=2, mem_mb=m, disk_mb=d, runtime_min=r) for m, d, r in sizes]


def test_near_shapes_share_the_largest_and_none_gets_more_than_the_tolerance():
    common = common_shapes(shapes_of(GIVEN), tolerance=0.1)
    assert [common[shape].mem_mb for shape in shapes_of(GIVEN)] == [1000, 1101, 1101, 1101, None]


def test_without_tolerance_each_shape_stays_as_it_is():
    shapes = shapes_of(GIVEN)
    assert common_shapes(shapes, tolerance=0.0) == {shape: shape for shape in shapes}


def test_every_size_has_to_be_near():
    shapes = shapes_of([(1000, 100, 60), (1000, 100, 90), (1000, None, 60), (1050, 100, 60)])
    common = common_shapes(shapes, tolerance=0.1)
    assert common[shapes[0]] == common[shapes[3]] == shapes[3]
    assert common[shapes[1]] == shapes[1]
    assert common[shapes[2]] == shapes[2]


def test_ten_thousand_sizes_become_few():
    shapes = shapes_of([(1000 + n, None, None) for n in range(10_000)])
    common = common_shapes(shapes, tolerance=0.1)
    assert len(set(common.values())) <= math.ceil(math.log(11, 1.1)) + 1
    assert all(s.mem_mb <= common[s].mem_mb <= s.mem_mb * 1.1 for s in shapes)
