"""The `takeda` command. Each subcommand is a module of this package with `register(subparsers)`.

Exit status: 0 good, 1 found a problem, 2 used wrongly.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from snakemake_executor_takeda.cli import (
    audit,
    cancel,
    doctor,
    handoff,
    init,
    plan,
    policy,
    prices,
    sandbox,
    stage,
    status,
    why,
)
from snakemake_executor_takeda.cli.terminal import Parser, quiet_where_nobody_reads
from snakemake_executor_takeda.regions import heed_aws_region
from snakemake_executor_takeda.values import TakedaError

_COMMANDS = (
    *(audit, cancel, doctor, handoff, init, plan, policy, prices),
    *(sandbox, stage, status, why),
)


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="takeda",
        description="Run Snakemake pipelines across AWS Batch, Slurm and AWS HealthOmics.",
        epilog='example: takeda sandbox up && eval "$(takeda sandbox env)"',
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in _COMMANDS:
        module.register(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; `register` set its function as `run(args) -> exit status`, and `takes_snakemakes`
    where the arguments that it does not know are Snakemake's."""
    heed_aws_region()
    with quiet_where_nobody_reads():
        parser = build_parser()
        args, others = parser.parse_known_args(argv)
        if others and not getattr(args, "takes_snakemakes", False):
            parser.error(f"unrecognized arguments: {' '.join(others)}")
        args.snakemakes = others
        try:
            return int(args.run(args))
        except TakedaError as error:
            print(f"takeda: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130


if __name__ == "__main__":
    sys.exit(main())
