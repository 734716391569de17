"""The one adapter over Snakemake's job objects: a job in, a JobSpec out, nothing of Snakemake beyond."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from snakemake_executor_takeda.values import (
    ANY_LAUNCHER,
    File,
    JobSpec,
    NamedFiles,
    Shape,
    TakedaError,
)

# Snakemake's own bookkeeping, and values that only the node can know.
_NOT_RESOURCES = frozenset({"_cores", "_nodes", "_job_count", "tmpdir"})


def describe(job: Any, *, with_input_size: bool = False) -> JobSpec:
    """What routing and the backends need to know of a Snakemake job or group job.

    `with_input_size` sums the sizes of the inputs, which may cost a storage call each.
    Raises TakedaError naming the rule for a resource that cannot be used.
    """
    is_group = job.is_group()
    rules = tuple(sorted({str(rule) for rule in job.rules}))
    resources = _resources(job)
    wildcards = {} if is_group else {k: str(v) for k, v in job.wildcards_dict.items()}
    source_line = "" if is_group else _source_line(job.rule)
    name = str(job.groupid) if is_group else str(job.rule.name)
    handoff = bool(resources.get("handoff"))
    return JobSpec(
        job_id=str(job.jobid) if is_group else int(job.jobid),
        rule=name,
        wildcards=wildcards,
        attempt=int(job.attempt),
        shape=shape_of(resources, int(job.threads), where=f"rule {name} ({source_line})"),
        resources=resources,
        container=None if is_group else job.container_img_url,
        inputs=_named_files(job.input) if handoff and not is_group else (),
        outputs=_named_files(job.output) if not is_group else _positional(job.output),
        params=_named_params(job.params) if handoff and not is_group else {},
        benchmark=_file(job.benchmark) if not is_group and job.benchmark else None,
        input_bytes=_input_bytes(job) if with_input_size else None,
        source_line=source_line,
        is_group=is_group,
        rules=rules,
    )


def shape_of(resources: Mapping[str, int | float | str], threads: int, where: str) -> Shape:
    """The shape that resources ask for. `gpus` and `_gpus` are spellings of `gpu` that pipelines use."""

    def number(*names: str) -> int | None:
        for name in names:
            value = resources.get(name)
            if value is None or value == "":
                continue
            try:
                return int(value)
            except ValueError:
                raise TakedaError(
                    f"{where}: resource {name}={value!r} is not a whole number."
                ) from None
        return None

    nodes, tasks = number("nodes"), number("tasks", "ntasks")
    tasks_per_node = number("tasks_per_node", "ntasks_per_node")
    for name, value in (("nodes", nodes), ("tasks", tasks), ("tasks_per_node", tasks_per_node)):
        if value is not None and value < 1:
            raise TakedaError(f"{where}: resource {name}={value} must be at least 1.")
    if tasks is None:
        tasks = (nodes or 1) * (tasks_per_node or 1)
    return Shape(
        # Less than 0 tells Slurm's plugins to ask for no CPUs: the cluster gives what it gives.
        cpus=max(1, number("cpus_per_task") or threads),
        mem_mb=number("mem_mb"),
        disk_mb=number("disk_mb"),
        gpus=number("gpu", "gpus", "_gpus") or 0,
        gpu_model=_text(resources.get("gpu_model")),
        runtime_min=number("runtime"),
        nodes=nodes or 1,
        tasks=tasks,
        tasks_per_node=tasks_per_node,
        mpi=_launcher(resources.get("mpi")),
    )


def job_name(run_id: str, rule: str, number: int) -> str:
    """A name that Batch, Slurm and HealthOmics all accept, whatever the rule is called."""
    safe = re.sub(r"[^A-Za-z0-9_-]+", "_", rule)[:40].strip("_-") or "job"
    return f"takeda-{safe}-{run_id}-{number}"


def products(job: JobSpec) -> Iterator[File]:
    """All that has to be there when a job has succeeded."""
    for group in job.outputs:
        yield from group.files
    if job.benchmark:
        yield job.benchmark


def look_again_at_directories(job: Any, dag: Any) -> None:
    """Make Snakemake ask S3 anew whether a job's directory() outputs are there.

    snakemake-storage-plugin-s3 (0.3.6) remembers in each storage object, as `_is_dir`, that a
    directory was absent when the DAG was built, and never looks again: where another machine makes
    the directory, the whole run ends with "missing in storage".
    """
    members = job.jobs if job.is_group() else [job]
    for member in members:
        made = {str(f) for f in member.output if f.is_directory}
        if not made:
            continue
        for reader in (member, *dag.depending.get(member, ())):
            for f in (*reader.output, *reader.input):
                if str(f) in made and getattr(f, "is_storage", False):
                    f.storage_object._is_dir = None


def _source_line(rule: Any) -> str:
    """`Snakefile:12`. Snakemake counts in the Python that it made of the file; linemaps lead back."""
    lines = rule.workflow.linemaps.get(rule.snakefile, {})
    return f"{rule.snakefile}:{lines.get(rule.lineno, rule.lineno)}"


def _resources(job: Any) -> dict[str, int | float | str]:
    return {
        name: value
        for name, value in job.resources.items()
        # A resource that depends on a file not there yet is a TBDString, a subclass of str.
        if name not in _NOT_RESOURCES and type(value) in (int, float, str, bool)
    }


def _text(value: object) -> str | None:
    return str(value) if value not in (None, "") else None


def _launcher(value: object) -> str | None:
    """`mpi=True` and the like leave the choice to the target; `mpi=False` is as good as none."""
    word = str(value).strip().lower()
    if value is None or word in ("", "0", "false", "no", "off", "none"):
        return None
    return ANY_LAUNCHER if word in ("1", "true", "yes", "on", "default") else str(value)


def _file(f: Any) -> File:
    uri = f.storage_object.query if getattr(f, "is_storage", False) else None
    return File(path=str(f), uri=uri, is_directory=bool(getattr(f, "is_directory", False)))


def _positional(values: Iterable[Any]) -> tuple[NamedFiles, ...]:
    return tuple(NamedFiles(name=None, files=(_file(f),), is_list=False) for f in values)


def _named_files(values: Any) -> tuple[NamedFiles, ...]:
    """Snakemake's Namedlist keeps a range of positions for each name; the rest is positional."""
    ranges = sorted(values._get_names(), key=lambda item: item[1][0])
    named: list[NamedFiles] = []
    position = 0
    for name, (start, end) in ranges:
        named.extend(_positional(values[position:start]))
        stop = start + 1 if end is None else end
        members = tuple(_file(f) for f in values[start:stop])
        named.append(NamedFiles(name=name, files=members, is_list=end is not None))
        position = stop
    named.extend(_positional(values[position:]))
    return tuple(named)


def _named_params(params: Any) -> dict[str, Any]:
    return {str(name): value for name, value in params.items()}


def _input_bytes(job: Any) -> int | None:
    try:
        return int(job.input.size)
    except (AttributeError, OSError):
        return None
