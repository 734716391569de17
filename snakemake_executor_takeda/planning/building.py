"""The plan of a pipeline: its DAG, asked as a run would ask it, through the run's own router."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from snakemake_executor_takeda import assembly, jobs
from snakemake_executor_takeda.planning.dag import Dag, size_of, with_dag
from snakemake_executor_takeda.planning.history import PastRuns, past_runs
from snakemake_executor_takeda.planning.plan import Plan, Planned, Planner
from snakemake_executor_takeda.routing.deciding import decide
from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from snakemake_executor_takeda.routing.policy import Policy
    from snakemake_executor_takeda.routing.prices import PriceBook

T = TypeVar("T")
LEDGER = Path(".snakemake/takeda/ledger.sqlite")
_SAMPLE = 3
"""Jobs of a rule whose inputs are measured: a whole pipeline's would be asked of S3 one by one."""


@dataclass(frozen=True)
class Planning:
    """A plan and where it comes from."""

    plan: Plan
    policy: Policy
    unstaged: dict[str, Path]
    """URI in S3 → file beside the Snakefile that `takeda stage` would upload."""
    unstaged_bytes: int
    region: str | None
    book: PriceBook | None
    """Prices of `region`."""


def plan_of(argv: Sequence[str], *, offline: bool = False) -> Planning:
    """Of what `snakemake ARGV` would run; `offline` takes S3 as empty. Raises TakedaError."""
    return with_policy(argv, _look, offline=offline)


def with_policy(
    argv: Sequence[str], look: Callable[[Dag, Policy], T], *, offline: bool = False
) -> T:
    """What `look` makes of the DAG and the policy of what `snakemake ARGV` would run. Raises TakedaError."""
    policies: list[Policy] = []

    def load(dag: Dag) -> None:
        image = assembly.container_image_of(dag.workflow)
        factories = assembly.backend_factories()
        policies.append(assembly.policy_of(dag.settings, factories, image))

    return with_dag(argv, lambda dag: look(dag, policies[0]), first=load, offline=offline)


def _look(dag: Dag, policy: Policy) -> Planning:
    from snakemake_executor_takeda.routing.prices import price_book

    region = _region(policy)
    book = price_book(region) if region else None
    past = past_runs(LEDGER)
    planner = Planner(policy, past, book.healthomics if book else None)
    for one in planned(dag, policy):
        planner.add(one)
    plan = planner.plan(tuple(_notes(dag, policy, past)))
    size = sum(map(size_of, dag.unstaged.values()))
    return Planning(plan, policy, dag.unstaged, size, region, book)


def planned(dag: Dag, policy: Policy) -> Iterator[Planned]:
    """The jobs of a DAG, placed."""
    snakemake_dag = dag.workflow.dag
    group_of = snakemake_dag.get_job_group
    measured = _Measured()
    for job in dag.jobs():
        if not job.is_group() and job.rule.norun:
            continue  # such as `all`, which has no action
        members = list(job.jobs) if job.is_group() else [job]
        before = {
            group_of(other) or other
            for member in members
            for other in snakemake_dag.dependencies[member]
            if snakemake_dag.needrun(other)
        } - {job}
        name = str(job.groupid) if job.is_group() else str(job.rule.name)
        after = tuple(before)
        if job.is_local:
            yield Planned(job, name, is_local=True, after=after)
            continue
        try:
            spec = jobs.describe(job, with_input_size=policy.needs_input_size)
        except TakedaError:
            raise
        except Exception as error:  # noqa: BLE001 - its functions may need files not there yet
            why = f"it is known when its turn comes: {str(error) or type(error).__name__}"
            yield Planned(job, name, unknown=why, after=after)
            continue
        size, shared = measured.of(name, members)
        yield Planned(
            job,
            name,
            spec,
            decide(spec, policy),
            after=after,
            input_bytes=size,
            shared_input_bytes=shared,
        )


class _Measured:
    """The inputs of a few jobs of each rule, where their size is known without asking anybody."""

    def __init__(self) -> None:
        self._inputs: dict[str, list[dict[str, int]]] = {}

    def of(self, rule: str, members: Sequence[Any]) -> tuple[int | None, int]:
        """Bytes of a job's inputs, None for one that is not looked at; and of those that all of the rule's
        jobs had so far, 0 for the first."""
        seen = self._inputs.setdefault(rule, [])
        if len(seen) >= _SAMPLE:
            return None, 0
        sizes: dict[str, int] = {}
        for member in members:
            for f in member.input:
                known = _known_size(f)
                if known is not None:
                    sizes[str(f)] = known
        seen.append(sizes)
        if not sizes:
            return None, 0
        same = set.intersection(*map(set, seen)) if len(seen) > 1 else set()
        return sum(sizes.values()), sum(sizes[name] for name in same)


def _known_size(f: Any) -> int | None:
    if getattr(f, "is_storage", False):
        size = f.rule.workflow.iocache.size.get(f)
        return None if size is None else int(size)
    path = Path(str(f))
    return size_of(path) if path.exists() else None


def _region(policy: Policy) -> str | None:
    """That of the targets, where they name one; else AWS's own setting."""
    named = (getattr(target.options, "region", None) for target in policy.targets.values())
    return next((str(region) for region in named if region), None) or assembly.aws_region()


def _notes(dag: Dag, policy: Policy, past: PastRuns) -> Iterator[str]:
    yield from policy.warnings
    checkpoints = sorted(
        {job.rule.name for job in dag.workflow.dag.needrun_jobs() if job.is_checkpoint}
    )
    if checkpoints:
        names = ", ".join(checkpoints)
        plural = "s" if len(checkpoints) > 1 else ""
        yield f"what comes after checkpoint{plural} {names} is known when they have run"
    if not past.by_rule_and_target:
        yield "no run has been here before: times are the rules' `runtime`, the longest they may take"
