"""The backends of a run: each is opened and checked once, when a target of its kind is first used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.values import JobSpec, Placement, Shape, TakedaError, Target

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.base import Backend, BackendFactory, RunContext


class Backends:
    """`opened` is told what frees each of them."""

    def __init__(
        self,
        factories: Mapping[str, BackendFactory],
        targets: Mapping[str, Target],
        context: RunContext,
        opened: Callable[[Callable[[], None]], None],
    ) -> None:
        self._factories = factories
        self._targets = targets
        self._context = context
        self._opened = opened
        self._backends: dict[str, Backend] = {}
        self._refused: dict[str, TakedaError] = {}

    def open(self, used: Iterable[Target]) -> None:
        """Those of these targets, each with its share of them. Raises TakedaError."""
        targets = list(used)
        for name in {target.backend for target in targets}:
            self._open(name, targets)

    def named(self, name: str) -> Backend:
        """One that is open."""
        return self._backends[name]

    def of(self, target: Target) -> Backend:
        """The backend of a target; opened now if no job known at the start went there."""
        refused = self._refused.get(target.backend)
        if refused:
            raise refused
        backend = self._backends.get(target.backend)
        if backend is None:
            try:
                backend = self._open(target.backend, self._targets.values())
            except TakedaError as error:
                # Asked once: a dead service must not hold up the others for each of its jobs.
                self._refused[target.backend] = error
                raise
        return backend

    def array_limit(self, target: Target, shape: Shape) -> int:
        return self.of(target).array_limit(target, shape)

    def key_resources(self, target: Target) -> frozenset[str]:
        return self._factories[target.backend].shape_key_resources

    def fits(self, job: JobSpec, target: Target) -> bool:
        try:
            self.of(target).check_job(job, target)
        except (TakedaError, SubmissionError):
            return False
        return True

    def check_jobs(self, first_jobs: Iterable[tuple[JobSpec, Placement]]) -> None:
        """Raises TakedaError with all that the backends refuse of these."""
        refusals = []
        for spec, placement in first_jobs:
            try:
                self.of(placement.target).check_job(spec, placement.target)
            except (TakedaError, SubmissionError) as error:
                where = "" if spec.source_line in str(error) else f" ({spec.source_line})"
                refusals.append(f"rule {spec.rule}{where} on {placement.target.name}: {error}")
        if refusals:
            raise TakedaError("\n".join(refusals))

    def _open(self, name: str, targets: Iterable[Target]) -> Backend:
        backend = self._factories[name](
            [target for target in targets if target.backend == name], self._context
        )
        self._opened(backend.close)
        backend.check()
        self._backends[name] = backend
        return backend
