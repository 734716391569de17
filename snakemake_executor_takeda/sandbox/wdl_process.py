"""A miniwdl container backend without containers: tasks are local processes in a directory.

What a container would show under a fixed path, a task here sees at its real place: `container_dir`
is the run directory itself, and inputs are symbolic links. Nothing is isolated but the environment:
a task sees no AWS variable, as it would see none in a container.
"""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from WDL.runtime import config
from WDL.runtime.error import Terminated
from WDL.runtime.task_container import TaskContainer

from snakemake_executor_takeda.sandbox.processes import exit_code as exit_code_of
from snakemake_executor_takeda.sandbox.wdl_allowance import Allowance
from snakemake_executor_takeda.sandbox.wdl_run import TASK_RECORD

_POLL_SECONDS = 0.2
_WAIT_SECONDS = 0.02
_GRACE_SECONDS = 5.0


class _Cores:
    """The cores of this process, shared out among the tasks that run at the same time."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, count: int, stop: Callable[[], bool]) -> Iterator[None]:
        with self._changed:
            while self._free < count:
                if stop():
                    raise Terminated(quiet=True)
                self._changed.wait(_POLL_SECONDS)
            self._free -= count
        try:
            yield
        finally:
            with self._changed:
                self._free += count
                self._changed.notify_all()


class ProcessContainer(TaskContainer):
    """One task as a process group of its own, ended whole when the run is."""

    _cores = _Cores(1)

    @classmethod
    def global_init(cls, cfg: config.Loader, logger: logging.Logger) -> None:
        cls._cores = _Cores(cls.detect_resource_limits(cfg, logger)["cpu"])

    @classmethod
    def detect_resource_limits(cls, cfg: config.Loader, logger: logging.Logger) -> dict[str, int]:
        cpus = cfg.get_int("scheduler", "task_concurrency") or len(os.sched_getaffinity(0))
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return {"cpu": cpus, "mem_bytes": memory}

    def __init__(self, cfg: config.Loader, run_id: str, host_dir: str) -> None:
        super().__init__(cfg, run_id, host_dir)
        self.container_dir = host_dir
        self._asked: dict[str, Any] = {}
        self._created = time.time()

    def host_work_dir(self) -> str:
        # Every attempt works in the same place, as paths in the command are real paths.
        return str(Path(self.host_dir, "work"))

    def reset(self, logger: logging.Logger) -> None:
        work = Path(self.host_work_dir())
        work.rename(work.with_name(f"work.attempt{self.try_counter}"))
        super().reset(logger)

    def process_runtime(self, logger: logging.Logger, runtime_eval: dict[str, Any]) -> None:
        super().process_runtime(logger, runtime_eval)
        # What the task asks for, before it is lowered to what this machine has.
        with suppress(KeyError, AttributeError, TypeError, ValueError):
            self._asked["cpus"] = math.ceil(float(runtime_eval["cpu"].value))
        with suppress(KeyError, AttributeError, TypeError, ValueError):
            self._asked["accelerator"] = str(runtime_eval["acceleratorType"].value)
            self._asked["gpus"] = 1
        with suppress(KeyError, AttributeError, TypeError, ValueError):
            self._asked["gpus"] = int(runtime_eval["acceleratorCount"].value)
        if {"docker", "container"} & set(runtime_eval):
            self._asked["image"] = self.runtime_values.get("docker")

    def _run(self, logger: logging.Logger, terminating: Callable[[], bool], command: str) -> int:
        self._link_inputs()
        script = Path(self.host_dir, "command")
        script.write_text(command)
        scratch = Path(self.host_dir, "tmp")
        scratch.mkdir(exist_ok=True)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        # Without PWD a shell would say where the links of its directory's path lead.
        environment |= {"TMPDIR": str(scratch), "PWD": self.host_work_dir()}
        environment |= self.runtime_values.get("env", {})
        stdout_path = Path(self.host_stdout_txt())  # type: ignore[no-untyped-call]
        stderr_path = Path(self.host_stderr_txt())  # type: ignore[no-untyped-call]
        cpus = min(int(self.runtime_values.get("cpu", 1)) or 1, self._cores.total)
        asked = int(self._asked.get("cpus", cpus))
        with (
            Allowance.of_environment().taken(asked, self._asked.get("gpus", 0), terminating),
            self._cores.taken(cpus, terminating),
            stdout_path.open("ab") as stdout,
            stderr_path.open("ab") as stderr,
            self.poll_stderr_context(logger) as poll_stderr,
        ):
            record = {
                "name": self.run_id,
                **self._asked,
                "cpus": asked,
                "memory_bytes": int(self.runtime_values.get("memory_reservation", 0)),
                "created": self._created,
                "started": time.time(),
            }
            self._write_record(record)
            process = subprocess.Popen(
                [*self.cfg.get("task_runtime", "command_shell").split(), str(script)],
                cwd=self.host_work_dir(),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                process_group=0,
            )
            used = _Used()
            try:
                exit_code = _wait(process, terminating, poll_stderr, used)
            finally:
                _end_group(process, used)
                code = exit_code_of(process.returncode)
                ended = {"ended": time.time(), "exit_code": code, "cancelled": terminating()}
                self._write_record(record | ended | asdict(used))
            poll_stderr()
        if terminating():
            raise Terminated()
        return exit_code

    def _link_inputs(self) -> None:
        for host_path, container_path in self.input_path_map.items():
            link = Path(container_path.rstrip("/"))
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():  # `copy_input_files` may have put a copy there.
                link.symlink_to(host_path.rstrip("/"))

    def _write_record(self, record: dict[str, Any]) -> None:
        path = Path(self.host_dir, TASK_RECORD)
        draft = path.with_suffix(".tmp")
        draft.write_text(json.dumps(record))
        draft.replace(path)


@dataclass
class _Used:
    """What a task took, with all its children that were waited for."""

    cpu_seconds: float = 0.0
    peak_bytes: int = 0


def _wait(
    process: subprocess.Popen[bytes],
    terminating: Callable[[], bool],
    tick: Callable[[], None],
    used: _Used,
) -> int:
    asked_at: float | None = None
    next_tick = time.monotonic() + _POLL_SECONDS
    while not _reap(process, used, os.WNOHANG):
        time.sleep(_WAIT_SECONDS)
        now = time.monotonic()
        if now < next_tick:
            continue
        next_tick = now + _POLL_SECONDS
        tick()
        if terminating():
            if asked_at is None:
                asked_at = now
                os.killpg(process.pid, signal.SIGTERM)
            elif now - asked_at > _GRACE_SECONDS:
                os.killpg(process.pid, signal.SIGKILL)
    return exit_code_of(process.returncode)


def _reap(process: subprocess.Popen[bytes], used: _Used, options: int) -> bool:
    """Whether it has ended. `subprocess` would throw away what it took."""
    if process.returncode is not None:
        return True
    pid, status, usage = os.wait4(process.pid, options)
    if pid == 0:
        return False
    process.returncode = os.waitstatus_to_exitcode(status)
    used.cpu_seconds = usage.ru_utime + usage.ru_stime
    used.peak_bytes = usage.ru_maxrss * 1024
    return True


def _end_group(process: subprocess.Popen[bytes], used: _Used) -> None:
    """What the task left running in the background ends with it, as in a container."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    _reap(process, used, 0)
