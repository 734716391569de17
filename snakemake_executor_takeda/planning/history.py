"""How long a rule's jobs took before, by the ledger of the working directory."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from snakemake_executor_takeda.ledger import check_version, read_only, readable_damage
from snakemake_executor_takeda.values import TakedaError

MOST = 500
"""Successes of a rule on a target that count, the newest: what a pipeline did years ago tells little."""

_TIMES = """
select rule, target, state, count(*), avg(seconds), max(seconds), sum(seconds) from (
    select t.rule, s.target, t.state,
           json_extract(t.detail, '$.wall_seconds') as seconds,
           row_number() over (partition by t.rule, s.target, t.state order by t.ended_at desc) as age
    from task t join submission s using (submission_id)
    where (t.state = 'succeeded' or (t.state = 'failed' and t.kind in ('interrupted', 'node_failure')))
      and json_valid(t.detail)
) where seconds is not null and age <= ? group by rule, target, state
"""
_USAGE = """
select rule, target, usage from (
    select t.rule, s.target, json_extract(t.detail, '$.usage') as usage,
           row_number() over (partition by t.rule, s.target order by t.ended_at desc) as age
    from task t join submission s using (submission_id)
    where t.state = 'succeeded' and json_valid(t.detail)
) where usage is not null and age <= ?
"""


@dataclass(frozen=True)
class Past:
    """What a rule's jobs on a target took."""

    jobs: int
    mean_seconds: float
    longest_seconds: float
    lost_part: float = 0.0
    """Seconds of attempts whose node was lost for each second of one that succeeded: they are paid, too. What
    a job fails of by itself is mended before the next run."""
    usage: tuple[Mapping[str, float], ...] = ()
    """Of HealthOmics runs: what each of them is billed by, `omics.*` type or storage → seconds or GiB
    hours."""


@dataclass(frozen=True)
class PastRuns:
    """What is known of a working directory's earlier jobs."""

    by_rule_and_target: Mapping[tuple[str, str], Past] = field(
        default_factory=lambda: MappingProxyType({})
    )

    def of(self, rule: str, target: str) -> Past | None:
        """On this target; else on the one where most of the rule's jobs ran. Only on this one it is known
        what was lost."""
        if past := self.by_rule_and_target.get((rule, target)):
            return past
        others = [past for (name, _), past in self.by_rule_and_target.items() if name == rule]
        most = max(others, key=lambda past: past.jobs, default=None)
        return most and Past(most.jobs, most.mean_seconds, most.longest_seconds)


def past_runs(ledger: Path) -> PastRuns:
    """Of all runs of a ledger; read only. Nothing where there is no ledger, or none that can be read."""
    if not ledger.is_file():
        return PastRuns()
    try:
        with readable_damage(ledger), closing(read_only(ledger)) as db:
            check_version(db, ledger)
            if "detail" not in {column for _, column, *_ in db.execute("pragma table_info(task)")}:
                return PastRuns()  # of an early version, which did not keep times
            times, usages = (
                db.execute(_TIMES, (MOST,)).fetchall(),
                db.execute(_USAGE, (MOST,)).fetchall(),
            )
    except sqlite3.Error as error:
        raise TakedaError(f"cannot read {ledger}: {error}") from error
    usage: dict[tuple[str, str], list[Mapping[str, float]]] = {}
    for rule, target, text in usages:
        usage.setdefault((rule, target), []).append(json.loads(text))
    lost = {(rule, target): total for rule, target, state, *_, total in times if state == "failed"}
    return PastRuns(
        {
            (rule, target): Past(
                count,
                mean,
                longest,
                lost.get((rule, target), 0.0) / total if total else 0.0,
                tuple(usage.get((rule, target), ())),
            )
            for rule, target, state, count, mean, longest, total in times
            if state == "succeeded"
        }
    )
