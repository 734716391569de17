"""`takeda handoff`: write, check and run the rules that hand a workflow off to HealthOmics."""

from __future__ import annotations

import argparse
from typing import Any

from snakemake_executor_takeda.cli.handoff import check, init, prune, run_local


def register(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "handoff",
        help="write, check and run rules that hand a workflow off",
        description="The WDL workflows, Nextflow pipelines and CWL documents that rules hand off to "
        "HealthOmics, on this machine.",
        epilog="example: takeda handoff init call.wdl >> Snakefile && takeda handoff check",
    )
    commands = parser.add_subparsers(dest="handoff_command", required=True, metavar="COMMAND")
    for module in (init, check, run_local, prune):
        module.register(commands)
