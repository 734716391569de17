"""Which compute environment has room for a job: pure bookkeeping of what is in use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from snakemake_executor_takeda.sandbox.batch.consumables import Consumables
from snakemake_executor_takeda.sandbox.batch.jobs import Spec


@dataclass(frozen=True)
class Environment:
    """A compute environment's size."""

    arn: str
    vcpus: float
    memory_mib: int
    is_spot: bool = False

    def takes(self, spec: Spec) -> bool:
        """Whether jobs of this kind can run here: those of several nodes not on Spot."""
        return spec.node_properties is None or not self.is_spot

    def could_ever_hold(self, spec: Spec) -> bool:
        return spec.vcpus <= self.vcpus and spec.memory_mib <= self.memory_mib


class Capacity:
    """What the running jobs take of each compute environment, and of consumable resources."""

    def __init__(self, consumables: Consumables) -> None:
        self._consumables = consumables
        self._used: dict[str, tuple[float, int]] = {}

    def place(self, spec: Spec, environments: Sequence[Environment]) -> Environment | None:
        """The first with room, None where there is none now."""
        if not self._consumables.has_room(spec.consumables):
            return None
        for environment in environments:
            vcpus, memory_mib = self._used.get(environment.arn, (0.0, 0))
            if (
                environment.takes(spec)
                and vcpus + spec.vcpus <= environment.vcpus
                and memory_mib + spec.memory_mib <= environment.memory_mib
            ):
                return environment
        return None

    def take(self, spec: Spec, arn: str) -> None:
        self._consumables.take(spec.consumables)
        self._add(arn, spec.vcpus, spec.memory_mib)

    def give_back(self, spec: Spec, arn: str) -> None:
        self._consumables.give_back(spec.consumables)
        self._add(arn, -spec.vcpus, -spec.memory_mib)

    def used(self) -> Mapping[str, tuple[float, int]]:
        """vCPUs and MiB in use by compute environment."""
        return dict(self._used)

    def _add(self, arn: str, vcpus: float, memory_mib: int) -> None:
        old_vcpus, old_memory = self._used.get(arn, (0.0, 0))
        self._used[arn] = (old_vcpus + vcpus, old_memory + memory_mib)


def why_never(spec: Spec, environments: Sequence[Environment]) -> str | None:
    """Why a job can not run in any of these, in Batch's words; None where it could."""
    environments = [environment for environment in environments if environment.takes(spec)]
    if not environments:
        return "ACTION_REQUIRED - No enabled compute environment is attached to the job queue."
    if any(environment.could_ever_hold(spec) for environment in environments):
        return None
    largest = max(environment.vcpus for environment in environments)
    if spec.vcpus > largest:
        return (
            "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - The job asks for "
            f"{spec.vcpus:g} vCPUs; maxvCpus of the compute environments is {largest:g}."
        )
    return (
        "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - The job asks for "
        f"{spec.memory_mib} MiB of memory, more than any instance of the compute environments has."
    )
