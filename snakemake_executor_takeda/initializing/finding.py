"""What is there to run on: Batch queues, Slurm partitions, roles, buckets. Each look is optional, and reads only."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from snakemake_executor_takeda.initializing.slots import PARTITIONS
from snakemake_executor_takeda.values import TakedaError

SINFO_SECONDS = 20
_KINDS = {
    "SPOT": "spot_queue",
    "EC2": "queue",
    "FARGATE_SPOT": "fargate_spot_queue",
    "FARGATE": "fargate_queue",
}
_INSTANCE_TYPE = re.compile(r"[a-z][a-z0-9-]*\d[a-z0-9-]*\.(?:\d*x?large|medium|small|metal[\w-]*)")
_OWN_ROLES = {  # as this project, and its sandbox, call them
    "omics_role": ("takeda-healthomics", "takeda-sandbox-omics"),
    "job_role": ("takeda-job", "takeda-sandbox"),
    "execution_role": ("takeda-execution", "ecsTaskExecutionRole"),
}


@dataclass(frozen=True)
class Candidate:
    """Something that may fill a slot."""

    value: str
    about: str = ""
    instances: tuple[str, ...] = ()
    max_vcpus: int | None = None
    is_first: bool = False
    """Taken, where there are others."""


@dataclass
class Found:
    by_slot: dict[str, list[Candidate]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """What could not be looked at, and why."""

    def add(self, slot: str, one: Candidate) -> None:
        self.by_slot.setdefault(slot, []).append(one)

    def of(self, slot: str) -> list[Candidate]:
        return self.by_slot.get(slot, [])

    def named(self, slot: str, value: str) -> Candidate:
        """What is known of a value; nothing, where it was not found."""
        return next((one for one in self.of(slot) if one.value == value), Candidate(value))


def look(region: str | None) -> Found:
    """Asks AWS, in `region` or in that of its own settings, and `sinfo`. What does not answer is noted."""
    found = Found()
    looks: tuple[tuple[str, Callable[[Found, str | None], None]], ...] = (
        ("AWS account", _account),
        ("Batch queues", _queues),
        ("roles", _roles),
        ("buckets", _buckets),
    )
    for what, one in looks:
        try:
            one(found, region)
        except TakedaError as error:
            found.notes.append(f"{what} not looked at: {error}")
            if "no AWS" in str(error) or "credentials" in str(error):
                found.notes[-1] = f"AWS not looked at: {error}"
                break
    _partitions(found)
    return found


def _asked(service: str, region: str | None) -> Any:
    from snakemake_executor_takeda.backends.aws import client

    return client(service, region=region, hasty=True)


def _answers(service: str, call: Callable[[], Any]) -> Any:
    """Raises TakedaError for all that a service may refuse."""
    from botocore.exceptions import BotoCoreError, ClientError

    from snakemake_executor_takeda.backends.aws import error_message, readable_errors

    try:
        with readable_errors(service):
            return call()
    except ClientError as error:
        raise TakedaError(f"{service}: {error_message(error)}") from error
    except BotoCoreError as error:
        raise TakedaError(f"{service}: {error}") from error


def _account(found: Found, region: str | None) -> None:
    sts = _asked("sts", region)
    found.add("account", Candidate(str(_answers("sts", sts.get_caller_identity)["Account"])))


def _pages(service: str, region: str | None, operation: str, key: str) -> list[Mapping[str, Any]]:
    client = _asked(service, region)
    return list(
        _answers(service, lambda: list(client.get_paginator(operation).paginate().search(key)))
    )


def _queues(found: Found, region: str | None) -> None:
    environments = {
        one["computeEnvironmentArn"]: one
        for one in _pages("batch", region, "describe_compute_environments", "computeEnvironments[]")
    }
    for queue in _pages("batch", region, "describe_job_queues", "jobQueues[]"):
        order = sorted(queue.get("computeEnvironmentOrder", ()), key=lambda one: int(one["order"]))
        behind = [
            environments[one["computeEnvironment"]]
            for one in order
            if one["computeEnvironment"] in environments
        ]
        if not behind or queue["state"] != "ENABLED":
            continue
        resources = behind[0].get("computeResources", {})
        slot = _KINDS.get(resources.get("type", ""))
        if slot is None:
            continue
        types = tuple(resources.get("instanceTypes") or ())
        about = f"{resources['type']}: {', '.join(types)}" if types else str(resources["type"])
        most = max(int(one["computeResources"].get("maxvCpus", 0)) for one in behind)
        found.add(slot, Candidate(queue["jobQueueName"], about, types, most or None))


def _roles(found: Found, region: str | None) -> None:
    for role in _pages("iam", region, "list_roles", "Roles[]"):
        trusted = set(_services(role.get("AssumeRolePolicyDocument")))
        slots = ["omics_role"] if "omics.amazonaws.com" in trusted else []
        if "ecs-tasks.amazonaws.com" in trusted:
            slots += ["job_role", "execution_role"]
        for slot in slots:
            is_own = role["RoleName"] in _OWN_ROLES[slot]
            found.add(slot, Candidate(role["Arn"], is_first=is_own))


def _services(trust: object) -> Iterator[str]:
    """The services that a trust policy allows to assume its role."""
    statements = trust.get("Statement", ()) if isinstance(trust, dict) else ()
    for one in [statements] if isinstance(statements, dict) else statements:
        principal = one.get("Principal")
        services = principal.get("Service", ()) if isinstance(principal, dict) else ()
        if one.get("Effect") == "Allow":
            yield from [services] if isinstance(services, str) else services


def _buckets(found: Found, region: str | None) -> None:
    s3 = _asked("s3", region)
    here = region or s3.meta.region_name
    for bucket in _answers("s3", s3.list_buckets).get("Buckets", ()):
        there = bucket.get("BucketRegion")
        if there in (None, here):
            found.add("bucket", Candidate(bucket["Name"], f"in {there}" if there else ""))


def _partitions(found: Found) -> None:
    """The features of ParallelCluster's nodes tell instance type and EFA; nothing but the name tells Spot."""
    if shutil.which("sinfo") is None:
        found.notes.append("Slurm not looked at: there is no `sinfo` on this machine")
        return
    try:
        told = subprocess.run(
            ["sinfo", "--noheader", "--format=%a|%f|%P"],
            capture_output=True,
            text=True,
            timeout=SINFO_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        found.notes.append(f"Slurm not looked at: {error}")
        return
    if told.returncode:
        said = told.stderr.strip().splitlines() or ["sinfo failed"]
        found.notes.append(f"Slurm not looked at: {said[-1]}")
        return
    features: dict[str, dict[str, None]] = {}
    for line in told.stdout.splitlines():
        up, words, name = (*line.split("|", 2), "", "")[:3]
        if up == "up" and name:
            features.setdefault(name.rstrip(), {}).update(dict.fromkeys(words.split(",")))
    for name, words_of in features.items():
        plain = name.removesuffix("*")
        types = tuple(word for word in words_of if _INSTANCE_TYPE.fullmatch(word))
        spot, partition, efa = PARTITIONS
        slot = efa if "efa" in words_of else spot if "spot" in plain.lower() else partition
        found.add(slot, Candidate(plain, ", ".join(types), types, is_first=name != plain))
