"""Run a WDL workflow on this machine with miniwdl, in this process's main thread."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.healthomics.wdl import Workflow

RUNNERS = {"process": "takeda_process", "docker": "docker_swarm"}
"""What runs the tasks → the name of miniwdl's container backend."""

LOG_TAIL_LINES = 20

TASK_RECORD = "task.json"
"""What the process runner writes into a task's directory at its start and end: name, image, cpus,
gpus, accelerator, memory_bytes, created and started, and then ended (epoch seconds), exit_code,
cancelled, cpu_seconds and peak_bytes (of the largest process)."""

GROUP_VARIABLE = "TAKEDA_SANDBOX_OMICS_GROUP"
"""Names a folder, in the environment of runs whose tasks share an allowance. `GROUP_LIMITS` there holds
maxCpus and maxGpus, as they are now; every other `.json` is a task that goes on."""
GROUP_LIMITS = "limits.json"


class WorkflowFailed(Exception):
    """A run that did not succeed: which task, why, and the last lines it wrote."""

    def __init__(
        self, task: str, reason: str, exit_code: int | None = None, log_tail: tuple[str, ...] = ()
    ) -> None:
        super().__init__(f"{task}: {reason}" if task else reason)
        self.task = task
        self.reason = reason
        self.exit_code = exit_code
        self.log_tail = log_tail


def run_workflow(
    workflow: Workflow,
    parameters: Mapping[str, Any],
    run_dir: Path,
    *,
    runner: str = "process",
    cores: int | None = None,
    verbose: bool = False,
    cache: Callable[[Any, Any], Any] | None = None,
) -> dict[str, Any]:
    """Run it to its end and return its outputs as JSON values, keyed `Workflow.output`.

    `parameters` are JSON values by input name, files as absolute local paths. `run_dir` is made, or
    must be empty; it holds all that miniwdl writes, and the output files. No more tasks run at a
    time than their `cpu` sums up to `cores` (default: the cores this process may use). `cache` makes
    miniwdl's call cache from its configuration and logger; without one nothing is cached.

    Raises WorkflowFailed, TakedaError for parameters that miniwdl refuses or a Docker engine that
    does not answer, KeyboardInterrupt when a signal ended it; its tasks are ended by then.
    """
    import WDL
    from WDL.runtime import config
    from WDL.runtime.error import RunFailed

    if runner == "docker":
        _prepare_docker()

    logger = _quiet_logger(verbose)
    # The process runner gives the same result for everybody: no one's own miniwdl.cfg applies.
    cfg = config.Loader(logger, filenames=[] if runner == "process" else None)
    cfg.override(
        {
            "scheduler": {
                "container_backend": RUNNERS[runner],
                "task_concurrency": cores or 0,
                # Tasks of a scatter are named by call and index, not by a digest of the item, too.
                "scatter_tag_max": 0,
            },
            "call_cache": {"get": False, "put": False},
            # between a signal and the end of the task's container lies one such period
            "docker_swarm": {"polling_period_seconds": 0.5},
        }
    )
    target = workflow.document.workflow
    try:
        inputs = WDL.values_from_json(
            dict(parameters), target.available_inputs, target.required_inputs
        )
    except WDL.Error.InputError as error:
        raise TakedaError(f"workflow {workflow.name}: {error}") from error
    run_dir.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"run_dir": f"{run_dir}/."}
    try:
        with contextlib.ExitStack() as cleanup:
            if cache is not None:
                options["_cache"] = cleanup.enter_context(cache(cfg, logger))
            _, outputs = WDL.runtime.run(cfg, target, inputs, **options)
    except RunFailed as error:
        raise _explain(error) from error
    result: dict[str, Any] = WDL.values_to_json(outputs, namespace=workflow.name)
    return result


def _prepare_docker() -> None:
    """Raises TakedaError where no engine answers. Says so where miniwdl will change its mode."""
    import docker  # type: ignore[import-untyped]
    from WDL.runtime.backend.docker_swarm import SwarmContainer

    # Without one, the shell is process 1 and does not hear a stop: it would live ten seconds longer.
    SwarmContainer.create_service_kwargs = {"init": True}

    # miniwdl asks the Docker SDK, which knows no `docker context`: so does this check
    try:
        client = docker.from_env(version="auto")
        try:
            swarm = client.info().get("Swarm", {}).get("LocalNodeState")
        finally:
            client.close()
    except (docker.errors.DockerException, OSError) as error:
        said = " ".join(str(error).split())
        raise TakedaError(
            f"the Docker engine does not answer ({said}): start it, set DOCKER_HOST to its socket, "
            "or leave out `--runner docker` to run tasks as local processes"
        ) from None
    if swarm == "inactive":
        print(
            "note: miniwdl turns on the Docker engine's swarm mode on 127.0.0.1; "
            "`docker swarm leave --force` turns it off again",
            file=sys.stderr,
        )


def _explain(error: Any) -> BaseException:
    from WDL.runtime.error import CommandFailed, RunFailed, Terminated

    inner: BaseException = error
    task = ""
    while isinstance(inner, RunFailed):
        task = inner.run_id.removeprefix("call-")
        if inner.__cause__ is None:
            break
        inner = inner.__cause__
    if isinstance(inner, Terminated):
        return KeyboardInterrupt()
    if isinstance(inner, CommandFailed):
        reason = f"the command failed with exit status {inner.exit_status}"
        return WorkflowFailed(task, reason, inner.exit_status, read_tail(Path(inner.stderr_file)))
    refusal = getattr(inner, "explanation", None)  # of the Docker SDK's APIError
    if isinstance(refusal, str):
        return WorkflowFailed(task, f"the Docker engine refuses: {' '.join(refusal.split())}")
    pos = getattr(inner, "pos", None)
    place = f"{Path(pos.abspath).name}:{pos.line}: " if pos is not None else ""
    return WorkflowFailed(task, f"{place}{' '.join(str(inner).split()) or type(inner).__name__}")


def read_tail(path: Path, lines: int = LOG_TAIL_LINES) -> tuple[str, ...]:
    """The last lines of a text file, empty where there is none."""
    try:
        with path.open(errors="replace") as stream:
            return tuple(line.rstrip() for line in deque(stream, lines))
    except OSError:
        return ()


def _quiet_logger(verbose: bool) -> logging.Logger:
    """miniwdl logs below `wdl`; its records go to files in the run directory in any case."""
    logger = logging.getLogger("wdl")
    logger.propagate = False
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    if verbose:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s"))
        logger.addHandler(handler)
    else:
        logger.addHandler(logging.NullHandler())
    logger.setLevel(logging.INFO)
    return logger
