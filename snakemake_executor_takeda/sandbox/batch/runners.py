"""What runs an attempt: the protocol of runners, and the command itself as a local process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from snakemake_executor_takeda.sandbox import processes


@dataclass(frozen=True)
class Attempt:
    """One attempt of one job, ready to start."""

    job_id: str
    number: int
    command: tuple[str, ...]
    environment: Mapping[str, str]
    """Everything the container sees, but for what the runner itself has to add."""
    container: Mapping[str, Any]
    vcpus: float
    memory_mib: int
    gpus: int
    log: Path
    """Where stdout and stderr go."""

    @property
    def name(self) -> str:
        """Letters, digits and `-` only."""
        return f"takeda-{self.job_id.replace(':', '-').replace('#', '-node-')}-{self.number}"


class StartFailure(Exception):
    """The container could not be started; the message is its `reason`."""


class Runner(Protocol):
    """Starts attempts. The process it returns leads a group of its own and ends with the attempt."""

    def start(self, attempt: Attempt) -> subprocess.Popen[bytes] | None:
        """None where the attempt has ended already, well. Raises StartFailure."""

    def look_back(self, attempt: Attempt, exit_code: int) -> str | None:
        """The reason why the attempt ended so, where its exit code alone does not say it.

        Raises StartFailure where it turns out that its command never began.
        """

    def stop(self, attempt: Attempt) -> None:
        """See to what signals to the process's group do not reach."""

    def clean(self, attempt: Attempt) -> None:
        """Take away what the attempt left, after its end."""

    def end_left(self) -> None:
        """End what is left of this sandbox's attempts beyond marked processes."""


class ProcessRunner:
    """The command as a local process, without isolation: the image's name is not looked at."""

    def __init__(self, scratch: Path, mark: str) -> None:
        """`scratch` is the folder of the attempts' working directories."""
        self._scratch = scratch
        self._mark = mark
        scratch.mkdir(parents=True, exist_ok=True)

    def start(self, attempt: Attempt) -> subprocess.Popen[bytes]:
        if not attempt.command:
            raise StartFailure(
                "CannotStartContainerError: Error response from daemon: no command specified"
            )
        directory = self._directory(attempt)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        environment = {
            "PATH": default_path(),
            "HOME": str(directory),
            "TMPDIR": str(directory),
            "LANG": os.environ.get("LANG", "C.UTF-8"),
            **attempt.environment,
            processes.MARK: self._mark,
        }
        try:
            return processes.start(
                attempt.command, environment=environment, directory=directory, output=attempt.log
            )
        except (OSError, ValueError) as error:
            word = attempt.command[0]
            raise StartFailure(
                f'CannotStartContainerError: Error response from daemon: exec: "{word}": '
                f"{explain(error)}"
            ) from None

    def look_back(self, attempt: Attempt, exit_code: int) -> str | None:
        """The exit code is all that there is to know."""
        return None

    def stop(self, attempt: Attempt) -> None:
        """A group of its own is all that a process has, as far as we know."""

    def clean(self, attempt: Attempt) -> None:
        shutil.rmtree(self._directory(attempt), ignore_errors=True)

    def end_left(self) -> None:
        """Every process carries the mark."""

    def _directory(self, attempt: Attempt) -> Path:
        return self._scratch / attempt.name


class StubRunner:
    """Runs nothing: every attempt has ended with exit code 0, without a log, when it is started. For
    measuring what submission and polling cost by themselves."""

    def __init__(self, scratch: Path, mark: str) -> None:
        """There is nothing to keep, and nothing to find again."""

    def start(self, attempt: Attempt) -> None:
        return None

    def look_back(self, attempt: Attempt, exit_code: int) -> str | None:
        return None

    def stop(self, attempt: Attempt) -> None:
        """Nothing runs."""

    def clean(self, attempt: Attempt) -> None:
        """Nothing was left."""

    def end_left(self) -> None:
        """Nothing was left."""


def default_path() -> str:
    """The sandbox's own Python first, so that `python` in a job is that interpreter."""
    rest = os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    # a relative place would be one in the job's own directory
    places = [place for place in rest.split(os.pathsep) if place.startswith("/")]
    return os.pathsep.join([str(Path(sys.executable).parent), *places])


def explain(error: OSError | ValueError) -> str:
    """Why a program could not be started, in the engine's words."""
    if isinstance(error, FileNotFoundError):
        return "executable file not found in $PATH"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
