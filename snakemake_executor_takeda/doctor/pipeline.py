"""The largest jobs of a Snakefile, target by target: its DAG, placed by the run's own router."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.doctor.largest import Largest, with_shape
from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from snakemake_executor_takeda.routing.policy import Policy


def largest_jobs(profile: str | None, routing: Path | None) -> dict[str, Largest]:
    """By target, over all jobs, also of those whose outputs are there. Raises TakedaError where Snakemake
    cannot build them, which it then has said itself."""
    from snakemake_executor_takeda.planning.building import planned, with_policy

    def look(dag: Any, policy: Policy) -> dict[str, Largest]:
        found: dict[str, Largest] = {}
        for one in planned(dag, policy):
            target = one.decision.target if one.decision else None
            # What a hand-off needs, its own workflow says.
            if one.job is None or target is None or one.job.resources.get("handoff"):
                continue
            shape = one.job.shape
            found[target.name] = with_shape(
                found.get(target.name, Largest()), shape, f"rule {one.job.rule}"
            )
        return found

    try:
        return with_policy(_argv(profile, routing), look)
    except TakedaError:
        raise
    except SystemExit as error:
        raise TakedaError(f"Snakemake ended with {error.code}: see above") from None
    except Exception as error:
        # Snakemake 9.27 fails in telling of some mistakes of a Snakefile: those are what is to be told.
        raise TakedaError(_told(error.__context__ or error)) from error


def _argv(profile: str | None, routing: Path | None) -> Sequence[str]:
    return [
        "--forceall",
        *(["--profile", profile] if profile else []),
        *(["--takeda-routing", str(routing)] if routing else []),
    ]


def _told(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {error.msg}"
    return f"{type(error).__name__}: {error}"
