"""A small image made of this machine's own programs, as no registry may be at hand."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

PROGRAMS = (
    "sh",
    "bash",
    "cat",
    "env",
    "id",
    "ls",
    "sleep",
    "tail",
    "touch",
    "grep",
    "find",
    "kill",
)
WITNESS = "/only-in-the-image"


def why_no_docker() -> str | None:
    """Why tests with a Docker engine can not run here, None where they can."""
    try:
        answer = subprocess.run(
            ["docker", "info", "--format", "{{.OSType}}"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except FileNotFoundError:
        return "there is no `docker` command"
    except subprocess.TimeoutExpired:
        return "the Docker engine does not answer"
    if answer.returncode != 0 or answer.stdout.strip() != "linux":
        said = (answer.stderr or answer.stdout).strip().splitlines() or ["nothing"]
        return f"no Docker engine for Linux containers answers: {said[-1]}"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"this machine has no {', '.join(missing)} to make an image of" if missing else None


def make_image(name: str) -> None:
    """Import an image with PROGRAMS, what they are linked with, and a file named WITNESS."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for folder in ("tmp", "bin", "etc"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            archive.addfile(entry)
        for path, target in sorted(_files().items()):
            entry = archive.gettarinfo(str(Path(path).resolve()), target)
            entry.uid = entry.gid = 0
            with Path(path).open("rb") as stream:
                archive.addfile(entry, stream)
        entry = tarfile.TarInfo(WITNESS.lstrip("/"))
        archive.addfile(entry, io.BytesIO())
    subprocess.run(
        ["docker", "import", "-", name], input=tar.getvalue(), capture_output=True, check=True
    )


def _files() -> dict[str, str]:
    found = {}
    for name in PROGRAMS:
        program = shutil.which(name)
        assert program is not None
        found[program] = f"bin/{name}"
        linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
        for line in linked.stdout.splitlines():
            # `libc.so.6 => /lib/… (0x…)`, and the loader as `/lib64/ld-… (0x…)`
            for word in line.split():
                if word.startswith("/"):
                    found[word] = word.lstrip("/")
    return found
