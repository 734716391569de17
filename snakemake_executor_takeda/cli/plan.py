"""`takeda plan`: what a run would do, and nothing is run."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.cli.terminal import add_offline, console
from snakemake_executor_takeda.values import TakedaError


def register(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "plan",
        help="what a run would do, where, why, for how long and at what cost",
        description="Build the jobs of a pipeline as `snakemake` with the same arguments would, and print "
        "for each rule where its jobs go, why, how long they take and what they cost. Nothing is run, and "
        "no job is submitted. Times come from earlier runs in the directory, else from each rule's "
        "`runtime`. Exit status 1 where no target takes some of the jobs.",
        usage="takeda plan [--json] [--html FILE] [--offline] [ANY ARGUMENTS OF SNAKEMAKE]",
        epilog="example: takeda plan --profile profiles/hybrid --forceall",
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="all of it, as a JSON object")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write it as a page, too; it needs no other file"
    )
    add_offline(parser)
    parser.set_defaults(run=_run_plan, takes_snakemakes=True)


def _run_plan(args: argparse.Namespace) -> int:
    from snakemake_executor_takeda.planning.building import plan_of

    page = args.html and args.html.absolute()  # Snakemake may change the working directory
    if page and (page.is_dir() or not os.access(page.parent, os.W_OK)):
        raise TakedaError(
            f"cannot write {page}: name a file in a directory that is there, and yours"
        )
    planning = plan_of(args.snakemakes, offline=args.offline)
    if page:
        from snakemake_executor_takeda.planning.page import page_of

        page.write_text(page_of(planning), encoding="utf-8")
    if args.json:
        from snakemake_executor_takeda.planning.facts import facts_of

        json.dump(facts_of(planning), sys.stdout, indent=2)
        print()
    else:
        from snakemake_executor_takeda.planning.terminal import show

        show(planning, console())
    return 1 if planning.plan.refused else 0
