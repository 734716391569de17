"""The configuration files of a sandboxed Slurm, for each version that Debian and Ubuntu ship. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from snakemake_executor_takeda.sandbox.slurm_layout import NodeLayout, Partition
from snakemake_executor_takeda.sandbox.slurm_processes import MARK
from snakemake_executor_takeda.values import TakedaError

CGROUP_DISABLED_SINCE = (23, 11)
"""The first version whose cgroup.conf knows `CgroupPlugin=disabled`."""


@dataclass(frozen=True)
class Node:
    """One slurmd."""

    layout: NodeLayout
    port: int

    @property
    def name(self) -> str:
        return self.layout.name


@dataclass(frozen=True)
class Accounting:
    """slurmdbd and its MariaDB."""

    port: int
    """Of slurmdbd."""
    socket: Path
    """Of MariaDB, which listens nowhere else."""


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
    partitions: tuple[Partition, ...]
    first_job_id: int = 1
    """Where job ids begin, unless the saved state is further."""
    max_array_size: int = 1001
    max_job_count: int = 10_000
    jwt_key: Path | None = None
    """Key of the tokens that slurmrestd takes."""
    accounting: Accounting | None = None


OPTIONAL_FILES = ("gres.conf", "slurmdbd.conf")


def mode(name: str) -> int:
    """Permissions of a file."""
    if name.endswith(".sh"):
        return 0o755
    return 0o600 if name == "slurmdbd.conf" else 0o644


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
        **{field.name: getattr(cluster, field.name) for field in fields(cluster)},
        "mark": MARK,
    }
    files = {
        "slurm.conf": templates.get_template("slurm.conf.jinja").render(words),
        "cgroup.conf": cgroup_conf(cluster.version),
        "task-prolog.sh": templates.get_template("slurm_task_prolog.sh.jinja").render(words),
        "epilog.sh": templates.get_template("slurm_epilog.sh.jinja").render(words),
    }
    if any(node.layout.gpu_type for node in cluster.nodes):
        files["gres.conf"] = templates.get_template("slurm_gres.conf.jinja").render(words)
    if cluster.accounting:
        files["slurmdbd.conf"] = templates.get_template("slurmdbd.conf.jinja").render(words)
    return files


def cgroup_conf(version: str) -> str:
    """Processes are tracked without cgroups, which a container or a plain user may not have."""
    major, minor = (int(part) for part in version.split(".")[:2])
    if (major, minor) >= CGROUP_DISABLED_SINCE:
        return "CgroupPlugin=disabled\n"
    return "# Nothing here: this version uses no cgroups unless a plugin asks for them.\n"


def unusable_characters(path: Path) -> Sequence[str]:
    """Characters of the path that slurm.conf has no way to quote."""
    return sorted(set(re.findall(r"[\s#,=%\"'\\]", str(path))))
