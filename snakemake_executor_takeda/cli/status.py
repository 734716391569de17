"""`takeda status`: how the newest run of a directory stands, by its ledger, without Snakemake."""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.cli.terminal import print_columns
from snakemake_executor_takeda.plain_text import without_controls
from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from snakemake_executor_takeda.ledger import KnownRun, SentTask
    from snakemake_executor_takeda.standing import Standing, TargetCounts

STATE = Path(".snakemake/takeda")
SHOWN = 20
_REASON_LENGTH = 200


class NoLedger(Exception):
    """There is no run to speak of in a directory."""


def register(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "status",
        help="how the newest run of a directory stands",
        description="How the newest run of a directory stands, by its ledger: no service is asked, and "
        "nothing is written. Exit status 1 where jobs failed, or the controller is gone.",
        epilog="example: takeda status --all",
    )
    add_directory(parser)
    parser.add_argument(
        "--all", action="store_true", help=f"every open and failed task, not the first {SHOWN}"
    )
    parser.add_argument("--json", action="store_true", help="all of it, as a JSON object")
    parser.set_defaults(run=_run_status)


def add_directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "directory",
        type=Path,
        nargs="?",
        default=Path(),
        metavar="DIRECTORY",
        help="working directory of the pipeline; without it this one",
    )


def known_run(directory: Path) -> KnownRun:
    """The newest run of a working directory. Raises NoLedger, or TakedaError where the ledger cannot be
    read."""
    from snakemake_executor_takeda.ledger import last_run

    ledger = directory / STATE / "ledger.sqlite"
    if not ledger.is_file():
        raise NoLedger(
            f"there is no ledger {ledger}: name the working directory of a pipeline that was run with "
            "`--executor takeda`, the one with .snakemake in it"
        )
    try:
        known = last_run(ledger)
    except sqlite3.Error as error:
        raise TakedaError(f"cannot read {ledger}: {error}") from error
    if known is None:
        raise NoLedger(f"{ledger} tells of no run: none has come as far as its first job yet")
    return known


def used_wrongly(error: NoLedger) -> int:
    print(f"takeda: {error}", file=sys.stderr)
    return 2


def _run_status(args: argparse.Namespace) -> int:
    try:
        one = look(args.directory)
    except NoLedger as error:
        return used_wrongly(error)
    if args.json:
        print(json.dumps(_facts(args.directory, one), indent=2))
    else:
        _show(one, None if args.all else SHOWN)
    return 1 if one.is_problem else 0


def look(directory: Path) -> Standing:
    """Raises NoLedger, or TakedaError."""
    from snakemake_executor_takeda.ledger import tasks_of
    from snakemake_executor_takeda.standing import standing

    known = known_run(directory)
    ledger = directory / STATE / "ledger.sqlite"
    try:
        tasks = tasks_of(ledger, known.run_id)
    except sqlite3.Error as error:
        raise TakedaError(f"cannot read {ledger}: {error}") from error
    return standing(
        known,
        tasks,
        is_locked=any((directory / ".snakemake/locks").glob("*")),
        is_copy=directory.resolve() != Path(known.workdir).resolve(),
    )


def _facts(directory: Path, one: Standing) -> dict[str, Any]:
    run = one.run
    return {
        "directory": str(directory.absolute()),
        "run_id": run.run_id,
        "state": one.state,
        "words": one.words,
        "to_do": one.to_do,
        "workdir": run.workdir,
        "remote_prefix": run.remote_prefix,
        "host": run.host,
        "pid": run.pid,
        "began_at": _iso(run.began_at),
        "ended_at": _iso(run.ended_at),
        "targets": [vars(target) for target in one.targets],
        "open": [_task_facts(task) for task in one.open],
        "failed": [_task_facts(task) for task in one.failed],
    }


def _task_facts(task: SentTask) -> dict[str, Any]:
    facts = {**asdict(task), "sent_at": _iso(task.intent_at), "ended_at": _iso(task.ended_at)}
    del facts["intent_at"], facts["identity"]
    return facts


def _show(one: Standing, most: int | None) -> None:
    from snakemake_executor_takeda.resuming import ago

    run = one.run
    print(f"run {run.run_id}: {one.words}")
    since = f"began {_local(run.began_at)}, {ago(run.began_at)} ago"
    if run.ended_at is not None:
        since += f"; {one.state} {_local(run.ended_at)}, {ago(run.ended_at)} ago"
    print(since)
    if one.targets:
        print()
        print_columns(
            [
                (
                    *("target", "backend", "unanswered", "under way"),
                    *("succeeded", "cancelled", "failed"),
                ),
                *map(_row, one.targets),
            ]
        )
    if one.open:
        _show_tasks(
            "under way, as far as the ledger knows",
            [
                (
                    *_who(task),
                    task.external_id or ("(no answer yet)" if task.state == "intent" else "-"),
                    f"{ago(task.intent_at)} ago",
                )
                for task in one.open
            ],
            most,
        )
    if one.failed:
        _show_tasks(
            "failed, and not sent again",
            [(*_who(task), task.external_id or "-", _why(task)) for task in one.failed],
            most,
        )
    if one.to_do:
        print(f"\n{one.to_do}")


def _row(target: TargetCounts) -> tuple[str, ...]:
    failed = str(target.failed.total())
    if target.failed:
        kinds = (f"{count} {kind.replace('_', ' ')}" for kind, count in target.failed.most_common())
        failed += f" ({', '.join(kinds)})"
    counts = (target.unanswered, target.under_way, target.succeeded, target.cancelled)
    return (target.target, target.backend, *map(str, counts), failed)


def _who(task: SentTask) -> tuple[str, str, str]:
    from snakemake_executor_takeda.standing import names

    return task.rule, names(task.wildcards) or "-", task.target


def _why(task: SentTask) -> str:
    reason = " ".join((task.reason or "").split())
    if len(reason) > _REASON_LENGTH:
        reason = f"{reason[:_REASON_LENGTH]}…"
    return f"{(task.kind or 'unknown').replace('_', ' ')}: {reason}"


def _show_tasks(heading: str, rows: list[tuple[str, ...]], most: int | None) -> None:
    print(f"\n{heading}:")
    shown = rows[:most]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(without_controls("  " + "  ".join(cells)).rstrip())
    if len(shown) < len(rows):
        print(f"  and {len(rows) - len(shown)} more: --all shows them")


def _iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _local(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
