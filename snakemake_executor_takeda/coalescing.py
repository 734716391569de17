"""Ready tasks → submissions: equal tasks wait a short while for each other. Pure: the clock is given."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from snakemake_executor_takeda.values import Shape

T = TypeVar("T")


@dataclass
class _Group(Generic[T]):
    limit: int
    first_at: float
    last_at: float
    items: list[T] = field(default_factory=list)


class Coalescer(Generic[T]):
    """Groups items by key until a group has been idle for `idle_seconds`, is `max_seconds` old, or is
    full. What is put in always comes out: `due` with a late enough clock empties it."""

    def __init__(self, idle_seconds: float, max_seconds: float) -> None:
        self._idle_seconds = idle_seconds
        self._max_seconds = max(idle_seconds, max_seconds)
        self._groups: dict[Hashable, _Group[T]] = {}
        self._full: list[list[T]] = []

    def add(self, key: Hashable, item: T, limit: int, now: float) -> None:
        """Put one item with its equals; `limit` is the most that one submission may hold."""
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(limit, first_at=now, last_at=now)
        group.items.append(item)
        group.last_at = now
        if len(group.items) >= limit:
            self._full.append(self._groups.pop(key).items)

    def next_due(self) -> float | None:
        """The moment at which `due` will have something; None if nothing waits."""
        if self._full:
            return float("-inf")
        return min(map(self._due_at, self._groups.values()), default=None)

    def due(self, now: float) -> list[list[T]]:
        """Take out every group whose time has come, in the order they began."""
        ready = [key for key, group in self._groups.items() if self._due_at(group) <= now]
        full, self._full = self._full, []
        return full + [self._groups.pop(key).items for key in ready]

    def _due_at(self, group: _Group[T]) -> float:
        return min(group.last_at + self._idle_seconds, group.first_at + self._max_seconds)


def without_sizes(shape: Shape) -> Shape:
    """The shape but for what `common_shapes` rounds up."""
    return replace(shape, mem_mb=None, disk_mb=None, runtime_min=None)


def common_shapes(shapes: Iterable[Shape], tolerance: float) -> dict[Shape, Shape]:
    """Shape → the shape to ask for instead, so that jobs that differ little share an array.

    Only memory, disk and run time are rounded up, to the most that another of these shapes asks for,
    and never by more than `tolerance` of what the shape itself asks for. A shape that stands alone
    stays as it is. The shapes must not differ in anything else.
    """
    sized = [(_sizes(shape), shape) for shape in set(shapes)]
    # The size that differs most comes first: what is too small in it ends the search.
    order = sorted(range(3), key=lambda i: -len({sizes[i] for sizes, _ in sized}))
    left = sorted(sized, key=lambda one: [one[0][i] for i in order], reverse=True)
    common: dict[Shape, Shape] = {}
    while left:
        # From the largest down, each that still fits in with all before it.
        low = high = left[0][0]
        group: list[Shape] = []
        rest: list[tuple[tuple[int, ...], Shape]] = []
        for number, (sizes, shape) in enumerate(left):
            if not _near(sizes[order[0]], high[order[0]], tolerance):
                rest += left[number:]
                break
            lower, higher = tuple(map(min, low, sizes)), tuple(map(max, high, sizes))
            if all(map(_near, lower, higher, (tolerance,) * 3)):
                low, high = lower, higher
                group.append(shape)
            else:
                rest.append((sizes, shape))
        mem_mb, disk_mb, runtime_min = (size or None for size in high)
        largest = replace(group[0], mem_mb=mem_mb, disk_mb=disk_mb, runtime_min=runtime_min)
        common |= dict.fromkeys(group, largest)
        left = rest
    return common


def _near(least: int, most: int, tolerance: float) -> bool:
    return least == most or 0 < least <= most <= least * (1 + tolerance)


def _sizes(shape: Shape) -> tuple[int, ...]:
    return (shape.mem_mb or 0, shape.disk_mb or 0, shape.runtime_min or 0)
