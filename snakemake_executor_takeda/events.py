"""The event log `.snakemake/takeda/events.jsonl`: one JSON object a line, appended, never rewritten.

Each line has its number and the hash of the line before: `takeda audit verify` finds one that was
changed, taken out or put in later."""

from __future__ import annotations

import errno
import json
import os
import re
import threading
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.audit.chain import (
    RESUMED,
    START,
    Head,
    digest,
    event_of,
    last_line,
    whole,
)
from snakemake_executor_takeda.values import JobSpec, Target

# `json.dumps` would make an encoder for each line.
_encode = json.JSONEncoder(ensure_ascii=False, default=str).encode

# Of presigned URLs of AWS, Google and Azure, and of `https://user:password@host`.
_SIGNATURE = re.compile(r'\?[^\s"\\]*(?:[Ss]ignature|\bsig)=[^\s"\\]*')
_PASSWORD = re.compile(r'://[^/\s"\\@:]*:[^/\s"\\@]*@')


def about(job: JobSpec) -> str:
    """The part of a line that names its job, the same in all events of that job."""
    return _about(job.job_id, job.rule, dict(job.wildcards), job.attempt)


def _about(
    job_id: int | str | None, rule: str | None, wildcards: dict[str, str], attempt: int | None
) -> str:
    facts = {"job_id": job_id, "rule": rule, "wildcards": wildcards, "attempt": attempt}
    return _encode(facts)[1:-1]


NO_JOB = _about(None, None, {}, None)
"""Of an event of the whole run."""


def without_secrets(text: str) -> str:
    """Without the signatures of presigned URLs and the passwords in URLs that a service's words may
    hold."""
    if "ignature=" in text or "sig=" in text:
        text = _SIGNATURE.sub("?…", text)
    if "@" in text:
        text = _PASSWORD.sub("://…@", text)
    return text


class EventLog:
    """Appends events, each in one write; a line is on its way to disk when `write` returns. Safe across
    threads. A file that is there is continued.

    Raises OSError where a line could not be written whole; the next one says how many are missing.
    """

    def __init__(self, path: Path, run_id: str) -> None:
        self._run_id = _encode(run_id)
        self._lock = threading.Lock()
        # Read as well: the chain goes on from its last line.
        self._file = path.open("ab+", buffering=0)
        self._seq = START.seq
        self._hash = START.sha256
        self._lost = 0
        self._in_order = False
        """Whether the file ends with the line that `_seq` and `_hash` are of."""
        self._trouble = ""
        self.torn_bytes = 0
        """Length of what an earlier run, ended in the middle of a line, left of it."""
        self.counts: Counter[str] = Counter()
        """How many events of each name this run wrote."""
        try:
            self._take_up()
        except BaseException:
            self._file.close()
            raise

    def write(
        self,
        event: str,
        job: str,
        target: Target | None,
        external_id: str | None,
        detail: Mapping[str, Any],
    ) -> None:
        """One event of one job, which `about` names (`placed`, `submitted`, `started`, `waiting`,
        `interrupted`, `resubmitted`, `succeeded`, `failed`, `reattached` or `cancelled`), or of the run
        (NO_JOB: `run`, `run_end`)."""
        rest = {
            "target": target.name if target else None,
            "backend": target.backend if target else None,
            "external_id": external_id,
            "detail": dict(detail),
        }
        body = without_secrets(f"{job}, {_encode(rest)[1:]}\n")
        with self._lock:
            try:
                if not self._in_order:
                    self._take_up()
                self._append(event, body)
            except OSError as error:
                self._lost += 1
                self._trouble = str(error)
                raise
            self.counts[event] += 1

    def sync(self) -> Head:
        """What was written is on disk when this returns; → where the chain ends."""
        with self._lock:
            os.fsync(self._file.fileno())
            return Head(self._seq, self._hash)

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def _append(self, event: str, body: str, before: bytes = b"") -> None:
        """`before` ends a torn line."""
        # A file name need not be UTF-8: what has no character becomes a JSON escape.
        line = (
            f'{{"seq": {self._seq + 1}, "previous": "{self._hash}", '
            f'"time": "{datetime.now(UTC).isoformat(timespec="milliseconds")}", '
            f'"event": "{event}", "run_id": {self._run_id}, {body}'
        ).encode(errors="backslashreplace")
        self._in_order = False
        if self._file.write(before + line) != len(before) + len(line):
            raise OSError(errno.ENOSPC, "there is no room for a whole line")
        self._seq += 1
        self._hash = digest(line)
        self._in_order = True

    def _take_up(self) -> None:
        """Go on from the last line of the file. Where that is none of the chain, torn as its writer was
        ended, or lines of ours are missing, a line of its own says so and holds the hash of all that is
        before it."""
        last = last_line(self._file)
        event = event_of(last)
        is_torn = bool(last) and not last.endswith(b"\n")
        if last and event and not is_torn:
            self._seq, self._hash = event["seq"], digest(last)
        self._in_order = (not last or event is not None) and not is_torn
        if self._in_order and not self._lost:
            return
        lines, sha256 = whole(self._file)
        self._seq, self._hash = lines, digest(last + b"\n" if is_torn else last)
        if not last:
            self._hash = START.sha256
        self.torn_bytes = len(last) if is_torn else 0
        detail = {
            "lines": lines,
            "sha256": sha256,
            "torn_bytes": self.torn_bytes,
            "lost": self._lost,
            "reason": self._trouble,
        }
        rest = {"target": None, "backend": None, "external_id": None, "detail": detail}
        self._append(RESUMED, f"{NO_JOB}, {_encode(rest)[1:]}\n", b"\n" if is_torn else b"")
        self._lost, self._trouble = 0, ""
