"""`takeda cancel`: ends what an unfinished run has left on its way, by its ledger, without Snakemake."""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.cli.status import (
    STATE,
    NoLedger,
    add_directory,
    known_run,
    used_wrongly,
)
from snakemake_executor_takeda.interrupts import ASKED
from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from snakemake_executor_takeda.ending import Ended
    from snakemake_executor_takeda.ledger import KnownRun

CONTROLLER_ENDS_SECONDS = 300.0
CONTROLLER_PAUSE_SECONDS = 0.1


def register(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "cancel",
        help="end the jobs of a run, also where its controller is gone",
        description="End all jobs of a run in their services, and settle its ledger: of one that was "
        "detached, whose controller was killed, or that still runs on this machine, which is ended with it. "
        "Exit status 1 where something would not end.",
        epilog="example: takeda cancel --yes",
    )
    add_directory(parser)
    parser.add_argument(
        "--routing",
        metavar="FILE",
        help="routing policy with the run's targets; without it the one that the run used",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--anyway",
        action="store_true",
        help="also where a target is refused at the start, such as a queue that is disabled",
    )
    parser.add_argument("--json", action="store_true", help="what was ended, as a JSON object")
    parser.set_defaults(run=_run_cancel)


def _run_cancel(args: argparse.Namespace) -> int:
    logging.basicConfig(format="takeda: %(message)s", level=logging.WARNING)
    directory = args.directory.resolve()
    try:
        known = known_run(directory)
    except NoLedger as error:
        return used_wrongly(error)
    if known.is_controlled:
        if not args.yes and not _says_yes(
            f"end run {known.run_id}, which {_controller(known)} has"
        ):
            return 2
        args.yes = True
        known = _ended_by_controller(directory, known)
        if not known.is_unfinished:
            _say_state(args, known, "its controller has ended its jobs, and itself")
            return 0
    if not known.is_unfinished:
        _say_state(args, known, f"there is nothing to end ({STATE})")
        return 0
    ended = _end(args, directory, known)
    if ended is None:
        return 2
    _show(args, directory, known, ended)
    return 0 if ended.is_all else 1


def _ended_by_controller(directory: Path, known: KnownRun) -> KnownRun:
    """The controller is asked to end its jobs, and itself; → what it leaves. Raises TakedaError where it does
    not."""
    if Path(known.workdir) != directory:
        raise TakedaError(
            f"{directory} is a copy, and run {known.run_id} is controlled by {_controller(known)}: say "
            "`takeda cancel` there"
        )
    _say(f"asks {_controller(known)} to end its jobs")
    try:
        os.kill(known.pid, ASKED)
    except ProcessLookupError:
        return known_run(directory)
    except PermissionError as error:
        raise TakedaError(
            f"{_controller(known)} is another user's: who started it must end it"
        ) from error
    deadline = time.monotonic() + CONTROLLER_ENDS_SECONDS
    while known.is_controlled:
        if time.monotonic() > deadline:
            raise TakedaError(
                f"{_controller(known)} still runs, {CONTROLLER_ENDS_SECONDS:.0f} s after it was asked to end "
                f"its jobs: look at what it says, or `kill -9 {known.pid}`, then `takeda cancel` again"
            )
        time.sleep(CONTROLLER_PAUSE_SECONDS)
    return known_run(directory)


def _controller(known: KnownRun) -> str:
    return f"process {known.pid} in {known.workdir}"


def _end(args: argparse.Namespace, directory: Path, known: KnownRun) -> Ended | None:
    """None where the user does not want it."""
    from snakemake_executor_takeda.assembly import backend_factories, policy_again
    from snakemake_executor_takeda.ending import RunEnder

    factories = backend_factories()
    routing = str(Path(args.routing).resolve()) if args.routing else None
    try:
        policy = policy_again(known.policy, routing, directory, factories)
        ender = RunEnder(directory, known, policy.targets, factories, _say, anyway=args.anyway)
    except TakedaError as error:
        if routing or "routing policy" not in str(error):
            raise
        raise TakedaError(
            f"{str(error).rstrip('.')}. --routing FILE names another policy with the run's targets"
        ) from error
    try:
        counts = ender.counts()
        if counts and not args.yes and not _is_wanted(known, counts):
            return None
        for where, count in sorted(counts.items()):
            _say(f"ends {_jobs(count)} on {where}")
        return ender.end()
    except KeyboardInterrupt:
        print(
            "\ntakeda: stopped. What has ended is written down; `takeda cancel` goes on from there",
            file=sys.stderr,
        )
        raise
    finally:
        ender.close()


def _is_wanted(known: KnownRun, counts: Counter[str]) -> bool:
    where = ", ".join(f"{count} on {name}" for name, count in sorted(counts.items()))
    if known.state == "running" and known.host != socket.gethostname():
        _say(f"its controller was process {known.pid} on {known.host}: it must be gone")
    return _says_yes(f"end all open jobs of run {known.run_id}, {where}")


def _says_yes(question: str) -> bool:
    if not sys.stdin.isatty():
        _say(f"to {question}, say --yes")
        return False
    print(f"takeda: {question}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _show(args: argparse.Namespace, directory: Path, known: KnownRun, ended: Ended) -> None:
    if args.json:
        facts = {
            "directory": str(directory),
            "run_id": known.run_id,
            "state": "cancelled" if ended.is_all else "cancelling",
            "cancelled": ended.cancelled,
            "had_ended": ended.had_ended,
            "never_sent": ended.never_sent,
            "left": ended.left,
            "troubles": ended.troubles,
        }
        print(json.dumps(facts, indent=2))
    else:
        _show_counts(ended)
    for trouble in ended.troubles:
        print(f"takeda: {trouble}", file=sys.stderr)
    if args.json:
        return
    if not ended.is_all:
        print(f"run {known.run_id} is not ended: say `takeda cancel` again when that is mended")
        return
    print(f"run {known.run_id} is cancelled. {_to_start_anew(directory)}")


def _show_counts(ended: Ended) -> None:
    for counts, words in (
        (ended.cancelled, "cancelled {jobs} on {target}"),
        (ended.had_ended, "{jobs} on {target} had ended before"),
        (ended.never_sent, "{jobs} had never reached {target}"),
        (ended.left, "{jobs} on {target} may still run"),
    ):
        for target, count in sorted(counts.items()):
            print(words.format(jobs=_jobs(count), target=target))


def _to_start_anew(directory: Path) -> str:
    is_locked = any((directory / ".snakemake/locks").glob("*"))
    before = " after --unlock" if is_locked else ""
    return f"To start anew, say the same snakemake command with --rerun-incomplete{before}"


def _say_state(args: argparse.Namespace, known: KnownRun, why: str) -> None:
    if args.json:
        print(json.dumps({"run_id": known.run_id, "state": known.state}, indent=2))
    else:
        print(f"run {known.run_id} is {known.state}: {why}")


def _jobs(count: int) -> str:
    return f"{count} job{'' if count == 1 else 's'}"


def _say(line: str) -> None:
    print(f"takeda: {line}", file=sys.stderr)
