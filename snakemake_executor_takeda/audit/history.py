"""What happened to each job, told as sentences from the event log."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from snakemake_executor_takeda.audit.attempts import Sent, decision, sent
from snakemake_executor_takeda.reporting.money import dollars
from snakemake_executor_takeda.reporting.summary import duration

Event = Mapping[str, Any]
_BYTES_PER_KIB = 1024
_MAX_FILES = 3


@dataclass(frozen=True)
class History:
    """The events of one job in one run, of all its attempts; `job_id` is None for the run's own."""

    run_id: str
    job_id: int | str | None
    rule: str | None
    wildcards: Mapping[str, str]
    events: list[Event] = field(default_factory=list)

    @property
    def title(self) -> str:
        if self.job_id is None:
            return f"run {self.run_id}"
        of = ", ".join(f"{name}={value}" for name, value in self.wildcards.items())
        return f"{self.rule}{f' ({of})' if of else ''}, job {self.job_id} of run {self.run_id}"

    @property
    def sent(self) -> list[Sent]:
        """Each submission of the job; none of the run itself."""
        return [] if self.job_id is None else sent(self.events)

    def lines(self) -> Iterator[str]:
        """Title, then a sentence with its time for each event."""
        yield self.title
        for event in self.events:
            moment = str(event.get("time", ""))[:19].replace("T", " ")
            yield f"  {moment}  {sentence(event)}"


def events_of(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The events of a log; what is none, such as half a line, is passed over."""
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            yield event


def histories(
    events: Iterable[Event],
    *,
    rule: str | None = None,
    job_id: str | None = None,
    run_id: str | None = None,
) -> list[History]:
    """Those of the jobs whose rule matches the glob and which have this id, and of the runs where no
    job is asked for, in the order in which they began."""
    found: dict[tuple[str, ...], list[Event]] = {}
    for event in events:
        if run_id is None or event.get("run_id") == run_id:
            found.setdefault(_whose(event), []).append(event)
    told = []
    for of_one in found.values():
        last, is_run = of_one[-1], of_one[-1].get("job_id") is None
        if rule is not None and (is_run or not fnmatchcase(str(last.get("rule")), rule)):
            continue
        ids = {str(event["job_id"]) for event in of_one if event.get("job_id") is not None}
        if job_id is not None and job_id not in ids:
            continue
        wildcards = last.get("wildcards") or {}
        told.append(
            History(
                str(last.get("run_id")), last.get("job_id"), last.get("rule"), wildcards, of_one
            )
        )
    return told


def _whose(event: Event) -> tuple[str, ...]:
    """Equal for the events of one job in one run. Snakemake numbers jobs anew when a run goes on after a
    restart; rule and wildcards stay, but a group job has only its id, which is a text."""
    run_id, job_id = str(event.get("run_id")), event.get("job_id")
    if job_id is None:
        return (run_id,)
    if isinstance(job_id, str):
        return run_id, job_id
    wildcards = json.dumps(event.get("wildcards"), sort_keys=True)
    return run_id, str(event.get("rule")), wildcards


def sentence(event: Event) -> str:
    """One event, put into words."""
    detail = event.get("detail") or {}
    say = _SAY.get(str(event.get("event")))
    if say is not None:
        # A log may come from another version, or from another hand.
        with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
            return say(event, detail)
    return f"{event.get('event')} {json.dumps(detail, ensure_ascii=False)}"


def _run(event: Event, detail: Event) -> str:
    versions, workflow = detail.get("versions") or {}, detail.get("workflow") or {}
    commit = workflow.get("commit")
    at = f" at commit {commit}" if commit else ""
    changed = " with changes of its own" if workflow.get("changed") else ""
    return (
        f"{detail.get('who')} begins it with takeda {versions.get('takeda')} and Snakemake "
        f"{versions.get('snakemake')}: {workflow.get('path')}{at}{changed}"
    )


def _run_end(event: Event, detail: Event) -> str:
    totals = detail.get("totals") or {}
    names = ("succeeded", "failed", "cancelled", "resubmitted")
    counted = [f"{totals[name]:,} {name}" for name in names if totals.get(name)]
    words = ", ".join(counted) or "no job ended"
    ways = {"cancelled": "is cancelled", "cancelling": "is cancelled in part"}
    how = ways.get(detail.get("status") or "", "ends")
    usd = detail.get("usd")
    cost = "" if usd is None else f"; it cost about {dollars(usd)}"
    return f"it {how} after {duration(detail.get('wall_seconds') or 0)}: {words}{cost}"


def _resumed(event: Event, detail: Event) -> str:
    parts = []
    if detail.get("torn_bytes"):
        parts.append(
            f"line {detail.get('lines')} of the log is torn: its writer was ended in the middle of it"
        )
    if detail.get("lost"):
        parts.append(f"{detail['lost']} events could not be written: {detail.get('reason')}")
    return "; ".join(parts) or f"the chain begins after {detail.get('lines')} lines without one"


def _placed(event: Event, detail: Event) -> str:
    why = "; ".join(detail.get("reasons") or ())
    asked = _amounts(detail.get("resources") or {})
    attempt = event.get("attempt") or 1
    again = f"attempt {attempt}: " if attempt > 1 else ""
    parts = [f"{again}placed on {event.get('target')}{f': {why}' if why else ''}"]
    if asked:
        parts.append(f"it asks for {asked}")
    if detail.get("container"):
        parts.append(f"its container is {detail['container']}")
    if detail.get("inputs"):
        parts.append(f"it reads {_files(detail['inputs'])}")
    return "; ".join(parts)


def _submitted(event: Event, detail: Event) -> str:
    others = int(detail.get("tasks") or 1) - 1
    beside = f", with {others:,} other{'s' if others > 1 else ''}" if others else ""
    return f"sent to {event.get('target')} ({event.get('backend')}) as {event.get('external_id')}{beside}"


def _started(event: Event, detail: Event) -> str:
    where = detail.get("nodes") or detail.get("instance_type") or ""
    return f"started{f' on {where}' if where else ''}"


def _resubmitted(event: Event, detail: Event) -> str:
    more = _amounts(detail.get("resources") or {})
    return f"{decision(event)}{f'; with {more}' if more else ''}"


def _succeeded(event: Event, detail: Event) -> str:
    parts = [f"succeeded{_after(detail)}"]
    used = []
    if detail.get("cpu_seconds"):
        used.append(f"{duration(detail['cpu_seconds'])} of CPU time")
    if detail.get("max_rss_kib"):
        used.append(f"at most {detail['max_rss_kib'] * _BYTES_PER_KIB / 1e6:,.0f} MB")
    if used:
        parts.append(f"it used {' and '.join(used)}")
    if detail.get("usd") is not None:
        parts.append(f"it cost about {dollars(detail['usd'])}")
    if detail.get("outputs"):
        parts.append(f"it made {_files(detail['outputs'])}")
    return "; ".join(parts)


def _failed(event: Event, detail: Event) -> str:
    """At last, or, as an `interrupted`, to be sent again: the next event says where to."""
    target, external_id, code = (
        event.get("target"),
        event.get("external_id"),
        detail.get("exit_code"),
    )
    on = f" on {target}" if target else ""
    who = f" ({external_id})" if external_id else ""
    exit_code = "" if code is None else f", exit code {code}"
    parts = [f"failed{on}{who}{_after(detail)}, {_kind(detail)}{exit_code}: {detail.get('reason')}"]
    if detail.get("usd") is not None:
        parts.append(f"it cost about {dollars(detail['usd'])}")
    if detail.get("log"):
        parts.append(f"its log: {detail['log']}")
    if decided := decision(event):
        parts.append(decided)
    return "; ".join(parts)


def _after(detail: Event) -> str:
    seconds = detail.get("wall_seconds")
    return "" if seconds is None else f" after {duration(seconds)}"


def _kind(detail: Event) -> str:
    return str(detail.get("kind")).replace("_", " ")


def _amounts(resources: Event) -> str:
    words = {
        "nodes": "{:,} nodes",
        "tasks": "{:,} ranks",
        "cpus": "{:,} CPUs",
        "mem_mb": "{:,} MB of memory",
        "disk_mb": "{:,} MB of disk",
        "gpus": "{:,} GPUs",
        "runtime_min": "{:,} min",
    }
    found = [word.format(resources[name]) for name, word in words.items() if name in resources]
    return ", ".join(
        "1 CPU" if one == "1 CPUs" else "1 GPU" if one == "1 GPUs" else one for one in found
    )


def _files(files: list[Event]) -> str:
    shown = [f"{one.get('uri') or one.get('path')}{_version(one)}" for one in files[:_MAX_FILES]]
    rest = len(files) - len(shown)
    return ", ".join(shown) + (f" and {rest:,} more" if rest else "")


def _version(file: Event) -> str:
    if file.get("version"):
        return f" (version {file['version']})"
    return f" (ETag {file['etag']})" if file.get("etag") else ""


_SAY: Mapping[str, Callable[[Event, Event], str]] = {
    "run": _run,
    "run_end": _run_end,
    "resumed": _resumed,
    "placed": _placed,
    "submitted": _submitted,
    "started": _started,
    "waiting": lambda event, detail: f"waits: {detail.get('reason')}",
    "interrupted": _failed,
    "resubmitted": _resubmitted,
    "reattached": lambda event, detail: f"taken up again as {event.get('external_id')}",
    "succeeded": _succeeded,
    "failed": _failed,
    "cancelled": lambda event, detail: "cancelled",
}
