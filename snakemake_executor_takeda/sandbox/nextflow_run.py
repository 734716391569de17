"""Run a Nextflow pipeline on this machine with the `nextflow` on PATH.

No Nextflow was to be had where this was written: the command line, the params file and the added config
are tested with a stand-in, by contract.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from snakemake_executor_takeda.sandbox.omics.nextflow import TRACE, TRACE_FIELDS, found_tasks
from snakemake_executor_takeda.sandbox.wdl_run import WorkflowFailed, read_tail
from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.healthomics.nextflow_pipeline import Pipeline

EXPORTS: Final = "pubdir"
"""Below the run's directory; stands for what HealthOmics exports."""
_CONFIG, _PARAMS, _LOG = "takeda.config", "params.json", "nextflow.log"
_SAID = "nextflow.out"
_STOP_PATIENCE_SECONDS = 60
_NO_VERSION_CHECK = {"NXF_DISABLE_CHECK_LATEST": "true", "NXF_ANSI_LOG": "false"}


def run_pipeline(
    pipeline: Pipeline,
    parameters: Mapping[str, Any],
    run_dir: Path,
    *,
    runner: str = "process",
    cores: int | None = None,
    verbose: bool = False,
    profile: str | None = None,
) -> dict[str, str]:
    """Run it to its end; gives the absolute path of each file that it published, by its path below
    the export directory.

    Parameters that begin with HealthOmics' export directory lead to one below `run_dir`, which is
    made, or must be empty. Raises WorkflowFailed, TakedaError where there is no `nextflow`,
    KeyboardInterrupt when a signal ended it; Nextflow has ended its tasks by then.
    """
    if shutil.which("nextflow") is None:
        raise TakedaError(
            f"{pipeline.root / pipeline.main} is run by `nextflow`, which is not on PATH: install Nextflow "
            "(it needs Java), or hand the rule off to HealthOmics"
        )
    run_dir.mkdir(parents=True, exist_ok=True)
    exports = run_dir / EXPORTS
    exports.mkdir()
    (run_dir / _PARAMS).write_text(json.dumps(_local(parameters, str(exports)), indent=2))
    (run_dir / _CONFIG).write_text(config(pipeline, run_dir, runner=runner, cores=cores))
    parser = {"NXF_SYNTAX_PARSER": "v2"} if pipeline.is_strict else {}
    code = _run(command(pipeline, run_dir, profile), run_dir, verbose, parser)
    if code:
        raise _failure(run_dir, code)
    return {
        (Path(folder) / name).relative_to(exports).as_posix(): str(Path(folder) / name)
        for folder, _, names in os.walk(exports, followlinks=True)
        for name in sorted(names)
    }


def command(pipeline: Pipeline, run_dir: Path, profile: str | None) -> list[str]:
    """The command line; params and config lie in the run's directory."""
    outputs = ("-output-dir", str(run_dir / EXPORTS))
    return [
        *("nextflow", "-log", str(run_dir / _LOG), "run", str(pipeline.root / pipeline.main)),
        *("-c", str(run_dir / _CONFIG), "-params-file", str(run_dir / _PARAMS)),
        *("-work-dir", str(run_dir / "work"), "-ansi-log", "false"),
        *(outputs if pipeline.publishing.has_output_block else ()),
        *(("-profile", profile) if profile else ()),
    ]


def config(pipeline: Pipeline, run_dir: Path, *, runner: str, cores: int | None) -> str:
    """What is added to the pipeline's own: the trace, the export directory, the cores."""
    lines = [
        "trace {",
        "    enabled = true",
        "    overwrite = true",
        "    raw = true",
        f"    file = {_quoted(str(run_dir / TRACE))}",
        f"    fields = '{TRACE_FIELDS}'",
        "}",
    ]
    if cores is not None:
        lines.append(f"executor.cpus = {cores}")
    if runner == "docker":
        lines.append("docker.enabled = true")
    return "\n".join([*lines, pipeline.publishing.config(str(run_dir / EXPORTS))])


def _local(value: Any, exports: str) -> Any:
    from snakemake_executor_takeda.backends.healthomics.nextflow_publishing import EXPORTED

    if isinstance(value, str):
        for one in EXPORTED:
            if value == one or value.startswith(f"{one}/"):
                return exports + value.removeprefix(one)
        return value
    if isinstance(value, list):
        return [_local(one, exports) for one in value]
    if isinstance(value, Mapping):
        return {name: _local(one, exports) for name, one in value.items()}
    return value


def _run(argv: list[str], run_dir: Path, verbose: bool, more: Mapping[str, str]) -> int:
    """Its exit status. What it prints goes to a file, and to standard error where asked for."""
    # Tasks see no AWS variable, as they would see none in a container.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    with (run_dir / _SAID).open("w") as said:
        process = subprocess.Popen(
            argv,
            cwd=run_dir,
            env={**more, **environment, **_NO_VERSION_CHECK},
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr if verbose else said,
            stderr=sys.stderr if verbose else subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return process.wait()
        except BaseException:
            _stop(process)
            raise


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Nextflow ends its tasks when it is told to end; what is left after that is killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(_STOP_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            continue


def _failure(run_dir: Path, code: int) -> WorkflowFailed:
    for _, task in found_tasks(run_dir):
        if task.get("exit_code") and not task.get("cancelled"):
            tail = read_tail(Path(str(task.get("workdir")), ".command.err"))
            reason = f"the command failed with exit status {task['exit_code']}"
            return WorkflowFailed(task["name"], reason, task["exit_code"], tail)
    tail = read_tail(run_dir / _SAID) or read_tail(run_dir / _LOG)
    return WorkflowFailed("", f"nextflow ended with exit status {code}", None, tail)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
