"""Looks at everything at once: a thread for each checkup, in their order, each for so long at most."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from snakemake_executor_takeda.doctor.findings import (
    Checkup,
    Finding,
    NotTold,
    Result,
    Severity,
    Visit,
    halves,
)
from snakemake_executor_takeda.values import TakedaError

AT_ONCE = 8
"""Threads: what they wait for are answers of services."""


def with_those_before(checkups: Iterable[Checkup]) -> list[Checkup]:
    """These and all that must be looked at before them, each once, in an order that can be kept."""
    ordered: dict[int, Checkup] = {}

    def add(one: Checkup) -> None:
        for earlier in one.after:
            add(earlier)
        ordered.setdefault(id(one), one)

    for one in checkups:
        add(one)
    return list(ordered.values())


def examine(
    checkups: Sequence[Checkup],
    timeout_s: float,
    tell: Callable[[Checkup | None, int], None] = lambda checkup, done: None,
) -> Visit:
    """Look at all of them, and what they name in `after`. Results are in the order of the checkups.

    One that takes more than `timeout_s` is a note; its thread, which cannot be ended, is left to itself.
    `tell` gets what is begun, and how many are done.
    """
    ordered = with_those_before(checkups)
    results: dict[int, Result] = {}
    under_way: dict[int, tuple[Checkup, float]] = {}
    answers: queue.SimpleQueue[Result] = queue.SimpleQueue()
    while len(results) < len(ordered):
        for one in ordered:
            if id(one) in results or id(one) in under_way:
                continue
            if blocked := _blocked_by(one, results):
                results[id(one)] = Result(one, left_out=blocked)
            elif len(under_way) < AT_ONCE and all(id(before) in results for before in one.after):
                under_way[id(one)] = (one, time.monotonic() + timeout_s)
                tell(one, len(results))
                threading.Thread(target=_look, args=(one, answers), daemon=True).start()
        if under_way:
            _take(answers, under_way, results, timeout_s)
            tell(None, len(results))
    return Visit(tuple(results[id(one)] for one in ordered))


def _blocked_by(one: Checkup, results: dict[int, Result]) -> Checkup | None:
    """The first cause: what was left out itself hands on why."""
    for before in one.after:
        result = results.get(id(before))
        if result is not None and result.blocks:
            return result.left_out or before
    return None


def _take(
    answers: queue.SimpleQueue[Result],
    under_way: dict[int, tuple[Checkup, float]],
    results: dict[int, Result],
    timeout_s: float,
) -> None:
    """Wait for the next answer, or until the first of those under way is given up."""
    first = min(deadline for _, deadline in under_way.values())
    try:
        result = answers.get(timeout=max(0.0, first - time.monotonic()))
    except queue.Empty:
        now = time.monotonic()
        for key, (one, deadline) in list(under_way.items()):
            if deadline <= now:
                del under_way[key]
                results[key] = Result(one, (_late(one, timeout_s),))
        return
    if under_way.pop(id(result.checkup), None):  # of one that was given up nobody wants to hear
        results[id(result.checkup)] = result


def _late(one: Checkup, timeout_s: float) -> Finding:
    return Finding(
        f"no answer within {timeout_s:g} s",
        one.why if one.vital else "",
        "see whether the network lets it through, or look again with more time: takeda doctor --timeout "
        f"{2 * timeout_s:g}",
        Severity.FAULT if one.vital else Severity.NOTE,
    )


def _look(one: Checkup, answers: queue.SimpleQueue[Result]) -> None:
    try:
        found = tuple(one.look())
    except NotTold as error:
        found = (Finding(str(error), "", error.fix, Severity.NOTE),)
    except TakedaError as error:
        what, fix = halves(str(error))
        found = (Finding(what, one.why, fix),)
    except Exception as error:  # noqa: BLE001 - the others are looked at all the same
        said = f"{type(error).__name__}: {error}"
        found = (
            Finding(f"it could not be looked at: {said}", "", "please report this", Severity.NOTE),
        )
    answers.put(Result(one, found))
