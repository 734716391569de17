"""The submissions of one job, each with its end and what was decided then: facts from its events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Sent:
    """One time that a job was sent. Times are as in the event log, None for what has not happened."""

    number: int
    """From 1, over all of Snakemake's attempts in the run."""
    attempt: int
    """Snakemake's, from 1."""
    target: str | None
    backend: str | None
    placed_at: str | None
    external_id: str | None = None
    submitted_at: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    result: str | None = None
    """`succeeded`, `failed` or `cancelled`."""
    kind: str | None = None
    """Of a failure."""
    reason: str | None = None
    """Of a failure, in the service's words."""
    decided: str | None = None
    """What followed a failure: sent again where to and why, or reported to Snakemake and why."""


def sent(events: Iterable[Mapping[str, Any]]) -> list[Sent]:
    """Each submission of the job whose events these are, in their order."""
    found: list[Sent] = []
    for event in events:
        name, moment, detail = event.get("event"), event.get("time"), event.get("detail") or {}
        if name in ("placed", "resubmitted") or not found:
            if name == "resubmitted" and found:
                found[-1] = replace(found[-1], decided=decision(event))
            found.append(
                Sent(
                    number=len(found) + 1,
                    attempt=event.get("attempt") or 1,
                    target=event.get("target"),
                    backend=event.get("backend"),
                    placed_at=moment,
                )
            )
        last = found[-1]
        external_id = event.get("external_id") or last.external_id
        match name:
            case "submitted":
                found[-1] = replace(last, external_id=external_id, submitted_at=moment)
            case "started":
                found[-1] = replace(last, external_id=external_id, started_at=moment)
            case "reattached":
                found[-1] = replace(last, external_id=external_id)
            case "succeeded" | "cancelled":
                found[-1] = replace(last, external_id=external_id, ended_at=moment, result=name)
            case "interrupted" | "failed":
                found[-1] = replace(
                    last,
                    external_id=external_id,
                    ended_at=moment,
                    result="failed",
                    kind=detail.get("kind"),
                    reason=detail.get("reason"),
                    decided=decision(event),
                )
    return found


def decision(event: Mapping[str, Any]) -> str | None:
    """What was decided on a job, by its event `resubmitted` or `failed`."""
    detail = event.get("detail") or {}
    match event.get("event"):
        case "resubmitted":
            pause = round(detail.get("delay_seconds") or 0)
            wait = f" in {pause} s" if pause else ""
            why = str(detail.get("reason")).removeprefix("sent again after: ")
            # Of a job whose place is yet to be found there is no target.
            where = f" to {event['target']}" if event.get("target") else ""
            return f"sent again{where}{wait}: {why}"
        case "failed":
            given_up = detail.get("given_up")
            return f"reported to Snakemake{f': {given_up}' if given_up else ''}"
    return None
