"""`takeda sandbox` as a user types it, with unmodified boto3 in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_takeda.sandbox import processes, record

pytestmark = pytest.mark.sandbox

TAKEDA = (
    *(sys.executable, "-c"),
    "import sys; from snakemake_executor_takeda.cli import main; sys.exit(main())",
)
"""What the console script does."""
RUN_SLEEPERS = """
import boto3, sys, time
batch = boto3.client("batch")
batch.register_job_definition(
    jobDefinitionName="sleeper", type="container",
    containerProperties={"image": "debian", "command": ["sleep", "600"], "resourceRequirements": [
        {"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}]})
job = batch.submit_job(
    jobName="sleepers", jobQueue="takeda-sandbox", jobDefinition="sleeper",
    arrayProperties={"size": 3})["jobId"]
def running():
    found = batch.describe_jobs(jobs=[job])["jobs"][0]["arrayProperties"]["statusSummary"]
    return found["RUNNING"]
while running() < 3:
    time.sleep(0.02)
boto3.client("s3").put_object(Bucket="takeda-sandbox", Key="kept", Body=b"content")
print(job)
"""


class Sandbox:
    """`takeda` with a state folder of its own."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir

    def takeda(self, *words: str, environment: dict[str, str] | None = None) -> Any:
        return subprocess.run(
            [*TAKEDA, "sandbox", *words],
            env={**os.environ, "TAKEDA_SANDBOX_DIR": str(self.state_dir), **(environment or {})},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def up(self, *words: str) -> Any:
        return self.takeda("up", "--port", "0", "--s3-port", "0", *words)

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.takeda("status", "--json").stdout))

    def python(self, script: str) -> str:
        """Run a script with nothing but what `env --json` says, and PATH."""
        variables = json.loads(self.takeda("env", "--json").stdout)
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **variables},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def processes(self) -> list[int]:
        mark = str(self.state_dir)
        return [
            *processes.marked(**{processes.MARK: mark}),
            *processes.marked(**{processes.MARK: f"{mark} moto"}),
        ]


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    made = Sandbox(tmp_path / "state")
    yield made
    made.takeda("down")
    assert made.processes() == []


def await_(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 30
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_up_env_status_down(sandbox: Sandbox) -> None:
    first = sandbox.up("--vcpus", "3")
    assert (first.returncode, first.stderr) == (0, "")
    assert "is up (pid" in first.stdout
    again = sandbox.up()
    assert again.returncode == 0
    assert "is up already" in again.stdout

    facts = sandbox.status()
    assert (facts["up"], facts["vcpus"], facts["runner"]) == (True, 3, "process")
    for port in (facts["services_port"], facts["moto_port"]):
        assert addresses_of(port) == {"127.0.0.1"}

    down = sandbox.takeda("down")
    assert (down.returncode, down.stdout) == (0, "The sandbox is down.\n")
    assert not processes.is_running(facts["pid"])
    assert not processes.is_running(facts["moto_pid"])
    again = sandbox.takeda("down")
    assert (again.returncode, again.stdout) == (0, "No sandbox was up.\n")
    assert sandbox.status()["up"] is False


def addresses_of(port: int) -> set[str]:
    """The local addresses on which somebody listens at this port."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            address, _, number = local.rpartition(":")
            if state == "0A" and int(number, 16) == port:
                packed = bytes.fromhex(address)[::-1]
                found.add(socket.inet_ntoa(packed) if len(packed) == 4 else address)
    return found


def test_env_is_shell_and_is_complete(sandbox: Sandbox) -> None:
    sandbox.up()
    printed = sandbox.takeda("env", environment={"AWS_PROFILE": "work"}).stdout
    shown = subprocess.run(
        ["bash", "-c", 'eval "$1" && env -0', "bash", printed],
        env={"PATH": os.environ["PATH"], "AWS_PROFILE": "work", "AWS_SESSION_TOKEN": "secret"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    seen = dict(line.split("=", 1) for line in shown.split("\0") if line)
    wanted = json.loads(sandbox.takeda("env", "--json").stdout)
    assert wanted.items() <= seen.items()
    assert "AWS_PROFILE" not in seen
    assert "AWS_SESSION_TOKEN" not in seen
    assert wanted["TAKEDA_SANDBOX_DIR"] == str(sandbox.state_dir)


def test_env_without_a_sandbox_says_what_to_do(sandbox: Sandbox) -> None:
    done = sandbox.takeda("env")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"takeda: no sandbox runs in {sandbox.state_dir}: start it with `takeda sandbox up`\n"
    )


@pytest.mark.parametrize("option", ["--port", "--s3-port"])
def test_an_occupied_port_is_one_clear_message(sandbox: Sandbox, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = sandbox.up(option, str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"takeda: the sandbox did not start: port {port} is in use by ")
    assert f"(pid {os.getpid()})" in done.stderr
    assert f"give another with {option}" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sandbox.processes() == []


def test_two_at_the_same_time_make_one(sandbox: Sandbox) -> None:
    words = [*TAKEDA, "sandbox", "up"]
    words += ["--port", "0", "--s3-port", "0", "--dir", str(sandbox.state_dir)]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted("already" in text for text in said) == [False, True]


def test_docker_without_an_engine_is_a_clear_word(sandbox: Sandbox, tmp_path: Path) -> None:
    done = sandbox.takeda(
        *("up", "--port", "0", "--s3-port", "0", "--runner", "docker"),
        environment={"PATH": str(tmp_path)},
    )
    assert done.returncode == 1
    assert "there is no `docker` command" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_down_ends_jobs_and_up_brings_the_rest_back(sandbox: Sandbox) -> None:
    sandbox.up()
    job = sandbox.python(RUN_SLEEPERS)
    assert len(sandbox.processes()) == 4
    calls = sandbox.status()["api_calls"]["batch"]
    assert calls["SubmitJob"] == 1
    assert sandbox.takeda("down").returncode == 0
    assert sandbox.processes() == []
    sandbox.up()
    assert sandbox.status()["api_calls"]["batch"] == calls
    assert sandbox.python(look_at(job)) == "FAILED ['Host EC2 (instance'] b'content'"


def test_a_killed_daemon_is_taken_up_again(sandbox: Sandbox) -> None:
    sandbox.up()
    job = sandbox.python(RUN_SLEEPERS)
    facts = sandbox.status()
    os.kill(facts["pid"], signal.SIGKILL)
    await_(lambda: not processes.is_running(facts["pid"]))
    assert len(processes.marked(**{processes.MARK: str(sandbox.state_dir)})) == 3
    assert sandbox.status()["up"] is False
    assert sandbox.up().returncode == 0
    assert processes.marked(**{processes.MARK: str(sandbox.state_dir)}) == []
    # moto saw its daemon's end and saved what it had
    assert sandbox.python(look_at(job)) == "FAILED ['Host EC2 (instance'] b'content'"


def test_down_after_a_killed_daemon_leaves_nothing(sandbox: Sandbox) -> None:
    sandbox.up()
    sandbox.python(RUN_SLEEPERS)
    facts = sandbox.status()
    os.kill(facts["pid"], signal.SIGKILL)
    await_(lambda: not processes.is_running(facts["pid"]))
    assert sandbox.takeda("down").stdout == "The sandbox is down.\n"
    assert sandbox.processes() == []


def look_at(job: str) -> str:
    return f"""
import boto3
batch, s3 = boto3.client("batch"), boto3.client("s3")
job = batch.describe_jobs(jobs=["{job}"])["jobs"][0]
children = batch.list_jobs(arrayJobId="{job}", jobStatus="FAILED")["jobSummaryList"]
reasons = {{child["statusReason"].rpartition(" i-")[0] for child in children}}
body = s3.get_object(Bucket="takeda-sandbox", Key="kept")["Body"].read()
print(job["status"], sorted(reasons), body)
"""


def test_ctrl_c_in_the_terminal_does_not_reach_it(sandbox: Sandbox) -> None:
    sandbox.up()
    pid = sandbox.status()["pid"]
    assert os.getsid(pid) == pid != os.getsid(0)


def test_the_state_folder_is_its_owners_only(sandbox: Sandbox) -> None:
    sandbox.up()
    assert sandbox.state_dir.stat().st_mode & 0o777 == 0o700
    found = record.read(sandbox.state_dir)
    assert found is not None
    assert found.access_key.startswith("TAKEDASANDBOX")
    assert found.access_key not in Path(f"/proc/{found.pid}/cmdline").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["up", "--port", "70000"], "'70000' is no port"),
        (["up", "--vcpus", "0"], "'0' is not a whole number"),
        (["up", "--memory", "lots"], "'lots' is not a whole number"),
    ],
)
def test_wrong_use_is_status_2(sandbox: Sandbox, words: list[str], message: str) -> None:
    done = sandbox.takeda(*words)
    assert done.returncode == 2
    assert message in done.stderr


def test_every_command_shows_an_example(sandbox: Sandbox) -> None:
    for words in (["up"], ["down"], ["env"], ["status"], ["slurm", "up"], ["slurm", "down"]):
        assert f"takeda sandbox {' '.join(words)}" in sandbox.takeda(*words, "--help").stdout
