"""Shows a directory as /mnt/workflow to one program: `python -m … DIRECTORY PROGRAM ARGUMENT…`.

Runs in a mount namespace of its own (`unshare --mount`), so that nobody else sees it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

MNT = Path("/mnt")


def main(directory: Path, argv: list[str]) -> None:
    target = MNT / "workflow"
    if not target.is_dir():
        # /mnt may not be ours to write to: it gets a new top that shows what was there
        with tempfile.TemporaryDirectory() as kept:
            _mount("--rbind", str(MNT), kept)
            _mount("-t", "tmpfs", "tmpfs", str(MNT))
            for entry in Path(kept).iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    (MNT / entry.name).mkdir()
                    _mount("--rbind", str(entry), str(MNT / entry.name))
            subprocess.run(["umount", "--lazy", kept], check=True)
        target.mkdir()
    _mount("--bind", str(directory), str(target))
    os.execvp(argv[0], argv)  # noqa: S606 - an argument list, no shell


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
