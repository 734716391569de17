"""The one adapter over Snakemake's job objects: a job in, a JobSpec out, nothing of Snakemake beyond."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from snakemake_executor_takeda.fingerprints import Fingerprints, identity
from snakemake_executor_takeda.values import (
    ANY_LAUNCHER,
    UNKNOWN,
    File,
    JobSpec,
    NamedFiles,
    Shape,
    TakedaError,
)

# Snakemake's own bookkeeping, and values that only the node can know.
_NOT_RESOURCES = frozenset({"_cores", "_nodes", "_job_count", "tmpdir"})
_SHARED_IN_A_GROUP = ("nodes", "tasks_per_node", "ntasks_per_node", "cpus_per_gpu", "tasks_per_gpu")
"""Snakemake adds these up over a group's members, which run side by side in one allocation."""
_RANKS = ("tasks", "ntasks")
_PER_CPU = "mem_mb_per_cpu"


def describe(
    job: Any, *, with_input_size: bool = False, fingerprints: Fingerprints | None = None
) -> JobSpec:
    """What routing and the backends need to know of a Snakemake job or group job.

    `with_input_size` sums the sizes of the inputs, which may cost a storage call each.
    `fingerprints`, where given, tell it from others.
    Raises TakedaError naming the rule for a resource that cannot be used.
    """
    is_group = job.is_group()
    rules = tuple(sorted({str(rule) for rule in job.rules}))
    resources = _resources(job)
    wildcards = {} if is_group else {k: str(v) for k, v in job.wildcards_dict.items()}
    line = "" if is_group else source_line(job.rule)
    name = str(job.groupid) if is_group else str(job.rule.name)
    shape = shape_of(resources, int(job.threads), where=f"rule {name} ({line})")
    handoff = bool(resources.get("handoff"))
    spec = JobSpec(
        job_id=str(job.jobid) if is_group else int(job.jobid),
        rule=name,
        wildcards=wildcards,
        attempt=int(job.attempt),
        shape=_with_memory_of_cpus(shape, resources),
        resources=resources,
        container=None if is_group else job.container_img_url,
        inputs=_named_files(job.input) if handoff and not is_group else (),
        outputs=_named_files(job.output) if not is_group else _positional(job.output),
        params=_named_params(job.params) if handoff and not is_group else {},
        benchmark=_file(job.benchmark) if not is_group and job.benchmark else None,
        logs=tuple(_file(f) for f in job.log) if handoff and not is_group else (),
        input_bytes=_input_bytes(job) if with_input_size else None,
        source_line=line,
        is_group=is_group,
        rules=rules,
        fingerprint=fingerprints.of(job) if fingerprints else "",
    )
    return replace(spec, identity=identity(spec, map(str, job.input))) if fingerprints else spec


def newest_input(job: Any, workflow: Any) -> float | None:
    """Unix time at which the youngest input of a job was written; None where that cannot be told. Asks the
    storage where Snakemake has not done so."""

    async def times() -> list[float]:
        found = []
        for f in job.input:
            try:
                written = (await f.mtime()).local_or_storage()
            except Exception:  # noqa: BLE001, S112 - of one that is gone, as temp() files are
                continue
            if written is not None:
                found.append(float(written))
        return found

    return max(workflow.async_run(times()), default=None)


def is_complete_but_marked(job: Any, workflow: Any) -> bool:
    """Whether all outputs of a job are there, and one of Snakemake's marks of a job that did not finish, too:
    it takes them away one by one. Of a job without outputs nothing can be there: it counts as complete."""
    members = job.jobs if job.is_group() else [job]

    async def look() -> bool:
        made = [f for member in members for f in member.output]
        marked = [f for member in members for f in await workflow.persistence.incomplete(member)]
        return not made or (bool(marked) and all([await f.exists() for f in made]))

    return bool(workflow.async_run(look()))


def look_at_all_marks(workflow: Any) -> None:
    """Have Snakemake make again what a controller that was killed left marked behind a checkpoint: it looks
    at the marks of the jobs that it knew before it came to the checkpoint (9.27).

    Raises TakedaError where the user has not said that incomplete files may be made again."""
    dag = workflow.dag

    async def look() -> None:
        known = [job for job in dag.jobs if not dag.needrun(job)]
        marked = [f for job in known for f in await workflow.persistence.incomplete(job)]
        if not marked:
            return
        if not workflow.dag_settings.force_incomplete:
            raise TakedaError(
                f"{marked[0]} and perhaps others may be incomplete, as the run that made them was "
                "ended: say the same command with --rerun-incomplete"
            )
        dag.forcefiles.update(marked)
        await dag.postprocess()

    workflow.async_run(look())


def take_marks_away(job: Any, workflow: Any) -> None:
    """Do what Snakemake does when it takes up a success, earlier and in no time: its own way (9.27) asks the
    storage before it comes to the marks."""
    persistence = workflow.persistence
    for member in job.jobs if job.is_group() else [job]:
        for f in member.output:
            persistence._unmark_incomplete(persistence._get_key(f))


def kept_here(job: Any) -> str | None:
    """Why Snakemake runs a job on this machine although an executor has the others, with the remedy;
    None for a job that no word of its rule keeps here."""
    if job.rule.name in job.rule.workflow._localrules:
        return "it is a local rule: leave it out of `localrules`, or `localrule` out of it"
    found = [str(f) for f in (*job.input, *job.output) if getattr(f, "flags", {}).get("local")]
    if not found:
        return None
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return f"{found[0]}{more} is marked `local()`: put the file in S3, or leave `local()` out"


def source_line(rule: Any) -> str:
    """`Snakefile:12`. Snakemake counts in the Python that it made of the file; linemaps lead back."""
    lines = rule.workflow.linemaps.get(rule.snakefile, {})
    return f"{rule.snakefile}:{lines.get(rule.lineno, rule.lineno)}"


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


def memory_per_cpu(resources: Mapping[str, int | float | str]) -> int | None:
    """`mem_mb_per_cpu`; None where it is not said, or is no amount."""
    text = str(resources.get(_PER_CPU, ""))
    return int(text) or None if text.isdecimal() else None


def job_name(run_id: str, rule: str, number: int) -> str:
    """A name that Batch, Slurm and HealthOmics all accept, whatever the rule is called."""
    safe = re.sub(r"[^A-Za-z0-9_-]+", "_", rule)[:40].strip("_-") or "job"
    return f"takeda-{safe}-{run_id}-{number}"


def sources(job: Any) -> Iterator[File]:
    """The inputs of a Snakemake job or group job."""
    return (_file(f) for f in job.input)


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


def _with_memory_of_cpus(shape: Shape, resources: Mapping[str, int | float | str]) -> Shape:
    """Routes, budgets and other backends go by the memory of a node."""
    per_cpu = memory_per_cpu(resources)
    if per_cpu is None:
        return shape
    ranks = shape.tasks_per_node or -(-shape.tasks // shape.nodes)
    return replace(shape, mem_mb=per_cpu * shape.cpus * ranks)


def _resources(job: Any) -> dict[str, int | float | str]:
    if not job.is_group():
        return _own_resources(job)
    pairs = [(member, _own_resources(member)) for member in job.jobs]
    members = [one for _, one in pairs]
    result = _plain(job.resources)
    ranked = any(_launcher(one.get("mpi")) for one in members)
    for name in _SHARED_IN_A_GROUP + (() if ranked else _RANKS):
        if name in result:
            result[name] = max((one[name] for one in members if name in one), key=_size)
    result.pop(_PER_CPU, None)
    if any(_PER_CPU in one for one in members):
        cpus = [_cpus(one, member) for member, one in pairs]
        result[_PER_CPU] = _memory_per_cpu_of_all(members, cpus, _cpus(result, job))
    return result


def _memory_per_cpu_of_all(
    members: Sequence[Mapping[str, int | float | str]], cpus: Sequence[int], all_cpus: int
) -> int:
    """Enough for whichever members of a group run at once: no more than the hungriest one needs for
    each of its CPUs, and no more than all of them need together."""
    needs = [
        (memory_per_cpu(one) or 0) * number or _size(one.get("mem_mb", 0))
        for one, number in zip(members, cpus, strict=True)
    ]
    hungriest = max(need / number for need, number in zip(needs, cpus, strict=True))
    return math.ceil(min(hungriest, sum(needs) / all_cpus))


def _own_resources(job: Any) -> dict[str, int | float | str]:
    """Those of one job. A rule's own memory comes before a default for each CPU."""
    result = _plain(job.resources)
    if _PER_CPU in result and _is_default(job.rule, _PER_CPU):
        result = {
            name: value
            for name, value in result.items()
            if name != _PER_CPU or _is_default(job.rule, "mem_mb")
        }
    return result


def _is_default(rule: Any, resource: str) -> bool:
    """Whether neither the rule nor a flag for it says this resource: `default-resources` do."""
    defaults = rule.workflow.resource_settings.default_resources or {}
    return bool(rule.resources.get(resource) == defaults.get(resource))


def _plain(resources: Any) -> dict[str, int | float | str]:
    return {
        name: value
        for name, value in resources.items()
        # A resource that depends on a file not there yet is a TBDString, a subclass of str.
        if name not in _NOT_RESOURCES and type(value) in (int, float, str, bool)
    }


def _cpus(resources: Mapping[str, int | float | str], job: Any) -> int:
    return max(1, _size(resources.get("cpus_per_task", 0)) or int(job.threads))


def _size(value: float | str) -> int:
    """0 for what is no number: whoever uses the resource says so."""
    try:
        return int(value)
    except ValueError:
        return 0


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
    """Snakemake's stand-in for a param that reads a file not there yet is a str; here it is UNKNOWN."""
    return {
        str(name): UNKNOWN if type(value).__name__ == "TBDString" else value
        for name, value in params.items()
    }


def _input_bytes(job: Any) -> int | None:
    try:
        return int(job.input.size)
    except (AttributeError, OSError):
        return None
