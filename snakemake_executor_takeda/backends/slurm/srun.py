"""What the srun of this machine can do. Asked at most once a question, and only where it matters."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from snakemake_executor_takeda.backends.slurm import containers, mpi

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from snakemake_executor_takeda.values import JobSpec, Target

SECONDS = 30.0


class Srun:
    """Where there is no srun, as on a laptop that speaks to a cluster by REST, nothing is refused."""

    def check_targets(self, targets: Iterable[Target]) -> None:
        """Raises TakedaError for a target whose container runtime is not there."""
        for target in targets:
            if target.options.container_runtime == "pyxis" and shutil.which("srun"):
                containers.check_srun(target, self._help)

    def check_job(self, job: JobSpec, target: Target, workdir: Path) -> None:
        """Raises SubmissionError for ranks or a container that cannot be started."""
        mpi.check(job, target, self._pmi_types if mpi.is_parallel(job.shape) else ())
        containers.check(job, target, workdir)

    @cached_property
    def _help(self) -> str:
        return _said("--help")

    @cached_property
    def _pmi_types(self) -> Sequence[str]:
        return mpi.read_pmi_types(_said("--mpi=list"))


def _said(option: str) -> str:
    """On either stream: versions differ. Empty where srun does not answer."""
    try:
        done = subprocess.run(
            ["srun", option],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
