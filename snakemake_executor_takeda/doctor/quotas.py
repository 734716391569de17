"""Service quotas, against what a run needs and what is in use already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from snakemake_executor_takeda.backends import aws
from snakemake_executor_takeda.doctor.cloud import Cloud, asking
from snakemake_executor_takeda.doctor.findings import Finding, NotTold, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from snakemake_executor_takeda.routing.instances import Instance

NEAR = 0.8
"""Part of a quota in use from which on it is said."""
MAX_JOB_QUEUES = 50
"""Of an account in a Region; AWS Batch's quotas cannot be raised."""
_STANDARD = frozenset("acdhimrtz")
_ON_DEMAND = {
    "standard": ("L-1216C47A", "Running On-Demand Standard instances"),
    "g": ("L-DB2E81BA", "Running On-Demand G and VT instances"),
    "p": ("L-417A185B", "Running On-Demand P instances"),
}
_SPOT = {
    "standard": ("L-34B43A08", "All Standard Spot Instance Requests"),
    "g": ("L-3819A6DF", "All G and VT Spot Instance Requests"),
    "p": ("L-7212CCBC", "All P Spot Instance Requests"),
}
_FARGATE = {
    "FARGATE": ("L-3032A538", "Fargate On-Demand vCPU resource count"),
    "FARGATE_SPOT": ("L-36FBB829", "Fargate Spot vCPU resource count"),
}
ACTIVE_RUNS = {
    "DYNAMIC": (
        "L-BE38079A",
        "Workflows - Maximum concurrent active runs using dynamic run storage",
    ),
    "STATIC": ("L-A30FD31B", "Workflows - Maximum concurrent active runs using static run storage"),
}
"""Of HealthOmics, by the storage type of runs."""


@dataclass(frozen=True)
class Quota:
    """One quota of Service Quotas."""

    service: str
    code: str
    name: str


def vcpu_quotas(kind: str, instances: Iterable[Instance]) -> list[Quota]:
    """Those that bound a compute environment of this type: one for each class of its instances."""
    if kind in _FARGATE:
        return [Quota("fargate", *_FARGATE[kind])]
    table = _SPOT if kind == "SPOT" else _ON_DEMAND
    classes = dict.fromkeys(c for one in instances if (c := _class_of(one)))
    return [Quota("ec2", *table[name]) for name in classes]


def _class_of(one: Instance) -> str | None:
    """`standard`, `g` or `p`; None for a class with a quota of its own that is not looked at."""
    first = one.family[0]
    if one.family.startswith(("g", "vt")):
        return "g"
    if one.family.startswith(("hpc", "inf", "trn", "dl", "mac", "u-", "u7", "x")):
        return None
    if first == "p":
        return "p"
    return "standard" if first in _STANDARD else None


def value_of(cloud: Cloud, quota: Quota) -> float:
    """The account's, or AWS's default where the account has none of its own. Raises NotTold."""
    from botocore.exceptions import ClientError

    client = cloud.client("service-quotas")
    try:
        with asking("service-quotas", "servicequotas:GetServiceQuota"):
            answer = client.get_service_quota(ServiceCode=quota.service, QuotaCode=quota.code)
    except ClientError as error:
        if aws.error_code(error) != "NoSuchResourceException":
            raise
        raise NotTold(f"{quota.service} has no quota {quota.code} ({quota.name}) here") from error
    return float(answer["Quota"]["Value"])


def judged_vcpus(
    quota: Quota, value: float, *, about: str, most_vcpus: int, largest: int, told: str
) -> Iterator[Finding]:
    """`most_vcpus` is the compute environment's maxvCpus, `largest` the largest job's vCPUs, over all of
    its nodes; `told` says who wants that."""
    raise_it = _raise_it(quota, max(most_vcpus, largest))
    if value < largest:
        yield Finding(
            f"{about}: the quota {quota.name} is {value:g} vCPUs, and the largest job takes {largest}"
            + (f": {told}" if told else ""),
            "such a job stays RUNNABLE for ever",
            raise_it,
        )
    elif value < most_vcpus * NEAR:
        yield Finding(
            f"{about} may grow to {most_vcpus} vCPUs, and the quota {quota.name} is {value:g}",
            "the queue does not reach its size, and jobs wait without a reason that Batch tells",
            raise_it,
            Severity.WARNING,
        )


def judged_use(quota: Quota, value: float, used: int, why: str) -> Iterator[Finding]:
    """Of something that is counted."""
    if used >= value * NEAR:
        yield Finding(
            f"{used} of {value:g} are in use: {quota.name}",
            why,
            _raise_it(quota, int(value * 2)),
            Severity.WARNING,
        )


def judged_job_queues(count: int) -> Iterator[Finding]:
    if count >= MAX_JOB_QUEUES * 0.9:
        yield Finding(
            f"the account has {count} of {MAX_JOB_QUEUES} job queues in this Region",
            "no further queue can be made; the quota cannot be raised",
            "delete those that are not used: aws batch describe-job-queues --query "
            "'jobQueues[].jobQueueName', aws batch delete-job-queue --job-queue NAME",
            Severity.WARNING,
        )


def _raise_it(quota: Quota, wanted: int) -> str:
    return (
        f"aws service-quotas request-service-quota-increase --service-code {quota.service} "
        f"--quota-code {quota.code} --desired-value {wanted}"
    )
