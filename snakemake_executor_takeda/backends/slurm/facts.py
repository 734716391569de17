"""What a cluster says of its nodes and partitions, as values; and those values read from scontrol. Pure.

Formats of `scontrol --oneliner show node|partition` as of 21.08 to 25.11.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from snakemake_executor_takeda.backends.slurm.answers import read_duration

_NOTHING = frozenset({"", "(null)", "N/A", "n/a", "NONE", "None", "UNLIMITED", "INFINITE"})


@dataclass(frozen=True)
class NodeFacts:
    """One node as Slurm shows it."""

    name: str
    states: tuple[str, ...]
    """The base state, then flags: `("IDLE", "CLOUD", "POWERED_DOWN")`."""
    cpus: int
    """That jobs can have."""
    memory_mib: int
    """RealMemory."""
    features: tuple[str, ...] = ()
    """Available ones."""
    gres: tuple[str, ...] = ()
    """Without sockets: `("gpu:a10g:4",)`."""
    partitions: tuple[str, ...] = ()
    reason: str = ""
    """Why it is down or drained."""


@dataclass(frozen=True)
class PartitionFacts:
    """One partition as Slurm shows it. None means no limit."""

    name: str
    state: str = "UP"
    """UP, DOWN, DRAIN or INACTIVE."""
    is_default: bool = False
    nodes: str = ""
    """A host list such as `node-[1-4]`."""
    total_nodes: int = 0
    total_cpus: int = 0
    max_time_min: int | None = None
    default_time_min: int | None = None
    min_nodes: int = 0
    max_nodes: int | None = None
    """Of one job."""
    max_cpus_per_node: int | None = None
    max_mem_per_node_mib: int | None = None
    max_mem_per_cpu_mib: int | None = None
    default_mem_per_node_mib: int | None = None
    default_mem_per_cpu_mib: int | None = None
    allow_accounts: tuple[str, ...] = ()
    """Empty for all."""
    deny_accounts: tuple[str, ...] = ()
    allow_qos: tuple[str, ...] = ()
    """Empty for all."""
    deny_qos: tuple[str, ...] = ()
    allow_groups: tuple[str, ...] = ()
    """Empty for all."""
    qos: str | None = None
    """Whose limits hold for the partition."""
    is_hidden: bool = False
    is_root_only: bool = False
    needs_reservation: bool = False


def read_nodes(text: str) -> list[NodeFacts]:
    """The lines of `scontrol --oneliner show node`."""
    return [
        NodeFacts(
            name=name,
            states=states_of(_value(line, "State")),
            cpus=_count(_value(line, "CPUEfctv") or _value(line, "CPUTot")) or 0,
            memory_mib=_count(_value(line, "RealMemory")) or 0,
            features=_several(_value(line, "AvailableFeatures")),
            gres=gres_of(_value(line, "Gres")),
            partitions=_several(_value(line, "Partitions")),
            reason=_reason(line),
        )
        for line in text.splitlines()
        if (name := _value(line, "NodeName"))
    ]


def read_reservations(text: str) -> list[str]:
    """Names in the lines of `scontrol --oneliner show reservation`."""
    return re.findall(r"^ReservationName=(\S+)", text, re.MULTILINE)


def read_partitions(text: str) -> list[PartitionFacts]:
    """The lines of `scontrol --oneliner show partition`."""
    return [
        PartitionFacts(
            name=name,
            state=_value(line, "State"),
            is_default=_value(line, "Default") == "YES",
            nodes=_word(_value(line, "Nodes")),
            total_nodes=_count(_value(line, "TotalNodes")) or 0,
            total_cpus=_count(_value(line, "TotalCPUs")) or 0,
            max_time_min=_minutes(_value(line, "MaxTime")),
            default_time_min=_minutes(_value(line, "DefaultTime")),
            min_nodes=_count(_value(line, "MinNodes")) or 0,
            max_nodes=_count(_value(line, "MaxNodes")),
            max_cpus_per_node=_count(_value(line, "MaxCPUsPerNode")),
            max_mem_per_node_mib=_count(_value(line, "MaxMemPerNode")),
            max_mem_per_cpu_mib=_count(_value(line, "MaxMemPerCPU")),
            default_mem_per_node_mib=_count(_value(line, "DefMemPerNode")),
            default_mem_per_cpu_mib=_count(_value(line, "DefMemPerCPU")),
            allow_accounts=_all_or(_value(line, "AllowAccounts")),
            deny_accounts=_several(_value(line, "DenyAccounts")),
            allow_qos=_all_or(_value(line, "AllowQos")),
            deny_qos=_several(_value(line, "DenyQos")),
            allow_groups=_all_or(_value(line, "AllowGroups")),
            qos=_word(_value(line, "QoS")) or None,
            is_hidden=_value(line, "Hidden") == "YES",
            is_root_only=_value(line, "RootOnly") == "YES",
            needs_reservation=_value(line, "ReqResv") == "YES",
        )
        for line in text.splitlines()
        if (name := _value(line, "PartitionName"))
    ]


def states_of(text: str) -> tuple[str, ...]:
    """`IDLE+CLOUD*` → `("IDLE", "CLOUD")`: marks at the end are said by flags as well."""
    return tuple(word for word in re.split(r"\+", text.upper().rstrip("*~#!%$@^-")) if word)


def gres_of(text: str) -> tuple[str, ...]:
    """`gpu:a10g:4(S:0-1),shard:8` → `("gpu:a10g:4", "shard:8")`."""
    return _several(re.sub(r"\([^)]*\)", "", _word(text)))


def _value(line: str, key: str) -> str:
    match = re.search(rf"(?:^|\s){key}=(\S*)", line)
    return match[1] if match else ""


def _reason(line: str) -> str:
    match = re.search(r"\sReason=(.*?)(?:\s\[[^\]]*\])?\s*(?:\sComment=.*)?$", line)
    return _word(match[1]) if match else ""


def _word(text: str) -> str:
    return "" if text in _NOTHING else text


def _several(text: str) -> tuple[str, ...]:
    return tuple(part for part in _word(text).split(",") if part)


def _all_or(text: str) -> tuple[str, ...]:
    return () if text == "ALL" else _several(text)


def _count(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _minutes(text: str) -> int | None:
    seconds = None if text in _NOTHING else read_duration(text)
    return None if seconds is None else int(seconds // 60)
