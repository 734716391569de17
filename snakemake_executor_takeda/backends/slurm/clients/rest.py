"""Slurm through slurmrestd: HTTP with a token, from anywhere. Data parser v0.0.42, Slurm 24.11 to 26.05."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from snakemake_executor_takeda.backends.slurm.answers import Sighting, in_chunks
from snakemake_executor_takeda.backends.slurm.clients import rest_answers as answers
from snakemake_executor_takeda.backends.slurm.clients.base import (
    SlurmRefused,
    SlurmSilent,
    SlurmUnauthorized,
)
from snakemake_executor_takeda.backends.slurm.clients.errors import error_of, is_no_such_job
from snakemake_executor_takeda.backends.slurm.clients.http import Answer, JsonConnection, NoAnswer
from snakemake_executor_takeda.backends.slurm.clients.rest_request import job_description
from snakemake_executor_takeda.backends.slurm.clients.token import HOW_TO_GET_ONE, Token, user_of

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.slurm.accounting import Account
    from snakemake_executor_takeda.backends.slurm.facts import NodeFacts, PartitionFacts
    from snakemake_executor_takeda.backends.slurm.request import JobRequest

DATA_PARSER = "v0.0.42"
IDS_PER_QUERY = 400
"""So that a URL stays below 8 kB."""
ACCOUNTS_PER_QUERY = 100
"""Each is some 14 kB of answer."""
DETAILS_SECONDS = 60.0
"""How old the reason of a waiting job may be: it costs 4 kB for each task of its array that began."""
DETAILS_PER_POLL = 4
PAUSE_SECONDS = 1.0
_SIGNALS: dict[bool, dict[str, Any]] = {
    False: {"signal": "SIGKILL"},
    True: {"signal": "SIGKILL", "flags": ["FULL_JOB"]},
}
"""Without a flag Slurm takes SIGKILL for the wish to end the job: SIGTERM comes first."""

_PENDING = "PENDING"
_ENDED = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    }
)
_UNAUTHORIZED = frozenset({401, 403, 511})
_NO_CONTROLLER = frozenset({502, 503, 504})
_AUTHENTICATION = 1007
"""SLURM_PROTOCOL_AUTHENTICATION_ERROR"""
_DATABASE = "slurmdb"
_Row = tuple[str, str | None, str]


class Rest:
    """Speaks `base.SlurmClient` to slurmrestd, and `accounting.Accounting`, too."""

    name = "slurmrestd"
    is_remote = True
    advice = "Is `rest_url` right, does slurmrestd run there, and does it reach slurmctld?"

    def __init__(
        self,
        url: str,
        token: Token,
        connection: JsonConnection | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._token = token
        self._connection = connection or JsonConnection(url)
        self._clock = clock
        self._own: set[str] = set()
        """Ids of the jobs that were sent or looked for."""
        self._tasks: dict[str, str] = {}
        """Own id of a begun task of an array → `array_index`."""
        self._details: dict[str, tuple[float, dict[str, Sighting]]] = {}
        """Job id → when it was asked for, and what was said of it and its tasks."""
        self._has_no_database = False

    def submit(self, request: JobRequest, script: str) -> str:
        content = {"script": script, "job": job_description(request)}
        said = self._ask("POST", "job/submit", content, again=False).body
        job_id = said.get("job_id") if isinstance(said, Mapping) else None
        if not job_id:
            raise SlurmRefused(answers.errors_of(said) or "slurmrestd gave no job id")
        self._own.add(str(job_id))
        return str(job_id)

    def check_request(self, request: JobRequest) -> None:
        job_description(request)

    def find(self, name: str) -> str | None:
        said = self._query("jobs/?flags=ALL")
        jobs = said.get("jobs") or [] if isinstance(said, Mapping) else []
        named = [job for job in jobs if job.get("name") == name]
        ids = {answers.number(job.get("array_job_id")) or int(job["job_id"]) for job in named}
        if not ids:
            return None
        self._own.add(str(max(ids)))
        return str(max(ids))

    def queue(self, job_ids: Collection[str] = ()) -> dict[str, Sighting]:
        """One query for all, and another for each array of which tasks have begun since the last.

        Reasons and nodes come from a dearer query: for few jobs at a time, and once a minute each.
        """
        states = self._states(job_ids or self._own)
        self._look_at_waiting(states)
        return {task_id: self._sighting(task_id, word) for task_id, word in states.items()}

    def unfinished(self, job_ids: Collection[str] = ()) -> list[Sighting]:
        states = self._states(job_ids or self._own)
        return [Sighting(task_id, word) for task_id, word in states.items() if word not in _ENDED]

    def jobs(self, job_id: str) -> dict[str, Sighting]:
        try:
            return answers.read_job_infos(self._query(f"job/{quote(job_id)}"))
        except SlurmRefused as error:
            if is_no_such_job(error):
                return {}
            raise

    def tasks(self, external_ids: Collection[str]) -> dict[str, Account]:
        """Of the accounting database. slurmrestd has that part only where the cluster has one."""
        found: dict[str, Account] = {}
        for some in (
            [] if self._has_no_database else in_chunks(sorted(external_ids), ACCOUNTS_PER_QUERY)
        ):
            path = "jobs/?" + "&".join(f"step={quote(one)}" for one in some)
            said = self._ask("GET", path, api=_DATABASE)
            self._has_no_database = said.status == 404
            found |= answers.read_accounts(said.body)
        return found

    def cancel(self, ids: Iterable[str], *, kill: bool = False, pending_only: bool = False) -> None:
        state = {"job_state": ["PENDING"]} if pending_only else {}
        for some in in_chunks(ids, IDS_PER_QUERY):
            try:
                self._ask("DELETE", "jobs/", {"jobs": some, **_SIGNALS[kill], **state})
            except SlurmRefused:
                continue  # one of many has ended: the caller looks at the queue

    def partitions(self) -> list[str]:
        return sorted(one.name for one in self.partition_details())

    def settings(self) -> dict[str, str]:
        """Its version only: slurmrestd does not tell the cluster's configuration."""
        said = self._query("ping/")
        return {"SLURM_VERSION": answers.release_of(said)}

    def nodes(self) -> list[NodeFacts]:
        return answers.read_nodes(self._query("nodes/"))

    def partition_details(self) -> list[PartitionFacts]:
        return answers.read_partitions(self._query("partitions/?flags=ALL"))

    def reservations(self) -> list[str]:
        return answers.read_reservations(self._query("reservations/"))

    def close(self) -> None:
        self._connection.close()

    def _states(self, job_ids: Collection[str]) -> dict[str, str]:
        """State of each task by its id."""
        found: dict[str, str] = {}
        for some in _chunks(job_ids):
            rows = self._rows(some)
            self._learn(some, rows)
            for own_id, index, word in rows:
                external_id = own_id if index is None else self._tasks.get(own_id)
                if external_id is None or (index is not None and own_id in some):
                    external_id = f"{own_id}_{index}"
                found[external_id] = word
        return found

    def _learn(self, job_ids: list[str], rows: list[_Row]) -> None:
        """Of which array the tasks are that have begun since the last look: oldest array first."""
        unknown = {
            own_id
            for own_id, index, _ in rows
            if index is not None and own_id not in job_ids and not self._is_known(own_id, index)
        }
        single = {own_id for own_id, index, _ in rows if index is None}
        for job_id in job_ids:
            if not unknown:
                return
            if job_id not in single:
                # alone or not, the rows are the same
                for own_id, index, _ in rows if len(job_ids) == 1 else self._rows([job_id]):
                    self._tasks[own_id] = f"{job_id}_{index}"
                    unknown.discard(own_id)

    def _is_known(self, own_id: str, index: str) -> bool:
        """Not under another index: a controller that was killed gives ids twice."""
        return self._tasks.get(own_id, "").endswith(f"_{index}")

    def _rows(self, job_ids: list[str]) -> list[_Row]:
        path = "jobs/state/?" + "&".join(f"job_id={quote(job_id)}" for job_id in job_ids)
        try:
            return answers.read_states(self._ask("GET", path).body)
        except SlurmRefused as error:
            if is_no_such_job(error):
                return []
            raise

    def _look_at_waiting(self, states: Mapping[str, str]) -> None:
        waiting = {
            task_id.partition("_")[0] for task_id, word in states.items() if word == _PENDING
        }
        for job_id in self._details.keys() - waiting:
            del self._details[job_id]
        now = self._clock()
        asked = {job_id: self._details.get(job_id, (-DETAILS_SECONDS, {}))[0] for job_id in waiting}
        for job_id in sorted(asked, key=asked.__getitem__)[:DETAILS_PER_POLL]:
            if now - asked[job_id] >= DETAILS_SECONDS:
                self._details[job_id] = (now, self.jobs(job_id))

    def _sighting(self, task_id: str, word: str) -> Sighting:
        job_id = task_id.partition("_")[0]
        known = self._details.get(job_id, (0.0, {}))[1]
        seen = known.get(task_id) or known.get(f"{job_id}_*")
        if seen is None or seen.state != word:
            return Sighting(task_id, word)
        return replace(seen, external_id=task_id)

    def _query(self, path: str) -> Any:
        """Asked twice: slurmrestd may ask slurmdbd in turn, which does not always answer at once."""
        try:
            return self._ask("GET", path).body
        except SlurmUnauthorized:
            raise
        except SlurmSilent:
            time.sleep(PAUSE_SECONDS)
            return self._ask("GET", path).body

    def _ask(
        self,
        method: str,
        path: str,
        content: Any = None,
        *,
        again: bool = True,
        api: str = "slurm",
    ) -> Answer:
        path = f"/{api}/{DATA_PARSER}/{path}"
        token = self._token.value()
        answer = self._send(method, path, content, token, again)
        if _is_unauthorized(answer) and self._token.renew(token):
            answer = self._send(method, path, content, self._token.value(), again)
        said = answers.errors_of(answer.body)
        if _is_unauthorized(answer):
            raise SlurmUnauthorized(
                f"slurmrestd at {self._url} refuses: {said or answer.status}; {self._token.state()}. "
                f"{HOW_TO_GET_ONE}"
            )
        # Of a controller that is down `/jobs/state/` says no more than this.
        is_mute = method != "POST" and "unspecified error" in said.lower()
        if answer.status in _NO_CONTROLLER or is_mute:
            raise SlurmSilent(f"slurmrestd at {self._url}: {said or answer.status}")
        if answer.status == 404 and not isinstance(answer.body, Mapping):
            if api == _DATABASE:
                return answer
            raise SlurmRefused(
                f"slurmrestd at {self._url} has no {DATA_PARSER} ({said}): it takes one of Slurm 24.11 "
                "to 26.05"
            )
        if answer.status >= 400 or answers.error_numbers(answer.body) - {0}:
            raise error_of(said or f"slurmrestd at {self._url} answered {answer.status}")
        return answer

    def _send(self, method: str, path: str, content: Any, token: str | None, again: bool) -> Answer:
        headers = {}
        if token:
            headers["X-SLURM-USER-TOKEN"] = token
            if user := user_of(token):
                headers["X-SLURM-USER-NAME"] = user
        try:
            return self._connection.ask(method, path, headers, content, again=again)
        except NoAnswer as error:
            raise SlurmSilent(f"slurmrestd at {self._url}: {error}") from error


def _is_unauthorized(answer: Answer) -> bool:
    return answer.status in _UNAUTHORIZED or _AUTHENTICATION in answers.error_numbers(answer.body)


def _chunks(job_ids: Iterable[str]) -> list[list[str]]:
    return in_chunks(sorted(job_ids, key=lambda job_id: (len(job_id), job_id)), IDS_PER_QUERY)
