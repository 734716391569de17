"""What a job asks and what the cluster has → its partition, and why; or what is missing where. Pure.

Slurm itself still picks the nodes. Here is decided which partitions it may pick them from, and what
can never run is refused before anything is sent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.slurm.cluster import Gres, read_gres
from snakemake_executor_takeda.backends.slurm.features import allows, names_in
from snakemake_executor_takeda.nearest import nearest
from snakemake_executor_takeda.values import FailureKind

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.slurm.cluster import Cluster, NodeGroup
    from snakemake_executor_takeda.backends.slurm.facts import PartitionFacts
    from snakemake_executor_takeda.backends.slurm.partition_file import Limits
    from snakemake_executor_takeda.backends.slurm.request import JobRequest

_DECIDES = {
    "account": "A",
    "cores-per-socket": "",
    "constraint": "C",
    "cpus-per-gpu": "",
    "cpus-per-task": "c",
    "exclusive": "",
    "extra-node-info": "B",
    "gpus": "G",
    "gpus-per-node": "",
    "gpus-per-socket": "",
    "gpus-per-task": "",
    "gres": "",
    "mem": "",
    "mem-per-cpu": "",
    "mem-per-gpu": "",
    "mincpus": "",
    "nodefile": "F",
    "nodelist": "w",
    "nodes": "N",
    "ntasks": "n",
    "ntasks-per-gpu": "",
    "ntasks-per-node": "",
    "partition": "p",
    "qos": "q",
    "reservation": "",
    "sockets-per-node": "",
    "threads-per-core": "",
    "time": "t",
}
"""Long option of sbatch → its letter: those that change what fits where."""


@dataclass(frozen=True)
class Wish:
    """What target and rule say on where a job goes, beside the request itself."""

    rule: str
    choices: tuple[str, ...] | None = None
    """Partitions to choose the smallest from; none: from all. None where the request names its own,
    which it goes to as far as it fits them."""
    instances: tuple[str, ...] = ()
    """Instance types or families; any of them will do."""
    efa: bool = False
    clusters: str | None = None
    """The cluster that the rule asks for."""
    limits: Mapping[str, Limits] = field(default_factory=dict)
    """A site's own limits, by partition."""
    is_found: bool = False
    """Whether features have to tell where the instances are, as the target lists none."""


@dataclass(frozen=True)
class Fit:
    """Where a job goes."""

    request: JobRequest
    reasons: tuple[str, ...]
    other_accounts: tuple[str, ...] = ()
    """To be tried where Slurm does not take the request's."""


@dataclass(frozen=True)
class _Lack:
    """What a partition does not have for a job."""

    text: str
    """Continues a sentence that begins with the partition's name."""
    distance: float = math.inf
    """How many times more the job asks for than there is."""
    passes: bool = False
    """Whether it may be otherwise later, for the same job."""


@dataclass(frozen=True)
class _Trial:
    """One partition tried."""

    partition: PartitionFacts
    lacks: tuple[_Lack, ...]
    groups: tuple[NodeGroup, ...] = ()
    """Those whose nodes can take the job, or a part of it."""
    constraint: str | None = None
    doubts: tuple[str, ...] = ()
    """Why another partition is better, though sbatch accepts the job."""
    is_sure: bool = True
    """False where nothing tells whether it has the instance types that are asked for."""

    @property
    def smallest(self) -> NodeGroup | None:
        return min(self.groups, key=_size_of, default=None)


def fit(request: JobRequest, wish: Wish, cluster: Cluster) -> Fit:
    """The request with partition and constraint. Raises SubmissionError for what no partition takes: it
    names the nearest and what is missing. That is a configuration mistake, or no capacity where a
    partition would take it but for its state.

    Of several accounts the first is taken that a partition is open for.
    """
    accounts = re.split(r"[,\s]+", (request.account or "").strip(", "))
    refusals = []
    for number, account in enumerate(accounts):
        try:
            found = _fit(replace(request, account=account or None), wish, cluster)
        except SubmissionError as refusal:
            refusals.append(refusal)
        else:
            return replace(found, other_accounts=tuple(accounts[number + 1 :]))
    raise refusals[0]


def _fit(request: JobRequest, wish: Wish, cluster: Cluster) -> Fit:
    if overrides := deciding_options(request.extra):
        said = ", ".join(overrides)
        return Fit(request, (f"{said} is set by hand: Slurm alone decides what fits",))
    _check_words(request, wish, cluster)
    request, spelled = _with_known_gpu(request, cluster)
    named = _names(request.partition)
    if wish.choices is None and not named:
        default = cluster.default_partition
        if default is None:
            return Fit(request, ("the cluster's own choice of partition",))
        named = (default.name,)
    pool = named or wish.choices or tuple(cluster.partitions)
    trials = [
        _try(request, wish, cluster, cluster.partitions[name])
        for name in pool
        if name in cluster.partitions
    ]
    if not trials:
        return Fit(request, ("the partition is not known here: Slurm decides",))
    fitting = [trial for trial in trials if not trial.lacks]
    if not fitting:
        raise _refusal(request, wish, trials, is_named=bool(named or wish.choices))
    if named:
        return _as_named(request, cluster, trials, fitting, spelled)
    best = min(fitting, key=lambda trial: _rank(request, pool, trial, bool(wish.choices)))
    return _with(request, cluster, (best,), (_why(best, trials), *spelled))


def deciding_options(extra: Iterable[str]) -> list[str]:
    """The options among these words of sbatch that change what fits where."""
    found = []
    for word in extra:
        if word.startswith("--"):
            name = word[2:].partition("=")[0]
            found += [f"--{option}" for option in _DECIDES if option == name]
        elif any(letter and word.startswith(f"-{letter}") for letter in _DECIDES.values()):
            found.append(word[:2])
    return found


# One partition.


def _try(request: JobRequest, wish: Wish, cluster: Cluster, partition: PartitionFacts) -> _Trial:
    lacks = [*_closed(request, partition), *_limits(request, partition)]
    if limits := wish.limits.get(partition.name):
        lacks += (_Lack(*beyond) for beyond in _beyond(request, limits))
    groups = cluster.groups_of(partition.name)
    hides = cluster.hides_nodes(partition)
    chosen, constraint, missing, is_sure = _featured(request, wish, cluster, groups)
    doubts = [*_doubts(request, partition)]
    if not is_sure:
        doubts.append("nothing tells which instance types it has")
    able: tuple[NodeGroup, ...] = ()
    if hides:
        # Nobody says what the nodes are that are powered down: Slurm decides.
        able = tuple(group for group in chosen if _ranks_on(request, partition, cluster, group))
        doubts.append("some of its nodes are not shown while they are powered down")
    elif missing:
        lacks.append(missing)
    else:
        able, more = _able(request, partition, cluster, chosen)
        lacks += more
    if able and not hides and not _enough(request, partition, cluster, able, only_available=True):
        why = next((group.trouble for group in able if group.trouble), "down or drained")
        doubts.append(f"too few of its nodes are available at present ({why})")
    return _Trial(partition, tuple(lacks), able, constraint, tuple(doubts), is_sure)


def _beyond(request: JobRequest, limits: Limits) -> Iterable[tuple[str, float]]:
    in_gres = [one for one in _gres(request) if one.kind == "gpu"]
    gpus = request.gpus or sum(one.count for one in in_gres)
    model = request.gpu_model or next((one.model for one in in_gres if one.model), None)
    return limits.exceeded(request, gpus, model, names_in(request.constraint or ""))


def _closed(request: JobRequest, partition: PartitionFacts) -> Iterable[_Lack]:
    if partition.state not in ("UP", "DOWN"):
        yield _Lack(f"takes no jobs: it is {partition.state}", passes=True)
    if partition.needs_reservation and not request.reservation:
        yield _Lack("takes jobs of a reservation only, and none is named")
    for what, value, allowed, denied in (
        ("account", request.account, partition.allow_accounts, partition.deny_accounts),
        ("qos", request.qos, partition.allow_qos, partition.deny_qos),
    ):
        if value and allowed and value.lower() not in map(str.lower, allowed):
            yield _Lack(f"is for {what} {', '.join(allowed)}, not {value}")
        if value and value.lower() in map(str.lower, denied):
            yield _Lack(f"is closed for {what} {value}")


def _doubts(request: JobRequest, partition: PartitionFacts) -> Iterable[str]:
    if partition.state == "DOWN":
        yield "it is DOWN: jobs wait"
    if partition.is_hidden:
        yield "it is hidden"
    if partition.is_root_only:
        yield "it is for root only"
    if partition.allow_accounts and not request.account:
        yield f"it is for accounts {', '.join(partition.allow_accounts)}"
    if partition.allow_qos and not request.qos:
        yield f"it is for qos {', '.join(partition.allow_qos)}"
    if partition.allow_groups:
        yield f"it is for groups {', '.join(partition.allow_groups)}"


def _limits(request: JobRequest, partition: PartitionFacts) -> Iterable[_Lack]:
    # A quality of service may lift both of these limits.
    runtime, most = request.runtime_min, partition.max_time_min
    if runtime and most is not None and runtime > most and not request.qos:
        yield _Lack(
            f"runs jobs for at most {_minutes(most)}, and it asks runtime={runtime} min",
            runtime / max(most, 1),
        )
    nodes, most = request.nodes, partition.max_nodes
    if nodes and most is not None and nodes > most and not request.qos:
        yield _Lack(f"gives a job at most {most} nodes, and it asks {nodes}", nodes / max(most, 1))
    if nodes and nodes < partition.min_nodes:
        yield _Lack(f"gives a job at least {partition.min_nodes} nodes, and it asks {nodes}")


def _featured(
    request: JobRequest, wish: Wish, cluster: Cluster, groups: Sequence[NodeGroup]
) -> tuple[list[NodeGroup], str | None, _Lack | None, bool]:
    """The groups with the features that are asked for, the constraint that tells Slurm, what is
    missing where there are none, and whether the instance types are sure."""
    own = request.constraint
    is_sure = True
    chosen = [group for group in groups if allows(own, group.features)]
    if own and not chosen:
        return [], own, _Lack(f"has no nodes with {own}"), is_sure
    terms: list[str] = []
    if wish.instances and _tells_instances(cluster):
        matched, names, is_sure = _of_instances(wish.instances, chosen)
        if not matched:
            there = sorted({group.instance_type or group.name for group in groups})
            asked = " or ".join(wish.instances)
            lack = _Lack(f"has no {asked} (it has {', '.join(there) or 'no nodes'})")
            return [], own, lack, True
        if len(matched) < len(chosen):
            terms.append("|".join(names))
        chosen = matched
    if wish.efa and (cluster.is_parallelcluster or "efa" in cluster.features):
        with_efa = [group for group in chosen if "efa" in group.features]
        if not with_efa:
            return [], own, _Lack("has no nodes with EFA (no feature `efa`)"), True
        if len(with_efa) < len(chosen):
            terms.append("efa")
        chosen = with_efa
    return chosen, _joined(own, terms), None, is_sure


def _tells_instances(cluster: Cluster) -> bool:
    return cluster.is_parallelcluster or bool(cluster.instance_types)


def _of_instances(
    instances: Sequence[str], groups: Sequence[NodeGroup]
) -> tuple[list[NodeGroup], list[str], bool]:
    """The groups that have one of these types or families, the features that name them, and whether
    that is sure.

    Where a compute resource has several types, its features do not say which: it may be named itself,
    by a name such as `c7i4xlarge` too, and counts where nothing matches for certain.
    """
    names: dict[str, None] = {}
    certain = []
    for group in groups:
        kind, resource = group.instance_type, group.resource
        for wanted in instances:
            if kind and kind.startswith(f"{wanted}."):
                found = kind
            elif wanted in group.features:
                found = wanted
            elif kind is None and resource and _plain(wanted) in _plain(resource):
                found = resource
            else:
                continue
            names[found] = None
            certain.append(group)
            break
    if certain:
        return certain, sorted(names), True
    possible = [group for group in groups if group.resource and group.instance_type is None]
    return possible, sorted({str(group.resource) for group in possible}), False


def _joined(own: str | None, terms: Sequence[str]) -> str | None:
    """One constraint of all. Slurm's counts and brackets can't be joined with anything."""
    if not terms or (own and re.search(r"[\[\]*]", own)):
        return own
    parts = [*([own] if own else []), *terms]
    if len(parts) == 1:
        return parts[0]
    return "&".join(f"({part})" if "|" in part or "," in part else part for part in parts)


# Nodes.


def _able(
    request: JobRequest,
    partition: PartitionFacts,
    cluster: Cluster,
    groups: Sequence[NodeGroup],
) -> tuple[tuple[NodeGroup, ...], list[_Lack]]:
    """The groups whose nodes can take ranks of the job, or what all of them lack."""
    if not groups:
        return (), [_Lack("has no nodes")]
    able = tuple(group for group in groups if _ranks_on(request, partition, cluster, group))
    if not able:
        return (), list(_shortages(request, partition, cluster, groups))
    if _enough(request, partition, cluster, able):
        return able, []
    return able, list(_too_few(request, partition, cluster, able))


def _ranks_on(
    request: JobRequest, partition: PartitionFacts, cluster: Cluster, group: NodeGroup
) -> int:
    """How many ranks one node of the group holds, 0 for a node that can't be part of the job."""
    cpus, memory = _room(partition, group)
    per_rank = _cpus(request)
    least = request.ntasks if request.nodes == 1 else (request.tasks_per_node or 1)
    if any(_has(group, wanted) < wanted.count for wanted in _gres(request)):
        return 0
    gpus = group.gpus_of(request.gpu_model)
    if request.gpus and (gpus < request.gpus if request.nodes == 1 else gpus < 1):
        return 0
    ranks = cpus // per_rank
    if group.knows_memory and request.mem_mb is not None:
        if request.mem_mb > memory:
            return 0
    elif group.knows_memory and request.mem_mb_per_cpu:
        ranks = min(ranks, memory // (request.mem_mb_per_cpu * _cpus(request)))
    if ranks < least:
        return 0
    return min(ranks, request.tasks_per_node or ranks)


def _enough(
    request: JobRequest,
    partition: PartitionFacts,
    cluster: Cluster,
    groups: Sequence[NodeGroup],
    *,
    only_available: bool = False,
) -> bool:
    """Whether the nodes of these groups together hold the whole job."""
    nodes: list[tuple[int, int, int]] = []
    for group in groups:
        count = group.available if only_available else group.nodes
        ranks = _ranks_on(request, partition, cluster, group)
        cpus, memory = _room(partition, group)
        if group.knows_memory and request.mem_mb_per_cpu:
            cpus = min(cpus, memory // request.mem_mb_per_cpu)
        nodes += [(ranks, cpus, group.gpus_of(request.gpu_model))] * count
    nodes.sort(reverse=True)
    if len(nodes) < (request.nodes or 1):
        return False
    used = nodes[: request.nodes or partition.max_nodes or len(nodes)]
    if sum(gpus for _, _, gpus in used) < request.gpus:
        return False
    if sum(ranks for ranks, _, _ in used) >= request.ntasks:
        return True
    # Slurm looks at the CPUs of all nodes together, even where ranks don't fill a node.
    return sum(cpus for _, cpus, _ in used) >= request.ntasks * _cpus(request)


def _room(partition: PartitionFacts, group: NodeGroup) -> tuple[int, int]:
    """CPUs and MiB that a job of this partition can have of one node."""
    cpus = min(group.cpus, partition.max_cpus_per_node or group.cpus)
    memory = min(group.mem_mib, partition.max_mem_per_node_mib or group.mem_mib)
    return cpus, memory


def _cpus(request: JobRequest) -> int:
    return request.cpus_per_task or 1


def _gres(request: JobRequest) -> tuple[Gres, ...]:
    return read_gres((request.gres or "").removeprefix("gres:").split(",")) if request.gres else ()


def _has(group: NodeGroup, wanted: Gres) -> int:
    return sum(
        gres.count
        for gres in group.gres
        if gres.kind == wanted.kind and wanted.model in (None, gres.model)
    )


def _shortages(
    request: JobRequest,
    partition: PartitionFacts,
    cluster: Cluster,
    groups: Sequence[NodeGroup],
) -> Iterable[_Lack]:
    """What no node of these groups has; one after the other, then all of it together."""
    rooms = [_room(partition, group) for group in groups]
    ranks = request.ntasks if request.nodes == 1 else (request.tasks_per_node or 1)
    found = False
    cpus = max(cpus for cpus, _ in rooms)
    asked = ranks * _cpus(request)
    if asked > cpus:
        found = True
        yield _Lack(f"has nodes of at most {cpus} CPUs, and it asks {asked} on one", asked / cpus)
    known = [room for group, (_, room) in zip(groups, rooms, strict=True) if group.knows_memory]
    memory = request.mem_mb
    if memory is None and request.mem_mb_per_cpu:
        memory = request.mem_mb_per_cpu * _cpus(request) * ranks
    if memory and known and len(known) == len(groups) and memory > max(known):
        found = True
        most = max(known)
        yield _Lack(f"gives jobs at most {most} MB on a node, and it asks {memory}", memory / most)
    for wanted in [*_gres(request), *_wanted_gpus(request)]:
        most = max(_has(group, wanted) for group in groups)
        if most < wanted.count:
            found = True
            yield _Lack(_without(wanted, most, groups), wanted.count / most if most else math.inf)
    if not found:
        yield _Lack("has no node with all of what it asks for together")


def _wanted_gpus(request: JobRequest) -> Iterable[Gres]:
    if request.gpus:
        yield Gres("gpu", request.gpu_model, request.gpus if request.nodes == 1 else 1)


def _without(wanted: Gres, most: int, groups: Sequence[NodeGroup]) -> str:
    what = f"{wanted.kind}:{wanted.model}" if wanted.model else wanted.kind
    if most:
        return f"has at most {most} {what} on a node, and it asks {wanted.count}"
    models = {gres.model for group in groups for gres in group.gres if gres.kind == wanted.kind} - {
        None
    }
    if models:
        return f"has no {what} (it has {', '.join(sorted(map(str, models)))})"
    return "has no GPUs" if wanted.kind == "gpu" else f"has no {what}"


def _too_few(
    request: JobRequest,
    partition: PartitionFacts,
    cluster: Cluster,
    able: Sequence[NodeGroup],
) -> Iterable[_Lack]:
    nodes = sum(group.nodes for group in able)
    most = min(nodes, partition.max_nodes or nodes)
    if request.nodes and request.nodes > nodes:
        yield _Lack(
            f"has {nodes} nodes that fit, and it asks {request.nodes}", request.nodes / nodes
        )
        return
    yield _Lack(
        f"can't hold {request.ntasks} ranks of {_cpus(request)} CPUs"
        + (f" and {request.gpus} GPUs" if request.gpus else "")
        + f" on {request.nodes or most} nodes"
    )


# Choosing and saying.


def _size_of(group: NodeGroup) -> tuple[int, bool, int, int]:
    return group.gpus, "efa" in group.features, group.cpus, group.mem_mib


def _rank(
    request: JobRequest, pool: Sequence[str], trial: _Trial, is_list: bool
) -> tuple[object, ...]:
    """Smaller is better: no doubts, then small nodes, then the site's default, then a tight limit of
    time for jobs that say how long they run, a wide one for the others."""
    partition, smallest = trial.partition, trial.smallest
    most = math.inf if partition.max_time_min is None else partition.max_time_min
    return (
        not trial.is_sure,
        len(trial.doubts),
        _size_of(smallest) if smallest else (math.inf, True, math.inf, math.inf),
        not partition.is_default and not is_list,
        most if request.runtime_min else -most,
        pool.index(partition.name),
    )


def _as_named(
    request: JobRequest,
    cluster: Cluster,
    trials: Sequence[_Trial],
    fitting: Sequence[_Trial],
    spelled: Sequence[str],
) -> Fit:
    """The partitions that are named, but for those that it does not fit: sbatch would refuse them
    all (EnforcePartLimits=ALL)."""
    reasons = []
    for trial in trials:
        name = trial.partition.name
        if trial.lacks:
            reasons.append(f"not {name}, which {trial.lacks[0].text}")
        elif trial.doubts:
            reasons.append(f"{name}: {trial.doubts[0]}")
    names = ", ".join(trial.partition.name for trial in fitting)
    return _with(request, cluster, fitting, (f"partition {names} is named", *reasons, *spelled))


def _with(
    request: JobRequest, cluster: Cluster, trials: Sequence[_Trial], reasons: Sequence[str]
) -> Fit:
    constraints = {trial.constraint for trial in trials}
    constraint = next(iter(constraints)) if len(constraints) == 1 else _either(trials)
    more = []
    if constraint != request.constraint:
        more.append(f"on nodes with {constraint}")
    changed = replace(
        request,
        partition=",".join(trial.partition.name for trial in trials),
        constraint=constraint,
    )
    if not cluster.schedules_memory and (request.mem_mb or request.mem_mb_per_cpu):
        known = any(group.knows_memory for trial in trials for group in trial.groups)
        if known:
            more.append("memory is not given out on this cluster: jobs on a node share it")
        else:
            more.append(
                "memory is left out: it is not given out on this cluster, nor told of nodes"
            )
            changed = replace(changed, mem_mb=None, mem_mb_per_cpu=None)
    return Fit(changed, (*reasons, *more))


def _either(trials: Sequence[_Trial]) -> str | None:
    """For several partitions that need different constraints: any of them, as all or none can't be
    said of one alone."""
    constraints = [trial.constraint for trial in trials]
    if None in constraints:
        return None
    return "|".join(
        f"({one})" if "&" in str(one) else str(one) for one in dict.fromkeys(constraints)
    )


def _why(best: _Trial, trials: Sequence[_Trial]) -> str:
    smallest = best.smallest
    size = ""
    if smallest:
        gpus = f", {smallest.gpus} GPUs" if smallest.gpus else ""
        memory = f", {smallest.mem_mib} MB" if smallest.knows_memory else ""
        size = f" ({smallest.name}: {smallest.cpus} CPUs{memory}{gpus})"
    others = [trial for trial in trials if trial is not best]
    text = f"partition {best.partition.name} has the smallest nodes that fit{size}"
    if not others:
        text = f"partition {best.partition.name} is the only one{size}"
    doubt = f"; {best.doubts[0]}" if best.doubts else ""
    passed = "; ".join(
        f"{trial.partition.name} {trial.lacks[0].text}" for trial in others[:4] if trial.lacks
    )
    return f"{text}{doubt}" + (f"; {passed}" if passed else "")


def _refusal(
    request: JobRequest, wish: Wish, trials: Sequence[_Trial], *, is_named: bool
) -> SubmissionError:
    closed = [trial for trial in trials if all(lack.passes for lack in trial.lacks)]
    nearest = min(closed or trials, key=_how_far)
    name = nearest.partition.name
    missing = ", and it ".join(lack.text for lack in nearest.lacks)
    if is_named and len(trials) == 1:
        reason = f"rule {wish.rule} does not fit partition {name}, which {missing}"
    else:
        reason = f"no partition fits rule {wish.rule}: the nearest of {len(trials)} is {name}, which {missing}"
    return SubmissionError(
        FailureKind.NO_CAPACITY if closed else FailureKind.CONFIGURATION,
        reason,
        "Change the rule's resources, or the target in the routing policy; "
        "`sinfo --all` and `scontrol show partition` show what the cluster has.",
    )


def _how_far(trial: _Trial) -> tuple[int, float, int]:
    unmet = [lack for lack in trial.lacks if lack.distance == math.inf]
    others = sum(lack.distance for lack in trial.lacks if lack.distance != math.inf)
    return len(unmet), others, len(trial.lacks)


# Words.


def _check_words(request: JobRequest, wish: Wish, cluster: Cluster) -> None:
    """Raises SubmissionError for names that nothing in the cluster has."""
    if wish.clusters and wish.clusters != cluster.name:
        raise SubmissionError(
            FailureKind.CONFIGURATION,
            f"rule {wish.rule} asks for cluster {wish.clusters!r}, and this is {cluster.name!r}: a run "
            "uses one cluster",
            "Run on that cluster, or leave `slurm_cluster` out.",
        )
    for name in _names(request.partition):
        if cluster.partitions and name not in cluster.partitions:
            raise _unknown(wish, "slurm_partition", name, cluster.partitions, "partition")
    if wish.is_found and cluster.groups and not _tells_instances(cluster):
        raise SubmissionError(
            FailureKind.CONFIGURATION,
            f"rule {wish.rule} asks instance_type={wish.instances[0]}, and no feature of the cluster's "
            "nodes tells of instance types",
            "Leave `instance_type` out, or put it into `instances` of the target in the routing policy.",
        )
    hides = any(map(cluster.hides_nodes, cluster.partitions.values()))
    if not cluster.groups or hides:
        return
    for name in names_in(request.constraint or ""):
        if name not in cluster.features:
            raise _unknown(wish, "constraint", name, cluster.features, "feature")
    model = request.gpu_model
    if model and model.lower() not in map(str.lower, cluster.gpu_models):
        raise _unknown(wish, "gpu_model", model, cluster.gpu_models, "GPU model")


def _with_known_gpu(request: JobRequest, cluster: Cluster) -> tuple[JobRequest, tuple[str, ...]]:
    """The request with the GPU's name as the cluster spells it: Slurm tells `A10G` from `a10g`."""
    model = request.gpu_model
    if not model or model in cluster.gpu_models:
        return request, ()
    known = next((one for one in cluster.gpu_models if one.lower() == model.lower()), None)
    if known is None:
        return request, ()
    return replace(request, gpu_model=known), (f"GPU model {model} is {known} here",)


def meant_or_all(word: str, known: Sequence[str]) -> str:
    """A sentence on a word that the cluster does not know: the nearest that it does, or all."""
    if near := nearest(word, known):
        return f"Did you mean {near!r}?"
    return f"It has: {', '.join(known) or 'none'}."


def _unknown(
    wish: Wish, resource: str, value: str, known: Iterable[str], what: str
) -> SubmissionError:
    return SubmissionError(
        FailureKind.CONFIGURATION,
        f"rule {wish.rule}: the cluster has no {what} {value!r}. {meant_or_all(value, sorted(known))}",
        f"Change `{resource}` of the rule or of its target.",
    )


def _names(partition: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (partition or "").split(",") if name.strip())


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _minutes(minutes: int) -> str:
    hours, rest = divmod(minutes, 60)
    return f"{minutes} min" if rest or not hours else f"{hours} h"
