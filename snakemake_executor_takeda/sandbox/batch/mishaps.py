"""What the sandbox's faults do to jobs, in AWS Batch's words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from snakemake_executor_takeda.sandbox.batch.endings import (
    EXITED,
    NOT_STARTED,
    OUT_OF_MEMORY,
    SPOT_TASK_INTERRUPTED,
    host_terminated,
    timed_out,
)
from snakemake_executor_takeda.sandbox.batch.jobs import Ending, Job
from snakemake_executor_takeda.sandbox.faults import RULE_TAG, Fault, Target
from snakemake_executor_takeda.sandbox.injecting import Faults, Hit, Subject

_SENTENCES = {
    "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY": (
        "Service cannot fulfill the capacity requested for instance type [m6i.large]."
    ),
    "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE": (
        "The compute environments of the job queue cannot meet the CPU requirement of the job."
    ),
    "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT": (
        "The job's resource requirement is higher than the compute environments of its queue can meet."
    ),
    "MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED": (
        "The instances of the compute environment cannot be launched as they are configured."
    ),
    "MISCONFIGURATION:SERVICE_ROLE_PERMISSIONS": "Batch operation has a permissions issue.",
    "ACTION_REQUIRED": "The compute environments of the job queue are INVALID.",
    "UNDETERMINED": "Batch job is blocked, root cause is undetermined.",
}


@dataclass(frozen=True)
class Mishap:
    """What befalls one attempt."""

    hit: Hit
    ending: Ending
    is_abrupt: bool = True
    """Whether it is killed at once, or asked to end first."""
    never_starts: bool = False


class Mishaps:
    """Asks the sandbox's faults about jobs."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def note(self, job: Job) -> None:
        """A job was submitted."""
        self._faults.note(subject(job))

    def of_attempt(self, job: Job, environment_kind: str) -> Mishap | None:
        """What befalls the attempt that starts now in a compute environment of type `SPOT`, `EC2`, …"""

        def can_fall(fault: Fault) -> bool:
            # whoever names a queue means it, of whatever kind it is
            is_spot = environment_kind.endswith("SPOT") or fault.queue is not None
            return is_spot or fault.kind != "spot-reclaim"

        for kind, make in _ON_ATTEMPTS.items():
            if self._faults.has(kind):
                hit = self._faults.hit(kind, subject(job), where=can_fall)
                if hit is not None:
                    return make(job, hit, environment_kind)
        return None

    def withdraw(self, mishap: Mishap) -> None:
        """The attempt ended otherwise before the mishap could come."""
        self._faults.withdraw(mishap.hit)

    def why_stuck(self, job: Job) -> str | None:
        """The statusReason of a job that is to stay RUNNABLE."""
        if not self._faults.has("blocked-queue"):
            return None
        hit = self._faults.hit("blocked-queue", subject(job), key=(job.job_id, job.attempt))
        return None if hit is None else f"{hit.fault.variant} - {_SENTENCES[hit.fault.variant]}"

    def has_lag(self) -> bool:
        return self._faults.has("describe-lag")

    def lag_ms(self, job: Job) -> int:
        """How late this job and its changes are seen."""
        return int(self._faults.seconds("describe-lag", subject(job)) * 1000)

    def delays_of_event(self, job: Subject) -> Iterator[float]:
        """After how many seconds an event comes, for each time that it comes."""
        if self._faults.hit("lost-events", job):
            return
        late = self._faults.hit("disordered-events", job)
        yield late.part * _LATEST_SECONDS if late else 0.0
        again = self._faults.hit("duplicate-events", job)
        if again:
            yield again.part * _LATEST_SECONDS


_LATEST_SECONDS = 2.0


def subject(job: Job, status: str = "") -> Subject:
    """The job as faults select it."""
    top, spec = job.parent or job, job.spec
    target = Target(
        name=spec.job_name,
        rule=spec.tags.get(RULE_TAG),
        queue=spec.queue_arn.rpartition("/")[2],
    )
    return Subject(top.job_id, target, job.index, job.attempt, status)


def _reclaim(job: Job, hit: Hit, environment_kind: str) -> Mishap:
    code = None if hit.fault.variant == "absent" else int(hit.fault.variant)
    if environment_kind.startswith("FARGATE"):
        ending = Ending(SPOT_TASK_INTERRUPTED, code)
    else:
        ending = host_terminated(f"i-{int(hit.part * 16**17):017x}", code)
    return Mishap(hit, ending, is_abrupt=code is None)


def _out_of_memory(job: Job, hit: Hit, environment_kind: str) -> Mishap:
    return Mishap(hit, Ending(EXITED, int(hit.fault.variant), OUT_OF_MEMORY))


def _image_pull(job: Job, hit: Hit, environment_kind: str) -> Mishap:
    image = job.spec.container.get("image")
    words = {
        "timeout": f"failed to resolve reference {image}: Client.Timeout exceeded while awaiting headers",
        "denied": f"pull access denied for {image}",
    }
    reason = f"CannotPullContainerError: Error response from daemon: {words[hit.fault.variant]}"
    return Mishap(hit, Ending(NOT_STARTED, reason=reason), never_starts=True)


def _timeout(job: Job, hit: Hit, environment_kind: str) -> Mishap:
    return Mishap(hit, timed_out(), is_abrupt=False)


def _without_words(job: Job, hit: Hit, environment_kind: str) -> Mishap:
    return Mishap(hit, Ending(EXITED))


_ON_ATTEMPTS: dict[str, Callable[[Job, Hit, str], Mishap]] = {
    "image-pull": _image_pull,
    "spot-reclaim": _reclaim,
    "out-of-memory": _out_of_memory,
    "timeout": _timeout,
    "missing-exit-code": _without_words,
}
