"""Why a job stays RUNNABLE, from what Batch says of it, its queue and its compute environments. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from snakemake_executor_takeda.values import FailureKind

_CODE = re.compile(
    r"^\s*(?P<code>(?P<group>CAPACITY|MISCONFIGURATION|ACTION_REQUIRED|UNDETERMINED)(:[A-Z_0-9]+)?)\b"
    r"[\s:-]*(?P<sentence>.*)",
    re.S,
)
_ANY_CODE = re.compile(r"\b(CAPACITY|MISCONFIGURATION|ACTION_REQUIRED|UNDETERMINED):[A-Z_0-9]+")
_DEFINITE = frozenset(
    {
        "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE",
        "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT",
        "MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED",
    }
)
"""What Batch itself may cancel a job for; of the other reasons it only reports."""
_ADVICE = {
    "CAPACITY": "Allow more instance types, sizes or zones in the compute environment",
    "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE": "Ask for less in the rule, or raise maxvCpus of the compute environment",
    "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT": "Ask for less in the rule, or allow larger instance types in the compute environment",
    "MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED": "Mend the compute environment's instance types, AMI or launch template",
    "MISCONFIGURATION:SERVICE_ROLE_PERMISSIONS": "Give the compute environment's service role the rights it lacks",
    "ACTION_REQUIRED": "Mend what it names in the compute environment",
}
_LOOK = "See the compute environment's instances, subnets and service quotas in the console"


@dataclass(frozen=True)
class Needs:
    """What the job asks for."""

    vcpus: float = 0.0
    mem_mib: float = 0.0


@dataclass(frozen=True)
class Diagnosis:
    """Why nothing starts."""

    code: str
    """The same while the reason is the same."""
    because: str
    """One clause, without a full stop."""
    advice: str
    """What to do about it, one sentence without a full stop."""
    kind: FailureKind
    """What the job fails with, should it be given up: NO_CAPACITY or CONFIGURATION."""
    is_definite: bool = False
    """It will not start before something is mended, however long one waits."""


def diagnose(
    words: str,
    needs: Needs,
    queue: Mapping[str, Any] | None,
    environments: Sequence[Mapping[str, Any]],
    place: str = "",
) -> Diagnosis:
    """The likeliest reason.

    `words` is the job's statusReason, `queue` and `environments` are as DescribeJobQueues and
    DescribeComputeEnvironments have them (empty where they may not be asked), `place` is `place_in`'s.
    """
    said = service_words(words)
    if said and said.code != "UNDETERMINED":
        return said
    found = (
        _of_queue(queue)
        or _of_environments(needs, environments)
        or Diagnosis("unknown", "Batch gives no reason", _LOOK, FailureKind.NO_CAPACITY)
    )
    parts = [found.because, said.because if said else "", place]
    return Diagnosis(
        found.code,
        "; ".join(part for part in parts if part),
        found.advice,
        found.kind,
        found.is_definite,
    )


def service_words(words: str) -> Diagnosis | None:
    """What Batch itself says in a RUNNABLE job's statusReason (`CODE - sentence`), if anything."""
    found = _CODE.match(words)
    if found is None:
        return None
    code, group = found["code"], found["group"]
    sentence = " ".join(found["sentence"].split()).rstrip(".")
    return Diagnosis(
        code,
        f"Batch says {code}{f' - {sentence}' if sentence else ''}",
        _advice(code),
        FailureKind.CONFIGURATION if group == "MISCONFIGURATION" else FailureKind.NO_CAPACITY,
        code in _DEFINITE,
    )


def advice_on(words: str) -> str | None:
    """What to do about the first code of Batch's in a sentence, without a full stop; None without one."""
    found = _ANY_CODE.search(words)
    return _advice(found[0]) if found else None


def _advice(code: str) -> str:
    return _ADVICE.get(code) or _ADVICE.get(code.partition(":")[0], _LOOK)


def place_in(snapshot: Mapping[str, Any], job_ids: Sequence[str]) -> str:
    """Where the first of these jobs stands in GetJobQueueSnapshot, which shows the first 100."""
    front = (snapshot.get("frontOfQueue") or {}).get("jobs") or []
    wanted = set(job_ids)
    for position, job in enumerate(front, 1):
        job_id = str(job.get("jobArn", "")).rpartition("/")[2]
        if job_id in wanted or job_id.partition(":")[0] in wanted:
            return f"number {position} in its queue"
    return f"not among the first {len(front)} in its queue" if front else ""


def _of_queue(queue: Mapping[str, Any] | None) -> Diagnosis | None:
    if not queue or queue.get("status", "VALID") in ("VALID", "UPDATING", "CREATING"):
        return None
    return Diagnosis(
        "queue",
        f"the queue is {queue['status']}{_reason(queue)}",
        "Mend the queue and its compute environments",
        FailureKind.NO_CAPACITY,
    )


def _of_environments(needs: Needs, environments: Sequence[Mapping[str, Any]]) -> Diagnosis | None:
    if not environments:
        return None
    usable = [e for e in environments if e.get("state", "ENABLED") == "ENABLED"]
    if not usable:
        return Diagnosis(
            "disabled",
            f"{_named(environments)} DISABLED",
            "Enable one with `aws batch update-compute-environment --state ENABLED "
            f"--compute-environment {environments[0]['computeEnvironmentName']}`",
            FailureKind.NO_CAPACITY,
        )
    valid = [e for e in usable if e.get("status", "VALID") != "INVALID"]
    if not valid:
        return Diagnosis(
            "invalid",
            f"{_named(usable)} INVALID{_reason(usable[0])}",
            "Mend what it says, then update the compute environment",
            FailureKind.NO_CAPACITY,
        )
    managed = [e for e in valid if (e.get("computeResources") or {}).get("maxvCpus")]
    if len(managed) < len(valid):
        return None
    return _of_size(needs, managed)


def _of_size(needs: Needs, environments: Sequence[Mapping[str, Any]]) -> Diagnosis | None:
    largest = max(e["computeResources"]["maxvCpus"] for e in environments)
    if needs.vcpus > largest:
        return Diagnosis(
            "too_large",
            f"the job asks for {needs.vcpus:g} vCPUs, and maxvCpus of {_named(environments, '')} is {largest}",
            _ADVICE["MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE"],
            FailureKind.CONFIGURATION,
            is_definite=True,
        )
    sizes = [
        (e["computeResources"].get("desiredvCpus"), e["computeResources"]["maxvCpus"])
        for e in environments
    ]
    if any(desired is None for desired, _ in sizes):
        return None
    shown = ", ".join(
        f"{e['computeEnvironmentName']} {desired} of {most} vCPUs"
        for e, (desired, most) in zip(environments, sizes, strict=True)
    )
    if all(most - desired < max(needs.vcpus, 1) for desired, most in sizes):
        return Diagnosis(
            "full",
            f"the compute environments are full with other jobs ({shown})",
            "Wait, or raise maxvCpus",
            FailureKind.NO_CAPACITY,
        )
    return Diagnosis(
        "not_growing",
        f"no instance comes although there is room for more ({shown})",
        _LOOK,
        FailureKind.NO_CAPACITY,
    )


def _named(environments: Sequence[Mapping[str, Any]], verb: str | None = None) -> str:
    names = [str(e["computeEnvironmentName"]) for e in environments]
    if verb is None:
        verb = " is" if len(names) == 1 else " are"
    plural = "" if len(names) == 1 else "s"
    return f"the compute environment{plural} {', '.join(names)}{verb}"


def _reason(what: Mapping[str, Any]) -> str:
    return f" ({what['statusReason'].rstrip('.')})" if what.get("statusReason") else ""
