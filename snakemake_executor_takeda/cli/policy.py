"""`takeda policy`: a routing policy without a run, and without AWS."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.cli.terminal import print_columns
from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from snakemake_executor_takeda.routing.policy import Policy


def register(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "policy",
        help="check a routing policy",
        description="Routing policies: which job of a run goes where.",
        epilog="example: takeda policy check routing.yaml",
    )
    commands = parser.add_subparsers(dest="policy_command", required=True, metavar="COMMAND")
    check = commands.add_parser(
        "check",
        help="read a policy as a run does, and show its targets and routes or its mistakes",
        description="Read a policy as a run does, and show its targets and routes, or all of its "
        "mistakes (exit status 1). Files that it names are looked at on this machine. No service is "
        "asked: whether queues and partitions exist is looked at when a run starts.",
        epilog="example: takeda policy check routing.yaml",
    )
    check.add_argument("file", type=Path, metavar="FILE", help="the policy, YAML")
    check.add_argument("--json", action="store_true", help="as a JSON object")
    check.set_defaults(run=_run_check)


def _run_check(args: argparse.Namespace) -> int:
    try:
        policy = _loaded(args.file)
    except TakedaError as error:
        if not args.json:
            raise
        print(json.dumps({"file": str(args.file), "mistakes": _mistakes(error)}, indent=2))
        return 1
    if args.json:
        print(json.dumps(_facts(policy), indent=2))
        return 0
    _show(policy)
    for warning in policy.warnings:
        print(f"takeda: {warning}", file=sys.stderr)
    return 0


def _loaded(file: Path) -> Policy:
    from snakemake_executor_takeda.assembly import backend_factories, policy_of
    from snakemake_executor_takeda.routing.source import Problems
    from snakemake_executor_takeda.settings import ExecutorSettings

    if not file.is_file():
        raise TakedaError(f"there is no file {file}: name a routing policy (YAML)")
    policy = policy_of(ExecutorSettings(routing=str(file)), backend_factories())
    problems = Problems(policy.source)
    for target in policy.targets.values():
        # Of those backends whose options can tell without asking a service.
        look = getattr(target.options, "wrong_here", tuple)
        for text in look():
            line = int(target.source.rpartition(":")[2])
            problems.add(line, f"target {target.name}: {text.rstrip('.')}.")
    problems.raise_any()
    return policy


def _mistakes(error: TakedaError) -> list[str]:
    """One a line, without the heading that several have."""
    heading, *lines = str(error).splitlines()
    return [line.strip() for line in lines] or [heading]


def _facts(policy: Policy) -> dict[str, Any]:
    return {
        "file": policy.source,
        "targets": [
            {
                "name": target.name,
                "backend": target.backend,
                "capacity": target.capacity,
                "instances": list(target.instances),
                "fallback": target.fallback,
                "retry": asdict(target.retry),
                "source": target.source,
            }
            for target in policy.targets.values()
        ],
        "routes": [
            {"label": route.label, "when": route.when, "to": route.to} for route in policy.routes
        ],
        "default": policy.default,
        "warnings": list(policy.warnings),
        "mistakes": [],
    }


def _show(policy: Policy) -> None:
    print_columns(
        [
            ("target", "backend", "capacity", "instances", "fallback"),
            *(
                (
                    target.name,
                    target.backend,
                    target.capacity or "-",
                    ", ".join(target.instances) or "-",
                    target.fallback or "-",
                )
                for target in policy.targets.values()
            ),
        ]
    )
    print()
    routes = [(str(n), route.when, str(route.to)) for n, route in enumerate(policy.routes, 1)]
    print_columns([("route", "when", "to"), *routes, ("-", "all other jobs", str(policy.default))])
