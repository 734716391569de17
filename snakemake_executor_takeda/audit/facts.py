"""What the event log keeps of a job: files, and what was asked for. Nothing that may be secret."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snakemake_executor_takeda.outputs import S3Object
    from snakemake_executor_takeda.values import File, Shape


def files(those: Iterable[File], found: Callable[[str], S3Object | None]) -> list[dict[str, Any]]:
    """Each as `uri`, or `path` outside storage, with `etag`, `version` and `bytes` where they are known;
    `found` tells what is known of a URI."""
    return [_file(file, found) for file in those]


def asked(shape: Shape) -> dict[str, Any]:
    """The resources that a job asks for, without those that it leaves open. The launcher of MPI is left
    out: `mpirun -x NAME=value` is one."""
    wanted = {
        "cpus": shape.cpus,
        "mem_mb": shape.mem_mb,
        "disk_mb": shape.disk_mb,
        "gpus": shape.gpus or None,
        "gpu_model": shape.gpu_model,
        "runtime_min": shape.runtime_min,
        "nodes": shape.nodes if shape.nodes > 1 else None,
        "tasks": shape.tasks if shape.tasks > 1 else None,
        "tasks_per_node": shape.tasks_per_node,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def _file(file: File, found: Callable[[str], S3Object | None]) -> dict[str, Any]:
    if not file.uri:
        return {"path": file.path}
    known = found(file.uri)
    if known is None:
        return {"uri": file.uri}
    facts = {"uri": file.uri, "etag": known.etag, "version": known.version, "bytes": known.bytes}
    return {name: value for name, value in facts.items() if value is not None}
