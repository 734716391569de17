"""What the checkups of all backends are given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from snakemake_executor_takeda.doctor.cloud import Cloud, Once
    from snakemake_executor_takeda.doctor.findings import Checkup
    from snakemake_executor_takeda.doctor.identity import Caller
    from snakemake_executor_takeda.doctor.project import Project
    from snakemake_executor_takeda.values import Target


@dataclass(frozen=True)
class Asked:
    """The project, and the way to AWS, of which nothing happens before a checkup uses it."""

    project: Project
    cloud: Cloud
    """Clients in the Region of the targets."""
    caller: Once[Caller]
    credentials: Checkup
    """To be named in `after` by whatever asks AWS."""


class HasCheckups(Protocol):
    """What the factory of a backend may have beside `backends.base.BackendFactory`."""

    def checkups(self, targets: Sequence[Target], asked: Asked) -> Iterable[Checkup]:
        """What `takeda doctor` looks at for these targets; asks nobody itself."""
