"""A submission → what is asked of Slurm (`JobRequest`) → the options of sbatch. Pure.

A rule's own words come before its target's; `slurm_extra` comes last of all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.slurm.cluster import read_gres
from snakemake_executor_takeda.backends.slurm.extra import split_extra
from snakemake_executor_takeda.backends.slurm.names import checked_names
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
_ONE_GRES = r"[A-Za-z0-9_]+(?::[A-Za-z0-9_.-]+)?(?::[0-9]+[KMGT]?)?"
_GRES = re.compile(rf"{_ONE_GRES}(?:,{_ONE_GRES})*")
_GPU_MODEL = re.compile(r"[A-Za-z0-9_.-]+")

Resources = Mapping[str, int | float | str]


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
        field: _named(job.resources, resource, job.rule) or getattr(options, word)
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
        **_ranks(job.shape, job.resources, job.rule),
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


def _ranks(shape: Shape, resources: Resources, rule: str) -> dict[str, Any]:
    gpus = _gpus(shape, resources)
    per_gpu = _whole(resources, "tasks_per_gpu", rule)
    tasks = per_gpu * gpus if per_gpu and gpus else shape.tasks
    if shape.mpi or shape.nodes > 1 or tasks > 1:
        ranks = {
            "nodes": shape.nodes if "nodes" in resources else None,
            "ntasks": tasks,
            "tasks_per_node": shape.tasks_per_node or None,
        }
    else:
        ranks = {"nodes": 1, "ntasks": 1}
    return {**ranks, "cpus_per_task": _cpus(shape, resources, rule, gpus, tasks)}


def _cpus(shape: Shape, resources: Resources, rule: str, gpus: int, tasks: int) -> int | None:
    """Of each rank. A number below 0, or 0 for each GPU, asks for none: some sites want no such word."""
    per_task = _whole(resources, "cpus_per_task", rule)
    if per_task:
        return shape.cpus if per_task > 0 else None
    per_gpu = _whole(resources, "cpus_per_gpu", rule)
    if per_gpu is None or not gpus:
        return shape.cpus
    return -(-per_gpu * gpus // tasks) if per_gpu > 0 else None


def _gpus(shape: Shape, resources: Resources) -> int:
    """Of the whole job: a model alone asks for one; in `gres` they may be asked for, too."""
    gres = str(resources.get("gres") or "")
    if shape.gpus or not gres:
        has_number = any(name in resources for name in ("gpu", "gpus", "_gpus"))
        return shape.gpus or int(bool(shape.gpu_model) and not has_number)
    each = sum(one.count for one in read_gres(gres.split(",")) if one.kind == "gpu")
    return shape.nodes * each


def _size(shape: Shape, resources: Resources, rule: str) -> dict[str, Any]:
    result: dict[str, Any] = {"runtime_min": shape.runtime_min or None}
    per_cpu = _whole(resources, "mem_mb_per_cpu", rule)
    if per_cpu is not None and per_cpu < 1:
        raise _unusable(rule, "mem_mb_per_cpu", f"{per_cpu} is no amount of memory")
    if per_cpu is not None:
        result["mem_mb_per_cpu"] = per_cpu
    else:
        # Slurm's M is 1024² bytes: never less than what was asked for.
        result["mem_mb"] = shape.mem_mb or None
    gres = result["gres"] = _word(resources, "gres", rule)
    if gres and not _GRES.fullmatch(gres):
        why = "it is no <name>, <name>:<number> or <name>:<model>:<number>, or several with commas"
        raise _unusable(rule, "gres", f"{gres!r}: {why}")
    if gres and shape.gpus and "gpu" in gres:
        raise _unusable(rule, "gres", f"{gres!r} and gpu={shape.gpus} both ask for GPUs; set one")
    model = shape.gpu_model
    if model and not _GPU_MODEL.fullmatch(model):
        raise _unusable(rule, "gpu_model", f"{model!r} is no name of a GPU")
    if not gres or "gpu" not in gres:
        gpus = _gpus(shape, {name: value for name, value in resources.items() if name != "gres"})
        result |= {"gpus": gpus, "gpu_model": model if gpus else None}
    return result


def _whole(resources: Resources, name: str, rule: str) -> int | None:
    value = _word(resources, name, rule)
    if value is None:
        return None
    if not re.fullmatch(r"-?[0-9]{1,15}", value):
        raise _unusable(rule, name, f"{value!r} is not a whole number")
    return int(value)


def _megabytes(amount: int | None) -> str | None:
    return None if amount is None else f"{amount}M"


def _word(resources: Resources, name: str, rule: str) -> str | None:
    value = resources.get(name)
    if value is None or value == "":
        return None
    if _UNPRINTABLE.search(str(value)):
        raise _unusable(rule, name, f"{value!r} holds a control character")
    return str(value)


def _named(resources: Resources, name: str, rule: str) -> str | None:
    """Like `_word`; a constraint has operators, the others are names."""
    value = _word(resources, name, rule)
    if value and name != "constraint":
        try:
            checked_names(value)
        except ValueError as error:
            raise _unusable(rule, name, f"{value!r}: {error}") from None
    return value


def _unusable(rule: str, resource: str, why: str) -> SubmissionError:
    return SubmissionError(
        FailureKind.CONFIGURATION,
        f"resource {resource} of rule {rule}: {why}",
        f"Change `{resource}` in the rule's resources.",
    )
