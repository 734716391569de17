"""Starts, finds and ends a sandbox: what stands behind `takeda sandbox up|down|env|status`."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.sandbox import processes, record
from snakemake_executor_takeda.sandbox.faults import Fault
from snakemake_executor_takeda.sandbox.faults import parse as parse_faults
from snakemake_executor_takeda.sandbox.server import FAULTS_PATH, STATUS_PATH
from snakemake_executor_takeda.values import TakedaError

_STOP_SECONDS = 120.0


@dataclass(frozen=True)
class Options:
    """How a sandbox is started. Port 0 takes any free one."""

    services_port: int = record.SERVICES_PORT
    moto_port: int = record.MOTO_PORT
    vcpus: int = 4
    memory_mib: int = 4096
    runner: str = "process"


def default_vcpus() -> int:
    """vCPUs of each compute environment: this machine's, but at least 4."""
    return max(4, os.cpu_count() or 1)


def default_memory_mib() -> int:
    """This machine's memory."""
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20)


def up(state_dir: Path, options: Options) -> tuple[record.Record, bool]:
    """The sandbox of this folder, running and answering, and whether it ran before.

    Raises TakedaError with one message when it can not be.
    """
    state_dir = prepare(state_dir)
    found = running(state_dir)
    if found is not None:
        return found, True
    _clean_up(state_dir)
    process = _spawn(state_dir, options)
    try:
        said = _first_line(process)
    except BaseException:
        processes.signal_group(process.pid, signal.SIGTERM)
        process.wait()
        raise
    if "error" in said:
        process.wait()
        found = _wait_for_other(state_dir)
        if found is not None:
            return found, True
        raise TakedaError(f"the sandbox did not start: {said['error']}")
    found = record.read(state_dir)
    assert found is not None
    return found, False


def down(state_dir: Path) -> bool:
    """End the sandbox, its jobs and its Slurm; whether there was anything to end."""
    from snakemake_executor_takeda.sandbox import slurm

    state_dir = state_dir.absolute()
    if not state_dir.is_dir():
        return False
    has_slurm = bool(slurm.environment(state_dir))
    slurm.down(state_dir)
    found = record.read(state_dir)
    if found is not None and found.is_running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(found.pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while found.is_running and time.monotonic() < deadline:
            time.sleep(0.02)
        if found.is_running:
            os.kill(found.pid, signal.SIGKILL)
    left = _clean_up(state_dir)
    return has_slurm or found is not None or left > 0


def running(state_dir: Path) -> record.Record | None:
    """The record of the sandbox that runs in this folder."""
    found = record.read(state_dir.absolute())
    return found if found is not None and found.is_running else None


def environment(state_dir: Path) -> dict[str, str]:
    """The variables to export. Raises TakedaError where neither AWS nor Slurm is up."""
    from snakemake_executor_takeda.sandbox import slurm

    state_dir = state_dir.absolute()
    found = running(state_dir)
    variables = dict(slurm.environment(state_dir)) if state_dir.is_dir() else {}
    if found is None and not variables:
        raise TakedaError(f"no sandbox runs in {state_dir}: start it with `takeda sandbox up`")
    if found is not None:
        variables |= found.variables()
    return {**variables, "TAKEDA_SANDBOX_DIR": str(state_dir)}


def status(state_dir: Path) -> dict[str, Any]:
    """Facts: whether it is up, where, jobs by state, API calls, Slurm."""
    from snakemake_executor_takeda.sandbox import slurm

    state_dir = state_dir.absolute()
    found = running(state_dir)
    facts: dict[str, Any] = {"up": found is not None, "state_dir": str(state_dir)}
    if found is not None:
        live = _ask(found, STATUS_PATH)
        facts |= {
            "pid": found.pid,
            "moto_pid": found.moto_pid,
            "services_url": found.services_url,
            "services_port": found.services_port,
            "moto_url": found.moto_url,
            "moto_port": found.moto_port,
            "runner": found.runner,
            "vcpus": found.vcpus,
            "memory_mib": found.memory_mib,
            "bucket": record.BUCKET,
            "queues": [record.ON_DEMAND_QUEUE, record.SPOT_QUEUE],
            "jobs": live["services"]["batch"]["jobs"],
            "services": live["services"],
            "api_calls": live["api_calls"],
        }
    facts["slurm"] = slurm.status(state_dir) if state_dir.is_dir() else {"running": False}
    return facts


def faults(state_dir: Path) -> dict[str, Any]:
    """The faults that are set, each with how often it was `injected`, and the sums by word.

    Raises TakedaError where no sandbox runs.
    """
    return _ask(_up(state_dir), FAULTS_PATH)


def set_faults(
    state_dir: Path,
    *words: str,
    rule: str | None = None,
    job: str | None = None,
    queue: str | None = None,
    call: str | None = None,
    times: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """`set_faults(folder, "spot-reclaim=0.3", rule="align", seed=7)`: from now on. As `faults`."""
    wanted: list[Fault] = parse_faults(
        words, rule=rule, job=job, queue=queue, call=call, times=times, seed=seed
    )
    return _ask(_up(state_dir), FAULTS_PATH, {"set": [fault.to_json() for fault in wanted]})


def clear_faults(state_dir: Path, *names: str) -> dict[str, Any]:
    """Take away all faults, or those with these words. As `faults`."""
    return _ask(_up(state_dir), FAULTS_PATH, {"clear": list(names)})


def _up(state_dir: Path) -> record.Record:
    found = running(state_dir)
    if found is None:
        raise TakedaError(
            f"no sandbox runs in {state_dir.absolute()}: start it with `takeda sandbox up`"
        )
    return found


def prepare(state_dir: Path) -> Path:
    """The folder, absolute, made if need be, open to its owner only."""
    state_dir = state_dir.absolute()
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        state_dir.chmod(0o700)
    except OSError as error:
        raise TakedaError(
            f"the state folder {state_dir} cannot be used ({error.strerror}): name another with --dir"
        ) from None
    return state_dir


def _spawn(state_dir: Path, options: Options) -> subprocess.Popen[str]:
    with (state_dir / "daemon.log").open("ab") as log:
        return subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "snakemake_executor_takeda.sandbox.daemon"),
                *("--dir", str(state_dir)),
                *("--port", str(options.services_port), "--s3-port", str(options.moto_port)),
                *("--vcpus", str(options.vcpus), "--memory", str(options.memory_mib)),
                *("--runner", options.runner),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=state_dir,
            start_new_session=True,
            text=True,
        )


def _first_line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    with process.stdout as stream:
        line = stream.readline()
    if line:
        return dict(json.loads(line))
    return {"error": "it ended at once; daemon.log in its state folder says why"}


def _wait_for_other(state_dir: Path) -> record.Record | None:
    """Another `up` may be under way at the same time: see whether it comes up."""
    import fcntl

    with (state_dir / "lock").open("w") as lock:
        while True:
            found = running(state_dir)
            if found is not None:
                return found
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.05)
            else:
                return None


def _clean_up(state_dir: Path) -> int:
    """Take away what a sandbox that died left behind; how many processes that were."""
    left = processes.end_marked(3.0, **{processes.MARK: str(state_dir)})
    found = record.read(state_dir)
    if found is not None and not found.is_running:
        # moto ends by itself when its daemon does, after it has saved S3
        mark = {processes.MARK: f"{state_dir} moto"}
        deadline = time.monotonic() + _STOP_SECONDS
        while processes.marked(**mark) and time.monotonic() < deadline:
            time.sleep(0.02)
        left += processes.end_marked(0.0, **mark)
        if found.runner == "docker":
            from snakemake_executor_takeda.sandbox.batch.docker_runner import end_containers

            left += end_containers(str(state_dir))
        record.remove(state_dir)
    return left


def _ask(found: record.Record, path: str, wanted: dict[str, Any] | None = None) -> dict[str, Any]:
    """One of the daemon's own pages; `wanted` is what it is to do first."""
    connection = http.client.HTTPConnection("127.0.0.1", found.services_port, timeout=30)
    try:
        connection.request(
            "GET" if wanted is None else "POST",
            path,
            body=None if wanted is None else json.dumps(wanted),
            headers={"x-takeda-key": found.access_key},
        )
        answer = connection.getresponse()
        facts = dict(json.load(answer))
        if answer.status != 200:
            raise TakedaError(str(facts.get("message", answer.reason)))
        return facts
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise TakedaError(
            f"the sandbox (pid {found.pid}) does not answer at {found.services_url} ({error}); "
            "`takeda sandbox down` ends it"
        ) from None
    finally:
        connection.close()
