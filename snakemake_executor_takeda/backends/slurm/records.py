"""What a task leaves on the shared file system: its exit record and its log."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol

from snakemake_executor_takeda.backends.slurm.states import Place
from snakemake_executor_takeda.full_disks import is_full

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.slurm.options import SlurmOptions
    from snakemake_executor_takeda.values import Submission

TEMPORARY = "/tmp"  # noqa: S108 - a folder of every node, as sbatch users have it
LOG_TAIL_LINES = 30
_LOG_TAIL_BYTES = 64 * 1024


@dataclass(frozen=True)
class ExitRecord:
    """The worker's word on how its task ended."""

    exit_code: int
    wall_seconds: float
    host: str
    max_rss_kib: int | None
    """Peak memory of all of the task's processes on its first node."""
    cpu_seconds: float | None = None
    """User and system time of all of them."""
    ended: float = 0.0
    """Unix time, by the node's clock."""
    slurm_job_id: str = ""
    """Of the whole array, where the task is in one."""
    log: str = ""
    """`host:path`, where the controller can't read it."""
    log_tail: tuple[str, ...] = ()
    """Its last lines, there."""


class Records(Protocol):
    """What the tasks of a run leave behind, one record each."""

    shows_logs: bool
    """Whether the logs themselves can be read from here."""
    place: Place

    def names(self) -> set[str]:
        """Ids of the tasks whose record is there."""

    def refresh(self) -> None:
        """See to it that the next `names` is not an old answer."""

    def read(self, task_id: str) -> ExitRecord | None:
        """None where there is none, or none that can be read."""

    def has_room(self) -> bool:
        """False where it is known that no more can be left."""


class ExitRecords:
    """The folder where workers leave a file for each task."""

    shows_logs = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.place = Place(str(folder.parent))
        self._files: set[str] = set()
        self._names: set[str] = set()

    def names(self) -> set[str]:
        """Ids of the tasks whose record is there: one listing, whatever their number."""
        files = set(os.listdir(self._folder))  # noqa: PTH208 - names, thousands of them
        self._names |= _task_ids(files - self._files)
        self._names -= _task_ids(self._files - files)
        self._files = files
        return self._names

    def refresh(self) -> None:
        """Make an NFS client look at the server again: setting a folder's time drops what the
        client remembers of its entries, which may be a minute old."""
        os.utime(self._folder)

    def read(self, task_id: str) -> ExitRecord | None:
        """None where there is none, or none that can be read."""
        try:
            with open(f"{self._folder}/{task_id}.json", "rb") as file:  # noqa: PTH123 - thousands
                return parse_record(file.read())
        except OSError:
            return None

    def has_room(self) -> bool:
        """A file, with something in it: a quota may be of either."""
        try:
            with tempfile.TemporaryFile(dir=self._folder) as file:
                file.write(b"room")
        except OSError as error:
            return not is_full(error)
        return True


def _task_ids(files: Iterable[str]) -> set[str]:
    return {
        name.removesuffix(".json")
        for name in files
        if name.endswith(".json") and not name.startswith(".")
    }


def parse_record(text: bytes) -> ExitRecord | None:
    """None for what is no record."""
    try:
        content = json.loads(text)
        return ExitRecord(
            exit_code=int(content["exit_code"]),
            wall_seconds=max(0.0, float(content["ended"]) - float(content["started"])),
            host=str(content.get("host", "")),
            max_rss_kib=content.get("max_rss_kib"),
            cpu_seconds=content.get("cpu_seconds"),
            ended=float(content["ended"]),
            slurm_job_id=str(content.get("slurm_job_id", "")),
            log=str(content.get("log", "")),
            log_tail=tuple(map(str, content.get("log_tail", ()))),
        )
    except (ValueError, KeyError, TypeError):
        return None


def log_folder(logs: Path, submission: Submission) -> Path:
    """Where the logs of a submission's tasks lie: `<logs>/<rule>/<submission>/<index>.log`."""
    rule = re.sub(r"[^\w.-]", "_", submission.tasks[0].job.rule)[:80].lstrip(".") or "_"
    return logs / rule / submission.submission_id


def log_on_node(submission: Submission, index: int | str) -> PurePosixPath:
    """A task's log where nothing is shared: in the target's `workdir`, on its first node.

    `index` may be a pattern of Slurm's, such as `%a`."""
    options: SlurmOptions = submission.target.options
    suffix = f"_{index}" if len(submission.tasks) > 1 else ""
    return PurePosixPath(options.workdir or TEMPORARY) / f"{submission.name}{suffix}.log"


def log_tail(path: Path) -> tuple[str, ...]:
    """The last lines of a log; () where there is none."""
    try:
        with path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - _LOG_TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        return ()
    return tuple(lines[-LOG_TAIL_LINES:])
