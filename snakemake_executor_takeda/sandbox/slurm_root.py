"""A Slurm out of another root file system, run on this machine: its /usr lies over the machine's own.

Each program gets a mount namespace of its own with one read-only overlay on /usr: files of the other
root first, this machine's where it has none. So a newer Slurm finds its newer libraries, and a job
still finds the machine's Python and tools. Everything but /usr is this machine's: no chroot, nothing
is copied, and nothing stays mounted when the program ends.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from snakemake_executor_takeda.values import TakedaError

COMMANDS = (
    *("sacct", "sacctmgr", "salloc", "sattach", "sbatch", "sbcast", "scancel", "scontrol", "sdiag"),
    *("sinfo", "sprio", "squeue", "sreport", "srun", "sshare", "sstat"),
)
"""Slurm's commands for users, as far as the root has them."""
INSIDE = "share/takeda-slurm-root"
"""A file below /usr that only programs of a root see."""
PLUGIN_FOLDERS = re.compile(r"slurm(-wlm)?|openmpi|pmix\d*")
"""Folders of plugins, of which one version must not see another's."""


class Root:
    """The other root file system, and the scripts in `home` by which its programs start."""

    def __init__(self, path: Path, home: Path) -> None:
        self.path = path
        self._home = home

    def check(self) -> None:
        """Raises TakedaError where this machine can't run programs of such a root, or it is none."""
        if not (self.path / "usr").is_dir():
            raise TakedaError(
                f"{self.path} is no root file system: it has no folder usr.\n"
                "scripts/make-slurm-root makes one."
            )
        for path in (self.path, self._home):
            if bad := sorted(set(re.findall(r"[\s,:'\"\\]", str(path)))):
                raise TakedaError(
                    f"--root can't use a path with {' '.join(map(repr, bad))} in it: {path}"
                )
        if os.geteuid() != 0:
            raise TakedaError(
                "only root can run a Slurm out of another root file system, because it is mounted.\n"
                "Run as root, or leave out --root to have this machine's own Slurm."
            )
        if not Path("/lib").is_symlink():
            raise TakedaError(
                "--root needs a machine whose /lib is in /usr, as on Debian 12 or newer"
            )
        for command in ("unshare", "mount"):
            if not shutil.which(command):
                raise TakedaError(
                    f"--root needs the command {command}, of the package util-linux/mount"
                )

    def program(self, name: str) -> str | None:
        """Path of the script that starts this program of the root; None where it has no such."""
        return str(self._script(name)) if self._inside(name) else None

    @property
    def bin(self) -> Path:
        """Folder of the scripts for users' commands, for their PATH."""
        return self._home / "bin"

    def prepare(self, *daemons: str) -> None:
        """Write the scripts, and the layer that hides this machine's own plugins."""
        self.remove()
        layer = self._home / "layer"
        for folder in self._plugin_folders():
            hidden = layer / folder.relative_to(self.path / "usr")
            hidden.parent.mkdir(parents=True, exist_ok=True)
            os.mknod(hidden, stat.S_IFCHR | 0o600, os.makedev(0, 0))  # overlayfs: nothing is here
        (layer / INSIDE).parent.mkdir(parents=True, exist_ok=True)
        (layer / INSIDE).write_text(f"{self.path}\n")
        from jinja2 import Environment, PackageLoader, StrictUndefined

        templates = Environment(
            loader=PackageLoader("snakemake_executor_takeda", "sandbox"),
            undefined=StrictUndefined,
            keep_trailing_newline=True,
            autoescape=False,  # noqa: S701 - shell scripts, not HTML
        )
        templates.filters["quote"] = shlex.quote
        template = templates.get_template("slurm_in_root.sh.jinja")
        for name in (*COMMANDS, *daemons):
            if (program := self._inside(name)) is None:
                continue
            script = self._script(name)
            script.parent.mkdir(exist_ok=True)
            script.write_text(
                template.render(
                    program=program,
                    root=self.path,
                    inside=INSIDE,
                    layers=f"{self.path}/usr:{layer}:/usr",
                )
            )
            script.chmod(0o755)

    def remove(self) -> None:
        for folder in ("bin", "sbin", "layer"):
            shutil.rmtree(self._home / folder, ignore_errors=True)

    def lacks_pmix_link(self) -> bool:
        """Whether its Slurm has PMIx and can't load it: it opens a file that Debian has in a -dev
        package."""
        libraries = self.path / "usr/lib"
        plugins = any(libraries.glob("*/slurm-wlm/mpi_pmix*.so"))
        return plugins and not any(libraries.glob("*/libpmix.so"))

    def _script(self, name: str) -> Path:
        return self._home / ("bin" if name in COMMANDS else "sbin") / name

    def _inside(self, name: str) -> str | None:
        for folder in ("usr/bin", "usr/sbin"):
            if os.access(self.path / folder / name, os.X_OK):
                return f"/{folder}/{name}"
        return None

    def _plugin_folders(self) -> Iterator[Path]:
        for folder in (self.path / "usr/lib").glob("*/*"):
            with contextlib.suppress(OSError):
                if PLUGIN_FOLDERS.fullmatch(folder.name) and folder.is_dir():
                    yield folder
