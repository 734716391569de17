"""A plan on the terminal: a table by rule, the reasons, the warnings, the totals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snakemake_executor_takeda.plain_text import without_controls
from snakemake_executor_takeda.planning import words
from snakemake_executor_takeda.planning.plan import HERE

if TYPE_CHECKING:
    from rich.console import Console

    from snakemake_executor_takeda.planning.building import Planning

_LEFT, _RIGHT = "left", "right"
_COLUMNS = (
    ("rule", _LEFT),
    ("jobs", _RIGHT),
    ("target", _LEFT),
    ("instance", _LEFT),
    ("each", _RIGHT),
    ("in all", _RIGHT),
    ("cost", _RIGHT),
    ("Spot", _RIGHT),
    ("On-Demand", _RIGHT),
)


def show(planning: Planning, console: Console) -> None:
    """Names and reasons are the user's text: a bracket in them is no markup."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    plan = planning.plan
    if not plan.rows:
        console.print(
            "nothing to do: no rule has an output that is missing or out of date", markup=False
        )
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name, justify in _COLUMNS:
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in plan.rows:
        cells = [row.rule, f"{row.jobs:,}", words.place(row)]
        if row.target and row.target != HERE:
            cells += [
                row.instance,
                words.time_of(row.seconds_each, row.basis),
                words.time_of(row.seconds, row.basis),
                *map(words.dollars, (row.usd, row.usd_spot, row.usd_on_demand)),
            ]
        style = "red" if row.problem else "dim" if row.target in (None, HERE) else ""
        table.add_row(*(Text(without_controls(cell)) for cell in cells), style=style)
    console.print(table)
    _lines(console, "why", [f"{who}: {text}" for who, text in words.reasons(plan)])
    _lines(console, "no target takes", [row.problem for row in plan.refused], "red")
    warnings = [
        f"{row.rule}: {one.text}. {one.fix[:1].upper()}{one.fix[1:]}"
        for row in plan.rows
        for one in row.warnings
    ]
    _lines(console, "to look at", warnings, "yellow")
    _lines(console, "notes", plan.notes)
    _lines(console, "in all", list(words.totals(planning)))


def _lines(console: Console, heading: str, lines: object, style: str = "") -> None:
    from rich.padding import Padding
    from rich.text import Text

    assert isinstance(lines, list | tuple)
    if not lines:
        return
    console.print(Text(heading, style=f"bold {style}".strip()))
    for line in lines:
        console.print(Padding(Text(without_controls(line)), (0, 0, 0, 2)))
    console.print()
