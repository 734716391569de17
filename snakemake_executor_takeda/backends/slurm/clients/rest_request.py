"""A request → the JSON that slurmrestd takes, `slurm_extra` included. Pure; data parser v0.0.42."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends.slurm.clients.words import mebibytes, minutes, said_by
from snakemake_executor_takeda.backends.slurm.request import variables_of_sbatch

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.slurm.request import JobRequest

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LOGIN_ENVIRONMENT = "SLURM_GET_USER_ENV"
"""Set to 1, slurmd starts the job with its user's login environment, as `sbatch --export=NONE`."""

_SHARED = {"": "none", "user": "user", "mcs": "mcs", "topo": "topo"}
Field = Callable[[str], dict[str, Any]]


def job_description(request: JobRequest) -> dict[str, Any]:
    """The value of `job` of a submission. Raises ValueError naming the word that can't be said."""
    array = None
    if request.array_size is not None:
        throttle = f"%{request.array_throttle}" if request.array_throttle else ""
        array = f"0-{request.array_size - 1}{throttle}"
    job: dict[str, Any] = {
        "name": request.name,
        "current_working_directory": request.workdir,
        "standard_output": request.log,
        "array": array,
        "partition": request.partition,
        "account": request.account,
        "qos": request.qos,
        "constraints": request.constraint,
        "reservation": request.reservation,
        "excluded_nodes": list(request.exclude) or None,
        "nodes": None if request.nodes is None else str(request.nodes),
        "tasks": request.ntasks,
        "tasks_per_node": request.tasks_per_node,
        "cpus_per_task": request.cpus_per_task,
        "memory_per_cpu": _number(request.mem_mb_per_cpu),
        "memory_per_node": _number(request.mem_mb),
        "time_limit": _number(request.runtime_min),
        "tres_per_node": _gres(request.gres) if request.gres else None,
        "requeue": request.requeue,
    }
    if request.gpus:
        model = f":{request.gpu_model}" if request.gpu_model else ""
        job["tres_per_job"] = f"gres/gpu{model}:{request.gpus}"
    environment = dict(request.environment) or {"PATH": DEFAULT_PATH}
    for word in request.extra:
        if word.startswith("--export="):
            environment = _exported(word.removeprefix("--export="), environment)
        else:
            _add(job, _field_of(word))
    # sbatch counts CPUs itself; here nobody else would.
    job["minimum_cpus"] = int(job["tasks"]) * int(job["cpus_per_task"] or 1)
    environment |= variables_of_sbatch(job["cpus_per_task"], job["tasks_per_node"])
    job["environment"] = [f"{name}={value}" for name, value in environment.items()]
    return {name: value for name, value in job.items() if value is not None}


def _add(job: dict[str, Any], fields: Mapping[str, Any]) -> None:
    """The later word wins; what excludes another goes with it, and lists of TRES grow."""
    for name, value in fields.items():
        before = job.get(name)
        if before and name == "tres_per_node":
            job[name] = f"{before},{value}"
        elif before and name == "flags":
            job[name] = [*before, *value]
        else:
            job[name] = value
    if "memory_per_cpu" in fields:
        job["memory_per_node"] = None
    elif "memory_per_node" in fields:
        job["memory_per_cpu"] = None


def _field_of(word: str) -> dict[str, Any]:
    return said_by(_FIELDS, word, "slurmrestd")


def _number(value: int | None) -> dict[str, Any] | None:
    return None if value is None else {"set": True, "infinite": False, "number": value}


def _text(field: str) -> Field:
    def put(value: str) -> dict[str, Any]:
        if not value:
            raise ValueError
        return {field: value}

    return put


def _whole(field: str) -> Field:
    return lambda value: {field: int(value)}


def _counted(field: str, read: Callable[[str], int] = int) -> Field:
    return lambda value: {field: _number(read(value))}


def _true(field: str, answer: Any = True) -> Field:
    def put(value: str) -> dict[str, Any]:
        if value:
            raise ValueError
        return {field: answer}

    return put


def _gpus(field: str) -> Field:
    return lambda value: {field: ",".join(f"gres/gpu:{one}" for one in _parts(value))}


def _parts(text: str) -> list[str]:
    parts = text.split(",")
    if not all(parts):
        raise ValueError
    return parts


def _gres(text: str) -> str:
    return ",".join(f"gres/{part}" for part in text.split(",") if part)


def _mail(text: str) -> dict[str, Any]:
    names = {"TIME_LIMIT": "TIME=100%", "TIME_LIMIT_90": "TIME=90%", "TIME_LIMIT_80": "TIME=80%"}
    names |= {"TIME_LIMIT_50": "TIME=50%", "INVALID_DEPEND": "INVALID_DEPENDENCY"}
    kinds: list[str] = []
    for part in _parts(text.upper()):
        if part == "ALL":
            kinds += ["BEGIN", "END", "FAIL", "INVALID_DEPENDENCY", "REQUEUE", "STAGE_OUT"]
        elif part != "NONE":
            kinds.append(names.get(part, part))
    return {"mail_type": kinds}


def _signal(text: str) -> dict[str, Any]:
    match = re.fullmatch(r"(?:(B|R|RB|BR):)?(?:SIG)?([A-Z0-9]+)(?:@(\d+))?", text.upper())
    if not match or "R" in (match[1] or ""):
        raise ValueError
    return {
        "kill_warning_signal": match[2],
        "kill_warning_delay": _number(int(match[3] or 60)),
        **({"kill_warning_flags": ["BATCH_JOB"]} if match[1] else {}),
    }


def _invalid_dependency(text: str) -> dict[str, Any]:
    flag = "KILL_INVALID_DEPENDENCY"
    return {"flags": [{"yes": flag, "no": f"NO_{flag}"}[text.lower()]]}


def _exported(text: str, environment: Mapping[str, str]) -> dict[str, str]:
    """`ALL`, `NONE`, or names and settings, as `sbatch --export` has them."""
    parts = _parts(text)
    if parts == ["NONE"]:
        return {LOGIN_ENVIRONMENT: "1", "PATH": DEFAULT_PATH}
    chosen = dict(environment) if "ALL" in parts else {"PATH": DEFAULT_PATH}
    for part in parts:
        name, equals, value = part.partition("=")
        if equals:
            chosen[name] = value
        elif name in environment:
            chosen[name] = environment[name]
    return chosen


_FIELDS: dict[str, Field] = {
    "account": _text("account"),
    "batch": _text("batch_features"),
    "bb": _text("burst_buffer"),
    "chdir": _text("current_working_directory"),
    "comment": lambda value: {"comment": value},
    "constraint": _text("constraints"),
    "contiguous": _true("contiguous"),
    "core-spec": _whole("core_specification"),
    "cpus-per-gpu": lambda value: {"cpus_per_tres": f"gres/gpu:{int(value)}"},
    "cpus-per-task": _whole("cpus_per_task"),
    "delay-boot": lambda value: {"delay_boot": 60 * minutes(value)},
    "dependency": _text("dependency"),
    "exclude": lambda value: {"excluded_nodes": [value] if value else []},
    "exclusive": lambda value: {"shared": [_SHARED[value]]},
    "gpus": _gpus("tres_per_job"),
    "gpus-per-node": _gpus("tres_per_node"),
    "gpus-per-socket": _gpus("tres_per_socket"),
    "gpus-per-task": _gpus("tres_per_task"),
    "gres": lambda value: {"tres_per_node": _gres(value)},
    "hold": _true("hold"),
    "input": _text("standard_input"),
    "kill-on-invalid-dep": _invalid_dependency,
    "licenses": _text("licenses"),
    "mail-type": _mail,
    "mail-user": _text("mail_user"),
    "mcs-label": _text("mcs_label"),
    "mem": _counted("memory_per_node", mebibytes),
    "mem-per-cpu": _counted("memory_per_cpu", mebibytes),
    "mem-per-gpu": lambda value: {"memory_per_tres": f"gres/gpu:{mebibytes(value)}"},
    "mincpus": _whole("minimum_cpus_per_node"),
    "network": _text("network"),
    "nice": lambda value: {"nice": int(value or 100)},
    "no-kill": _true("kill_on_node_fail", False),
    "no-requeue": _true("requeue", False),
    "nodelist": lambda value: {"required_nodes": [value]},
    "nodes": _text("nodes"),
    "ntasks": _whole("tasks"),
    "ntasks-per-core": _whole("tasks_per_core"),
    "ntasks-per-gpu": _whole("ntasks_per_tres"),
    "ntasks-per-node": _whole("tasks_per_node"),
    "ntasks-per-socket": _whole("tasks_per_socket"),
    "open-mode": lambda value: {"open_mode": [{"append": "APPEND", "truncate": "TRUNCATE"}[value]]},
    "overcommit": _true("overcommit"),
    "oversubscribe": _true("shared", ["oversubscribe"]),
    "partition": _text("partition"),
    "prefer": _text("prefer"),
    "priority": _counted("priority"),
    "qos": _text("qos"),
    "reboot": _true("reboot"),
    "reservation": _text("reservation"),
    "signal": _signal,
    "sockets-per-node": _whole("sockets_per_node"),
    "spread-job": _true("flags", ["SPREAD_JOB"]),
    "switches": _counted("required_switches"),
    "thread-spec": _whole("thread_specification"),
    "threads-per-core": _whole("threads_per_core"),
    "time": _counted("time_limit", minutes),
    "time-min": _counted("time_minimum", minutes),
    "tmp": lambda value: {"temporary_disk_per_node": mebibytes(value)},
    "tres-per-task": _text("tres_per_task"),
    "use-min-nodes": _true("flags", ["PREFER_MINIMUM_NODE_COUNT"]),
    "wait-all-nodes": lambda value: {"wait_all_nodes": {"0": False, "1": True}[value]},
    "wckey": _text("wckey"),
}
"""Long option of sbatch → the fields that say the same. What is not here is refused by its name."""
