"""What a run would do, rule by rule: how many jobs where, why, for how long, at what cost. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.planning.advice import Warning_, warnings_of
from snakemake_executor_takeda.planning.estimates import Estimate, estimate, of_healthomics
from snakemake_executor_takeda.planning.reasons import why, why_not
from snakemake_executor_takeda.routing.market import NOTHING_KNOWN, Offer, offer_of
from snakemake_executor_takeda.routing.policy import HEALTHOMICS, Policy
from snakemake_executor_takeda.values import JobSpec, Shape, Target

if TYPE_CHECKING:
    from snakemake_executor_takeda.planning.history import PastRuns
    from snakemake_executor_takeda.routing.deciding import Decision
    from snakemake_executor_takeda.routing.prices import OmicsPrices

HERE = "this machine"
"""In place of a target, of what Snakemake runs itself: local rules."""
SHOWN_SHAPES = 3


@dataclass(frozen=True)
class Planned:
    """One job of the DAG."""

    key: Any
    """The job itself, to which others refer."""
    rule: str
    job: JobSpec | None = None
    """None for a job that Snakemake runs itself, and for one that is not known yet."""
    decision: Decision | None = None
    unknown: str = ""
    """Why it is not known yet what it asks: its functions need files that other jobs make."""
    is_local: bool = False
    after: tuple[Hashable, ...] = ()
    """Keys of the jobs that it waits for."""
    input_bytes: int | None = None
    shared_input_bytes: int = 0
    """Of the inputs that the rule's other jobs have, too."""


@dataclass(frozen=True)
class Row:
    """The jobs of a rule that go to one place."""

    rule: str
    jobs: int
    target: str | None
    """None where no target takes them, or that is not known yet."""
    backend: str | None = None
    capacity: str | None = None
    why: str = ""
    why_not: str = ""
    """Why not the next best."""
    problem: str = ""
    """Why no target takes them."""
    instance: str = ""
    shapes: tuple[str, ...] = ()
    """What the jobs ask for, the most frequent first."""
    basis: str = "unknown"
    history_jobs: int = 0
    seconds_each: float | None = None
    seconds: float | None = None
    """Of all of them, one after the other."""
    usd: float | None = None
    usd_spot: float | None = None
    usd_on_demand: float | None = None
    input_bytes_each: float | None = None
    warnings: tuple[Warning_, ...] = ()


@dataclass(frozen=True)
class Totals:
    jobs: int
    seconds: float
    """Of all jobs whose time is known, one after the other."""
    chain_seconds: float
    """Of the longest chain of jobs that wait for each other: no run is quicker, however much it has."""
    without_time: int
    usd: float
    usd_spot: float
    usd_on_demand: float
    without_price: int
    """Jobs on a target that costs something, of which it is not known what."""


@dataclass(frozen=True)
class Plan:
    rows: tuple[Row, ...]
    totals: Totals
    notes: tuple[str, ...] = ()

    @property
    def refused(self) -> list[Row]:
        return [row for row in self.rows if row.problem]


@dataclass
class _Group:
    """Jobs of a row, as they come."""

    first: Planned
    jobs: int = 0
    shapes: Counter[Shape] = field(default_factory=Counter)
    estimates: list[Estimate] = field(default_factory=list)
    offer: Offer | None = None
    input_bytes: list[int] = field(default_factory=list)
    shared_bytes: int = 0


class Planner:
    """Takes the jobs of a DAG one by one; a shape's price on a target is worked out once."""

    def __init__(self, policy: Policy, past: PastRuns, omics: OmicsPrices | None) -> None:
        self._policy = policy
        self._past = past
        self._omics = omics
        self._groups: dict[tuple[object, ...], _Group] = {}
        self._seconds: dict[Hashable, float] = {}
        self._after: dict[Hashable, tuple[Hashable, ...]] = {}
        self._known: dict[tuple[str, str, Shape], tuple[Offer | None, Estimate]] = {}

    def add(self, one: Planned) -> None:
        target = one.decision.target if one.decision else None
        refused = one.decision.refused if one.decision else None
        label = one.decision.steps[-1].route.label if target and one.decision else ""
        place = target.name if target else HERE if one.is_local else None
        key = (one.rule, place, label, str(refused or ""), one.unknown)
        group = self._groups.setdefault(key, _Group(one))
        group.jobs += 1
        self._after[one.key] = one.after
        if one.input_bytes is not None:
            group.input_bytes.append(one.input_bytes)
            group.shared_bytes = max(group.shared_bytes, one.shared_input_bytes)
        if one.job is None:
            return
        group.shapes[one.job.shape] += 1
        if target is None:
            return
        offer, estimated = self._estimated(one.job, target)
        group.offer = group.offer or offer
        group.estimates.append(estimated)
        self._seconds[one.key] = estimated.seconds or 0.0

    def plan(self, notes: Sequence[str] = ()) -> Plan:
        depth = ends_of(self._after, lambda _: 1.0)
        # In the order of the pipeline's steps, which Snakemake's set of jobs has not.
        groups = sorted(
            self._groups.values(), key=lambda one: (depth[one.first.key], one.first.rule)
        )
        rows = tuple(map(self._row, groups))
        return Plan(rows, self._totals(rows), tuple(notes))

    def _estimated(self, job: JobSpec, target: Target) -> tuple[Offer | None, Estimate]:
        key = (job.rule, target.name, job.shape)
        if key not in self._known:
            past = self._past.of(job.rule, target.name)
            if target.backend == HEALTHOMICS:
                self._known[key] = None, of_healthomics(past, self._omics)
            else:
                offer = offer_of(target, job.shape, self._policy.market)
                self._known[key] = offer, estimate(job.shape, offer, past)
        return self._known[key]

    def _row(self, group: _Group) -> Row:
        first, decision = group.first, group.first.decision
        if decision is None or decision.refused:
            return Row(
                first.rule,
                group.jobs,
                HERE if first.is_local else None,
                why=first.unknown or ("Snakemake runs it itself" if first.is_local else ""),
                problem=str(decision.refused) if decision else "",
                shapes=tuple(_shapes(group.shapes)),
            )
        target = decision.target
        assert target is not None
        past = self._past.of(first.rule, target.name)
        times = [one.seconds for one in group.estimates if one.seconds is not None]
        row = Row(
            first.rule,
            group.jobs,
            target.name,
            target.backend,
            target.capacity,
            why=why(decision, self._policy),
            why_not=why_not(decision, self._policy),
            instance=(group.offer or NOTHING_KNOWN).instance,
            shapes=tuple(_shapes(group.shapes)),
            basis=group.estimates[0].basis,
            history_jobs=past.jobs if past else 0,
            seconds_each=sum(times) / len(times) if times else None,
            seconds=sum(times) if times else None,
            usd=_sum(one.usd for one in group.estimates),
            usd_spot=_sum(one.usd_spot for one in group.estimates),
            usd_on_demand=_sum(one.usd_on_demand for one in group.estimates),
            input_bytes_each=(
                sum(group.input_bytes) / len(group.input_bytes) if group.input_bytes else None
            ),
        )
        largest = max(group.shapes, key=lambda shape: shape.runtime_min or 0)
        told = warnings_of(row, target, largest, group.offer, past, shared_bytes=group.shared_bytes)
        return replace(row, warnings=tuple(told))

    def _totals(self, rows: Sequence[Row]) -> Totals:
        placed = [row for row in rows if row.target not in (None, HERE)]
        paid = [row for row in placed if row.backend != "local"]
        return Totals(
            jobs=sum(row.jobs for row in rows),
            seconds=sum(row.seconds or 0.0 for row in placed),
            chain_seconds=max(
                ends_of(self._after, lambda key: self._seconds.get(key, 0.0)).values(), default=0.0
            ),
            without_time=sum(row.jobs for row in placed if row.seconds is None),
            usd=sum(row.usd or 0.0 for row in paid),
            # What has one price only costs that, whatever the others run on.
            usd_spot=sum(_first(row.usd_spot, row.usd) for row in paid),
            usd_on_demand=sum(_first(row.usd_on_demand, row.usd) for row in paid),
            without_price=sum(row.jobs for row in paid if row.usd is None),
        )


def ends_of(
    after: Mapping[Hashable, Iterable[Hashable]], seconds: Callable[[Hashable], float]
) -> dict[Hashable, float]:
    """When each job ends that begins as soon as those have ended that it waits for. The graph has no
    circles."""
    ends: dict[Hashable, float] = {}
    for start in after:
        stack = [start]
        while stack:
            one = stack[-1]
            waiting = [before for before in after.get(one, ()) if before not in ends]
            if one not in ends and waiting:
                stack.extend(waiting)
                continue
            stack.pop()
            if one not in ends:
                begins = max((ends[before] for before in after.get(one, ())), default=0.0)
                ends[one] = begins + seconds(one)
    return ends


def _shapes(shapes: Counter[Shape]) -> Iterator[str]:
    """The most frequent ones in words, and how many others."""
    for shape, _ in shapes.most_common(SHOWN_SHAPES):
        yield words_of(shape)
    if len(shapes) > SHOWN_SHAPES:
        yield f"and {len(shapes) - SHOWN_SHAPES} other sizes"


def words_of(shape: Shape) -> str:
    """`4 CPUs, 16,000 MB, 2 h`."""
    parts = [f"{shape.cpus} CPU{'s' if shape.cpus > 1 else ''}"]
    if shape.mpi or shape.nodes > 1:
        parts[0] = f"{shape.tasks} × {parts[0]}"
        parts.insert(0, f"{shape.nodes} node{'s' if shape.nodes > 1 else ''}")
    if shape.mem_mb is not None:
        parts.append(f"{shape.mem_mb:,} MB")
    if shape.gpus:
        parts.append(
            f"{shape.gpus} GPU{'s' if shape.gpus > 1 else ''} {shape.gpu_model or ''}".strip()
        )
    if shape.runtime_min is not None:
        parts.append(f"at most {shape.runtime_min} min")
    return ", ".join(parts)


def _sum(amounts: Iterable[float | None]) -> float | None:
    """None where one is not known: a part of a sum says less than nothing."""
    total = 0.0
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total


def _first(*amounts: float | None) -> float:
    return next((amount for amount in amounts if amount is not None), 0.0)
