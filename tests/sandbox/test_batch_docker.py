"""The Docker runner's contract: which command it would give to a `docker` client.

No container is started here; `test_docker_engine.py` does that where an engine answers.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_takeda.sandbox.batch.docker_runner import (
    DockerRunner,
    docker_command,
    environment_file,
)
from snakemake_executor_takeda.sandbox.batch.runners import Attempt, StartFailure
from snakemake_executor_takeda.values import TakedaError

SECRET = "a-value-nobody-may-see"


def attempt(tmp_path: Path, **container: Any) -> Attempt:
    return Attempt(
        job_id="1234:5",
        number=2,
        command=("echo", "a b", "--rm"),
        environment={"TOKEN": SECRET, "LINES": f"one\n{SECRET}"},
        container={"image": "quay.io/biocontainers/bwa:1", **container},
        vcpus=2.0,
        memory_mib=512,
        gpus=0,
        log=tmp_path / "log",
    )


@pytest.fixture
def fake_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `docker` that notes its arguments and environment."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "docker"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/argv\nenv > {tmp_path}/env\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return tmp_path


def test_the_command(tmp_path: Path) -> None:
    argv = docker_command(attempt(tmp_path), tmp_path / "variables", "mark")
    assert argv == [
        *("docker", "run", "--network", "host", "--name", "takeda-1234-5-2"),
        *("--label", "takeda.sandbox=mark", "--log-driver", "none"),
        *("--cpu-shares", "2048", "--memory", "512m", "--env-file", str(tmp_path / "variables")),
        *("--env", "LINES", "--", "quay.io/biocontainers/bwa:1", "echo", "a b", "--rm"),
    ]


def test_what_a_container_may_ask_for(tmp_path: Path) -> None:
    argv = docker_command(
        attempt(
            tmp_path,
            user="1000:1000",
            readonlyRootFilesystem=True,
            linuxParameters={
                "initProcessEnabled": True,
                "sharedMemorySize": 64,
                "maxSwap": 100,
                "swappiness": 0,
                "tmpfs": [{"containerPath": "/fast", "size": 5, "mountOptions": ["noexec"]}],
                "devices": [{"hostPath": "/dev/fuse", "permissions": ["READ", "WRITE"]}],
            },
            ulimits=[{"name": "nofile", "softLimit": 1, "hardLimit": 2}],
            volumes=[{"name": "ref", "host": {"sourcePath": "/fsx/a,b"}}, {"name": "own"}],
            mountPoints=[
                {"sourceVolume": "ref", "containerPath": "/ref", "readOnly": True},
                {"sourceVolume": "own", "containerPath": "/own"},
            ],
        ),
        tmp_path / "variables",
        "mark",
    )
    words = " ".join(argv)
    assert "--user 1000:1000 --read-only" in words
    assert "--init --shm-size 64m --memory-swap 612m --memory-swappiness 0" in words
    assert "--tmpfs /fast:size=5m,noexec --device /dev/fuse:/dev/fuse:rw" in words
    assert "--ulimit nofile=1:2" in words
    assert '--mount type=bind,"source=/fsx/a,b",target=/ref,readonly' in words
    assert "--mount type=volume,target=/own" in words
    assert "--privileged" not in words


def test_values_are_in_a_private_file_and_not_on_the_command_line(fake_docker: Path) -> None:
    runner = DockerRunner(fake_docker / "scratch", "mark")
    one = attempt(fake_docker)
    process = runner.start(one)
    file = fake_docker / "scratch" / f"{one.name}.env"
    assert file.read_text() == environment_file(one.environment) == f"TOKEN={SECRET}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert process.wait() == 0
    assert SECRET not in (fake_docker / "argv").read_text()
    # a value with a line break has no place in the file: the client has it in its environment
    assert f"LINES=one\n{SECRET}" in (fake_docker / "env").read_text()
    runner.clean(one)
    assert not file.exists()


def test_a_stop_and_the_cleaning_remove_the_container_by_name(fake_docker: Path) -> None:
    runner = DockerRunner(fake_docker / "scratch", "mark")
    for end in (runner.stop, runner.clean):
        end(attempt(fake_docker))
        words = (fake_docker / "argv").read_text().split()
        assert words == ["rm", "--force", "--volumes", "takeda-1234-5-2"]


def answering(fake_docker: Path, script: str) -> DockerRunner:
    """A runner whose engine answers so from now on."""
    program = fake_docker / "bin/docker"
    program.write_text("#!/bin/sh\n")
    runner = DockerRunner(fake_docker / "scratch", "mark")
    program.write_text(f"#!/bin/sh\n{script}\n")
    return runner


def test_an_exit_code_alone_needs_no_question(fake_docker: Path) -> None:
    runner = answering(fake_docker, "exit 1")
    assert runner.look_back(attempt(fake_docker), 0) is None


def test_out_of_memory_is_the_engines_word(fake_docker: Path) -> None:
    one = attempt(fake_docker)
    killed = answering(fake_docker, r"printf 'exited\ttrue\t\n'")
    assert str(killed.look_back(one, 137)).startswith("OutOfMemoryError: ")
    own = answering(fake_docker, r"printf 'exited\tfalse\t\n'")
    assert own.look_back(one, 137) is None


def test_what_never_began_is_told_from_what_failed(fake_docker: Path) -> None:
    one = attempt(fake_docker)
    created = answering(fake_docker, r"printf 'created\tfalse\texec: not found\n'")
    with pytest.raises(StartFailure, match=r"^CannotStartContainerError: .*: exec: not found$"):
        created.look_back(one, 127)
    absent = answering(fake_docker, "echo Error: No such container >&2; exit 1")
    one.log.write_text("docker: Error response from daemon: too big.\nSee 'docker run --help'.\n")
    with pytest.raises(StartFailure, match=r"^CannotCreateContainerError: .* daemon: too big.$"):
        absent.look_back(one, 125)
    one.log.write_text(
        "Unable to find image 'x' locally\ndocker: Error response from daemon: no.\n"
    )
    with pytest.raises(StartFailure, match=r"^CannotPullContainerError: .* daemon: no.$"):
        absent.look_back(one, 125)
    gone = answering(fake_docker, "echo Cannot connect >&2; exit 1")
    assert gone.look_back(one, 125) == "CannotInspectContainerError: Cannot connect"


def test_without_docker_there_is_one_clear_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TakedaError, match=r"no `docker` command .* leave out `--runner docker`"):
        DockerRunner(tmp_path / "scratch", "mark")
    (tmp_path / "docker").write_text("#!/bin/sh\necho Cannot connect to the daemon >&2\nexit 1\n")
    (tmp_path / "docker").chmod(0o755)
    with pytest.raises(TakedaError, match=r"does not answer \(Cannot connect to the daemon\)"):
        DockerRunner(tmp_path / "scratch", "mark")
