"""A container's properties: checked, overridden, and turned into a command and an environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from snakemake_executor_takeda.sandbox.batch import limits
from snakemake_executor_takeda.sandbox.batch.container_checks import check_rest
from snakemake_executor_takeda.sandbox.batch.jobs import Job
from snakemake_executor_takeda.sandbox.batch.paging import client_error

DEFAULT_LOG_GROUP = "/aws/batch/job"


@dataclass(frozen=True)
class Resources:
    vcpus: float
    memory_mib: int
    gpus: int


def check_container(properties: Mapping[str, Any], platforms: Sequence[str]) -> None:
    """Raises ServiceError for what RegisterJobDefinition refuses."""
    if not properties.get("image"):
        raise client_error("containerProperties.image is required")
    check_command(properties.get("command", []))
    check_environment(properties.get("environment", []))
    found = resources_of(properties)
    if found.vcpus == 0 or found.memory_mib == 0:
        raise client_error("the container needs both VCPU and MEMORY in resourceRequirements")
    check_resources(found, platforms)
    check_rest(properties, platforms)


def check_command(command: Sequence[str]) -> None:
    if any(not word for word in command):
        raise client_error("a container's command may not hold an empty string")


def check_environment(environment: Sequence[Mapping[str, str]]) -> None:
    for variable in environment:
        name = variable.get("name", "")
        if not name or "=" in name or "\0" in name + variable.get("value", ""):
            raise client_error(
                f"{name!r} is no name (or holds no value) for an environment variable"
            )
        if name.startswith(limits.RESERVED_ENVIRONMENT_PREFIX):
            raise client_error(
                f"environment variables may not start with {limits.RESERVED_ENVIRONMENT_PREFIX}: {name}"
            )


def check_resources(found: Resources, platforms: Sequence[str]) -> None:
    if "FARGATE" in platforms:
        sizes = limits.FARGATE_MEMORY_MIB.get(found.vcpus)
        if sizes is None or found.memory_mib not in sizes:
            raise client_error(
                f"Fargate has no size of {found.vcpus:g} vCPU with {found.memory_mib} MiB of memory"
            )
        if found.gpus:
            raise client_error("Fargate has no GPU")
    elif found.vcpus < 1 or found.vcpus != int(found.vcpus):
        raise client_error(f"VCPU must be a whole number of at least 1 on EC2, not {found.vcpus:g}")
    if found.memory_mib < limits.MEMORY_MIN_MIB:
        raise client_error(f"MEMORY must be at least {limits.MEMORY_MIN_MIB} MiB")


def resources_of(properties: Mapping[str, Any]) -> Resources:
    """What a container asks for; the old `vcpus` and `memory` members count where the new ones lack."""
    asked: dict[str, float] = {
        "VCPU": properties.get("vcpus", 0),
        "MEMORY": properties.get("memory", 0),
        "GPU": 0,
    }
    for requirement in properties.get("resourceRequirements", []):
        kind, text = requirement["type"], requirement["value"]
        try:
            asked[kind] = float(text) if kind == "VCPU" else int(text)
        except ValueError:
            raise client_error(f"{kind} in resourceRequirements is no number: {text!r}") from None
    return Resources(asked["VCPU"], int(asked["MEMORY"]), int(asked["GPU"]))


def overridden(properties: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """containerProperties with SubmitJob's containerOverrides in force."""
    check_command(overrides.get("command", []))
    check_environment(overrides.get("environment", []))
    result = {**properties}
    if "command" in overrides:
        result["command"] = overrides["command"]
    if "instanceType" in overrides:
        result["instanceType"] = overrides["instanceType"]
    variables = {v["name"]: v.get("value", "") for v in properties.get("environment", [])}
    variables |= {v["name"]: v.get("value", "") for v in overrides.get("environment", [])}
    result["environment"] = [{"name": name, "value": value} for name, value in variables.items()]
    needed = {r["type"]: r["value"] for r in properties.get("resourceRequirements", [])}
    # the old overrides do not replace a definition's resourceRequirements
    for old, kind in (("vcpus", "VCPU"), ("memory", "MEMORY")):
        if old in overrides and kind not in needed:
            result[old] = overrides[old]
    needed |= {r["type"]: r["value"] for r in overrides.get("resourceRequirements", [])}
    result["resourceRequirements"] = [
        {"type": kind, "value": value} for kind, value in needed.items()
    ]
    return result


def command_of(job: Job) -> list[str]:
    """The command with `Ref::name` words replaced by parameters."""
    parameters = job.spec.parameters
    return [
        parameters.get(word.removeprefix("Ref::"), word) if word.startswith("Ref::") else word
        for word in job.spec.container.get("command", [])
    ]


def environment_of(job: Job, environment_name: str, queue_name: str) -> dict[str, str]:
    """What the container's environment holds beyond the platform's: the definition's, the overrides'
    and Batch's own, which cannot be overridden."""
    variables = {v["name"]: v["value"] for v in job.spec.container.get("environment", [])}
    variables |= {
        "AWS_BATCH_JOB_ID": job.job_id,
        "AWS_BATCH_JOB_ATTEMPT": str(job.attempt),
        "AWS_BATCH_CE_NAME": environment_name,
        "AWS_BATCH_JQ_NAME": queue_name,
    }
    if job.index is not None and not job.is_node:
        variables["AWS_BATCH_JOB_ARRAY_INDEX"] = str(job.index)
        variables["AWS_BATCH_JOB_ARRAY_SIZE"] = str(job.spec.array_size)
    return variables


def log_group_of(job: Job) -> str:
    options = job.spec.container.get("logConfiguration", {}).get("options", {})
    return str(options.get("awslogs-group", DEFAULT_LOG_GROUP))
