"""Who runs what, in which version of which code: the facts of a run's first event."""

from __future__ import annotations

import hashlib
import os
import pwd
import socket
import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

GIT_SECONDS = 10
"""So long is waited for git; a run does not depend on it."""


def versions() -> dict[str, str]:
    """Of this package, and of Snakemake."""
    return {
        "takeda": version("snakemake-executor-plugin-takeda"),
        "snakemake": version("snakemake"),
    }


def who() -> str:
    """`user@host`: whom the process belongs to, whatever the environment says."""
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    return f"{user}@{socket.gethostname()}"


def file_facts(path: Path) -> dict[str, str]:
    """A file's path and, where it can be read, what `sha256sum` prints of it."""
    try:
        content = path.read_bytes()
    except OSError:  # Snakemake reads a Snakefile from a URL, too
        return {"path": str(path)}
    return {"path": str(path), "sha256": hashlib.sha256(content).hexdigest()}


def asked_for_commit(directory: Path) -> Callable[[], dict[str, Any]]:
    """Begin to ask git, beside whatever else is done, for the commit that a directory is at.

    The answer has `commit`, None where there is no repository or no git, and `changed`: whether files
    that git keeps differ from it.
    """
    # `describe` tells both in one call; no tag matches the empty pattern, so that it is a hash.
    command = ["git", "-C", str(directory), "-c", "core.fsmonitor=false", "describe"]
    command += ["--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        asked = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            # It would renew its index, which other processes may be about to do.
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except OSError:
        return lambda: {"commit": None}

    def answer() -> dict[str, Any]:
        try:
            said, _ = asked.communicate(timeout=GIT_SECONDS)
        except subprocess.TimeoutExpired:
            asked.kill()
            asked.communicate()
            return {"commit": None}
        commit, _, dirty = said.strip().partition("-")
        if asked.returncode or not commit:
            return {"commit": None}
        return {"commit": commit, "changed": bool(dirty)}

    return answer
