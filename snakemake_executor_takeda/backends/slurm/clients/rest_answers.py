"""What slurmrestd answers, read into values. Pure; data parser v0.0.42, Slurm 24.11 to 26.05."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from snakemake_executor_takeda.backends.slurm.accounting import Account
from snakemake_executor_takeda.backends.slurm.answers import Sighting
from snakemake_executor_takeda.backends.slurm.facts import NodeFacts, PartitionFacts, gres_of

_FLAGS = (
    "COMPLETING",
    "STAGE_OUT",
    "CONFIGURING",
    "RESIZING",
    "REQUEUED",
    "REQUEUE_FED",
    "REQUEUE_HOLD",
    "SPECIAL_EXIT",
    "STOPPED",
    "REVOKED",
    "RESV_DEL_HOLD",
    "SIGNALING",
    "EXPEDITING",
)
"""In the order in which squeue says one of them instead of the base state."""


def state_word(words: Sequence[str]) -> str:
    """One word for `["RUNNING", "COMPLETING"]`, the one that squeue would say."""
    for flag in _FLAGS:
        if flag in words:
            return flag
    return words[0] if words else ""


def read_states(answer: Any) -> list[tuple[str, str | None, str]]:
    """Job id, index in its array and state of each job of `/jobs/state/`.

    The id is that of the array only for tasks that have not begun: a begun task of an array has an id
    of its own, which Slurm prints here together with its index (so in 24.11 to 26.05).
    """
    found = []
    for job in _list(answer, "jobs"):
        job_id, _, index = str(job.get("job_id", "")).partition("_")
        found.append((job_id, index or None, state_word(_words(job.get("state")))))
    return found


def read_job_infos(answer: Any, now: float | None = None) -> dict[str, Sighting]:
    """The jobs of `/job/ID` or `/jobs/`, by `4711` or `4711_3`; the part of an array that has not
    begun by `4711_*`."""
    now = time.time() if now is None else now
    found = {}
    for job in _list(answer, "jobs"):
        array_id, index = number(job.get("array_job_id")), number(job.get("array_task_id"))
        external_id = str(job.get("job_id", ""))
        if array_id:
            external_id = f"{array_id}_{'*' if index is None else index}"
        state = state_word(_words(job.get("job_state")))
        reason = job.get("state_reason") or ""
        found[external_id] = Sighting(
            external_id,
            state,
            "" if reason == "None" else reason,
            job.get("nodes") or "",
            _wall_seconds(job, state, now),
            _exit_code(job.get("exit_code") or {}),
            str(job.get("name") or ""),
        )
    return found


def read_accounts(answer: Any) -> dict[str, Account]:
    """The jobs of `/slurmdb/…/jobs/`, by `4711` or `4711_3`."""
    found = {}
    for job in _list(answer, "jobs"):
        array = job.get("array") or {}
        index = number(array.get("task_id"))
        external_id = str(job.get("job_id", ""))
        if index is not None and array.get("job_id"):
            external_id = f"{array['job_id']}_{index}"
        steps = list(_list(job, "steps"))
        nodes, user = job.get("nodes") or "", job.get("kill_request_user") or ""
        found[external_id] = Account(
            Sighting(
                external_id,
                state_word(_words((job.get("state") or {}).get("current"))),
                f"by {user}" if user else "",
                "" if nodes == "None assigned" else nodes,
                float((job.get("time") or {}).get("elapsed") or 0),
                _exit_code(job.get("exit_code") or {}),
            ),
            cpu_seconds=sum(map(_cpu_seconds, steps)) or None,
            max_rss_kib=max(map(_rss_kib, steps), default=0) or None,
        )
    return found


def read_nodes(answer: Any) -> list[NodeFacts]:
    """The nodes of `/nodes/`."""
    return [
        NodeFacts(
            name=str(node.get("name")),
            states=_words(node.get("state")),
            cpus=int(node.get("effective_cpus") or node.get("cpus") or 0),
            memory_mib=int(node.get("real_memory") or 0),
            features=_words(node.get("features")),
            gres=gres_of(node.get("gres") or ""),
            partitions=_words(node.get("partitions")),
            reason=node.get("reason") or "",
        )
        for node in _list(answer, "nodes")
    ]


def read_reservations(answer: Any) -> list[str]:
    """Names in `/reservations/`."""
    return [str(one.get("name")) for one in _list(answer, "reservations")]


def read_partitions(answer: Any) -> list[PartitionFacts]:
    """The partitions of `/partitions/`. Which one is the default, v0.0.42 does not say."""
    found = []
    for one in _list(answer, "partitions"):
        most, least = one.get("maximums") or {}, one.get("minimums") or {}
        usual, nodes = one.get("defaults") or {}, one.get("nodes") or {}
        accounts, qos = one.get("accounts") or {}, one.get("qos") or {}
        state = _words((one.get("partition") or {}).get("state"))
        found.append(
            PartitionFacts(
                name=str(one.get("name")),
                state=state[0] if state else "UP",
                nodes=nodes.get("configured") or "",
                total_nodes=int(nodes.get("total") or 0),
                total_cpus=int((one.get("cpus") or {}).get("total") or 0),
                max_time_min=number(most.get("time")),
                default_time_min=number(usual.get("time")),
                min_nodes=int(least.get("nodes") or 0),
                max_nodes=number(most.get("nodes")),
                max_cpus_per_node=number(most.get("cpus_per_node")),
                max_mem_per_node_mib=number(most.get("partition_memory_per_node")) or None,
                max_mem_per_cpu_mib=number(most.get("partition_memory_per_cpu")) or None,
                default_mem_per_node_mib=number(usual.get("partition_memory_per_node")) or None,
                default_mem_per_cpu_mib=number(usual.get("partition_memory_per_cpu")) or None,
                allow_accounts=_some(accounts.get("allowed")),
                deny_accounts=_some(accounts.get("deny")),
                allow_qos=_some(qos.get("allowed")),
                deny_qos=_some(qos.get("deny")),
                allow_groups=_some((one.get("groups") or {}).get("allowed")),
                qos=qos.get("assigned") or None,
            )
        )
    return found


def errors_of(answer: Any) -> str:
    """What an answer complains of, in one line; the text itself of one that is no JSON."""
    if not isinstance(answer, Mapping):
        return str(answer).strip()[:500]
    said: list[str] = []
    for one in _list(answer, "errors"):
        words = [one.get("error") or "", one.get("description") or ""]
        said.append(": ".join(dict.fromkeys(word for word in words if word)))
    return "; ".join(dict.fromkeys(word for word in said if word))


def error_numbers(answer: Any) -> set[int]:
    return {int(one.get("error_number") or 0) for one in _list(answer, "errors")}


def release_of(answer: Any) -> str:
    """Slurm's version as slurmrestd tells it: `24.11.5`; empty where it doesn't."""
    if not isinstance(answer, Mapping):
        return ""
    return str(((answer.get("meta") or {}).get("slurm") or {}).get("release") or "")


def number(value: Any) -> int | None:
    """A number, or `{"set": …, "infinite": …, "number": …}`; None where it is not set."""
    if isinstance(value, Mapping):
        known = value.get("set") and not value.get("infinite")
        return int(value.get("number") or 0) if known else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _list(answer: Any, name: str) -> Iterable[Mapping[str, Any]]:
    found = answer.get(name) if isinstance(answer, Mapping) else None
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _words(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = value.split(",")
    return tuple(str(word) for word in value or () if word)


def _some(text: str | None) -> tuple[str, ...]:
    return () if text == "ALL" else _words(text)


def _exit_code(code: Mapping[str, Any]) -> int | None:
    signal = number((code.get("signal") or {}).get("id"))
    return 128 + signal if signal else number(code.get("return_code"))


def _cpu_seconds(step: Mapping[str, Any]) -> float:
    total = (step.get("time") or {}).get("total") or {}
    return float((total.get("seconds") or 0) + (total.get("microseconds") or 0) / 1e6)


def _rss_kib(step: Mapping[str, Any]) -> int:
    """Of its largest rank, times the ranks. What was used is under `requested` there."""
    most = ((step.get("tres") or {}).get("requested") or {}).get("max")
    sizes = [int(one.get("count") or 0) for one in most or () if one.get("type") == "mem"]
    ranks = int((step.get("tasks") or {}).get("count") or 1)
    return max(sizes, default=0) * ranks // 1024


def _wall_seconds(job: Mapping[str, Any], state: str, now: float) -> float | None:
    started, ended = number(job.get("start_time")), number(job.get("end_time"))
    if not started or state == "PENDING" or started > now:
        return None
    until = min(now, ended) if ended else now
    return float(max(0.0, until - started))
