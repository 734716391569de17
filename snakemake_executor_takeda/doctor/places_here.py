"""Which file system of this machine a folder is on, and whether other hosts can have it. Linux."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_NETWORK = frozenset(
    {"afs", "beegfs", "ceph", "cifs", "efs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4"}
    | {
        "pvfs2",
        "smb3",
        "smbfs",
        "wekafs",
        "fuse.sshfs",
        "fuse.glusterfs",
        "fuse.ceph",
        "9p",
        "virtiofs",
    }
)
_OF_ONE_HOST = frozenset({"tmpfs", "ramfs", "overlay", "devtmpfs"})
_EXPORTS = (Path("/etc/exports"), Path("/var/lib/nfs/etab"))


@dataclass(frozen=True)
class Mount:
    """A file system as it is mounted here."""

    point: Path
    kind: str
    """`nfs4`, `lustre`, `ext4`."""

    @property
    def is_network(self) -> bool:
        return self.kind in _NETWORK

    @property
    def is_of_one_host(self) -> bool:
        """Never seen by another, whatever is exported."""
        return self.kind in _OF_ONE_HOST


def read_mounts(text: str) -> list[Mount]:
    """The lines of /proc/mounts."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 3:
            # Blanks are written as \\040.
            point = words[1].encode().decode("unicode_escape")
            found.append(Mount(Path(point), words[2]))
    return found


def mounts_here() -> list[Mount]:
    """None of them where the system does not tell."""
    try:
        return read_mounts(Path("/proc/mounts").read_text(errors="replace"))
    except OSError:
        return []


def mount_of(folder: Path, mounts: Iterable[Mount]) -> Mount | None:
    """The file system that a folder is on, or would be."""
    place = folder.resolve()
    over = [mount for mount in mounts if place.is_relative_to(mount.point)]
    # Of several at one place the last one covers the others.
    return (
        max(enumerate(over), key=lambda pair: (len(pair[1].point.parts), pair[0]))[1]
        if over
        else None
    )


def is_exported(folder: Path, exports: Iterable[Path] = _EXPORTS) -> bool:
    """Whether this machine serves it by NFS, as ParallelCluster's head node does with /home."""
    place = folder.resolve()
    for file in exports:
        try:
            lines = file.read_text(errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            words = line.partition("#")[0].split()
            if words and place.is_relative_to(words[0].strip('"')):
                return True
    return False
