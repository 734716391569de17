"""An attempt as a real container: `docker run` around it, and what the engine says of its end."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.sandbox import processes
from snakemake_executor_takeda.sandbox.batch.runners import (
    Attempt,
    StartFailure,
    default_path,
    explain,
)
from snakemake_executor_takeda.values import TakedaError

LABEL = "takeda.sandbox"
"""On every container; its value is the sandbox's mark, so that what a killed sandbox left is found."""

OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"

_CLIENT_VARIABLES = (
    *("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_API_VERSION"),
    *("DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "SSH_AUTH_SOCK", "XDG_RUNTIME_DIR"),
)
_ANSWER_SECONDS = 20.0
_REASON_LENGTH = 255
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_CPU_SHARES_PER_VCPU = 1024


class DockerRunner:
    """`docker run` with the image, on the host's network, so that the sandbox can be reached.

    The container is kept until the attempt is cleaned away: only the engine can tell a program's
    exit code 137 from a container that ran out of memory, or 127 from one that never began.
    """

    def __init__(self, scratch: Path, mark: str) -> None:
        """Raises TakedaError where no engine answers."""
        self._scratch = scratch
        self._mark = mark
        scratch.mkdir(parents=True, exist_ok=True)
        check_engine()

    def start(self, attempt: Attempt) -> subprocess.Popen[bytes]:
        environment = {
            # a file for --env-file has no way to say these; the client takes them from here
            **_not_for_a_file(attempt.environment),
            **{name: os.environ[name] for name in _CLIENT_VARIABLES if name in os.environ},
            "PATH": default_path(),
            "HOME": os.environ.get("HOME", "/"),
            processes.MARK: self._mark,
        }
        file = self._variables_file(attempt)
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(environment_file(attempt.environment))
            return processes.start(
                docker_command(attempt, file, self._mark),
                environment=environment,
                directory=self._scratch,
                output=attempt.log,
            )
        except (OSError, ValueError) as error:
            raise StartFailure(f"CannotStartContainerError: {explain(error)}") from None

    def look_back(self, attempt: Attempt, exit_code: int) -> str | None:
        if exit_code == 0:
            return None
        form = "{{.State.Status}}\t{{.State.OOMKilled}}\t{{.State.Error}}"
        found = _ask("container", "inspect", "--format", form, attempt.name)
        if found.returncode == 0:
            status, out_of_memory, error = found.stdout.rstrip("\n").split("\t", 2)
            if status == "created":
                raise StartFailure(_reason("CannotStartContainerError", error))
            return OUT_OF_MEMORY if out_of_memory == "true" else None
        if "no such" not in found.stderr.lower():
            # the engine is gone, and whatever it knew of the container
            return f"CannotInspectContainerError: {found.stderr.strip()}"[:_REASON_LENGTH]
        raise StartFailure(_why_not_created(attempt.log))

    def stop(self, attempt: Attempt) -> None:
        """Also one that was created but not started yet, which `docker kill` would refuse."""
        _ask("rm", "--force", "--volumes", attempt.name)

    def clean(self, attempt: Attempt) -> None:
        # A client that was killed leaves its container running.
        _ask("rm", "--force", "--volumes", attempt.name)
        self._variables_file(attempt).unlink(missing_ok=True)

    def end_left(self) -> None:
        end_containers(self._mark)

    def _variables_file(self, attempt: Attempt) -> Path:
        return self._scratch / f"{attempt.name}.env"


def check_engine() -> None:
    """Raises TakedaError where `docker` is missing or its engine does not answer."""
    advice = "start it, or leave out `--runner docker` to run jobs as local processes"
    try:
        answer = subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"],
            capture_output=True,
            text=True,
            timeout=_ANSWER_SECONDS,
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


def end_containers(mark: str) -> int:
    """Remove all containers of the sandbox with this mark; how many there were."""
    found = _ask("ps", "--all", "--quiet", "--filter", f"label={LABEL}={mark}").stdout.split()
    if found:
        _ask("rm", "--force", "--volumes", *found)
    return len(found)


def docker_command(attempt: Attempt, variables_file: Path, mark: str) -> list[str]:
    """The `docker run` for an attempt. No value of its environment is in it."""
    container = attempt.container
    argv = [
        *("docker", "run", "--network", "host", "--name", attempt.name),
        *("--label", f"{LABEL}={mark}"),
        # its output comes through the client; the engine need not keep a second copy
        *("--log-driver", "none"),
        # a share, as on EC2: a hard limit above this machine's cores would be refused
        *("--cpu-shares", str(_cpu_shares(attempt.vcpus)), "--memory", f"{attempt.memory_mib}m"),
        *("--env-file", str(variables_file)),
    ]
    for name in _not_for_a_file(attempt.environment):
        argv += ["--env", name]
    if attempt.gpus:
        argv += ["--gpus", str(attempt.gpus)]
    if container.get("user"):
        argv += ["--user", container["user"]]
    if container.get("readonlyRootFilesystem"):
        argv += ["--read-only"]
    if container.get("privileged"):
        argv += ["--privileged"]
    argv += _linux_options(container.get("linuxParameters", {}), attempt.memory_mib)
    for limit in container.get("ulimits", []):
        argv += ["--ulimit", f"{limit['name']}={limit['softLimit']}:{limit['hardLimit']}"]
    for mount in _mounts(container):
        argv += ["--mount", mount]
    # an option can not be an image's name, whatever a definition says
    return [*argv, "--", container["image"], *attempt.command]


def environment_file(environment: Mapping[str, str]) -> str:
    """The text of a file for `--env-file`."""
    left = _not_for_a_file(environment)
    return "".join(f"{name}={value}\n" for name, value in environment.items() if name not in left)


def _cpu_shares(vcpus: float) -> int:
    return min(max(int(vcpus * _CPU_SHARES_PER_VCPU), 2), 262_144)


def _linux_options(linux: Mapping[str, Any], memory_mib: int) -> Iterator[str]:
    if linux.get("initProcessEnabled"):
        yield "--init"
    if linux.get("sharedMemorySize"):
        yield from ("--shm-size", f"{linux['sharedMemorySize']}m")
    if "maxSwap" in linux:
        yield from ("--memory-swap", f"{memory_mib + linux['maxSwap']}m")
    if "swappiness" in linux:
        yield from ("--memory-swappiness", str(linux["swappiness"]))
    for tmpfs in linux.get("tmpfs", []):
        options = [f"size={tmpfs['size']}m", *tmpfs.get("mountOptions", [])]
        yield from ("--tmpfs", f"{tmpfs['containerPath']}:{','.join(options)}")
    for device in linux.get("devices", []):
        letters = {"READ": "r", "WRITE": "w", "MKNOD": "m"}
        rights = "".join(letters[word] for word in device.get("permissions", letters))
        inside = device.get("containerPath") or device["hostPath"]
        yield from ("--device", f"{device['hostPath']}:{inside}:{rights}")


def _mounts(container: Mapping[str, Any]) -> Iterator[str]:
    """Values for `--mount`. A volume without a place on the host is one of the container's own."""
    places = {
        volume["name"]: volume.get("host", {}).get("sourcePath")
        for volume in container.get("volumes", [])
    }
    for mount in container.get("mountPoints", []):
        if mount.get("sourceVolume") not in places:
            continue
        place = places[mount["sourceVolume"]]
        kind = ["type=bind", f"source={place}"] if place else ["type=volume"]
        readonly = ["readonly"] if mount.get("readOnly") else []
        yield _comma_separated([*kind, f"target={mount['containerPath']}", *readonly])


def _comma_separated(fields: Sequence[str]) -> str:
    """`--mount` reads its value as CSV; a path may hold commas and quotes."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()


def _not_for_a_file(environment: Mapping[str, str]) -> dict[str, str]:
    """What `--env-file` would cut or drop: values with line ends, names like a comment's."""
    return {
        name: value
        for name, value in environment.items()
        if "\n" in value or "\r" in value or not _PLAIN_NAME.fullmatch(name)
    }


def _why_not_created(log: Path) -> str:
    """No container was made; why not is what the client said."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    words = [line for line in lines if line.strip() and not line.startswith("See '")]
    is_pull = any(line.startswith("Unable to find image ") for line in words)
    error = "CannotPullContainerError" if is_pull else "CannotCreateContainerError"
    return _reason(error, (words or ["docker gave no reason"])[-1].removeprefix("docker: "))


def _reason(error: str, said: str) -> str:
    origin = "Error response from daemon: "
    return f"{error}: {origin}{' '.join(said.split()).removeprefix(origin)}"[:_REASON_LENGTH]


def _ask(*words: str) -> subprocess.CompletedProcess[str]:
    """Ask the engine; one that does not answer is an answer, too, as ends must not wait for it."""
    try:
        return subprocess.run(
            ["docker", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_ANSWER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(words, 125, "", f"the engine does not answer: {error}")
