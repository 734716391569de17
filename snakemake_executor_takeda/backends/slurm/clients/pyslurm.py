"""Slurm through its C library by pyslurm, an optional extra that is built for one Slurm only.

Run against pyslurm 24.11.0 and a real Slurm 24.11.5. What is used of it, with its own mistakes, reads
the same in the source of pyslurm 25.11.2.
"""

from __future__ import annotations

import os
import re
import signal
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends.slurm.answers import Sighting, expand_hosts
from snakemake_executor_takeda.backends.slurm.clients.base import SlurmFull, SlurmRefused
from snakemake_executor_takeda.backends.slurm.clients.command_line import CommandLine
from snakemake_executor_takeda.backends.slurm.clients.errors import error_of
from snakemake_executor_takeda.backends.slurm.clients.words import mebibytes, minutes, said_by
from snakemake_executor_takeda.backends.slurm.facts import (
    NodeFacts,
    PartitionFacts,
    gres_of,
    states_of,
)
from snakemake_executor_takeda.backends.slurm.request import variables_of_sbatch

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.slurm.request import JobRequest

_ENDED = frozenset(
    {
        *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
        *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
    }
)
_NO_NUMBER = 65534
"""Slurm's NO_VAL16. pyslurm makes one CPU of None, and this what the library has for "not said"."""
_MAIL = frozenset(
    {
        *("ALL", "ARRAY_TASKS", "BEGIN", "END", "FAIL", "NONE", "REQUEUE", "STAGE_OUT"),
        *("TIME_LIMIT", "TIME_LIMIT_50", "TIME_LIMIT_80", "TIME_LIMIT_90"),
    }
)
_UNSET_EMPTY = (
    "for takeda_name in {}; do"
    ' eval "[ -n \\"\\${{$takeda_name-}}\\" ]" || unset "$takeda_name"; done; unset takeda_name'
)


class PySlurm:
    """Speaks `base.SlurmClient` by the module `pyslurm`."""

    name = "pyslurm"
    is_remote = False
    advice = "`scontrol ping` says more; is SLURM_CONF right?"

    def __init__(self, module: Any) -> None:
        self._module = module
        self._own: set[str] = set()

    def submit(self, request: JobRequest, script: str) -> str:
        attributes = job_attributes(request)
        hidden = _hidden(attributes["environment"], os.environ)
        attributes["environment"] |= dict.fromkeys(hidden, "")
        # A path: pyslurm looks whether the text is one, which fails with one of 4096 characters.
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="") as file:
            file.write(_without(hidden, script))
            file.flush()
            description = self._module.JobSubmitDescription(script=file.name, **attributes)
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
        # pyslurm ends whole jobs only: it knows a waiting array, but none of its waiting tasks.
        parts = [one for one in chosen if pending_only or "_" in one]
        if parts:
            CommandLine().cancel(parts, kill=kill, pending_only=pending_only)
        for job_id in (one for one in chosen if one not in parts):
            job = self._module.Job(int(job_id))
            try:
                self._do(partial(job.send_signal, "SIGKILL", steps="all") if kill else job.cancel)
            except (SlurmRefused, SlurmFull):
                # It has ended, or pyslurm tells an errno that was left from before: the caller
                # looks at the queue.
                continue

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
                is_hidden=bool(one.is_hidden),
                is_root_only=bool(one.is_root_only),
                needs_reservation=bool(one.requires_reservation),
            )
            for one in self._do(self._module.Partitions.load).values()
        ]

    def reservations(self) -> list[str]:
        return [str(one.name) for one in self._do(self._module.Reservations.load).values()]

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
    """Attributes of JobSubmitDescription. Raises ValueError naming what pyslurm can't say."""
    array = None
    if request.array_size is not None:
        throttle = f"%{request.array_throttle}" if request.array_throttle else ""
        array = f"0-{request.array_size - 1}{throttle}"
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
        "nodes": None if request.nodes is None else str(request.nodes),
        "ntasks": request.ntasks,
        "ntasks_per_node": request.tasks_per_node,
        "cpus_per_task": request.cpus_per_task,
        "memory_per_cpu": request.mem_mb_per_cpu,
        "memory_per_node": request.mem_mb,
        "time_limit": request.runtime_min,
        "gpus": _gpu(f"{request.gpu_model or ''}:{request.gpus}") if request.gpus else None,
        "is_requeueable": request.requeue,
    }
    if request.gres:
        try:
            asked["gres_per_node"] = _gres(request.gres)
        except ValueError:
            raise ValueError(f"gres {request.gres!r} can't be said through pyslurm") from None
    for word in request.extra:
        _add(asked, said_by(_FIELDS, word, "pyslurm"))
    tasks, cpus = asked["ntasks"], asked["cpus_per_task"]
    if asked["nodes"] is None:  # else pyslurm asks for one
        least = max(1, len(expand_hosts(asked.get("required_nodes", ""))))
        asked["nodes"] = f"{least}-{max(least, tasks)}"
    if cpus is None:  # else pyslurm counts the job's CPUs by this, too
        asked |= {"cpus_per_task": _NO_NUMBER, "min_cpus_per_node": tasks}
    asked["environment"] = {
        **request.environment,
        **variables_of_sbatch(cpus, asked["ntasks_per_node"]),
    }
    return {name: value for name, value in asked.items() if value is not None}


def _add(asked: dict[str, Any], fields: Mapping[str, Any]) -> None:
    """The later word wins; what excludes another goes with it, and lists of gres grow."""
    if "memory_per_cpu" in fields:
        asked["memory_per_node"] = None
    elif "memory_per_node" in fields:
        asked["memory_per_cpu"] = None
    if "gres_per_node" in fields and asked.get("gres_per_node"):
        fields = {"gres_per_node": f"{asked['gres_per_node']},{fields['gres_per_node']}"}
    asked |= fields


def _hidden(wanted: Mapping[str, str], own: Mapping[str, str]) -> list[str]:
    """Variables that must not come through: pyslurm adds every SLURM_* of this process, such as a
    token, or those of an allocation that Snakemake runs in."""
    return sorted(
        name for name in own if re.fullmatch(r"SLURM_\w+", name, re.ASCII) and name not in wanted
    )


def _without(hidden: Collection[str], script: str) -> str:
    """The script without these variables, which are empty in its environment unless Slurm itself has
    set them. An empty one is not as good as none: srun reads it, and takes a token to be there."""
    if not hidden:
        return script
    first, _, rest = script.partition("\n")
    return f"{first}\n{_UNSET_EMPTY.format(' '.join(hidden))}\n{rest}"


def _sightings(job: Any) -> Iterator[Sighting]:
    state, reason = str(job.state), job.state_reason or ""
    reason = "" if reason == "None" else reason
    job_id = str(job.array_id or job.id)
    if job.array_id and job.array_tasks_waiting:
        for index in _indices(job.array_tasks_waiting):
            yield Sighting(f"{job_id}_{index}", state, reason)
        return
    # For pyslurm a 0 is no number: task 0 has none, and nor has what is left of a cancelled array.
    is_rest = job.id == job.array_id and state == "CANCELLED" and not job.allocated_nodes
    is_task = job.array_id and (job.array_task_id or not is_rest)
    external_id = f"{job_id}_{job.array_task_id or 0}" if is_task else job_id
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


def _limit(value: Any) -> int | None:
    """A number; None for none and for pyslurm's word UNLIMITED."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _some(names: Iterable[str] | None) -> tuple[str, ...]:
    return tuple(name for name in names or () if name != "ALL")


Field = Callable[[str], dict[str, Any]]


def _as(attribute: str, read: Callable[[str], Any] = str) -> Field:
    """An attribute that takes what `read` makes of the value; no value is none of its values."""

    def put(value: str) -> dict[str, Any]:
        if not value:
            raise ValueError
        return {attribute: read(value)}

    return put


def _flag(attribute: str, answer: Any = True) -> Field:
    def put(value: str) -> dict[str, Any]:
        if value:
            raise ValueError
        return {attribute: answer}

    return put


def _positive(text: str) -> int:
    """For pyslurm a 0 is as good as nothing."""
    if int(text) < 1:
        raise ValueError
    return int(text)


def _memory(text: str) -> int:
    """MiB. All of a node's, `0`, can't be said."""
    if not text.strip("0"):
        raise ValueError
    return mebibytes(text)


def _nodes(text: str) -> str:
    if not re.fullmatch(r"\d+(-\d+)?", text):
        raise ValueError
    return text


def _hosts(text: str) -> str:
    """Names; a file of them, as sbatch takes one, is none."""
    if "/" in text:
        raise ValueError
    return text


def _gres(text: str) -> str:
    """Each part with its number, without which pyslurm takes none."""
    parts = [
        part if part[-1:].isdigit() and ":" in part else f"{part}:1" for part in text.split(",")
    ]
    if not all(re.fullmatch(r"[^:]+(:[^:]+)?:\d+", part) for part in parts):
        raise ValueError
    return ",".join(parts)


def _gpu(text: str) -> str:
    """`2`, `:2` or `a10g:2` → `gpu:2` or `gpu:a10g:2`."""
    return _gres(",".join(f"gpu:{part.removeprefix(':')}" for part in text.split(",")))


def _mail(text: str) -> str:
    if not set(text.upper().split(",")) <= _MAIL:
        raise ValueError
    return text


def _signal(text: str) -> str:
    """By the names that Python has for signals."""
    match = re.fullmatch(r"(B:)?(?:SIG)?([A-Z]+\d?|\d+)(?:@(\d+))?", text.upper())
    if not match:
        raise ValueError
    which = match[2] if match[2].isdigit() else signal.Signals[f"SIG{match[2]}"].name
    return f"{match[1] or ''}{which}@{match[3] or 60}"


_FIELDS: dict[str, Field] = {
    "account": _as("account"),
    "batch": _as("batch_constraints"),
    "chdir": _as("working_directory"),
    "comment": lambda value: {"comment": value},
    "constraint": _as("constraints"),
    "contiguous": _flag("requires_contiguous_nodes"),
    "core-spec": _as("cores_reserved_for_system", _positive),
    "cores-per-socket": _as("cores_per_socket", _positive),
    "cpus-per-task": _as("cpus_per_task", _positive),
    "dependency": _as("dependencies"),
    "exclude": _as("excluded_nodes"),
    "exclusive": lambda value: {
        "resource_sharing": {"": "exclusive", "user": "user", "mcs": "mcs"}[value]
    },
    "gpus": _as("gpus", _gpu),
    "gpus-per-node": _as("gres_per_node", _gpu),
    "gpus-per-socket": _as("gpus_per_socket", _gpu),
    "gres": _as("gres_per_node", _gres),
    "hold": _flag("priority", 0),
    "input": _as("standard_in"),
    "kill-on-invalid-dep": lambda value: {"kill_on_invalid_dependency": {"yes": True}[value]},
    "licenses": _as("licenses"),
    "mail-type": _as("mail_types", _mail),
    "mail-user": _as("mail_user"),
    "mcs-label": _as("mcs_label"),
    "mem": _as("memory_per_node", _memory),
    "mem-per-cpu": _as("memory_per_cpu", _memory),
    "network": _as("network"),
    "nice": lambda value: {"nice": int(value or 100)},
    "no-kill": _flag("kill_on_node_fail", False),
    "no-requeue": _flag("is_requeueable", False),
    "nodelist": _as("required_nodes", _hosts),
    "nodes": _as("nodes", _nodes),
    "ntasks": _as("ntasks", _positive),
    "ntasks-per-core": _as("ntasks_per_core", _positive),
    "ntasks-per-node": _as("ntasks_per_node", _positive),
    "ntasks-per-socket": _as("ntasks_per_socket", _positive),
    "open-mode": lambda value: {
        "log_files_open_mode": {"append": "append", "truncate": "truncate"}[value]
    },
    "oversubscribe": _flag("resource_sharing", "oversubscribe"),
    "partition": _as("partitions"),
    "priority": _as("priority", int),
    "qos": _as("qos"),
    "reboot": _flag("requires_node_reboot"),
    "reservation": _as("reservations"),
    "signal": _as("signal", _signal),
    "sockets-per-node": _as("sockets_per_node", _positive),
    "spread-job": _flag("spreads_over_nodes"),
    "thread-spec": _as("threads_reserved_for_system", _positive),
    "threads-per-core": _as("threads_per_core", _positive),
    "time": _as("time_limit", minutes),
    "time-min": _as("time_limit_min", minutes),
    "tmp": _as("temporary_disk_per_node", _memory),
    "use-min-nodes": _flag("use_min_nodes"),
    "wait-all-nodes": lambda value: {"wait_all_nodes": {"0": False, "1": True}[value]},
    "wckey": _as("wckey"),
}
"""Long option of sbatch → attributes that say the same. Those are missing that pyslurm says wrong or
not at all: `--distribution`, `--gpus-per-task`, `--mem-per-gpu`, `--mincpus`, `--overcommit`, `--switches` …"""
