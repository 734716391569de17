"""Slurm: does it answer, are partitions and nodes up, do jobs find launcher, EFA, and their files?"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.slurm.arguments import job_request
from snakemake_executor_takeda.backends.slurm.choosing import partitions_of, wish_of
from snakemake_executor_takeda.backends.slurm.clients.base import (
    SlurmRefused,
    SlurmSilent,
    SlurmUnauthorized,
)
from snakemake_executor_takeda.backends.slurm.clients.choosing import open_client
from snakemake_executor_takeda.backends.slurm.cluster import cluster_of, is_available
from snakemake_executor_takeda.backends.slurm.fitting import fit
from snakemake_executor_takeda.backends.slurm.options import DEFAULT_PARTITION
from snakemake_executor_takeda.backends.slurm.srun import Srun
from snakemake_executor_takeda.doctor.cloud import Once
from snakemake_executor_takeda.doctor.findings import (
    Checkup,
    Finding,
    NotTold,
    Severity,
    halves,
)
from snakemake_executor_takeda.doctor.places_here import Mount, is_exported, mount_of, mounts_here
from snakemake_executor_takeda.nearest import nearest
from snakemake_executor_takeda.values import JobSpec, TakedaError, submission_to_check

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.slurm.clients.base import SlurmClient
    from snakemake_executor_takeda.backends.slurm.cluster import Cluster
    from snakemake_executor_takeda.backends.slurm.facts import NodeFacts
    from snakemake_executor_takeda.backends.slurm.options import SlurmOptions
    from snakemake_executor_takeda.doctor.asked import Asked
    from snakemake_executor_takeda.doctor.largest import Largest
    from snakemake_executor_takeda.values import Target

_STOPS = "a run stops at its start"
_SHOWN = 4


@dataclass(frozen=True)
class Seen:
    """One look at the cluster."""

    client: SlurmClient
    cluster: Cluster
    nodes: tuple[NodeFacts, ...]


def checkups(targets: Sequence[Target], asked: Asked) -> Iterator[Checkup]:
    seen = Once(partial(_look, targets))
    controller = Checkup("controller", "Slurm", partial(_controller, seen, targets), vital=True)
    yield controller
    srun = Srun()
    folders: set[Path] = set()
    for target in targets:
        largest = asked.project.largest[target.name]
        name = target.name
        partition = Checkup("partition", name, partial(_partition, seen, target), (controller,))
        nodes = Checkup("nodes", name, partial(_nodes, seen, target), (partition,))
        yield nodes
        room = partial(_largest, seen, target, largest, asked)
        efa = Checkup("EFA", name, partial(_efa, seen, target), (partition,))
        if target.efa:
            yield efa
        yield Checkup("largest job", name, room, (partition, efa) if target.efa else (partition,))
        if target.options.reservation:
            yield Checkup("reservation", name, partial(_reservation, seen, target), (controller,))
        if largest.mpi_by:
            yield Checkup("MPI", name, partial(_mpi, srun, target, largest, asked), (controller,))
        if target.options.container_runtime == "pyxis":
            yield Checkup("Pyxis", name, partial(_pyxis, srun, target), (controller,))
        folder = _folder(target, asked)
        if folder not in folders:
            folders.add(folder)
            yield Checkup(
                "shared folder", name, partial(_shared, seen, target, folder, asked), (controller,)
            )


def _look(targets: Sequence[Target]) -> Seen:
    client, _ = open_client(targets)
    nodes = tuple(client.nodes())
    cluster = cluster_of(nodes, client.partition_details(), client.settings())
    return Seen(client, cluster, nodes)


def _controller(seen: Once[Seen], targets: Sequence[Target]) -> Iterator[Finding]:
    where = targets[0].where
    try:
        seen()
    except SlurmUnauthorized as error:
        what, fix = halves(str(error))
        yield Finding(f"{where}: {what}", _STOPS, fix)
    except (SlurmSilent, SlurmRefused) as error:
        yield Finding(
            f"{where}: Slurm's controller does not answer: {error}",
            _STOPS,
            _how_to_reach(targets),
        )
    except TakedaError as error:
        what, fix = halves(str(error))
        yield Finding(f"{where}: {what}", _STOPS, fix)


def _how_to_reach(targets: Sequence[Target]) -> str:
    url = next((t.options.rest_url for t in targets if t.options.rest_url), None)
    if url:
        return (
            f"curl {shlex.quote(f'{url}/openapi')} shows whether slurmrestd answers; correct `rest_url`, "
            "or renew the token: scontrol token lifespan=86400"
        )
    return (
        "scontrol ping, and on the head node: sudo systemctl restart slurmctld; is SLURM_CONF "
        f"({os.environ.get('SLURM_CONF', 'not set')}) the cluster's?"
    )


def _partition(seen: Once[Seen], target: Target) -> Iterator[Finding]:
    return judged_partitions(target, seen().cluster)


def judged_partitions(target: Target, cluster: Cluster) -> Iterator[Finding]:
    """That what the target names is there, and takes and starts jobs."""
    options: SlurmOptions = target.options
    known = sorted(cluster.partitions)
    if options.partition == DEFAULT_PARTITION and cluster.default_partition is None:
        yield Finding(
            f"{target.where}: the cluster tells of no default partition",
            "nobody knows where jobs go",
            f"name one: `partition: {known[0] if known else 'NAME'}`",
        )
        return
    for name in partitions_of(options):
        if name not in cluster.partitions:
            yield Finding(
                f"{target.where}: the cluster has no partition {name!r}",
                _STOPS,
                _correct("partition", name, known),
            )
            continue
        state = cluster.partitions[name].state
        if state != "UP":
            waits = "jobs wait in it" if state == "DOWN" else "it takes no jobs"
            yield Finding(
                f"{target.where}: the partition {name} is {state}",
                f"{waits} until it is UP",
                f"sudo scontrol update PartitionName={name} State=UP",
            )


def _correct(word: str, name: str, known: Sequence[str]) -> str:
    near = nearest(name, known)
    there = f"there are {', '.join(known)}" if known else "there are none"
    return f"correct `{word}`: {f'did you mean {near}?' if near else there}"


def _nodes(seen: Once[Seen], target: Target) -> Iterator[Finding]:
    one = seen()
    return judged_nodes(target, one.cluster, one.nodes)


def judged_nodes(target: Target, cluster: Cluster, nodes: Iterable[NodeFacts]) -> Iterator[Finding]:
    """That some node of the target's partitions can run a job, now or once it is powered up."""
    names = _names_of(target, cluster)
    mine = [node for node in nodes if set(names) & set(node.partitions)]
    if not mine or any(map(is_available, mine)):
        return
    shown = ",".join(node.name for node in mine[:_SHOWN]) + (",…" if len(mine) > _SHOWN else "")
    states = ", ".join(dict.fromkeys("+".join(node.states) for node in mine))
    reason = next((node.reason for node in mine if node.reason), "")
    yield Finding(
        f"{target.where}: all {len(mine)} nodes of {', '.join(names)} are down ({states}"
        f"{f': {reason}' if reason else ''})",
        "jobs wait for a node that never comes",
        f"mend what the reason says, then: sudo scontrol update NodeName={shown} State=RESUME",
    )


def _names_of(target: Target, cluster: Cluster) -> list[str]:
    options: SlurmOptions = target.options
    default = cluster.default_partition
    if options.partition == DEFAULT_PARTITION:
        return [default.name] if default else []
    return partitions_of(options) or sorted(cluster.partitions)


def _largest(seen: Once[Seen], target: Target, largest: Largest, asked: Asked) -> Iterator[Finding]:
    return judged_largest(target, largest, seen().cluster, asked.project.workdir)


def judged_largest(
    target: Target, largest: Largest, cluster: Cluster, workdir: Path
) -> Iterator[Finding]:
    """What keeps the largest job that is known, or any job at all, out of all partitions."""
    job = _job(largest, mpi=False)
    try:
        request = job_request(
            submission_to_check(job, target), target.options, workdir, workdir / "logs"
        )
        fit(request, wish_of(job, target), cluster)
    except SubmissionError as error:
        told = f" ({largest.told()})" if largest.is_known else ""
        yield Finding(
            f"{target.where}: its largest job{told} has no place: "
            f"{error.reason.replace(f'rule {job.rule}', 'it')}",
            "such jobs are refused",
            "name another `partition`, or lower what asks for it: `sinfo --all` and `scontrol show "
            "partition` show what the cluster has",
        )


def _job(largest: Largest, *, mpi: bool) -> JobSpec:
    resources = {word: wanted.value for word, wanted in largest.numbers.items()}
    return JobSpec(0, "largest", {}, 1, largest.shape(mpi=mpi), resources, rules=("largest",))


def _efa(seen: Once[Seen], target: Target) -> Iterator[Finding]:
    one = seen()
    return judged_efa(target, one.cluster, one.nodes)


def judged_efa(target: Target, cluster: Cluster, nodes: Iterable[NodeFacts]) -> Iterator[Finding]:
    names = _names_of(target, cluster)
    mine = [node for node in nodes if set(names) & set(node.partitions)]
    if not mine or any("efa" in node.features for node in mine):
        return
    shown = ",".join(node.name for node in mine[:_SHOWN])
    there = ", ".join(dict.fromkeys(word for node in mine for word in node.features)) or "none"
    yield Finding(
        f"{target.where}: `efa: true`, and no node of {', '.join(names)} has the feature `efa` (features: "
        f"{there})",
        "MPI jobs end within seconds on a node without the device, or are refused",
        "ParallelCluster: Efa: {Enabled: true} of the queue's compute resource; elsewhere, where the nodes "
        f"have it: sudo scontrol update NodeName={shown} AvailableFeatures=efa; or leave `efa` out",
    )


def _reservation(seen: Once[Seen], target: Target) -> Iterator[Finding]:
    name = target.options.reservation
    known = sorted(seen().client.reservations())
    if name not in known:
        yield Finding(
            f"{target.where}: the cluster has no reservation {name!r}",
            "every job is refused",
            _correct("reservation", name, known),
        )


def _mpi(srun: Srun, target: Target, largest: Largest, asked: Asked) -> Iterator[Finding]:
    if not shutil.which("srun"):
        raise NotTold(f"{target.where}: there is no srun here to ask for its PMI plugins")
    shape_without_nodes = replace(largest, numbers={})
    try:
        srun.check_job(_job(shape_without_nodes, mpi=True), target, asked.project.workdir)
    except SubmissionError as error:
        yield Finding(
            f"{target.where}: {error.reason} (MPI jobs come here by {largest.mpi_by})",
            "MPI jobs are refused when the run starts",
            error.advice.rstrip("."),
        )


def _pyxis(srun: Srun, target: Target) -> Iterator[Finding]:
    if not shutil.which("srun"):
        raise NotTold(f"{target.where}: there is no srun here to ask for Pyxis")
    srun.check_targets([target])
    return iter(())


# Files.


def _is_shared(target: Target, asked: Asked) -> bool:
    """Whether the run's own directory must be the nodes', too."""
    options: SlurmOptions = target.options
    has_s3 = asked.project.storage.own_prefix is not None
    if options.exchange == "auto":
        return not (has_s3 and (options.rest_url or options.client == "rest"))
    return options.exchange == "shared"


def _folder(target: Target, asked: Asked) -> Path:
    scratch = target.options.scratch
    return Path(scratch) if scratch else asked.project.workdir


def _shared(seen: Once[Seen], target: Target, folder: Path, asked: Asked) -> Iterator[Finding]:
    if not _is_shared(target, asked):
        raise NotTold(
            f"{target.where}: {target.options.scratch or 'files of jobs'} is on the nodes only, and no job is "
            "sent to look"
        )
    word = "`scratch`" if target.options.scratch else "the working directory"
    yield from judged_writable(target, folder, word, _why_not_writable(folder))
    hosts = _hosts_of_nodes(target, seen())
    if hosts is None or hosts <= _names_of_this_machine():
        return  # nodes that are this machine see what it sees
    yield from judged_mount(
        target, folder, word, mount_of(folder, mounts_here()), exported=is_exported(folder)
    )


def _why_not_writable(folder: Path) -> str | None:
    """Of the folder, or of what a run would make it in; None where it can be written."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            return None
    except OSError as error:
        return f"{there}: {error.strerror}"


def judged_writable(
    target: Target, folder: Path, word: str, why_not: str | None
) -> Iterator[Finding]:
    if why_not:
        yield Finding(
            f"{target.where}: {word} {folder} can't be written ({why_not})",
            _STOPS,
            "name a folder that you may write to, on a file system that this machine and the nodes "
            f"share: `scratch: /fsx/{target.name}`; or: sudo install -d -o $USER {folder}",
        )


def judged_mount(
    target: Target, folder: Path, word: str, mount: Mount | None, *, exported: bool
) -> Iterator[Finding]:
    """Whether other hosts can see a folder, by its file system. Raises NotTold where that does not tell."""
    if mount is None or mount.is_network or exported:
        return
    if mount.is_of_one_host or folder.is_relative_to(tempfile.gettempdir()):
        yield Finding(
            f"{target.where}: {word} {folder} is this machine's own ({mount.kind}), and the nodes are others",
            "jobs do not find their manifests, or write where nobody looks",
            "run in a folder that they share, or name one: `scratch: /fsx/scratch` (FSx, EFS, NFS)",
            Severity.WARNING,
        )
        return
    partition = target.options.named_partition
    where = f"-p {partition} " if partition else ""
    raise NotTold(
        f"{target.where}: whether the nodes see {word} {folder} cannot be told from here ({mount.kind} on "
        f"{mount.point})",
        f"srun {where}ls -d {shlex.quote(str(folder))}",
    )


def _names_of_this_machine() -> set[str]:
    name = socket.gethostname()
    return {name, name.partition(".")[0], "localhost", "127.0.0.1", "::1"}


def _hosts_of_nodes(target: Target, seen: Seen) -> set[str] | None:
    """Names of the machines behind the nodes; None where they are not told."""
    if seen.client.is_remote or not shutil.which("scontrol"):
        return None
    done = subprocess.run(
        ["scontrol", "--oneliner", "show", "node"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=30,
        check=False,
    )
    names = set(_names_of(target, seen.cluster))
    hosts = set()
    for line in done.stdout.splitlines():
        mine = re.search(r"\sPartitions=(\S+)", line)
        host = re.search(r"\sNodeHostName=(\S+)", line)
        if mine and host and names & set(mine[1].split(",")):
            hosts.add(host[1])
    return hosts or None
