"""On a node: rules' containers by Pyxis instead of Apptainer. Each command is a step of srun in the image.

Snakemake (9.27.1) makes the command line of a container in one function, `singularity.shellcmd`, and
pulls images by methods of one class; those are replaced here. Pyxis and enroot pull, and keep, what
they need by themselves.
"""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

_DOCKER = "docker://"
_UNUSABLE = re.compile(r"[:,\x00-\x1f\x7f]")


def image_name(url: str) -> str:
    """A rule's container as Pyxis wants it: a squashfs file's path, or an image with `#` after its
    registry. Raises ValueError saying what can be used."""
    if url.startswith(_DOCKER):
        image = url.removeprefix(_DOCKER)
        first, slash, rest = image.partition("/")
        # As Docker has it: a first part like a host's name is a registry.
        if slash and "#" not in image and ("." in first or ":" in first or first == "localhost"):
            image = f"{first}#{rest}"
        if not re.fullmatch(r"[A-Za-z0-9_.:/#@+-]+", image):
            raise ValueError(f"{url!r} is no image of a registry")
        return f"{_DOCKER}{image}"
    path = url.removeprefix("file://")
    if "://" in path:
        raise ValueError(f"{url!r}: Pyxis takes docker://REGISTRY/NAME:TAG or a squashfs file")
    if path.endswith((".sif", ".simg")):
        raise ValueError(f"{url!r} is Apptainer's; Pyxis takes squashfs files: `enroot import`")
    if re.search(r"[\x00-\x1f\x7f]", path):
        raise ValueError(f"{url!r} holds a control character")
    return str(Path(path).absolute())


def mount_of(folder: str, inside: str | None = None) -> str:
    """One entry of --container-mounts. Raises ValueError for a path that Pyxis cannot read."""
    if _UNUSABLE.search(folder):
        raise ValueError(f"{folder!r}: Pyxis cannot mount a folder with `:` or `,` in its path")
    return f"{folder}:{inside or folder}"


def container_words(image: str, workdir: str, mounts: Iterable[str]) -> list[str]:
    """The options of srun that put its tasks into an image."""
    return [
        f"--container-image={image}",
        f"--container-workdir={workdir}",
        f"--container-mounts={','.join(dict.fromkeys(mounts))}",
    ]


def replace_apptainer(folders: Sequence[str]) -> None:
    """Make this process's Snakemake run containers by Pyxis. `folders` are mounted in each."""
    from snakemake.deployment import singularity

    def shellcmd(
        img_path: str,
        cmd: str,
        *,
        bind: Sequence[Path] | None = None,
        args: str = "",
        quiet: bool = False,
        envvars: Mapping[str, str] | None = None,
        shell_executable: str | None = None,
        container_workdir: str | None = None,
        is_python_script: bool = False,
    ) -> str:
        here = str(Path.cwd())
        places = [here, tempfile.gettempdir(), *folders]
        places += [str(path.absolute()) for path in bind or () if path.exists()]
        workdir = str(Path(container_workdir).absolute()) if container_workdir else here
        mounts = [mount_of(place) for place in (*places, workdir)]
        if is_python_script:
            mounts += map(
                mount_of,
                map(str, singularity.get_snakemake_searchpaths()),
                singularity.get_snakemake_searchpath_mountpoints(),
            )
        words = [
            *("srun", "--nodes=1", "--ntasks=1", "--overlap", "--mpi=none"),
            *container_words(img_path, workdir, mounts),
            *(Path(shell_executable or "sh").name, "-c", cmd),
        ]
        variables = [f"{name}={value}" for name, value in (envvars or {}).items()]
        return shlex.join([*(("env", *variables) if variables else ()), *words])

    singularity.shellcmd = shellcmd
    singularity.Image.pull = lambda image, dryrun=False: None
    singularity.Image.path = property(lambda image: image_name(image.url))
    singularity.Singularity.check = lambda engine: None
