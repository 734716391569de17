"""A round: one pipeline in a fresh directory, its controller killed some times, and the verdict on it."""

from __future__ import annotations

import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.sandbox import control
from tests.chaos import moments
from tests.chaos.comparing import JobId, Verdict, compare
from tests.chaos.controller import Controller
from tests.chaos.moments import CALLS, Moment
from tests.chaos.pipelines import Pipeline
from tests.chaos.recording import Recorder, read_ledger
from tests.chaos.slurmctld import Slurmctld

KILLS_OF_A_ROUND = (4, 8)
ENDS_PATIENCE_SECONDS = 600.0
"""For a controller that nobody kills."""
AFTER_CTRL_C_SECONDS = 15.0
CLEANING_SECONDS = 60.0


@dataclass(frozen=True)
class Settings:
    """What all rounds share."""

    pipeline: Pipeline
    sandbox: Path
    slurm: Path
    """Its state folder, which may be the sandbox's."""
    length_seconds: float
    """How long the pipeline takes when it is left alone."""
    faults: tuple[str, ...] = ()
    """In the sandbox's words."""
    restart_slurm: bool = False
    tell: Callable[[str], None] = print


@dataclass(frozen=True)
class Kill:
    """One end of a controller from outside."""

    moment: Moment
    after_seconds: float
    """Since it began."""
    unanswered: int
    """Tasks whose submission the ledger had announced, and that had no answer yet."""
    open_tasks: int
    ended_tasks: int

    def __str__(self) -> str:
        return (
            f"{self.moment} (at {self.after_seconds:.1f} s; {self.unanswered} unanswered, "
            f"{self.open_tasks} open, {self.ended_tasks} ended)"
        )


@dataclass
class Round:
    """What came of it."""

    seed: int
    folder: Path
    wanted: int = 0
    """Kills; fewer where the pipeline ended before."""
    kills: list[Kill] = field(default_factory=list)
    restarts_of_slurm: int = 0
    ended_badly: list[str] = field(default_factory=list)
    verdict: Verdict = field(default_factory=lambda: Verdict(0))
    executions: int = 0
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        return self.verdict.is_good and not self.ended_badly


def run_round(
    settings: Settings,
    seed: int,
    folder: Path,
    *,
    at_most: int = KILLS_OF_A_ROUND[1],
    exactly: int | None = None,
) -> Round:
    """As many kills as the seed says, or `exactly` so many. The folder is removed where all is well."""
    numbers = random.Random(seed)
    drawn = numbers.randint(*KILLS_OF_A_ROUND)
    done = Round(seed, folder, min(at_most, exactly or drawn))
    prefix = f"chaos/{seed}-{folder.name}"
    settings.pipeline.copy_to(folder)
    recorder = Recorder(settings.sandbox, settings.slurm)
    began = time.monotonic()
    with _faults(settings, seed):
        while len(done.kills) < done.wanted:
            moment = moments.draw(numbers, settings.length_seconds)
            with _slurm_restarts(settings, numbers, done):
                if not _one_life(settings, done, prefix, moment, seed):
                    break
        _last_life(settings, done, prefix)
    done.seconds = time.monotonic() - began
    wrong = settings.pipeline.wrong_outputs(folder, prefix)
    services = recorder.services()
    done.executions = len(services.executions)
    done.verdict = compare(settings.pipeline.tasks, services, read_ledger(folder), wrong)
    _clean_up(recorder)
    if done.is_good:
        shutil.rmtree(folder)
    return done


def _one_life(settings: Settings, done: Round, prefix: str, moment: Moment, seed: int) -> bool:
    """Start a controller and kill it; False where it ended before."""
    controller = _start(settings, done, prefix)
    began = time.monotonic()
    try:
        _trouble_calls(settings, moment, seed)
        came = controller.wait_for(moment, 3 * settings.length_seconds)
        after = time.monotonic() - began
        if came:
            controller.kill(whole_group=moment.whole_group)
    finally:
        controller.end()
        _set_faults(settings, seed)
    if not came:
        return _ended(settings, done, controller, controller.status())
    tasks = read_ledger(done.folder).tasks
    kill = Kill(
        moment,
        after,
        len({task.task_id for task in tasks if task.state == "intent"}),
        sum(task.state == "accepted" for task in tasks),
        sum(task.state == "succeeded" for task in tasks),
    )
    done.kills.append(kill)
    settings.tell(f"  kill {len(done.kills)}: {kill}")
    return True


def _last_life(settings: Settings, done: Round, prefix: str) -> None:
    """To the end, as a user would; once more where it ended with an error."""
    for _ in range(2):
        controller = _start(settings, done, prefix)
        try:
            status = controller.wait(ENDS_PATIENCE_SECONDS)
        finally:
            controller.end()
        if not _ended(settings, done, controller, status) and status == 0:
            return


def _ended(settings: Settings, done: Round, controller: Controller, status: int | None) -> bool:
    """By itself: well, or told. Always False: there is nothing to kill."""
    if status != 0:
        how = "goes on for ever" if status is None else f"ended with status {status}"
        done.ended_badly.append(f"a controller {how}: {controller.log}\n{controller.last_words()}")
    return False


def _start(settings: Settings, done: Round, prefix: str) -> Controller:
    number = len(list(done.folder.glob("life-*.log"))) + 1
    log = done.folder / f"life-{number:02}.log"
    try:
        return Controller(settings.pipeline, done.folder, prefix, log)
    except subprocess.CalledProcessError as error:
        done.ended_badly.append(f"--unlock ended with status {error.returncode}: {log}")
        raise


@dataclass(frozen=True)
class Interrupt:
    """A controller that got Ctrl-C, and what was left of it."""

    seed: int
    moment: Moment
    running: int
    """Jobs that ran or waited at the services when it was given."""
    gone_after_seconds: float | None
    """Until the controller had ended; None where it had not in time."""
    left: tuple[JobId, ...]
    """What the services say still runs or waits at the end of the time."""
    unknown: tuple[str, ...]
    """Jobs that the ledger does not know."""
    folder: Path

    @property
    def is_good(self) -> bool:
        return self.gone_after_seconds is not None and not self.left and not self.unknown

    def __str__(self) -> str:
        gone = "NOT GONE" if self.gone_after_seconds is None else f"{self.gone_after_seconds:.1f} s"
        left = f", LEFT {list(self.left)}" if self.left else ""
        unknown = f", UNKNOWN {list(self.unknown)}" if self.unknown else ""
        return f"{self.moment}: {self.running} running, gone after {gone}{left}{unknown}"


def run_interrupt(settings: Settings, seed: int, folder: Path) -> Interrupt | None:
    """None where the controller ended before its moment."""
    numbers = random.Random(seed)
    moment = moments.draw(numbers, settings.length_seconds)
    while moment.what in ("reattached", "run_end"):
        moment = moments.draw(numbers, settings.length_seconds)
    moment = replace(moment, whole_group=False)
    settings.pipeline.copy_to(folder)
    recorder = Recorder(settings.sandbox, settings.slurm)
    done = Round(seed, folder)
    with _faults(settings, seed):
        controller = _start(settings, done, f"chaos/{seed}-{folder.name}")
        try:
            _trouble_calls(settings, moment, seed)
            if not controller.wait_for(moment, 3 * settings.length_seconds):
                shutil.rmtree(folder)
                return None
            running = len(recorder.left())
            at = time.monotonic()
            controller.interrupt()
            status = controller.wait(AFTER_CTRL_C_SECONDS)
            gone = time.monotonic() - at if status is not None else None
            time.sleep(max(0.0, at + AFTER_CTRL_C_SECONDS - time.monotonic()))
            left = tuple(sorted(recorder.left()))
        finally:
            controller.end()
    found = compare({}, recorder.services(), read_ledger(folder))
    unknown = tuple(one for one in found.orphaned if not one.endswith("still runs or waits"))
    _clean_up(recorder)
    interrupt = Interrupt(seed, moment, running, gone, left, unknown, folder)
    if interrupt.is_good:
        shutil.rmtree(folder)
    return interrupt


# Faults and restarts.


@contextmanager
def _faults(settings: Settings, seed: int) -> Iterator[None]:
    _set_faults(settings, seed)
    try:
        yield
    finally:
        control.clear_faults(settings.sandbox)


def _set_faults(settings: Settings, seed: int) -> None:
    """Those of all the round, and no other."""
    control.clear_faults(settings.sandbox)
    if settings.faults:
        control.set_faults(settings.sandbox, *settings.faults, seed=seed % 2**31)


def _trouble_calls(settings: Settings, moment: Moment, seed: int) -> None:
    if moment.fault:
        for call in CALLS:
            control.set_faults(
                settings.sandbox, moment.fault, call=call, times=3, seed=seed % 2**31
            )


@contextmanager
def _slurm_restarts(settings: Settings, numbers: random.Random, done: Round) -> Iterator[None]:
    """slurmctld is stopped and started again at a random moment of a controller's life."""
    at, gap = numbers.uniform(0, settings.length_seconds), numbers.uniform(0, 3)
    if not settings.restart_slurm:
        yield
        return
    over = threading.Event()

    def restart() -> None:
        if not over.wait(at):
            slurmctld = Slurmctld(settings.slurm)
            slurmctld.stop()
            try:
                over.wait(gap)
            finally:
                slurmctld.start()
            done.restarts_of_slurm += 1

    thread = threading.Thread(target=restart, name="slurm restarts")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _clean_up(recorder: Recorder) -> None:
    """The next round begins with nothing under way. Raises RuntimeError where something stays."""
    deadline = time.monotonic() + CLEANING_SECONDS
    while left := recorder.left():
        if time.monotonic() > deadline:
            raise RuntimeError(f"these jobs would not end: {sorted(left)}")
        recorder.end(left)
        time.sleep(0.5)


def facts(rounds: Sequence[Round]) -> dict[str, Any]:
    """For people and for JSON."""
    kills = [kill for one in rounds for kill in one.kills]
    return {
        "rounds": len(rounds),
        "kills": len(kills),
        "with_a_call_unanswered": sum(kill.unanswered > 0 for kill in kills),
        "with_tasks_open": sum(kill.open_tasks > 0 for kill in kills),
        "whole_group": sum(kill.moment.whole_group for kill in kills),
        "restarts_of_slurm": sum(one.restarts_of_slurm for one in rounds),
        "tasks": sum(one.verdict.tasks for one in rounds),
        "executions": sum(one.executions for one in rounds),
        "lost": sum(len(one.verdict.lost) for one in rounds),
        "duplicated": sum(len(one.verdict.duplicated) for one in rounds),
        "orphaned": sum(len(one.verdict.orphaned) for one in rounds),
        "wrong_outputs": sum(len(one.verdict.wrong) for one in rounds),
        "ended_badly": sum(len(one.ended_badly) for one in rounds),
        "seconds": round(sum(one.seconds for one in rounds)),
    }
