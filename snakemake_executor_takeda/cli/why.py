"""`takeda why`: what led a job, or a rule's jobs, to their target: now, and in the last run."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.cli.terminal import add_offline
from snakemake_executor_takeda.nearest import nearest
from snakemake_executor_takeda.plain_text import without_controls
from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from snakemake_executor_takeda.audit.history import History
    from snakemake_executor_takeda.planning.dag import Dag
    from snakemake_executor_takeda.planning.plan import Planned
    from snakemake_executor_takeda.routing.explaining import Explanation
    from snakemake_executor_takeda.routing.policy import Policy

EVENTS = Path(".snakemake/takeda/events.jsonl")
SHOWN = 5
"""Jobs of the last run that are told of."""


def register(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "why",
        help="why a job goes where it goes: each route and target that was looked at",
        description="Each route and target that was looked at for a job, or for the jobs of a rule, by the "
        "policy as it is now; and what the last run in this directory did with them. Exit status 1 where "
        "no target takes them.",
        usage="takeda why [--json] [--last-run] [--offline] RULE | FILE | JOB-ID [ANY ARGUMENTS OF SNAKEMAKE]",
        epilog="examples: takeda why align --profile profiles/hybrid; takeda why results/A.bam; "
        "takeda why 17 --last-run",
        allow_abbrev=False,
    )
    parser.add_argument(
        "what",
        metavar="RULE | FILE | JOB-ID",
        help="a rule, one of its output files, or the number of a job in the last run; said first",
    )
    parser.add_argument(
        "--last-run",
        action="store_true",
        help="only what the last run did with them: nothing of the pipeline is read",
    )
    parser.add_argument("--json", action="store_true", help="all of it, as a JSON object")
    add_offline(parser)
    parser.set_defaults(run=_run_why, takes_snakemakes=True)


def _run_why(args: argparse.Namespace) -> int:
    what = args.what
    now: list[tuple[int, Explanation]] = []
    known: Sequence[str] = ()
    if not args.last_run and not what.isdecimal():
        now, known = _now(what, args.snakemakes, offline=args.offline)
    past = _last_run(what)
    if not now and not past:
        near = nearest(what, known)
        hint = f"did you mean {near}?" if near else "name a rule, or a file that one makes"
        raise TakedaError(
            f"no job that is to run is of {what!r}, and none that ran here was: {hint}"
        )
    if args.json:
        told = {
            "now": [{"jobs": count, **asdict(one)} for count, one in now],
            "last_run": [asdict(one) for one in past],
        }
        json.dump(told, sys.stdout, indent=2, default=str)
        print()
    else:
        print(without_controls("\n".join([*_words_of_now(now), *_words_of_past(past)])))
    return 1 if any(one.refused for _, one in now) else 0


def _now(
    what: str, argv: Sequence[str], *, offline: bool
) -> tuple[list[tuple[int, Explanation]], Sequence[str]]:
    """Of each way that the jobs are placed the first one, with how many go it; and all names there are."""
    from snakemake_executor_takeda.planning.building import planned, with_policy

    def look(dag: Dag, policy: Policy) -> tuple[list[tuple[int, Explanation]], Sequence[str]]:
        names: set[str] = set()
        found: list[Planned] = []
        for one in planned(dag, policy):
            outputs = [str(f) for f in one.key.output]
            names.update((one.rule, *outputs))
            is_it = what == one.rule or any(
                name == what or name.endswith(f"/{what}") for name in outputs
            )
            if is_it:
                found.append(one)
        return _explained(found, policy), sorted(names)

    return with_policy(argv, look, offline=offline)


def _explained(found: Iterable[Planned], policy: Policy) -> list[tuple[int, Explanation]]:
    from snakemake_executor_takeda.routing.explaining import explain

    ways: dict[Mapping[str, Any] | tuple[Any, ...], list[Planned]] = {}
    for one in found:
        if one.is_local:
            raise TakedaError(
                f"{one.rule} is run by Snakemake on this machine: no target is looked for"
            )
        if one.decision is None:
            raise TakedaError(f"{one.rule}: {one.unknown}")
        taken = one.decision.target.name if one.decision.target else str(one.decision.refused)
        steps = tuple(
            (step.route.label, step.failed and step.failed.word) for step in one.decision.steps
        )
        ways.setdefault((taken, steps), []).append(one)
    return [
        (
            len(alike),
            explain(alike[0].job, policy, alike[0].decision.at if alike[0].decision else None),
        )
        for alike in ways.values()
        if alike[0].job
    ]


def _last_run(what: str) -> list[History]:
    from snakemake_executor_takeda.audit.history import events_of, histories

    if not EVENTS.is_file():
        return []
    with EVENTS.open("rb") as lines:
        events = list(events_of(lines))
    if not events:
        return []
    run_id = str(events[-1].get("run_id"))
    by = {"job_id": what} if what.isdecimal() else {"rule": what}
    return histories(events, run_id=run_id, **by)


def _words_of_now(now: Sequence[tuple[int, Explanation]]) -> Iterable[str]:
    for count, one in now:
        of = ", ".join(f"{name}={value}" for name, value in one.wildcards.items())
        others = f" and {count - 1:,} more jobs" if count > 1 else ""
        yield f"{one.rule}{f' ({of})' if of else ''}{others}, as the policy is now"
        yield from (f"  {line}" for line in one.lines())
        yield ""


def _words_of_past(past: Sequence[History]) -> Iterable[str]:
    for one in past[:SHOWN]:
        yield from one.lines()
        yield ""
    if len(past) > SHOWN:
        yield f"and {len(past) - SHOWN:,} more: `takeda audit show --rule {past[0].rule}` tells all"
