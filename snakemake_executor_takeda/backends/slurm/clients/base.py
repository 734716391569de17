"""What every way of speaking to Slurm offers, and the three answers that are no answers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.slurm.answers import Sighting
    from snakemake_executor_takeda.backends.slurm.facts import NodeFacts, PartitionFacts
    from snakemake_executor_takeda.backends.slurm.request import JobRequest


class SlurmSilent(Exception):
    """No answer from Slurm's controller: nothing is known, and nothing has ended."""


class SlurmUnauthorized(SlurmSilent):
    """Slurm's door did not know us: as with silence, nothing has ended, and it may open again."""


class SlurmFull(Exception):
    """The cluster takes no more jobs at present."""


class SlurmRefused(Exception):
    """Slurm said no, in these words."""


class SlurmClient(Protocol):
    """One user's view of one cluster. Every method raises SlurmSilent when the controller does not
    answer, and SlurmRefused for what it will not do."""

    name: str
    """For people: `command line`, `slurmrestd` or `pyslurm`."""
    is_remote: bool
    """Whether this machine may be far from the cluster, with no file system in common."""
    advice: str
    """What to look at when there is no answer."""

    def submit(self, request: JobRequest, script: str) -> str:
        """Job id of a new job. Raises SlurmFull, too. After SlurmSilent the job may or may not be
        there: look with `find`."""

    def check_request(self, request: JobRequest) -> None:
        """Raises ValueError naming the option that this client can't pass on. Asks no controller."""

    def find(self, name: str) -> str | None:
        """Id of the job of this name, ended or not; None where there is none."""

    def queue(self, job_ids: Collection[str] = ()) -> dict[str, Sighting]:
        """The tasks that Slurm still knows, by id: array tasks one by one.

        Those of `job_ids`; where none are given, of all jobs of this user, or at least of those that
        this client sent. Asked once: it is asked again at the next poll anyway.
        """

    def unfinished(self, job_ids: Collection[str] = ()) -> list[Sighting]:
        """Those that have not ended; the waiting part of an array may be one of them."""

    def jobs(self, job_id: str) -> dict[str, Sighting]:
        """What the controller remembers of one job and its array tasks; {} for nothing."""

    def cancel(self, ids: Iterable[str], *, kill: bool = False, pending_only: bool = False) -> None:
        """End jobs; those that have ended already are no error. `kill` sends SIGKILL at once;
        `pending_only` leaves alone, where the client can, what has begun."""

    def partitions(self) -> list[str]:
        """Names of all partitions, hidden ones too."""

    def settings(self) -> dict[str, str]:
        """The cluster's configuration, by the names of slurm.conf. A client may know only part."""

    def nodes(self) -> Sequence[NodeFacts]:
        """All nodes, powered down ones too."""

    def partition_details(self) -> Sequence[PartitionFacts]:
        """All partitions with their limits."""

    def reservations(self) -> Collection[str]:
        """Names of all reservations that this user can see."""

    def close(self) -> None:
        """Free connections."""
