"""Workflows in git repositories: `git+URL@REVISION#path/in/it`, cloned once and packaged from here."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from snakemake_executor_takeda.values import TakedaError

PREFIX = "git+"
_SCHEMES = frozenset({"https", "http", "ssh", "file"})
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# git's own rules for names of references, and shorter: what it would refuse is refused here in our words.
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]{0,200}")
_TIMEOUT_SECONDS = 600
_EXAMPLE = "git+https://github.com/OWNER/NAME@v1.2#path/main.wdl"


@dataclass(frozen=True)
class Place:
    """A file of a repository at a revision."""

    url: str
    revision: str
    """A tag, a branch or a whole commit id."""
    path: str
    """Of a file or directory inside the repository, without `..`; empty for its root."""


def parse(handoff: str, where: str) -> Place:
    """Read `git+https://host/owner/name@revision#path`, or without a path. Raises TakedaError for what is none, or is
    no path inside the repository, or would be an option to git."""

    def wrong(why: str) -> TakedaError:
        return TakedaError(f"{where}: handoff={handoff!r}: {why}; write {_EXAMPLE}")

    rest, _, path = handoff.removeprefix(PREFIX).partition("#")
    scheme, _, after = rest.partition("://")
    if scheme not in _SCHEMES or not after:
        raise wrong(f"the URL has to begin with {', '.join(sorted(_SCHEMES))}")
    # The user of an ssh URL has an @, too: the revision's comes after the first slash.
    host, slash, name = after.partition("/")
    name, at, revision = name.rpartition("@")
    if not slash or not at or not name:
        raise wrong("the revision is missing")
    url = f"{scheme}://{host}/{name}"
    if any(part.startswith("-") for part in (host, host.rpartition("@")[2], name)):
        raise wrong("neither host nor path may begin with -")
    if any(ord(letter) <= 32 or ord(letter) == 127 for letter in url):
        raise wrong("the URL has a space or a control character")
    if scheme != "file" and not urlsplit(url).hostname:
        raise wrong("the URL names no host")
    if urlsplit(url).password is not None:
        raise wrong("a password has no place in a Snakefile: let git's credential helper give it")
    if not _REVISION.fullmatch(revision) or ".." in revision or revision.endswith((".lock", "/")):
        raise wrong(f"{revision!r} is no tag, branch or commit")
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
        raise wrong("after # comes the path of the workflow inside the repository")
    if ".git" in parts:
        raise wrong("the main file does not lie in .git")
    return Place(url, revision, path)


class Repositories:
    """Clones below a folder, each revision's files in a folder named by its commit.

    A branch is looked up once in a run: all its jobs see the same commit.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[tuple[str, str], Path] = {}

    def file(self, place: Place, where: str) -> Path:
        """The workflow's file or directory on this machine. Raises TakedaError."""
        key = (place.url, place.revision)
        if key not in self._known:
            self._known[key] = self._checkout(place, where)
        root = self._known[key]
        path = root / place.path
        if not path.exists():
            raise TakedaError(f"{where}: {place.url} at {place.revision} has no file {place.path}")
        return path

    def check(self, place: Place, sources: Iterable[Path], where: str) -> None:
        """Raises TakedaError where a workflow of a place that `file` gave is made of files of this
        machine that are not the repository's: they would be packaged."""
        root = self._known[place.url, place.revision].resolve()
        for path in sources:
            if not path.resolve().is_relative_to(root):
                raise TakedaError(
                    f"{where}: {place.path} of {place.url} at {place.revision} refers to {path}, which lies "
                    "outside the repository"
                )

    def _checkout(self, place: Place, where: str) -> Path:
        base = self._folder / hashlib.sha256(place.url.encode()).hexdigest()[:16]
        if _COMMIT.fullmatch(place.revision) and (base / place.revision).is_dir():
            return base / place.revision
        if shutil.which("git") is None:
            raise TakedaError(f"{where}: a hand-off from a repository needs git on PATH")
        base.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=base, prefix="fetch-") as scratch:
            clone = Path(scratch) / "files"
            clone.mkdir()
            _git(clone, ["init", "--quiet"], place, where)
            _git(
                clone,
                ["fetch", "--quiet", "--depth=1", "--no-tags", "--", place.url, place.revision],
                place,
                where,
            )
            commit = _git(clone, ["rev-parse", "FETCH_HEAD^{commit}"], place, where).strip()
            found = base / commit
            if not found.is_dir():
                _git(clone, ["checkout", "--quiet", "--detach", commit], place, where)
                shutil.rmtree(clone / ".git")
                _no_way_out(clone, place, where)
                try:
                    clone.rename(found)
                except OSError:
                    # Another controller was faster with the same commit.
                    if not found.is_dir():
                        raise
        return found


def _no_way_out(root: Path, place: Place, where: str) -> None:
    """Raises TakedaError for a link that leads out of the repository: its target would be packaged."""
    for path in root.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
            raise TakedaError(
                f"{where}: {path.relative_to(root)} of {place.url} at {place.revision} is a link that leads "
                "out of the repository"
            )


def _git(folder: Path, words: list[str], place: Place, where: str) -> str:
    """Run git, with nothing that the repository or the user's configuration could make it run: no hooks,
    no helpers for odd schemes, no question on the terminal."""
    environment = {
        **os.environ,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": ":".join(sorted(_SCHEMES)),
        "GIT_LFS_SKIP_SMUDGE": "1",
    }
    # A variable that leads to another repository would be obeyed before the folder.
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        environment.pop(name, None)
    settings = ["-c", "core.hooksPath=/dev/null", "-c", "core.symlinks=true"]
    try:
        done = subprocess.run(
            ["git", *settings, *words],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TakedaError(
            f"{where}: git has not got {place.url} in {_TIMEOUT_SECONDS} s; is it reachable from here?"
        ) from None
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise TakedaError(
            f"{where}: {place.url} at {place.revision} cannot be fetched: {said[:500]}. "
            "Check URL and revision, and that git may read it from here"
        )
    return done.stdout
