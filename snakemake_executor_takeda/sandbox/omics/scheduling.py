"""Which PENDING runs may start: pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Waiting:
    """A PENDING run."""

    run_id: str
    order: int
    """Who came first has the smaller number."""
    group_id: str | None = None
    priority: int = 0
    due: float = 0.0
    """Not before this moment, in seconds of a monotonic clock."""


def startable(
    waiting: Iterable[Waiting],
    active: Mapping[str | None, int],
    max_runs: Mapping[str | None, int],
    free: int,
    now: float,
) -> list[Waiting]:
    """At most `free` runs, in the order they start.

    Within a group, and among the runs without one, the highest priority goes first, then who came
    first. Groups with room take turns by whose next run came first; `active` counts each group's
    runs that go on.
    """
    queues: dict[str | None, list[Waiting]] = {}
    for one in sorted(waiting, key=lambda one: (-one.priority, one.order)):
        if one.due <= now:
            queues.setdefault(one.group_id, []).append(one)
    running = Counter(active)
    chosen: list[Waiting] = []
    while len(chosen) < free:
        heads = [
            queue[0]
            for group, queue in queues.items()
            if queue and (group not in max_runs or running[group] < max_runs[group])
        ]
        if not heads:
            break
        first = min(heads, key=lambda one: one.order)
        queues[first.group_id].remove(first)
        running[first.group_id] += 1
        chosen.append(first)
    return chosen


def seconds_until_due(waiting: Iterable[Waiting], now: float) -> float | None:
    """How long until another of them is due, None where none is ahead."""
    ahead = [one.due - now for one in waiting if one.due > now]
    return min(ahead) if ahead else None
