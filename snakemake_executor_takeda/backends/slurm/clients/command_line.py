"""Slurm's command line: one process a question, by argument list, in bounded time."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_executor_takeda.backends.slurm.answers import (
    QUEUE_FORMAT,
    Sighting,
    in_chunks,
    read_job_id,
    read_jobs,
    read_queue,
    read_settings,
)
from snakemake_executor_takeda.backends.slurm.arguments import sbatch_words
from snakemake_executor_takeda.backends.slurm.clients.base import (
    SlurmFull,
    SlurmRefused,
    SlurmSilent,
)
from snakemake_executor_takeda.backends.slurm.clients.errors import is_full, is_silence
from snakemake_executor_takeda.backends.slurm.clients.sbatch_words import check_options, options_in
from snakemake_executor_takeda.backends.slurm.facts import (
    NodeFacts,
    PartitionFacts,
    read_nodes,
    read_partitions,
    read_reservations,
)
from snakemake_executor_takeda.backends.slurm.request import submission_environment

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.slurm.request import JobRequest

COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "sinfo")
QUERY_SECONDS = 60.0
SUBMIT_SECONDS = 30.0
"""After that nobody knows whether a job was taken."""
PAUSE_SECONDS = 1.0
IDS_PER_CALL = 1000

_SLEEPS = re.compile(r"temporarily unable to accept job|job queue full", re.IGNORECASE)
_NO_SUCH_JOB = re.compile(r"invalid job id", re.IGNORECASE)


class CommandLine:
    """Speaks `base.SlurmClient` by the five commands."""

    name = "command line"
    is_remote = False
    advice = "`scontrol ping` says more; is SLURM_CONF right?"

    def submit(self, request: JobRequest, script: str) -> str:
        # sbatch hands its own environment to the job, whose PATH is not where sbatch is found.
        words = [shutil.which("sbatch") or "sbatch", *sbatch_words(request)]
        needed = {name: os.environ[name] for name in ("PATH", "SLURM_CONF") if name in os.environ}
        done = _submit(words, needed | dict(request.environment), script)
        job_id = read_job_id(done.stdout)
        if done.returncode == 0 and job_id:
            return job_id
        raise SlurmRefused(_words(done) or f"sbatch gave no job id: {done.stdout.strip()!r}")

    def check_request(self, request: JobRequest) -> None:
        if request.extra and (known := self._options):
            check_options(request.extra, known)

    @cached_property
    def _options(self) -> frozenset[str] | None:
        """Long options of sbatch; None where it does not tell: it will say itself what it does not know."""
        try:
            return options_in(_ask(["sbatch", "--help"], tries=1))
        except (SlurmSilent, SlurmRefused):
            return None

    def find(self, name: str) -> str | None:
        rows = _ask(["squeue", "--noheader", "--me", "--states=all", f"--name={name}"], "%A|%F")
        for row in rows.splitlines():
            job_id, _, array_id = row.strip().partition("|")
            return array_id if array_id.isdigit() else job_id
        return None

    def queue(self, job_ids: Collection[str] = ()) -> dict[str, Sighting]:
        words = ["squeue", "--noheader", "--array", "--me", "--states=all"]
        return _only(read_queue(_ask(words, QUEUE_FORMAT, tries=1)), job_ids)

    def unfinished(self, job_ids: Collection[str] = ()) -> list[Sighting]:
        seen = read_queue(_ask(["squeue", "--noheader", "--me"], QUEUE_FORMAT))
        return list(_only(seen, job_ids).values())

    def jobs(self, job_id: str) -> dict[str, Sighting]:
        try:
            return read_jobs(_ask(["scontrol", "--oneliner", "show", "job", job_id]))
        except SlurmRefused as error:
            if _NO_SUCH_JOB.search(str(error)):
                return {}
            raise

    def cancel(self, ids: Iterable[str], *, kill: bool = False, pending_only: bool = False) -> None:
        how = ["--signal=KILL", "--full"] if kill else []
        chosen = list(ids)
        if pending_only:
            # With --state, scancel of 22.05 takes a waiting task for the whole of its array.
            self.cancel([one for one in chosen if "_" in one], kill=kill)
            chosen = [one for one in chosen if "_" not in one]
            how += ["--state=PENDING"]
        for some in in_chunks(chosen, IDS_PER_CALL):
            # scancel says no where one of many has ended: the caller looks at the queue instead.
            with contextlib.suppress(SlurmRefused):
                _ask(["scancel", *how, *some])

    def partitions(self) -> list[str]:
        return sorted(set(_ask(["sinfo", "--noheader", "--all"], "%R").split()))

    def settings(self) -> dict[str, str]:
        return read_settings(_ask(["scontrol", "show", "config"]))

    def nodes(self) -> list[NodeFacts]:
        return read_nodes(_ask(["scontrol", "--all", "--oneliner", "show", "node"]))

    def partition_details(self) -> list[PartitionFacts]:
        return read_partitions(_ask(["scontrol", "--all", "--oneliner", "show", "partition"]))

    def reservations(self) -> list[str]:
        return read_reservations(_ask(["scontrol", "--all", "--oneliner", "show", "reservation"]))

    def close(self) -> None:
        """Nothing is held open."""


def _only(seen: dict[str, Sighting], job_ids: Collection[str]) -> dict[str, Sighting]:
    """Those of these jobs; all where none are named."""
    if not job_ids:
        return seen
    wanted = set(job_ids)
    return {name: one for name, one in seen.items() if name.partition("_")[0] in wanted}


def missing_commands() -> list[str]:
    return [command for command in COMMANDS if shutil.which(command) is None]


def missing_configuration() -> str | None:
    """The file that SLURM_CONF names, where it is not there: the commands would wait for a minute."""
    path = os.environ.get("SLURM_CONF")
    return path if path and not Path(path).is_file() else None


def _ask(words: list[str], layout: str | None = None, tries: int = 2) -> str:
    """Standard output of a query. Raises SlurmRefused, or SlurmSilent after the last try."""
    arguments = [*words, f"--format={layout}"] if layout else words
    environment = {**submission_environment(os.environ), "LC_ALL": "C"}
    try:
        done = _run(arguments, environment, QUERY_SECONDS)
    except SlurmSilent:
        if tries == 1:
            raise
        time.sleep(PAUSE_SECONDS)
        return _ask(words, layout, tries - 1)
    if done.returncode != 0:
        raise SlurmRefused(_words(done))
    return done.stdout


def _run(
    arguments: Sequence[str], environment: Mapping[str, str], seconds: float
) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(
            arguments,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
            # The terminal's Ctrl-C is for Snakemake: a question under way is still answered.
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        raise SlurmSilent(f"{arguments[0]} had no answer within {seconds:.0f} s") from error
    except OSError as error:
        raise SlurmSilent(f"{arguments[0]} could not be started: {error}") from error
    if done.returncode != 0 and is_silence(done.stderr):
        raise SlurmSilent(_words(done))
    return done


def _submit(
    arguments: Sequence[str], environment: Mapping[str, str], script: str
) -> subprocess.CompletedProcess[str]:
    """sbatch, ended as soon as it says that the cluster takes no more jobs: it would sleep and try
    again for two minutes, in which nothing is watched."""
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as text,
        tempfile.TemporaryFile("w+") as out,
    ):
        text.write(script)
        text.seek(0)
        try:
            process = subprocess.Popen(
                arguments,
                env=environment,
                stdin=text,
                stdout=out,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise SlurmSilent(f"{arguments[0]} could not be started: {error}") from error
        said: list[str] = []
        # Where a site's own script stands for sbatch, what it has started is ended with it.
        kill = partial(_kill_group, process)
        late = threading.Timer(SUBMIT_SECONDS, kill)
        late.start()
        with process:
            for line in process.stderr or ():
                said.append(line)
                if _SLEEPS.search(line):
                    kill()
                    break
        late.cancel()
        out.seek(0)
        done = subprocess.CompletedProcess(arguments, process.returncode, out.read(), "".join(said))
    if _SLEEPS.search(done.stderr):
        raise SlurmFull("its table of jobs is full (MaxJobCount)")
    if done.returncode == -signal.SIGKILL:
        raise SlurmSilent(f"{arguments[0]} had no answer within {SUBMIT_SECONDS:.0f} s")
    if done.returncode < 0:
        # Whether the job was taken before, nobody knows.
        raise SlurmSilent(f"{arguments[0]} was ended by signal {-done.returncode}")
    if done.returncode != 0 and is_silence(done.stderr):
        raise SlurmSilent(_words(done))
    if done.returncode != 0 and is_full(done.stderr):
        raise SlurmFull(_words(done))
    return done


def _kill_group(process: subprocess.Popen[str]) -> None:
    """All of a process that leads its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _words(done: subprocess.CompletedProcess[str]) -> str:
    """What a command complained of, in one line, without its own name."""
    lines = [
        re.sub(r"^(\w+: (error|fatal)|sbatch): ", "", line.strip())
        for line in done.stderr.splitlines()
        if not line.startswith('Try "sbatch ')
    ]
    return "; ".join(dict.fromkeys(line for line in lines if line))
