"""What the checkups of all backends are given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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


def alike(targets: Sequence[Target], word: str) -> Iterator[tuple[str, Target]]:
    """For each value of a word that targets say: their names, and the first of them."""
    by_value: dict[str, list[Target]] = {}
    for target in targets:
        if value := getattr(target.options, word):
            by_value.setdefault(value, []).append(target)
    for same in by_value.values():
        yield ", ".join(target.name for target in same), same[0]
