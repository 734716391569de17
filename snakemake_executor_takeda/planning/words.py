"""How a plan's figures are said, on the terminal and on the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from snakemake_executor_takeda.planning.plan import HERE, Plan, Row
from snakemake_executor_takeda.reporting.money import UNKNOWN, dollars
from snakemake_executor_takeda.reporting.summary import duration
from snakemake_executor_takeda.routing.policy import HEALTHOMICS

if TYPE_CHECKING:
    from snakemake_executor_takeda.planning.building import Planning

__all__ = ["dollars", "place", "reasons", "size", "span", "time_of", "totals"]

_UNITS = ("B", "kB", "MB", "GB", "TB")


def time_of(seconds: float | None, basis: str = "history") -> str:
    """A `runtime` is the longest that a job may take."""
    if seconds is None:
        return UNKNOWN
    return f"{'≤ ' if basis == 'runtime' else ''}{span(seconds)}"


def span(seconds: float) -> str:
    """`7.2 s`, `10 min`, `3 min 05 s`, `2 h 10 min`, `2,000 h`."""
    if seconds >= 100 * 3600:
        return f"{seconds / 3600:,.0f} h"
    return duration(seconds).removesuffix(" 00 s").removesuffix(" 00 min")


def size(count: float) -> str:
    """Decimal units, as S3's bill has them."""
    for unit in _UNITS[:-1]:
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} {_UNITS[-1]}"


def place(row: Row) -> str:
    if row.problem:
        return "no target"
    if row.target is None:
        return "not known yet"
    return f"{row.target} ({row.capacity})" if row.capacity else row.target


def reasons(plan: Plan) -> Iterator[tuple[str, str]]:
    """Rules that go to one place for one reason → the reason, and why not the next."""
    told: dict[tuple[str, str, str], list[str]] = {}
    for row in plan.rows:
        if not row.problem and row.why:
            told.setdefault((row.target or "", row.why, row.why_not), []).append(row.rule)
    for (target, why, why_not), rules in told.items():
        arrow = f" → {target}" if target and target != HERE else ""
        yield (
            f"{', '.join(rules)}{arrow}",
            ". ".join(part for part in (why, _capital(why_not)) if part),
        )


def totals(planning: Planning) -> Iterator[str]:
    """Sentences about all of it."""
    plan, one = planning.plan, planning.plan.totals
    here = sum(row.jobs for row in plan.rows if row.target == HERE)
    text = f"{one.jobs:,} job{'' if one.jobs == 1 else 's'}"
    text += f", {here:,} of them on this machine" if here else ""
    if one.seconds:
        text += (
            f", {span(one.seconds)} of work, {span(one.chain_seconds)} from the first to the last"
        )
        text += " with room for all"
    yield text
    if one.usd:
        yield (
            f"{dollars(one.usd)} where they are placed; {dollars(one.usd_spot)} were all on Spot that can "
            f"be, {dollars(one.usd_on_demand)} all On-Demand"
        )
    if one.without_time:
        yield f"of {one.without_time:,} no time is known, and so no cost"
    yield from _unpriced(planning)
    book = planning.book
    if book and book.ec2 and one.usd:
        kind = "" if book.spot else f"; Spot is taken as {book.spot_share:.0%} of On-Demand"
        yield f"prices of {book.region} of {book.ec2.date}{kind}: `takeda prices refresh` has today's"
    if planning.unstaged:
        count = len(planning.unstaged)
        yield (
            f"{count:,} input{'' if count == 1 else 's'} ({size(planning.unstaged_bytes)}) "
            f"{'is' if count == 1 else 'are'} beside the Snakefile and not in S3: `takeda stage`, with the "
            "same flags, uploads"
        )


def _unpriced(planning: Planning) -> Iterator[str]:
    """Why of jobs whose time is known the cost is not, by target."""
    jobs: Counter[str] = Counter()
    for row in planning.plan.rows:
        if row.target and row.usd is None and row.seconds is not None and row.backend != "local":
            jobs[row.target] += row.jobs
    for target, count in jobs.items():
        at = planning.policy.targets[target]
        if planning.region is None:
            fix = "set AWS_REGION, or `region` on the target, so that its prices can be looked up"
        elif at.backend == HEALTHOMICS:
            fix = "earlier runs did not tell what they were billed"
        elif at.instances:
            fix = f"{planning.region} has no known price of {', '.join(at.instances)}"
        else:
            fix = f"name the `instances` of {target} in a routing policy, as `[c7i, m7i, r7i]`"
        yield f"of {count:,} on {target} no cost is known: {fix}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
