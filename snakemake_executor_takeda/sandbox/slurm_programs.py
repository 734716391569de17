"""Running Slurm's programs: this machine's own, or those of another root file system."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from snakemake_executor_takeda.sandbox.slurm_processes import MARK
from snakemake_executor_takeda.sandbox.slurm_root import Root
from snakemake_executor_takeda.values import TakedaError

COMMAND_SECONDS = 20.0
PACKAGES = {
    "munged": "munge",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
    "scancel": "slurm-client",
    "sinfo": "slurm-client",
    "squeue": "slurm-client",
}
"""Command → the package of Debian and Ubuntu that has it."""
REST_PACKAGES = {"slurmrestd": "slurmrestd"}
ACCOUNTING_PACKAGES = {
    "slurmdbd": "slurmdbd",
    "sacct": "slurm-client",
    "sacctmgr": "slurm-client",
    "mariadbd": "mariadb-server-core",
    "mariadb-install-db": "mariadb-server-core",
    "my_print_defaults": "mariadb-client-core",
}
DAEMONS = (
    "munged",
    "slurmctld",
    "slurmd",
    "slurmrestd",
    "slurmdbd",
    "mariadbd",
    "mariadb-install-db",
)


class Programs:
    """The programs with which one cluster is started and asked."""

    def __init__(self, home: Path, root: Path | None = None) -> None:
        self._home = home
        self.root = Root(root, home) if root is not None else None

    def prepare(self) -> None:
        if self.root is not None:
            self.root.prepare(*DAEMONS)

    def find(self, command: str) -> str | None:
        """What to run; Debian keeps daemons out of a plain user's PATH."""
        if self.root is not None:
            return self.root.program(command)
        path = [os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"]
        return shutil.which(command, path=os.pathsep.join(path))

    def missing(self, *, accounting: bool = False, rest: bool = False) -> dict[str, str]:
        """Command or library that is not there → package of Debian and Ubuntu that has it."""
        wanted = {
            **PACKAGES,
            **(ACCOUNTING_PACKAGES if accounting else {}),
            **(REST_PACKAGES if rest else {}),
        }
        missing = {
            command: package for command, package in wanted.items() if not self.find(command)
        }
        # Their Slurm opens a file of this name for `srun --mpi=pmix`; only the -dev package has it.
        libraries = (self.root.path if self.root is not None else Path("/")) / "usr/lib"
        if any(libraries.glob("*/slurm-wlm/mpi_pmix*.so")) and not any(
            libraries.glob("*/libpmix.so")
        ):
            missing["libpmix.so"] = "libpmix-dev"
        return missing

    def check(self, *, accounting: bool, rest: bool) -> None:
        """Raises TakedaError naming the packages that are missing, or why a root can't be used."""
        if self.root is not None:
            self.root.check()
        missing = self.missing(accounting=accounting, rest=rest)
        if not missing:
            return
        packages = " ".join(sorted(set(missing.values())))
        lacks = f"a sandboxed Slurm needs {', '.join(missing)}, which "
        if self.root is not None:
            raise TakedaError(f"{lacks}{self.root.path} lacks: packages {packages}")
        raise TakedaError(
            f"{lacks}this machine lacks.\n"
            f"On Debian or Ubuntu: sudo apt-get install --no-install-recommends {packages}"
        )

    def environment(self) -> dict[str, str]:
        """Nothing of the caller's environment: daemons must not keep its secrets."""
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(Path.home()),
            "LC_ALL": "C",
            "SLURM_CONF": str(self._home / "slurm.conf"),
            MARK: str(self._home),
        }

    def run(self, *arguments: str) -> str:
        """Standard output and error of a program that returns, such as a daemon that goes to the
        background, in a session of its own. Raises CalledProcessError or TimeoutExpired."""
        # A file, not a pipe: a daemon may keep it open after its parent has ended.
        with tempfile.TemporaryFile("w+", errors="replace") as output:
            try:
                subprocess.run(
                    self._words(arguments),
                    env=self.environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd="/",
                    timeout=COMMAND_SECONDS,
                    check=True,
                    start_new_session=True,
                )
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                output.seek(0)
                error.stdout = output.read()
                raise
            output.seek(0)
            return output.read()

    def start(self, log: Path, *arguments: str, **variables: str) -> None:
        """Start a program that itself stays in the foreground; it becomes nobody's child."""
        with log.open("a") as output:
            subprocess.run(
                ["/bin/sh", "-c", '"$@" &', "sh", *self._words(arguments)],
                env={**self.environment(), **variables},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                timeout=COMMAND_SECONDS,
                check=True,
                start_new_session=True,
            )

    def ask(self, *arguments: str) -> str | None:
        """What a command of Slurm prints; None where it fails, or nobody answers."""
        variables: Mapping[str, str] = {k: v for k, v in self.environment().items() if k != MARK}
        try:
            done = subprocess.run(
                self._words(arguments),
                env=variables,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=COMMAND_SECONDS,
                check=True,
            )
        except (subprocess.SubprocessError, OSError):
            return None
        return done.stdout

    def _words(self, arguments: Sequence[str]) -> list[str]:
        return [self.find(arguments[0]) or arguments[0], *arguments[1:]]
