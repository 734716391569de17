"""The table at the end of a run: rule, jobs, target, why, wall time, cost."""

from __future__ import annotations

import io
import threading
from collections import Counter
from dataclasses import dataclass, field

from snakemake_executor_takeda.reporting.efficiency import Efficiency
from snakemake_executor_takeda.reporting.money import NOTHING, Spend
from snakemake_executor_takeda.values import JobSpec, Outcome, Placement


@dataclass
class _Row:
    jobs: int = 0
    failed: int = 0
    again: int = 0
    seconds: list[float] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    efficiency: Efficiency = field(default_factory=Efficiency)
    spend: Spend = NOTHING


class Summary:
    """Collects what happened per rule and target. Safe across threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[tuple[str, str], _Row] = {}

    def ended(
        self, job: JobSpec, placement: Placement, outcome: Outcome, spend: Spend = NOTHING
    ) -> None:
        with self._lock:
            row = self._rows.setdefault((job.rule, placement.target.name), _Row())
            row.jobs += 1
            row.failed += not outcome.succeeded
            row.spend += spend
            row.reasons["; ".join(placement.reasons)] += 1
            if outcome.wall_seconds is not None:
                row.seconds.append(outcome.wall_seconds)
            row.efficiency.add(job.shape, outcome)

    def sent_again(self, job: JobSpec, placement: Placement, spend: Spend = NOTHING) -> None:
        with self._lock:
            row = self._rows.setdefault((job.rule, placement.target.name), _Row())
            row.again += 1
            row.spend += spend

    def text(self, width: int = 110) -> str:
        """The table as text, empty where no job ended."""
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        if not self._rows:
            return ""
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("rule")
        table.add_column("jobs", justify="right")
        table.add_column("target")
        table.add_column("why")
        table.add_column("wall time, total (longest)", justify="right")
        has_cost = any(row.spend.known for row in self._rows.values())
        if has_cost:
            table.add_column("cost", justify="right", no_wrap=True)
        for (rule, target), row in self._rows.items():
            notes = [f"{row.failed} failed"] * bool(row.failed) + [
                f"{row.again} sent again"
            ] * bool(row.again)
            jobs = f"{row.jobs}" + (f" ({', '.join(notes)})" if notes else "")
            cells = [rule, jobs, target, _most(row.reasons), _wall(row.seconds)]
            cells += [str(row.spend)] * has_cost
            table.add_row(*map(Text, cells))
        stream = io.StringIO()
        # Names and reasons are the user's text: a bracket in them is no markup.
        Console(file=stream, width=width, color_system=None, markup=False).print(table)
        lines = [line.rstrip() for line in stream.getvalue().splitlines()]
        return "\n".join([*lines, *self._efficiency()]).strip("\n")

    def _efficiency(self) -> list[str]:
        """A line for each rule and target of which it is known what its jobs used."""
        words = {key: row.efficiency.words() for key, row in self._rows.items()}
        return [f"{rule} on {target} used {said}" for (rule, target), said in words.items() if said]


def _most(reasons: Counter[str]) -> str:
    if not reasons:
        return "–"
    (first, _), *others = reasons.most_common()
    if not others:
        return first
    return f"{first} (and {len(others)} other reason{'s' if len(others) > 1 else ''})"


def _wall(seconds: list[float]) -> str:
    if not seconds:
        return "–"
    if len(seconds) == 1:
        return duration(seconds[0])
    return f"{duration(sum(seconds))} ({duration(max(seconds))})"


def duration(seconds: float) -> str:
    """`7.2 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"
