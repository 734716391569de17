"""Whether and how to look at an array's children: in the fewest calls, and seldom where they are many. Pure.

A parent's counts say how many children ended, not which. Two calls can tell: ListJobs gives all children
of one state, a thousand a page and in an order that is not documented; DescribeJobs gives the children it
is asked for, a hundred a call. The first costs with what has ended, the second with what has not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

DESCRIBE_PAGE = 100
LIST_PAGE = 1000
WORTH = 50
"""Ends that one call has to bring for a look that needs several calls to be taken at once."""
SECONDS_PER_CALL = 2.0
"""Pause between two looks, for each call beyond the first that a look needs: at most one call a second
for an array, whatever its size and however its children end."""
SECONDS_PER_OTHER_CALL = 0.25
"""And for each call that the other arrays' looks need: four a second for all of them together."""


@dataclass(frozen=True)
class Look:
    """One way to find the children that have ended."""

    states: tuple[str, ...]
    """The states to list; empty where all open children are described instead."""
    calls: int
    """What it costs, at most, beside what the failures found cost: one call for each hundred."""
    brings: int
    """Ends that it will find, by the parent's counts."""


def how_to_look(
    open_count: int,
    ended: Mapping[str, int],
    unseen: Mapping[str, int],
    *,
    only_list: bool = False,
) -> Look | None:
    """The cheapest way to find the children that have ended, None where there is none to find.

    `ended` counts by state (FAILED, SUCCEEDED) what the parent says, `unseen` those of them that are
    not known yet, and `open_count` the children whose end was not reported. `only_list` where
    descriptions lag behind.
    """
    states = tuple(state for state, count in unseen.items() if count > 0)
    if not states or open_count <= 0:
        return None
    brings = min(open_count, sum(unseen[state] for state in states))
    listing = sum(_pages(ended[state], LIST_PAGE) for state in states)
    # A list does not tell a failed child's log stream.
    explaining = _pages(min(open_count, unseen.get("FAILED", 0)), DESCRIBE_PAGE)
    describing = _pages(open_count, DESCRIBE_PAGE)
    if describing < listing + explaining and not only_list:
        return Look((), describing, brings)
    return Look(states, listing, brings)


def is_due(look: Look, *, waited_s: float, others: int = 0, parent_ended: bool = False) -> bool:
    """Whether to take this look now, `waited_s` after the last look at the same array.

    `others` is what the other arrays' looks would cost. An array of up to 100 children is looked at in
    one call, so without a pause, and so is one whose parent has ended: nobody waits for its last child.
    """
    if parent_ended or look.brings >= WORTH * look.calls:
        return True
    return waited_s >= SECONDS_PER_CALL * (look.calls - 1) + SECONDS_PER_OTHER_CALL * others


def is_start_due(size: int, running: int, *, waited_s: float, others: int = 0) -> bool:
    """Whether to list an array's running children, of which some are not known to have started.

    A start is only told, nothing waits for it: larger arrays are listed less often.
    """
    calls = _pages(running, LIST_PAGE) if size > DESCRIBE_PAGE else 0
    return waited_s >= SECONDS_PER_CALL * calls + SECONDS_PER_OTHER_CALL * others


def _pages(count: int, size: int) -> int:
    return -(-count // size)
