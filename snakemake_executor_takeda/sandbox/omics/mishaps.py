"""What the sandbox's faults do to runs, in HealthOmics' words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from snakemake_executor_takeda.sandbox.faults import RULE_TAG, Target
from snakemake_executor_takeda.sandbox.injecting import Faults, Subject

Phase = Literal["import", "task", "export"]
"""When a run fails: before its tasks, with its first task, after its tasks."""
_LATEST_SECONDS: Final = 2.0


@dataclass(frozen=True)
class Reason:
    phase: Phase
    says: str
    """The status message. `{task}` is the task's name, `{region}` the region."""
    exit_code: int | None = None
    """Of the task that fails; None where its container never starts."""


REASONS: Final[Mapping[str, Reason]] = {
    "ASSUME_ROLE_FAILED": Reason("import", "HealthOmics cannot assume the run's role"),
    "IMPORT_FAILED": Reason("import", "the import of the inputs failed"),
    "INACTIVE_OMICS_STORAGE_RESOURCE": Reason("import", "a read set is not ACTIVE"),
    "INPUT_URI_NOT_FOUND": Reason("import", "an input's URI does not exist"),
    "INVALID_URI_INPUT": Reason("import", "an input's URI is not valid"),
    "UNSUPPORTED_INPUT_SIZE": Reason("import", "the inputs are too large in total"),
    "WORKFLOW_VER_VALIDATION_FAILED": Reason(
        "import", "the Nextflow version that the workflow asks for is not supported"
    ),
    "INSTANCE_RESERVATION_FAILED": Reason(
        "import", "there is not enough instance capacity to complete the run"
    ),
    "SERVICE_ERROR": Reason("import", "there was a transient error in the service"),
    "WORKFLOW_RUN_FAILED": Reason("import", "the workflow failed; see the engine's log"),
    "CANNOT_START_CONTAINER_ERROR": Reason("task", "the container of task {task} did not start"),
    "CANNOT_START_CONTAINER_SIZE_ERROR": Reason("task", "the image of task {task} is too large"),
    "ECR_PERMISSION_ERROR": Reason(
        "task", "HealthOmics has no permission to access the image of task {task}"
    ),
    "IMAGE_VERIFICATION_FAILURE": Reason("task", "the image of task {task} cannot be verified"),
    "INVALID_ECR_IMAGE_URI": Reason("task", "the image of task {task} is not a URI of Amazon ECR"),
    "INVALID_TASK_RESOURCE_VALUE": Reason("task", "task {task} asks for too much, or for nothing"),
    "UNSUPPORTED_GPU_INSTANCE_TYPE": Reason(
        "task", "the GPU instance type of task {task} is not supported in {region}"
    ),
    "FILE_SYSTEM_OUT_OF_SPACE": Reason("task", "the run's file system is full", 1),
    "OUT_OF_MEMORY_ERROR": Reason("task", "task {task} ran out of memory", 137),
    "RUN_TASK_FAILED": Reason("task", "task {task} failed with exit status 1", 1),
    "TASK_TIMED_OUT": Reason("task", "task {task} ran into its timeout", 143),
    "EXPORT_FAILED": Reason("export", "the export of the outputs failed"),
    "MODIFIED_INPUT_RESOURCE": Reason("export", "an input was modified after the run had started"),
    "RUN_TIMED_OUT": Reason("export", "the run ran into its longest duration"),
}
"""Every failureReason of a run that HealthOmics' user guide lists."""


class Mishaps:
    """Asks the sandbox's faults about runs."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def note(self, run: Mapping[str, Any]) -> None:
        """A run was started."""
        self._faults.note(subject(run))

    def failure_of(self, run: Mapping[str, Any]) -> str | None:
        """The reason with which this run is to fail."""
        if not self._faults.has("omics-failure"):
            return None
        hit = self._faults.hit("omics-failure", subject(run), key=run["uuid"])
        return None if hit is None else hit.fault.variant

    def seconds_in(self, status: str, run: Mapping[str, Any]) -> float:
        """How much longer than usual it is PENDING or STARTING."""
        return self._delay(status, subject(run))

    def creating_seconds(self, definition: Mapping[str, Any]) -> float:
        """How much longer than usual a workflow or a version is CREATING."""
        tags = definition.get("tags") or {}
        target = Target(name=definition.get("name"), rule=tags.get(RULE_TAG))
        return self._delay("CREATING", Subject(definition["uuid"], target))

    def _delay(self, status: str, whose: Subject) -> float:
        return self._faults.seconds("omics-delay", whose, variant=status)

    def delays_of_event(self, whose: Subject) -> Iterator[float]:
        """After how many seconds an event comes, for each time that it comes."""
        if self._faults.hit("lost-events", whose):
            return
        late = self._faults.hit("disordered-events", whose)
        yield late.part * _LATEST_SECONDS if late else 0.0
        again = self._faults.hit("duplicate-events", whose)
        if again:
            yield again.part * _LATEST_SECONDS


def subject(run: Mapping[str, Any], status: str = "") -> Subject:
    """The run as faults select it: by its name and its rule's tag."""
    target = Target(name=run.get("name"), rule=(run.get("tags") or {}).get(RULE_TAG))
    return Subject(run["uuid"], target, status=status)
