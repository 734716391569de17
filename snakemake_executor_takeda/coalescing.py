"""Ready tasks → submissions: equal tasks wait a short while for each other. Pure: the clock is given."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

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
