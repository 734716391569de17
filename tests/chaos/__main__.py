"""Kills controllers at random moments, and compares what the services did with what the ledger says.

It starts a sandbox of its own, with a Slurm, and ends it. A round is one pipeline in a fresh directory: its
controller gets SIGKILL some times, is started again each time as a user is told to, and goes on to the end.
Each round has a seed of its own, the first the one that is given, the next one more; what the seed does not
fix is how quick the machine is. A round with a fault keeps its directory.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from snakemake_executor_takeda.sandbox import control, faults, slurm
from snakemake_executor_takeda.values import TakedaError
from tests.chaos.pipelines import PIPELINES
from tests.chaos.rounds import Interrupt, Round, Settings, facts, run_interrupt, run_round

LENGTH_SECONDS = {"small": 20.0, "demo": 60.0}
VCPUS = 8
ROUNDS_FOR_A_KILL = 3
"""Rounds that end before a kill comes must not go on for ever."""


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    try:
        words = tuple(word for text in given.faults for word in text.split(",") if word)
        faults.parse(words)
    except TakedaError as error:
        print(f"--faults: {error}", file=sys.stderr)
        return 2
    tell: Callable[[str], None] = (lambda line: None) if given.json else _print
    tell(f"seed {given.seed}")
    work = Path(tempfile.mkdtemp(prefix="takeda-chaos-", dir=given.keep_in))
    pipeline = PIPELINES[given.pipeline]
    pipeline.prepare()
    # What a shell starts with `&` ignores Ctrl-C; and the sandbox goes with the harness, however that ends.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with sandbox() as state:
        settings = Settings(
            pipeline, state, state, LENGTH_SECONDS[given.pipeline], words, given.restart_slurm, tell
        )
        rounds = _kill(settings, given, work) if not given.interrupts else []
        interrupts = _interrupt(settings, given, work) if given.interrupts else []
    good = all(one.is_good for one in (*rounds, *interrupts))
    if good:
        shutil.rmtree(work)
    if given.json:
        print(json.dumps(_as_json(given.seed, rounds, interrupts), indent=2))
    elif rounds:
        _print_table(rounds)
    return 0 if good else 1


@contextmanager
def sandbox() -> Iterator[Path]:
    """A sandbox with a Slurm, on free ports; the environment leads to it. Its state folder."""
    state = Path(tempfile.mkdtemp(prefix="takeda-chaos-sb-"))
    try:
        control.up(
            state,
            control.Options(services_port=0, moto_port=0, vcpus=VCPUS, memory_mib=32_768),
        )
        slurm.up(state)
        os.environ |= control.environment(state)
        yield state
    finally:
        control.down(state)
        shutil.rmtree(state, ignore_errors=True)


def _kill(settings: Settings, given: argparse.Namespace, work: Path) -> list[Round]:
    rounds: list[Round] = []
    left = given.kills
    while not rounds or left > 0 or not given.kills:
        if len(rounds) >= (given.rounds or (given.kills or 1) * ROUNDS_FOR_A_KILL):
            break
        seed = given.seed + len(rounds)
        settings.tell(f"round {len(rounds) + 1} (seed {seed})")
        folder = work / f"round-{len(rounds) + 1}"
        folder.mkdir()
        one = run_round(settings, seed, folder, at_most=left, exactly=given.round_kills)
        rounds.append(one)
        left -= len(one.kills)
        _tell_round(settings, given, one)
    return rounds


def _tell_round(settings: Settings, given: argparse.Namespace, one: Round) -> None:
    settings.tell(
        f"  {'good' if one.is_good else 'BAD'}: {len(one.kills)} kills, {one.verdict.tasks} tasks, "
        f"{one.executions} executions, {one.seconds:.0f} s"
    )
    if one.is_good:
        return
    for word in ("lost", "duplicated", "orphaned", "wrong"):
        for sentence in getattr(one.verdict, word):
            settings.tell(f"    {word}: {sentence}")
    for sentence in one.ended_badly:
        settings.tell(f"    ended badly: {sentence}")
    faults_given = "".join(f" --faults {text}" for text in given.faults)
    settings.tell(f"    kept: {one.folder}")
    settings.tell(
        f"    again: python -m tests.chaos --pipeline {given.pipeline} --seed {one.seed} --rounds 1 "
        f"--kills {one.wanted} --round-kills {one.wanted}{faults_given}{' --restart-slurm' * given.restart_slurm}"
    )


def _interrupt(settings: Settings, given: argparse.Namespace, work: Path) -> list[Interrupt]:
    found: list[Interrupt] = []
    seed = given.seed
    while len(found) < given.interrupts:
        folder = work / f"interrupt-{seed}"
        folder.mkdir()
        one = run_interrupt(settings, seed, folder)
        if one is not None:
            found.append(one)
            settings.tell(f"Ctrl-C {len(found)} (seed {seed}): {one}")
            if not one.is_good:
                settings.tell(f"  kept: {folder}")
        seed += 1
    return found


def _print_table(rounds: Sequence[Round]) -> None:
    known = facts(rounds)
    print()
    for name, value in known.items():
        print(f"{name.replace('_', ' '):<24}{value:>8,}")
    print(f"{'seeds':<24}{rounds[0].seed} to {rounds[-1].seed}")


def _as_json(seed: int, rounds: Sequence[Round], interrupts: Sequence[Interrupt]) -> object:
    return {
        "seed": seed,
        **(facts(rounds) if rounds else {}),
        "each": [
            {
                "seed": one.seed,
                "kills": [str(kill) for kill in one.kills],
                "lost": one.verdict.lost,
                "duplicated": one.verdict.duplicated,
                "orphaned": one.verdict.orphaned,
                "wrong_outputs": one.verdict.wrong,
                "ended_badly": one.ended_badly,
                "seconds": round(one.seconds, 1),
                **({} if one.is_good else {"kept": str(one.folder)}),
            }
            for one in rounds
        ],
        "interrupts": [
            {
                "seed": one.seed,
                "moment": str(one.moment),
                "running": one.running,
                "gone_after_seconds": one.gone_after_seconds,
                "left": one.left,
                "unknown": one.unknown,
            }
            for one in interrupts
        ],
    }


def _print(line: str) -> None:
    print(line, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m tests.chaos --kills 100 --seed 7 "
        "--faults throttling=0.3,lost-answer=0.05,spot-reclaim=0.2",
    )
    parser.add_argument(
        "--kills",
        type=_whole,
        default=10,
        metavar="N",
        help="so many in all (10); 0 for faults alone",
    )
    parser.add_argument(
        "--interrupts",
        type=_positive,
        metavar="N",
        help="Ctrl-C so many controllers instead, and see what is left 15 s later",
    )
    parser.add_argument("--rounds", type=_positive, metavar="N", help="so many rounds at most")
    parser.add_argument(
        "--round-kills",
        type=_positive,
        metavar="N",
        help="kills of each round (4 to 8, as the seed says)",
    )
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(10**8), metavar="N"
    )
    parser.add_argument("--pipeline", choices=sorted(PIPELINES), default="small")
    parser.add_argument(
        "--faults",
        action="append",
        default=[],
        metavar="FAULT=AMOUNT,…",
        help="of the sandbox, all the time: the words of `takeda sandbox faults set --help`",
    )
    parser.add_argument(
        "--restart-slurm", action="store_true", help="slurmctld, once in each controller's life"
    )
    parser.add_argument("--keep-in", type=Path, metavar="DIR", help="where directories are made")
    parser.add_argument("--json", action="store_true", help="facts as JSON")
    return parser


def _whole(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _positive(text: str) -> int:
    number = _whole(text)
    if not number:
        raise argparse.ArgumentTypeError("give at least 1")
    return number


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
