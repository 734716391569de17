"""`takeda handoff check`: every hand-off of a Snakefile against its workflow, with nothing run."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.healthomics.mistakes import Mistake
    from snakemake_executor_takeda.cli.handoff.planning import Plan


def register(commands: argparse._SubParsersAction[Any]) -> None:
    check = commands.add_parser(
        "check",
        help="type-check every hand-off of a Snakefile, with nothing run",
        description="Type-check every hand-off of a Snakefile, to WDL, Nextflow or CWL, as a run "
        "would, with nothing run and no service asked, and show all mistakes (exit status 1). "
        "Inputs need not be there.",
        epilog="example: takeda handoff check workflow/Snakefile --configfile config.yaml; "
        "flags of Snakemake go after --: takeda handoff check -- --profile MY_PROFILE",
    )
    check.add_argument(
        "snakefile", nargs="?", metavar="SNAKEFILE", help="default: where Snakemake finds one"
    )
    check.add_argument("--configfile", nargs="+", default=[], metavar="FILE", help="as Snakemake's")
    check.add_argument(
        "--config", nargs="+", default=[], metavar="KEY=VALUE", help="as Snakemake's"
    )
    check.add_argument("--directory", metavar="DIR", help="as Snakemake's: the working directory")
    check.add_argument("--json", action="store_true", help="as a JSON object")
    check.add_argument("flags", nargs="*", metavar="-- FLAG", help="flags and targets of Snakemake")
    check.set_defaults(run=_run_check)


@dataclass
class _Handoff:
    """One rule and one workflow, over all the rule's jobs."""

    rule: str
    line: str
    handoff: str
    jobs: int = 0
    mistakes: dict[Mistake, int] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    """What HealthOmics would not do as the workflow has it; no mistakes of the rule."""


def _run_check(args: argparse.Namespace) -> int:
    from snakemake_executor_takeda.cli.handoff.planning import planned

    flags = [*args.flags]
    if args.snakefile and args.snakefile.startswith("-"):
        flags.insert(0, args.snakefile)  # `check -- --profile x` names no Snakefile.
        args.snakefile = None
    # The lists first: what comes next begins with a dash, and so ends them.
    options = (
        ("--configfile", args.configfile),
        ("--config", args.config),
        ("--directory", [args.directory] if args.directory else []),
        ("--snakefile", [args.snakefile] if args.snakefile else []),
    )
    given = [word for option, words in options if words for word in (option, *words)]
    flags = [*given, "--nolock", *flags]
    plan = planned(flags)
    handoffs = _checked(plan)
    if args.json:
        print(json.dumps(_facts(plan, handoffs), indent=2))
    else:
        _show(plan, handoffs)
    return 1 if any(one.mistakes for one in handoffs) else 0


def _checked(plan: Plan) -> list[_Handoff]:
    from snakemake_executor_takeda.backends.healthomics.definitions import Definitions, prepare
    from snakemake_executor_takeda.backends.healthomics.mistakes import Mistake, Mistakes

    definitions = Definitions((plan.basedir, plan.workdir))
    found: dict[tuple[str, str], _Handoff] = {}
    for job in plan.jobs:
        handoff = str(job.resources["handoff"])
        one = found.setdefault((job.rule, handoff), _Handoff(job.rule, job.source_line, handoff))
        one.jobs += 1
        if why := plan.kept_here.get(job.job_id):
            message = f"Snakemake runs it on this machine, and not its workflow, because {why}"
            one.mistakes[Mistake(message, where=job.source_line)] += 1
        try:
            if one.jobs == 1:
                one.notes = definitions.of(job).notes()
            prepare(job, definitions, in_s3=plan.in_s3)
        except Mistakes as error:
            for mistake in error.found:
                one.mistakes[mistake] += 1
        except TakedaError as error:
            said = str(error).removeprefix(f"{job.source_line}: ")
            one.mistakes[Mistake(said, where=job.source_line)] += 1
    return sorted(found.values(), key=lambda one: _place(one.line))


def _show(plan: Plan, handoffs: Iterable[_Handoff]) -> None:
    handoffs = list(handoffs)
    for note in plan.notes:
        print(f"takeda: {note}", file=sys.stderr)
    for one in handoffs:
        for note in one.notes:
            print(f"takeda: {_short(one.line)}: {one.handoff}: {note}", file=sys.stderr)
        for mistake, jobs in one.mistakes.items():
            few = f" (in {jobs} of {one.jobs} jobs)" if jobs < one.jobs else ""
            print(f"{_short(one.line)}: rule {one.rule}: {mistake.message}{few}")
    wrong = sum(len(one.mistakes) for one in handoffs)
    jobs = sum(one.jobs for one in handoffs)
    what = f"{len(handoffs)} hand-off(s), {jobs} job(s)"
    if not handoffs:
        what = "no rule hands anything off"
    print(f"{what}: {wrong} mistake(s)" if wrong else f"{what}: no mistakes")


def _facts(plan: Plan, handoffs: Iterable[_Handoff]) -> dict[str, Any]:
    def place(line: str) -> dict[str, Any]:
        file, number = _place(line)
        return {"file": file, "line": number}

    return {
        "snakefile": str(plan.snakefile),
        "notes": plan.notes,
        "handoffs": [
            {
                "rule": one.rule,
                **place(one.line),
                "handoff": one.handoff,
                "jobs": one.jobs,
                "notes": one.notes,
                "mistakes": [
                    {
                        "name": mistake.name,
                        "expected": mistake.expected,
                        "message": mistake.message,
                        "jobs": jobs,
                    }
                    for mistake, jobs in one.mistakes.items()
                ],
            }
            for one in handoffs
        ],
    }


def _place(line: str) -> tuple[str, int]:
    file, _, number = line.rpartition(":")
    return file, int(number or 0)


def _short(line: str) -> str:
    file, number = _place(line)
    path = Path(file)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{shown}:{number}"
