"""AWS Batch: queue, compute environments, image, roles, logs, and whether the largest job finds a place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends.batch.environments import environment_warning
from snakemake_executor_takeda.backends.batch.options import DEFAULT_LOG_GROUP, BatchOptions
from snakemake_executor_takeda.backends.batch.queues import queue_problem
from snakemake_executor_takeda.doctor import quotas
from snakemake_executor_takeda.doctor.asked import alike
from snakemake_executor_takeda.doctor.cloud import Cloud, Once, asking
from snakemake_executor_takeda.doctor.findings import (
    Checkup,
    Finding,
    NotTold,
    Severity,
    halves,
)
from snakemake_executor_takeda.doctor.images import look_at_image
from snakemake_executor_takeda.doctor.rights import Right, rights_of, role_checkups
from snakemake_executor_takeda.routing.instances import Host, Instance, fitted_memory
from snakemake_executor_takeda.routing.instances_feasibility import fargate_lack, lack
from snakemake_executor_takeda.routing.instances_packing import Need, holds, need_of
from snakemake_executor_takeda.routing.prices import price_book

if TYPE_CHECKING:
    from snakemake_executor_takeda.doctor.asked import Asked
    from snakemake_executor_takeda.doctor.largest import Largest
    from snakemake_executor_takeda.routing.prices import PriceBook
    from snakemake_executor_takeda.values import Target

ECS = "ecs-tasks.amazonaws.com"
_FARGATE = frozenset({"FARGATE", "FARGATE_SPOT"})
_WAITS = "jobs stay RUNNABLE for ever"

Described = Mapping[str, Any]


def checkups(targets: Sequence[Target], asked: Asked) -> Iterator[Checkup]:
    cloud, first = asked.cloud, (asked.credentials,)
    service = _Service(cloud)
    for target in targets:
        queue = Checkup(
            "queue", target.name, partial(_queue, service, target), after=first, vital=True
        )
        environments = Checkup(
            "compute environments", target.name, partial(_environments, service, target), (queue,)
        )
        yield environments
        largest = asked.project.largest[target.name]
        yield Checkup(
            "largest job",
            target.name,
            partial(_largest, service, target, largest, cloud),
            (environments,),
        )
        yield Checkup(
            "vCPU quotas", target.name, partial(_vcpus, service, target, largest, cloud), (queue,)
        )
    for names, target in alike(targets, "job_definition"):
        yield Checkup("job definition", names, partial(_definition, cloud, target), first)
    for names, target in alike(targets, "event_queue"):
        yield Checkup("event queue", names, partial(_events, cloud, target), first)
    # A definition that is there already has these of its own.
    own = [target for target in targets if not target.options.job_definition]
    for names, target in alike(own, "image"):
        yield Checkup("image", names, partial(_image, cloud, target), first)
    for names, target in alike(own, "log_group"):
        yield Checkup("log group", names, partial(_log_group, cloud, target), first)
    for word, kind in (("job_role_arn", "job"), ("execution_role_arn", "execution")):
        for names, target in alike(own, word):
            yield from _role(names, target, word, kind, asked)
    yield Checkup("job queues", "AWS Batch", partial(_count_queues, service), first)


class _Service:
    """Queues and compute environments of the Region, asked for once."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self.queues = Once(self._queues)
        self.environments = Once(self._environments)

    def _queues(self) -> list[Described]:
        with asking("batch", "batch:DescribeJobQueues", needed=True):
            pages = self._cloud.client("batch").get_paginator("describe_job_queues").paginate()
            return [one for page in pages for one in page["jobQueues"]]

    def _environments(self) -> dict[str, Described]:
        """By name and by ARN."""
        with asking("batch", "batch:DescribeComputeEnvironments"):
            batch = self._cloud.client("batch")
            pages = batch.get_paginator("describe_compute_environments").paginate()
            found = [one for page in pages for one in page["computeEnvironments"]]
        return {
            name: one
            for one in found
            for name in (one["computeEnvironmentName"], one.get("computeEnvironmentArn", ""))
        }

    def queue(self, target: Target) -> Described | None:
        name = target.options.queue
        return next(
            (one for one in self.queues() if name in (one["jobQueueName"], one["jobQueueArn"])),
            None,
        )

    def environments_of(self, target: Target) -> list[Described]:
        """Those of the target's queue, in their order."""
        queue, known = self.queue(target), self.environments()
        order = queue.get("computeEnvironmentOrder", []) if queue else []
        names = [one["computeEnvironment"] for one in sorted(order, key=lambda one: one["order"])]
        return [known[name] for name in names if name in known]


def _queue(service: _Service, target: Target) -> Iterator[Finding]:
    others = [one["jobQueueName"] for one in service.queues()]
    queue = service.queue(target)
    types = {}
    with contextlib.suppress(NotTold):  # said by the checkup of the environments
        types = {
            name: one["computeResources"]["type"]
            for name, one in service.environments().items()
            if one.get("computeResources", {}).get("type")
        }
    if problem := queue_problem(target, queue, others, types):
        what, fix = halves(problem)
        yield Finding(what, "a run stops at its start", fix)
        return
    assert queue is not None
    where = f"{target.where}: the job queue {target.options.queue!r}"
    if warning := environment_warning(target, queue, types, where):
        what, fix = halves(warning)
        yield Finding(what, "it costs what it should not", fix, Severity.WARNING)


def _environments(service: _Service, target: Target) -> Iterator[Finding]:
    return judged_environments(target, service.environments_of(target))


def judged_environments(target: Target, environments: Sequence[Described]) -> Iterator[Finding]:
    """A queue without an environment that is in order runs nothing; one of several that is not in order
    makes it smaller."""
    where = f"{target.where}: of the job queue {target.options.queue!r}"
    bad = [one for one in environments if not _is_in_order(one)]
    has_another = len(bad) < len(environments)
    for one in bad:
        name, state = one["computeEnvironmentName"], one.get("state", "ENABLED")
        if state != "ENABLED":
            what, fix = (
                state,
                f"aws batch update-compute-environment --compute-environment {name} --state ENABLED",
            )
        else:
            said = one.get("statusReason")
            what = f"{one.get('status')}{f' ({said})' if said else ''}"
            fix = (
                f"mend what it says, or wait until it is VALID: aws batch describe-compute-environments "
                f"--compute-environments {name}"
            )
        yield Finding(
            f"{where} the compute environment {name} is {what}",
            "the queue has fewer machines than it seems" if has_another else _WAITS,
            fix,
            Severity.WARNING if has_another else Severity.FAULT,
        )


def _is_in_order(one: Described) -> bool:
    return (one.get("state", "ENABLED"), one.get("status", "VALID")) == ("ENABLED", "VALID")


def _largest(
    service: _Service, target: Target, largest: Largest, cloud: Cloud
) -> Iterator[Finding]:
    environments = [one for one in service.environments_of(target) if _is_in_order(one)]
    return judged_largest(target, largest, environments, cloud.region)


def judged_largest(
    target: Target, largest: Largest, environments: Sequence[Described], region: str
) -> Iterator[Finding]:
    """Whether any of the environments can hold the largest job, and has what the target says of it."""
    need = need_of(
        largest.shape(mpi=bool(largest.numbers.get("tasks"))),
        efa=target.efa,
        architecture=target.options.architecture,
    )
    # As it would be sent: a job that asks for all that an instance has gets what that can give.
    lowered = fitted_memory(need.cpus, need.mem_mib, target.instances)
    need = replace(need, mem_mib=lowered)
    managed = [one for one in environments if one.get("computeResources", {}).get("type")]
    if not managed:
        return
    lacks = {one["computeEnvironmentName"]: _lacks_of(one, need, region) for one in managed}
    if (largest.is_known or target.efa) and all(lacks.values()):
        each = "; ".join(f"{name}: {', '.join(texts)}" for name, texts in lacks.items())
        name = managed[0]["computeEnvironmentName"]
        told = f" ({largest.told()})" if largest.is_known else ""
        yield Finding(
            f"{target.where}: its largest job{told} has no place in the queue {target.options.queue!r}: {each}",
            f"such {_WAITS}",
            _room_for(name, need, managed[0], region) + ", or lower what says so",
        )
    yield from _judged_instances(target, managed, region)


def _lacks_of(environment: Described, need: Need, region: str) -> list[str]:
    """What one compute environment has not for the largest job; empty where it holds it."""
    resources = environment["computeResources"]
    found = []
    vcpus = need.cpus * need.nodes
    if vcpus > resources.get("maxvCpus", vcpus):
        found.append(f"maxvCpus is {resources['maxvCpus']}, and it takes {vcpus}")
    book, words = price_book(region), tuple(resources.get("instanceTypes", ()))
    is_fargate = resources["type"] in _FARGATE
    missing = fargate_lack(need, book) if is_fargate else lack(need, words, book, Host.BATCH)
    # The Region decides what is offered; what is not known here is never said to be missing.
    if missing and "region" not in missing.kinds:
        found.append(missing.text)
    elif not missing and not is_fargate and (most := _too_little(need, words, book)):
        found.append(
            f"{need.mem_mib:,} MiB is all that the largest has, and it gives jobs {most:,} of it"
        )
    return found


def _too_little(need: Need, words: tuple[str, ...], book: PriceBook) -> int | None:
    """The most memory that a type gives, in MiB, where that alone is too little; else None."""
    meant = book.instances.meant(words)
    if meant.unknown or any(holds(one, need, Host.BATCH) for one in meant.instances):
        return None
    return max((one.usable_mib(Host.BATCH) for one in meant.instances), default=None)


def _room_for(name: str, need: Need, environment: Described, region: str) -> str:
    resources = environment["computeResources"]
    changed = []
    if (vcpus := need.cpus * need.nodes) > resources.get("maxvCpus", vcpus):
        changed.append(f"maxvCpus={vcpus}")
    if resources["type"] in _FARGATE:
        return "route such jobs to a target on EC2"
    missing = lack(need, tuple(resources.get("instanceTypes", ())), price_book(region), Host.BATCH)
    if missing:
        held = missing.nearest.family if missing.nearest else "FAMILY"
        types = ",".join([*resources.get("instanceTypes", ()), held])
        changed.append(f"instanceTypes={types}")
    if not changed:
        return (
            "name these types in the target's `instances`: then such a job gets what they can give"
        )
    return (
        f"aws batch update-compute-environment --compute-environment {name} --compute-resources "
        f"{','.join(changed)}"
    )


def _judged_instances(
    target: Target, managed: Sequence[Described], region: str
) -> Iterator[Finding]:
    """What the target says of its instances, against what there is."""
    types = price_book(region).instances
    there: dict[str, Instance] = {}
    words: list[str] = []
    for one in managed:
        resources = one["computeResources"]
        if resources["type"] in _FARGATE:
            return
        meant = types.meant(tuple(resources.get("instanceTypes", ())))
        if meant.unknown:
            return
        words += resources.get("instanceTypes", ())
        there |= {instance.name: instance for instance in meant.instances}
    for word in target.instances:
        said = types.meant((word,))
        if said.unknown or any(one.name in there for one in said.instances):
            continue
        yield Finding(
            f"{target.where}: `instances` has {word}, the compute environments have "
            f"{', '.join(dict.fromkeys(words))}",
            "prices are those of other machines, and a rule's `instance_type` waits for one that never comes",
            f"write `instances: [{', '.join(dict.fromkeys(words))}]`, or add {word} to the compute environment",
            Severity.WARNING,
        )


def _vcpus(service: _Service, target: Target, largest: Largest, cloud: Cloud) -> Iterator[Finding]:
    shape = need_of(largest.shape(mpi=bool(largest.numbers.get("tasks"))))
    words = ("threads", "nodes", "tasks", "tasks_per_node")
    for one in service.environments_of(target):
        resources = one.get("computeResources", {})
        if not resources.get("type"):
            continue
        meant = price_book(cloud.region).instances.meant(tuple(resources.get("instanceTypes", ())))
        for quota in quotas.vcpu_quotas(resources["type"], meant.instances):
            yield from quotas.judged_vcpus(
                quota,
                quotas.value_of(cloud, quota),
                about=f"{target.where}: the compute environment {one['computeEnvironmentName']}",
                most_vcpus=resources.get("maxvCpus", 0),
                largest=shape.cpus * shape.nodes,
                told=largest.told(*words),
            )


def _count_queues(service: _Service) -> Iterator[Finding]:
    return quotas.judged_job_queues(len(service.queues()))


def _definition(cloud: Cloud, target: Target) -> Iterator[Finding]:
    from snakemake_executor_takeda.backends.batch.given_definitions import check_job_definitions

    with asking("batch", "batch:DescribeJobDefinitions", needed=True):
        check_job_definitions(cloud.client("batch"), [target])
    return iter(())


def _events(cloud: Cloud, target: Target) -> Iterator[Finding]:
    from snakemake_executor_takeda.backends.batch.api import Clients
    from snakemake_executor_takeda.backends.batch.listening import check_event_queues

    check_event_queues(Clients(cloud.region), [target])
    return iter(())


def _image(cloud: Cloud, target: Target) -> Iterator[Finding]:
    options: BatchOptions = target.options
    word = f"{target.where}: `image`"
    if options.registry_credentials:
        raise NotTold(
            f"{word}: its registry asks for the secret `registry_credentials`, which is not read"
        )
    return look_at_image(options.image, word, Cloud, is_emulated=cloud.is_emulated("batch"))


def _log_group(cloud: Cloud, target: Target) -> Iterator[Finding]:
    group = target.options.log_group
    if group == DEFAULT_LOG_GROUP:
        return iter(())  # Batch makes it with its first job
    return judged_log_group(target, _groups(cloud, group))


def _groups(cloud: Cloud, prefix: str) -> list[str]:
    with asking("logs", "logs:DescribeLogGroups"):
        answer = cloud.client("logs").describe_log_groups(logGroupNamePrefix=prefix)
    return [one["logGroupName"] for one in answer["logGroups"]]


def judged_log_group(target: Target, there: Iterable[str]) -> Iterator[Finding]:
    group = target.options.log_group
    if group not in there:
        yield Finding(
            f"{target.where}: there is no log group {group}",
            "every job fails before it begins: ECS cannot make its log stream",
            f"aws logs create-log-group --log-group-name {group}, or leave `log_group` out",
        )


def _role(names: str, target: Target, word: str, kind: str, asked: Asked) -> Iterable[Checkup]:
    options: BatchOptions = target.options
    wanted = ["s3"] if kind == "job" else _execution_features(options)
    return role_checkups(
        asked.cloud,
        asked.caller,
        about=names,
        arn=getattr(options, word),
        where=target.where,
        word=word,
        service=ECS,
        rights=Once(partial(_rights, kind, wanted, target, asked)),
        kind=kind,
        after=(asked.credentials,),
    )


def _execution_features(options: BatchOptions) -> list[str]:
    # Which secrets a site has, and how their ARNs end, is theirs to know.
    return ["execution_role", *(["registry"] if ".dkr.ecr." in options.image else [])]


def _rights(kind: str, features: Iterable[str], target: Target, asked: Asked) -> list[Right]:
    from snakemake_executor_takeda.doctor.places import places_of

    return rights_of(kind, features, places_of(asked, [target]))
