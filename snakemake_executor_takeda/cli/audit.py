"""`takeda audit`: what runs did, from their event log: verified, told, exported."""

from __future__ import annotations

import argparse
import json
import re
import sqlite3
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.audit.chain import Head
from snakemake_executor_takeda.plain_text import without_controls
from snakemake_executor_takeda.values import TakedaError

EVENTS = Path(".snakemake/takeda/events.jsonl")
_HEAD = re.compile(r"([0-9]+):([0-9a-f]{64})")


def register(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "audit",
        help="verify, read and export what runs did",
        description="What runs did, from the event log of a working directory.",
        epilog="example: takeda audit verify && takeda audit show --rule align",
    )
    commands = parser.add_subparsers(dest="audit_command", required=True, metavar="COMMAND")
    _register_verify(commands)
    _register_show(commands)
    _register_export(commands)


def _register_verify(commands: argparse._SubParsersAction[Any]) -> None:
    verify = commands.add_parser(
        "verify",
        help="is the event log as it was written?",
        description="Find lines of an event log that were changed, removed or inserted, and, by the "
        "ledger beside it, an end that was cut off (exit status 1).",
        epilog="example: takeda audit verify .snakemake/takeda/events.jsonl",
    )
    _add_file(verify)
    verify.add_argument(
        "--head",
        type=_head,
        action="append",
        default=[],
        metavar="NUMBER:HASH",
        help="an end of the log that you kept: as printed by an earlier verify",
    )
    verify.add_argument("--json", action="store_true", help="as a JSON object")
    verify.set_defaults(run=_run_verify)


def _register_show(commands: argparse._SubParsersAction[Any]) -> None:
    show = commands.add_parser(
        "show",
        help="what happened to each job",
        description="The history of each job, told as sentences.",
        epilog="example: takeda audit show --rule 'align*'",
    )
    _add_file(show)
    show.add_argument("--rule", metavar="GLOB", help="jobs of rules with such names")
    show.add_argument("--job", metavar="ID", help="the job of this id")
    show.add_argument("--run", metavar="ID", dest="run_id", help="of this run only")
    show.add_argument("--json", action="store_true", help="their submissions and events, as JSON")
    show.set_defaults(run=_run_show)


def _register_export(commands: argparse._SubParsersAction[Any]) -> None:
    export = commands.add_parser(
        "export",
        help="a run as a Workflow Run RO-Crate",
        description="Describe a run as a Workflow Run RO-Crate, with the workflow and the event log in "
        "it; data files stay where they are. Needs the package's extra `rocrate`.",
        epilog="example: takeda audit export --ro-crate run.zip",
    )
    _add_file(export)
    export.add_argument(
        "--ro-crate",
        type=Path,
        required=True,
        metavar="PATH",
        help="the crate to make: a new directory, or a file whose name ends with .zip",
    )
    export.add_argument(
        "--run", metavar="ID", dest="run_id", help="the run; without it the last one of the log"
    )
    export.add_argument(
        "--snakefile", type=Path, metavar="FILE", help="where the run's Snakefile is now"
    )
    export.add_argument("--license", metavar="URL", help="under which the crate may be used")
    export.set_defaults(run=_run_export)


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        type=Path,
        nargs="?",
        default=EVENTS,
        metavar="FILE",
        help=f"the event log; without it {EVENTS}",
    )


def _head(text: str) -> Head:
    match = _HEAD.fullmatch(text)
    if not match:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no end of a log: give its number and hash as verify prints them, 57:ab12…"
        )
    return Head(int(match[1]), match[2])


def _lines(file: Path) -> list[bytes]:
    try:
        with file.open("rb") as stream:
            return stream.readlines()
    except OSError as error:
        raise TakedaError(
            f"cannot read {file}: {error.strerror}. Name the event log of a run; it is "
            f"{EVENTS} in the directory that the run was started in"
        ) from error


def _heads(file: Path) -> tuple[list[Head], str]:
    """What the ledger beside a log knows of it, and a sentence on that."""
    from snakemake_executor_takeda.ledger import ends_of_event_log

    ledger = file.with_name("ledger.sqlite")
    unknown = "whether lines are cut off at the end is not known"
    if not ledger.is_file():
        return [], f"there is no ledger beside it: {unknown}"
    try:
        heads = ends_of_event_log(ledger)
    except sqlite3.Error as error:
        return [], f"{ledger} cannot be read ({error}): {unknown}"
    if not heads:
        return [], f"no run that wrote to it has come to its end yet: {unknown}"
    return heads, f"the ledger knows its end after {len(heads)} run{'s' if len(heads) > 1 else ''}"


def _run_verify(args: argparse.Namespace) -> int:
    from snakemake_executor_takeda.audit.verifying import verify

    # Before the log: what a run writes meanwhile is then no line that is missing.
    heads, known = _heads(args.file)
    lines = _lines(args.file)
    report = verify(lines, [*heads, *args.head])
    head = f"{report.head.seq}:{report.head.sha256}" if report.head else None
    if args.json:
        facts = {
            "file": str(args.file),
            "lines": report.lines,
            "head": head,
            "ledger": known,
            "problems": [asdict(problem) for problem in report.problems],
            "notes": list(report.notes),
        }
        print(json.dumps(facts, indent=2))
        return 1 if report.problems else 0
    for note in (*report.notes, known):
        print(note)
    for problem in report.problems:
        print(problem.text)
    if report.problems:
        count = len(report.problems)
        print(f"{args.file}: {count} problem{'s' if count > 1 else ''} in {report.lines} lines")
        return 1
    print(f"{args.file}: {report.lines} lines, none changed, removed or inserted")
    if head:
        print(f"end of the log: {head}")
    return 0


def _run_show(args: argparse.Namespace) -> int:
    from snakemake_executor_takeda.audit.history import events_of, histories

    lines = _lines(args.file)
    _warn(lines)
    found = histories(list(events_of(lines)), rule=args.rule, job_id=args.job, run_id=args.run_id)
    if args.json:
        told = [{**asdict(one), "sent": [asdict(each) for each in one.sent]} for one in found]
        print(json.dumps(told, indent=2))
        return 0
    if not found:
        asked = [f"{name} {value}" for name, value in _asked(args) if value is not None]
        raise TakedaError(
            f"{args.file} tells of no job{' of ' + ', '.join(asked) if asked else ''}"
        )
    for number, one in enumerate(found):
        print("\n" * bool(number) + without_controls("\n".join(one.lines())))
    return 0


def _asked(args: argparse.Namespace) -> Sequence[tuple[str, str | None]]:
    return ("rule", args.rule), ("id", args.job), ("run", args.run_id)


def _warn(lines: Sequence[bytes]) -> None:
    from snakemake_executor_takeda.audit.verifying import verify

    if verify(lines).problems:
        print(
            "takeda: the log is not as it was written: see `takeda audit verify`", file=sys.stderr
        )


def _run_export(args: argparse.Namespace) -> int:
    from snakemake_executor_takeda.audit.crate import export

    lines = _lines(args.file)
    _warn(lines)
    made = export(
        args.file,
        lines,
        args.ro_crate,
        run_id=args.run_id,
        snakefile=args.snakefile,
        license_url=args.license,
    )
    print(f"{args.ro_crate}: {made}")
    return 0
