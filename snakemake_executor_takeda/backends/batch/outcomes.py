"""A job as Batch describes it → how its task ended. Pure.

Batch says why in free text. It is read in a fixed order (timeout, Spot, stuck queue, out of memory,
start failure, exit code), because a killed container carries the same exit code whoever killed it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from snakemake_executor_takeda.backends.batch.console import Console
from snakemake_executor_takeda.backends.batch.diagnosis import advice_on
from snakemake_executor_takeda.values import FailureKind, Outcome
from snakemake_executor_takeda.worker.exits import DISK_FULL

_TIMEOUT = re.compile(r"attempt duration exceeded timeout", re.I)
_HOST_GONE = re.compile(r"\bHost EC2\b.{0,60}\bterminated", re.I)
_SPOT_TASK = re.compile(r"\bSpot (Task was interrupted|interruption)", re.I)
_STUCK = re.compile(r"\b(?P<group>CAPACITY|MISCONFIGURATION|ACTION_REQUIRED|UNDETERMINED)\b[:\s]")
_STUCK_CANCEL = re.compile(r"JobStateTimeLimit action", re.I)
_NO_CAPACITY = re.compile(r"capacity is unavailable", re.I)
_GIVEN_UP = re.compile(r"\bgiven up by takeda \((?P<kind>no_capacity|configuration)\)")
_TO_MEND = ". To mend it: "
_OUT_OF_MEMORY = re.compile(r"\bOutOfMemory", re.I)
_IMAGE = re.compile(r"\bCannotPull\w*Error\b")
_NO_SUCH_IMAGE = re.compile(
    r"manifest unknown|manifest for \S+ not found|not found: (manifest|name) unknown|: not found\b"
    r"|(repository|image) \S* ?(does not exist|not found)|name unknown|pull access denied"
    r"|no basic auth credentials|no matching manifest|descriptor matching platform"
    r"|invalid reference format|is not authorized to perform|access ?denied|unauthorized",
    re.I,
)
"""What no further pull mends. A registry that is busy, slow or unreachable says other things."""
_SET_UP = re.compile(
    r"\b(ResourceInitialization|CannotStartContainer|CannotCreateContainer|CannotCreateVolume)Error\b"
)
_SECRET = re.compile(r"unable to retrieve secrets?\b|\bsecret\w* from (asm|ssm)\b", re.I)
_REGISTRY = re.compile(r"\bregistry auth\b", re.I)
_NODE = re.compile(r"\b(CannotInspectContainer|DockerTimeout|CannotStopContainer)Error\b")
_NO_WORKER = re.compile(r"No module named '?snakemake_executor_takeda\b")
_NEVER_STARTED = re.compile(r"\btask failed to start\b", re.I)

_ADVICE = {
    FailureKind.TIMEOUT: "raise `runtime` of the rule (minutes), or `timeout` of the target",
    FailureKind.IMAGE: "see that the target's `image` exists in its registry and the role may pull it",
    FailureKind.NO_CAPACITY: "give the target a `fallback`, or its compute environment more instance types",
    FailureKind.NODE_FAILURE: "look at the compute environment's instances; run the workflow again to repeat it",
}
QUIET_KINDS = frozenset({FailureKind.INTERRUPTED, FailureKind.NO_CAPACITY})
"""What took the machine away, or kept it away, is not in the job's log."""


def outcome_of(
    detail: Mapping[str, Any],
    *,
    capacity: str | None,
    log_group: str,
    console: Console | None = None,
) -> Outcome:
    """How an ended job ended, without its log lines. `detail` is a JobDetail or a child's JobSummary.

    `capacity` is the target's: where it is on-demand, a host that went away was no Spot reclaim.
    With `console` a failure names its pages there.
    """
    common: dict[str, Any] = {
        "wall_seconds": wall_seconds(detail),
        "exit_code": exit_code(detail),
        "log_location": log_location(detail, log_group),
    }
    reason = "; ".join(dict.fromkeys(_reasons(detail))) or "Batch gave no reason"
    advice = ""
    if _GIVEN_UP.search(reason):
        reason, _, advice = reason.partition(_TO_MEND)
    if detail.get("status") == "SUCCEEDED":
        if not _OUT_OF_MEMORY.search(reason):
            return Outcome(**common, detail=facts(detail))
        reason = f"the container exited well, but the kernel killed a process in it: {reason}"
    kind = failure_kind(detail, capacity)
    if kind == FailureKind.LOST:
        reason = f"no space left for the task's directory: {reason}"
    return Outcome(
        kind,
        reason=reason,
        advice=advice or _advice(kind, reason, detail),
        permanent=kind == FailureKind.IMAGE and _NO_SUCH_IMAGE.search(reason) is not None,
        detail={**facts(detail), **(_links(detail, log_group, console) if console else {})},
        **common,
    )


def failure_kind(detail: Mapping[str, Any], capacity: str | None) -> FailureKind:  # noqa: PLR0911
    """The kind of a job's failure: one line per row of what Batch is known to say."""
    words = "\n".join(_reasons(detail))
    code = exit_code(detail)
    if ours := _GIVEN_UP.search(words):
        return FailureKind(ours["kind"])
    if _TIMEOUT.search(words):
        return FailureKind.TIMEOUT
    if _SPOT_TASK.search(words):
        return FailureKind.INTERRUPTED
    if _HOST_GONE.search(words):
        return FailureKind.NODE_FAILURE if capacity == "on-demand" else FailureKind.INTERRUPTED
    if _NO_CAPACITY.search(words):
        return FailureKind.NO_CAPACITY
    if _STUCK_CANCEL.search(words):
        stuck = _STUCK.search(words)
        no_capacity = stuck is not None and stuck["group"] == "CAPACITY"
        return FailureKind.NO_CAPACITY if no_capacity else FailureKind.CONFIGURATION
    if _OUT_OF_MEMORY.search(words):
        return FailureKind.OUT_OF_MEMORY
    if _IMAGE.search(words):
        return FailureKind.IMAGE
    if _SET_UP.search(words):
        return FailureKind.CONFIGURATION
    if _NODE.search(words) or _NEVER_STARTED.search(words):
        return FailureKind.NODE_FAILURE
    if code == DISK_FULL:
        return FailureKind.LOST
    if code or _ended_from_outside(detail):
        return FailureKind.USER
    never_ran = not detail.get("startedAt") and not detail.get("attempts")
    # Refused with a reason; or it ended without one, which only a node that was lost does.
    refused = never_ran and code is None and words
    return FailureKind.CONFIGURATION if refused else FailureKind.NODE_FAILURE


def with_log(outcome: Outcome, lines: tuple[str, ...]) -> Outcome:
    """The outcome with its log's last lines, in which an image shows that has no worker in it."""
    outcome = replace(outcome, log_tail=lines)
    if outcome.kind != FailureKind.USER or not any(map(_NO_WORKER.search, lines)):
        return outcome
    return replace(
        outcome,
        kind=FailureKind.CONFIGURATION,
        advice="the image has a Python without this package: add `RUN python -m pip install "
        "snakemake-executor-plugin-takeda[s3]` to it, or name an image that has it as `image`",
    )


def given_up(kind: FailureKind, why: str, advice: str) -> str:
    """The reason to cancel a job with that does not start; `outcome_of` finds kind and advice in it.

    Batch keeps 1,024 characters.
    """
    mend = f"{_TO_MEND}{_uncapitalised(advice)}"
    return f"given up by takeda ({kind}): {why}"[: 1024 - len(mend)] + mend


def exit_code(detail: Mapping[str, Any]) -> int | None:
    """The container's, or the last attempt's; Batch leaves it out where no container ended by itself."""
    for container in _containers(detail):
        if container.get("exitCode") is not None:
            return int(container["exitCode"])
    return None


def log_stream(detail: Mapping[str, Any]) -> str | None:
    """The stream of the last attempt, once it was RUNNING."""
    return next((c["logStreamName"] for c in _containers(detail) if c.get("logStreamName")), None)


def log_location(detail: Mapping[str, Any], log_group: str) -> str:
    """`group:stream` in CloudWatch, empty without a stream."""
    stream = log_stream(detail)
    return f"{log_group}:{stream}" if stream else ""


def wall_seconds(detail: Mapping[str, Any]) -> float | None:
    """From start to stop as Batch measured them (milliseconds since 1970)."""
    started, stopped = detail.get("startedAt"), detail.get("stoppedAt")
    return max(0, stopped - started) / 1000 if started and stopped else None


def facts(detail: Mapping[str, Any]) -> dict[str, Any]:
    """What the event log keeps of a job."""
    container = detail.get("container") or {}
    found = {
        "job_id": detail.get("jobId"),
        "image": container.get("image"),
        "log_stream": log_stream(detail),
        "container_instance": container.get("containerInstanceArn"),
        "task": container.get("taskArn"),
    }
    return {key: value for key, value in found.items() if value}


def _links(detail: Mapping[str, Any], log_group: str, console: Console) -> dict[str, str]:
    stream, job_id = log_stream(detail), detail.get("jobId")
    return {
        **({"log_url": console.log(log_group, stream)} if stream else {}),
        **({"job_url": console.job(job_id)} if job_id else {}),
    }


def _reasons(detail: Mapping[str, Any]) -> Iterator[str]:
    """The service's words: the job's own, and the last attempt's where the job has none."""
    last = _last_attempt(detail)
    container, last_container = detail.get("container") or {}, last.get("container") or {}
    for words in (
        detail.get("statusReason") or last.get("statusReason"),
        container.get("reason") or last_container.get("reason"),
    ):
        if words:
            yield words


def _containers(detail: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield detail.get("container") or {}
    yield _last_attempt(detail).get("container") or {}


def _last_attempt(detail: Mapping[str, Any]) -> Mapping[str, Any]:
    attempts = detail.get("attempts") or [{}]
    last: Mapping[str, Any] = attempts[-1]
    return last


def _ended_from_outside(detail: Mapping[str, Any]) -> bool:
    return bool(detail.get("isTerminated") or detail.get("isCancelled"))


def _advice(kind: FailureKind, reason: str, detail: Mapping[str, Any]) -> str:
    if kind == FailureKind.OUT_OF_MEMORY:
        requirements = (detail.get("container") or {}).get("resourceRequirements") or []
        mib = next((r["value"] for r in requirements if r.get("type") == "MEMORY"), None)
        return f"raise `mem_mb` of the rule{f': the container had {mib} MiB' if mib else ''}"
    if kind == FailureKind.USER and _ended_from_outside(detail):
        return "somebody terminated the job in Batch; run the workflow again to repeat it"
    if kind == FailureKind.USER and exit_code(detail) == 137:
        return (
            "exit code 137 is a kill: often for memory, so raise `mem_mb` if the log shows no error"
        )
    if kind == FailureKind.CONFIGURATION:
        return _mending(reason)
    if kind == FailureKind.LOST:
        return (
            "give the instances (on Fargate the rule, by `disk_mb`) more disk, or name another "
            "`scratch` in the target"
        )
    return _ADVICE.get(kind, "")


def _mending(reason: str) -> str:
    """What to change where a job could not be set up."""
    if _SECRET.search(reason):
        return (
            "see that what the target's `secrets` (or `registry_credentials`) name exists, and that its "
            "`execution_role_arn` may read it: secretsmanager:GetSecretValue or ssm:GetParameters, and "
            "kms:Decrypt for a key of your own"
        )
    if _REGISTRY.search(reason):
        return (
            "see that the target's `execution_role_arn` may log in to the image's registry, and that "
            "the queue's subnets reach it"
        )
    if advice := advice_on(reason):
        return _uncapitalised(advice)
    return "see that the target's queue, roles and network allow the job to start"


def _uncapitalised(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
