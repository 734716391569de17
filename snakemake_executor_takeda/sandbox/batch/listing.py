"""ListJobs: one of a queue, an array or a multi-node job, by status or by a filter, in pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from snakemake_executor_takeda.sandbox.batch import limits
from snakemake_executor_takeda.sandbox.batch.jobs import Job, Status
from snakemake_executor_takeda.sandbox.batch.paging import client_error, page

_SOURCES = ("jobQueue", "arrayJobId", "multiNodeJobId")


def check_source(params: Mapping[str, Any]) -> str:
    """Which of the three is given. Raises ServiceError unless it is exactly one."""
    given = [name for name in _SOURCES if name in params]
    if len(given) != 1:
        raise client_error(f"give exactly one of {', '.join(_SOURCES)}")
    return given[0]


def list_queue(jobs: Iterable[Job], params: Mapping[str, Any]) -> tuple[list[Job], str | None]:
    """A page of a queue's jobs (no children), the newest first."""
    newest = list(jobs)[::-1]
    filters = params.get("filters", [])
    if not filters:
        return _paged(newest, params, limits.LIST_PAGE, _with_status(params))
    if len(filters) > 1:
        raise client_error("only one filter can be used at a time")
    matches = _filter(filters[0])
    status = params.get("jobStatus") if filters[0]["name"] == "SHARE_IDENTIFIER" else None
    return _paged(
        newest,
        params,
        limits.LIST_PAGE_FILTERED,
        lambda job: matches(job) and (status is None or job.status == status),
    )


def list_children(
    children: Iterable[Job], params: Mapping[str, Any]
) -> tuple[list[Job], str | None]:
    """A page of an array's children or a job's nodes. Filters do not apply to them."""
    return _paged(list(children), params, limits.LIST_PAGE, _with_status(params))


def _with_status(params: Mapping[str, Any]) -> Callable[[Job], bool]:
    """Whether a job has the asked status; RUNNING where none is asked."""
    status = Status(params.get("jobStatus", "RUNNING"))
    return lambda job: job.status is status


def _paged(
    jobs: list[Job], params: Mapping[str, Any], limit: int, is_asked: Callable[[Job], bool]
) -> tuple[list[Job], str | None]:
    return page(
        jobs,
        lambda job: job.job_id,
        params.get("nextToken"),
        params.get("maxResults"),
        limit,
        is_asked=is_asked,
    )


def _filter(given: Mapping[str, Any]) -> Callable[[Job], bool]:
    name, values = given.get("name", ""), [str(value) for value in given.get("values", [])]
    if name == "JOB_NAME":
        return lambda job: any(_glob(v.lower(), job.spec.job_name.lower()) for v in values)
    if name == "JOB_DEFINITION":
        return lambda job: any(_is_definition(v, job.spec.definition_arn) for v in values)
    if name in ("BEFORE_CREATED_AT", "AFTER_CREATED_AT"):
        try:
            moment = int(values[0])
        except (IndexError, ValueError):
            raise client_error(f"{name} needs one value, in epoch milliseconds") from None
        if name == "BEFORE_CREATED_AT":
            return lambda job: job.created_at < moment
        return lambda job: job.created_at > moment
    if name == "SHARE_IDENTIFIER":
        return lambda job: job.spec.share_identifier in values
    raise client_error(f"there is no filter {name!r}")


def _glob(pattern: str, value: str) -> bool:
    return value.startswith(pattern[:-1]) if pattern.endswith("*") else value == pattern


def _is_definition(value: str, arn: str) -> bool:
    if value.startswith("arn:"):
        return value == arn
    return _glob(value, arn.rpartition("/")[2].partition(":")[0])
