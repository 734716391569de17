"""`takeda policy`: a routing policy without a run, and without AWS."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.cli.terminal import print_columns
from snakemake_executor_takeda.values import JobSpec, TakedaError, Target

if TYPE_CHECKING:
    from snakemake_executor_takeda.routing.policy import Policy, Route


def register(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "policy",
        help="check a routing policy, and ask it where a job goes",
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
    _register_explain(commands)


def _register_explain(commands: argparse._SubParsersAction[Any]) -> None:
    explain = commands.add_parser(
        "explain",
        help="tell where a job that is described here would go, and why",
        description="Tell where a job would go that you describe, which routes were looked at, and what "
        "was said for and against each target. Exit status 1 where no target takes it. No workflow is "
        "read, and no service is asked.",
        epilog="example: takeda policy explain routing.yaml --rule align --set mem_mb=64000 threads=16",
    )
    explain.add_argument("file", type=Path, metavar="FILE", help="the policy, YAML")
    explain.add_argument("--rule", required=True, metavar="NAME", help="the rule's name")
    explain.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="the rule's resources, and threads: mem_mb=64000 gpu=1 target=hpc",
    )
    explain.add_argument(
        "--wildcards", nargs="+", default=[], metavar="NAME=VALUE", help="the job's wildcards"
    )
    explain.add_argument("--attempt", type=int, default=1, metavar="N", help="from 1, the default")
    explain.add_argument("--container", metavar="IMAGE", help="the rule's container image")
    explain.add_argument(
        "--input-gb", type=float, metavar="GB", help="size of its inputs in 10^9 bytes"
    )
    explain.add_argument(
        "--at",
        metavar="TIME",
        help="the moment of the placement, 2026-07-01T21:30+02:00; now, if it is left out. Without an "
        "offset it is of the policy's `timezone`",
    )
    explain.add_argument("--json", action="store_true", help="as a JSON object")
    explain.set_defaults(run=_run_explain)


def _run_check(args: argparse.Namespace) -> int:
    try:
        policy = _loaded(args.file)
    except TakedaError as error:
        if not args.json:
            raise
        print(
            json.dumps({"file": str(args.file), "mistakes": _mistakes(error, args.file)}, indent=2)
        )
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
    from snakemake_executor_takeda.routing.source import Place, Problems
    from snakemake_executor_takeda.settings import ExecutorSettings

    if not file.is_file():
        raise TakedaError(f"there is no file {file}: name a routing policy (YAML)")
    policy = policy_of(ExecutorSettings(routing=str(file)), backend_factories())
    problems = Problems(policy.source)
    for target in policy.targets.values():
        # Of those backends whose options can tell without asking a service.
        look = getattr(target.options, "wrong_here", tuple)
        for text in look():
            file_name, _, line = target.source.rpartition(":")
            place = Place(file_name, int(line))
            problems.add(place, f"target {target.name}: {text.rstrip('.')}.")
    problems.raise_any()
    return policy


def _run_explain(args: argparse.Namespace) -> int:
    from snakemake_executor_takeda.routing.clock import zone
    from snakemake_executor_takeda.routing.explaining import explain

    policy = _loaded(args.file)
    at = datetime.now(UTC)
    if args.at:
        try:
            at = datetime.fromisoformat(args.at)
        except ValueError:
            raise TakedaError(f"--at {args.at}: write it as 2026-07-01T21:30+02:00") from None
        at = at if at.tzinfo else at.replace(tzinfo=zone(policy.timezone))
    told = explain(_job(args), policy, at)
    if args.json:
        print(json.dumps(asdict(told), indent=2))
    else:
        print("\n".join(told.lines()))
    return 1 if told.refused else 0


def _job(args: argparse.Namespace) -> JobSpec:
    """The job that the options describe."""
    from snakemake_executor_takeda.jobs import shape_of

    resources = {name: _number(value) for name, value in _pairs(args.set, "--set").items()}
    threads = resources.pop("threads", 1)
    if not isinstance(threads, int):
        raise TakedaError(f"--set threads={threads}: write a whole number")
    return JobSpec(
        job_id=0,
        rule=args.rule,
        wildcards=_pairs(args.wildcards, "--wildcards"),
        attempt=args.attempt,
        shape=shape_of(resources, threads, where="--set"),
        resources=resources,
        container=args.container,
        input_bytes=None if args.input_gb is None else int(args.input_gb * 1e9),
        rules=(args.rule,),
    )


def _pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise TakedaError(f"{option} {text}: write it as NAME=VALUE")
        pairs[name] = value
    return pairs


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _mistakes(error: TakedaError, file: Path) -> list[dict[str, Any]]:
    from snakemake_executor_takeda.routing.source import PolicyMistakes

    if not isinstance(error, PolicyMistakes):
        return [{"file": str(file), "line": None, "text": str(error)}]
    return [
        {"file": one.place.file, "line": one.place.line, "text": one.text} for one in error.mistakes
    ]


def _facts(policy: Policy) -> dict[str, Any]:
    return {
        "file": policy.source,
        "files": [str(file) for file in policy.files],
        "targets": [
            {
                "name": target.name,
                "backend": target.backend,
                "capacity": target.capacity,
                "instances": list(target.instances),
                "fallback": target.fallback,
                "efa": target.efa,
                "limits": asdict(target.limits),
                "usd_per_cpu_hour": target.usd_per_cpu_hour,
                "usd_per_gpu_hour": target.usd_per_gpu_hour,
                "speed": target.speed,
                "retry": asdict(target.retry),
                "source": target.source,
            }
            for target in policy.targets.values()
        ],
        "routes": [
            {
                "label": route.label,
                "when": route.when,
                "to": list(route.to),
                "choose": route.choose,
                "locked": route.locked,
            }
            for route in policy.routes
        ],
        "default": list(policy.default),
        "choose": policy.choose,
        "timezone": policy.timezone,
        "warnings": list(policy.warnings),
        "mistakes": [],
    }


def _show(policy: Policy) -> None:
    if len(policy.files) > 1:
        print(f"{policy.source} includes {', '.join(map(str, policy.files[1:]))}\n")
    print_columns(
        [
            ("target", "backend", "capacity", "instances", "fallback", "holds at most"),
            *(
                (
                    target.name,
                    target.backend,
                    target.capacity or "-",
                    ", ".join(target.instances) or "-",
                    target.fallback or "-",
                    _most(target),
                )
                for target in policy.targets.values()
            ),
        ]
    )
    print()
    routes = [
        (_number_of(route, n, policy), route.when, _led_to(route.to, route.choose))
        for n, route in enumerate(policy.routes, 1)
    ]
    default = ("-", "all other jobs", _led_to(policy.default, policy.choose))
    print_columns([("route", "when", "to"), *routes, default])


def _most(target: Target) -> str:
    limits = asdict(target.limits)
    texts = [
        f"{word} {'/'.join(value) if isinstance(value, tuple) else value}"
        for word, value in limits.items()
        if value not in (None, ())
    ]
    return ", ".join(texts) or "-"


def _number_of(route: Route, number: int, policy: Policy) -> str:
    """Where several files have routes, the place is what tells one from another."""
    place = route.label.partition("(")[2].rstrip(")")
    if len(policy.files) > 1:
        return place
    return f"{number}, locked" if route.locked else str(number)


def _led_to(names: Sequence[str], choose: str) -> str:
    return names[0] if len(names) == 1 else f"{choose} of {', '.join(names)}"
