"""Nextflow runs, where a `nextflow` is on PATH: its command line, its trace, its export directories."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from snakemake_executor_takeda.values import TakedaError

EXPORTS: Final = ("pubdir", "output")
"""Directories below `/mnt/workflow` whose files are exported, under these names."""
TRACE: Final = "trace.txt"
TRACE_FIELDS: Final = "task_id,hash,name,status,exit,submit,start,complete,cpus,memory,container,peak_rss,%cpu,workdir"
_STATES: Final = {
    "COMPLETED": "COMPLETED",
    "CACHED": "COMPLETED",
    "FAILED": "FAILED",
    "ABORTED": "CANCELLED",
}


def check() -> None:
    """Raises TakedaError where this machine cannot run a Nextflow workflow as HealthOmics does."""
    if shutil.which("nextflow") is None:
        raise TakedaError(
            "the sandbox found no `nextflow` on the PATH of `takeda sandbox up`: install Nextflow "
            "and start the sandbox again, or test this workflow on HealthOmics itself"
        )
    try:
        done = subprocess.run(
            [*_own_mounts(), "true"], capture_output=True, text=True, check=False, timeout=30
        )
    except OSError as error:
        raise TakedaError(
            f"the sandbox cannot make /mnt/workflow/pubdir without the program `unshare`: {error}"
        ) from None
    if done.returncode:
        raise TakedaError(
            "the sandbox cannot make /mnt/workflow/pubdir, as this machine lets no process have "
            "mounts of its own "
            f"({' '.join(done.stderr.split())}): test this workflow on HealthOmics itself"
        )


def version() -> str | None:
    """As `nextflow -v` says it: `25.10.0`."""
    done = subprocess.run(["nextflow", "-v"], capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+\.\d+", done.stdout)
    return found.group() if found else None


def command(main: Path, directory: Path, *, docker: bool, settings: Mapping[str, Any]) -> list[str]:
    """The command line of a run whose parameters are in `params.json` of its directory.

    `directory` gets `exports/pubdir` and `exports/output`, which Nextflow sees below /mnt/workflow.
    """
    config = directory / "takeda.config"
    config.write_text(
        "trace {\n"
        "  enabled = true\n  overwrite = true\n  raw = true\n"
        f"  file = '{directory / TRACE}'\n  fields = '{TRACE_FIELDS}'\n"
        "}\n"
        f"docker.enabled = {str(docker).lower()}\n"
    )
    for name in EXPORTS:
        (directory / "exports" / name).mkdir(parents=True)
    profile = settings.get("profile")
    return [
        *_own_mounts(),
        *(sys.executable, "-P", "-m", f"{__package__}.workflow_mount", str(directory / "exports")),
        *("nextflow", "-log", str(directory / "nextflow.log"), "run", str(main)),
        *("-c", str(config), "-params-file", str(directory / "params.json")),
        *("-work-dir", str(directory / "work"), "-ansi-log", "false"),
        *(("-profile", str(profile)) if profile else ()),
    ]


def _own_mounts() -> Sequence[str]:
    user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    return ("unshare", "--mount", *user, "--")


def found_tasks(directory: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Hash and record of each task in the trace; records as the process runner's are."""
    try:
        with (directory / TRACE).open(newline="") as lines:
            rows = list(csv.DictReader(lines, delimiter="\t"))
    except OSError:
        return
    for row in rows:
        if not row.get("hash"):
            continue
        record: dict[str, Any] = {
            "name": row["name"],
            "cpus": int(_number(row.get("cpus")) or 1),
            "memory_bytes": int(_number(row.get("memory")) or 0),
            "image": row.get("container") if row.get("container") not in (None, "", "-") else None,
            "started": (_number(row.get("start")) or _number(row.get("submit")) or 0) / 1000,
            "peak_bytes": int(_number(row.get("peak_rss")) or 0),
            "workdir": row.get("workdir"),
        }
        state = _STATES.get(row.get("status", ""))
        if state is not None:
            record["ended"] = (_number(row.get("complete")) or 0) / 1000 or record["started"]
            record["exit_code"] = int(_number(row.get("exit")) or 0)
            record["cancelled"] = state == "CANCELLED"
            share = (_number(row.get("%cpu")) or 0) / 100
            record["cpu_seconds"] = share * max(0.0, record["ended"] - record["started"])
            if state == "FAILED" and record["exit_code"] == 0:
                record["exit_code"] = 1
        yield row["hash"], record


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:  # a dash, where Nextflow does not know
        return None
