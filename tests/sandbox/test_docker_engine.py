"""The Docker runner with a real engine: containers, their ends, and that none is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_client import Batch
from docker_image import WITNESS, make_image, why_no_docker

from snakemake_executor_takeda.backends.batch.outcomes import failure_kind
from snakemake_executor_takeda.sandbox.batch.docker_runner import LABEL, DockerRunner
from snakemake_executor_takeda.values import FailureKind

pytestmark = pytest.mark.docker


def docker(*words: str) -> str:
    return subprocess.run(
        ["docker", *words], capture_output=True, text=True, check=True, timeout=60
    ).stdout


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    reason = why_no_docker()
    if reason is not None:
        pytest.skip(reason)
    name = f"takeda-test:{uuid.uuid4().hex}"
    make_image(name)
    try:
        yield name
    finally:
        docker("rmi", "--force", name)


class Engine:
    """Batch over the real engine, and what the engine knows of this test's containers."""

    def __init__(self, make: Callable[..., Batch], image: str, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self._make = make
        self._image = image
        self.batch = self.again()
        self.define("in-image")

    def again(self) -> Batch:
        """A sandbox over the same state, as after the last one's end."""
        mark = str(self.tmp_path)
        return self._make(vcpus=512, runner=DockerRunner(self.tmp_path / "scratch", mark))

    def define(self, name: str, **container: Any) -> None:
        self.batch(
            "RegisterJobDefinition",
            jobDefinitionName=name,
            type="container",
            containerProperties={
                "image": self._image,
                "resourceRequirements": [
                    {"type": "VCPU", "value": "1"},
                    {"type": "MEMORY", "value": "64"},
                ],
                **container,
            },
        )

    def run(self, *command: str, **more: Any) -> dict[str, Any]:
        return self.batch.until(self.start(*command, **more))

    def start(self, *command: str, **more: Any) -> str:
        return self.batch.submit(*command, **{"jobDefinition": "in-image", **more})

    def containers(self) -> list[str]:
        words = ("ps", "--all", "--filter", f"label={LABEL}={self.tmp_path}")
        return docker(*words, "--format", "{{.Names}}").split()

    def until_it_says(self, job_id: str, word: str) -> None:
        """An attempt is RUNNING before its container is."""
        logs = self.tmp_path / "logs"
        self.batch.wait(
            lambda: {"text": "".join(log.read_text() for log in logs.glob("*.log"))},
            lambda found: word in found["text"],
        )


@pytest.fixture
def engine(make_batch: Callable[..., Batch], image: str, tmp_path: Path) -> Engine:
    return Engine(make_batch, image, tmp_path)


def output(engine: Engine, job: dict[str, Any]) -> str:
    log_id = job["container"]["logStreamName"].rpartition("/")[2]
    return (engine.tmp_path / "logs" / f"{log_id}.log").read_bytes().decode()


def test_a_command_runs_in_its_image(engine: Engine) -> None:
    job = engine.run("sh", "-c", f"ls {WITNESS} && exit 7")
    assert (job["status"], job["container"]["exitCode"]) == ("FAILED", 7)
    assert job["statusReason"] == "Essential container in task exited"
    assert job["container"].get("reason") is None
    assert output(engine, job) == f"{WITNESS}\n"


def test_every_variable_arrives_as_it_is(engine: Engine) -> None:
    variables = {
        "PLAIN": "a b  'c' \"d\" $HOME #e",
        "LINES": "one\ntwo",
        "RETURN": "end\r",
        "#COMMENT": "kept",
        "EMPTY": "",
    }
    given = [{"name": name, "value": value} for name, value in variables.items()]
    # no shell: it would drop a name that it can not say
    job = engine.run("env", "-0", containerOverrides={"environment": given})
    found = dict(pair.split("=", 1) for pair in output(engine, job).split("\0") if pair)
    assert {name: found[name] for name in variables} == variables
    assert found["AWS_BATCH_JOB_ID"] == job["jobId"]
    assert found["PATH"].startswith("/usr/local/sbin"), "the image's own, not this machine's"


def test_each_child_of_an_array_is_a_container_and_none_stays(engine: Engine) -> None:
    job_id = engine.start("sh", "-c", 'test "$AWS_BATCH_JOB_ARRAY_INDEX" != 1', size=3)
    parent = engine.batch.until(job_id)
    assert parent["arrayProperties"]["statusSummary"]["SUCCEEDED"] == 2
    assert engine.batch.job(f"{job_id}:1")["container"]["exitCode"] == 1
    engine.batch.stop()
    assert engine.containers() == []


def test_a_container_over_its_memory_says_so(engine: Engine) -> None:
    job = engine.run("tail", "/dev/zero")
    assert job["container"]["reason"] == ("OutOfMemoryError: Container killed due to memory usage")
    assert job["container"]["exitCode"] == 137
    assert failure_kind(job, None) is FailureKind.OUT_OF_MEMORY
    other = engine.run("sh", "-c", "exit 137")
    assert failure_kind(other, None) is FailureKind.USER


def test_an_image_that_is_not_there_is_no_exit_code(engine: Engine) -> None:
    engine.define("no-image", image=f"localhost:1/no/such:{uuid.uuid4().hex}")
    job = engine.run("true", jobDefinition="no-image")
    assert job["statusReason"] == "Task failed to start"
    assert job["container"]["reason"].startswith(
        "CannotPullContainerError: Error response from daemon: "
    )
    assert job["container"].get("exitCode") is None
    assert failure_kind(job, None) is FailureKind.IMAGE


def test_a_command_that_is_not_there_is_no_exit_code(engine: Engine) -> None:
    job = engine.run("no-such-program")
    assert job["statusReason"] == "Task failed to start"
    assert job["container"]["reason"].startswith(
        "CannotStartContainerError: Error response from daemon: "
    )
    assert '"no-such-program": executable file not found' in job["container"]["reason"]
    assert job["container"].get("exitCode") is None
    assert failure_kind(job, None) is FailureKind.CONFIGURATION


def test_what_the_engine_refuses_is_told(engine: Engine) -> None:
    nowhere = str(engine.tmp_path / "nowhere")
    engine.define(
        "no-source",
        volumes=[{"name": "v", "host": {"sourcePath": nowhere}}],
        mountPoints=[{"sourceVolume": "v", "containerPath": "/v"}],
    )
    job = engine.run("true", jobDefinition="no-source")
    assert job["container"]["reason"].startswith("CannotCreateContainerError: ")
    assert nowhere in job["container"]["reason"]


def test_more_vcpus_than_this_machine_has(engine: Engine) -> None:
    vcpus = [{"type": "VCPU", "value": str((os.cpu_count() or 1) + 1)}]
    job = engine.run("sleep", "0", containerOverrides={"resourceRequirements": vcpus})
    assert job["status"] == "SUCCEEDED", job


def test_mounts_and_limits(engine: Engine) -> None:
    reference = engine.tmp_path / 'a,b "c"'
    reference.mkdir()
    (reference / "genome").touch()
    engine.define(
        "mounts",
        volumes=[{"name": "ref", "host": {"sourcePath": str(reference)}}, {"name": "scratch"}],
        mountPoints=[
            {"sourceVolume": "ref", "containerPath": "/ref", "readOnly": True},
            {"sourceVolume": "scratch", "containerPath": "/scratch"},
        ],
        readonlyRootFilesystem=True,
        ulimits=[{"name": "nofile", "softLimit": 77, "hardLimit": 88}],
        linuxParameters={
            "initProcessEnabled": True,
            "sharedMemorySize": 8,
            "tmpfs": [{"containerPath": "/fast", "size": 4, "mountOptions": ["mode=1777"]}],
        },
    )
    job = engine.run(
        *("sh", "-c"),
        "exec 2>&1; ls /ref; touch /scratch/x && touch /fast/y && echo written; ulimit -n;"
        " touch /ref/z; touch /w; true",
        jobDefinition="mounts",
    )
    said = engine.batch.output(job)
    assert job["status"] == "SUCCEEDED", said
    assert "genome\nwritten\n77\n" in said
    assert said.count("Read-only file system") == 2


def test_terminate_ends_a_container_that_does_not_listen(engine: Engine) -> None:
    job_id = engine.start("sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done")
    engine.until_it_says(job_id, "deaf")
    assert len(engine.containers()) == 1
    engine.batch("TerminateJob", jobId=job_id, reason="enough")
    assert engine.batch.until(job_id)["statusReason"] == "enough"
    engine.batch.wait(lambda: {"left": engine.containers()}, lambda found: found["left"] == [])


def test_terminate_reaches_the_program(engine: Engine) -> None:
    job_id = engine.start(
        "sh", "-c", "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.1; done"
    )
    engine.until_it_says(job_id, "ready")
    engine.batch("TerminateJob", jobId=job_id, reason="enough")
    job = engine.batch.until(job_id)
    assert job["container"]["exitCode"] == 3
    assert "bye" in engine.batch.output(job)


def test_down_leaves_no_container(engine: Engine) -> None:
    job_id = engine.start("sh", "-c", "echo up; sleep 600")
    engine.until_it_says(job_id, "up")
    engine.batch.stop()
    assert engine.containers() == []


def test_containers_of_a_killed_sandbox_end_with_the_next_one(engine: Engine) -> None:
    name = "takeda-left-over"
    label = f"{LABEL}={engine.tmp_path}"
    words = ("run", "--detach", "--name", f"{name}-{uuid.uuid4().hex}", "--label", label)
    engine.batch.stop()
    docker(*words, "--network", "none", engine._image, "sleep", "600")
    assert len(engine.containers()) == 1
    engine.again()
    assert engine.containers() == []


def test_a_killed_daemon_leaves_containers_that_down_ends(tmp_path: Path, image: str) -> None:
    import boto3

    from snakemake_executor_takeda.sandbox import control

    folder = tmp_path / "sandbox"
    options = control.Options(services_port=0, moto_port=0, runner="docker")
    up, _ = control.up(folder, options)
    listing = ("ps", "--quiet", "--filter", f"label={LABEL}={folder}")
    try:
        variables = up.variables()
        batch = boto3.client(
            "batch",
            endpoint_url=up.services_url,
            region_name=variables["AWS_DEFAULT_REGION"],
            aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        )
        needs = [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}]
        batch.register_job_definition(
            jobDefinitionName="d",
            type="container",
            containerProperties={
                "image": image,
                "command": ["sleep", "600"],
                "resourceRequirements": needs,
            },
        )
        batch.submit_job(jobName="j", jobQueue="takeda-sandbox", jobDefinition="d")
        Batch.wait(lambda: {"up": docker(*listing).split()}, lambda found: bool(found["up"]))
        os.kill(up.pid, signal.SIGKILL)
        Batch.wait(lambda: {"dead": not up.is_running}, lambda found: found["dead"])
    finally:
        control.down(folder)
    assert docker(*listing) == ""


WDL = """version 1.0
workflow w { input { File f  Int code = 0 } call t { input: f = f, code = code } output { File o = t.o } }
task t {
  input { File f  Int code }
  command <<< cat ~{f} && ls %s && (env | grep AWS || true) && echo the reason >&2 && exit ~{code} >>>
  output { File o = stdout() }
  runtime { docker: "%s" cpu: 1 }
}
"""


@pytest.fixture
def swarm(image: str) -> Iterator[None]:
    """miniwdl turns swarm mode on; it is turned off again where it was off."""
    was_off = docker("info", "--format", "{{.Swarm.LocalNodeState}}").strip() == "inactive"
    try:
        yield
    finally:
        if was_off:
            docker("swarm", "leave", "--force")
            docker("network", "rm", "docker_gwbridge")


def run_local(cwd: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(Path(sys.executable).with_name("takeda")), "handoff", "run-local", *arguments],
        cwd=cwd,
        env={**os.environ, "AWS_SECRET_ACCESS_KEY": "s3cret"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.usefixtures("swarm")
def test_a_wdl_task_runs_in_its_container(tmp_path: Path, image: str) -> None:
    (tmp_path / "a.wdl").write_text(WDL % (WITNESS, image))
    (tmp_path / "none.wdl").write_text(WDL % (WITNESS, "localhost:1/no/such:image"))
    (tmp_path / "in.txt").write_text("data\n")
    common = ("--runner", "docker", "--input", "f", "in.txt", "--output", "o", "o.txt")
    good = run_local(tmp_path, "a.wdl", *common)
    out, err = good.communicate(timeout=120)
    assert (good.returncode, out) == (0, ""), err
    assert "Traceback" not in err
    assert (tmp_path / "o.txt").read_text() == f"data\n{WITNESS}\n"

    bad = run_local(tmp_path, "a.wdl", *common, "--param", "code", "3")
    _, err = bad.communicate(timeout=120)
    assert bad.returncode == 1
    assert "a.wdl: task t: the command failed with exit status 3" in err
    assert "  the reason" in err

    missing = run_local(tmp_path, "none.wdl", *common)
    _, err = missing.communicate(timeout=120)
    assert missing.returncode == 1
    assert "none.wdl: task t: the Docker engine refuses: " in err
    assert "Traceback" not in err
    assert len(err.splitlines()) == 1


@pytest.mark.usefixtures("swarm")
def test_a_signal_ends_the_wdl_task_and_its_container(tmp_path: Path, image: str) -> None:
    (tmp_path / "long.wdl").write_text(
        "version 1.0\nworkflow w { call t output { File o = t.o } }\n"
        "task t { command { echo begun; sleep 600 } output { File o = stdout() }"
        f' runtime {{ docker: "{image}" }} }}\n'
    )
    process = run_local(tmp_path, "long.wdl", "--runner", "docker", "--output", "o", "o.txt")
    ancestor = ("ps", "--quiet", "--filter", f"ancestor={image}")
    Batch.wait(lambda: {"up": docker(*ancestor).split()}, lambda found: bool(found["up"]))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode not in (0, None)
    assert docker("service", "ls", "--quiet") == ""
    Batch.wait(lambda: {"up": docker(*ancestor).split()}, lambda found: found["up"] == [])
    assert [path.name for path in tmp_path.iterdir()] == ["long.wdl"]
