"""`takeda doctor`: is this environment ready for a run, and if not, what mends it?"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.cli.terminal import positive
from snakemake_executor_takeda.plain_text import without_controls
from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from collections.abc import Callable

    from snakemake_executor_takeda.doctor.findings import Checkup, Finding, Visit
    from snakemake_executor_takeda.doctor.project import Project

TIMEOUT_S = 60


def register(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "doctor",
        help="look whether queues, partitions, roles, buckets and images are ready for a run",
        description="Look whether everything is ready for a run: credentials, and for each target of the "
        "policy its queue or partition, room for the largest job, roles, bucket, image, logs and quotas. "
        "Each finding says what mends it. No job is submitted; all that is written is one small object, "
        "below .takeda in the run's bucket, which is deleted again. Without --profile and --routing the "
        "profile is Snakemake's own: $SNAKEMAKE_PROFILE, or profiles/default. Exit status 1 where "
        "something is found.",
        epilog="example: takeda doctor --profile profiles/hybrid --largest threads=96 mem_mb=700000",
    )
    parser.add_argument("--profile", metavar="DIR", help="Snakemake's profile, as for a run")
    parser.add_argument(
        "--routing", type=Path, metavar="FILE", help="the policy, where no profile names it"
    )
    parser.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="NAME",
        help="look at this target only; may be repeated",
    )
    parser.add_argument(
        "--largest",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="the largest job to find room for: threads=96 mem_mb=700000 gpu=8. Without it what the policy's "
        "`limits` and routes say",
    )
    parser.add_argument(
        "--with-jobs",
        action="store_true",
        help="find room for the largest jobs of the Snakefile, too: builds its jobs, as `takeda plan` does",
    )
    parser.add_argument(
        "--timeout",
        type=positive,
        default=TIMEOUT_S,
        metavar="SECONDS",
        help=f"how long each look may take; {TIMEOUT_S} if left out",
    )
    parser.add_argument("--json", action="store_true", help="as a JSON object")
    parser.set_defaults(run=_run_doctor)


def _run_doctor(args: argparse.Namespace) -> int:
    from snakemake_executor_takeda.doctor.project import UsedWrongly

    try:
        visit = _visit(args)
    except UsedWrongly as error:
        print(f"takeda: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(facts(visit), indent=2))
    else:
        _show(visit)
    return 1 if visit.findings() else 0


def _visit(args: argparse.Namespace) -> Visit:
    from snakemake_executor_takeda.assembly import backend_factories
    from snakemake_executor_takeda.doctor.core import checkups_of
    from snakemake_executor_takeda.doctor.examining import examine
    from snakemake_executor_takeda.doctor.findings import Checkup, Finding, Result, Visit, halves
    from snakemake_executor_takeda.doctor.project import flags_of, project_of

    wanted = _wanted(args.largest)
    flags = flags_of(args.profile, args.routing)
    try:
        project = project_of(flags, args.target, wanted)
    except TakedaError as error:
        # Without a policy there is nothing else to look at.
        routing = flags.settings.routing
        what, fix = str(error), f"mend each line; takeda policy check {routing} shows them"
        if not routing:
            what, fix = halves(what)
        look = Checkup("policy", routing or "the flags", tuple)
        finding = Finding(what, "a run stops before it begins", fix)
        return Visit((Result(look, (finding,)),))
    checkups = [Checkup("policy", project.policy.source, tuple)]
    if args.with_jobs:
        project, jobs = _with_jobs(project, args)
        checkups.append(jobs)
    checkups += checkups_of(project, backend_factories())
    with _progress() as tell:
        return examine(checkups, args.timeout, tell)


def _with_jobs(project: Project, args: argparse.Namespace) -> tuple[Project, Checkup]:
    """The project with the largest jobs of its Snakefile, and whether they could be had."""
    from snakemake_executor_takeda.doctor.findings import Checkup, NotTold
    from snakemake_executor_takeda.doctor.largest import merged
    from snakemake_executor_takeda.doctor.pipeline import largest_jobs

    # Here, and not in a thread beside others: Snakemake is one for a process.
    try:
        jobs = largest_jobs(args.profile, args.routing)
    except TakedaError as error:
        reason = NotTold(f"the jobs cannot be built: {error}", "takeda plan says the same, and why")
        return project, Checkup("jobs", "the Snakefile", partial(_not_told, reason))
    known = {
        name: merged(one, jobs[name]) if name in jobs else one
        for name, one in project.largest.items()
    }
    return replace(project, largest=known), Checkup("jobs", "the Snakefile", tuple)


def _not_told(reason: Exception) -> Iterator[Finding]:
    raise reason


def _wanted(texts: Sequence[str]) -> Mapping[str, int | float | str]:
    """What `--largest` says. Raises UsedWrongly."""
    from snakemake_executor_takeda.doctor.largest import NUMBERS
    from snakemake_executor_takeda.doctor.project import UsedWrongly
    from snakemake_executor_takeda.nearest import nearest

    found: dict[str, int | float | str] = {}
    words = (*NUMBERS, "gpu_model", "mpi")
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or name not in words:
            near = nearest(name, words)
            hint = (
                f"did you mean {near}=…?"
                if near
                else f"write one of {', '.join(words)}, as mem_mb=64000"
            )
            raise UsedWrongly(f"--largest {text}: {hint}")
        if name in NUMBERS:
            if not value.isdigit():
                raise UsedWrongly(f"--largest {text}: write a whole number, as {name}=8")
            found[name] = int(value)
        else:
            found[name] = value
    return found


def facts(visit: Visit) -> dict[str, Any]:
    """As `--json` has it."""

    def one(checkup: Checkup, finding: Finding) -> dict[str, Any]:
        about = {"severity": finding.severity.value, "check": checkup.topic, "about": checkup.about}
        return about | {"what": finding.what, "why": finding.why, "fix": finding.fix}

    return {
        "checks": len(visit.results),
        "well": [
            {"check": result.checkup.topic, "about": result.checkup.about}
            for result in visit.results
            if result.is_well
        ],
        "findings": [one(*pair) for pair in visit.findings()],
        "notes": [one(*pair) for pair in visit.notes()],
        "not_looked_at": [
            {
                "check": left.topic,
                "about": left.about,
                "because_of": {"check": first.topic, "about": first.about},
            }
            for left, first in visit.left_out()
        ],
    }


def _show(visit: Visit) -> None:
    from rich.console import Console

    # Wrapped by the terminal alone: a command must come out of a pipe, or be copied, as it is.
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    for line, style in lines_of(visit):
        console.print(without_controls(line), style=style)


def lines_of(visit: Visit) -> Iterator[tuple[str, str]]:
    """Each line with its style."""
    for checkup, finding in visit.findings():
        style = "bold red" if finding.severity == "fault" else "bold yellow"
        yield f"{finding.severity}: {checkup.topic}, {checkup.about}", style
        yield from _indented("", finding.what)
        yield from _indented("why: ", finding.why)
        yield from _indented("fix: ", finding.fix)
        yield "", ""
    notes, left_out = visit.notes(), visit.left_out()
    for checkup, finding in notes:
        yield f"not looked at: {checkup.topic}, {checkup.about}", "dim"
        yield from _indented("", finding.what)
        if finding.fix:
            yield from _indented("to see: ", finding.fix)
    for first in dict.fromkeys(first for _, first in left_out):
        topics: dict[str, list[str]] = {}
        for one, why in left_out:
            if why is first:
                topics.setdefault(one.topic, []).append(one.about)
        names = "; ".join(f"{topic} ({', '.join(whose)})" for topic, whose in topics.items())
        yield f"not looked at, as {first.topic} ({first.about}) comes first: {names}", "dim"
    if notes or left_out:
        yield "", ""
    found = visit.findings()
    yield (
        f"{_count(len(visit.results), 'check')}, {_count(len(found), 'finding')}"
        + (f", {len(notes) + len(left_out)} not looked at" if notes or left_out else ""),
        "bold",
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _indented(begin: str, text: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.splitlines()):
        yield f"  {begin if number == 0 else ''}{line.strip()}", ""


@contextmanager
def _progress() -> Iterator[Callable[[Checkup | None, int], None]]:
    """A line that moves, where somebody sees it."""
    if not sys.stderr.isatty():
        yield lambda checkup, done: None
        return
    from rich.console import Console

    with Console(stderr=True).status("looking") as status:

        def tell(checkup: Checkup | None, done: int) -> None:
            if checkup is not None:
                status.update(f"{done} done; {checkup.topic}, {checkup.about}")

        yield tell
