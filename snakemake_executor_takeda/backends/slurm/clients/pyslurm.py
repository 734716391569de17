"""Slurm through its C library by pyslurm, an optional extra that is built for one Slurm only.

Its API is that of pyslurm 25.11. It was tested against a stand-in with the same signatures, not against
a real one: pyslurm is built only where Slurm's own headers of the same version are installed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends.slurm.answers import Sighting
from snakemake_executor_takeda.backends.slurm.clients.base import SlurmRefused
from snakemake_executor_takeda.backends.slurm.clients.errors import error_of
from snakemake_executor_takeda.backends.slurm.facts import (
    NodeFacts,
    PartitionFacts,
    gres_of,
    states_of,
)
from snakemake_executor_takeda.backends.slurm.request import variables_of_sbatch

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.slurm.request import JobRequest

_ANY_NUMBER_OF_NODES = "1-100000"
"""pyslurm takes no number for one; a partition's own limit holds anyway."""
_ENDED = frozenset(
    {
        *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
        *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
    }
)
_EXTRA: dict[str, Callable[[str], dict[str, Any]]] = {
    "comment": lambda value: {"comment": value},
    "constraint": lambda value: {"constraints": value},
    "dependency": lambda value: {"dependencies": value},
    "exclude": lambda value: {"excluded_nodes": value},
    "licenses": lambda value: {"licenses": value},
    "mail-type": lambda value: {"mail_types": value},
    "mail-user": lambda value: {"mail_user": value},
    "nice": lambda value: {"nice": int(value or 100)},
    "nodelist": lambda value: {"required_nodes": value},
    "tmp": lambda value: {"temporary_disk_per_node": value},
    "wckey": lambda value: {"wckey": value},
}
"""Long option of sbatch → attribute of JobSubmitDescription."""


class PySlurm:
    """Speaks `base.SlurmClient` by the module `pyslurm`."""

    name = "pyslurm"
    is_remote = False
    advice = "`scontrol ping` says more; is SLURM_CONF right?"

    def __init__(self, module: Any) -> None:
        self._module = module
        self._own: set[str] = set()

    def submit(self, request: JobRequest, script: str) -> str:
        description = self._module.JobSubmitDescription(script=script, **job_attributes(request))
        job_id = str(self._do(description.submit))
        self._own.add(job_id)
        return job_id

    def check_request(self, request: JobRequest) -> None:
        job_attributes(request)

    def find(self, name: str) -> str | None:
        ids = [int(job.array_id or job.id) for job in self._jobs() if job.name == name]
        if not ids:
            return None
        self._own.add(str(max(ids)))
        return str(max(ids))

    def queue(self, job_ids: Collection[str] = ()) -> dict[str, Sighting]:
        wanted = set(job_ids) or self._own
        return {
            sighting.external_id: sighting
            for job in self._jobs()
            if str(job.array_id or job.id) in wanted
            for sighting in _sightings(job)
        }

    def unfinished(self, job_ids: Collection[str] = ()) -> list[Sighting]:
        return [one for one in self.queue(job_ids).values() if one.state not in _ENDED]

    def jobs(self, job_id: str) -> dict[str, Sighting]:
        return self.queue([job_id])

    def cancel(self, ids: Iterable[str], *, kill: bool = False, pending_only: bool = False) -> None:
        chosen = list(ids)
        if pending_only:
            begun = {
                one.external_id.partition("_")[0]
                for one in self.unfinished(chosen)
                if one.state != "PENDING"
            }
            chosen = [job_id for job_id in chosen if job_id not in begun]
        for job_id in chosen:
            job = self._module.Job(int(job_id))
            try:
                self._do(partial(job.send_signal, "SIGKILL", steps="all") if kill else job.cancel)
            except SlurmRefused:
                continue  # it has ended: the caller looks at the queue

    def partitions(self) -> list[str]:
        return sorted(one.name for one in self.partition_details())

    def settings(self) -> dict[str, str]:
        config = self._do(self._module.slurmctld.Config.load)
        parameters = (config.scheduler_parameters or {}).items()
        said = {
            "MaxArraySize": config.max_array_size,
            "MaxJobCount": config.max_job_count,
            "AccountingStorageType": config.accounting_storage_type,
            "SLURM_VERSION": config.version,
            "SchedulerParameters": ",".join(f"{name}={value}" for name, value in parameters),
        }
        return {name: str(value) for name, value in said.items() if value is not None}

    def nodes(self) -> list[NodeFacts]:
        return [
            NodeFacts(
                name=str(node.name),
                states=states_of(node.state or ""),
                cpus=int(node.effective_cpus or node.total_cpus or 0),
                memory_mib=int(node.real_memory or 0),
                features=tuple(node.available_features or ()),
                gres=tuple(_gres_words(node.configured_gres)),
                partitions=tuple(node.partitions or ()),
                reason=node.reason or "",
            )
            for node in self._do(self._module.Nodes.load).values()
        ]

    def partition_details(self) -> list[PartitionFacts]:
        return [
            PartitionFacts(
                name=str(one.name),
                state=str(one.state or "UP"),
                is_default=bool(one.is_default),
                nodes=one.nodes or "",
                total_nodes=int(one.total_nodes or 0),
                total_cpus=int(one.total_cpus or 0),
                max_time_min=_limit(one.max_time),
                default_time_min=_limit(one.default_time),
                min_nodes=_limit(one.min_nodes) or 0,
                max_nodes=_limit(one.max_nodes),
                max_cpus_per_node=_limit(one.max_cpus_per_node),
                max_mem_per_node_mib=_limit(one.max_memory_per_node) or None,
                max_mem_per_cpu_mib=_limit(one.max_memory_per_cpu) or None,
                default_mem_per_node_mib=_limit(one.default_memory_per_node) or None,
                default_mem_per_cpu_mib=_limit(one.default_memory_per_cpu) or None,
                allow_accounts=_some(one.allowed_accounts),
                deny_accounts=_some(one.denied_accounts),
                allow_qos=_some(one.allowed_qos),
                deny_qos=_some(one.denied_qos),
                allow_groups=_some(one.allowed_groups),
                qos=one.qos or None,
                is_root_only=bool(one.is_root_only),
                needs_reservation=bool(one.requires_reservation),
            )
            for one in self._do(self._module.Partitions.load).values()
        ]

    def close(self) -> None:
        """Nothing is held open."""

    def _jobs(self) -> list[Any]:
        user = os.getuid()
        return [job for job in self._do(self._module.Jobs.load).values() if job.user_id == user]

    def _do(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except self._module.PyslurmError as error:
            raise error_of(str(error)) from error


def job_attributes(request: JobRequest) -> dict[str, Any]:
    """Attributes of JobSubmitDescription. Raises ValueError naming an option that it has none for."""
    array = None
    if request.array_size is not None:
        throttle = f"%{request.array_throttle}" if request.array_throttle else ""
        array = f"0-{request.array_size - 1}{throttle}"
    model = f"{request.gpu_model}:" if request.gpu_model else ""
    asked: dict[str, Any] = {
        "name": request.name,
        "working_directory": request.workdir,
        "standard_output": request.log,
        "array": array,
        "partitions": request.partition,
        "account": request.account,
        "qos": request.qos,
        "constraints": request.constraint,
        "reservations": request.reservation,
        "excluded_nodes": ",".join(request.exclude) or None,
        "nodes": _ANY_NUMBER_OF_NODES if request.nodes is None else str(request.nodes),
        "ntasks": request.ntasks,
        "ntasks_per_node": request.tasks_per_node,
        "cpus_per_task": request.cpus_per_task,
        "memory_per_cpu": _megabytes(request.mem_mb_per_cpu),
        "memory_per_node": _megabytes(request.mem_mb),
        "time_limit": None if request.runtime_min is None else str(request.runtime_min),
        "gres_per_node": request.gres,
        "gpus": f"{model}{request.gpus}" if request.gpus else None,
        "is_requeueable": request.requeue,
        "environment": _environment(
            {
                **request.environment,
                **variables_of_sbatch(request.cpus_per_task, request.tasks_per_node),
            },
            os.environ,
        ),
    }
    for word in request.extra:
        name, _, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name not in _EXTRA:
            raise ValueError(f"{word!r} can't be said through pyslurm")
        asked |= _EXTRA[name](value)
    return {name: value for name, value in asked.items() if value is not None}


def _environment(wanted: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """pyslurm adds every SLURM_* variable of this process: a token, or an allocation that Snakemake
    runs in, must not come through. What is named here wins."""
    hidden = {name: "" for name in own if name.startswith("SLURM_") and name not in wanted}
    return {**hidden, **wanted}


def _sightings(job: Any) -> Iterator[Sighting]:
    state, reason = str(job.state), job.state_reason or ""
    reason = "" if reason == "None" else reason
    job_id = str(job.array_id or job.id)
    if job.array_id and job.array_task_id is None:
        for index in _indices(job.array_tasks_waiting or ""):
            yield Sighting(f"{job_id}_{index}", state, reason)
        return
    external_id = f"{job_id}_{job.array_task_id}" if job.array_id else job_id
    signal = job.exit_code_signal
    yield Sighting(
        external_id,
        state,
        reason,
        job.allocated_nodes or "",
        float(job.run_time or 0),
        128 + signal if signal else job.exit_code,
    )


def _indices(text: str) -> Iterator[int]:
    """`0-3,7,10-20:5` → each number."""
    for part in text.split(","):
        span, _, step = part.partition(":")
        first, dash, last = span.partition("-")
        if first.isdigit():
            yield from range(int(first), int(last if dash else first) + 1, int(step or 1))


def _gres_words(gres: Any) -> Iterator[str]:
    """`{"gpu:a10g": 4}` or `{"gpu": {"a10g": 4}}` → `gpu:a10g:4`."""
    if isinstance(gres, str):
        yield from gres_of(gres)
    for name, amount in (gres or {}).items() if isinstance(gres, Mapping) else ():
        if isinstance(amount, Mapping):
            yield from (f"{name}:{kind}:{count}" for kind, count in amount.items())
        else:
            yield f"{name}:{amount}"


def _megabytes(amount: int | None) -> str | None:
    return None if amount is None else f"{amount}M"


def _limit(value: Any) -> int | None:
    """A number; None for none and for pyslurm's word UNLIMITED."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _some(names: Iterable[str] | None) -> tuple[str, ...]:
    return tuple(name for name in names or () if name != "ALL")
