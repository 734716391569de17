"""The event log `.snakemake/takeda/events.jsonl`: one JSON object a line, appended, never rewritten."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.values import JobSpec, Target

# `json.dumps` would make an encoder for each line.
_encode = json.JSONEncoder(ensure_ascii=False, default=str).encode


def about(job: JobSpec) -> str:
    """The part of a line that names its job, the same in all events of that job."""
    facts = {
        "job_id": job.job_id,
        "rule": job.rule,
        "wildcards": dict(job.wildcards),
        "attempt": job.attempt,
    }
    return _encode(facts)[1:-1]


class EventLog:
    """Appends events; a line is on its way to disk when `write` returns. Safe across threads."""

    def __init__(self, path: Path, run_id: str) -> None:
        self._run_id = _encode(run_id)
        self._lock = threading.Lock()
        # A file name need not be UTF-8: what has no character becomes a JSON escape.
        self._file = path.open("a", encoding="utf-8", errors="backslashreplace")

    def write(
        self,
        event: str,
        job: str,
        target: Target | None,
        external_id: str | None,
        detail: Mapping[str, Any],
    ) -> None:
        """One event of one job, which `about` names: `placed`, `submitted`, `started`, `interrupted`,
        `resubmitted`, `succeeded`, `failed`, `reattached` or `cancelled`."""
        rest = {
            "target": target.name if target else None,
            "backend": target.backend if target else None,
            "external_id": external_id,
            "detail": dict(detail),
        }
        moment = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = (
            f'{{"time": "{moment}", "event": "{event}", "run_id": {self._run_id}, {job}, '
            f"{_encode(rest)[1:]}\n"
        )
        with self._lock:
            self._file.write(line)
            self._file.flush()

    def close(self) -> None:
        with self._lock:
            self._file.close()
