"""Compute environments and job queues."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from snakemake_executor_takeda.sandbox.batch import limits
from snakemake_executor_takeda.sandbox.batch.paging import client_error, page
from snakemake_executor_takeda.sandbox.batch.policies import Policies
from snakemake_executor_takeda.sandbox.batch.store import Store

ENVIRONMENT, QUEUE = "environment", "queue"
_STUCK_REASONS = (
    "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY",
    "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE",
    "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT",
    "MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED",
)


class Queues:
    """All compute environments and job queues. They are VALID at once."""

    def __init__(self, store: Store, arn_prefix: str, memory_mib: int, policies: Policies) -> None:
        """`memory_mib` is the memory that each compute environment has."""
        self._store = store
        self._arn_prefix = arn_prefix
        self._memory_mib = memory_mib
        self._policies = policies
        self._lock = threading.RLock()
        self._environments = {r["computeEnvironmentArn"]: r for r in store.resources(ENVIRONMENT)}
        self._queues = {r["jobQueueArn"]: r for r in store.resources(QUEUE)}

    # compute environments

    def create_environment(self, params: dict[str, Any]) -> dict[str, Any]:
        name = params["computeEnvironmentName"]
        arn = f"{self._arn_prefix}compute-environment/{name}"
        _check_name("computeEnvironmentName", name)
        if params["type"] == "MANAGED" and "computeResources" not in params:
            raise client_error("computeResources is required for a MANAGED compute environment")
        if "eksConfiguration" in params:
            raise client_error("the sandbox does not have compute environments on EKS")
        resources = params.get("computeResources", {})
        _check_resources(resources)
        with self._lock:
            if arn in self._environments:
                raise client_error(f"there is a compute environment {name} already")
            if len(self._environments) >= limits.COMPUTE_ENVIRONMENTS:
                raise client_error(f"at most {limits.COMPUTE_ENVIRONMENTS} compute environments")
            record = {
                **params,
                "computeEnvironmentArn": arn,
                "state": params.get("state", "ENABLED"),
                "status": "VALID",
                "statusReason": "ComputeEnvironment Healthy",
                "containerOrchestrationType": "ECS",
            }
            self._save_environment(record)
        return {"computeEnvironmentName": name, "computeEnvironmentArn": arn}

    def update_environment(self, params: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            old = self._environment(params["computeEnvironment"])
            changed: dict[str, Any] = {
                name: params[name]
                for name in ("state", "serviceRole", "unmanagedvCpus", "updatePolicy", "context")
                if name in params
            }
            record = {**old, **changed}
            if "computeResources" in params:
                record["computeResources"] = {
                    **old.get("computeResources", {}),
                    **params["computeResources"],
                }
                _check_resources(record["computeResources"])
            self._save_environment(record)
        return _names(record, "computeEnvironmentName", "computeEnvironmentArn")

    def delete_environment(self, params: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            record = self._environments.get(
                self._arn(params["computeEnvironment"], "compute-environment")
            )
            if record is None:
                return {}
            name, arn = record["computeEnvironmentName"], record["computeEnvironmentArn"]
            if record["state"] != "DISABLED":
                raise client_error(f"disable the compute environment {name} before you delete it")
            if any(arn in environment_arns(queue) for queue in self._queues.values()):
                raise client_error(f"the compute environment {name} is used by a job queue")
            del self._environments[arn]
            self._store.delete_resource(ENVIRONMENT, arn)
        return {}

    def describe_environments(self, params: dict[str, Any]) -> dict[str, Any]:
        found, token = self._described(
            self._environments, "computeEnvironmentName", params, params.get("computeEnvironments")
        )
        return {"computeEnvironments": found, "nextToken": token}

    # queues

    def create_queue(self, params: dict[str, Any]) -> dict[str, Any]:
        name = params["jobQueueName"]
        arn = f"{self._arn_prefix}job-queue/{name}"
        _check_name("jobQueueName", name)
        if params.get("serviceEnvironmentOrder"):
            raise client_error("the sandbox does not have service environments")
        if params.get("schedulingPolicyArn"):
            self._policies.check_exists(params["schedulingPolicyArn"])
        with self._lock:
            if arn in self._queues:
                raise client_error(f"there is a job queue {name} already")
            if len(self._queues) >= limits.JOB_QUEUES:
                raise client_error(f"at most {limits.JOB_QUEUES} job queues")
            record = self._checked_queue(
                {
                    **params,
                    "jobQueueArn": arn,
                    "state": params.get("state", "ENABLED"),
                    "status": "VALID",
                    "statusReason": "JobQueue Healthy",
                }
            )
            self._save_queue(record)
        return {"jobQueueName": name, "jobQueueArn": arn}

    def update_queue(self, params: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            old = self.queue(params["jobQueue"])
            changed: dict[str, Any] = {
                name: params[name]
                for name in (
                    "state",
                    "priority",
                    "computeEnvironmentOrder",
                    "jobStateTimeLimitActions",
                    "schedulingPolicyArn",
                )
                if name in params
            }
            if "schedulingPolicyArn" in params:
                self._policies.check_exists(params["schedulingPolicyArn"])
                if not old.get("schedulingPolicyArn"):
                    raise client_error("a FIFO job queue cannot be given a scheduling policy")
            record = self._checked_queue({**old, **changed})
            self._save_queue(record)
        return _names(record, "jobQueueName", "jobQueueArn")

    def delete_queue(self, params: dict[str, Any]) -> str | None:
        """Delete a disabled queue; its ARN, or None where there is no such queue."""
        with self._lock:
            arn = self._arn(params["jobQueue"], "job-queue")
            record = self._queues.get(arn)
            if record is None:
                return None
            if record["state"] != "DISABLED":
                raise client_error(
                    f"disable the job queue {record['jobQueueName']} before you delete it"
                )
            del self._queues[arn]
            self._store.delete_resource(QUEUE, arn)
        return arn

    def describe_queues(self, params: dict[str, Any]) -> dict[str, Any]:
        found, token = self._described(
            self._queues, "jobQueueName", params, params.get("jobQueues")
        )
        return {"jobQueues": found, "nextToken": token}

    # what the rest of the emulator asks

    def queue(self, text: str) -> dict[str, Any]:
        """A queue by name or ARN. Raises ServiceError where there is none."""
        record = self._queues.get(self._arn(text, "job-queue"))
        if record is None:
            raise client_error(f"there is no job queue {text!r}")
        return record

    def check_policy_unused(self, arn: str) -> None:
        """Raises ServiceError where a queue has this scheduling policy."""
        with self._lock:
            for queue in self._queues.values():
                if queue.get("schedulingPolicyArn") == arn:
                    raise client_error(
                        f"the scheduling policy is used by the job queue {queue['jobQueueName']}"
                    )

    def served_queues(self) -> list[dict[str, Any]]:
        """In the order they are served."""
        with self._lock:
            queues = list(self._queues.values())
        # a disabled queue takes no new jobs; those it has go on
        return sorted(queues, key=lambda queue: -int(queue["priority"]))

    def environments_of(self, queue: Mapping[str, Any]) -> list[dict[str, Any]]:
        """A queue's compute environments in its order, without those that are disabled or gone."""
        found = [self._environments.get(arn) for arn in environment_arns(queue)]
        return [record for record in found if record is not None and record["state"] == "ENABLED"]

    def capacity_of(self, environment: Mapping[str, Any]) -> tuple[float, int]:
        """Its vCPUs and its memory in MiB."""
        resources = environment.get("computeResources", {})
        return float(resources.get("maxvCpus", 0)), self._memory_mib

    def kind_of(self, environment_arn: str) -> str:
        """A compute environment's type: `EC2`, `SPOT`, `FARGATE`, `FARGATE_SPOT`."""
        record = self._environments.get(environment_arn, {})
        return str(record.get("computeResources", {}).get("type", "EC2"))

    def takes_fargate(self, queue: Mapping[str, Any]) -> bool:
        return any(
            record.get("computeResources", {}).get("type", "").startswith("FARGATE")
            for arn in environment_arns(queue)
            if (record := self._environments.get(arn)) is not None
        )

    def has_on_demand(self, queue: Mapping[str, Any]) -> bool:
        """Whether one of its compute environments is of On-Demand instances."""
        kinds = (self.kind_of(arn) for arn in environment_arns(queue))
        return any(kind != "SPOT" for kind in kinds)

    def tagged(self, arn: str) -> dict[str, Any] | None:
        return self._queues.get(arn) or self._environments.get(arn)

    def save(self, record: dict[str, Any]) -> None:
        with self._lock:
            if "jobQueueArn" in record:
                self._save_queue(record)
            else:
                self._save_environment(record)

    def _described(
        self,
        records: Mapping[str, dict[str, Any]],
        name: str,
        params: Mapping[str, Any],
        wanted: list[str] | None,
    ) -> tuple[list[dict[str, Any]], str | None]:
        with self._lock:
            found = list(records.items())
        if wanted:
            found = [(arn, record) for arn, record in found if {arn, record[name]} & set(wanted)]
        chosen, token = page(
            found,
            lambda item: item[0],
            params.get("nextToken"),
            params.get("maxResults"),
            limits.DESCRIBE_PAGE,
        )
        return [record for _, record in chosen], token

    def _checked_queue(self, record: dict[str, Any]) -> dict[str, Any]:
        if record["priority"] not in limits.QUEUE_PRIORITY:
            raise client_error(f"priority must be between 0 and 1000, not {record['priority']}")
        order = sorted(record.get("computeEnvironmentOrder", []), key=lambda entry: entry["order"])
        if not 1 <= len(order) <= limits.ENVIRONMENTS_PER_QUEUE:
            raise client_error(
                f"a job queue needs 1 to {limits.ENVIRONMENTS_PER_QUEUE} compute environments"
            )
        environments = [self._environment(entry["computeEnvironment"]) for entry in order]
        kinds = {
            record.get("computeResources", {}).get("type", "EC2").startswith("FARGATE")
            for record in environments
        }
        if len(kinds) > 1:
            raise client_error("a job queue cannot have EC2 and Fargate compute environments")
        for action in record.get("jobStateTimeLimitActions", []):
            if action["maxTimeSeconds"] not in limits.TIME_LIMIT_SECONDS:
                raise client_error("maxTimeSeconds must be between 600 and 86400")
            if action["reason"] not in _STUCK_REASONS:
                raise client_error(
                    f"{action['reason']!r} is no reason for jobStateTimeLimitActions; "
                    f"there are {', '.join(_STUCK_REASONS)}"
                )
        return {
            **record,
            "jobQueueType": "ECS_FARGATE" if kinds == {True} else "ECS",
            "computeEnvironmentOrder": [
                {
                    "order": entry["order"],
                    "computeEnvironment": environment["computeEnvironmentArn"],
                }
                for entry, environment in zip(order, environments, strict=True)
            ],
        }

    def _environment(self, text: str) -> dict[str, Any]:
        record = self._environments.get(self._arn(text, "compute-environment"))
        if record is None:
            raise client_error(f"there is no compute environment {text!r}")
        return record

    def _arn(self, text: str, kind: str) -> str:
        return text if text.startswith("arn:") else f"{self._arn_prefix}{kind}/{text}"

    def _save_environment(self, record: dict[str, Any]) -> None:
        self._store.save_resource(ENVIRONMENT, record["computeEnvironmentArn"], record)
        self._environments[record["computeEnvironmentArn"]] = record

    def _save_queue(self, record: dict[str, Any]) -> None:
        self._store.save_resource(QUEUE, record["jobQueueArn"], record)
        self._queues[record["jobQueueArn"]] = record


def environment_arns(queue: Mapping[str, Any]) -> list[str]:
    return [entry["computeEnvironment"] for entry in queue["computeEnvironmentOrder"]]


def _check_name(member: str, name: str) -> None:
    if not limits.RESOURCE_NAME.fullmatch(name):
        raise client_error(
            f"{member} {name!r} must be 1 to 128 letters, digits, hyphens and underscores"
        )


def _check_resources(resources: Mapping[str, Any]) -> None:
    if not resources:
        return
    if resources["maxvCpus"] < 1:
        raise client_error("computeResources.maxvCpus must be at least 1")
    if resources.get("minvCpus", 0) > resources["maxvCpus"]:
        raise client_error("computeResources.minvCpus is larger than maxvCpus")


def _names(record: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: record[name] for name in names}
