"""A plan as one HTML page, which needs no other file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.plain_text import without_controls
from snakemake_executor_takeda.planning import words
from snakemake_executor_takeda.planning.plan import HERE, Row

if TYPE_CHECKING:
    from snakemake_executor_takeda.planning.building import Planning

_TEMPLATE = Path(__file__).with_name("page.html.j2")


def page_of(planning: Planning) -> str:
    """Rules, reasons and paths are the user's text: all of it is escaped."""
    from jinja2 import Environment, StrictUndefined

    plan = planning.plan
    most = max((row.usd or 0.0 for row in plan.rows), default=0.0)
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(
        _TEMPLATE.read_text(encoding="utf-8")
    )
    page = template.render(
        policy=planning.policy.source,
        totals=list(words.totals(planning)),
        rows=[_cells(row, most) for row in plan.rows],
        refused=[row.problem for row in plan.refused],
        warnings=[
            {"rule": row.rule, "text": one.text, "fix": f"{one.fix[:1].upper()}{one.fix[1:]}"}
            for row in plan.rows
            for one in row.warnings
        ],
        reasons=list(words.reasons(plan)),
        notes=plan.notes,
    )
    return "\n".join(map(without_controls, page.splitlines())) + "\n"


def _cells(row: Row, most: float) -> dict[str, Any]:
    is_placed = row.target not in (None, HERE)
    return {
        "rule": row.rule,
        "jobs": f"{row.jobs:,}",
        "place": words.place(row),
        "shapes": row.shapes,
        "instance": row.instance,
        "each": words.time_of(row.seconds_each, row.basis) if is_placed else "",
        "all": words.time_of(row.seconds, row.basis) if is_placed else "",
        "usd": words.dollars(row.usd) if is_placed else "",
        "usd_spot": words.dollars(row.usd_spot) if is_placed else "",
        "usd_on_demand": words.dollars(row.usd_on_demand) if is_placed else "",
        "part": round(100 * (row.usd or 0.0) / most, 1) if most else 0,
        "style": "bad" if row.problem else "" if is_placed else "here",
    }
