"""Run a CWL document on this machine with cwltool, in this process's main thread."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.backends.healthomics import cwl
from snakemake_executor_takeda.sandbox import cwl_task
from snakemake_executor_takeda.sandbox.wdl_run import (
    GROUP_VARIABLE,
    TASK_RECORD,
    WorkflowFailed,
    read_tail,
)
from snakemake_executor_takeda.values import TakedaError

OUTPUTS = "out"
"""The folder of a run's outputs, below its directory."""
LOG = "cwltool.log"
_LAUNCHER = (sys.executable, "-I", "-S", cwl_task.__file__)
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MAX_MESSAGE = 2000
_MAX_ERRORS = 3
"""The first says where, the next ones why."""
_POLL_SECONDS = 0.02


def run_workflow(
    workflow: cwl.Workflow,
    parameters: Mapping[str, Any],
    run_dir: Path,
    *,
    runner: str = "process",
    cores: int | None = None,
    verbose: bool = False,
) -> dict[str, Any]:
    """Run it to its end and return its outputs by name, files as CWL's objects with local paths.

    `parameters` are JSON values by input name, locations of files absolute local paths. `run_dir` is
    made, or must be empty. No more tasks run at a time than their `coresMin` sums up to `cores`
    (default: the cores this process may use); a task that asks for more gets all.

    Raises WorkflowFailed, TakedaError for a document that is wrong or where there is no `docker` for
    the runner of that name, KeyboardInterrupt when a signal ended it; its tasks are ended by then.
    """
    cwl.require()
    from cwltool.errors import UnsupportedRequirement, WorkflowException
    from schema_salad.exceptions import SchemaSaladException

    if runner == "docker" and shutil.which("docker") is None:
        raise TakedaError(
            "there is no `docker` on the PATH: leave out `--runner docker` to run tasks as local "
            "processes"
        )
    run_dir.mkdir(parents=True, exist_ok=True)
    tasks = _Tasks(run_dir)
    with _logging(run_dir / LOG, tasks, verbose), _interruptible(tasks):
        try:
            tool, _ = cwl.load_tool(workflow.path, workflow.fragment, _maker(tasks))
            found, status = _execute(tool, parameters, run_dir, runner, cores)
        except (WorkflowException, UnsupportedRequirement, SchemaSaladException) as error:
            raise tasks.failure(workflow, str(error)) from error
    if status != "success" or found is None:
        raise tasks.failure(workflow, f"cwltool ended it as {status}")
    return {str(name): _with_paths(value) for name, value in found.items()}


def _execute(
    tool: Any, parameters: Mapping[str, Any], run_dir: Path, runner: str, cores: int | None
) -> tuple[Mapping[str, Any] | None, str]:
    from cwltool.context import RuntimeContext
    from cwltool.process import add_sizes
    from cwltool.stdfsaccess import StdFsAccess
    from cwltool.utils import visit_class

    class Files(StdFsAccess):
        """Keeps links: the run's directory may be seen by one, for its plain path."""

        def realpath(self, path: str) -> str:
            return str(Path(path).absolute())

    scratch = run_dir / "tmp"
    scratch.mkdir()
    context = RuntimeContext(
        {
            "basedir": str(run_dir),
            "outdir": str(run_dir / OUTPUTS),
            "tmpdir_prefix": f"{scratch}/t",
            "tmp_outdir_prefix": f"{scratch}/o",
            "make_fs_access": Files,
            "use_container": runner == "docker",
            "compute_checksum": False,
            # What tasks write to their streams, and to no file of their own, is in their records.
            "default_stdout": _Nowhere(),
            "default_stderr": _Nowhere(),
        }
    )
    executor = _executor(cores or 0)
    # The last outputs are moved, not copied, from below directories that begin with one of these.
    executor.output_dirs.add(f"{scratch.resolve()}/o")
    context.select_resources = _resources(executor.max_cores)
    job = {name: _with_uris(value) for name, value in parameters.items()}
    visit_class(job, ("File",), lambda one: add_sizes(StdFsAccess(""), one))
    outputs, status = executor.execute(tool, job, context)
    return outputs, str(status)


def _executor(cores: int) -> Any:
    from cwltool.executors import MultithreadedJobExecutor

    class Executor(MultithreadedJobExecutor):
        def wait_for_next_completion(self, runtime_context: Any) -> None:
            # A task tells of its end before it counts as ended, so that cwltool waits for nothing.
            runtime_context.workflow_eval_lock.wait(timeout=_POLL_SECONDS)
            if self.exceptions:
                # Other tasks need the lock to end, and are waited for.
                runtime_context.workflow_eval_lock.release()
                raise self.exceptions[0]

    executor = Executor(cores)
    # Memory that a task asks for is what it needs in the cloud, not here.
    executor.max_ram = 1 << 40
    return executor


def _resources(cores: float) -> Callable[[Mapping[str, float], Any], dict[str, float]]:
    """What a task gets; one that asks for more cores than there are gets all."""

    def select(asked: Mapping[str, float], _: Any) -> dict[str, float]:
        return {
            "cores": min(asked["coresMin"], cores),
            "ram": math.ceil(asked["ramMin"]),
            "tmpdirSize": math.ceil(asked["tmpdirMin"]),
            "outdirSize": math.ceil(asked["outdirMin"]),
        }

    return select


class _Nowhere:
    """A stream for `subprocess`, which cwltool does not close."""

    def __init__(self) -> None:
        self._stream = Path(os.devnull).open("wb")  # noqa: SIM115

    def fileno(self) -> int:
        return self._stream.fileno()


class _Tasks:
    """The tasks of a run: their records, and an end for all of them."""

    def __init__(self, run_dir: Path) -> None:
        self.ended = False
        self._run_dir = run_dir
        self._lock = threading.Lock()
        self._processes: list[subprocess.Popen[str]] = []
        self.errors: list[str] = []
        """What cwltool has logged of errors."""

    def begin(self, job: Any) -> Path:
        """Make the folder of a task, with what it asks for."""
        word = re.sub(r"[^\w.-]+", "_", str(job.name))
        with self._lock:
            folder = self._run_dir / f"call-{word}"
            number = 1
            while folder.exists():
                number += 1
                folder = self._run_dir / f"call-{word}-{number}"
            folder.mkdir()
        resources = job.get_requirement("ResourceRequirement")[0] or {}
        image = (job.get_requirement("DockerRequirement")[0] or {}).get("dockerPull")
        cuda = job.get_requirement("http://commonwl.org/cwltool#CUDARequirement")[0]
        given = job.builder.resources
        record = {
            "name": folder.name,
            "cpus": math.ceil(_number(resources.get("coresMin"), given["cores"])),
            "memory_bytes": math.ceil(_number(resources.get("ramMin"), given["ram"])) << 20,
            "created": time.time(),
            "started": time.time(),
            **({"image": image} if isinstance(image, str) else {}),
            **({"gpus": math.ceil(_number(cuda.get("cudaDeviceCountMin"), 1))} if cuda else {}),
        }
        (folder / TASK_RECORD).write_text(json.dumps(record))
        return folder

    def watch(self, process: subprocess.Popen[str]) -> None:
        with self._lock:
            self._processes.append(process)
        if self.ended:
            self.end()

    def end(self) -> None:
        """Called by a signal, which may come while a thread has the lock."""
        self.ended = True
        for process in list(self._processes):
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()

    def failure(self, workflow: cwl.Workflow, message: str) -> BaseException:
        """The task that failed first, or what cwltool says."""
        if self.ended:
            return KeyboardInterrupt()
        failed = []
        for path in self._run_dir.glob(f"call-*/{TASK_RECORD}"):
            record = json.loads(path.read_text())
            if record.get("exit_code") and not record.get("cancelled"):
                failed.append((record["ended"], record["name"], record["exit_code"], path.parent))
        if failed:
            _, name, code, folder = min(failed)
            reason = f"the command failed with exit status {code}"
            tail = read_tail(folder / "stderr.txt")
            return WorkflowFailed(name.removeprefix("call-"), reason, code, tail)
        said = " ".join("; ".join(self.errors[:_MAX_ERRORS] or [message]).split())
        return WorkflowFailed(workflow.name, said.replace("file://", "")[:_MAX_MESSAGE])


def _number(asked: Any, given: float) -> float:
    """What a requirement says, where that is no expression."""
    return float(asked) if isinstance(asked, (int, float)) else float(given)


def _maker(tasks: _Tasks) -> Callable[[Any, Any], Any]:
    """What makes cwltool's objects of processes, with tasks that are recorded."""
    from cwltool.command_line_tool import CommandLineTool
    from cwltool.docker import DockerCommandLineJob
    from cwltool.job import CommandLineJob
    from cwltool.workflow import default_make_tool

    class Recorded:
        """A job of cwltool whose command runs below `cwl_task.py`."""

        def _execute(self, runtime: Any, env: Any, context: Any, monitor: Any = None) -> None:
            job: Any = self
            if tasks.ended:
                with context.workflow_eval_lock:
                    job.output_callback({}, "permanentFail")
                return
            folder = tasks.begin(job)
            spoken = ("o" if job.stdout else "") + ("e" if job.stderr else "")
            launcher = [*_LAUNCHER, str(folder), spoken or "-", *runtime]
            # By these the sandbox finds what a run has left behind.
            marks = {k: v for k, v in os.environ.items() if k.startswith("TAKEDA_SANDBOX_")}
            if os.path.realpath(job.outdir) != job.outdir:
                # Without it a shell would say where the links of its directory's path lead.
                marks["PWD"] = job.outdir

            def watch(process: subprocess.Popen[str]) -> None:
                tasks.watch(process)
                if runtime and monitor is not None:
                    monitor(process)

            with _allowance(folder, lambda: tasks.ended):
                super()._execute(launcher, {**env, **marks}, context, watch)  # type: ignore[misc]

    class ProcessJob(Recorded, CommandLineJob):
        pass

    class DockerJob(Recorded, DockerCommandLineJob):
        pass

    class Tool(CommandLineTool):
        def make_job_runner(self, context: Any) -> Any:
            # A container that is required is ignored, too, as it is with every language.
            if not context.use_container:
                return ProcessJob
            chosen = super().make_job_runner(context)
            return DockerJob if chosen is DockerCommandLineJob else ProcessJob

    def make(found: Any, context: Any) -> Any:
        if found.get("class") == "CommandLineTool":
            return Tool(found, context)
        return default_make_tool(found, context)

    return make


@contextlib.contextmanager
def _allowance(folder: Path, stop: Callable[[], bool]) -> Iterator[None]:
    """What a run group of the sandbox has left, where the run is in one."""
    if GROUP_VARIABLE not in os.environ:
        yield
        return
    from WDL.runtime.error import Terminated

    from snakemake_executor_takeda.sandbox.wdl_allowance import Allowance

    record = json.loads((folder / TASK_RECORD).read_text())
    taken = Allowance.of_environment().taken(record["cpus"], record.get("gpus", 0), stop)
    with contextlib.suppress(Terminated), taken:
        yield


@contextlib.contextmanager
def _interruptible(tasks: _Tasks) -> Iterator[None]:
    """A signal ends the tasks; cwltool then ends by itself, and KeyboardInterrupt follows."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {one: signal.signal(one, lambda *_: tasks.end()) for one in _SIGNALS}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextlib.contextmanager
def _logging(path: Path, tasks: _Tasks, verbose: bool) -> Iterator[None]:
    """cwltool's log goes to a file and, if asked for, to standard error."""
    import cwltool.loghandler

    class Errors(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said = record.getMessage()
            error = record.exc_info[1] if record.exc_info else None
            if said == "Unexpected exception" and error is not None:
                said = str(error)
            if not any(said in one for one in tasks.errors):
                tasks.errors[:] = [*(one for one in tasks.errors if one not in said), said]

    errors = Errors(logging.ERROR)
    handlers: list[logging.Handler] = [logging.FileHandler(path), errors]
    if verbose:
        handlers.append(logging.StreamHandler(sys.stderr))
    loggers = [logging.getLogger(name) for name in ("cwltool", "salad", "cwl_utils")]
    before = [(one, one.level, list(one.handlers), one.propagate) for one in loggers]
    for one in loggers:
        one.setLevel(logging.INFO)
        one.handlers, one.propagate = list(handlers), False
    cwltool.loghandler.defaultStreamHandler.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for one, level, had, propagate in before:
            one.setLevel(level)
            one.handlers, one.propagate = had, propagate
        for handler in handlers:
            handler.close()


def _with_uris(value: Any) -> Any:
    """Absolute paths of files as the URIs that cwltool takes."""
    if isinstance(value, Mapping):
        found = {str(name): _with_uris(one) for name, one in value.items()}
        if value.get("class") in ("File", "Directory") and "location" in value:
            found["location"] = Path(value["location"]).as_uri()
        return found
    return [_with_uris(one) for one in value] if isinstance(value, list) else value


def _with_paths(value: Any) -> Any:
    """cwltool's URIs as paths, and of each file what HealthOmics tells of it."""
    if isinstance(value, Mapping):
        kept: Mapping[Any, Any] = value
        if value.get("class") in ("File", "Directory"):
            words = ("class", "location", "basename", "size", "secondaryFiles")
            kept = {name: value[name] for name in words if name in value}
        found = {str(name): _with_paths(one) for name, one in kept.items()}
        if value.get("class") in ("File", "Directory"):
            place = cwl.local_path(str(value["location"])) or Path(str(value["location"]))
            found["location"] = str(place)
            if value["class"] == "File" and place.is_file():
                found["size"] = place.stat().st_size
        return found
    return [_with_paths(one) for one in value] if isinstance(value, list) else value
