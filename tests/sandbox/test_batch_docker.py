"""The Docker runner's contract: which command it would give to a `docker` client.

No container is started: a real engine's behaviour is not tested here.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_takeda.sandbox.batch.runners import (
    Attempt,
    DockerRunner,
    docker_command,
    environment_file,
)
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
    argv = docker_command(attempt(tmp_path), tmp_path / "variables")
    assert argv == [
        *("docker", "run", "--rm", "--init", "--network", "host", "--name", "takeda-1234-5-2"),
        *("--cpus", "2", "--memory", "512m", "--env-file", str(tmp_path / "variables")),
        *("--env", "LINES", "--", "quay.io/biocontainers/bwa:1", "echo", "a b", "--rm"),
    ]


def test_what_a_container_may_ask_for(tmp_path: Path) -> None:
    argv = docker_command(
        attempt(
            tmp_path,
            user="1000:1000",
            readonlyRootFilesystem=True,
            linuxParameters={"sharedMemorySize": 64},
            ulimits=[{"name": "nofile", "softLimit": 1, "hardLimit": 2}],
            volumes=[{"name": "ref", "host": {"sourcePath": "/fsx/ref"}}],
            mountPoints=[{"sourceVolume": "ref", "containerPath": "/ref", "readOnly": True}],
        ),
        tmp_path / "variables",
    )
    words = " ".join(argv)
    assert "--user 1000:1000 --read-only" in words
    assert "--shm-size 64m" in words
    assert "--ulimit nofile=1:2" in words
    assert "--mount type=bind,source=/fsx/ref,target=/ref,readonly" in words
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


def test_a_stop_kills_the_container_by_name(fake_docker: Path) -> None:
    runner = DockerRunner(fake_docker / "scratch", "mark")
    runner.stop(attempt(fake_docker))
    assert (fake_docker / "argv").read_text().split() == ["kill", "takeda-1234-5-2"]


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
