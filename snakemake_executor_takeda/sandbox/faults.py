"""What can be made to go wrong in the sandbox, how often, and for which jobs and calls. Pure.

A fault is asked for as `name[:variant]=amount`: a rate from 0 to 1, or seconds.
"""

from __future__ import annotations

import fnmatch
import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from snakemake_executor_takeda.nearest import nearest
from snakemake_executor_takeda.values import TakedaError

Scope = Literal["call", "quota", "job", "event"]
STUCK_CODES: Final = (
    "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY",
    "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE",
    "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT",
    "MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED",
    "MISCONFIGURATION:SERVICE_ROLE_PERMISSIONS",
    "ACTION_REQUIRED",
    "UNDETERMINED",
)
"""Why a queue is blocked, as AWS Batch's documentation has it."""
OMICS_REASONS: Final = (
    "SERVICE_ERROR",
    "INSTANCE_RESERVATION_FAILED",
    "MODIFIED_INPUT_RESOURCE",
    "ASSUME_ROLE_FAILED",
    "CANNOT_START_CONTAINER_ERROR",
    "CANNOT_START_CONTAINER_SIZE_ERROR",
    "ECR_PERMISSION_ERROR",
    "EXPORT_FAILED",
    "FILE_SYSTEM_OUT_OF_SPACE",
    "IMAGE_VERIFICATION_FAILURE",
    "IMPORT_FAILED",
    "INACTIVE_OMICS_STORAGE_RESOURCE",
    "INPUT_URI_NOT_FOUND",
    "INVALID_ECR_IMAGE_URI",
    "INVALID_TASK_RESOURCE_VALUE",
    "INVALID_URI_INPUT",
    "OUT_OF_MEMORY_ERROR",
    "RUN_TASK_FAILED",
    "RUN_TIMED_OUT",
    "TASK_TIMED_OUT",
    "UNSUPPORTED_GPU_INSTANCE_TYPE",
    "UNSUPPORTED_INPUT_SIZE",
    "WORKFLOW_RUN_FAILED",
    "WORKFLOW_VER_VALIDATION_FAILED",
)
"""Why a HealthOmics run fails, as its user guide has it."""
MAX_SECONDS: Final = 3600.0
MAX_CALLS_PER_SECOND: Final = 1000.0
RULE_TAG: Final = "takeda:rule"


@dataclass(frozen=True)
class Kind:
    """One fault's word."""

    name: str
    does: str
    scope: Scope
    """What it falls on: a call of the API, calls beyond a quota, a job's attempt, an event."""
    variants: tuple[str, ...] = ()
    """The first is meant where none is named."""
    in_seconds: bool = False
    """Its amount is seconds, not a rate."""


KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind("latency", "each call takes so many seconds longer", "call", in_seconds=True),
        Kind(
            "throttling",
            "the call is refused with HTTP 429",
            "call",
            ("TooManyRequestsException", "ThrottlingException"),
        ),
        Kind("server-error", "the call fails with HTTP 5xx", "call", ("500", "502", "503", "504")),
        Kind("lost-answer", "the call is done, its answer is lost", "call", ("closed", "500")),
        Kind(
            "describe-lag",
            "jobs and their changes are seen so many seconds late",
            "job",
            in_seconds=True,
        ),
        Kind("spot-reclaim", "the attempt's Spot instance is taken away", "job", ("absent", "143")),
        Kind(
            "out-of-memory", "the attempt is killed for its memory", "job", ("137", "0", "1", "2")
        ),
        Kind("image-pull", "the attempt's image cannot be pulled", "job", ("timeout", "denied")),
        Kind("timeout", "the attempt runs into its timeout", "job"),
        Kind("missing-exit-code", "the attempt fails and nothing says why", "job"),
        Kind("blocked-queue", "the job stays RUNNABLE and holds up its queue", "job", STUCK_CODES),
        Kind("omics-failure", "the HealthOmics run fails with this reason", "job", OMICS_REASONS),
        Kind(
            "omics-delay",
            "the run (or workflow) keeps this status so many seconds longer",
            "job",
            ("PENDING", "STARTING", "CREATING"),
            in_seconds=True,
        ),
        Kind(
            "omics-quotas",
            "HealthOmics' calls a second are limited as on AWS, StartRun's to so many",
            "quota",
        ),
        Kind("duplicate-events", "the event comes twice", "event"),
        Kind("disordered-events", "the event comes up to 2 s late", "event"),
        Kind("lost-events", "the event never comes", "event"),
    )
}


@dataclass(frozen=True)
class Target:
    """What a fault may fall on: a job, one attempt of it, or a call that names a job."""

    name: str | None = None
    rule: str | None = None
    """The value of the tag `takeda:rule`."""
    queue: str | None = None
    """The queue's name."""
    operation: str | None = None


@dataclass(frozen=True)
class Fault:
    """A fault as it was asked for. Selectors that are None select everything."""

    kind: str
    amount: float
    variant: str = ""
    rule: str | None = None
    job: str | None = None
    """Glob of job names."""
    queue: str | None = None
    """Glob of queue names."""
    call: str | None = None
    """Glob of operations, such as `Describe*`."""
    times: int | None = None
    """How often at most."""
    seed: int = 0

    @property
    def key(self) -> tuple[str | None, ...]:
        """A fault that is set again replaces the one with this key."""
        return self.kind, self.variant, self.rule, self.job, self.queue, self.call

    def selects(self, target: Target) -> bool:
        return (
            (self.rule is None or self.rule == target.rule)
            and _matches(self.job, target.name)
            and _matches(self.queue, target.queue)
            and _matches(self.call, target.operation)
        )

    def draw(self, *what: object) -> float:
        """A number from 0 to below 1 that depends on the seed, the fault's word and `what` alone."""
        text = repr((self.seed, self.kind, *what)).encode()
        digest = hashlib.blake2b(text, digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value not in (None, "")}


def parse(words: Iterable[str], **selectors: Any) -> list[Fault]:
    """`["spot-reclaim=0.3", "out-of-memory:1=0.2"]` → faults. Raises TakedaError with the fix.

    `selectors` are Fault's: rule, job, queue, call, times, seed.
    """
    return [_parse(word, selectors) for word in words]


def from_json(value: Mapping[str, Any]) -> Fault:
    """Undo `to_json`, checked. Raises TakedaError."""
    try:
        fault = Fault(**value)
    except TypeError as error:
        raise TakedaError(f"not a fault: {error}") from None
    return _checked(fault)


def kind_of(name: str) -> Kind:
    """Raises TakedaError with the nearest word for one that is none."""
    kind = KINDS.get(name)
    if kind is None:
        raise TakedaError(f"there is no fault {name!r}. {_choices(name, KINDS, 'Faults')}")
    return kind


def _parse(word: str, selectors: Mapping[str, Any]) -> Fault:
    left, equals, amount = word.partition("=")
    name, _, variant = left.partition(":")
    kind = kind_of(name)
    example = f"{name}={_EXAMPLES[_unit(kind)]}"
    try:
        number = float(amount)
    except ValueError:
        what = f"{amount!r} is not a number" if equals else "the amount is missing"
        raise TakedaError(f"{word}: {what}: write, for example, {example}") from None
    return _checked(Fault(kind=name, amount=number, variant=variant, **selectors))


def _checked(fault: Fault) -> Fault:
    kind = kind_of(fault.kind)
    if fault.variant and fault.variant not in kind.variants:
        if not kind.variants:
            raise TakedaError(f"{kind.name} has no variants: leave out :{fault.variant}")
        choices = _choices(fault.variant, kind.variants, "Variants")
        raise TakedaError(f"{kind.name} has no variant {fault.variant!r}. {choices}")
    unit = _unit(kind)
    limit = _LIMITS[unit]
    if not (math.isfinite(fault.amount) and 0 <= fault.amount <= limit):
        raise TakedaError(
            f"{kind.name}={fault.amount:g}: give {unit} from 0 to {limit:g}"
            + (", such as 0.3 for 30 %" if unit == "a rate" else "")
        )
    if fault.times is not None and fault.times < 1:
        raise TakedaError(f"--times {fault.times}: give at least 1")
    if fault.call is not None and kind.scope not in _OF_CALLS:
        on_calls = ", ".join(k.name for k in KINDS.values() if k.scope in _OF_CALLS)
        raise TakedaError(f"--call selects calls of the API, and goes with {on_calls} only")
    if fault.variant or not kind.variants:
        return fault
    return Fault(**{**asdict(fault), "variant": kind.variants[0]})


_OF_CALLS: Final = ("call", "quota")
_LIMITS: Final = {"seconds": MAX_SECONDS, "calls a second": MAX_CALLS_PER_SECOND, "a rate": 1.0}
_EXAMPLES: Final = {"seconds": "0.05", "calls a second": "1", "a rate": "0.3"}


def _unit(kind: Kind) -> str:
    if kind.in_seconds:
        return "seconds"
    return "calls a second" if kind.scope == "quota" else "a rate"


def _choices(word: str, words: Iterable[str], what: str) -> str:
    near = nearest(word, words)
    return f"Did you mean {near}?" if near else f"{what}: {', '.join(words)}."


def _matches(pattern: str | None, value: str | None) -> bool:
    return pattern is None or (value is not None and fnmatch.fnmatchcase(value, pattern))
