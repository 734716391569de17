"""Directories in scratch of tasks that were killed, or whose node died: nobody else removes them."""

from __future__ import annotations

import glob
import shutil
import threading
from collections.abc import Collection, Iterable
from pathlib import Path

CLOSE_SECONDS = 60.0
"""How long the end of a run waits for large directories to be gone."""


class Leftovers:
    """Of one run. The worker makes `<task id>.<random>` in scratch, and removes it where it can."""

    def __init__(self, folders: Iterable[Path]) -> None:
        """`folders` are seen from here."""
        self._folders = sorted(set(folders))
        self._threads: list[threading.Thread] = []

    def remove(self, task_id: str) -> None:
        """In the background: a shared file system may take minutes over it."""
        pattern = f"{glob.escape(task_id)}.*"
        self._remove(found for folder in self._folders for found in folder.glob(pattern))

    def close(self, over: Collection[str]) -> None:
        """Remove what is left of these tasks, which have ended: others may go on without this process."""
        self._remove(
            found
            for folder in self._folders
            for found in folder.glob("*")
            if found.name.rpartition(".")[0] in over
        )
        for thread in self._threads:
            thread.join(CLOSE_SECONDS)

    def _remove(self, directories: Iterable[Path]) -> None:
        for directory in directories:
            thread = threading.Thread(
                target=shutil.rmtree, args=(directory,), kwargs={"ignore_errors": True}, daemon=True
            )
            thread.start()
            self._threads.append(thread)
