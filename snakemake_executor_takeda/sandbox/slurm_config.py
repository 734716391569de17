"""The configuration files of a sandboxed Slurm, for each version that Debian and Ubuntu ship. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from snakemake_executor_takeda.sandbox.slurm_processes import MARK
from snakemake_executor_takeda.values import TakedaError

PARTITIONS = ("hpc", "spot")
CPUS_PER_NODE = 4
MEMORY_MB_PER_NODE = 64_000
CGROUP_DISABLED_SINCE = (23, 11)
"""The first version whose cgroup.conf knows `CgroupPlugin=disabled`."""


@dataclass(frozen=True)
class Node:
    """One slurmd."""

    name: str
    port: int


@dataclass(frozen=True)
class Cluster:
    """What the files say."""

    home: Path
    run_dir: Path
    version: str
    """Such as `22.05.8`."""
    user: str
    hostname: str
    loopback_only: bool
    """Daemons listen on 127.0.0.1 only, which works where the hostname resolves to it."""
    controller_port: int
    nodes: tuple[Node, ...]
    first_job_id: int = 1
    """Where job ids begin, unless the saved state is further."""


def node_names(count: int) -> tuple[str, ...]:
    return tuple(f"node-{number}" for number in range(1, count + 1))


def parse_version(text: str) -> str:
    """`22.05.8` of `slurm-wlm 22.05.8`. Raises TakedaError for anything else."""
    match = re.search(r"\b\d{2}\.\d{2}(\.\d+)*", text)
    if not match:
        raise TakedaError(f"slurmctld -V does not tell its version: {text.strip()!r}")
    return match.group()


def render(cluster: Cluster) -> Mapping[str, str]:
    """File name → content, all to be written to the cluster's home."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("snakemake_executor_takeda", "sandbox"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - configuration files and shell scripts, not HTML
    )
    words = {
        "version": cluster.version,
        "hostname": cluster.hostname,
        "loopback_only": cluster.loopback_only,
        "controller_port": cluster.controller_port,
        "first_job_id": cluster.first_job_id,
        "user": cluster.user,
        "run_dir": cluster.run_dir,
        "home": cluster.home,
        "nodes": cluster.nodes,
        "partitions": PARTITIONS,
        "cpus_per_node": CPUS_PER_NODE,
        "memory_mb_per_node": MEMORY_MB_PER_NODE,
        "mark": MARK,
    }
    return {
        "slurm.conf": templates.get_template("slurm.conf.jinja").render(words),
        "cgroup.conf": cgroup_conf(cluster.version),
        "task-prolog.sh": templates.get_template("slurm_task_prolog.sh.jinja").render(words),
        "epilog.sh": templates.get_template("slurm_epilog.sh.jinja").render(words),
    }


def cgroup_conf(version: str) -> str:
    """Processes are tracked without cgroups, which a container or a plain user may not have."""
    major, minor = (int(part) for part in version.split(".")[:2])
    if (major, minor) >= CGROUP_DISABLED_SINCE:
        return "CgroupPlugin=disabled\n"
    return "# Nothing here: this version uses no cgroups unless a plugin asks for them.\n"


def unusable_characters(path: Path) -> Sequence[str]:
    """Characters of the path that slurm.conf has no way to quote."""
    return sorted(set(re.findall(r"[\s#,=%\"'\\]", str(path))))
