"""Failed tasks → why: descriptions where a list did not tell enough, and the last lines of their logs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends.batch import api
from snakemake_executor_takeda.backends.batch.console import Console
from snakemake_executor_takeda.backends.batch.multinode import (
    explained_by_nodes,
    is_multinode,
    node_ids,
    refined,
)
from snakemake_executor_takeda.backends.batch.outcomes import (
    QUIET_KINDS,
    failure_kind,
    log_stream,
    outcome_of,
    with_log,
)

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.batch.watched import Watched
    from snakemake_executor_takeda.values import Outcome

LOG_TAILS_PER_POLL = 50
"""When thousands fail at once they fail alike; the others' messages name their log stream."""
LATE_LOG_S = 1.0
"""A container's last lines may come to CloudWatch a little after its end."""
LATE_LOGS = 10
"""So many are read again; where more are missing, it is not because they are late."""
_READERS = 8


@dataclass(frozen=True)
class Failed:
    """A failed task of which the end has to be said."""

    watched: Watched
    task_id: str
    detail: Mapping[str, Any]
    """JobDetail, or the JobSummary of a list."""
    is_summary: bool = False

    @property
    def group(self) -> str:
        return str(self.watched.target.options.log_group)


def outcome(watched: Watched, detail: Mapping[str, Any], console: Console | None = None) -> Outcome:
    target = watched.target
    return outcome_of(
        detail, capacity=target.capacity, log_group=target.options.log_group, console=console
    )


def explain(
    clients: api.Clients,
    failed: Sequence[Failed],
    tails: int = LOG_TAILS_PER_POLL,
    sleep: Callable[[float], object] = time.sleep,
) -> Iterator[tuple[Failed, Outcome]]:
    """The outcome of each, with the log's last lines for the first `tails` whose log could tell more."""
    described = _with_nodes(clients, _described(clients, failed))
    outcomes = [refined(outcome(one.watched, one.detail, clients.console)) for one in described]
    wanted = [
        number
        for number, one in enumerate(described)
        if outcomes[number].kind not in QUIET_KINDS and log_stream(one.detail)
    ][:tails]
    late = _read(clients, described, outcomes, wanted)
    if late:
        sleep(LATE_LOG_S)
        _read(clients, described, outcomes, late[:LATE_LOGS])
    yield from zip(described, outcomes, strict=True)


def _described(clients: api.Clients, failed: Sequence[Failed]) -> list[Failed]:
    """With what DescribeJobs adds to a summary: the log stream. A machine that went away has none to show."""
    needing = {
        one.detail["jobId"]
        for one in failed
        if one.is_summary
        and failure_kind(one.detail, one.watched.target.capacity) not in QUIET_KINDS
    }
    main_nodes = {_main_node(one): one for one in failed if not one.is_summary and _main_node(one)}
    details = api.describe_jobs(clients.batch, [*needing, *main_nodes])
    described = []
    for one in failed:
        node = details.get(_main_node(one))
        if node is not None:
            # What its main node did is what a multi-node job did.
            described.append(
                replace(one, detail={"container": node.get("container"), **one.detail})
            )
            continue
        detail = details.get(one.detail["jobId"]) if one.is_summary else None
        # A list may be ahead of the description; it has the reason, though not the log.
        is_newer = detail is not None and detail["status"] == one.detail["status"]
        described.append(replace(one, detail=detail) if detail and is_newer else one)
    return described


def _with_nodes(clients: api.Clients, failed: Sequence[Failed]) -> list[Failed]:
    """With what the nodes of a job of several say: the job itself has no container and no log."""
    several = {
        one.detail["jobId"]: one.watched.active.submission.tasks[0].job.shape.nodes
        for one in failed
        if is_multinode(one.watched.active.submission)
    }
    ids = [node for job_id, count in several.items() for node in node_ids(job_id, count)]
    nodes = api.describe_jobs(clients.batch, ids)

    def explained(one: Failed) -> Failed:
        mark = f"{one.detail['jobId']}#"
        own = {job_id: node for job_id, node in nodes.items() if job_id.startswith(mark)}
        capacity = one.watched.target.capacity
        return replace(one, detail=explained_by_nodes(one.detail, own, capacity))

    return [explained(one) if one.detail["jobId"] in several else one for one in failed]


def _main_node(one: Failed) -> str:
    """The id of the node that has a multi-node job's log, empty where that is known or there is none."""
    nodes = one.detail.get("nodeProperties")
    if not nodes or log_stream(one.detail):
        return ""
    return f"{one.detail['jobId']}#{nodes.get('mainNode', 0)}"


def _read(
    clients: api.Clients, failed: Sequence[Failed], outcomes: list[Outcome], wanted: Sequence[int]
) -> list[int]:
    """Put the logs' last lines into these outcomes; → those whose log is not there."""
    if not wanted:
        return []
    logs = clients.logs

    def tail(number: int) -> tuple[str, ...] | None:
        one = failed[number]
        return api.log_tail(logs, one.group, log_stream(one.detail) or "")

    with ThreadPoolExecutor(_READERS, thread_name_prefix="takeda-logs") as readers:
        tails = list(readers.map(tail, wanted))
    for number, lines in zip(wanted, tails, strict=True):
        if lines:
            outcomes[number] = with_log(outcomes[number], lines)
    return [number for number, lines in zip(wanted, tails, strict=True) if lines is None]
