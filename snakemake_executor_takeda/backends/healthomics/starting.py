"""Starts runs exactly once: an equal request finds the run it already started, alive or complete."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends.aws import (
    error_code,
    error_message,
    http_status,
    is_denied,
    is_throttling,
)
from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.healthomics import batches
from snakemake_executor_takeda.backends.healthomics.failures import refusal
from snakemake_executor_takeda.backends.healthomics.journal import Entry, Journal
from snakemake_executor_takeda.backends.healthomics.requests import (
    GENERATION_TAG,
    REQUEST_TAG,
    RUN_TAG,
    RunRequest,
    batch_request,
)
from snakemake_executor_takeda.values import FailureKind

if TYPE_CHECKING:
    from mypy_boto3_omics import OmicsClient
    from mypy_boto3_s3 import S3Client

_log = logging.getLogger("takeda")

MAX_GENERATIONS = 20
"""Ended runs of one request that are passed over within one submission."""
FAILED = frozenset({"FAILED", "CANCELLED", "DELETED"})
_LISTED_BY_NAME = 5
"""So many names are looked up one by one; more, in one listing of the newest runs."""
MAX_LISTED_PAGES = 10
_BATCH_OVER = frozenset({"FAILED", "CANCELLED", "RUNS_DELETED", "RUNS_DELETE_FAILED"})


class Throttled(Exception):
    """The service takes no call at present."""


class Unanswered(Exception):
    """Whether the call was heard is not known: it has to be looked up, then made again."""


class Spent(Exception):
    """The requestId was used before, and what it started is not to be seen: it was deleted, or listings lag
    behind. After some looks `pass_over` makes room for the next generation."""


@dataclass(frozen=True)
class Wanted:
    """A request with the result that its rule wants of it."""

    request: RunRequest
    is_intact: Callable[[Mapping[str, Any]], bool]
    """Whether what a completed run (GetRun's answer) left is all there, and what the rule wants."""


@dataclass(frozen=True)
class Handle:
    """A run, or its place in a batch that will start it."""

    request: str
    generation: int
    run_id: str | None = None
    uuid: str | None = None
    batch_id: str | None = None
    setting_id: str | None = None
    adopted: bool = False
    """True where an earlier equal request had started it."""

    @property
    def external_id(self) -> str:
        """What a person would look up."""
        return self.run_id or f"batch {self.batch_id}: {(self.setting_id or '')[:16]}"


class Starter:
    """Looks requests up, and starts what is not there. `run_tag` names this run of the pipeline.

    `omics` is the client for looking; `once` makes each call a single time, since what follows a lost
    answer or a refusal is decided here.
    """

    def __init__(
        self,
        omics: OmicsClient,
        once: OmicsClient,
        s3: Callable[[], S3Client],
        journal: Journal,
        run_tag: str,
    ) -> None:
        self._omics = omics
        self._s3 = s3
        self._once = once
        self._journal = journal
        self._run_tag = run_tag

    def look_up(self, wanted: Sequence[Wanted]) -> list[Handle | int]:
        """For each request the run that does it, or else the generation that is to be started.

        First what the journal knows, then what HealthOmics lists by name: an answer may have been lost,
        and the journal of another machine is not here.
        """
        entries = self._journal.latest([one.request.key for one in wanted])
        found: list[Handle | int | None] = []
        for one in wanted:
            entry = entries.get(one.request.key)
            found.append(self._known(one, entry) if entry else None)
        unknown = [
            one for one, handle in zip(wanted, found, strict=True) if not isinstance(handle, Handle)
        ]
        listed = self._listed({one.request.run_name for one in unknown})
        known_batches: dict[str, str | None] = {}
        for i, one in enumerate(wanted):
            if isinstance(found[i], Handle):
                continue
            generation = int(found[i] or 0)  # type: ignore[arg-type]
            runs = listed.get(one.request.run_name, [])
            found[i] = self._among(one, generation, runs) or self._in_batch(
                one, entries.get(one.request.key), known_batches
            )
            # Each run of that name has used a generation up.
            found[i] = found[i] or max(generation, min(len(runs), MAX_GENERATIONS))
        return [0 if one is None else one for one in found]

    def start(self, wanted: Wanted, generation: int) -> Handle | int:
        """Start the run of this generation, with one call: the run, or the generation to go on with where
        the answer is a run that ended.

        Raises SubmissionError for a refusal, Throttled, Spent, and Unanswered after which `look_up` has to
        come first.
        """
        request = wanted.request
        self._journal.intend([Entry(request.key, generation, request.run_name)])
        try:
            reply = self._call(self._once.start_run, request.arguments(generation, self._run_tag))
        except _Conflict as conflict:
            # How a repeated requestId is answered is not documented; this is one way.
            runs = self._listed({request.run_name}).get(request.run_name, [])
            handle = self._among(wanted, generation, runs)
            if handle is None:
                raise Spent(str(conflict)) from conflict
            return handle
        return self._answered(wanted, generation, reply) or generation + 1

    def pass_over(self, asked: Iterable[tuple[Wanted, int]]) -> None:
        """Write down that there is nothing to be had of these generations any more."""
        self._journal.ended([(one.request.key, generation) for one, generation in asked], "DELETED")

    def start_batch(self, asked: Sequence[tuple[Wanted, int]]) -> list[Handle]:
        """Start runs of one workflow version, each of its generation, with one call. Raises as `start`."""
        requests = [(one.request, generation) for one, generation in asked]
        batch = batch_request(requests, self._run_tag)
        settings = self._settings(batch.settings, requests[0][0].options.output_uri)
        self._journal.intend(
            Entry(request.key, generation, request.run_name, batch.name)
            for request, generation in requests
        )
        try:
            arguments = {**batch.arguments, "batchRunSettings": settings}
            batch_id = str(self._call(self._once.start_run_batch, arguments)["id"])
        except _Conflict as conflict:
            found = self._batch(batch.name)
            if found is None:
                raise Spent(str(conflict)) from conflict
            batch_id = found
        return [
            Handle(request.key, generation, batch_id=batch_id, setting_id=request.token(generation))
            for request, generation in requests
        ]

    def started(self, handles: Iterable[Handle], run_name: str = "") -> None:
        """Write down the runs of handles."""
        self._journal.started(
            *(
                Entry(one.request, one.generation, run_name, run_id=one.run_id, uuid=one.uuid)
                for one in handles
            )
        )

    def ended(self, handles: Iterable[Handle], status: str) -> None:
        """Write down that runs did not do their work, so that the next request starts another."""
        self._journal.ended([(one.request, one.generation) for one in handles], status)

    def completed(self, handles: Iterable[Handle]) -> None:
        """Take back that runs did not do their work."""
        self._journal.ended([(one.request, one.generation) for one in handles], None)

    def going_on(self) -> list[Handle]:
        """Runs and batches that this run of the pipeline asked for and that have not ended, by the names in
        the journal: also those whose answer was never written down."""
        entries = self._journal.open_entries()
        requests = {one.run_name: one.request for one in entries if one.run_name}
        found = []
        for name, items in self._listed(set(requests)).items():
            for item in items:
                if item["status"] == "COMPLETED" or item["status"] in FAILED:
                    continue
                run = self.run(item["id"], None)
                if run is None or run.get("tags", {}).get(RUN_TAG) != self._run_tag:
                    continue
                generation = int(run["tags"].get(GENERATION_TAG, 0))
                found.append(Handle(requests[name], generation, run["id"], run.get("uuid")))
        for entry in entries:
            if entry.batch_name and not entry.run_id and (batch := self._batch(entry.batch_name)):
                found.append(Handle(entry.request, entry.generation, batch_id=batch))
        return found

    def run(self, run_id: str, uuid: str | None) -> Mapping[str, Any] | None:
        """GetRun's answer; None for a run that was deleted, its id perhaps given to another since."""
        try:
            run: Mapping[str, Any] = self._omics.get_run(id=run_id)
        except self._omics.exceptions.ResourceNotFoundException:
            return None
        return run if uuid is None or run.get("uuid") == uuid else None

    # What is there already.

    def _known(self, wanted: Wanted, entry: Entry) -> Handle | int:
        """The journal's run, if it still does the work; else the generation to go on with."""
        if entry.status is not None:
            return entry.generation + 1
        if entry.run_id is None:
            return entry.generation
        run = self.run(entry.run_id, entry.uuid)
        if run is not None and _does(wanted, run):
            return Handle(entry.request, entry.generation, entry.run_id, entry.uuid, adopted=True)
        status = "DELETED" if run is None else str(run["status"])
        self._journal.ended([(entry.request, entry.generation)], status)
        return entry.generation + 1

    def _among(
        self, wanted: Wanted, generation: int, items: Sequence[Mapping[str, Any]]
    ) -> Handle | None:
        """The newest of these runs (of ListRuns) that is this request's and does the work."""
        for item in items:
            if item["status"] in FAILED:
                continue
            run = self.run(item["id"], None)
            if run is None or not _does(wanted, run):
                continue
            its = int(run["tags"].get(GENERATION_TAG, 0))
            if its < generation:
                continue  # Its end, or that it is being cancelled, is written down.
            handle = Handle(wanted.request.key, its, run["id"], run.get("uuid"), adopted=True)
            self.started([handle], wanted.request.run_name)
            return handle
        return None

    def _in_batch(
        self, wanted: Wanted, entry: Entry | None, known: dict[str, str | None]
    ) -> Handle | None:
        """A place in a batch that was asked for, whose answer is not written down and whose runs may be
        yet to come. `known` remembers the ids of batches by name."""
        if entry is None or entry.status or entry.run_id or not entry.batch_name:
            return None
        name = entry.batch_name
        if name not in known:
            known[name] = self._batch(name)
        batch_id = known[name]
        if batch_id is None:
            return None
        token = wanted.request.token(entry.generation)
        return Handle(
            entry.request,
            entry.generation,
            batch_id=batch_id,
            setting_id=token,
            adopted=True,
        )

    def _batch(self, name: str) -> str | None:
        """The id of a batch whose runs were or will be started."""
        pages = self._omics.get_paginator("list_batch").paginate(name=name)
        for page in pages:
            for item in page["items"]:
                if item.get("name", name) == name and item["status"] not in _BATCH_OVER:
                    return str(item["id"])
        return None

    def _listed(self, names: set[str]) -> dict[str, list[Mapping[str, Any]]]:
        """Runs by name, the newest first: ListRuns gives them in that order."""
        found: dict[str, list[Mapping[str, Any]]] = {}
        pages = self._omics.get_paginator("list_runs")
        if len(names) <= _LISTED_BY_NAME:
            listings = [pages.paginate(name=name) for name in sorted(names)]
        else:
            most = 100 * MAX_LISTED_PAGES + 2 * len(names)
            listings = [pages.paginate(PaginationConfig={"PageSize": 100, "MaxItems": most})]
        for listing in listings:
            for page in listing:
                for item in page["items"]:
                    if item.get("name") in names:
                        found.setdefault(item["name"], []).append(item)
        return found

    # Calls.

    def _settings(self, settings: Sequence[Mapping[str, Any]], output_uri: str) -> dict[str, Any]:
        from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

        try:
            return batches.run_settings(self._s3, settings, output_uri)
        except ClientError as error:
            words = f"{error_code(error)}: {error_message(error)}"
            # 409: someone writes the same object at this moment.
            if http_status(error) >= 500 or http_status(error) == 409:
                raise Unanswered(words) from error
            advice = "allow s3:PutObject there; " if is_denied(error) else ""
            raise SubmissionError(
                FailureKind.CONFIGURATION,
                f"the settings of {len(settings)} runs could not be written below "
                f"{output_uri}/{batches.FOLDER}: {words}",
                f"{advice}or leave `batch: true` out of the target",
            ) from error
        except (ConnectionError, HTTPClientError) as error:
            raise Unanswered(str(error)) from error

    def _answered(self, wanted: Wanted, generation: int, reply: Mapping[str, Any]) -> Handle | None:
        """The run that StartRun named; None where it is an old one that no longer does the work."""
        request = wanted.request
        # Without tags in the answer there is no telling whose run it is.
        is_new = reply.get("tags", {}).get(RUN_TAG) == self._run_tag
        handle = Handle(request.key, generation, reply["id"], reply.get("uuid"), adopted=not is_new)
        self.started([handle], request.run_name)
        if is_new:
            return handle
        run = self.run(reply["id"], None)
        if run is not None and _does(wanted, run):
            return handle
        status = "DELETED" if run is None else str(run["status"])
        self._journal.ended([(request.key, generation)], status)
        return None

    def _call(
        self, call: Callable[..., Mapping[str, Any]], arguments: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

        try:
            return call(**arguments)
        except ClientError as error:
            words = f"{error_code(error)}: {error_message(error)}"
            if error_code(error) == "ConflictException":
                raise _Conflict(words) from error
            if is_throttling(error):
                raise Throttled(words) from error
            if http_status(error) >= 500:
                raise Unanswered(words) from error
            kind, advice = refusal(error_code(error))
            raise SubmissionError(kind, words, advice) from error
        except (ConnectionError, HTTPClientError) as error:
            raise Unanswered(str(error)) from error


class _Conflict(Exception):
    """The requestId was used before."""


def _does(wanted: Wanted, run: Mapping[str, Any]) -> bool:
    """Whether a run does the work: it goes on, or what it completed is all there."""
    if run["status"] in FAILED:
        return False
    if run.get("tags", {}).get(REQUEST_TAG) != wanted.request.key:
        return False
    return run["status"] != "COMPLETED" or wanted.is_intact(run)
