"""How many jobs of a user may be in the queue at once, by account and quality of service: sacctmgr.

An array counts as its tasks: one larger than the limit would never be taken. Asked once, and only
where the cluster enforces limits; a database that does not answer sets none.
"""

from __future__ import annotations

import getpass
import logging
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from snakemake_executor_takeda.backends.slurm.request import submission_environment

QOS_FORMAT = "Name,MaxSubmitJobsPerUser,MaxSubmitJobsPerAccount,GrpSubmitJobs"
ACCOUNT_FORMAT = "Account,Partition,MaxSubmitJobs,GrpSubmitJobs,DefaultQOS"
_SECONDS = 10.0
_ENFORCING = ("limits", "safe", "all", "1")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SubmitLimits:
    """Most jobs in the queue; what is not named has no limit."""

    by_account: Mapping[str, int] = field(default_factory=dict)
    by_qos: Mapping[str, int] = field(default_factory=dict)
    default_qos: Mapping[str, str] = field(default_factory=dict)
    """By account."""
    default_account: str = ""

    def most(self, account: str | None, *qualities: str | None) -> int | None:
        """Of jobs of this account, the default one for None, under these qualities of service, the
        account's default one where none is given; None for no limit."""
        account = (account or self.default_account).lower()
        names = [one for one in qualities if one] or [self.default_qos.get(account, "")]
        found = [self.by_account.get(account), *(self.by_qos.get(name) for name in names)]
        return min((limit for limit in found if limit is not None), default=None)


def submit_limits_of(settings: Mapping[str, str]) -> SubmitLimits:
    """Those of the user, where the cluster enforces any (AccountingStorageEnforce)."""
    enforced = settings.get("AccountingStorageEnforce", "none").lower()
    if not any(word in enforced.split(",") for word in _ENFORCING) or not shutil.which("sacctmgr"):
        return SubmitLimits()
    user = f"user={getpass.getuser()}"
    try:
        return read_submit_limits(
            _ask("association", ACCOUNT_FORMAT, user),
            _ask("qos", QOS_FORMAT),
            _ask("user", "DefaultAccount", user),
        )
    except (OSError, subprocess.SubprocessError) as error:
        _log.debug("sacctmgr does not tell the limits of submissions: %s", error)
        return SubmitLimits()


def read_submit_limits(accounts: str, qualities: str, default_account: str) -> SubmitLimits:
    """What sacctmgr prints (`--parsable2 --noheader`) with ACCOUNT_FORMAT, QOS_FORMAT and for the user."""
    by_account: dict[str, int] = {}
    default_qos = {}
    for account, partition, *limits, qos in _rows(accounts, ACCOUNT_FORMAT):
        default_qos[account.lower()] = qos
        # An association of one partition holds there alone.
        if not partition and (most := _least(limits)) is not None:
            by_account[account.lower()] = most
    by_qos = {
        name: most
        for name, *limits in _rows(qualities, QOS_FORMAT)
        if (most := _least(limits)) is not None
    }
    return SubmitLimits(by_account, by_qos, default_qos, default_account.strip().lower())


def _rows(text: str, layout: str) -> list[list[str]]:
    rows = [line.split("|") for line in text.splitlines()]
    return [row for row in rows if len(row) == layout.count(",") + 1]


def _least(words: Sequence[str]) -> int | None:
    return min((int(word) for word in words if word.isdigit()), default=None)


def _ask(what: str, layout: str, *where: str) -> str:
    words = ["sacctmgr", "--noheader", "--parsable2", "--readonly", "show", what, *where]
    return subprocess.run(
        [*words, f"format={layout}"],
        env={**submission_environment(os.environ), "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_SECONDS,
        check=True,
        start_new_session=True,
    ).stdout
