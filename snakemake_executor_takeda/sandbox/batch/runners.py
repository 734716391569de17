"""What an attempt runs: the command itself as a local process, or `docker run` around it."""

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
from snakemake_executor_takeda.values import TakedaError


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
        return f"takeda-{self.job_id.replace(':', '-')}-{self.number}"


class StartFailure(Exception):
    """The container could not be started; the message is its `reason`."""


class Runner(Protocol):
    """Starts attempts. The process it returns leads a group of its own and ends with the attempt."""

    def start(self, attempt: Attempt) -> subprocess.Popen[bytes]:
        """Raises StartFailure."""

    def stop(self, attempt: Attempt) -> None:
        """See to what signals to the process's group do not reach."""

    def clean(self, attempt: Attempt) -> None:
        """Take away what the attempt left, after its end."""


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
                f"{_why(error)}"
            ) from None

    def stop(self, attempt: Attempt) -> None:
        """A group of its own is all that a process has, as far as we know."""

    def clean(self, attempt: Attempt) -> None:
        shutil.rmtree(self._directory(attempt), ignore_errors=True)

    def _directory(self, attempt: Attempt) -> Path:
        return self._scratch / attempt.name


class DockerRunner:
    """`docker run` with the image, on the host's network, so that the sandbox can be reached."""

    def __init__(self, scratch: Path, mark: str) -> None:
        """Raises TakedaError where no engine answers."""
        self._scratch = scratch
        self._mark = mark
        scratch.mkdir(parents=True, exist_ok=True)
        check_engine()

    def start(self, attempt: Attempt) -> subprocess.Popen[bytes]:
        environment = {
            # a file for --env-file has no way to say these; the client takes them from here
            **_with_line_breaks(attempt.environment),
            **{name: os.environ[name] for name in _DOCKER_CLIENT_VARIABLES if name in os.environ},
            "PATH": default_path(),
            "HOME": os.environ.get("HOME", "/"),
            processes.MARK: self._mark,
        }
        file = self._variables_file(attempt)
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as stream:
                stream.write(environment_file(attempt.environment))
            return processes.start(
                docker_command(attempt, file),
                environment=environment,
                directory=self._scratch,
                output=attempt.log,
            )
        except (OSError, ValueError) as error:
            raise StartFailure(f"CannotStartContainerError: {_why(error)}") from None

    def stop(self, attempt: Attempt) -> None:
        subprocess.Popen(
            ["docker", "kill", attempt.name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ).wait()

    def clean(self, attempt: Attempt) -> None:
        self._variables_file(attempt).unlink(missing_ok=True)

    def _variables_file(self, attempt: Attempt) -> Path:
        return self._scratch / f"{attempt.name}.env"


_DOCKER_CLIENT_VARIABLES = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "XDG_RUNTIME_DIR")


def check_engine() -> None:
    """Raises TakedaError where `docker` is missing or its engine does not answer."""
    advice = "start it, or leave out `--runner docker` to run jobs as local processes"
    try:
        answer = subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except FileNotFoundError:
        raise TakedaError(
            f"there is no `docker` command on this machine; install it, or {advice[10:]}"
        ) from None
    except subprocess.TimeoutExpired:
        raise TakedaError(f"the Docker engine does not answer: {advice}") from None
    if answer.returncode != 0:
        said = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise TakedaError(f"the Docker engine does not answer ({said}): {advice}")


def docker_command(attempt: Attempt, variables_file: Path) -> list[str]:
    """The `docker run` for an attempt. No value of its environment is in it."""
    container = attempt.container
    argv = [
        *("docker", "run", "--rm", "--init", "--network", "host", "--name", attempt.name),
        *("--cpus", f"{attempt.vcpus:g}", "--memory", f"{attempt.memory_mib}m"),
        *("--env-file", str(variables_file)),
    ]
    for name in _with_line_breaks(attempt.environment):
        argv += ["--env", name]
    if attempt.gpus:
        argv += ["--gpus", str(attempt.gpus)]
    if container.get("user"):
        argv += ["--user", container["user"]]
    if container.get("readonlyRootFilesystem"):
        argv += ["--read-only"]
    if container.get("privileged"):
        argv += ["--privileged"]
    linux = container.get("linuxParameters", {})
    if linux.get("sharedMemorySize"):
        argv += ["--shm-size", f"{linux['sharedMemorySize']}m"]
    for limit in container.get("ulimits", []):
        argv += ["--ulimit", f"{limit['name']}={limit['softLimit']}:{limit['hardLimit']}"]
    hosts = {
        volume["name"]: volume["host"]["sourcePath"]
        for volume in container.get("volumes", [])
        if volume.get("host", {}).get("sourcePath")
    }
    for mount in container.get("mountPoints", []):
        if mount.get("sourceVolume") in hosts:
            option = (
                f"type=bind,source={hosts[mount['sourceVolume']]},target={mount['containerPath']}"
            )
            argv += ["--mount", option + (",readonly" if mount.get("readOnly") else "")]
    # an option can not be an image's name, whatever a definition says
    return [*argv, "--", container["image"], *attempt.command]


def environment_file(environment: Mapping[str, str]) -> str:
    """The text of a file for `--env-file`."""
    left = _with_line_breaks(environment)
    return "".join(f"{name}={value}\n" for name, value in environment.items() if name not in left)


def _with_line_breaks(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if "\n" in value}


def default_path() -> str:
    """The sandbox's own Python first, so that `python` in a job is that interpreter."""
    rest = os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    # a relative place would be one in the job's own directory
    places = [place for place in rest.split(os.pathsep) if place.startswith("/")]
    return os.pathsep.join([str(Path(sys.executable).parent), *places])


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "executable file not found in $PATH"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
