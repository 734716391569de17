"""A submission → what is asked of Slurm (`JobRequest`) → the options of sbatch. Pure.

A rule's own words come before its target's; `slurm_extra` comes last of all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.slurm.extra import split_extra
from snakemake_executor_takeda.backends.slurm.request import JobRequest
from snakemake_executor_takeda.values import FailureKind

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.slurm.options import SlurmOptions
    from snakemake_executor_takeda.values import Shape, Submission

# Field of the request ← resource of a rule, else this word of its target.
_WORDS = {
    "partition": ("slurm_partition", "named_partition"),
    "account": ("slurm_account", "account"),
    "qos": ("qos", "qos"),
    "constraint": ("constraint", "constraint"),
    "reservation": ("reservation", "reservation"),
}
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


def job_request(
    submission: Submission,
    options: SlurmOptions,
    workdir: Path,
    log_dir: Path,
    *,
    environment: Mapping[str, str] | None = None,
    exclude: Sequence[str] = (),
) -> JobRequest:
    """All that one submission asks for. Raises SubmissionError for a resource that can't be used.

    `exclude` are names of nodes that it may not run on.
    """
    job = submission.tasks[0].job
    count = len(submission.tasks)
    words: dict[str, Any] = {
        field: _word(job.resources, resource, job.rule) or getattr(options, word)
        for field, (resource, word) in _WORDS.items()
    }
    try:
        extra = split_extra(_word(job.resources, "slurm_extra", job.rule) or "")
    except ValueError as error:
        raise _unusable(job.rule, "slurm_extra", str(error)) from None
    return JobRequest(
        name=submission.name,
        workdir=str(workdir),
        # Slurm replaces % in the names of logs.
        log=str(log_dir).replace("%", "%%") + ("/%a.log" if count > 1 else "/0.log"),
        array_size=count if count > 1 else None,
        array_throttle=options.array_throttle if count > 1 else None,
        exclude=tuple(exclude),
        extra=(*options.extra, *extra),
        environment=dict(environment or {}),
        **words,
        **_ranks(job.shape, job.resources),
        **_size(job.shape, job.resources, job.rule),
    )


def sbatch_words(request: JobRequest) -> list[str]:
    """All options of one sbatch call."""
    array = None
    if request.array_size is not None:
        throttle = f"%{request.array_throttle}" if request.array_throttle else ""
        array = f"0-{request.array_size - 1}{throttle}"
    model = f"{request.gpu_model}:" if request.gpu_model else ""
    options: dict[str, object] = {
        "job-name": request.name,
        "chdir": request.workdir,
        "output": request.log,
        "array": array,
        "partition": request.partition,
        "account": request.account,
        "qos": request.qos,
        "constraint": request.constraint,
        "reservation": request.reservation,
        "exclude": ",".join(request.exclude),
        "nodes": request.nodes,
        "ntasks": request.ntasks,
        "ntasks-per-node": request.tasks_per_node,
        "cpus-per-task": request.cpus_per_task,
        "mem-per-cpu": _megabytes(request.mem_mb_per_cpu),
        "mem": _megabytes(request.mem_mb),
        "time": request.runtime_min,
        "gres": request.gres,
        "gpus": f"{model}{request.gpus}" if request.gpus else None,
    }
    return [
        "--parsable",
        "--requeue" if request.requeue else "--no-requeue",
        *(f"--{name}={value}" for name, value in options.items() if value not in (None, "")),
        *request.extra,
    ]


def log_path(log_dir: Path, index: int) -> Path:
    """Where job_request tells Slurm to write a task's log."""
    return log_dir / f"{index}.log"


def _ranks(shape: Shape, resources: Mapping[str, int | float | str]) -> dict[str, Any]:
    if not (shape.mpi or shape.nodes > 1 or shape.tasks > 1):
        return {"nodes": 1, "ntasks": 1, "cpus_per_task": shape.cpus}
    return {
        "nodes": shape.nodes if "nodes" in resources else None,
        "ntasks": shape.tasks,
        "tasks_per_node": shape.tasks_per_node or None,
        "cpus_per_task": shape.cpus,
    }


def _size(shape: Shape, resources: Mapping[str, int | float | str], rule: str) -> dict[str, Any]:
    result: dict[str, Any] = {"runtime_min": shape.runtime_min or None}
    if "mem_mb_per_cpu" in resources:
        per_cpu = _word(resources, "mem_mb_per_cpu", rule)
        if per_cpu is None or not re.fullmatch(r"[0-9]+", per_cpu):
            raise _unusable(rule, "mem_mb_per_cpu", f"{per_cpu!r} is not a whole number")
        result["mem_mb_per_cpu"] = int(per_cpu)
    else:
        # Slurm's M is 1024² bytes: never less than what was asked for.
        result["mem_mb"] = shape.mem_mb or None
    gres = result["gres"] = _word(resources, "gres", rule)
    if gres and shape.gpus and "gpu" in gres:
        raise _unusable(rule, "gres", f"{gres!r} and gpu={shape.gpus} both ask for GPUs; set one")
    if shape.gpus:
        model = shape.gpu_model or ""
        if _UNPRINTABLE.search(model) or re.search(r"[\s,=]", model):
            raise _unusable(rule, "gpu_model", f"{shape.gpu_model!r} is no name of a GPU")
        result |= {"gpus": shape.gpus, "gpu_model": shape.gpu_model}
    return result


def _megabytes(amount: int | None) -> str | None:
    return None if amount is None else f"{amount}M"


def _word(resources: Mapping[str, int | float | str], name: str, rule: str) -> str | None:
    value = resources.get(name)
    if value is None or value == "":
        return None
    if _UNPRINTABLE.search(str(value)):
        raise _unusable(rule, name, f"{value!r} holds a control character")
    return str(value)


def _unusable(rule: str, resource: str, why: str) -> SubmissionError:
    return SubmissionError(
        FailureKind.CONFIGURATION,
        f"resource {resource} of rule {rule}: {why}",
        f"Change `{resource}` in the rule's resources.",
    )
