"""`takeda sandbox`: AWS and Slurm on one machine."""

from __future__ import annotations

import argparse
import json
import shlex
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.cli.terminal import port, positive, print_columns, whole

if TYPE_CHECKING:
    from snakemake_executor_takeda.sandbox.metering import Charge


def register(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "sandbox",
        help="AWS Batch, HealthOmics, S3 and Slurm on this machine",
        description="AWS Batch, HealthOmics, S3 and a real Slurm on this machine, for demos and tests.",
        epilog='example: takeda sandbox up && eval "$(takeda sandbox env)"',
    )
    commands = parser.add_subparsers(dest="sandbox_command", required=True, metavar="COMMAND")

    up = _add(commands, "up", _run_up, "start it", "takeda sandbox up --vcpus 8")
    up.add_argument(
        "--port", type=port, metavar="N", help="of Batch and HealthOmics (4610; 0: any)"
    )
    up.add_argument("--s3-port", type=port, metavar="N", help="of S3 and the rest (4611; 0: any)")
    up.add_argument(
        "--vcpus",
        type=positive,
        metavar="N",
        help="vCPUs of each compute environment (this machine's, at least 4)",
    )
    up.add_argument(
        "--memory",
        type=positive,
        metavar="MIB",
        help="MiB of memory of each compute environment (this machine's)",
    )
    up.add_argument(
        "--runner",
        choices=("process", "docker", "stub"),
        default="process",
        help="how a job's container runs: as a local process (default), by a Docker engine, or not at "
        "all (stub: every Batch job ends at once with exit code 0)",
    )
    _add(commands, "down", _run_down, "end it and all that runs in it", "takeda sandbox down")
    env = _add(
        commands,
        "env",
        _run_env,
        "print the variables that lead AWS clients to it",
        'eval "$(takeda sandbox env)"',
    )
    env.add_argument("--json", action="store_true", help="as a JSON object")
    status = _add(
        commands, "status", _run_status, "say what runs in it", "takeda sandbox status --json"
    )
    status.add_argument("--json", action="store_true", help="as a JSON object")

    ran = _add(
        commands,
        "executions",
        _run_executions,
        "list what really ran, by its own record",
        "takeda sandbox executions --json",
    )
    ran.add_argument("--json", action="store_true", help="as a JSON array")

    cost = _add(
        commands,
        "cost",
        _run_cost,
        "what AWS would have billed for what ran, at the prices of the table",
        "takeda sandbox cost --json",
    )
    cost.add_argument("--json", action="store_true", help="each charge, as a JSON object")

    _add_faults(commands)

    slurm = commands.add_parser(
        "slurm",
        help="a real Slurm beside it",
        description="A real Slurm of several nodes on this machine, as the current user.",
        epilog='example: takeda sandbox slurm up --nodes 4 && eval "$(takeda sandbox env)"',
    )
    slurm_commands = slurm.add_subparsers(dest="slurm_command", required=True, metavar="COMMAND")
    slurm_up = _add(
        slurm_commands, "up", _run_slurm_up, "start it", "takeda sandbox slurm up --nodes 4"
    )
    _add_slurm_options(slurm_up)
    _add(slurm_commands, "down", _run_slurm_down, "end it", "takeda sandbox slurm down")
    _add(
        slurm_commands,
        "token",
        _run_slurm_token,
        "print a token for its slurmrestd, good for a day",
        "export SLURM_JWT=$(takeda sandbox slurm token)",
    )


def _add_slurm_options(up: argparse.ArgumentParser) -> None:
    up.add_argument(
        "--nodes", type=positive, default=4, metavar="N", help="nodes of the default partition (4)"
    )
    up.add_argument(
        "--layout",
        choices=("plain", "parallelcluster"),
        default="plain",
        help="partitions hpc and spot of the same nodes, or partitions hpc, spot and gpu with "
        "ParallelCluster's names and features (plain)",
    )
    up.add_argument(
        "--accounting", action="store_true", help="with slurmdbd and a MariaDB, for sacct"
    )
    up.add_argument("--rest", action="store_true", help="with slurmrestd, which takes tokens")
    up.add_argument(
        "--root",
        type=Path,
        metavar="DIR",
        help="run the Slurm of this root file system, made by scripts/make-slurm-root (as root only)",
    )
    up.add_argument(
        "--max-array-size", type=positive, default=1001, metavar="N", help="MaxArraySize (1001)"
    )
    up.add_argument(
        "--max-job-count", type=positive, default=10_000, metavar="N", help="MaxJobCount (10000)"
    )


def _add_faults(commands: argparse._SubParsersAction[Any]) -> None:
    parser = _add(
        commands,
        "faults",
        _run_faults,
        "make things go wrong: show, set and clear faults",
        "takeda sandbox faults set spot-reclaim=0.3 throttling=0.2 --rule align --seed 7",
    )
    parser.add_argument("--json", action="store_true", help="as a JSON object")
    faults = parser.add_subparsers(metavar="COMMAND")
    wanted = _add(
        faults,
        "set",
        _run_faults_set,
        "make things go wrong from now on",
        "takeda sandbox faults set spot-reclaim=0.3 --job 'takeda-align-*' --seed 7",
        default_dir=argparse.SUPPRESS,  # `faults --dir DIR set` keeps its folder
    )
    wanted.formatter_class = argparse.RawDescriptionHelpFormatter
    wanted.description = _fault_words()
    wanted.add_argument(
        "words",
        nargs="+",
        metavar="FAULT[:VARIANT]=AMOUNT",
        help="a rate from 0 to 1, or seconds",
    )
    wanted.add_argument("--rule", metavar="RULE", help="only jobs with this tag takeda:rule")
    wanted.add_argument("--job", metavar="GLOB", help="only jobs of such names")
    wanted.add_argument("--queue", metavar="GLOB", help="only jobs of such queues")
    wanted.add_argument("--call", metavar="GLOB", help="only such calls: SubmitJob, Describe*")
    wanted.add_argument("--times", type=positive, metavar="N", help="at most so often")
    wanted.add_argument(
        "--seed", type=whole, default=0, metavar="N", help="another one, other jobs (0)"
    )
    cleared = _add(
        faults,
        "clear",
        _run_faults_clear,
        "take faults away",
        "takeda sandbox faults clear",
        default_dir=argparse.SUPPRESS,
    )
    cleared.add_argument("words", nargs="*", metavar="FAULT", help="only these (all)")
    for command in (wanted, cleared):
        command.add_argument("--json", action="store_true", help="as a JSON object")


def _fault_words() -> str:
    from snakemake_executor_takeda.sandbox.faults import KINDS

    lines = ["Make things go wrong from now on, until `clear` or `takeda sandbox down`.", ""]
    for kind in KINDS.values():
        unit = "SECONDS" if kind.in_seconds else "CALLS" if kind.scope == "quota" else "RATE"
        lines.append(f"  {kind.name + '=' + unit:<24} {kind.does}")
        if kind.variants:
            lines.append(f"  {'':<24} variants: {', '.join(kind.variants)}")
    return "\n".join(lines)


def _add(
    commands: argparse._SubParsersAction[Any],
    name: str,
    run: Any,
    text: str,
    example: str,
    *,
    default_dir: str | None = None,
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", epilog=f"example: {example}"
    )
    parser.add_argument(
        "--dir",
        type=Path,
        default=default_dir,
        metavar="DIR",
        help="its state folder ($TAKEDA_SANDBOX_DIR, or takeda/sandbox in ~/.local/state)",
    )
    parser.set_defaults(run=run)
    return parser


def _run_up(args: argparse.Namespace) -> int:
    from snakemake_executor_takeda.sandbox import control, record

    _check_extra()
    options = control.Options(
        services_port=record.SERVICES_PORT if args.port is None else args.port,
        moto_port=record.MOTO_PORT if args.s3_port is None else args.s3_port,
        vcpus=args.vcpus or control.default_vcpus(),
        memory_mib=args.memory or control.default_memory_mib(),
        runner=args.runner,
    )
    found, was_up = control.up(_state_dir(args), options)
    print(f"The sandbox {'is up already' if was_up else 'is up'} (pid {found.pid}).")
    print(f"  Batch, HealthOmics  {found.services_url}")
    print(f"  S3 and the rest     {found.moto_url}, bucket {record.BUCKET}")
    print(f"  queues              {record.ON_DEMAND_QUEUE}, {record.SPOT_QUEUE}")
    print(
        f"  each with           {found.vcpus} vCPUs, {found.memory_mib} MiB, runner {found.runner}"
    )
    print('Next: eval "$(takeda sandbox env)"')
    return 0


def _run_down(args: argparse.Namespace) -> int:
    from snakemake_executor_takeda.sandbox import control

    was_up = control.down(_state_dir(args))
    print("The sandbox is down." if was_up else "No sandbox was up.")
    return 0


def _run_env(args: argparse.Namespace) -> int:
    from snakemake_executor_takeda.sandbox import control
    from snakemake_executor_takeda.sandbox.variables import FOREIGN

    variables = control.environment(_state_dir(args))
    if args.json:
        print(json.dumps(variables, indent=2))
        return 0
    if "AWS_ACCESS_KEY_ID" in variables:
        print(f"unset {' '.join(FOREIGN)}")
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def _run_status(args: argparse.Namespace) -> int:
    from snakemake_executor_takeda.sandbox import control

    facts = control.status(_state_dir(args))
    if args.json:
        print(json.dumps(facts, indent=2))
        return 0
    if not facts["up"]:
        print(f"No sandbox runs in {facts['state_dir']}.")
    else:
        print(f"The sandbox in {facts['state_dir']} is up (pid {facts['pid']}).")
        print(f"  Batch, HealthOmics  {facts['services_url']}")
        print(f"  S3 and the rest     {facts['moto_url']}")
        jobs = ", ".join(f"{count} {state}" for state, count in facts["jobs"].items() if count)
        print(f"  Batch jobs          {jobs or 'none'}")
        calls = {name: sum(found.values()) for name, found in facts["api_calls"].items()}
        said = ", ".join(f"{count} to {name}" for name, count in calls.items())
        print(f"  API calls           {said or 'none'}")
    print(f"  Slurm               {_slurm_words(facts['slurm'])}")
    return 0


def _run_executions(args: argparse.Namespace) -> int:
    from snakemake_executor_takeda.sandbox.executions import executions

    state_dir = _state_dir(args)
    found = executions(state_dir)
    if args.json:
        print(json.dumps([asdict(one) for one in found], indent=2))
        return 0
    if not found:
        print(f"Nothing has run in {state_dir}.")
        return 0
    rows = [("service", "id", "attempt", "name", "began", "seconds", "ended")]
    for one in found:
        began = datetime.fromtimestamp(one.started_at, UTC).isoformat(timespec="seconds")
        lasted = "" if one.ended_at is None else f"{one.ended_at - one.started_at:.1f}"
        ended = one.said if one.ended_at is not None else "goes on"
        rows.append(
            (one.backend, one.external_id, str(one.attempt), one.name, began, lasted, ended)
        )
    print_columns(rows)
    return 0


def _run_cost(args: argparse.Namespace) -> int:
    from snakemake_executor_takeda.planning.words import dollars, span
    from snakemake_executor_takeda.routing.prices import price_book
    from snakemake_executor_takeda.sandbox.metering import charges
    from snakemake_executor_takeda.sandbox.services import REGION

    found = charges(_state_dir(args), price_book(REGION))
    total = sum(one.usd or 0.0 for one in found)
    if args.json:
        told = {"region": REGION, "usd": total, "charges": [asdict(one) for one in found]}
        print(json.dumps(told, indent=2))
        return 0
    by_kind: dict[tuple[str, str], list[Charge]] = {}
    for one in found:
        by_kind.setdefault((one.backend, one.what), []).append(one)
    rows = [("service", "what", "number", "billed time", "cost")]
    for (backend, what), alike in by_kind.items():
        known = [one.usd for one in alike if one.usd is not None]
        usd = sum(known) if len(known) == len(alike) else None
        seconds = span(sum(one.seconds for one in alike))
        rows.append((backend, what, f"{len(alike):,}", seconds, dollars(usd)))
    print_columns(rows)
    print(f"\nin all {dollars(total)}, in {REGION}")
    return 0


def _run_faults(args: argparse.Namespace) -> int:
    from snakemake_executor_takeda.sandbox import control

    return _show_faults(control.faults(_state_dir(args)), args.json)


def _run_faults_set(args: argparse.Namespace) -> int:
    from snakemake_executor_takeda.sandbox import control

    facts = control.set_faults(
        _state_dir(args),
        *args.words,
        rule=args.rule,
        job=args.job,
        queue=args.queue,
        call=args.call,
        times=args.times,
        seed=args.seed,
    )
    return _show_faults(facts, args.json)


def _run_faults_clear(args: argparse.Namespace) -> int:
    from snakemake_executor_takeda.sandbox import control

    return _show_faults(control.clear_faults(_state_dir(args), *args.words), args.json)


def _show_faults(facts: dict[str, Any], as_json: bool) -> int:
    if as_json:
        print(json.dumps(facts, indent=2))
        return 0
    if not facts["faults"]:
        print("No faults are set. To set some: takeda sandbox faults set spot-reclaim=0.3 --seed 7")
        return 0
    selectors = ("rule", "job", "queue", "call", "times")
    rows = [("fault", "amount", "only", "seed", "injected")]
    for fault in facts["faults"]:
        word = ":".join(fault[name] for name in ("fault", "variant") if name in fault)
        only = ", ".join(f"{name} {fault[name]}" for name in selectors if name in fault) or "-"
        amount = f"{fault['amount']:g}"
        rows.append((word, amount, only, str(fault["seed"]), str(fault["injected"])))
    print_columns(rows)
    return 0


def _run_slurm_up(args: argparse.Namespace) -> int:
    from snakemake_executor_takeda.sandbox import control, slurm

    state_dir = control.prepare(_state_dir(args))
    variables = slurm.up(
        state_dir,
        args.nodes,
        layout=args.layout,
        root=args.root,
        accounting=args.accounting,
        rest=args.rest,
        max_array_size=args.max_array_size,
        max_job_count=args.max_job_count,
    )
    print(f"The sandbox's Slurm is up: SLURM_CONF={variables['SLURM_CONF']}")
    if args.rest:
        print(
            f"  slurmrestd  {slurm.rest(state_dir).url}, with a token of `takeda sandbox slurm token`"
        )
    print('Next: eval "$(takeda sandbox env)"')
    return 0


def _run_slurm_token(args: argparse.Namespace) -> int:
    from snakemake_executor_takeda.sandbox import slurm

    print(slurm.rest(_state_dir(args).absolute()).token)
    return 0


def _run_slurm_down(args: argparse.Namespace) -> int:
    from snakemake_executor_takeda.sandbox import slurm

    state_dir = _state_dir(args).absolute()
    was_up = state_dir.is_dir() and bool(slurm.environment(state_dir))
    if was_up:
        slurm.down(state_dir)
    print("The sandbox's Slurm is down." if was_up else "No Slurm of the sandbox was up.")
    return 0


def _slurm_words(facts: dict[str, Any]) -> str:
    if not facts["running"]:
        return "not up"
    states = Counter(facts["nodes"].values())
    nodes = ", ".join(f"{count} nodes {state}" for state, count in states.items())
    jobs = ", ".join(f"{count} {state}" for state, count in facts["jobs"].items())
    return f"{facts['version']}: {nodes}; jobs: {jobs or 'none'}"


def _state_dir(args: argparse.Namespace) -> Path:
    from snakemake_executor_takeda.sandbox.record import default_state_dir

    return args.dir or default_state_dir()


def _check_extra() -> None:
    """Raises TakedaError where the packages of the extra are missing."""
    from importlib.util import find_spec

    from snakemake_executor_takeda.values import TakedaError

    missing = [name for name in ("moto", "flask", "regex") if find_spec(name) is None]
    if missing:
        raise TakedaError(
            f"the sandbox needs {', '.join(missing)}: "
            "install `snakemake-executor-plugin-takeda[sandbox]`"
        )
