"""What a task that ran has cost, as the tables of prices have it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from snakemake_executor_takeda.reporting.money import NOTHING, Spend, dollars
from snakemake_executor_takeda.values import FailureKind

if TYPE_CHECKING:
    from snakemake_executor_takeda.routing.market import Market
    from snakemake_executor_takeda.routing.prices import PriceBook, Source
    from snakemake_executor_takeda.values import Outcome, Shape, Target

_NEVER_RAN = {FailureKind.NO_CAPACITY, FailureKind.CONFIGURATION, FailureKind.IMAGE}
"""What fails so, and has no time, has not begun."""
T = TypeVar("T")
_OMICS = "healthomics"
_DECIMALS = 6


class Prices:
    """Asked of each task that starts or ends; of each shape on each target the tables are asked once.

    Trouble with the tables, such as a file that cannot be read, is told once, and prices are not known."""

    def __init__(
        self,
        market: Market | None = None,
        book_of: Callable[[Target], PriceBook | None] = lambda target: None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        """`book_of` gives the prices of a target's Region; None where that is not known."""
        self._market = market
        self._book_of = book_of
        self._say = say
        self._known: dict[tuple[str, Shape], float | None] = {}
        self._has_said = False

    def per_hour(self, target: Target, shape: Shape) -> float | None:
        """USD for an hour of such a job there; None where it is not known."""
        known = (target.name, shape)
        if known not in self._known:
            self._known[known] = self._try(lambda: self._offered(target, shape))
        return self._known[known]

    def spend(
        self, target: Target, shape: Shape, outcome: Outcome, seconds: float | None = None
    ) -> Spend:
        """Of one attempt that is over. `seconds` is how long it was seen running, where the outcome does
        not tell."""
        if target.backend == _OMICS and (usage := outcome.detail.get("usage")):
            return NOTHING.and_one(self._try(lambda: self._billed(target, usage)))
        if outcome.wall_seconds is not None:
            seconds = outcome.wall_seconds
        if seconds is None:
            return NOTHING if outcome.kind in _NEVER_RAN else NOTHING.and_one(None)
        return NOTHING.and_one(self._of_time(target, shape, seconds))

    def source(self, target: Target) -> str:
        """Whose figures these are: the policy's own, or those of a table, with its date."""
        if target.usd_per_cpu_hour is not None or target.usd_per_gpu_hour is not None:
            return "the policy"
        book = self._try(lambda: self._book_of(target))
        if book is None:
            return "the price table"
        source: Source | None = book.ec2
        if target.backend == _OMICS:
            source = book.healthomics.source if book.healthomics else None
        elif _is_fargate(target):
            source = book.fargate.source if book.fargate else None
        return f"the price table of {source.date}" if source else "the price table"

    def _of_time(self, target: Target, shape: Shape, seconds: float) -> float | None:
        from snakemake_executor_takeda.routing.instances_serverless import FARGATE_MIN_SECONDS

        hourly = self.per_hour(target, shape)
        if _is_fargate(target):
            seconds = max(seconds, FARGATE_MIN_SECONDS)
        return None if hourly is None else round(hourly * seconds / 3600, _DECIMALS)

    def _offered(self, target: Target, shape: Shape) -> float | None:
        from snakemake_executor_takeda.routing.market import offer_of

        return offer_of(target, shape, self._market).usd_per_hour

    def _billed(self, target: Target, usage: Mapping[str, float]) -> float | None:
        from snakemake_executor_takeda.planning.estimates import usd_of_usage

        book = self._book_of(target)
        usd = usd_of_usage(usage, book.healthomics) if book and book.healthomics else None
        return None if usd is None else round(usd, _DECIMALS)

    def _try(self, ask: Callable[[], T]) -> T | None:
        try:
            return ask()
        except Exception as error:  # noqa: BLE001 - a price must not keep a job from its report
            if not self._has_said:
                self._has_said = True
                self._say(f"what the run costs is not known in full: {error}")
            return None


def cost_line(spends: Mapping[str, Spend], source_of: Callable[[str], str]) -> str:
    """What a run has cost, by target; empty where nothing is known of it."""
    priced = {target: spend for target, spend in spends.items() if spend.known}
    total = sum(spends.values(), NOTHING)
    if not priced or not total.usd:
        return ""
    each = [f"{dollars(spend.usd)} on {target}" for target, spend in priced.items()]
    sources = list(dict.fromkeys(source_of(target) for target in priced))
    has = "has" if len(sources) == 1 else "have"
    if len(each) == 1:
        told = f"about {each[0]}"
    else:
        told = f"about {dollars(total.usd)}: {', '.join(each)}"
    others = [f"{spend.unknown:,} on {target}" for target, spend in spends.items() if spend.unknown]
    rest = f"; of {', '.join(others)} it is not known" if others else ""
    return f"cost: {told}, as {' and '.join(sources)} {has} it{rest}"


def _is_fargate(target: Target) -> bool:
    return getattr(target.options, "platform", None) == "FARGATE"
