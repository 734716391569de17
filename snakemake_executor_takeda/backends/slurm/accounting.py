"""What the cluster's accounting database says of tasks, where there is one: asked as little as can be, by
sacct or by a client that asks it itself.

Nothing depends on it: a database that is down, or late, makes a report poorer and ends no task.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from snakemake_executor_takeda.backends.slurm.answers import Sighting, in_chunks, read_duration
from snakemake_executor_takeda.backends.slurm.clients.base import SlurmSilent
from snakemake_executor_takeda.backends.slurm.request import submission_environment

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.slurm.clients.base import SlurmClient

SACCT_FORMAT = "JobID,State,ExitCode,ElapsedRaw,NodeList,TotalCPU,MaxRSS,NTasks"
SACCT_SECONDS = 30.0
IDS_PER_CALL = 500
_DATABASES = frozenset({"accounting_storage/slurmdbd", "slurmdbd"})
_UNITS = {"": 1 / 1024, "K": 1, "M": 1024, "G": 1024**2, "T": 1024**3, "P": 1024**4}
"""KiB in each."""


@dataclass(frozen=True)
class Account:
    """One task as the database has it."""

    sighting: Sighting
    cpu_seconds: float | None = None
    """User and system time of all steps on all nodes."""
    max_rss_kib: int | None = None
    """Of its largest step: that of the largest rank, times the ranks; more than is shared between them."""


@runtime_checkable
class Accounting(Protocol):
    """Raises SlurmSilent where the database does not answer."""

    def tasks(self, external_ids: Collection[str]) -> dict[str, Account]:
        """What is known of these tasks, by id; {} for a cluster without a database."""


class NoAccounting:
    """A cluster without a database."""

    def tasks(self, external_ids: Collection[str]) -> dict[str, Account]:
        return {}


class Sacct:
    """The database by Slurm's command."""

    def tasks(self, external_ids: Collection[str]) -> dict[str, Account]:
        found: dict[str, Account] = {}
        for some in in_chunks(sorted(external_ids), IDS_PER_CALL):
            found |= read_accounts(_sacct(some))
        return found


def database_of(client: SlurmClient) -> Accounting:
    """The client itself where it speaks to the database, too; else by sacct."""
    return client if isinstance(client, Accounting) else accounting_of(client.settings())


def accounting_of(settings: Mapping[str, str]) -> Accounting:
    """By the cluster's AccountingStorageType: other types than slurmdbd cannot be asked, and without
    sacct nothing can."""
    has_database = settings.get("AccountingStorageType") in _DATABASES
    return Sacct() if has_database and shutil.which("sacct") else NoAccounting()


def read_accounts(text: str) -> dict[str, Account]:
    """The lines of `sacct -P -n` with SACCT_FORMAT, by the id of the task. The lines of its steps
    follow each task's own: of a job that was started again only the last run is listed."""
    found: dict[str, Account] = {}
    for line in text.splitlines():
        fields = line.split("|")
        if len(fields) != SACCT_FORMAT.count(",") + 1:
            continue
        job_id, state, exit_code, elapsed, nodes, cpu, rss, ranks = (one.strip() for one in fields)
        external_id, dot, _ = job_id.partition(".")
        if not dot:
            found[external_id] = Account(
                Sighting(
                    external_id,
                    state.partition(" ")[0],
                    state.partition(" ")[2],  # `CANCELLED by 1000`
                    "" if nodes in ("None assigned", "") else nodes,
                    float(elapsed) if elapsed.isdigit() else None,
                    _exit_code(exit_code),
                ),
                cpu_seconds=read_cpu(cpu),
            )
        elif external_id in found and (size := _kib(rss)):
            account = found[external_id]
            whole = size * (int(ranks) if ranks.isdigit() else 1)
            found[external_id] = replace(account, max_rss_kib=max(whole, account.max_rss_kib or 0))
    return found


def read_cpu(text: str) -> float | None:
    """Seconds of sacct's TotalCPU, `[days-][hours:]minutes:seconds[.thousandths]`; None for 0, which is
    what a cluster has that gathers nothing."""
    whole, _, thousandths = text.partition(".")
    seconds = read_duration(whole)
    if seconds is None:
        return None
    return seconds + (float(f"0.{thousandths}") if thousandths.isdigit() else 0.0) or None


def _kib(text: str) -> int | None:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGTP]?)", text)
    return round(float(match[1]) * _UNITS[match[2]]) if match else None


def _exit_code(text: str) -> int | None:
    code, _, number = text.partition(":")
    if not (code.isdigit() and number.isdigit()):
        return None
    return 128 + int(number) if int(number) else int(code)


def _sacct(ids: Collection[str]) -> str:
    words = ["sacct", "--noheader", "--parsable2", f"--jobs={','.join(ids)}"]
    try:
        done = subprocess.run(
            [*words, f"--format={SACCT_FORMAT}"],
            env={**submission_environment(os.environ), "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SACCT_SECONDS,
            check=False,
            start_new_session=True,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SlurmSilent(f"sacct: {error}") from error
    if done.returncode != 0:
        raise SlurmSilent(f"sacct: {' '.join(done.stderr.split())}")
    return done.stdout
