"""A submission → the options of sbatch: what its rule asks, then what its target says. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.slurm.extra import split_extra
from snakemake_executor_takeda.values import FailureKind

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.slurm.options import SlurmOptions
    from snakemake_executor_takeda.values import Shape, Submission

# Option of sbatch ← resource of a rule; the target's word of the same name where a rule is silent.
_WORDS = {
    "partition": "slurm_partition",
    "account": "slurm_account",
    "qos": "qos",
    "constraint": "constraint",
    "reservation": "reservation",
}
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


def sbatch_options(
    submission: Submission, options: SlurmOptions, workdir: Path, log_dir: Path
) -> list[str]:
    """All options of one sbatch call. Raises SubmissionError for a resource that can't be used."""
    job = submission.tasks[0].job
    is_array = len(submission.tasks) > 1
    # Slurm replaces % in the names of logs.
    log = str(log_dir).replace("%", "%%") + ("/%a.log" if is_array else "/0.log")
    result = [
        "--parsable",
        f"--job-name={submission.name}",
        f"--chdir={workdir}",
        f"--output={log}",
        "--no-requeue",
    ]
    if is_array:
        result.append(f"--array=0-{len(submission.tasks) - 1}")
    for option, resource in _WORDS.items():
        value = _word(job.resources, resource, job.rule) or getattr(options, option)
        if value:
            result.append(f"--{option}={value}")
    result += _size(job.shape, job.resources, job.rule)
    result += options.extra
    # Last, so that a rule's own words win.
    try:
        result += split_extra(_word(job.resources, "slurm_extra", job.rule) or "")
    except ValueError as error:
        raise _unusable(job.rule, "slurm_extra", str(error)) from None
    return result


def partitions_of(options: SlurmOptions) -> list[str]:
    """The partitions that a target names: Slurm takes several, separated by commas."""
    return [name.strip() for name in (options.partition or "").split(",") if name.strip()]


def log_path(log_dir: Path, index: int) -> Path:
    """Where sbatch_options tells Slurm to write a task's log."""
    return log_dir / f"{index}.log"


def _size(shape: Shape, resources: Mapping[str, int | float | str], rule: str) -> list[str]:
    if shape.mpi or shape.nodes > 1 or shape.tasks > 1:
        result = [f"--ntasks={shape.tasks}"]
        if "nodes" in resources:
            result.append(f"--nodes={shape.nodes}")
        if shape.tasks_per_node:
            result.append(f"--ntasks-per-node={shape.tasks_per_node}")
    else:
        result = ["--nodes=1", "--ntasks=1"]
    result.append(f"--cpus-per-task={shape.cpus}")
    if "mem_mb_per_cpu" in resources:
        per_cpu = _word(resources, "mem_mb_per_cpu", rule)
        if per_cpu is None or not re.fullmatch(r"[0-9]+", per_cpu):
            raise _unusable(rule, "mem_mb_per_cpu", f"{per_cpu!r} is not a whole number")
        result.append(f"--mem-per-cpu={per_cpu}M")
    elif shape.mem_mb:
        # Slurm's M is 1024² bytes: never less than what was asked for.
        result.append(f"--mem={shape.mem_mb}M")
    if shape.runtime_min:
        result.append(f"--time={shape.runtime_min}")
    gres = _word(resources, "gres", rule)
    if gres and shape.gpus and "gpu" in gres:
        raise _unusable(rule, "gres", f"{gres!r} and gpu={shape.gpus} both ask for GPUs; set one")
    if gres:
        result.append(f"--gres={gres}")
    if shape.gpus:
        model = f"{shape.gpu_model}:" if shape.gpu_model else ""
        if _UNPRINTABLE.search(model) or re.search(r"[\s,=]", model):
            raise _unusable(rule, "gpu_model", f"{shape.gpu_model!r} is no name of a GPU")
        result.append(f"--gpus={model}{shape.gpus}")
    return result


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
