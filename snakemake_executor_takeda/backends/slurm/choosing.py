"""What is known of the cluster in a run, and the partition that each submission gets for it."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.slurm.clients.base import SlurmRefused, SlurmSilent
from snakemake_executor_takeda.backends.slurm.cluster import (
    DEFAULT_MAX_ARRAY_SIZE,
    Cluster,
    cluster_of,
)
from snakemake_executor_takeda.backends.slurm.fitting import Fit, Wish, fit, meant_or_all
from snakemake_executor_takeda.backends.slurm.options import DEFAULT_PARTITION
from snakemake_executor_takeda.backends.slurm.partition_file import VARIABLE, read_partition_file
from snakemake_executor_takeda.backends.slurm.refusals import advice_on
from snakemake_executor_takeda.backends.slurm.submit_limits import SubmitLimits, submit_limits_of
from snakemake_executor_takeda.values import FailureKind, TakedaError

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.slurm.clients.base import SlurmClient
    from snakemake_executor_takeda.backends.slurm.options import SlurmOptions
    from snakemake_executor_takeda.backends.slurm.partition_file import Limits
    from snakemake_executor_takeda.backends.slurm.request import JobRequest
    from snakemake_executor_takeda.values import JobSpec, Target

DEFAULT_ARRAY_LIMIT = DEFAULT_MAX_ARRAY_SIZE - 1
"""Of one array where neither the cluster nor the target tells."""
REFRESH_SECONDS = 600.0
"""For so long ParallelCluster leaves a compute resource alone that EC2 had no machine for."""

_CLUSTERS = ("slurm_cluster", "cluster", "clusters")

_log = logging.getLogger(__name__)


class Chooser:
    """Looks at the cluster at the start, and in a long run now and then before it sends something."""

    def __init__(self, client: SlurmClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._lock = threading.Lock()
        self._cluster: Cluster | None = None
        self._limits: dict[str, Mapping[str, Limits]] = {}
        """By target."""
        self._submit_limits = SubmitLimits()
        self._reservations: list[str] | None = None
        """As they were when one was first named."""
        self._looked_at = 0.0

    @property
    def cluster(self) -> Cluster:
        """As it was last seen; looked at now if it never was. Raises SlurmSilent, SlurmRefused."""
        with self._lock:
            if self._cluster is None:
                self._cluster = self._look()
            return self._cluster

    def check(self, targets: Iterable[Target]) -> None:
        """The partitions that targets name. Raises TakedaError with the nearest word, SlurmSilent or
        SlurmRefused."""
        known = sorted(self.cluster.partitions)
        for target in targets:
            self._limits[target.name] = _limits_of(target, known)
            for name in partitions_of(target.options):
                if name not in known:
                    raise TakedaError(
                        f"target {target.name}: the cluster has no partition {name!r}."
                        f" {meant_or_all(name, known)}"
                    )

    def array_limit(self, target: Target) -> int:
        """Most tasks of one array for this target."""
        options: SlurmOptions = target.options
        cluster = self.cluster
        named = cluster.partitions.get(options.named_partition or "")
        submits = self._submit_limits.most(
            options.account, options.qos, named.qos if named else None
        )
        limits = [options.array_limit, cluster.array_limit, submits]
        return min((one for one in limits if one is not None), default=DEFAULT_ARRAY_LIMIT)

    def choose(self, request: JobRequest, job: JobSpec, target: Target) -> Fit:
        """Where a job goes by what was last seen. Raises SubmissionError where nothing fits it."""
        limits = self._limits.get(target.name, {})
        return fit(request, wish_of(job, target, limits), self.cluster)

    def check_reservation(self, request: JobRequest, job: JobSpec, target: Target) -> None:
        """Raises SubmissionError for a reservation that is not there; asks once, if one is named."""
        named = request.reservation or next(
            (word.partition("=")[2] for word in request.extra if word.startswith("--reservation=")),
            None,
        )
        if not named:
            return
        if self._reservations is None:
            try:
                self._reservations = sorted(self._client.reservations())
            except (SlurmSilent, SlurmRefused) as error:
                _log.debug("Slurm does not tell its reservations: %s", error)
                return  # it will say so itself
        for name in filter(None, re.split(r"[,\s]+", named)):
            if name not in self._reservations:
                raise SubmissionError(
                    FailureKind.CONFIGURATION,
                    f"rule {job.rule}: the cluster has no reservation {name!r}."
                    f" {meant_or_all(name, self._reservations)}",
                    advice_on("reservation", target.name),
                )

    def look_again(self) -> None:
        """See which nodes and partitions have come and gone, if the last look is long ago. Without an
        answer, what was seen still holds."""
        with self._lock:
            known, now = self._cluster, self._clock()
            if known is None or now - self._looked_at < REFRESH_SECONDS:
                return
            self._looked_at = now
        # Unlocked: others place jobs by what was seen while a busy controller takes minutes.
        try:
            fresh = self._look()
        except (SlurmSilent, SlurmRefused) as error:
            _log.debug("Slurm does not say how its nodes are: %s", error)
            self._looked_at = self._clock()
            return
        with self._lock:
            # Arrays of this run have been cut by the limit as it was.
            self._cluster = replace(fresh, array_limit=known.array_limit)

    def _look(self) -> Cluster:
        self._looked_at = self._clock()
        nodes, partitions = self._client.nodes(), self._client.partition_details()
        settings = self._client.settings()
        if self._cluster is None:
            self._submit_limits = submit_limits_of(settings)
        return cluster_of(nodes, partitions, settings)


def wish_of(
    job: JobSpec, target: Target, limits: Mapping[str, Limits] = MappingProxyType({})
) -> Wish:
    """What rule and target say on where the job goes."""
    options: SlurmOptions = target.options
    choices: tuple[str, ...] | None = None
    if options.partition is None:
        choices = tuple(limits)
    elif isinstance(options.partition, tuple):
        choices = options.partition
    instance_type = job.resources.get("instance_type")
    return Wish(
        rule=job.rule,
        choices=choices,
        instances=(str(instance_type),) if instance_type else target.instances,
        is_found=bool(instance_type) and not target.instances and options.finds_instances,
        efa=target.efa,
        limits=limits,
        clusters=next(
            (str(job.resources[name]) for name in _CLUSTERS if job.resources.get(name)), None
        ),
    )


def _limits_of(target: Target, known: Sequence[str]) -> Mapping[str, Limits]:
    options: SlurmOptions = target.options
    path, word = options.partition_file, "`partition_file`"
    if path is None and options.partition is None:
        path, word = os.environ.get(VARIABLE), VARIABLE
    if not path:
        return {}
    try:
        limits = read_partition_file(Path(path))
    except TakedaError as error:
        raise TakedaError(
            f"{target.where}: {str(error).rstrip('.')}. Mend it, name another by {word}, or leave "
            f"{word} out."
        ) from error
    for name in limits:
        if name not in known:
            raise TakedaError(
                f"target {target.name}: {path} has a partition {name!r}, the cluster has not."
                f" {meant_or_all(name, known)}"
            )
    return limits


def partitions_of(options: SlurmOptions) -> list[str]:
    """All partitions that a target names."""
    partition = options.partition
    if partition is None or partition == DEFAULT_PARTITION:
        return []
    names = partition if isinstance(partition, tuple) else partition.split(",")
    return [name.strip() for name in names if name.strip()]
