"""The protocol every backend speaks, and what it is given to work with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel

from snakemake_executor_takeda.values import (
    Accepted,
    Active,
    FailureKind,
    JobSpec,
    Remembered,
    Shape,
    Submission,
    Target,
    Update,
)


def sentences(reason: str, advice: str) -> str:
    """A reason and what to do, in one line."""
    if not advice:
        return reason
    if advice[0].islower():
        return f"{reason.rstrip('.')}: {advice}"
    return f"{reason} {advice}" if reason.endswith((".", "?", "!")) else f"{reason}. {advice}"


class SubmissionError(Exception):
    """The service refused a submission: its tasks fail with this kind and reason, no other does."""

    def __init__(self, kind: FailureKind, reason: str, advice: str = "") -> None:
        super().__init__(sentences(reason, advice))
        self.kind = kind
        self.reason = reason
        self.advice = advice


class SubmissionDelayed(Exception):
    """The service takes nothing at present: the same submission is handed over again after
    `seconds`, and nothing has failed. `note`, where there is one, is told to the user."""

    def __init__(self, seconds: float, note: str = "") -> None:
        super().__init__(note or f"not before {seconds:.0f} s from now")
        self.seconds = seconds
        self.note = note


@dataclass(frozen=True)
class RunContext:
    """What all backends of one run share."""

    run_id: str
    """Letters, digits and `-` only."""
    workdir: Path
    """Snakemake's working directory, absolute."""
    state_dir: Path
    """`.snakemake/takeda/runs/<run_id>` in the working directory, absolute; it exists."""
    remote_prefix: str | None
    """`s3://bucket/prefix/.takeda/<run_id>` for what the run keeps in S3, None without S3."""
    sources_uri: str | None
    """S3 URI of the run's workflow sources (tar.xz), None on a shared file system."""
    environment_uri: str | None
    """S3 URI of a JSON object with the variables that tasks need (`envvars:`), None if there are none."""
    basedir: Path
    """Directory of the main Snakefile, absolute; `handoff=` paths are looked up here, then in workdir."""
    say: Callable[[str], None] = lambda line: None
    """Tells the user a line about the run that is no trouble."""
    poll_seconds: float = 10.0
    """Longest pause between two looks at a service."""


class Backend(Protocol):
    """One backend for all targets of its kind in one run. Called from one thread at a time,
    but for `cancel`, which may come from another at any moment."""

    def check(self) -> None:
        """Look at every target once, at start. Raises TakedaError naming target, value and fix."""

    def check_job(self, job: JobSpec, target: Target) -> None:
        """Look at one job of a rule before anything runs, without a call to the service.

        Raises TakedaError or SubmissionError for what `submit` would refuse later.
        """

    def array_limit(self, target: Target, shape: Shape) -> int:
        """Most tasks of this shape that one submission to this target may hold (1: no arrays)."""

    def listen(self, wake: Callable[[], None]) -> None:
        """Called once, before anything is submitted. A backend that is told of ends, rather than
        having to ask, calls `wake`, from any thread, when the next `poll` would find something."""

    def submit(self, submission: Submission) -> Accepted:
        """Send it. Raises SubmissionError, or SubmissionDelayed to be asked again; anything else is a
        bug and fails these tasks only."""

    def poll(self, active: Sequence[Active]) -> Iterable[Update]:
        """Say what is new about open tasks, in as few calls as the service allows.

        Each task is reported ended at most once; started may be said again. A service that does
        not answer is not an end: yield nothing and say it again next time.
        """

    finds_its_runs: bool
    """Whether `submit` finds what an earlier controller started for the same job, and starts nothing
    then. Nothing is asked of `reattach`."""

    outlives_controller: bool
    """Whether what was submitted goes on when this process has ended."""

    def reattach(self, remembered: Remembered) -> Accepted | None:
        """What an earlier controller of this run sent, to be polled from now on; None where it never
        reached the service, so that its jobs are sent anew. Raises SubmissionDelayed, to be asked again,
        as long as that cannot be told."""

    def end(self, active: Active) -> None:
        """End the open tasks of one submission, and see that they ended, while all others go on."""

    def cancel(self, active: Sequence[Active]) -> Collection[str] | None:
        """End all open tasks of these submissions, in bulk, and see that they ended; → external ids of
        those that had not ended in time, about which the backend has said what is to be said. They may
        be of an earlier controller, and need not have been reattached. Where `finds_its_runs`, one with
        an empty external id has no answer that is known: what came of it is found, and ended, too."""

    def close(self) -> None:
        """Free what the backend holds. Called once, last."""


class BackendFactory(Protocol):
    """What the entry point names: `backend` in each backend's package."""

    @property
    def options_model(self) -> type[BaseModel]:
        """The model of a target's own words in the policy (extra words forbidden)."""

    shape_key_resources: frozenset[str]
    """Resources a rule may set that the backend turns into options of a whole submission: tasks that
    differ in one of them never share an array."""

    def __call__(self, targets: Sequence[Target], context: RunContext) -> Backend: ...
